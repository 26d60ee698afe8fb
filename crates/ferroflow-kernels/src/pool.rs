//! Average pooling over windows that lie side by side, and its gradient.

use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Update,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
};

/// Mean of each window of `size` x `size` pixels; what is left over at the right and the bottom is not read.
pub fn average_pool(isa: Isa, x: Blocks<'_>, size: usize, out: &mut BlocksMut<'_, '_>) {
    check(x.extent, x.planes.len(), size, out.extent, out.planes.len());
    let Extent { n, h, .. } = out.extent;
    let (from, rows) = (x.extent, RowsMut::new(out));
    for_ranges(x.planes.len() * n * h, from.w * size * LANES, |range| {
        for i in range {
            let (block, n, y) = (i / h / n, i / h % n, i % h);
            let pixels = &x.planes[block][(n * from.h + y * size) * from.w * LANES..][..size * from.w * LANES];
            // SAFETY: each `i` is one row of one block.
            let to = unsafe { rows.row(block, n, y) };
            simd::run(isa, Means { pixels, width: from.w, size, to });
        }
    });
}

fn check(from: Extent, from_blocks: usize, size: usize, to: Extent, to_blocks: usize) {
    assert!(size > 0, "an empty window");
    assert_eq!((Extent { n: from.n, h: from.h / size, w: from.w / size }, from_blocks), (to, to_blocks), "extent");
}

struct Means<'a> {
    /// The rows of a row of windows.
    pixels: &'a [f32],
    width: usize,
    size: usize,
    to: &'a mut [f32],
}

impl Kernel for Means<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { pixels, width, size, to } = self;
        let share = S::splat(1.0 / (size * size) as f32);
        for (i, to) in to.chunks_exact_mut(LANES).enumerate() {
            let mut sum = S::zero();
            for y in 0..size {
                for pixel in pixels[(y * width + i * size) * LANES..][..size * LANES].chunks_exact(LANES) {
                    sum = S::add(sum, S::read(pixel));
                }
            }
            S::write(to, S::mul(sum, share));
        }
    }
}

/// The gradient of [`average_pool`]: every pixel's share of its window's, 0 outside all windows.
pub fn average_pool_gradient(isa: Isa, g: Blocks<'_>, size: usize, update: Update, d: &mut BlocksMut<'_, '_>) {
    check(d.extent, d.planes.len(), size, g.extent, g.planes.len());
    let Extent { n, h, w } = d.extent;
    let (from, rows) = (g.extent, RowsMut::new(d));
    for_ranges(g.planes.len() * n * h, w * LANES, |range| {
        for i in range {
            let (block, n, y) = (i / h / n, i / h % n, i % h);
            // SAFETY: each `i` is one row of one block.
            let to = unsafe { rows.row(block, n, y) };
            let windows = if y / size < from.h {
                &g.planes[block][(n * from.h + y / size) * from.w * LANES..][..from.w * LANES]
            } else {
                &[]
            };
            simd::run(isa, Shares { windows, size, update, to });
        }
    });
}

struct Shares<'a> {
    /// The row of windows that a row of pixels lies in; none for a row outside all.
    windows: &'a [f32],
    size: usize,
    update: Update,
    to: &'a mut [f32],
}

impl Kernel for Shares<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { windows, size, update, to } = self;
        let share = S::splat(1.0 / (size * size) as f32);
        let (inside, outside) = to.split_at_mut(windows.len() * size);
        for (pixels, g) in inside.chunks_exact_mut(size * LANES).zip(windows.chunks_exact(LANES)) {
            let new = S::mul(S::read(g), share);
            for pixel in pixels.chunks_exact_mut(LANES) {
                S::write(pixel, if update == Update::Add { S::add(S::read(pixel), new) } else { new });
            }
        }
        if update == Update::Overwrite {
            outside.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, Value, both_updates};

    #[test]
    fn pooling_and_its_gradient_follow_the_formulas() {
        let mut random = Random::new(38);
        for (channels, size, [n, h, w]) in
            [(3, 2, [2, 4, 6]), (19, 2, [1, 7, 9]), (35, 3, [2, 10, 65]), (16, 1, [1, 5, 5]), (5, 2, [1, 66, 131])]
        {
            let (from, to) = (Extent { n, h, w }, Extent { n, h: h / size, w: w / size });
            let (x, g) = (random.value(channels, from), random.value(channels, to));
            let area = (size * size) as f32;
            for isa in Isa::available() {
                let mut y = Value::zeroed(channels, to);
                y.write(|out| average_pool(isa, x.blocks(), size, out));
                y.assert_close(1e-6, |c, n, i, j| {
                    let window = (0..size * size).map(|k| x.at(c, n, i * size + k / size, j * size + k % size));
                    window.sum::<f32>() / area
                });
                let d =
                    both_updates(channels, from, |update, d| average_pool_gradient(isa, g.blocks(), size, update, d));
                d.assert_close(1e-6, |c, n, i, j| {
                    if i / size < to.h && j / size < to.w { g.at(c, n, i / size, j / size) / area } else { 0.0 }
                });
            }
        }
    }
}
