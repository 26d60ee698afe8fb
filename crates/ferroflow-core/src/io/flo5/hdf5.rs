//! As much of HDF5 as a `.flo5` file needs: one float32 data set in the root group, stored in chunks, compressed.
//!
//! After the HDF5 File Format Specification (The HDF Group). Read are superblocks 0 to 3, object headers 1 and 2, groups
//! kept as symbol tables or as links in the header, chunks indexed by a version 1 B-tree, the filters deflate and
//! shuffle: what every HDF5 library writes unless told to use its latest format. Nothing is believed: each address is
//! checked against the file, every walk has an end, and no more is allocated than the file can hold.

use std::{cell::Cell, collections::HashSet, io::Read};

use flate2::read::ZlibDecoder;

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Hdf5Error {
    #[error("cut short")]
    Truncated,
    #[error("{0}")]
    Damaged(&'static str),
    #[error("{0}, which is not read here; write it again with h5py's defaults and compression='gzip'")]
    Unsupported(&'static str),
}

use Hdf5Error::{Damaged, Truncated, Unsupported};

type Result<T> = std::result::Result<T, Hdf5Error>;

/// Places looked at before a file is taken to lead in circles; 4K flow in h5py's chunks needs about fifty.
const MOST_VISITS: usize = 1 << 14;
/// Entries of one table.
const MOST_ENTRIES: usize = 1 << 18;
/// Bytes of a chunk; h5py's own are at most 1 MiB.
const LARGEST_CHUNK: u64 = 64 << 20;
/// Deflate never gains more than this factor.
const LARGEST_GAIN: u64 = 1040;

/// A float32 data set of `N` dimensions.
#[derive(Debug)]
pub(super) struct Dataset<'a, const N: usize> {
    pub shape: [u64; N],
    pub chunk: [u64; N],
    filters: Vec<u64>,
    chunks: Vec<Chunk<'a, N>>,
}

#[derive(Debug)]
struct Chunk<'a, const N: usize> {
    offset: [u64; N],
    /// Bit i: filter i was left out.
    skipped: u64,
    stored: &'a [u8],
}

impl<'a, const N: usize> Dataset<'a, N> {
    /// The data set of that name in the root group.
    pub fn open(bytes: &'a [u8], name: &str) -> Result<Self> {
        let (file, root) = File::open(bytes)?;
        let header = file.find(root, name)?.ok_or(Damaged("it holds no data set of the right name"))?;
        let (mut shape, mut layout, mut filters, mut float) = (None, None, Vec::new(), false);
        for message in file.messages(header)? {
            if message.shared && matches!(message.kind, 0x01 | 0x03 | 0x08 | 0x0b) {
                return Err(Unsupported("its description is shared with another data set"));
            }
            match message.kind {
                0x01 => shape = Some(dataspace(message.body)?),
                0x03 => float = is_float32(message.body)?,
                0x08 => layout = Some(chunked::<N>(message.body)?),
                0x0b => filters = pipeline(message.body)?,
                _ => {}
            }
        }
        let (Some(shape), Some((tree, chunk))) = (shape, layout) else {
            return Err(Damaged("the description of the data set is incomplete"));
        };
        if !float {
            return Err(Unsupported("its values are no little-endian 32-bit floats"));
        }
        let capacity = (bytes.len() as u64).saturating_mul(LARGEST_GAIN);
        if size_of(&shape)? > capacity || size_of(&chunk)? > capacity.min(LARGEST_CHUNK) {
            return Err(Damaged("its data set is larger than the file can hold"));
        }
        let mut set = Self { shape, chunk, filters, chunks: Vec::new() };
        // Keys: stored size, filters left out, the offset along each axis and one that is zero.
        for (mut key, address) in file.leaves(tree, 1, 8 + 8 * (N + 1))? {
            let (size, skipped) = (key.number(4)?, key.number(4)?);
            let mut offset = [0; N];
            for o in &mut offset {
                *o = key.number(8)?;
            }
            set.chunks.push(Chunk { offset, skipped, stored: file.slice(address, size)? });
        }
        set.tiles()?;
        Ok(set)
    }

    /// Whether every part of the data set is there once.
    fn tiles(&self) -> Result<()> {
        let axes = || self.shape.iter().zip(&self.chunk);
        let wanted = axes().try_fold(1u64, |n, (s, c)| n.checked_mul(s.div_ceil(*c)));
        let distinct: HashSet<_> = self.chunks.iter().map(|chunk| chunk.offset).collect();
        let inside = |o: &[u64; N]| o.iter().zip(axes()).all(|(o, (s, c))| o < s && o % c == 0);
        let whole = wanted == Some(distinct.len() as u64) && distinct.len() == self.chunks.len();
        if whole && distinct.iter().all(inside) { Ok(()) } else { Err(Damaged("parts of the data set are missing")) }
    }

    /// Hands over each chunk: its offset, and the little-endian floats of all of it, those outside the data set too.
    pub fn for_each_chunk(&self, mut sink: impl FnMut(&[u64; N], &[[u8; 4]])) -> Result<()> {
        let length = size_of(&self.chunk)? as usize;
        for chunk in &self.chunks {
            let mut data = chunk.stored.to_vec();
            for (i, filter) in self.filters.iter().enumerate().rev() {
                if chunk.skipped >> i & 1 == 0 {
                    data = match filter {
                        1 => inflate(&data, length)?,
                        _ => unshuffle(&data),
                    };
                }
            }
            if data.len() != length {
                return Err(Damaged("a chunk has the wrong size"));
            }
            sink(&chunk.offset, data.as_chunks().0);
        }
        Ok(())
    }
}

fn size_of(shape: &[u64]) -> Result<u64> {
    let count = shape.iter().try_fold(4u64, |n, &side| n.checked_mul(side).filter(|&n| n > 0));
    count.ok_or(Damaged("the size of its data set makes no sense"))
}

fn inflate(data: &[u8], length: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let limited = ZlibDecoder::new(data).take(length as u64 + 1).read_to_end(&mut out);
    limited.map_err(|_| Damaged("a chunk does not unpack"))?;
    Ok(out)
}

/// Undoes the shuffle filter: first bytes of all values, then second bytes, ...
fn unshuffle(data: &[u8]) -> Vec<u8> {
    let count = data.len() / 4;
    let value = |i: usize| [0, 1, 2, 3].map(|byte| data[byte * count + i]);
    (0..count).flat_map(value).collect()
}

fn dataspace<const N: usize>(mut body: Cursor) -> Result<[u64; N]> {
    let (version, rank) = (body.number(1)?, body.number(1)?);
    if rank != N as u64 {
        return Err(Unsupported("its data set has another number of dimensions"));
    }
    body.take(if version == 1 { 6 } else { 2 })?;
    let mut shape = [0; N];
    for side in &mut shape {
        *side = body.number(8)?;
    }
    Ok(shape)
}

/// Class 1, little-endian, 4 bytes; offset and precision in bits, place and size of exponent and mantissa, bias.
fn is_float32(mut body: Cursor) -> Result<bool> {
    let (class, order) = (body.number(1)? & 15, body.number(1)?);
    body.take(2)?;
    Ok(class == 1 && order & 0x41 == 0 && body.take(16)? == [4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0])
}

/// Address of the tree of chunks, and the shape of a chunk.
fn chunked<const N: usize>(mut body: Cursor) -> Result<(u64, [u64; N])> {
    let (version, class) = (body.number(1)?, body.number(1)?);
    if version != 3 {
        return Err(Unsupported("it is in the latest format of HDF5"));
    }
    if class != 2 {
        return Err(Unsupported("its data set is not stored in chunks"));
    }
    // The size of a value counts as a dimension.
    if body.number(1)? != N as u64 + 1 {
        return Err(Damaged("chunks and data set differ in their dimensions"));
    }
    let tree = body.number(8)?;
    let mut chunk = [0; N];
    for side in &mut chunk {
        *side = body.number(4)?;
    }
    Ok((tree, chunk))
}

/// Numbers of the filters, in the order they were applied.
fn pipeline(mut body: Cursor) -> Result<Vec<u64>> {
    let (version, count) = (body.number(1)?, body.number(1)?);
    body.take(if version == 1 { 6 } else { 0 })?;
    (0..count)
        .map(|_| {
            let id = body.number(2)?;
            // Version 2 leaves the name out where the filter is one of HDF5's own.
            let name = if version == 1 || id >= 256 { body.number(2)? } else { 0 };
            body.take(2)?;
            let values = body.number(2)? as usize;
            let padding = if version == 1 { values % 2 } else { 0 };
            body.take(name as usize + 4 * (values + padding))?;
            if matches!(id, 1 | 2) { Ok(id) } else { Err(Unsupported("it is compressed by a filter other than gzip")) }
        })
        .collect()
}

/// Reads numbers on and on.
#[derive(Clone, Copy, Debug)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A little-endian number of so many bytes, at most 8.
    fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    fn expect(&mut self, signature: &[u8]) -> Result<()> {
        if self.take(signature.len())? == signature { Ok(()) } else { Err(Damaged("a signature is missing")) }
    }
}

/// One message of an object header.
struct Message<'a> {
    kind: u64,
    shared: bool,
    body: Cursor<'a>,
}

struct File<'a> {
    bytes: &'a [u8],
    base: u64,
    visits: Cell<usize>,
}

impl<'a> File<'a> {
    /// The file, and the address of its root group.
    fn open(bytes: &'a [u8]) -> Result<(Self, u64)> {
        let mut head = Cursor(bytes);
        if !bytes.starts_with(b"\x89HDF\r\n\x1a\n") {
            return Err(Damaged("it does not begin as HDF5 does"));
        }
        head.take(8)?;
        let version = head.number(1)?;
        let old = version < 2;
        // Versions 0 and 1 have the versions of other parts first, and the sizes of nodes after.
        head.take(if old { 4 } else { 0 })?;
        if (head.number(1)?, head.number(1)?) != (8, 8) {
            return Err(Unsupported("its addresses are not of 64 bits"));
        }
        head.take(match version {
            0 => 9,
            1 => 13,
            2 | 3 => 1,
            _ => return Err(Unsupported("its version of HDF5 is unknown")),
        })?;
        let base = head.number(8)?;
        // Other addresses of the file, and where the name of the root would be.
        head.take(if old { 32 } else { 16 })?;
        let root = head.number(8)?;
        Ok((Self { bytes, base, visits: Cell::new(0) }, root))
    }

    /// What lies at an address, up to the end of the file.
    fn at(&self, address: u64) -> Result<Cursor<'a>> {
        self.visits.set(self.visits.get() + 1);
        if self.visits.get() > MOST_VISITS {
            return Err(Damaged("its tables lead in circles"));
        }
        self.rest(address).map(Cursor)
    }

    fn rest(&self, address: u64) -> Result<&'a [u8]> {
        let start = self.base.checked_add(address).and_then(|start| usize::try_from(start).ok());
        start.and_then(|start| self.bytes.get(start..)).ok_or(Truncated)
    }

    fn slice(&self, address: u64, length: u64) -> Result<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| Truncated)?;
        self.rest(address)?.get(..length).ok_or(Truncated)
    }

    fn messages(&self, header: u64) -> Result<Vec<Message<'a>>> {
        let mut head = self.at(header)?;
        let new = head.0.starts_with(b"OHDR");
        let mut ordered = false;
        let size = if new {
            head.take(5)?;
            let flags = head.number(1)?;
            ordered = flags & 4 != 0;
            head.take(if flags & 0x20 != 0 { 16 } else { 0 } + if flags & 0x10 != 0 { 4 } else { 0 })?;
            head.number(1 << (flags & 3))?
        } else {
            if head.number(1)? != 1 {
                return Err(Damaged("an object header has no known version"));
            }
            head.take(7)?;
            let size = head.number(4)?;
            head.take(4)?;
            size
        };
        let mut blocks = vec![head.take(usize::try_from(size).map_err(|_| Truncated)?)?];
        let prefix = if new { 4 + 2 * usize::from(ordered) } else { 8 };
        let mut messages = Vec::new();
        while let Some(block) = blocks.pop() {
            let mut block = Cursor(block);
            while block.0.len() >= prefix {
                let kind = block.number(if new { 1 } else { 2 })?;
                let size = block.number(2)?;
                let flags = block.number(1)?;
                block.take(if new { prefix - 4 } else { 3 })?;
                let mut body = Cursor(block.take(size as usize)?);
                if kind == 0x10 {
                    // The header goes on elsewhere.
                    let (address, length) = (body.number(8)?, body.number(8)?);
                    self.at(address)?;
                    let part = self.slice(address, length)?;
                    let sealed = || part.strip_prefix(b"OCHK").and_then(|p| p.get(..p.len().checked_sub(4)?));
                    blocks.push(if new { sealed().ok_or(Damaged("an object header breaks off"))? } else { part });
                } else {
                    messages.push(Message { kind, shared: flags & 2 != 0, body });
                }
                if messages.len() > MOST_ENTRIES {
                    return Err(Damaged("an object header has no end"));
                }
            }
        }
        Ok(messages)
    }

    /// Address of the header of what has that name in a group.
    fn find(&self, group: u64, name: &str) -> Result<Option<u64>> {
        for message in self.messages(group)? {
            let mut body = message.body;
            let found = match message.kind {
                0x06 => link(body, name)?,
                0x11 => self.find_symbol(body.number(8)?, body.number(8)?, name)?,
                _ => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The same in a group whose names lie in a heap and whose members in a tree.
    fn find_symbol(&self, tree: u64, heap: u64, name: &str) -> Result<Option<u64>> {
        let mut head = self.at(heap)?;
        head.expect(b"HEAP")?;
        head.take(4)?;
        let length = head.number(8)?;
        head.take(8)?;
        let names = self.slice(head.number(8)?, length)?;
        for (_, address) in self.leaves(tree, 0, 8)? {
            let mut node = self.at(address)?;
            node.expect(b"SNOD")?;
            node.take(2)?;
            for _ in 0..node.number(2)? {
                let (at, header) = (node.number(8)?, node.number(8)?);
                node.take(24)?;
                let found = usize::try_from(at).ok().and_then(|at| names.get(at..)).ok_or(Truncated)?;
                if found.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
                    return Ok(Some(header));
                }
            }
        }
        Ok(None)
    }

    /// Keys and addresses in the lowest nodes of a version 1 B-tree.
    fn leaves(&self, root: u64, kind: u64, key: usize) -> Result<Vec<(Cursor<'a>, u64)>> {
        let mut leaves = Vec::new();
        let mut nodes = vec![(root, None)];
        while let Some((address, expected)) = nodes.pop() {
            let mut node = self.at(address)?;
            node.expect(b"TREE")?;
            let (found, level, used) = (node.number(1)?, node.number(1)?, node.number(2)?);
            if found != kind || expected.is_some_and(|expected| expected != level) {
                return Err(Damaged("a tree holds a node of another"));
            }
            // The neighbours at this level.
            node.take(16)?;
            for _ in 0..used {
                let (key, child) = (Cursor(node.take(key)?), node.number(8)?);
                match level.checked_sub(1) {
                    None => leaves.push((key, child)),
                    below => nodes.push((child, below)),
                }
            }
            if leaves.len().max(nodes.len()) > MOST_ENTRIES {
                return Err(Damaged("a tree has no end"));
            }
        }
        Ok(leaves)
    }
}

/// The address a link message gives for `name`.
fn link(mut body: Cursor, name: &str) -> Result<Option<u64>> {
    body.take(1)?;
    let flags = body.number(1)?;
    let kind = if flags & 8 != 0 { body.number(1)? } else { 0 };
    body.take(if flags & 4 != 0 { 8 } else { 0 } + usize::from(flags & 0x10 != 0))?;
    let length = body.number(1 << (flags & 3))?;
    let found = body.take(usize::try_from(length).map_err(|_| Truncated)?)?;
    if kind == 0 && found == name.as_bytes() { body.number(8).map(Some) } else { Ok(None) }
}
