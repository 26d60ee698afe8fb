//! Sharing the rows of a value among threads.

use std::ops::Range;

use crate::{
    BlocksMut, Extent, LANES,
    disjoint::Disjoint,
    machine::passes::{PIXELS, SMALL},
    team,
};

/// Runs `f` on ranges that cover `0..count`, in parallel where `work` floats per item in all make it worth while.
pub(crate) fn for_ranges(count: usize, work: usize, f: impl Fn(Range<usize>) + Sync + Send) {
    let pieces = (count * work / SMALL).min(4 * rayon::current_num_threads()).min(count);
    if pieces <= 1 {
        return f(0..count);
    }
    team::for_each(pieces, |i| f(i * count / pieces..(i + 1) * count / pieces));
}

/// The rows of an output, for kernels of which every thread writes some rows of all blocks.
pub(crate) struct RowsMut<'a> {
    planes: Vec<Disjoint<'a>>,
    extent: Extent,
}

impl<'a> RowsMut<'a> {
    /// Borrows every block of `out`.
    pub fn new(out: &'a mut BlocksMut<'_, '_>) -> Self {
        Self { extent: out.extent, planes: Disjoint::blocks(out) }
    }

    /// Row `y` of image `n` of a block.
    ///
    /// # Safety
    /// The contract of [`Disjoint`].
    #[inline(always)]
    pub unsafe fn row(&self, block: usize, n: usize, y: usize) -> &'a mut [f32] {
        let Extent { h, w, .. } = self.extent;
        debug_assert!(n < self.extent.n && y < h);
        // SAFETY: the caller's.
        unsafe { self.planes[block].piece((n * h + y) * w * LANES, w * LANES) }
    }
}

/// Runs `f(block, image, first pixel, pixels)` over runs of pixels of every block that stay within one image.
pub(crate) fn for_pixels(out: &mut BlocksMut<'_, '_>, f: impl Fn(usize, usize, usize, &mut [f32]) + Sync + Send) {
    for_pieces(out, PIXELS, f);
}

/// The same with runs of `len` pixels.
pub(crate) fn for_pieces(
    out: &mut BlocksMut<'_, '_>,
    len: usize,
    f: impl Fn(usize, usize, usize, &mut [f32]) + Sync + Send,
) {
    let extent = out.extent;
    if extent.is_empty() {
        return;
    }
    let small = extent.len() * out.planes.len() <= len * LANES;
    let mut pieces = Vec::new();
    for (block, plane) in out.planes.iter_mut().enumerate() {
        for (n, image) in plane[..extent.len()].chunks_mut(extent.h * extent.w * LANES).enumerate() {
            pieces.extend(image.chunks_mut(len * LANES).enumerate().map(|(i, pixels)| (block, n, i * len, pixels)));
        }
    }
    let run = |(block, n, first, pixels): (usize, usize, usize, &mut [f32])| f(block, n, first, pixels);
    if small {
        pieces.into_iter().for_each(run);
    } else {
        team::for_all(pieces, run);
    }
}
