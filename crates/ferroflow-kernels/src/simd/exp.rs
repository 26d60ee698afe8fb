//! The exponential of numbers that are not positive, as softmax takes it.

use super::vector::Simd;

/// Below it the exponential leaves the normal numbers.
const LOWEST: f32 = -87.3;
/// Added to a number below 2^22 in absolute value, and taken off again, it rounds to a whole one.
const ROUND: f32 = 12_582_912.0;
/// The logarithm of 2 in two parts: the first has so few digits that its products with the whole numbers here are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// `(e^r - 1 - r) / r^2` for `r` up to half the logarithm of 2 on either side of 0, highest power first (Cephes' `expf`).
const POLYNOMIAL: [f32; 6] = [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// `e^x` for `x <= 0`, relative error below 1.2e-7. Below -87.3 it stays at 1.2e-38, as good as 0 beside the 1 that every
/// softmax adds it to; NaN stays NaN.
#[inline(always)]
pub fn exp<S: Simd>(x: S::V) -> S::V {
    // `max` gives its second operand where either is not a number.
    let x = S::max(S::splat(LOWEST), x);
    // x = n ln 2 + r
    let n = S::sub(S::fma(x, S::splat(std::f32::consts::LOG2_E), S::splat(ROUND)), S::splat(ROUND));
    let r = S::fma(n, S::splat(-LN_2[0]), x);
    let r = S::fma(n, S::splat(-LN_2[1]), r);
    let mut sum = S::splat(POLYNOMIAL[0]);
    for coefficient in &POLYNOMIAL[1..] {
        sum = S::fma(sum, r, S::splat(*coefficient));
    }
    let e = S::add(S::fma(sum, S::mul(r, r), r), S::splat(1.0));
    S::times_power_of_two(e, n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Isa, LANES,
        simd::{Kernel, run},
        testing::Random,
    };

    struct Exp([f32; LANES]);

    impl Kernel for Exp {
        type Output = [f32; LANES];
        #[inline(always)]
        fn run<S: Simd>(mut self) -> Self::Output {
            // SAFETY: called through `run`; 16 floats.
            unsafe { S::store(self.0.as_mut_ptr(), exp::<S>(S::load(self.0.as_ptr()))) };
            self.0
        }
    }

    #[test]
    fn exponentials_are_exact_to_the_last_digits() {
        let mut random = Random::new(50);
        for isa in Isa::available() {
            let mut worst = 0.0f64;
            for i in 0..60_000 {
                // The whole range, the range where softmax decides, and the smallest numbers.
                let reach = [87.3, 8.0, 1e-3][i % 3];
                let x: [f32; LANES] = std::array::from_fn(|_| -reach * random.float().abs());
                for (x, got) in x.into_iter().zip(run(isa, Exp(x))) {
                    let want = f64::from(x).exp();
                    worst = worst.max((f64::from(got) - want).abs() / want);
                }
            }
            assert!(worst < 1.2e-7, "{}: off by {worst:e}", isa.name());
            let mut ends = [0.0; LANES];
            ends[1..6].copy_from_slice(&[-0.0, -87.4, -1e30, f32::NEG_INFINITY, f32::NAN]);
            let got = run(isa, Exp(ends));
            assert_eq!(got[..2], [1.0, 1.0], "{}", isa.name());
            assert!(got[2..5].iter().all(|v| (0.0..1.3e-38).contains(v)), "{} {got:?}", isa.name());
            assert!(got[5].is_nan(), "{}", isa.name());
        }
    }
}
