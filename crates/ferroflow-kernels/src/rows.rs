//! Sharing the rows of a value among threads.

use std::{marker::PhantomData, ops::Range};

use crate::{BlocksMut, Extent, LANES, team};

/// Runs `f` on ranges that cover `0..count`, in parallel where `work` floats per item in all make it worth while.
pub(crate) fn for_ranges(count: usize, work: usize, f: impl Fn(Range<usize>) + Sync + Send) {
    // Below this many floats the hand-over to another thread costs more than it saves.
    const SMALL: usize = 1 << 14;
    let pieces = (count * work / SMALL).min(4 * rayon::current_num_threads()).min(count);
    if pieces <= 1 {
        return f(0..count);
    }
    team::for_each(pieces, |i| f(i * count / pieces..(i + 1) * count / pieces));
}

/// The rows of an output, for kernels of which every thread writes some rows of all blocks.
pub(crate) struct RowsMut<'a> {
    planes: Vec<*mut f32>,
    extent: Extent,
    lifetime: PhantomData<&'a mut f32>,
}

// SAFETY: a row is only reached through the unsafe `row`, whose caller promises that no other thread uses it.
unsafe impl Sync for RowsMut<'_> {}
// SAFETY: as above; the pointers borrow the planes exclusively for `'a`.
unsafe impl Send for RowsMut<'_> {}

impl<'a> RowsMut<'a> {
    /// Borrows every block of `out`.
    pub fn new(out: &'a mut BlocksMut<'_, '_>) -> Self {
        let len = out.extent.len();
        let planes = out
            .planes
            .iter_mut()
            .map(|p| {
                assert!(p.len() >= len, "output block");
                p.as_mut_ptr()
            })
            .collect();
        Self { planes, extent: out.extent, lifetime: PhantomData }
    }

    /// Row `y` of image `n` of a block.
    ///
    /// # Safety
    /// No two live slices of the same row.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn row(&self, block: usize, n: usize, y: usize) -> &mut [f32] {
        let Extent { h, w, .. } = self.extent;
        debug_assert!(n < self.extent.n && y < h);
        // SAFETY: `new` checked that the block holds every row; the caller keeps the slices apart.
        unsafe { std::slice::from_raw_parts_mut(self.planes[block].add((n * h + y) * w * LANES), w * LANES) }
    }
}

/// A slice of which every thread writes some pieces, not in the order in which they lie.
pub(crate) struct PiecesMut<'a> {
    first: *mut f32,
    len: usize,
    lifetime: PhantomData<&'a mut f32>,
}

// SAFETY: a piece is only reached through the unsafe `piece`, whose caller promises that no other thread uses it.
unsafe impl Sync for PiecesMut<'_> {}
// SAFETY: as above; the pointer borrows the slice exclusively for `'a`.
unsafe impl Send for PiecesMut<'_> {}

impl<'a> PiecesMut<'a> {
    /// Borrows all of it.
    pub fn new(values: &'a mut [f32]) -> Self {
        Self { first: values.as_mut_ptr(), len: values.len(), lifetime: PhantomData }
    }

    /// `len` values from `start` on.
    ///
    /// # Safety
    /// No two live pieces that overlap.
    ///
    /// # Panics
    /// If it does not lie inside the slice.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn piece(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start <= self.len && len <= self.len - start, "piece");
        // SAFETY: it lies inside the slice; the caller keeps the pieces apart.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(start), len) }
    }
}

/// Runs `f(block, image, first pixel, pixels)` over runs of pixels of every block that stay within one image.
pub(crate) fn for_pixels(out: &mut BlocksMut<'_, '_>, f: impl Fn(usize, usize, usize, &mut [f32]) + Sync + Send) {
    // 64 KB of output at a time: half of an L2 with the inputs, and enough pieces for every thread.
    const PIXELS: usize = 1024;
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
