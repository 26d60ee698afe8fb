//! Arrays of `f32` as files: raw, or NumPy's.

use std::path::Path;

use ferroflow_core::io::{read_bytes, write_with};
use serde::{Deserialize, Serialize};

use super::OfflineError;

/// How an array is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Values only, little-endian.
    Bin,
    /// NumPy's `.npy`, with the shape.
    Npy,
}

impl Format {
    /// What the names of such files end in.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Bin => "bin",
            Self::Npy => "npy",
        }
    }
}

const NPY: &[u8; 6] = b"\x93NUMPY";

/// Writes an array.
pub(super) fn write(path: &Path, format: Format, shape: &[usize], values: &[f32]) -> Result<(), OfflineError> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    write_with(path, |out| {
        if format == Format::Npy {
            let shape: String = shape.iter().map(|d| format!("{d}, ")).collect();
            let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
            // Values start at a multiple of 64 bytes: 10 of magic and length, the dictionary, blanks, a line end.
            let padded = (10 + dict.len() + 1).next_multiple_of(64) - 11;
            out.write_all(NPY)?;
            out.write_all(&[1, 0])?;
            out.write_all(&(padded as u16 + 1).to_le_bytes())?;
            writeln!(out, "{dict:<padded$}")?;
        }
        out.write_all(&bytes)
    })?;
    Ok(())
}

/// Reads the values of an array that must have `count` of them.
pub(super) fn read(path: &Path, count: usize) -> Result<Vec<f32>, OfflineError> {
    let bytes = read_bytes(path)?;
    let broken = |reason: String| OfflineError::Array { path: path.to_path_buf(), reason };
    let body = match bytes.strip_prefix(NPY) {
        None => &bytes[..],
        Some(rest) => {
            let cut = || broken("the NumPy header is cut off".into());
            let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
            let (length, rest) = match version[0] {
                1 => rest.split_first_chunk::<2>().map(|(n, r)| (usize::from(u16::from_le_bytes(*n)), r)),
                _ => rest.split_first_chunk::<4>().map(|(n, r)| (u32::from_le_bytes(*n) as usize, r)),
            }
            .ok_or_else(cut)?;
            let (header, body) = rest.split_at_checked(length).ok_or_else(cut)?;
            let header = String::from_utf8_lossy(header);
            if !header.contains("<f4") || header.contains("'fortran_order': True") {
                return Err(broken("it holds something else than float32 in C order; save it as such".into()));
            }
            body
        }
    };
    if body.len() != 4 * count {
        let reason = format!("it holds {} bytes where {count} float32 values take {}", body.len(), 4 * count);
        return Err(broken(reason));
    }
    Ok(body.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}
