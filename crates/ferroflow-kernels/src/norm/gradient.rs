//! Gradients of the statistics.

use super::{Shifted, products, sums};
use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Update,
    elementwise::{accumulate, scale},
    rows::for_pixels,
    simd::{self, Kernel, Simd},
};

/// `factor` times the sum of `g` over the pixels of each image: the gradient of a value of one pixel per image that
/// served all (the second operand of [`crate::elementwise::combine`]).
pub fn pixel_sum(isa: Isa, g: Blocks<'_>, factor: f32, update: Update, d: &mut BlocksMut<'_, '_>) {
    let Extent { n: images, h, w } = g.extent;
    assert_eq!((d.extent, d.planes.len()), (Extent { n: images, h: 1, w: 1 }, g.planes.len()), "extent");
    for (plane, d) in g.planes.iter().zip(d.planes.iter_mut()) {
        for (n, d) in d.chunks_exact_mut(LANES).enumerate().take(images) {
            let [sum, _] = sums(isa, &plane[n * h * w * LANES..][..h * w * LANES]);
            for (d, sum) in d.iter_mut().zip(sum) {
                put(d, f64::from(factor) * sum, update);
            }
        }
    }
}

fn put(d: &mut f32, value: f64, update: Update) {
    *d = if update == Update::Add { *d + value as f32 } else { value as f32 };
}

/// Gradient of [`super::channel_mean`] over `inputs` values, the same to each of them.
pub fn channel_mean_gradient(isa: Isa, g: Blocks<'_>, inputs: usize, update: Update, d: &mut BlocksMut<'_, '_>) {
    let count = d.extent.h * d.extent.w * inputs;
    accumulate(isa, g, 1.0 / count as f32, update, d);
}

/// Gradient of [`super::channel_norm`], `g * x / y`, from its output `y`; 0 where the sum is at its floor, and at 0.
pub fn channel_norm_gradient(
    isa: Isa,
    x: Blocks<'_>,
    y: Blocks<'_>,
    g: Blocks<'_>,
    floor: f32,
    update: Update,
    d: &mut BlocksMut<'_, '_>,
) {
    assert_eq!((x.extent, x.planes.len()), (d.extent, d.planes.len()), "extent");
    assert_eq!((y.extent, g.extent), (x.extent, x.extent), "extent");
    let image = x.extent.h * x.extent.w * LANES;
    for_pixels(d, |block, n, first, d| {
        let (at, len) = (n * image + first * LANES, d.len());
        let [x, y, g] = [x.planes[block], y.planes[0], g.planes[0]].map(|plane| &plane[at..][..len]);
        simd::run(isa, NormGradient { x, y, g, floor: floor.sqrt(), update, d });
    });
}

struct NormGradient<'a> {
    x: &'a [f32],
    y: &'a [f32],
    g: &'a [f32],
    /// Of the root.
    floor: f32,
    update: Update,
    d: &'a mut [f32],
}

impl Kernel for NormGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let scalars = self.y.chunks_exact(LANES).zip(self.g.chunks_exact(LANES));
        for ((d, x), (y, g)) in self.d.chunks_exact_mut(LANES).zip(self.x.chunks_exact(LANES)).zip(scalars) {
            let ratio = if y[0] > self.floor { g[0] / y[0] } else { 0.0 };
            let before = if self.update == Update::Add { S::read(d) } else { S::zero() };
            S::write(d, S::fma(S::splat(ratio), S::read(x), before));
        }
    }
}

/// Gradients of [`super::standardise`], where wanted, to the value and to the moments (lanes 0 and 1 of a pixel per
/// image).
pub fn standardise_gradient(
    isa: Isa,
    x: Blocks<'_>,
    moments: Blocks<'_>,
    epsilon: f32,
    g: Blocks<'_>,
    d: Option<(Update, &mut BlocksMut<'_, '_>)>,
    d_moments: Option<(Update, &mut BlocksMut<'_, '_>)>,
) {
    let Extent { n: images, h, w } = x.extent;
    assert_eq!((g.extent, g.planes.len()), (x.extent, x.planes.len()), "extent");
    let mean = |n: usize| moments.planes[0][n * LANES];
    let factor = |n: usize| 1.0 / (f64::from(moments.planes[0][n * LANES + 1]) + f64::from(epsilon)).sqrt();
    if let Some((update, d)) = d_moments {
        assert_eq!((d.extent, d.planes.len()), (Extent { n: images, h: 1, w: 1 }, 1), "extent");
        for n in 0..images {
            let image = n * h * w * LANES..(n + 1) * h * w * LANES;
            let planes = x.planes.iter().zip(g.planes).map(|(x, g)| {
                let x = Shifted { values: &x[image.clone()], by: [mean(n); LANES] };
                [Shifted { values: &g[image.clone()], by: [0.0; LANES] }, x]
            });
            let sums = products(isa, &planes.collect::<Vec<_>>());
            let [sum, product] = [0, 1].map(|i| sums.iter().flat_map(|s| s[i]).sum::<f64>());
            let pixel = &mut d.planes[0][n * LANES..][..LANES];
            put(&mut pixel[0], -sum * factor(n), update);
            put(&mut pixel[1], -0.5 * product * factor(n).powi(3), update);
            if update == Update::Overwrite {
                pixel[2..].fill(0.0);
            }
        }
    }
    if let Some((update, d)) = d {
        scale(isa, g, |_, n| [factor(n) as f32; LANES], update, d);
    }
}

/// Gradient of [`super::moments`] to `x`, either of its two inputs, from `g` in lanes 0 and 1 of a pixel per image.
pub fn moments_gradient(
    isa: Isa,
    x: Blocks<'_>,
    channels: usize,
    batch: bool,
    g: Blocks<'_>,
    update: Update,
    d: &mut BlocksMut<'_, '_>,
) {
    assert_eq!((x.extent, x.planes.len()), (d.extent, d.planes.len()), "extent");
    let Extent { n: images, h, w } = x.extent;
    let count = (channels * h * w) as f64;
    // What reaches one image of one input: half of that of the pair, and with `batch` its share of the sum over images.
    let of = |n: usize| [0, 1].map(|k| f64::from(g.planes[0][n * LANES + k]) / 2.0 / count);
    let whole = (0..images).map(of).fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]).map(|v| v / images as f64);
    let reaching = |n: usize| if batch { whole } else { of(n) };
    // Every image's variance is about its own mean.
    let image = h * w * LANES;
    let sum = |plane: &[f32], n: usize| sums(isa, &plane[n * image..][..image])[0].iter().sum::<f64>();
    let means: Vec<f64> = (0..images).map(|n| x.planes.iter().map(|p| sum(p, n)).sum::<f64>() / count).collect();
    for_pixels(d, |block, n, first, d| {
        let x = &x.planes[block][n * image + first * LANES..][..d.len()];
        let filled = LANES.min(channels - block * LANES);
        let (mut constant, mut factor) = ([0.0; LANES], [0.0; LANES]);
        constant[..filled].fill(reaching(n)[0] as f32);
        factor[..filled].fill((2.0 * reaching(n)[1]) as f32);
        simd::run(isa, MomentsGradient { x, mean: means[n] as f32, constant, factor, update, d });
    });
}

struct MomentsGradient<'a> {
    x: &'a [f32],
    mean: f32,
    constant: [f32; LANES],
    factor: [f32; LANES],
    update: Update,
    d: &'a mut [f32],
}

impl Kernel for MomentsGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (constant, factor) = (S::read(&self.constant), S::read(&self.factor));
        let mean = S::splat(self.mean);
        for (d, x) in self.d.chunks_exact_mut(LANES).zip(self.x.chunks_exact(LANES)) {
            let g = S::fma(S::sub(S::read(x), mean), factor, constant);
            S::write(d, if self.update == Update::Add { S::add(S::read(d), g) } else { g });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, Value, both_updates};

    const CASES: [(usize, Extent); 3] =
        [(3, Extent { n: 2, h: 1, w: 1 }), (3, Extent { n: 2, h: 5, w: 7 }), (37, Extent { n: 2, h: 40, w: 61 })];

    #[test]
    fn norm_and_means_follow_their_formulas() {
        let mut random = Random::new(33);
        for (channels, extent) in CASES {
            let small = Extent { n: extent.n, h: 1, w: 1 };
            let (mut x, one, g, g_norm) = (
                random.value(channels, extent),
                random.value(channels, small),
                random.value(channels, extent),
                random.value(1, extent),
            );
            // One pixel of zeros.
            x.buffers.iter_mut().for_each(|b| b[..LANES].fill(0.0));
            for isa in Isa::available() {
                let d = both_updates(channels, small, |update, d| pixel_sum(isa, g.blocks(), -1.0, update, d));
                d.assert_close(1e-5, |c, n, _, _| {
                    let pixels = (0..extent.h).flat_map(|y| (0..extent.w).map(move |x| (y, x)));
                    -pixels.map(|(y, x)| f64::from(g.at(c, n, y, x))).sum::<f64>() as f32
                });
                let d =
                    both_updates(channels, extent, |update, d| channel_mean_gradient(isa, one.blocks(), 2, update, d));
                d.assert_close(1e-6, |c, n, _, _| one.at(c, n, 0, 0) / (2 * extent.h * extent.w) as f32);
                for floor in [0.0, 0.5] {
                    let mut y = Value::zeroed(1, extent);
                    y.write(|out| super::super::channel_norm(isa, x.blocks(), floor, out));
                    let d = both_updates(channels, extent, |update, d| {
                        channel_norm_gradient(isa, x.blocks(), y.blocks(), g_norm.blocks(), floor, update, d);
                    });
                    d.assert_close(1e-5, |c, n, i, j| {
                        let norm = (0..channels).map(|c| x.at(c, n, i, j).powi(2)).sum::<f32>();
                        if norm > floor { g_norm.at(0, n, i, j) * x.at(c, n, i, j) / norm.sqrt() } else { 0.0 }
                    });
                }
            }
        }
    }

    /// `(mean, variance)` as the forward pass defines them, in f64.
    fn moments(values: [&Value; 2], batch: bool, n: usize) -> [f64; 2] {
        let Extent { n: images, h, w } = values[0].extent;
        let of = |v: &Value, n: usize| {
            let all: Vec<f64> = (0..v.channels)
                .flat_map(|c| (0..h * w).map(move |i| (c, i)))
                .map(|(c, i)| f64::from(v.at(c, n, i / w, i % w)))
                .collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            [mean, all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64]
        };
        let over = if batch { 0..images } else { n..n + 1 };
        let count = 2.0 * over.len() as f64;
        let all: Vec<[f64; 2]> = over.flat_map(|n| values.map(|v| of(v, n))).collect();
        [0, 1].map(|k| all.iter().map(|m| m[k]).sum::<f64>() / count)
    }

    /// Standardisation with its moments, from the value to the value: against finite differences.
    #[test]
    fn standardisation_follows_its_slope() {
        let mut random = Random::new(34);
        for (channels, extent) in [(3, Extent { n: 2, h: 5, w: 7 }), (19, Extent { n: 2, h: 3, w: 6 })] {
            let values = [random.value(channels, extent), random.value(channels, extent)];
            let g = [random.value(channels, extent), random.value(channels, extent)];
            let small = Extent { n: extent.n, h: 1, w: 1 };
            let loss = |values: [&Value; 2], batch: bool| -> f64 {
                let mut sum = 0.0;
                for n in 0..extent.n {
                    let [mean, variance] = moments(values, batch, n);
                    for (v, g) in values.iter().zip(&g) {
                        for c in 0..channels {
                            for i in 0..extent.h * extent.w {
                                let (y, x) = (i / extent.w, i % extent.w);
                                let standard = (f64::from(v.at(c, n, y, x)) - mean) / (variance + 0.01).sqrt();
                                sum += standard * f64::from(g.at(c, n, y, x));
                            }
                        }
                    }
                }
                sum
            };
            for isa in Isa::available() {
                for batch in [false, true] {
                    let inputs = [values[0].blocks(), values[1].blocks()];
                    let mut both = Value::zeroed(2, small);
                    both.write(|out| super::super::moments(isa, inputs, channels, batch, out));
                    let mut d_moments = Value::zeroed(2, small);
                    for (i, update) in [(0, Update::Overwrite), (1, Update::Add)] {
                        d_moments.write(|d| {
                            let d = Some((update, d));
                            standardise_gradient(isa, inputs[i], both.blocks(), 0.01, g[i].blocks(), None, d);
                        });
                    }
                    d_moments.assert_close(f32::INFINITY, |_, _, _, _| 0.0);
                    for which in 0..2 {
                        let d = both_updates(channels, extent, |update, d| {
                            standardise_gradient(
                                isa,
                                inputs[which],
                                both.blocks(),
                                0.01,
                                g[which].blocks(),
                                Some((update, d)),
                                None,
                            );
                            moments_gradient(isa, inputs[which], channels, batch, d_moments.blocks(), Update::Add, d);
                        });
                        for _ in 0..20 {
                            let (c, n) = (random.below(channels), random.below(extent.n));
                            let (y, x) = (random.below(extent.h), random.below(extent.w));
                            let moved = |by: f32| {
                                let mut v = values[which].copy();
                                v.buffers[c / LANES][((n * extent.h + y) * extent.w + x) * LANES + c % LANES] += by;
                                let mut both = [&values[0], &values[1]];
                                both[which] = &v;
                                loss(both, batch)
                            };
                            let slope = (moved(1.0 / 256.0) - moved(-1.0 / 256.0)) * 128.0;
                            let got = f64::from(d.at(c, n, y, x));
                            assert!((got - slope).abs() < 1e-3 * slope.abs().max(1.0), "{got} for {slope}");
                        }
                    }
                }
            }
        }
    }
}
