//! NumPy's `.npz`: a zip archive of `.npy` files. The array named `flow` is read, else the first; `flow` is written.

use std::io::{Cursor, Read, Write};

use super::{FormatError, npy};
use crate::FlowField;

const FORMAT: &str = ".npz";

/// Largest array taken out of an archive: a compressed one may unfold to a thousand times its size.
const MAX_ARRAY: u64 = 2 << 30;

/// Flow from the bytes of a `.npz` file.
pub fn decode(bytes: &[u8]) -> Result<FlowField, FormatError> {
    let bad = |e: &dyn std::fmt::Display| FormatError::malformed(FORMAT, e.to_string());
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| bad(&e))?;
    let named = archive.index_for_name("flow.npy");
    let first = || archive.file_names().position(|n| n.ends_with(".npy"));
    let index = named.or_else(first).ok_or_else(|| FormatError::unsupported(FORMAT, "the archive holds no array"))?;
    let mut array = Vec::new();
    let entry = archive.by_index(index).map_err(|e| bad(&e))?;
    entry.take(MAX_ARRAY + 1).read_to_end(&mut array).map_err(|e| bad(&e))?;
    if array.len() as u64 > MAX_ARRAY {
        return Err(FormatError::limits(FORMAT, format!("the array is larger than {} GiB", MAX_ARRAY >> 30)));
    }
    npy::decode(&array)
}

/// The bytes of a `.npz` file with one compressed array, `flow`.
pub fn encode(flow: &FlowField) -> Result<Vec<u8>, FormatError> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let written = archive
        .start_file("flow.npy", zip::write::SimpleFileOptions::default())
        .and_then(|()| Ok(archive.write_all(&npy::encode(flow))?))
        .and_then(|()| archive.finish());
    Ok(written.map_err(|e| FormatError::unsupported(FORMAT, e.to_string()))?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(arrays: &[(&str, &FlowField)]) -> Vec<u8> {
        let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, flow) in arrays {
            out.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            out.write_all(&npy::encode(flow)).unwrap();
        }
        out.finish().unwrap().into_inner()
    }

    #[test]
    fn the_array_named_flow_wins_else_the_first() {
        let (a, b) = (FlowField::zeros(1, 2), FlowField::from_fn(3, 1, |x, _| (x as f32, 1.0)));
        assert_eq!(decode(&archive(&[("a.npy", &a), ("flow.npy", &b)])).unwrap(), b);
        assert_eq!(decode(&archive(&[("readme.txt", &b), ("x.npy", &a), ("y.npy", &b)])).unwrap(), a);
        assert!(matches!(decode(&archive(&[])), Err(FormatError::Unsupported { .. })));
        assert_eq!(decode(&encode(&b).unwrap()).unwrap(), b);
    }
}
