//! TensorFlow's V2 bundle: `PREFIX.index` (a sorted string table of tensor descriptions) and
//! `PREFIX.data-NNNNN-of-NNNNN` (raw little-endian values), each piece with a CRC-32C.
//!
//! Both styles of names are read: those of graph variables (`pwcnet/featpyr/conv1a/kernel`) and those of objects
//! (`feature_model/_convs/0/0/kernel/.ATTRIBUTES/VARIABLE_VALUE`, with the suffix taken off).

pub(in crate::weights) mod checksum;
pub(in crate::weights) mod proto;
pub(in crate::weights) mod table;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use prost::Message;

use self::proto::{Entry, Header, kind};
use super::{Budget, Contents, Element, Format, ImportError, Tensor, read_bytes, slots};

const FORMAT: Format = Format::TensorflowBundle;

/// What object-based checkpoints put after every variable's name.
pub(in crate::weights) const OBJECT_SUFFIX: &str = "/.ATTRIBUTES/VARIABLE_VALUE";

/// The index that a path means: itself, or the one beside a prefix, a shard, or in a directory with a `checkpoint` file.
/// Any other path is returned as it is.
pub(super) fn locate(path: &Path) -> Result<PathBuf, ImportError> {
    let beside = |name: &str| path.with_file_name(format!("{name}.index"));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if path.is_dir() {
        return pointed_to(&path.join("checkpoint"));
    }
    if name == "checkpoint" {
        return pointed_to(path);
    }
    if let Some((prefix, _)) = name.rsplit_once(".data-") {
        let index = beside(prefix);
        if index.is_file() {
            return Ok(index);
        }
    }
    if !path.exists() && beside(&name).is_file() {
        return Ok(beside(&name));
    }
    Ok(path.to_path_buf())
}

/// The index named by a `checkpoint` file: `model_checkpoint_path: "ckpt-1"`, relative to it.
fn pointed_to(path: &Path) -> Result<PathBuf, ImportError> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| ImportError::io(path, e))?;
    file.take(1 << 16).read_to_string(&mut text).map_err(|e| ImportError::io(path, e))?;
    let latest = text.lines().find_map(|line| line.trim().strip_prefix("model_checkpoint_path:"));
    let name = latest.map(|l| l.trim().trim_matches('"')).filter(|n| !n.is_empty());
    let name = name.ok_or_else(|| ImportError::UnknownFormat { path: path.to_path_buf() })?;
    // The path is often that of the machine it was written on; the files lie beside.
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    Ok(path.with_file_name(format!("{name}.index")))
}

/// Whether a file ends in the table's magic number.
pub(super) fn detect(file: &mut (impl Read + Seek), length: u64) -> Option<Format> {
    let mut tail = [0; 8];
    file.seek(SeekFrom::Start(length.checked_sub(8)?)).ok()?;
    file.read_exact(&mut tail).ok()?;
    (u64::from_le_bytes(tail) == table::MAGIC).then_some(FORMAT)
}

/// Every weight of the bundle, and the shards it was read from.
pub(super) fn read(index: &Path) -> Result<(Contents, Vec<PathBuf>), ImportError> {
    let bytes = std::fs::read(index).map_err(|e| ImportError::io(index, e))?;
    let entries = read_index(&bytes)?;
    let header = entries.header;
    let prefix = index.to_string_lossy().trim_end_matches(".index").to_string();
    let paths: Vec<PathBuf> =
        (0..header.shards).map(|s| PathBuf::from(format!("{prefix}.data-{s:05}-of-{:05}", header.shards))).collect();
    let mut shards = Vec::with_capacity(paths.len());
    for path in &paths {
        let file = File::open(path).map_err(|e| ImportError::io(path, e))?;
        let length = file.metadata().map_err(|e| ImportError::io(path, e))?.len();
        shards.push((file, length));
    }
    Ok((read_values(&entries.tensors, &mut shards)?, paths))
}

/// The index: its header and every tensor's description by name.
struct Index {
    header: Header,
    tensors: Vec<(String, Entry)>,
}

fn read_index(bytes: &[u8]) -> Result<Index, ImportError> {
    let mut header = None;
    let mut tensors = Vec::new();
    for (key, value) in table::entries(bytes)? {
        let broken = |_| ImportError::damaged(FORMAT, "an entry of the index is not a tensor's description");
        if key.is_empty() {
            header = Some(Header::decode(value.as_slice()).map_err(broken)?);
            continue;
        }
        let name = String::from_utf8(key).map_err(|_| ImportError::damaged(FORMAT, "a name is not UTF-8"))?;
        tensors.push((name, Entry::decode(value.as_slice()).map_err(broken)?));
    }
    let header = header.ok_or_else(|| ImportError::damaged(FORMAT, "the index has no header"))?;
    if header.endianness != 0 {
        return Err(ImportError::unsupported(FORMAT, "big-endian values"));
    }
    if !(1..=4096).contains(&header.shards) {
        return Err(ImportError::damaged(FORMAT, format!("the index names {} shards", header.shards)));
    }
    Ok(Index { header, tensors })
}

fn read_values(tensors: &[(String, Entry)], shards: &mut [(impl Read + Seek, u64)]) -> Result<Contents, ImportError> {
    let mut contents = Contents::default();
    let mut budget = Budget::new(FORMAT, shards.iter().map(|s| s.1).sum());
    for (full_name, entry) in tensors {
        let name = full_name.strip_suffix(OBJECT_SUFFIX).unwrap_or(full_name);
        let damaged = |reason: &str| ImportError::damaged(FORMAT, format!("`{name}` {reason}"));
        let element = match entry.kind {
            kind::FLOAT => Some(Element::F32),
            kind::DOUBLE => Some(Element::F64),
            kind::BFLOAT16 => Some(Element::Bf16),
            kind::HALF => Some(Element::F16),
            _ => None,
        };
        let dims = entry.shape.as_ref().map_or(&[][..], |s| &s.dims);
        let shape: Option<Vec<usize>> = dims.iter().map(|d| usize::try_from(d.size).ok()).collect();
        let shape = shape.ok_or_else(|| damaged("has a negative dimension"))?;
        let slot = slots::slot(name);
        let scalar = shape.is_empty() && entry.size <= 8;
        if (slot.is_some() || element.is_none()) && !scalar {
            contents.skipped.count(slot.unwrap_or(slots::Slot::Other));
            continue;
        }
        if !entry.slices.is_empty() {
            return Err(ImportError::unsupported(FORMAT, format!("`{name}` is split over several variables")));
        }
        let count = budget.take(name, &shape)?;
        let bytes = entry_bytes(entry, shards).map_err(|reason| damaged(&reason))?;
        if scalar {
            let number = match (entry.kind, element) {
                (kind::INT32, _) => bytes.as_slice().try_into().ok().map(i32::from_le_bytes).map(f64::from),
                (kind::INT64, _) => bytes.as_slice().try_into().ok().map(|b| i64::from_le_bytes(b) as f64),
                (_, Some(e)) if bytes.len() == e.size() => Some(f64::from(e.decode(&bytes)[0])),
                _ => None,
            };
            contents.numbers.extend(number.map(|n| (name.to_string(), n)));
        }
        let element = match (slot, element) {
            (None, Some(element)) => element,
            (slot, _) => {
                contents.skipped.count(slot.unwrap_or(slots::Slot::Other));
                continue;
            }
        };
        if count.checked_mul(element.size()) != Some(bytes.len()) {
            return Err(damaged(&format!("has {} bytes for the shape {shape:?}", bytes.len())));
        }
        contents.tensors.push(Tensor { name: name.to_string(), shape, data: element.decode(&bytes) });
    }
    Ok(contents)
}

/// The bytes of one tensor, checked.
fn entry_bytes(entry: &Entry, shards: &mut [(impl Read + Seek, u64)]) -> Result<Vec<u8>, String> {
    let shard = usize::try_from(entry.shard).ok().and_then(|s| shards.get_mut(s));
    let (file, length) = shard.ok_or("lies in a shard that the index does not have")?;
    let (offset, size) = match (u64::try_from(entry.offset), u64::try_from(entry.size)) {
        (Ok(offset), Ok(size)) if offset.checked_add(size).is_some_and(|end| end <= *length) => (offset, size),
        _ => return Err("reaches past the end of its shard".to_string()),
    };
    let bytes = file.seek(SeekFrom::Start(offset)).and_then(|_| read_bytes(file, size));
    let bytes = bytes.map_err(|e| format!("cannot be read: {e}"))?;
    if checksum::masked(&bytes) != entry.crc32c {
        return Err("does not match its checksum".to_string());
    }
    Ok(bytes)
}

/// A bundle of `f32` tensors for tests: the index and the only shard.
#[cfg(test)]
pub(super) fn bundle_sample(tensors: &[(&str, &[i64], &[u8])]) -> (Vec<u8>, Vec<u8>) {
    use self::proto::{Dimension, TensorShape};
    let mut data = Vec::new();
    let mut pairs = vec![(String::new(), Header { shards: 1, ..Header::default() }.encode_to_vec())];
    for (name, shape, bytes) in tensors {
        let entry = Entry {
            kind: kind::FLOAT,
            shape: Some(TensorShape { dims: shape.iter().map(|&size| Dimension { size }).collect() }),
            shard: 0,
            offset: data.len() as i64,
            size: bytes.len() as i64,
            crc32c: checksum::masked(bytes),
            slices: Vec::new(),
        };
        pairs.push((name.to_string(), entry.encode_to_vec()));
        data.extend_from_slice(bytes);
    }
    (table::write(&pairs), data)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Real indices that TensorFlow wrote for PWC-Nets trained by others: weights, two slots each, three scalars.
    #[test]
    fn real_indices_are_read() {
        let Some(dir) = crate::weights::import::tests::shared("data/weights/daigo-tf-index") else { return };
        for (file, weights) in [("model_3007.ckpt.index", 154), ("model_600.ckpt.index", 110)] {
            let index = read_index(&std::fs::read(dir.join(file)).unwrap()).unwrap();
            assert_eq!(index.header.shards, 1);
            let count = |slot| index.tensors.iter().filter(|t| slots::slot(&t.0) == slot).count();
            // `Variable` is the step counter of this program; its name does not tell.
            assert_eq!((count(None), count(Some(slots::Slot::Optimiser))), (weights + 1, 2 * weights + 2), "{file}");
        }
    }

    #[test]
    fn a_changed_value_fails_its_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let (index, mut data) = bundle_sample(&[("w", &[2], &[0, 0, 128, 63, 0, 0, 0, 64])]);
        let path = dir.path().join("ckpt-1.index");
        std::fs::write(&path, index).unwrap();
        let shard = dir.path().join("ckpt-1.data-00000-of-00001");
        std::fs::write(&shard, &data).unwrap();
        assert_eq!(read(&path).unwrap().0.tensors[0].data, [1.0, 2.0]);
        data[1] ^= 1;
        std::fs::write(&shard, &data).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("checksum"));
    }
}
