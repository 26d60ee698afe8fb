//! Statistics over pixels and channels: channel mean, channel norm, moments, standardisation, instance norm, layer norm; and
//! their gradients. Sums over pixels are kept in f64.

mod gradient;
mod instance;
mod layer;

pub use gradient::{channel_mean_gradient, channel_norm_gradient, moments_gradient, pixel_sum, standardise_gradient};
pub use instance::{instance_norm, instance_norm_gradient};
pub use layer::{LayerNorm, LayerNormGradient, product_sums};

use std::ops::Range;

use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES,
    rows::for_pixels,
    simd::{self, Kernel, Simd},
    team,
};

/// Mean over the pixels of all inputs (one extent each), per image and channel; `out` has one pixel per image.
pub fn channel_mean(isa: Isa, inputs: &[Blocks<'_>], out: &mut BlocksMut<'_, '_>) {
    let Some(&Blocks { extent, .. }) = inputs.first() else { return };
    assert_eq!((out.extent.n, out.extent.h, out.extent.w), (extent.n, 1, 1), "extent");
    let pixels = extent.h * extent.w;
    for (block, plane) in out.planes.iter_mut().enumerate() {
        for n in 0..extent.n {
            let mut mean = [0.0f64; LANES];
            for x in inputs {
                let [sum, _] = sums(isa, &x.planes[block][n * pixels * LANES..][..pixels * LANES]);
                for (m, s) in mean.iter_mut().zip(sum) {
                    *m += s;
                }
            }
            for (to, m) in plane[n * LANES..][..LANES].iter_mut().zip(mean) {
                *to = (m / (pixels * inputs.len()) as f64) as f32;
            }
        }
    }
}

/// Values to sum, 16 per pixel, less a number per lane.
#[derive(Clone, Copy)]
pub(crate) struct Shifted<'a> {
    pub values: &'a [f32],
    pub by: [f32; LANES],
}

/// Two sums per lane.
pub(crate) type Sums = [[f64; LANES]; 2];

/// Sums of the values and of their squares per lane.
fn sums(isa: Isa, pixels: &[f32]) -> Sums {
    let x = Shifted { values: pixels, by: [0.0; LANES] };
    products(isa, &[[x, x]])[0]
}

/// Of each pair `[a, b]`, all of one length, the sums of `a` and of `a * b` per lane, in parallel.
pub(crate) fn products(isa: Isa, pairs: &[[Shifted<'_>; 2]]) -> Vec<Sums> {
    let len = pairs.first().map_or(0, |[a, _]| a.values.len());
    in_pieces(pairs.len(), len, |i, piece| {
        let [a, b] = pairs[i].map(|x| x.part(&piece));
        simd::run(isa, Products { a, b })
    })
}

/// For each number below `count` the sums of `len` floats, from those of its pieces.
pub(crate) fn in_pieces(
    count: usize,
    len: usize,
    sums: impl Fn(usize, Range<usize>) -> Sums + Sync + Send,
) -> Vec<Sums> {
    // Fixed pieces, added in their order: the result does not depend on the number of threads.
    const PIECE: usize = 1 << 16;
    let pieces = len.div_ceil(PIECE).max(1);
    let piece = |i: usize| i * PIECE..len.min((i + 1) * PIECE);
    let parts: Vec<Sums> = team::map(0..count * pieces, |i| sums(i / pieces, piece(i % pieces))).collect();
    let total = |parts: &[Sums]| {
        parts.iter().fold([[0.0; LANES]; 2], |total, part| {
            std::array::from_fn(|i| std::array::from_fn(|lane| total[i][lane] + part[i][lane]))
        })
    };
    parts.chunks(pieces).map(total).collect()
}

impl Shifted<'_> {
    fn part(&self, range: &Range<usize>) -> Self {
        Self { values: &self.values[range.clone()], by: self.by }
    }
}

struct Products<'a> {
    a: Shifted<'a>,
    b: Shifted<'a>,
}

/// Pixels summed in f32, whose rounding stays far below that of the values, before f64 takes over.
pub(crate) const RUN: usize = 64;

impl Kernel for Products<'_> {
    type Output = Sums;
    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let mut total = [[0.0; LANES]; 2];
        for (a, b) in self.a.values.chunks(RUN * LANES).zip(self.b.values.chunks(RUN * LANES)) {
            let (a_shift, b_shift) = (S::read(&self.a.by), S::read(&self.b.by));
            let (mut sum, mut product) = (S::zero(), S::zero());
            for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
                let a = S::sub(S::read(a), a_shift);
                sum = S::add(sum, a);
                product = S::fma(a, S::sub(S::read(b), b_shift), product);
            }
            add_lanes::<S>(&mut total, sum, product);
        }
        total
    }
}

/// Adds two vectors to sums in f64.
#[inline(always)]
pub(crate) fn add_lanes<S: Simd>(total: &mut Sums, first: S::V, second: S::V) {
    for (total, v) in total.iter_mut().zip([first, second]) {
        let mut lanes = [0.0f32; LANES];
        S::write(&mut lanes, v);
        for (total, lane) in total.iter_mut().zip(lanes) {
            *total += f64::from(lane);
        }
    }
}

/// `sqrt(max(sum over channels of x^2, floor))` into lane 0 of the single output block.
pub fn channel_norm(isa: Isa, x: Blocks<'_>, floor: f32, out: &mut BlocksMut<'_, '_>) {
    assert_eq!((x.extent, out.planes.len()), (out.extent, 1), "extent");
    let image = x.extent.h * x.extent.w * LANES;
    for_pixels(out, |_, n, first, out| simd::run(isa, Norm { x, start: n * image + first * LANES, floor, out }));
}

struct Norm<'a> {
    x: Blocks<'a>,
    start: usize,
    floor: f32,
    out: &'a mut [f32],
}

impl Kernel for Norm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        for (i, out) in self.out.chunks_exact_mut(LANES).enumerate() {
            let mut squares = S::zero();
            for plane in self.x.planes {
                let x = S::read(&plane[self.start + i * LANES..]);
                squares = S::fma(x, x, squares);
            }
            out.fill(0.0);
            out[0] = S::sum(squares).max(self.floor).sqrt();
        }
    }
}

/// Mean and biased variance over channels and pixels of each input, averaged over the two (and, with `batch`, over the
/// images): lanes 0 and 1 of the single pixel per image. `channels` is their number without padding.
pub fn moments(isa: Isa, inputs: [Blocks<'_>; 2], channels: usize, batch: bool, out: &mut BlocksMut<'_, '_>) {
    let Extent { n: images, h, w } = inputs[0].extent;
    assert_eq!((out.extent, out.planes.len()), (Extent { n: images, h: 1, w: 1 }, 1), "extent");
    let count = (channels * h * w) as f64;
    let of_image = |x: &Blocks<'_>, n: usize| {
        let (mut sum, mut squares) = (0.0, 0.0);
        for plane in x.planes {
            let [s, q] = sums(isa, &plane[n * h * w * LANES..][..h * w * LANES]);
            sum += s.iter().sum::<f64>();
            squares += q.iter().sum::<f64>();
        }
        let mean = sum / count;
        (mean, (squares / count - mean * mean).max(0.0))
    };
    let pair = |images: Range<usize>| {
        let count = 2.0 * images.len() as f64;
        let all = images.flat_map(|n| inputs.iter().map(move |x| (x, n)));
        let (mean, variance) = all.map(|(x, n)| of_image(x, n)).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        [(mean / count) as f32, (variance / count) as f32]
    };
    let whole = batch.then(|| pair(0..images));
    for n in 0..images {
        let values = whole.unwrap_or_else(|| pair(n..n + 1));
        let pixel = &mut out.planes[0][n * LANES..][..LANES];
        pixel.fill(0.0);
        pixel[..2].copy_from_slice(&values);
    }
}

/// `(x - mean) / sqrt(variance + epsilon)` with the output of [`moments`].
pub fn standardise(
    isa: Isa,
    x: Blocks<'_>,
    channels: usize,
    moments: Blocks<'_>,
    epsilon: f32,
    out: &mut BlocksMut<'_, '_>,
) {
    assert_eq!(x.extent, out.extent, "extent");
    let image = x.extent.h * x.extent.w * LANES;
    for_pixels(out, |block, n, first, out| {
        let x = &x.planes[block][n * image + first * LANES..][..out.len()];
        let (mean, variance) = (moments.planes[0][n * LANES], moments.planes[0][n * LANES + 1]);
        let factor = (1.0 / (f64::from(variance) + f64::from(epsilon)).sqrt()) as f32;
        let filled = LANES.min(channels - block * LANES);
        let mut factors = [0.0; LANES];
        factors[..filled].fill(factor);
        simd::run(isa, Standardise { x, mean, factors, out });
    });
}

struct Standardise<'a> {
    x: &'a [f32],
    mean: f32,
    factors: [f32; LANES],
    out: &'a mut [f32],
}

impl Kernel for Standardise<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (mean, factors) = (S::splat(self.mean), S::read(&self.factors));
        for (x, out) in self.x.chunks_exact(LANES).zip(self.out.chunks_exact_mut(LANES)) {
            S::write(out, S::mul(S::sub(S::read(x), mean), factors));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, Value};

    fn every(extent: Extent, f: impl Fn(usize, usize, usize) -> f64) -> f64 {
        let Extent { n, h, w } = extent;
        let all = (0..n).flat_map(|n| (0..h).flat_map(move |y| (0..w).map(move |x| (n, y, x))));
        all.map(|(n, y, x)| f(n, y, x)).sum()
    }

    #[test]
    fn statistics_follow_their_formulas() {
        let mut random = Random::new(2);
        for (channels, extent) in [(3, Extent { n: 2, h: 5, w: 7 }), (37, Extent { n: 2, h: 40, w: 61 })] {
            let (a, b) = (random.value(channels, extent), random.value(channels, extent));
            let image = Extent { n: 1, ..extent };
            let small = Extent { n: extent.n, h: 1, w: 1 };
            let count = (extent.h * extent.w) as f64;
            for isa in Isa::available() {
                let mut mean = Value::zeroed(channels, small);
                mean.write(|out| channel_mean(isa, &[a.blocks(), b.blocks()], out));
                mean.assert_close(1e-6, |c, n, _, _| {
                    let sum = every(image, |_, y, x| f64::from(a.at(c, n, y, x)) + f64::from(b.at(c, n, y, x)));
                    (sum / (2.0 * count)) as f32
                });

                let mut norm = Value::zeroed(1, extent);
                norm.write(|out| channel_norm(isa, a.blocks(), 0.5, out));
                norm.assert_close(1e-6, |_, n, y, x| {
                    (0..channels).map(|c| a.at(c, n, y, x).powi(2)).sum::<f32>().max(0.5).sqrt()
                });

                for batch in [false, true] {
                    let mut both = Value::zeroed(2, small);
                    both.write(|out| moments(isa, [a.blocks(), b.blocks()], channels, batch, out));
                    let of = |v: &Value, n: usize| {
                        let all = count * channels as f64;
                        let sum = |f: &dyn Fn(f64) -> f64| {
                            every(image, |_, y, x| (0..channels).map(|c| f(f64::from(v.at(c, n, y, x)))).sum()) / all
                        };
                        let mean = sum(&|x| x);
                        [mean, sum(&|x| (x - mean).powi(2))]
                    };
                    both.assert_close(1e-5, |c, n, _, _| {
                        let images = if batch { 0..extent.n } else { n..n + 1 };
                        let count = 2.0 * images.len() as f64;
                        (images.map(|n| of(&a, n)[c] + of(&b, n)[c]).sum::<f64>() / count) as f32
                    });
                    let mut standard = Value::zeroed(channels, extent);
                    standard.write(|out| standardise(isa, a.blocks(), channels, both.blocks(), 1e-16, out));
                    standard.assert_close(1e-5, |c, n, y, x| {
                        (a.at(c, n, y, x) - both.at(0, n, 0, 0)) / both.at(1, n, 0, 0).sqrt()
                    });
                }
            }
        }
    }
}
