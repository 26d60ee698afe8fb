//! NEON, the vectors of every 64-bit Arm processor: four of four floats.

use std::arch::aarch64::*;

use super::{
    isa::Isa,
    vector::{Kernel, Simd},
};
use crate::machine::tile;

/// Four vectors of 4.
#[derive(Clone, Copy)]
pub struct Neon;

#[target_feature(enable = "neon")]
pub unsafe fn run_neon<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Neon>()
}

/// What it does to each of the four vectors.
#[inline(always)]
fn each(f: impl Fn(usize) -> float32x4_t) -> [float32x4_t; 4] {
    [f(0), f(1), f(2), f(3)]
}

// SAFETY: nothing outside `simd` can name the type, and `run` does only where NEON is there, so every block below may use it;
// `load` and `store` touch 16 floats, which the caller's pointers are valid for.
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Simd for Neon {
    type V = [float32x4_t; 4];
    const ISA: Isa = Isa::Neon;
    const TILE: usize = tile::NEON.0;
    const PANEL: usize = tile::NEON.1;
    #[inline(always)]
    fn zero() -> Self::V {
        unsafe { [vdupq_n_f32(0.0); 4] }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        each(|i| unsafe { vld1q_f32(p.add(4 * i)) })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        for (i, quarter) in v.into_iter().enumerate() {
            unsafe { vst1q_f32(p.add(4 * i), quarter) }
        }
    }
    #[inline(always)]
    fn add(a: Self::V, b: Self::V) -> Self::V {
        each(|i| unsafe { vaddq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn sub(a: Self::V, b: Self::V) -> Self::V {
        each(|i| unsafe { vsubq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn mul(a: Self::V, b: Self::V) -> Self::V {
        each(|i| unsafe { vmulq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn div(a: Self::V, b: Self::V) -> Self::V {
        each(|i| unsafe { vdivq_f32(a[i], b[i]) })
    }
    #[inline(always)]
    fn times_power_of_two(a: Self::V, n: Self::V) -> Self::V {
        each(|i| unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n[i]), vdupq_n_s32(127));
            vmulq_f32(a[i], vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        })
    }
    #[inline(always)]
    fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        each(|i| unsafe { vfmaq_f32(c[i], a[i], b[i]) })
    }
    // As on x86, and unlike `vmaxq_f32`, the second operand where either is not a number.
    #[inline(always)]
    fn max(a: Self::V, b: Self::V) -> Self::V {
        each(|i| unsafe { vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]) })
    }
    #[inline(always)]
    fn min(a: Self::V, b: Self::V) -> Self::V {
        each(|i| unsafe { vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i]) })
    }
    #[inline(always)]
    fn where_positive(condition: Self::V, a: Self::V, b: Self::V) -> Self::V {
        each(|i| unsafe { vbslq_f32(vcgtzq_f32(condition[i]), a[i], b[i]) })
    }
    #[inline(always)]
    fn sum(v: Self::V) -> f32 {
        unsafe { vaddvq_f32(vaddq_f32(vaddq_f32(v[0], v[1]), vaddq_f32(v[2], v[3]))) }
    }
    #[inline(always)]
    fn transpose(rows: &mut [Self::V; 16]) {
        let from = *rows;
        for i in 0..4 {
            for j in 0..4 {
                // The 4 x 4 block of rows 4j.. and columns 4i.., which becomes that of rows 4i.. and columns 4j...
                let block = unsafe { transpose_4x4(std::array::from_fn(|k| from[4 * j + k][i])) };
                for (k, row) in block.into_iter().enumerate() {
                    rows[4 * i + k][j] = row;
                }
            }
        }
    }
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn transpose_4x4(r: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: NEON is there.
    unsafe {
        // Pairs of rows, interleaved: a0 b0 a2 b2 and a1 b1 a3 b3.
        let (even_ab, odd_ab) = (vtrn1q_f32(r[0], r[1]), vtrn2q_f32(r[0], r[1]));
        let (even_cd, odd_cd) = (vtrn1q_f32(r[2], r[3]), vtrn2q_f32(r[2], r[3]));
        let low = |a, c| vcombine_f32(vget_low_f32(a), vget_low_f32(c));
        let high = |a, c| vcombine_f32(vget_high_f32(a), vget_high_f32(c));
        [low(even_ab, even_cd), low(odd_ab, odd_cd), high(even_ab, even_cd), high(odd_ab, odd_cd)]
    }
}
