//! Spring's `.flo5`: HDF5 with one data set `flow`, float32 `[2 H, 2 W, 2]`, u then v in pixels of the `[H, W]` frames.
//!
//! Ground truth has twice the frames' resolution. As Spring's own tools do, every second value of every second row is
//! taken; NaN means unknown. It is read, never written.

mod hdf5;
#[cfg(test)]
mod tests;

use super::FormatError;
use crate::{FlowField, Size};
use hdf5::{Dataset, Hdf5Error};

/// HDF5's first bytes.
pub(super) const MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

pub(super) const FORMAT: &str = ".flo5";

/// Flow from the bytes of a `.flo5` file.
///
/// # Errors
/// If they break HDF5's rules, or use what no `.flo5` file does.
pub fn decode(bytes: &[u8]) -> Result<FlowField, FormatError> {
    flow(bytes).map_err(|error| match error {
        Hdf5Error::Unsupported(_) => FormatError::unsupported(FORMAT, error.to_string()),
        Hdf5Error::Truncated | Hdf5Error::Damaged(_) => FormatError::malformed(FORMAT, error.to_string()),
    })
}

fn flow(bytes: &[u8]) -> Result<FlowField, Hdf5Error> {
    let set = Dataset::<3>::open(bytes, "flow")?;
    let [height, width, 2] = set.shape else {
        return Err(Hdf5Error::Unsupported("its flow has not two values a pixel"));
    };
    // The data set was measured against the file, so these fit.
    let (height, width) = (height as usize, width as usize);
    let [rows, columns, planes] = set.chunk.map(|side| side as usize);
    let (h, w) = (height.div_ceil(2), width.div_ceil(2));
    let mut flow = [vec![f32::NAN; w * h], vec![f32::NAN; w * h]];
    set.for_each_chunk(|offset, values| {
        let [top, left, plane] = offset.map(|at| at as usize);
        for y in (top.next_multiple_of(2)..height.min(top + rows)).step_by(2) {
            for x in (left.next_multiple_of(2)..width.min(left + columns)).step_by(2) {
                let at = ((y - top) * columns + x - left) * planes;
                for p in plane..(plane + planes).min(2) {
                    flow[p][y / 2 * w + x / 2] = f32::from_le_bytes(values[at + p - plane]);
                }
            }
        }
    })?;
    let [u, v] = flow;
    let known = |i: usize| (u[i].is_finite() && v[i].is_finite()).then(|| (u[i], v[i]));
    if (0..w * h).all(|i| known(i).is_some()) {
        return FlowField::new(Size::new(h, w), u, v).map_err(|_| Hdf5Error::Damaged("its size makes no sense"));
    }
    Ok(FlowField::sparse_from_fn(Size::new(h, w), |x, y| known(y * w + x)))
}
