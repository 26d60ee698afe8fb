//! Elementary functions that use only `+ - * /`, so that every machine computes the same bits.
//!
//! `f32::sin`, `powf` and similar functions come from the platform's library and differ in the last bits; these do not. They do
//! not branch on data, so loops over them vectorise.

/// 1.5 * 2^23: adding and subtracting it rounds a float below 2^22 to the nearest integer.
const ROUND: f32 = 12_582_912.0;

/// Nearest integer (ties to even) of `|x| < 2^22`.
#[inline(always)]
pub fn round(x: f32) -> f32 {
    (x + ROUND) - ROUND
}

/// Largest integer not above `x`, for `|x| < 2^31`.
#[inline(always)]
pub fn floor(x: f32) -> i32 {
    let t = x as i32;
    t - i32::from((t as f32) > x)
}

/// Sine of `turns` full turns; error below 3e-7 for `|turns|` up to a few hundred.
#[inline(always)]
pub fn sin_turns(turns: f32) -> f32 {
    let t = turns - round(turns);
    // sin(pi - x) = sin(x) folds [-1/2, 1/2] turns to [-1/4, 1/4].
    let half = if t < 0.0 { -0.5 } else { 0.5 };
    let folded = if t.abs() > 0.25 { half - t } else { t };
    let x = folded * std::f32::consts::TAU;
    let s = x * x;
    let series = 1.0 / 362_880.0 - s * (1.0 / 39_916_800.0);
    let series = -1.0 / 5_040.0 + s * series;
    let series = 1.0 / 120.0 + s * series;
    let series = -1.0 / 6.0 + s * series;
    x + x * s * series
}

/// Cosine of `turns` full turns.
#[inline(always)]
pub fn cos_turns(turns: f32) -> f32 {
    sin_turns(turns + 0.25)
}

/// Sine and cosine of an angle in radians.
pub fn sin_cos(radians: f32) -> (f32, f32) {
    let turns = radians * (1.0 / std::f32::consts::TAU);
    (sin_turns(turns), cos_turns(turns))
}

/// `2^x` for `-126 <= x <= 127` (clamped there), relative error below 3e-7.
#[inline(always)]
pub fn exp2(x: f32) -> f32 {
    let x = x.clamp(-126.0, 127.0);
    let n = round(x);
    let f = (x - n) * std::f32::consts::LN_2;
    let series = 1.0 / 120.0 + f * (1.0 / 720.0 + f * (1.0 / 5_040.0));
    let series = 1.0 / 6.0 + f * (1.0 / 24.0 + f * series);
    let series = 1.0 + f * (1.0 + f * (0.5 + f * series));
    series * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// `e^x`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp2(x * std::f32::consts::LOG2_E)
}

/// Base-2 logarithm of a normal positive number, error below 2e-7 plus rounding.
#[inline(always)]
pub fn log2(x: f32) -> f32 {
    let bits = x.to_bits() as i32;
    // Mantissa in [sqrt(1/2), sqrt(2)), so the series converges fast on both sides of 1.
    let shifted = bits - 0x3f35_04f3;
    let exponent = shifted >> 23;
    let m = f32::from_bits((bits - (exponent << 23)) as u32);
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0));
    let series = s + s * q * (1.0 / 3.0 + q * series);
    exponent as f32 + series * (2.0 * std::f32::consts::LOG2_E)
}

/// `x^p` for `x > 0`; 0 for `x` at or below the smallest normal number.
#[inline(always)]
pub fn pow(x: f32, p: f32) -> f32 {
    let y = exp2(log2(x.max(f32::MIN_POSITIVE)) * p);
    if x > f32::MIN_POSITIVE { y } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_platform_library() {
        for i in -4000..4000 {
            let x = i as f32 * 0.0137;
            // Error of the argument reduction grows with the argument, hence the second term.
            let sin_limit = 4e-7 + x.abs() * 6e-7;
            assert!((sin_turns(x) - (f64::from(x) * std::f64::consts::TAU).sin() as f32).abs() < sin_limit, "sin {x}");
            assert!((exp2(x * 0.4) / (f64::from(x) * f64::from(0.4f32)).exp2() as f32 - 1.0).abs() < 3e-6, "exp2 {x}");
            assert_eq!(floor(x), x.floor() as i32);
            let positive = (i + 4001) as f32 * 0.0137;
            assert!((log2(positive) - f64::from(positive).log2() as f32).abs() < 1e-6, "log2 {positive}");
            assert!((pow(positive, 1.3) / f64::from(positive).powf(f64::from(1.3f32)) as f32 - 1.0).abs() < 3e-6);
        }
        assert_eq!(pow(0.0, 0.5), 0.0);
    }
}
