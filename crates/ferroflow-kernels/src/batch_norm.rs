//! Batch normalisation in training, `activation((x - mean) / sqrt(variance + epsilon) * scale + shift)` with the mean
//! and variance of the batch, and its gradients.
//!
//! Factors and summands have one entry per lane (`16 * blocks` of each), 0 in padding lanes.

use crate::{
    Blocks, BlocksMut, Everyone, Isa, LANES,
    conv::Activation,
    norm::{RUN, Shifted, Sums, add_lanes, in_pieces, products},
    rows::for_pixels,
    simd::{self, Kernel, Simd},
};

/// What the batch says of each lane.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Mean over images and pixels.
    pub mean: Vec<f32>,
    /// `1 / sqrt(variance + epsilon)`, of the biased variance.
    pub inverse_deviation: Vec<f32>,
    /// Sum of squares over the count less one, for running averages (over the count where that is 1).
    pub unbiased_variance: Vec<f32>,
    /// Number of values of a lane, those of all processes.
    count: usize,
    everyone: Everyone,
}

/// The layer's numbers of one block.
#[derive(Clone, Copy)]
struct Lanes {
    mean: [f32; LANES],
    /// Scale times inverse deviation.
    factor: [f32; LANES],
    shift: [f32; LANES],
    slope: f32,
}

impl Statistics {
    /// Of a value, of which everyone has a part.
    pub fn of(isa: Isa, x: Blocks<'_>, epsilon: f32, everyone: &Everyone) -> Self {
        let own = x.extent.n * x.extent.h * x.extent.w;
        let len = x.extent.len();
        let shifted = x.planes.iter().map(|plane| {
            // Less the first pixel: a mean far from 0 costs no digits of the variance.
            let mut by = [0.0; LANES];
            by.iter_mut().zip(&plane[..len]).for_each(|(by, &x)| *by = x);
            [Shifted { values: &plane[..len], by }; 2]
        });
        let shifted: Vec<_> = shifted.collect();
        let moments = |([x, _], [sum, squares]): (&[Shifted<'_>; 2], Sums)| -> [[f64; 2]; LANES] {
            std::array::from_fn(|lane| {
                let mean = sum[lane] / own as f64;
                [f64::from(x.by[lane]) + mean, (squares[lane] - mean * sum[lane]).max(0.0)]
            })
        };
        let lanes = shifted.iter().zip(products(isa, &shifted)).flat_map(moments).collect();
        let (all, lanes) = everyone.join(own, lanes);
        let count = all as f64;
        let each = |f: &dyn Fn(f64, f64) -> f64| lanes.iter().map(|&[m, squares]| f(m, squares) as f32).collect();
        Self {
            mean: each(&|mean, _| mean),
            inverse_deviation: each(&|_, squares| 1.0 / (squares / count + f64::from(epsilon)).sqrt()),
            unbiased_variance: each(&|_, squares| squares / (count - 1.0).max(1.0)),
            count: all,
            everyone: everyone.clone(),
        }
    }

    fn lanes(&self, block: usize, scale: &[f32], shift: &[f32], activation: Activation) -> Lanes {
        let at = |v: &[f32]| std::array::from_fn(|lane| v[block * LANES + lane]);
        let (scale, inverse): ([f32; LANES], [f32; LANES]) = (at(scale), at(&self.inverse_deviation));
        let factor = std::array::from_fn(|lane| scale[lane] * inverse[lane]);
        Lanes { mean: at(&self.mean), factor, shift: at(shift), slope: activation.slope() }
    }
}

/// Normalises with the statistics of the batch, which it returns.
pub fn batch_norm(
    isa: Isa,
    x: Blocks<'_>,
    scale: &[f32],
    shift: &[f32],
    epsilon: f32,
    activation: Activation,
    out: &mut BlocksMut<'_, '_>,
) -> Statistics {
    let statistics = Statistics::of(isa, x, epsilon, &Everyone::default());
    normalise(isa, x, &statistics, scale, shift, activation, out);
    statistics
}

/// Normalises with these statistics.
pub fn normalise(
    isa: Isa,
    x: Blocks<'_>,
    statistics: &Statistics,
    scale: &[f32],
    shift: &[f32],
    activation: Activation,
    out: &mut BlocksMut<'_, '_>,
) {
    assert_eq!((x.extent, x.planes.len()), (out.extent, out.planes.len()), "extent");
    let image = x.extent.h * x.extent.w * LANES;
    for_pixels(out, |block, n, first, out| {
        let x = &x.planes[block][n * image + first * LANES..][..out.len()];
        simd::run(isa, Forward { x, lanes: statistics.lanes(block, scale, shift, activation), out });
    });
}

struct Forward<'a> {
    x: &'a [f32],
    lanes: Lanes,
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let lanes = self.lanes.load::<S>();
        for (x, out) in self.x.chunks_exact(LANES).zip(self.out.chunks_exact_mut(LANES)) {
            let y = S::fma(S::sub(S::read(x), lanes.mean), lanes.factor, lanes.shift);
            S::write(out, S::max(y, S::mul(y, lanes.slope)));
        }
    }
}

/// [`Lanes`] in registers.
#[derive(Clone, Copy)]
struct Loaded<S: Simd> {
    mean: S::V,
    factor: S::V,
    shift: S::V,
    slope: S::V,
}

impl Lanes {
    #[inline(always)]
    fn load<S: Simd>(&self) -> Loaded<S> {
        Loaded {
            mean: S::read(&self.mean),
            factor: S::read(&self.factor),
            shift: S::read(&self.shift),
            slope: S::splat(self.slope),
        }
    }
}

impl<S: Simd> Loaded<S> {
    /// `x - mean`, and `g` carried through the activation.
    #[inline(always)]
    fn before(&self, x: &[f32], g: &[f32]) -> (S::V, S::V) {
        let (centred, g) = (S::sub(S::read(x), self.mean), S::read(g));
        // As the forward pass computed it: the same side of 0.
        let y = S::fma(centred, self.factor, self.shift);
        (centred, S::where_positive(y, g, S::mul(g, self.slope)))
    }
}

/// What [`batch_norm`] was given and returned, for its gradient.
#[derive(Clone, Copy)]
pub struct BatchNormGradient<'a> {
    /// The value that was normalised.
    pub x: Blocks<'a>,
    /// What the forward pass returned.
    pub statistics: &'a Statistics,
    /// One factor for each lane.
    pub scale: &'a [f32],
    /// One summand for each lane.
    pub shift: &'a [f32],
    /// Applied last.
    pub activation: Activation,
}

impl BatchNormGradient<'_> {
    /// `d` holds the gradient of the result and receives that of `x`; `d_scale` and `d_shift` are written: what this process's part
    /// of the batch adds to them.
    pub fn run(self, isa: Isa, d: &mut BlocksMut<'_, '_>, d_scale: &mut [f32], d_shift: &mut [f32]) {
        let Self { x, statistics, scale, shift, activation } = self;
        assert_eq!((x.extent, x.planes.len()), (d.extent, d.planes.len()), "extent");
        let lanes: Vec<Lanes> = (0..x.planes.len()).map(|b| statistics.lanes(b, scale, shift, activation)).collect();
        let (len, count) = (x.extent.len(), statistics.count as f64);
        // Sums of g and of g * (x - mean).
        let gradients = &*d.planes;
        let sums = in_pieces(lanes.len(), len, |block, range| {
            let (g, x, lanes) = (&gradients[block][range.clone()], &x.planes[block][range], &lanes[block]);
            simd::run(isa, OfGradient { x, g, lanes })
        });
        for (block, [of_g, products]) in sums.iter().enumerate() {
            for lane in 0..LANES {
                let i = block * LANES + lane;
                d_shift[i] = of_g[lane] as f32;
                d_scale[i] = (products[lane] * f64::from(statistics.inverse_deviation[i])) as f32;
            }
        }
        let sums = statistics.everyone.total(sums.iter().flatten().flatten().copied().collect());
        let image = x.extent.h * x.extent.w * LANES;
        for_pixels(d, |block, n, first, d| {
            let x = &x.planes[block][n * image + first * LANES..][..d.len()];
            let (of_g, products) = sums[2 * block * LANES..][..2 * LANES].split_at(LANES);
            let mean_g = std::array::from_fn(|lane| (of_g[lane] / count) as f32);
            let slope = std::array::from_fn(|lane| {
                let inverse = f64::from(statistics.inverse_deviation[block * LANES + lane]);
                (products[lane] / count * inverse * inverse) as f32
            });
            simd::run(isa, Backward { x, lanes: &lanes[block], mean_g, slope, d });
        });
    }
}

struct OfGradient<'a> {
    x: &'a [f32],
    g: &'a [f32],
    lanes: &'a Lanes,
}

impl Kernel for OfGradient<'_> {
    type Output = Sums;
    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let mut total = [[0.0; LANES]; 2];
        for (x, g) in self.x.chunks(RUN * LANES).zip(self.g.chunks(RUN * LANES)) {
            let lanes = self.lanes.load::<S>();
            let (mut sum, mut product) = (S::zero(), S::zero());
            for (x, g) in x.chunks_exact(LANES).zip(g.chunks_exact(LANES)) {
                let (centred, g) = lanes.before(x, g);
                sum = S::add(sum, g);
                product = S::fma(g, centred, product);
            }
            add_lanes::<S>(&mut total, sum, product);
        }
        total
    }
}

struct Backward<'a> {
    x: &'a [f32],
    lanes: &'a Lanes,
    mean_g: [f32; LANES],
    /// Mean of `g * (x - mean)` over the variance.
    slope: [f32; LANES],
    d: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let lanes = self.lanes.load::<S>();
        let (mean_g, slope) = (S::read(&self.mean_g), S::read(&self.slope));
        for (x, d) in self.x.chunks_exact(LANES).zip(self.d.chunks_exact_mut(LANES)) {
            let (centred, g) = lanes.before(x, d);
            let g = S::sub(S::sub(g, mean_g), S::mul(centred, slope));
            S::write(d, S::mul(g, lanes.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Extent,
        testing::{Random, Value, on_any_threads},
    };

    #[test]
    fn batch_norm_and_its_gradients_follow_the_formulas() {
        const EPSILON: f32 = 1e-3;
        let mut random = Random::new(35);
        let cases = [
            (3, Extent { n: 1, h: 1, w: 1 }),
            (3, Extent { n: 2, h: 1, w: 1 }),
            (19, Extent { n: 3, h: 5, w: 7 }),
            (37, Extent { n: 2, h: 61, w: 83 }),
        ];
        for (channels, extent) in cases {
            let mut x = random.value(channels, extent);
            // A mean far from 0.
            x.buffers[0].chunks_exact_mut(LANES).for_each(|pixel| pixel[1] += 30.0);
            let g = random.value(channels, extent);
            let lanes = channels.next_multiple_of(LANES);
            let (mut scale, mut shift) = (random.floats(lanes), random.floats(lanes));
            scale[channels..].fill(0.0);
            shift[channels..].fill(0.0);
            let activation = Activation::LeakyRelu(0.1);
            let count = (extent.len() / LANES) as f64;
            let all = || {
                (0..extent.n * extent.h * extent.w)
                    .map(|i| (i / (extent.h * extent.w), i / extent.w % extent.h, i % extent.w))
            };
            let mean_of =
                |f: &dyn Fn(usize, usize, usize) -> f64| all().map(|(n, y, x)| f(n, y, x)).sum::<f64>() / count;
            struct Channel {
                mean: f64,
                variance: f64,
                g: f64,
                product: f64,
            }
            let value = |c: usize, n: usize, i: usize, j: usize| f64::from(x.at(c, n, i, j));
            let before = |c: usize, mean: f64, variance: f64, n: usize, i: usize, j: usize| {
                (value(c, n, i, j) - mean) / (variance + f64::from(EPSILON)).sqrt() * f64::from(scale[c])
                    + f64::from(shift[c])
            };
            let through = |c: usize, mean: f64, variance: f64, n: usize, i: usize, j: usize| {
                let positive = before(c, mean, variance, n, i, j) > 0.0;
                f64::from(g.at(c, n, i, j)) * if positive { 1.0 } else { f64::from(0.1f32) }
            };
            let expected: Vec<Channel> = (0..channels)
                .map(|c| {
                    let mean = mean_of(&|n, i, j| value(c, n, i, j));
                    let variance = mean_of(&|n, i, j| (value(c, n, i, j) - mean).powi(2));
                    let g = mean_of(&|n, i, j| through(c, mean, variance, n, i, j));
                    let product = mean_of(&|n, i, j| through(c, mean, variance, n, i, j) * (value(c, n, i, j) - mean));
                    Channel { mean, variance, g, product }
                })
                .collect();
            for isa in Isa::available() {
                let mut y = Value::zeroed(channels, extent);
                let mut statistics = None;
                y.write(|out| statistics = Some(batch_norm(isa, x.blocks(), &scale, &shift, EPSILON, activation, out)));
                let statistics = statistics.unwrap();
                y.assert_close(3e-5, |c, n, i, j| {
                    let z = before(c, expected[c].mean, expected[c].variance, n, i, j) as f32;
                    z.max(0.1 * z)
                });
                let small = Extent { n: 2, h: 1, w: 1 };
                let results = on_any_threads(|| {
                    let (mut d, mut parameters) = (g.copy(), Value::zeroed(channels, small));
                    let (mut d_scale, mut d_shift) = (vec![f32::NAN; lanes], vec![f32::NAN; lanes]);
                    d.write(|d| {
                        let (x, statistics) = (x.blocks(), &statistics);
                        BatchNormGradient { x, statistics, scale: &scale, shift: &shift, activation }.run(
                            isa,
                            d,
                            &mut d_scale,
                            &mut d_shift,
                        );
                    });
                    for (block, to) in parameters.buffers.iter_mut().enumerate() {
                        to[..LANES].copy_from_slice(&d_scale[block * LANES..][..LANES]);
                        to[LANES..].copy_from_slice(&d_shift[block * LANES..][..LANES]);
                    }
                    vec![d, parameters]
                });
                results[0].assert_close(1e-4, |c, n, i, j| {
                    let Channel { mean, variance, g, product } = expected[c];
                    let variance_epsilon = variance + f64::from(EPSILON);
                    let centred = through(c, mean, variance, n, i, j)
                        - g
                        - (value(c, n, i, j) - mean) * product / variance_epsilon;
                    (centred * f64::from(scale[c]) / variance_epsilon.sqrt()) as f32
                });
                results[1].assert_close(1e-4, |c, n, _, _| {
                    let Channel { variance, g, product, .. } = expected[c];
                    let d_scale = product / (variance + f64::from(EPSILON)).sqrt();
                    (count * if n == 0 { d_scale } else { g }) as f32
                });
                for (c, expected) in expected.iter().enumerate() {
                    let unbiased = expected.variance * count / (count - 1.0).max(1.0);
                    assert!(
                        (f64::from(statistics.mean[c]) - expected.mean).abs() < 1e-5 * expected.mean.abs().max(1.0)
                    );
                    assert!((f64::from(statistics.unbiased_variance[c]) - unbiased).abs() < 1e-5);
                }
            }
        }
    }
}
