//! Reads records as samples.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use ferroflow_core::{FlowField, Frame, Mask, Size, io::frame};
use prost::Message;

use super::{Feature, MINDRECORD, SequenceExample, masked_crc};
use crate::{DataError, Sample, Source};

/// Records by file, offset and length.
#[derive(Debug)]
struct Records {
    name: String,
    files: Vec<PathBuf>,
    records: Vec<(usize, u64, u64)>,
}

/// The records of a file, or of all files of a folder.
///
/// # Errors
/// If there are none, or a file is damaged.
pub(crate) fn open(root: &Path) -> Result<Box<dyn Source>, DataError> {
    let mut files = Vec::new();
    if root.is_dir() {
        for entry in std::fs::read_dir(root).map_err(|e| DataError::io(root, e))? {
            let path = entry.map_err(|e| DataError::io(root, e))?.path();
            if path.extension().is_some_and(|e| e == "tfrecord") {
                files.push(path);
            } else if path.extension().is_some_and(|e| e == "mindrecord") {
                return Err(DataError::content(path, MINDRECORD));
            }
        }
        // `NAME@2` before `NAME@10`: the converters write no leading zeros.
        files.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    } else {
        files.push(root.into());
    }
    if files.is_empty() {
        return Err(DataError::content(root, "there are no .tfrecord files in this folder"));
    }
    let mut records = Vec::new();
    for (i, path) in files.iter().enumerate() {
        index(path, i, &mut records)?;
    }
    Ok(Box::new(Records { name: format!("tfrecord:{}", root.display()), files, records }))
}

/// Finds the records of a file; their contents are checked when read.
fn index(path: &Path, file: usize, records: &mut Vec<(usize, u64, u64)>) -> Result<(), DataError> {
    let failed = |e| DataError::io(path, e);
    let opened = File::open(path).map_err(failed)?;
    let end = opened.metadata().map_err(failed)?.len();
    let mut reader = BufReader::new(opened);
    let damaged = |at: u64| DataError::content(path, format!("damaged or cut short at byte {at}; convert it again"));
    let mut at = 0;
    while at < end {
        let (mut length, mut crc) = ([0; 8], [0; 4]);
        reader.read_exact(&mut length).and_then(|()| reader.read_exact(&mut crc)).map_err(|_| damaged(at))?;
        let size = u64::from_le_bytes(length);
        let next = size.checked_add(at + 16).filter(|&next| next <= end).ok_or_else(|| damaged(at))?;
        if masked_crc(&length) != u32::from_le_bytes(crc) {
            return Err(damaged(at));
        }
        records.push((file, at + 12, size));
        // The length was compared with that of the file.
        reader.seek_relative((size + 4) as i64).map_err(failed)?;
        at = next;
    }
    Ok(())
}

impl Source for Records {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn len(&self) -> Option<usize> {
        Some(self.records.len())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let missing = || DataError::Index { name: self.name.clone(), len: self.records.len(), index };
        let &(file, offset, length) = self.records.get(index).ok_or_else(missing)?;
        let path = &self.files[file];
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(offset))?;
                file.take(length + 4).read_to_end(&mut bytes)
            })
            .map_err(|e| DataError::io(path, e))?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let id = format!("{stem}/{offset:012}");
        decode(&bytes, &id).map_err(|reason| DataError::content(path, format!("record at byte {offset}: {reason}")))
    }
}

/// A record and its checksum as a sample.
fn decode(bytes: &[u8], id: &str) -> Result<Sample, String> {
    let damaged = || "damaged; convert it again".to_string();
    let (record, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    if masked_crc(record) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    let example = SequenceExample::decode(record).map_err(|_| "no SequenceExample".to_string())?;
    let context = example.context.unwrap_or_default().feature;
    let lists = example.lists.unwrap_or_default().list;
    let side = |name: &str| {
        let value = context.get(name).and_then(|f| f.int64.as_ref()?.value.first().copied());
        value.and_then(|v| usize::try_from(v).ok()).filter(|&v| v > 0).ok_or(format!("it has no {name}"))
    };
    let (width, height) = (side("width")?, side("height")?);
    let size = Size { height, width };
    let pixels = width.checked_mul(height).ok_or("its size makes no sense")?;
    let first_bytes = |feature: &Feature| feature.bytes.as_ref().and_then(|b| b.value.first().cloned());
    let raw = |name: &str, size: usize| match context.get(name).and_then(first_bytes) {
        Some(bytes) if Some(bytes.len()) == pixels.checked_mul(size) => Ok(Some(bytes)),
        Some(bytes) if !bytes.is_empty() => Err(format!("{name} does not fit {height}x{width}")),
        _ => Ok(None),
    };
    let mask = |bytes: Vec<u8>| Mask::from_fn(size, |x, y| bytes[y * width + x] != 0);

    let images: Vec<Vec<u8>> =
        lists.get("images").into_iter().flat_map(|list| &list.feature).filter_map(first_bytes).collect();
    let picture = |bytes: &Vec<u8>| match pixels.checked_mul(3) == Some(bytes.len()) {
        true => Frame::new(size, bytes.clone()).map_err(|e| e.to_string()),
        false => frame::decode(bytes).map_err(|e| e.to_string()),
    };
    let [first, second] = &images[..] else { return Err(format!("{} images instead of 2", images.len())) };
    let (first, second) = (picture(first)?, picture(second)?);
    if [&first, &second].iter().any(|f| f.size() != size) {
        return Err("its images are not of the size it names".into());
    }

    let valid = raw("flow_valid_occ", 1)?;
    let values = match raw("flow_uv", 8)? {
        None => raw("flow_uv_occ", 8)?,
        some => some,
    };
    // The mask of frame 1 says where Sintel's ground truth is not to be used.
    let invalid = lists.get("invalid_masks").and_then(|list| list.feature.first()).and_then(first_bytes);
    let invalid = invalid.filter(|mask| mask.len() == pixels);
    let flow = values.map(|bytes| {
        let value = |i: usize| f32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let at = |x, y| y * width + x;
        let is_known =
            |i: usize| valid.as_ref().is_none_or(|v| v[i] != 0) && invalid.as_ref().is_none_or(|m| m[i] == 0);
        let vector = |x, y| (value(8 * at(x, y)), value(8 * at(x, y) + 4));
        if (0..pixels).all(is_known) {
            return FlowField::from_fn(size, vector);
        }
        FlowField::sparse_from_fn(size, |x, y| is_known(at(x, y)).then(|| vector(x, y)))
    });
    let occlusion = raw("occlusion_mask", 1)?.map(mask);
    Ok(Sample { first, second, flow, occlusion, original: None, surround: None, id: id.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        datasets::tests::Tree,
        tfrecord::{BytesList, FeatureList, FeatureLists, Features, Int64List, record as framed},
    };

    fn bytes_feature(value: Vec<u8>) -> Feature {
        Feature { bytes: Some(BytesList { value: vec![value] }), int64: None }
    }

    /// A record of 3x2 frames of two greys with flow (4, column), under the given keys of flow and of a mask.
    fn record(first: u8, keys: [&str; 2], flags: [u8; 6]) -> Vec<u8> {
        let number = |value| Feature { bytes: None, int64: Some(Int64List { value: vec![value] }) };
        let flow = (0..6).flat_map(|i| [4.0, (i % 3) as f32]).flat_map(f32::to_le_bytes).collect();
        let context = std::collections::BTreeMap::from([
            ("width".into(), number(3)),
            ("height".into(), number(2)),
            (keys[0].into(), bytes_feature(flow)),
            (keys[1].into(), bytes_feature(flags.to_vec())),
        ]);
        let images = vec![bytes_feature(vec![first; 18]), bytes_feature(vec![first + 1; 18])];
        let lists = std::collections::BTreeMap::from([("images".into(), FeatureList { feature: images })]);
        let example =
            SequenceExample { context: Some(Features { feature: context }), lists: Some(FeatureLists { list: lists }) };
        framed(&example.encode_to_vec())
    }

    #[test]
    fn records_become_samples() {
        // The check value of CRC32C.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let tree = Tree::new();
        let sintel = record(7, ["flow_uv", "occlusion_mask"], [1, 0, 0, 0, 0, 0]);
        let kitti = record(9, ["flow_uv_occ", "flow_valid_occ"], [1, 1, 0, 1, 1, 1]);
        std::fs::write(tree.path("s@2.tfrecord"), [&sintel[..], &kitti].concat()).unwrap();
        std::fs::write(tree.path("s@10.tfrecord"), &sintel).unwrap();
        let source = tree.open("tfrecord:{root}").unwrap();
        assert_eq!(source.len(), Some(3));
        let (dense, sparse) = (source.get(0).unwrap(), source.get(1).unwrap());
        assert_eq!((dense.first.pixel(0, 0), dense.second.pixel(2, 1)), ([7; 3], [8; 3]));
        assert_eq!(dense.flow.unwrap().known(2, 1), Some((4.0, 2.0)));
        let occlusion = dense.occlusion.unwrap();
        assert!(occlusion.get(0, 0) && !occlusion.get(1, 0));
        let flow = sparse.flow.unwrap();
        assert_eq!((flow.known(2, 0), flow.known(1, 1)), (None, Some((4.0, 1.0))));
        assert!(source.get(2).unwrap().id.starts_with("s@10/"));
    }

    #[test]
    fn damaged_records_are_refused() {
        let tree = Tree::new();
        let path = tree.path("x.tfrecord");
        let whole = record(7, ["flow_uv", "occlusion_mask"], [0; 6]);
        for at in 0..whole.len() {
            std::fs::write(&path, &whole[..at]).unwrap();
            let cut = tree.open("tfrecord:{root}/x.tfrecord");
            assert!(at == 0 || cut.is_err(), "cut at {at}");
            let mut wrong = whole.clone();
            wrong[at] ^= 0x10;
            std::fs::write(&path, wrong).unwrap();
            let opened = tree.open("tfrecord:{root}/x.tfrecord");
            assert!(opened.and_then(|source| source.get(0)).is_err(), "wrong at {at}");
        }
    }
}
