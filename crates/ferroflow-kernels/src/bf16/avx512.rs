//! The product with AVX512-BF16: eight points by the panel's outputs in registers.

use std::arch::x86_64::*;

use super::{DEPTH, Product, TILE, TILE_LEN};

/// Points whose sums are in registers together.
const POINTS: usize = 8;

pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// # Safety
/// As for [`super::Multiplier::run`], of a panel of `PANEL`; only where [`is_available`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn multiply<const PANEL: usize>(p: &Product<'_>) {
    for (tile, &input) in p.inputs.iter().enumerate() {
        for first in (0..TILE).step_by(POINTS) {
            let mut sums = [[_mm512_setzero_ps(); PANEL]; POINTS];
            // SAFETY: the caller gives as many numbers as there are points and steps.
            unsafe {
                for (s, &offset) in p.offsets.iter().enumerate() {
                    let values = input.add(first * p.step).byte_add(offset as usize);
                    let weights = p.weights.add(s * PANEL * TILE_LEN);
                    for k in (0..DEPTH).step_by(2) {
                        let mut w = [_mm512_setzero_si512(); PANEL];
                        for n in 0..PANEL {
                            w[n] = _mm512_loadu_si512(weights.add(n * TILE_LEN + k * TILE).cast());
                        }
                        for point in 0..POINTS {
                            let pair = values.add(point * p.step + k).cast::<i32>().read_unaligned();
                            let pair = as_bf16(_mm512_set1_epi32(pair));
                            for n in 0..PANEL {
                                sums[point][n] = _mm512_dpbf16_ps(sums[point][n], pair, as_bf16(w[n]));
                            }
                        }
                    }
                }
                for point in 0..POINTS {
                    for n in 0..PANEL {
                        let at = ((tile * PANEL + n) * TILE + first + point) * TILE;
                        _mm512_storeu_ps(p.sums.add(at), sums[point][n]);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn as_bf16(v: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits of any value.
    unsafe { std::mem::transmute(v) }
}
