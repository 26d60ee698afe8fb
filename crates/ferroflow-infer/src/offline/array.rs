//! Arrays of `f32` as raw files or NumPy files.

use std::path::Path;

use ferroflow_core::io::{npy, read_bytes, write_with};
use serde::{Deserialize, Serialize};

use super::OfflineError;

/// How an array is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// Values only, little-endian.
    Bin,
    /// NumPy's `.npy`, with the shape.
    Npy,
}

impl Format {
    /// The file extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Bin => "bin",
            Self::Npy => "npy",
        }
    }
}

/// Writes an array.
pub(super) fn write(path: &Path, format: Format, shape: &[usize], values: &[f32]) -> Result<(), OfflineError> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    write_with(path, |out| {
        if format == Format::Npy {
            let shape: String = shape.iter().map(|d| format!("{d}, ")).collect();
            let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
            // Values start at a multiple of 64 bytes: 10 of magic and length, the dictionary, blanks, a line end.
            let padded = (10 + dict.len() + 1).next_multiple_of(64) - 11;
            out.write_all(npy::MAGIC)?;
            out.write_all(&[1, 0])?;
            out.write_all(&(padded as u16 + 1).to_le_bytes())?;
            writeln!(out, "{dict:<padded$}")?;
        }
        out.write_all(&bytes)
    })?;
    Ok(())
}

/// Reads the values of an array of this shape. Sides of 1 may be there or not; a raw file has no shape of its own.
pub(super) fn read(path: &Path, shape: &[usize]) -> Result<Vec<f32>, OfflineError> {
    let broken = |reason: String| OfflineError::Array { path: path.to_path_buf(), reason };
    let bytes = shape.iter().try_fold(size_of::<f32>(), |bytes, &side| bytes.checked_mul(side));
    let expected = bytes.ok_or_else(|| broken(format!("an array of shape {shape:?} is beyond any memory")))?;
    let bytes = read_bytes(path)?;
    if bytes.starts_with(npy::MAGIC) {
        let (found, values) = npy::decode_array(&bytes).map_err(|e| broken(e.to_string()))?;
        let sides = |shape: &[usize]| shape.iter().copied().filter(|&side| side != 1).collect::<Vec<_>>();
        if sides(&found) != sides(shape) {
            return Err(broken(format!("it holds an array of shape {found:?} where {shape:?} is wanted")));
        }
        return Ok(values);
    }
    if bytes.len() != expected {
        let reason = format!("it holds {} bytes where float32 values of shape {shape:?} take {expected}", bytes.len());
        return Err(broken(reason));
    }
    Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}
