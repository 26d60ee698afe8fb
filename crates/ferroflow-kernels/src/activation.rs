//! Activations that are not lines: sigmoid, tanh and GELU, on their own or behind a convolution, and their gradients.

use crate::{
    Blocks, BlocksMut, Isa, LANES, Update,
    rows::for_pixels,
    simd::{self, Kernel, Simd},
};

/// An activation that is not a line on either side of 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Smooth {
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `tanh x`
    Tanh,
    /// `x (1 + erf(x / sqrt 2)) / 2`
    Gelu,
}

/// `curve(x)`; `channels` tells which lanes are padding.
pub fn activate(isa: Isa, curve: Smooth, x: Blocks<'_>, channels: usize, out: &mut BlocksMut<'_, '_>) {
    assert_eq!((x.extent, x.planes.len()), (out.extent, out.planes.len()), "extent");
    let image = x.extent.h * x.extent.w * LANES;
    for_pixels(out, |block, n, first, out| {
        out.copy_from_slice(&x.planes[block][n * image + first * LANES..][..out.len()]);
        simd::run(isa, InPlace { curve, lanes: lanes(channels, block), values: out });
    });
}

/// The same in place.
pub fn activate_in_place(isa: Isa, curve: Smooth, channels: usize, values: &mut BlocksMut<'_, '_>) {
    for_pixels(values, |block, _, _, values| {
        simd::run(isa, InPlace { curve, lanes: lanes(channels, block), values });
    });
}

/// 1 for each lane of a block that holds a channel, 0 for the others.
pub(crate) fn lanes(channels: usize, block: usize) -> [f32; LANES] {
    std::array::from_fn(|lane| if block * LANES + lane < channels { 1.0 } else { 0.0 })
}

struct InPlace<'a> {
    curve: Smooth,
    lanes: [f32; LANES],
    values: &'a mut [f32],
}

impl Kernel for InPlace<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        match self.curve {
            // Alone not 0 at 0, where padding lanes are.
            Smooth::Sigmoid => {
                let lanes = S::read(&self.lanes);
                each::<S>(self.values, |x| S::mul(simd::sigmoid::<S>(x), lanes));
            }
            Smooth::Tanh => each::<S>(self.values, simd::tanh::<S>),
            Smooth::Gelu => each::<S>(self.values, simd::gelu::<S>),
        }
    }
}

#[inline(always)]
fn each<S: Simd>(values: &mut [f32], f: impl Fn(S::V) -> S::V) {
    for pixel in values.chunks_exact_mut(LANES) {
        S::write(pixel, f(S::read(pixel)));
    }
}

/// Gradient through an activation that tells its slope by its output `y`, in place.
///
/// # Panics
/// For GELU, which does not.
pub fn gradient_in_place(isa: Isa, curve: Smooth, y: Blocks<'_>, d: &mut BlocksMut<'_, '_>) {
    assert_ne!(curve, Smooth::Gelu, "GELU's slope is not known by its value");
    assert_eq!((y.extent, y.planes.len()), (d.extent, d.planes.len()), "extent");
    let image = y.extent.h * y.extent.w * LANES;
    for_pixels(d, |block, n, first, d| {
        let of = &y.planes[block][n * image + first * LANES..][..d.len()];
        simd::run(isa, Gradient { curve, of, g: None, update: Update::Overwrite, d });
    });
}

/// The gradient of `x` from that of `curve(x)`, where `of` is `x` for GELU and `curve(x)` for the others.
pub fn gradient(isa: Isa, curve: Smooth, of: Blocks<'_>, g: Blocks<'_>, update: Update, d: &mut BlocksMut<'_, '_>) {
    assert_eq!((of.extent, of.planes.len()), (d.extent, d.planes.len()), "extent");
    assert_eq!((g.extent, g.planes.len()), (d.extent, d.planes.len()), "extent");
    let image = d.extent.h * d.extent.w * LANES;
    for_pixels(d, |block, n, first, d| {
        let at = n * image + first * LANES;
        let [of, g] = [of, g].map(|value| &value.planes[block][at..][..d.len()]);
        simd::run(isa, Gradient { curve, of, g: Some(g), update, d });
    });
}

struct Gradient<'a> {
    curve: Smooth,
    /// The output, or GELU's input.
    of: &'a [f32],
    /// `None` for what `d` holds.
    g: Option<&'a [f32]>,
    update: Update,
    d: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        match self.curve {
            Smooth::Sigmoid => self.each::<S>(|y| S::sub(y, S::mul(y, y))),
            Smooth::Tanh => self.each::<S>(|y| S::sub(S::splat(1.0), S::mul(y, y))),
            Smooth::Gelu => self.each::<S>(simd::gelu_slope::<S>),
        }
    }
}

impl Gradient<'_> {
    #[inline(always)]
    fn each<S: Simd>(self, slope: impl Fn(S::V) -> S::V) {
        let Self { of, g, update, d, .. } = self;
        for (i, (d, of)) in d.chunks_exact_mut(LANES).zip(of.chunks_exact(LANES)).enumerate() {
            let g = S::read(g.map_or(&*d, |g| &g[i * LANES..]));
            let product = S::mul(g, slope(S::read(of)));
            S::write(d, if update == Update::Add { S::add(S::read(d), product) } else { product });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Extent,
        testing::{Random, Value, both_updates},
    };

    struct Vector {
        curve: Smooth,
        x: [f32; LANES],
    }

    impl Kernel for Vector {
        type Output = [f32; LANES];
        #[inline(always)]
        fn run<S: Simd>(mut self) -> Self::Output {
            InPlace { curve: self.curve, lanes: [1.0; LANES], values: &mut self.x }.run::<S>();
            self.x
        }
    }

    const CURVES: [Smooth; 3] = [Smooth::Sigmoid, Smooth::Tanh, Smooth::Gelu];

    /// By Simpson's rule over the density, error below 1e-11.
    fn normal(x: f64) -> f64 {
        let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let pairs = 40 + (200.0 * x.abs()) as u32;
        let step = x / f64::from(2 * pairs);
        let sum: f64 = (0..pairs)
            .map(|i| {
                let from = 2.0 * f64::from(i) * step;
                density(from) + 4.0 * density(from + step) + density(from + 2.0 * step)
            })
            .sum();
        0.5 + sum * step / 3.0
    }

    fn value(curve: Smooth, x: f64) -> f64 {
        match curve {
            Smooth::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Smooth::Tanh => x.tanh(),
            Smooth::Gelu => x * normal(x),
        }
    }

    #[test]
    fn activations_are_those_of_double_precision() {
        for isa in Isa::available() {
            for curve in CURVES {
                for i in (-2000..2000).step_by(LANES) {
                    let x: [f32; LANES] = std::array::from_fn(|lane| (i + lane as i32) as f32 / 200.0);
                    for (x, got) in x.into_iter().zip(simd::run(isa, Vector { curve, x })) {
                        let want = value(curve, f64::from(x));
                        let error = (f64::from(got) - want).abs();
                        assert!(error < 1e-6, "{curve:?} of {x} on {}: {got}, not {want}", isa.name());
                    }
                }
                let mut ends = [0.0; LANES];
                ends[1..4].copy_from_slice(&[-3e38, 3e38, f32::NAN]);
                let got = simd::run(isa, Vector { curve, x: ends });
                let (low, high) = match curve {
                    Smooth::Sigmoid => (0.0, 1.0),
                    Smooth::Tanh => (-1.0, 1.0),
                    Smooth::Gelu => (0.0, 3e38),
                };
                assert!((got[1] - low).abs() < 3.0 && (got[2] - high).abs() <= 1e-6 * high, "{curve:?}: {got:?}");
                assert!(got[3].is_nan(), "{curve:?} of NaN on {}", isa.name());
            }
        }
    }

    #[test]
    fn every_lane_is_written_and_gradients_are_slopes() {
        let mut random = Random::new(71);
        for (channels, extent) in [(3, Extent { n: 2, h: 5, w: 7 }), (35, Extent { n: 1, h: 33, w: 41 })] {
            let (x, g) = (random.value(channels, extent), random.value(channels, extent));
            for isa in Isa::available() {
                for curve in CURVES {
                    let mut y = Value::zeroed(channels, extent);
                    y.write(|out| activate(isa, curve, x.blocks(), channels, out));
                    y.assert_close(2e-6, |c, n, i, j| value(curve, f64::from(x.at(c, n, i, j))) as f32);
                    let mut again = x.copy();
                    again.write(|out| activate_in_place(isa, curve, channels, out));
                    assert!(again.buffers.iter().zip(&y.buffers).all(|(a, b)| a[..] == b[..]), "{curve:?}");

                    let of = if curve == Smooth::Gelu { &x } else { &y };
                    let d = both_updates(channels, extent, |update, d| {
                        gradient(isa, curve, of.blocks(), g.blocks(), update, d);
                    });
                    let slope = |x: f32| {
                        let x = f64::from(x);
                        ((value(curve, x + 1e-4) - value(curve, x - 1e-4)) / 2e-4) as f32
                    };
                    d.assert_close(4e-6, |c, n, i, j| g.at(c, n, i, j) * slope(x.at(c, n, i, j)));
                    if curve != Smooth::Gelu {
                        let mut d = g.copy();
                        d.write(|d| gradient_in_place(isa, curve, y.blocks(), d));
                        d.assert_close(4e-6, |c, n, i, j| g.at(c, n, i, j) * slope(x.at(c, n, i, j)));
                    }
                }
            }
        }
    }
}
