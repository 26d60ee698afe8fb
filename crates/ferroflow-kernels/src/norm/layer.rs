//! Layer norm: each pixel less the mean of its channels and divided by their standard deviation, times a factor and plus a
//! summand for each channel.

use std::ops::Range;

use super::{Shifted, products};
use crate::{
    Blocks, BlocksMut, Isa, LANES, Update,
    activation::lanes,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
    team,
};

/// Pixels whose terms one task sums.
const PIECE: usize = 2048;

/// A layer norm of values of `channels` channels.
#[derive(Clone, Copy)]
pub struct LayerNorm<'a> {
    /// Of the value; lanes past them hold 0.
    pub channels: usize,
    /// One factor for each lane, 0 in padding lanes.
    pub scale: &'a [f32],
    /// One summand for each lane, 0 in padding lanes.
    pub shift: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

impl LayerNorm<'_> {
    /// `(x - mean) / sqrt(variance + epsilon) * scale + shift`
    pub fn run(&self, isa: Isa, x: Blocks<'_>, out: &mut BlocksMut<'_, '_>) {
        assert_eq!((x.extent, x.planes.len()), (out.extent, out.planes.len()), "extent");
        self.check(x);
        let (h, w, blocks) = (out.extent.h, out.extent.w, out.planes.len());
        let (rows, count) = (RowsMut::new(out), x.extent.n * x.extent.h);
        for_ranges(count, w * LANES * blocks, |range| {
            for i in range {
                // SAFETY: each `i` is one row.
                let to: Vec<&mut [f32]> = (0..blocks).map(|b| unsafe { rows.row(b, i / h, i % h) }).collect();
                simd::run(isa, Forward { norm: self, x, first: i * w, to });
            }
        });
    }

    fn check(&self, x: Blocks<'_>) {
        let lanes = x.planes.len() * LANES;
        assert!((1..=lanes).contains(&self.channels) && self.channels + LANES > lanes, "channels");
        assert!(self.scale.len() >= lanes && self.shift.len() >= lanes, "factors");
        assert!(x.planes.iter().all(|plane| plane.len() >= x.extent.len()), "a block of the value");
    }

    /// `1 / sqrt(variance + epsilon)`, and the mean, of the channels of the pixel that is `at` floats into the planes.
    #[inline(always)]
    fn statistics<S: Simd>(&self, x: Blocks<'_>, at: usize) -> (f32, f32) {
        let count = self.channels as f32;
        let mut sum = S::zero();
        for plane in x.planes {
            sum = S::add(sum, S::read(&plane[at..]));
        }
        let mean = S::sum(sum) / count;
        let mut squares = S::zero();
        for (block, plane) in x.planes.iter().enumerate() {
            let mut centred = S::sub(S::read(&plane[at..]), S::splat(mean));
            if (block + 1) * LANES > self.channels {
                centred = S::mul(centred, S::read(&lanes(self.channels, block)));
            }
            squares = S::fma(centred, centred, squares);
        }
        (1.0 / (S::sum(squares) / count + self.epsilon).sqrt(), mean)
    }
}

struct Forward<'a, 'b> {
    norm: &'a LayerNorm<'a>,
    x: Blocks<'a>,
    first: usize,
    to: Vec<&'b mut [f32]>,
}

impl Kernel for Forward<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self) {
        let LayerNorm { scale, shift, .. } = self.norm;
        for i in 0..self.x.extent.w {
            let at = (self.first + i) * LANES;
            let (inverse, mean) = self.norm.statistics::<S>(self.x, at);
            let (inverse, mean) = (S::splat(inverse), S::splat(mean));
            for (block, (plane, to)) in self.x.planes.iter().zip(&mut self.to).enumerate() {
                let unit = S::mul(S::sub(S::read(&plane[at..]), mean), inverse);
                let [scale, shift] = [scale, shift].map(|v| S::read(&v[block * LANES..]));
                S::write(&mut to[i * LANES..], S::fma(unit, scale, shift));
            }
        }
    }
}

/// The gradients of a layer norm.
#[derive(Clone, Copy)]
pub struct LayerNormGradient<'a> {
    /// Of which.
    pub norm: LayerNorm<'a>,
    /// The value that was normalised.
    pub x: Blocks<'a>,
    /// The gradient of the result.
    pub g: Blocks<'a>,
}

impl LayerNormGradient<'_> {
    /// That of `x`.
    pub fn input(&self, isa: Isa, update: Update, d: &mut BlocksMut<'_, '_>) {
        self.check();
        assert_eq!((self.x.extent, self.x.planes.len()), (d.extent, d.planes.len()), "extent");
        let (h, w, blocks) = (d.extent.h, d.extent.w, d.planes.len());
        let (rows, count) = (RowsMut::new(d), self.x.extent.n * h);
        for_ranges(count, w * LANES * blocks, |range| {
            for i in range {
                // SAFETY: each `i` is one row.
                let to: Vec<&mut [f32]> = (0..blocks).map(|b| unsafe { rows.row(b, i / h, i % h) }).collect();
                simd::run(isa, Input { gradient: self, first: i * w, update, to });
            }
        });
    }

    /// Adds those of the factors and the summands, one for each channel.
    pub fn parameters(&self, isa: Isa, d_scale: &mut [f32], d_shift: &mut [f32]) {
        self.check();
        let pixels = self.x.extent.n * self.x.extent.h * self.x.extent.w;
        // Fixed pieces, added in their order: the result does not depend on the number of threads.
        let pieces = pixels.div_ceil(PIECE);
        let parts: Vec<[Vec<f32>; 2]> = team::map(0..pieces, |i| {
            simd::run(isa, Parameters { gradient: self, pixels: i * PIECE..pixels.min((i + 1) * PIECE) })
        })
        .collect();
        for (which, sums) in [d_scale, d_shift].into_iter().enumerate() {
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum += parts.iter().map(|part| f64::from(part[which][lane])).sum::<f64>() as f32;
            }
        }
    }

    fn check(&self) {
        self.norm.check(self.x);
        assert_eq!((self.x.extent, self.x.planes.len()), (self.g.extent, self.g.planes.len()), "extent");
        assert!(self.g.planes.iter().all(|plane| plane.len() >= self.g.extent.len()), "a block of the gradient");
    }
}

struct Input<'a, 'b> {
    gradient: &'a LayerNormGradient<'a>,
    first: usize,
    update: Update,
    to: Vec<&'b mut [f32]>,
}

impl Kernel for Input<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self) {
        let LayerNormGradient { norm, x, g } = *self.gradient;
        let count = norm.channels as f32;
        for i in 0..x.extent.w {
            let at = (self.first + i) * LANES;
            let (inverse, mean) = norm.statistics::<S>(x, at);
            let (inverse, mean) = (S::splat(inverse), S::splat(mean));
            let (mut sum, mut product) = (S::zero(), S::zero());
            for (block, (x, g)) in x.planes.iter().zip(g.planes).enumerate() {
                let g = S::mul(S::read(&g[at..]), S::read(&norm.scale[block * LANES..]));
                sum = S::add(sum, g);
                product = S::fma(g, S::mul(S::sub(S::read(&x[at..]), mean), inverse), product);
            }
            let (mean_g, slope) = (S::splat(S::sum(sum) / count), S::splat(S::sum(product) / count));
            for (block, ((x, g), to)) in x.planes.iter().zip(g.planes).zip(&mut self.to).enumerate() {
                let g = S::mul(S::read(&g[at..]), S::read(&norm.scale[block * LANES..]));
                let unit = S::mul(S::sub(S::read(&x[at..]), mean), inverse);
                let mut new = S::mul(S::sub(S::sub(g, mean_g), S::mul(unit, slope)), inverse);
                if (block + 1) * LANES > norm.channels {
                    new = S::mul(new, S::read(&lanes(norm.channels, block)));
                }
                let to = &mut to[i * LANES..];
                S::write(to, if self.update == Update::Add { S::add(S::read(to), new) } else { new });
            }
        }
    }
}

/// Sums over some pixels of `g * unit` and of `g`, of each lane.
struct Parameters<'a> {
    gradient: &'a LayerNormGradient<'a>,
    pixels: Range<usize>,
}

impl Kernel for Parameters<'_> {
    type Output = [Vec<f32>; 2];
    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let LayerNormGradient { norm, x, g } = *self.gradient;
        let mut sums = [0, 1].map(|_| vec![0.0f32; x.planes.len() * LANES]);
        for pixel in self.pixels {
            let at = pixel * LANES;
            let (inverse, mean) = norm.statistics::<S>(x, at);
            let (inverse, mean) = (S::splat(inverse), S::splat(mean));
            for (block, (x, g)) in x.planes.iter().zip(g.planes).enumerate() {
                let g = S::read(&g[at..]);
                let unit = S::mul(S::sub(S::read(&x[at..]), mean), inverse);
                let [products, plain] = sums.each_mut().map(|sums| &mut sums[block * LANES..][..LANES]);
                S::write(products, S::fma(g, unit, S::read(products)));
                S::write(plain, S::add(S::read(plain), g));
            }
        }
        sums
    }
}

/// Of each lane, the sum over the pixels of all images of `g * x`: the gradient of a factor for each channel.
pub fn product_sums(isa: Isa, g: Blocks<'_>, x: Blocks<'_>) -> Vec<f64> {
    assert_eq!((g.extent, g.planes.len()), (x.extent, x.planes.len()), "extent");
    let len = g.extent.len();
    let pairs = g
        .planes
        .iter()
        .zip(x.planes)
        .map(|(g, x)| [g, x].map(|plane| Shifted { values: &plane[..len], by: [0.0; LANES] }));
    products(isa, &pairs.collect::<Vec<_>>()).into_iter().flat_map(|[_, products]| products).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Extent,
        testing::{Random, Value, both_updates, on_any_threads},
    };

    #[test]
    fn layer_norm_and_its_gradients_follow_the_formulas() {
        const EPSILON: f32 = 1e-3;
        let mut random = Random::new(37);
        let cases = [
            (3, Extent { n: 2, h: 1, w: 1 }),
            (16, Extent { n: 1, h: 3, w: 5 }),
            (35, Extent { n: 3, h: 5, w: 7 }),
            (96, Extent { n: 1, h: 3, w: 5 }),
            (5, Extent { n: 2, h: 41, w: 53 }),
        ];
        for (channels, extent) in cases {
            let (x, g) = (random.value(channels, extent), random.value(channels, extent));
            let lanes = channels.next_multiple_of(LANES);
            let [scale, shift] = [(); 2].map(|()| {
                let mut v = random.floats(lanes);
                v[channels..].fill(0.0);
                v
            });
            let norm = LayerNorm { channels, scale: &scale, shift: &shift, epsilon: EPSILON };
            let count = channels as f64;
            let statistics = |n: usize, i: usize, j: usize| {
                let all = (0..channels).map(|c| f64::from(x.at(c, n, i, j)));
                let mean = all.clone().sum::<f64>() / count;
                (mean, 1.0 / (all.map(|v| (v - mean).powi(2)).sum::<f64>() / count + f64::from(EPSILON)).sqrt())
            };
            let unit = |c: usize, n: usize, i: usize, j: usize| {
                let (mean, inverse) = statistics(n, i, j);
                (f64::from(x.at(c, n, i, j)) - mean) * inverse
            };
            let scaled = |c: usize, n: usize, i: usize, j: usize| f64::from(g.at(c, n, i, j) * scale[c]);
            for isa in Isa::available() {
                let mut y = Value::zeroed(channels, extent);
                y.write(|out| norm.run(isa, x.blocks(), out));
                y.assert_close(1e-5, |c, n, i, j| {
                    (unit(c, n, i, j) * f64::from(scale[c]) + f64::from(shift[c])) as f32
                });
                let gradient = LayerNormGradient { norm, x: x.blocks(), g: g.blocks() };
                let d = both_updates(channels, extent, |update, d| gradient.input(isa, update, d));
                d.assert_close(1e-4, |c, n, i, j| {
                    let mean = |f: &dyn Fn(usize) -> f64| (0..channels).map(f).sum::<f64>() / count;
                    let mean_g = mean(&|c| scaled(c, n, i, j));
                    let slope = mean(&|c| scaled(c, n, i, j) * unit(c, n, i, j));
                    let (_, inverse) = statistics(n, i, j);
                    (inverse * (scaled(c, n, i, j) - mean_g - unit(c, n, i, j) * slope)) as f32
                });
                let whole = Extent { n: 1, h: 1, w: 1 };
                let sums = on_any_threads(|| {
                    let mut sums = [vec![1.0; channels], vec![1.0; channels]];
                    let [d_scale, d_shift] = &mut sums;
                    gradient.parameters(isa, d_scale, d_shift);
                    let value = |v: &Vec<f32>| Value {
                        channels,
                        extent: whole,
                        buffers: crate::layout::to_blocks(v, channels, whole),
                    };
                    sums.iter().map(value).collect()
                });
                let total = |f: &dyn Fn(usize, usize, usize) -> f64| {
                    let Extent { n, h, w } = extent;
                    (0..n * h * w).map(|k| f(k / w / h, k / w % h, k % w)).sum::<f64>()
                };
                sums[0].assert_close(1e-4, |c, _, _, _| {
                    (1.0 + total(&|n, i, j| f64::from(g.at(c, n, i, j)) * unit(c, n, i, j))) as f32
                });
                sums[1].assert_close(1e-4, |c, _, _, _| (1.0 + total(&|n, i, j| f64::from(g.at(c, n, i, j)))) as f32);
                let products = product_sums(isa, g.blocks(), x.blocks());
                for (c, product) in products.iter().enumerate().take(channels) {
                    let want = total(&|n, i, j| f64::from(g.at(c, n, i, j)) * f64::from(x.at(c, n, i, j)));
                    assert!((product - want).abs() < 1e-4, "{product}, not {want}");
                }
            }
        }
    }
}
