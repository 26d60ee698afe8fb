//! Activations that are not lines, and their slopes.

use super::{exp::exp, vector::Simd};

/// `erfc(x) = t (a1 + t (a2 + ..)) e^(-x^2)` with `t = 1 / (1 + p x)` for `x >= 0`, error below 1.5e-7 (Abramowitz and Stegun,
/// 7.1.26): p of `x = z / sqrt 2`, and the coefficients, highest power first, halved.
const ERFC_P: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
const ERFC: [f32; 5] = [0.530_702_7, -0.726_576, 0.710_706_9, -0.142_248_37, 0.127_414_8];
/// `1 / sqrt(2 pi)`
const DENSITY: f32 = 0.398_942_3;

/// `1 / (1 + e^-x)`, error below 1e-6.
#[inline(always)]
pub fn sigmoid<S: Simd>(x: S::V) -> S::V {
    let e = exp::<S>(S::min(x, S::sub(S::zero(), x)));
    let above = S::div(S::splat(1.0), S::add(S::splat(1.0), e));
    S::where_positive(x, above, S::mul(e, above))
}

/// `tanh x`, error below 1e-6.
#[inline(always)]
pub fn tanh<S: Simd>(x: S::V) -> S::V {
    let negative = S::min(x, S::sub(S::zero(), x));
    let e = exp::<S>(S::add(negative, negative));
    let above = S::div(S::sub(S::splat(1.0), e), S::add(S::splat(1.0), e));
    S::where_positive(x, above, S::sub(S::zero(), above))
}

/// `x (1 + erf(x / sqrt 2)) / 2`, error below 1e-6, or 2e-7 of values above 4.
#[inline(always)]
pub fn gelu<S: Simd>(x: S::V) -> S::V {
    S::mul(x, normal::<S>(x).0)
}

/// The slope of GELU at `x`, error below 1e-6.
#[inline(always)]
pub fn gelu_slope<S: Simd>(x: S::V) -> S::V {
    let (below, bell) = normal::<S>(x);
    S::fma(S::mul(x, S::splat(DENSITY)), bell, below)
}

/// The normal distribution below `x`, and `e^(-x^2 / 2)`.
#[inline(always)]
fn normal<S: Simd>(x: S::V) -> (S::V, S::V) {
    let magnitude = S::max(x, S::sub(S::zero(), x));
    let bell = exp::<S>(S::mul(S::mul(x, x), S::splat(-0.5)));
    let t = S::div(S::splat(1.0), S::fma(magnitude, S::splat(ERFC_P), S::splat(1.0)));
    let mut sum = S::splat(ERFC[0]);
    for coefficient in &ERFC[1..] {
        sum = S::fma(sum, t, S::splat(*coefficient));
    }
    let tail = S::mul(S::mul(sum, t), bell);
    (S::where_positive(x, S::sub(S::splat(1.0), tail), tail), bell)
}
