//! The transposed resize: every source pixel gathers from the outputs that read it.

use super::sampling::Tap;
use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Scratch, Update,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
};

/// The gradient of a [`super::Resize`], its positions computed once.
#[derive(Clone, Debug)]
pub struct ResizeGradient {
    /// Extent of the resize's input, whose gradient is computed.
    from: Extent,
    /// Extent of its output.
    to: Extent,
    rows: Transposed,
    columns: Transposed,
}

/// For each source coordinate of one axis: the destinations that read it, and with which weight.
#[derive(Clone, Debug)]
struct Transposed {
    /// Where the readers of each source begin, and the end of the last.
    starts: Vec<usize>,
    readers: Vec<(usize, f32)>,
}

impl Transposed {
    fn new(taps: &[Tap], from: usize) -> Self {
        let both = |tap: &Tap| [(tap.low, 1.0 - tap.weight), (tap.high, tap.weight)];
        let mut starts = vec![0; from + 1];
        let used =
            || taps.iter().enumerate().flat_map(|(to, tap)| both(tap).map(|(source, weight)| (source, to, weight)));
        for (source, _, _) in used().filter(|r| r.2 != 0.0) {
            starts[source + 1] += 1;
        }
        for source in 0..from {
            starts[source + 1] += starts[source];
        }
        let mut next = starts.clone();
        let mut readers = vec![(0, 0.0); starts[from]];
        for (source, to, weight) in used().filter(|r| r.2 != 0.0) {
            readers[next[source]] = (to, weight);
            next[source] += 1;
        }
        Self { starts, readers }
    }

    #[inline(always)]
    fn of(&self, source: usize) -> &[(usize, f32)] {
        &self.readers[self.starts[source]..self.starts[source + 1]]
    }
}

impl ResizeGradient {
    pub(super) fn new(from: Extent, to: Extent, rows: &[Tap], columns: &[Tap]) -> Self {
        Self { from, to, rows: Transposed::new(rows, from.h), columns: Transposed::new(columns, from.w) }
    }

    /// The gradient of [`super::Resize::run`] with the same `scale`: `g` has the extent of the output, `d` that of the input.
    pub fn run(
        &self,
        isa: Isa,
        g: Blocks<'_>,
        scale: &[f32],
        update: Update,
        d: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        assert_eq!((g.extent, d.extent), (self.to, self.from), "extent");
        assert_eq!(g.planes.len(), d.planes.len(), "blocks");
        assert!(scale.len() >= LANES * d.planes.len(), "factors");
        let blocks = d.planes.len();
        let rows = RowsMut::new(d);
        let Extent { n, h, w } = self.from;
        for_ranges(n * h * blocks, (w + self.to.w * self.rows.readers.len().div_ceil(h.max(1))) * LANES, |range| {
            scratch.with(self.to.w * LANES, |mixed| {
                for i in range {
                    let (block, n, y) = (i / (n * h), i / h % n, i % h);
                    // SAFETY: each `i` is one row of one block.
                    let d = unsafe { rows.row(block, n, y) };
                    let image = self.to.h * self.to.w * LANES;
                    let image = &g.planes[block][n * image..][..image];
                    let scale = &scale[block * LANES..][..LANES];
                    let mixed = &mut mixed[..self.to.w * LANES];
                    simd::run(isa, Row { gradient: self, image, y, scale, update, mixed, d });
                }
            });
        });
    }

    /// The gradient of [`super::Resize::run_flow`] with the same `scale`, from planar `[n][2][h][w]` to lanes 0 and 1 of the
    /// only block.
    pub fn run_flow(&self, g: &[f32], scale: [f32; 2], update: Update, d: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        assert_eq!(d.extent, self.from, "extent");
        let (wide, plane) = (self.to.w, self.to.h * self.to.w);
        assert_eq!(g.len(), self.to.n * 2 * plane, "gradient");
        let rows = RowsMut::new(d);
        let Extent { n, h, w } = self.from;
        for_ranges(n * h, 2 * wide * self.rows.readers.len().div_ceil(h.max(1)), |range| {
            scratch.with(wide, |mixed| {
                let mixed = &mut mixed[..wide];
                for i in range {
                    // SAFETY: each `i` is one row.
                    let d = unsafe { rows.row(0, i / h, i % h) };
                    if update == Update::Overwrite {
                        d.fill(0.0);
                    }
                    for (channel, &scale) in scale.iter().enumerate() {
                        let g = &g[(i / h * 2 + channel) * plane..][..plane];
                        mixed.fill(0.0);
                        for &(y, weight) in self.rows.of(i % h) {
                            let row = &g[y * wide..][..wide];
                            mixed.iter_mut().zip(row).for_each(|(sum, g)| *sum += weight * g);
                        }
                        for x in 0..w {
                            let sum: f32 = self.columns.of(x).iter().map(|&(x, weight)| weight * mixed[x]).sum();
                            d[x * LANES + channel] += scale * sum;
                        }
                    }
                }
            });
        });
    }
}

struct Row<'a> {
    gradient: &'a ResizeGradient,
    image: &'a [f32],
    y: usize,
    scale: &'a [f32],
    update: Update,
    mixed: &'a mut [f32],
    d: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { gradient, image, y, scale, update, mixed, d } = self;
        let len = mixed.len();
        // First the rows: two at a time, so that the sum is read and written half as often.
        let mut add = false;
        for pair in gradient.rows.of(y).chunks(2) {
            let ((a, a_weight), (b, b_weight)) = (pair[0], *pair.get(1).unwrap_or(&(pair[0].0, 0.0)));
            let (a, b) = (&image[a * len..][..len], &image[b * len..][..len]);
            let (a_weight, b_weight) = (S::splat(a_weight), S::splat(b_weight));
            for ((sum, a), b) in mixed.chunks_exact_mut(LANES).zip(a.chunks_exact(LANES)).zip(b.chunks_exact(LANES)) {
                let before = if add { S::read(sum) } else { S::zero() };
                let both = S::fma(a_weight, S::read(a), before);
                S::write(sum, S::fma(b_weight, S::read(b), both));
            }
            add = true;
        }
        if !add {
            mixed.fill(0.0);
        }
        let scale = S::read(scale);
        for (x, d) in d.chunks_exact_mut(LANES).enumerate() {
            let mut sum = S::zero();
            for &(x, weight) in gradient.columns.of(x) {
                sum = S::fma(S::splat(weight), S::read(&mixed[x * LANES..]), sum);
            }
            let before = if update == Update::Add { S::read(d) } else { S::zero() };
            S::write(d, S::fma(scale, sum, before));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        resize::{Resize, Sampling},
        testing::{Random, Value, both_updates},
    };

    /// Identity of the adjoint, exact weights: a unit gradient at each output finds the taps of that output.
    #[test]
    fn gradients_are_the_transposition() {
        let mut random = Random::new(30);
        let sizes = [(1, 1, 4, 4), (3, 5, 6, 10), (2, 7, 8, 28), (6, 9, 5, 4), (4, 4, 13, 7), (9, 11, 1, 1)];
        for (h, w, to_h, to_w) in sizes {
            for sampling in [Sampling::Nearest, Sampling::HalfPixel, Sampling::AlignCorners, Sampling::Asymmetric] {
                let (from, to) = (Extent { n: 2, h, w }, Extent { n: 2, h: to_h, w: to_w });
                let resize = Resize::new(from, to, sampling);
                let gradient = resize.gradient();
                let g = random.value(18, to);
                let mut scale = random.floats(32);
                scale[18..].fill(0.0);
                let weight = |taps: &[Tap], to: usize, from: usize| {
                    let Tap { low, high, weight } = taps[to];
                    f32::from(u8::from(low == from)) * (1.0 - weight) + f32::from(u8::from(high == from)) * weight
                };
                for isa in Isa::available() {
                    let scratch = Scratch::new();
                    let d = both_updates(18, from, |update, d| {
                        gradient.run(isa, g.blocks(), &scale, update, d, &scratch);
                    });
                    d.assert_close(1e-5, |c, n, y, x| {
                        let all = (0..to_h).flat_map(|i| (0..to_w).map(move |j| (i, j)));
                        let of = |(i, j)| weight(&resize.rows, i, y) * weight(&resize.columns, j, x) * g.at(c, n, i, j);
                        scale[c] * all.map(of).sum::<f32>()
                    });
                    let x = random.value(18, from);
                    let mut out = Value::zeroed(18, to);
                    out.write(|out| resize.run(isa, x.blocks(), &scale, out));
                    let (forward, backward) = (out.dot(&g), x.dot(&d));
                    assert!((forward - backward).abs() < 1e-4 * forward.abs().max(10.0), "{forward} {backward}");
                }

                let (flow, scratch) = (random.value(2, from), Scratch::new());
                let g = random.floats(2 * to.n * to_h * to_w);
                let d = both_updates(2, from, |update, d| gradient.run_flow(&g, [1.5, -1.0], update, d, &scratch));
                let mut out = vec![0.0; g.len()];
                resize.run_flow(Isa::detect(), flow.blocks(), [1.5, -1.0], &mut out, &scratch);
                let forward: f64 = out.iter().zip(&g).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                assert!(
                    (forward - flow.dot(&d)).abs() < 1e-4 * forward.abs().max(10.0),
                    "{sampling:?} {from:?} {to:?}"
                );
            }
        }
    }
}
