//! Splatting: every pixel sends a weight of 1 along the flow (Wang et al., CVPR 2018, "Occlusion aware unsupervised learning of
//! optical flow").

use std::ops::Range;

use rayon::prelude::*;

use super::{Corners, Flow, Outside, bands};
use crate::Size;

/// The size of a range map that is `factor` times smaller than the flow.
pub fn splat_size(size: Size, factor: usize) -> Size {
    Size { height: size.height / factor, width: size.width / factor }
}

/// Where pixels send their weight.
struct Splat<'a> {
    flow: Flow<'a>,
    factor: usize,
    to: Size,
}

impl Splat<'_> {
    /// A smaller map is fed by half a block of pixels around the image as well, so that its border is as full as its middle; they move
    /// as the border does.
    fn padded(&self, side: usize) -> Range<isize> {
        let pad = (self.factor / 2) as isize;
        -pad..side as isize + pad
    }

    /// The index of the pixel whose flow moves `(x, y)`, and the neighbours of where it goes.
    #[inline(always)]
    fn target(&self, x: isize, y: isize) -> (usize, Corners) {
        let Size { height, width } = self.flow.window.size;
        let row = y.clamp(0, height as isize - 1) as usize;
        let i = row * width + x.clamp(0, width as isize - 1) as usize;
        let block = self.factor as f32;
        let place = |at: isize, motion: f32| (at as f32 + motion + (1.0 - block) * 0.5) / block;
        (i, Corners::at(place(x, self.flow.u[i]), place(y, self.flow.v[i]), self.to, Outside::Zero))
    }
}

/// The range map: how much arrives at each pixel when every pixel sends a weight of 1 along the flow, shared bilinearly by the
/// four pixels around its target. Weights that leave the image are lost, and so are those of flow that is not finite. With a
/// `factor` of more than 1 the map has one pixel for each block of `factor` x `factor` ([`splat_size`]) and holds the mean over the
/// block, so zero flow gives 1 everywhere.
///
/// # Panics
/// If the lengths do not fit the size, or the factor is 0.
pub fn splat(flow: &[f32], size: Size, factor: usize, range: &mut [f32]) {
    let to = splat_size(size, factor);
    assert_eq!(range.len(), to.height * to.width, "a range map of {to}");
    range.fill(0.0);
    if range.is_empty() {
        return;
    }
    let splat = Splat { flow: Flow::new(flow, size), factor, to };
    let share = 1.0 / (factor * factor) as f32;
    for y in splat.padded(size.height) {
        for x in splat.padded(size.width) {
            splat.target(x, y).1.add(range, share);
        }
    }
}

/// Adds the gradient of [`splat`] with respect to the flow to `d_flow` `[2, H, W]`.
///
/// # Panics
/// If the lengths do not fit the size, or the factor is 0.
pub fn splat_gradient(flow: &[f32], size: Size, factor: usize, d_range: &[f32], d_flow: &mut [f32]) {
    let to = splat_size(size, factor);
    assert_eq!((d_range.len(), d_flow.len()), (to.height * to.width, flow.len()), "a range map of {to}");
    if d_range.is_empty() {
        return;
    }
    let splat = Splat { flow: Flow::new(flow, size), factor, to };
    // A weight of 1 / factor^2, along coordinates that are divided by the factor.
    let share = 1.0 / (factor * factor * factor) as f32;
    let last = size.height - 1;
    bands(d_flow, size, 1).into_par_iter().enumerate().for_each(|(row, planes)| {
        let Ok([du, dv]) = <[&mut [f32]; 2]>::try_from(planes) else { unreachable!("a flow has two planes") };
        let padded = splat.padded(size.height);
        let first = if row == 0 { padded.start } else { row as isize };
        let end = if row == last { padded.end } else { row as isize + 1 };
        for y in first..end {
            for x in splat.padded(size.width) {
                let (i, corners) = splat.target(x, y);
                let (along, down) = corners.slopes(d_range);
                du[i - row * size.width] += share * along;
                dv[i - row * size.width] += share * down;
            }
        }
    });
}
