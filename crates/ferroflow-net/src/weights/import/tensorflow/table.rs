//! LevelDB's sorted string table, as far as a bundle's index uses it.
//!
//! Footer (48 bytes): handles of the meta index and of the index block, padding, magic. A block: entries that share
//! prefixes with the one before, restart offsets, their count; then a compression byte and a masked CRC-32C. The index
//! block's values are handles of the data blocks.

use super::super::{Format, ImportError};
use super::checksum;

/// Last eight bytes of every table.
pub const MAGIC: u64 = 0xdb47_7524_8b80_fb57;

const FOOTER: usize = 48;
const TRAILER: usize = 5;

type Pair = (Vec<u8>, Vec<u8>);

fn damaged(reason: impl Into<String>) -> ImportError {
    ImportError::damaged(Format::TensorflowBundle, reason)
}

/// Keys and values of the whole table, in order.
pub fn entries(file: &[u8]) -> Result<Vec<Pair>, ImportError> {
    let footer =
        file.len().checked_sub(FOOTER).map(|at| &file[at..]).ok_or_else(|| damaged("the index is too short"))?;
    if footer[FOOTER - 8..] != MAGIC.to_le_bytes() {
        return Err(damaged("the index does not end in its magic number"));
    }
    let mut handles = &footer[..FOOTER - 8];
    for _ in 0..2 {
        varint(&mut handles)?; // the meta index: bundles keep nothing there
    }
    let mut all: Vec<Pair> = Vec::new();
    let mut stored = 0usize;
    let mut unread = file.len();
    for (_, handle) in block(file, &mut handles, &mut unread)? {
        for pair in block(file, &mut handle.as_slice(), &mut unread)? {
            // Keys are sorted, so two handles of one block (a loop in a made-up file) end here.
            if all.last().is_some_and(|last| last.0 >= pair.0) {
                return Err(damaged("the index is not sorted"));
            }
            // Prefix compression shrinks keys, hardly values: a limit for tables that claim otherwise.
            stored += pair.0.len() + pair.1.len();
            if stored > file.len().saturating_mul(64) {
                return Err(damaged("the index unfolds to more than 64 times its size"));
            }
            all.push(pair);
        }
    }
    Ok(all)
}

/// The entries of the block behind a handle, whose length is taken from `unread`: blocks do not overlap, so together they
/// are no longer than the file, and a made-up one that names a long block many times is not checked many times.
fn block(file: &[u8], handle: &mut &[u8], unread: &mut usize) -> Result<Vec<Pair>, ImportError> {
    let (offset, size) = (varint(handle)?, varint(handle)?);
    let range = |from: u64, size: u64| {
        let (from, to) = (usize::try_from(from).ok()?, usize::try_from(from.checked_add(size)?).ok()?);
        file.get(from..to)
    };
    let whole = size.checked_add(TRAILER as u64).and_then(|size| range(offset, size));
    let whole = whole.ok_or_else(|| damaged("a block of the index lies outside the file"))?;
    *unread = unread.checked_sub(whole.len()).ok_or_else(|| damaged("the blocks of the index overlap"))?;
    let (checked, crc) = whole.split_at(whole.len() - 4);
    if checksum::masked(checked).to_le_bytes() != crc {
        return Err(damaged("a block of the index does not match its checksum"));
    }
    let (&compression, contents) = checked.split_last().ok_or_else(|| damaged("an empty block"))?;
    if compression != 0 {
        return Err(ImportError::unsupported(
            Format::TensorflowBundle,
            "a compressed index, which TensorFlow never writes",
        ));
    }
    let short = || damaged("a block of the index is too short");
    let (rest, restarts) = contents.split_last_chunk::<4>().ok_or_else(short)?;
    let restarts = (u32::from_le_bytes(*restarts) as usize).checked_mul(4).ok_or_else(short)?;
    let mut rest = rest.len().checked_sub(restarts).map(|n| &rest[..n]).ok_or_else(short)?;

    let mut pairs: Vec<Pair> = Vec::new();
    let mut stored = 0usize;
    while !rest.is_empty() {
        let (shared, own, value) = (varint(&mut rest)?, varint(&mut rest)?, varint(&mut rest)?);
        let mut take = |n: u64| {
            let (taken, left) = rest.split_at_checked(usize::try_from(n).ok()?)?;
            rest = left;
            Some(taken)
        };
        let (own, value) = take(own).zip(take(value)).ok_or_else(short)?;
        let before = pairs.last().map_or(&[][..], |p| &p.0);
        let shared = usize::try_from(shared).ok().and_then(|n| before.get(..n));
        let key = [shared.ok_or_else(|| damaged("a key shares more than there is"))?, own].concat();
        stored += key.len() + value.len();
        if stored > file.len().saturating_mul(64) {
            return Err(damaged("the index unfolds to more than 64 times its size"));
        }
        pairs.push((key, value.to_vec()));
    }
    Ok(pairs)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ImportError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(|| damaged("a number of the index is cut off"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(damaged("a number of the index is longer than 64 bits"))
}

/// Most bytes of a block's keys and values, unless a single pair takes more.
const BLOCK: usize = 1 << 14;

/// Every so many entries a search may begin.
const RESTART: usize = 16;

/// A table of these keys and values, which are in the order of the keys.
pub fn write(pairs: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut index) = (Vec::new(), Vec::new());
    let entries: Vec<(&[u8], &[u8])> = pairs.iter().map(|(k, v)| (k.as_bytes(), v.as_slice())).collect();
    let mut rest = &entries[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(key, value)| {
            bytes += key.len() + value.len();
            bytes <= BLOCK
        });
        let (block, after) = rest.split_at(fits.count().max(1));
        rest = after;
        index.push((block[block.len() - 1].0, put(&mut file, block)));
    }
    let index: Vec<(&[u8], &[u8])> = index.iter().map(|(key, handle)| (*key, handle.as_slice())).collect();
    finish(file, &index)
}

/// Appends a block; returns its handle.
fn put(file: &mut Vec<u8>, entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    use prost::encoding::encode_varint;
    let at = file.len();
    let mut restarts = Vec::new();
    for (i, (key, value)) in entries.iter().enumerate() {
        if i % RESTART == 0 {
            restarts.push((file.len() - at) as u32);
        }
        // Keys are written whole: an index is small beside its values.
        encode_varint(0, file);
        encode_varint(key.len() as u64, file);
        encode_varint(value.len() as u64, file);
        file.extend_from_slice(key);
        file.extend_from_slice(value);
    }
    if restarts.is_empty() {
        restarts.push(0);
    }
    restarts.push(restarts.len() as u32);
    file.extend(restarts.iter().flat_map(|n| n.to_le_bytes()));
    let size = file.len() - at;
    file.push(0);
    let crc = checksum::masked(&file[at..]);
    file.extend(crc.to_le_bytes());
    let mut handle = Vec::new();
    encode_varint(at as u64, &mut handle);
    encode_varint(size as u64, &mut handle);
    handle
}

/// Appends the meta index, an index of these entries and the footer.
fn finish(mut file: Vec<u8>, index: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut footer = [put(&mut file, &[]), put(&mut file, index)].concat();
    footer.resize(FOOTER - 8, 0);
    file.extend(footer);
    file.extend(MAGIC.to_le_bytes());
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_many_blocks_comes_back() {
        let pairs: Vec<(String, Vec<u8>)> = (0..3000).map(|i| (format!("{i:05}"), vec![i as u8; i % 40])).collect();
        let table = write(&pairs);
        let back = entries(&table).unwrap();
        assert!(back.iter().map(|(k, v)| (k.as_slice(), v)).eq(pairs.iter().map(|(k, v)| (k.as_bytes(), v))));
        assert_eq!(entries(&write(&[])).unwrap(), []);
    }

    /// Each naming of an empty block passes as sorted, and costs a checksum of the whole of it.
    #[test]
    fn a_block_named_many_times_is_refused() {
        let mut file = Vec::new();
        let empty = put(&mut file, &[]);
        let name: &[u8] = &empty;
        let once = finish(file.clone(), &[(b"a", name)]);
        assert_eq!(entries(&once).unwrap(), []);
        let often = finish(file, &vec![(&b"a"[..], name); 100]);
        let error = entries(&often).unwrap_err().to_string();
        assert!(error.contains("overlap"), "{error}");
    }
}
