//! Activations that are not lines, computed in double precision for values of either precision.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use ferroflow_net::graph::Smooth;

use super::{Real, Tensor};

pub(super) fn smooth<T: Real>(x: &Tensor<T>, curve: Smooth) -> Tensor<T> {
    Tensor { shape: x.shape, data: x.data.iter().map(|&v| T::of(value(v.f64(), curve))).collect() }
}

fn value(x: f64, curve: Smooth) -> f64 {
    match curve {
        Smooth::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Smooth::Tanh => x.tanh(),
        Smooth::Gelu => x * normal(x),
    }
}

/// The derivative at `x`.
pub(super) fn slope(x: f64, curve: Smooth) -> f64 {
    match curve {
        Smooth::Sigmoid => value(x, curve) * (1.0 - value(x, curve)),
        Smooth::Tanh => 1.0 - x.tanh().powi(2),
        Smooth::Gelu => normal(x) + x * (-x * x / 2.0).exp() / (2.0 * PI).sqrt(),
    }
}

/// The normal distribution's cumulative function.
fn normal(x: f64) -> f64 {
    0.5 * erfc(-x * FRAC_1_SQRT_2)
}

/// `1 - erf(x)`, error below 1e-15: near 0 by erf's power series, elsewhere by the continued fraction of erfc.
fn erfc(x: f64) -> f64 {
    let magnitude = x.abs();
    let square = x * x;
    let tail = if magnitude < 2.5 {
        let (mut term, mut sum) = (magnitude, magnitude);
        let mut n = 0.0;
        while term > 1e-18 * sum {
            n += 1.0;
            term *= 2.0 * square / (2.0 * n + 1.0);
            sum += term;
        }
        1.0 - 2.0 / PI.sqrt() * (-square).exp() * sum
    } else {
        let fraction = (1..=60).rev().fold(0.0, |below, k| f64::from(k) / 2.0 / (magnitude + below));
        (-square).exp() / PI.sqrt() / (magnitude + fraction)
    };
    if x < 0.0 { 2.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the error function and its complement from tables (Abramowitz and Stegun, 7.1 and 7.3).
    #[test]
    fn the_error_function_is_that_of_the_tables() {
        for (x, erf) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (-1.0, -0.842_700_792_949_714_9),
        ] {
            assert!((1.0 - erfc(x) - erf).abs() < 2e-15, "{x}: {}", 1.0 - erfc(x));
        }
        for (x, erfc_of) in
            [(2.5, 4.069_520_174_449_59e-4), (3.0, 2.209_049_699_858_544e-5), (4.0, 1.541_725_790_028_002e-8)]
        {
            assert!((erfc(x) / erfc_of - 1.0).abs() < 1e-12, "{x}: {}", erfc(x));
        }
    }

    #[test]
    fn slopes_are_those_of_differences() {
        for curve in [Smooth::Sigmoid, Smooth::Tanh, Smooth::Gelu] {
            for i in -40..=40 {
                let (x, step) = (f64::from(i) / 8.0, 1e-5);
                let difference = (value(x + step, curve) - value(x - step, curve)) / (2.0 * step);
                assert!((slope(x, curve) - difference).abs() < 1e-9, "{curve:?} at {x}");
            }
        }
    }
}
