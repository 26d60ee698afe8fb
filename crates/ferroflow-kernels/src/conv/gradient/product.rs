//! The register tile of weight gradients: numbers of one value by vectors of the other, summed over pixels or tiles.

use crate::simd::Simd;

/// Rows of the register tile: accumulators, `panel` vectors and a broadcast fit the registers, and rows divide a block.
pub const fn tile_rows(panel: usize) -> usize {
    if panel >= 2 { 8 } else { 4 }
}

/// `tile[t][v] += a[t] * b[v]`: `T` numbers next to each other by `N` vectors.
///
/// # Safety
/// The pointers are valid for that.
#[inline(always)]
pub unsafe fn product<S: Simd, const T: usize, const N: usize>(
    tile: &mut [[S::V; N]; T],
    a: *const f32,
    b: [*const f32; N],
) {
    // SAFETY: the caller's.
    unsafe {
        let mut vectors = [S::zero(); N];
        for v in 0..N {
            vectors[v] = S::load(b[v]);
        }
        for t in 0..T {
            let value = S::splat(*a.add(t));
            for v in 0..N {
                tile[t][v] = S::fma(value, vectors[v], tile[t][v]);
            }
        }
    }
}
