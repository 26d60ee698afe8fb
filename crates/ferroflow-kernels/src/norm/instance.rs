//! Instance norm: each channel of each image less its mean and divided by its standard deviation.

use super::{Shifted, products};
use crate::{
    Blocks, BlocksMut, Isa, LANES, Update,
    conv::Activation,
    rows::for_pixels,
    simd::{self, Kernel, Simd},
};

/// What the pixels of a block of an image say of its lanes.
#[derive(Clone, Copy)]
struct Lanes {
    mean: [f32; LANES],
    /// `1 / sqrt(variance + epsilon)`
    inverse_deviation: [f32; LANES],
}

/// Of each block of the first image, then of the second, ...
fn lanes(isa: Isa, x: Blocks<'_>, epsilon: f32) -> Vec<Lanes> {
    let count = (x.extent.h * x.extent.w) as f64;
    // Less the first pixel: a mean far from 0 costs no digits of the variance.
    let shifted: Vec<_> = images(x)
        .map(|values| {
            let mut by = [0.0; LANES];
            by.iter_mut().zip(values).for_each(|(by, &x)| *by = x);
            [Shifted { values, by }; 2]
        })
        .collect();
    let sums = products(isa, &shifted);
    let of = |([x, _], [sum, squares]): (&[Shifted<'_>; 2], super::Sums)| {
        let mean: [f64; LANES] = std::array::from_fn(|lane| sum[lane] / count);
        let variance = |lane: usize| (squares[lane] / count - mean[lane] * mean[lane]).max(0.0);
        Lanes {
            mean: std::array::from_fn(|lane| (f64::from(x.by[lane]) + mean[lane]) as f32),
            inverse_deviation: std::array::from_fn(|lane| (1.0 / (variance(lane) + f64::from(epsilon)).sqrt()) as f32),
        }
    };
    shifted.iter().zip(sums).map(of).collect()
}

/// The blocks of the first image, then those of the second, ...
fn images(x: Blocks<'_>) -> impl Iterator<Item = &[f32]> {
    let image = x.extent.h * x.extent.w * LANES;
    (0..x.extent.n).flat_map(move |n| x.planes.iter().map(move |plane| &plane[n * image..][..image]))
}

/// `activation((x - mean) / sqrt(variance + epsilon) + added)` of each image and channel, the variance being the biased one.
pub fn instance_norm(
    isa: Isa,
    x: Blocks<'_>,
    epsilon: f32,
    added: Option<Blocks<'_>>,
    activation: Activation,
    out: &mut BlocksMut<'_, '_>,
) {
    for value in added.iter().chain(&Some(x)) {
        assert_eq!((value.extent, value.planes.len()), (out.extent, out.planes.len()), "extent");
    }
    let (lanes, blocks) = (lanes(isa, x, epsilon), x.planes.len());
    let image = x.extent.h * x.extent.w * LANES;
    for_pixels(out, |block, n, first, out| {
        let at = n * image + first * LANES;
        let x = &x.planes[block][at..][..out.len()];
        let added = added.map(|added| &added.planes[block][at..][..out.len()]);
        simd::run(isa, Forward { x, lanes: &lanes[n * blocks + block], added, activation, out });
    });
}

struct Forward<'a> {
    x: &'a [f32],
    lanes: &'a Lanes,
    added: Option<&'a [f32]>,
    activation: Activation,
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (mean, factor) = (S::read(&self.lanes.mean), S::read(&self.lanes.inverse_deviation));
        let leaky = |y: S::V, slope: S::V| S::max(y, S::mul(y, slope));
        let [before, slope] = [self.activation.slope_before(), self.activation.slope()].map(|slope| S::splat(slope));
        let norm = |x: &[f32]| S::mul(S::sub(S::read(x), mean), factor);
        let pixels = self.x.chunks_exact(LANES).zip(self.out.chunks_exact_mut(LANES));
        match self.added {
            None => pixels.for_each(|(x, out)| S::write(out, leaky(norm(x), slope))),
            Some(added) => pixels.zip(added.chunks_exact(LANES)).for_each(|((x, out), added)| {
                S::write(out, leaky(S::add(leaky(norm(x), before), S::read(added)), slope));
            }),
        }
    }
}

/// The gradient of `x`, from that of the result before its activation.
pub fn instance_norm_gradient(
    isa: Isa,
    x: Blocks<'_>,
    epsilon: f32,
    g: Blocks<'_>,
    update: Update,
    d: &mut BlocksMut<'_, '_>,
) {
    assert_eq!((x.extent, x.planes.len()), (d.extent, d.planes.len()), "extent");
    assert_eq!((g.extent, g.planes.len()), (d.extent, d.planes.len()), "extent");
    let (lanes, blocks) = (lanes(isa, x, epsilon), x.planes.len());
    let pairs = images(g).zip(images(x)).zip(&lanes);
    let pairs: Vec<_> = pairs
        .map(|((g, x), lanes)| [Shifted { values: g, by: [0.0; LANES] }, Shifted { values: x, by: lanes.mean }])
        .collect();
    let sums = products(isa, &pairs);
    let (image, count) = (x.extent.h * x.extent.w * LANES, (x.extent.h * x.extent.w) as f64);
    for_pixels(d, |block, n, first, d| {
        let at = n * image + first * LANES;
        let [x, g] = [x, g].map(|value| &value.planes[block][at..][..d.len()]);
        let i = n * blocks + block;
        let [of_g, products] = &sums[i];
        let mean_g = std::array::from_fn(|lane| (of_g[lane] / count) as f32);
        let slope = std::array::from_fn(|lane| {
            let inverse = f64::from(lanes[i].inverse_deviation[lane]);
            (products[lane] / count * inverse * inverse) as f32
        });
        simd::run(isa, Backward { x, g, lanes: &lanes[i], mean_g, slope, update, d });
    });
}

struct Backward<'a> {
    x: &'a [f32],
    g: &'a [f32],
    lanes: &'a Lanes,
    mean_g: [f32; LANES],
    /// Mean of `g * (x - mean)` over the variance.
    slope: [f32; LANES],
    update: Update,
    d: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (mean, factor) = (S::read(&self.lanes.mean), S::read(&self.lanes.inverse_deviation));
        let (mean_g, slope) = (S::read(&self.mean_g), S::read(&self.slope));
        let values = self.x.chunks_exact(LANES).zip(self.g.chunks_exact(LANES));
        for ((x, g), d) in values.zip(self.d.chunks_exact_mut(LANES)) {
            let centred = S::sub(S::read(x), mean);
            let g = S::sub(S::sub(S::read(g), mean_g), S::mul(centred, slope));
            let new = S::mul(g, factor);
            S::write(d, if self.update == Update::Add { S::add(S::read(d), new) } else { new });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Extent,
        testing::{Random, Value, both_updates, on_any_threads},
    };

    /// Mean and `1 / sqrt(variance + epsilon)`.
    fn statistics(x: &Value, c: usize, n: usize, epsilon: f64) -> (f64, f64) {
        let Extent { h, w, .. } = x.extent;
        let all: Vec<f64> = (0..h * w).map(|i| f64::from(x.at(c, n, i / w, i % w))).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / all.len() as f64;
        (mean, 1.0 / (variance + epsilon).sqrt())
    }

    #[test]
    fn instance_norm_and_its_gradient_follow_the_formulas() {
        const EPSILON: f32 = 1e-3;
        let mut random = Random::new(36);
        let cases =
            [(3, Extent { n: 2, h: 1, w: 1 }), (19, Extent { n: 3, h: 5, w: 7 }), (37, Extent { n: 2, h: 61, w: 83 })];
        for (channels, extent) in cases {
            let mut x = random.value(channels, extent);
            // A mean far from 0.
            x.buffers[0].chunks_exact_mut(LANES).for_each(|pixel| pixel[1] += 30.0);
            let g = random.value(channels, extent);
            let of: Vec<_> = (0..channels * extent.n)
                .map(|i| statistics(&x, i / extent.n, i % extent.n, f64::from(EPSILON)))
                .collect();
            let unit = |c: usize, n: usize, i: usize, j: usize| {
                let (mean, inverse) = of[c * extent.n + n];
                (f64::from(x.at(c, n, i, j)) - mean) * inverse
            };
            let count = (extent.h * extent.w) as f64;
            let means: Vec<[f64; 2]> = (0..channels * extent.n)
                .map(|k| {
                    let (c, n) = (k / extent.n, k % extent.n);
                    let each = (0..extent.h * extent.w).map(|i| (i / extent.w, i % extent.w));
                    let terms = each.map(|(i, j)| (f64::from(g.at(c, n, i, j)), unit(c, n, i, j)));
                    terms.fold([0.0; 2], |[a, b], (g, u)| [a + g / count, b + g * u / count])
                })
                .collect();
            for isa in Isa::available() {
                let leaky = Activation::LeakyRelu(0.1);
                let run = || {
                    let mut y = Value::zeroed(channels, extent);
                    y.write(|out| instance_norm(isa, x.blocks(), EPSILON, None, leaky, out));
                    vec![y]
                };
                on_any_threads(run)[0].assert_close(2e-5, |c, n, i, j| {
                    let y = unit(c, n, i, j);
                    y.max(0.1 * y) as f32
                });
                let mut sum = Value::zeroed(channels, extent);
                sum.write(|out| {
                    let around = Activation::AroundSum { before: 0.1, after: 0.2 };
                    instance_norm(isa, x.blocks(), EPSILON, Some(g.blocks()), around, out);
                });
                sum.assert_close(2e-5, |c, n, i, j| {
                    let y = unit(c, n, i, j);
                    let y = y.max(0.1 * y) + f64::from(g.at(c, n, i, j));
                    y.max(0.2 * y) as f32
                });
                let d = both_updates(channels, extent, |update, d| {
                    instance_norm_gradient(isa, x.blocks(), EPSILON, g.blocks(), update, d);
                });
                d.assert_close(5e-5, |c, n, i, j| {
                    let [mean_g, slope] = means[c * extent.n + n];
                    let (_, inverse) = of[c * extent.n + n];
                    (inverse * (f64::from(g.at(c, n, i, j)) - mean_g - unit(c, n, i, j) * slope)) as f32
                });
            }
        }
    }
}
