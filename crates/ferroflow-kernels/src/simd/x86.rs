//! AVX2 with FMA, and AVX-512.

use std::arch::x86_64::*;

use super::{
    isa::Isa,
    vector::{Kernel, Simd},
};
use crate::machine::tile;

#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

/// Two vectors of 8.
#[derive(Clone, Copy)]
pub struct Avx2;

/// One vector of 16.
#[derive(Clone, Copy)]
pub struct Avx512;

// SAFETY: nothing outside `simd` can name the type, and `run` does only where AVX2 and FMA are there, so every block below
// may use them; `load` and `store` touch 16 floats, which the caller's pointers are valid for.
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Simd for Avx2 {
    type V = [__m256; 2];
    const ISA: Isa = Isa::Avx2;
    const TILE: usize = tile::AVX2.0;
    const PANEL: usize = tile::AVX2.1;
    #[inline(always)]
    fn zero() -> Self::V {
        unsafe { [_mm256_setzero_ps(); 2] }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    fn fourfold(from: &[f32; 4]) -> Self::V {
        unsafe {
            let four = _mm256_castps128_ps256(_mm_loadu_ps(from.as_ptr()));
            let twice = |a: i32, b: i32| _mm256_permutevar8x32_ps(four, _mm256_setr_epi32(a, a, a, a, b, b, b, b));
            [twice(0, 1), twice(2, 3)]
        }
    }
    #[inline(always)]
    fn bytes(a: &[u8; 16], b: &[u8; 16], choice: &[[u8; 16]; 2]) -> Self::V {
        unsafe {
            let bytes = chosen_bytes(a, b, choice);
            let upper = _mm_unpackhi_epi64(bytes, bytes);
            [bytes, upper].map(|eight| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight)))
        }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: Self::V) {
        unsafe {
            _mm256_stream_ps(p, v[0]);
            _mm256_stream_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    fn fence() {
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn div(a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn times_power_of_two(a: Self::V, n: Self::V) -> Self::V {
        unsafe {
            let half = |i: usize| {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n[i]), _mm256_set1_epi32(127));
                _mm256_mul_ps(a[i], _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
            };
            [half(0), half(1)]
        }
    }
    #[inline(always)]
    fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn where_positive(condition: Self::V, a: Self::V, b: Self::V) -> Self::V {
        unsafe {
            let half = |i: usize| {
                let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(condition[i], _mm256_setzero_ps());
                _mm256_blendv_ps(b[i], a[i], positive)
            };
            [half(0), half(1)]
        }
    }
    #[inline(always)]
    fn sum(v: Self::V) -> f32 {
        unsafe {
            let s = _mm256_add_ps(v[0], v[1]);
            let s = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
            let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
            _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)))
        }
    }
    #[inline(always)]
    fn prefetch(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn prefetch_near(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    fn transpose(rows: &mut [Self::V; 16]) {
        unsafe {
            let quarter = |first: usize, half: usize| {
                let r: [__m256; 8] = std::array::from_fn(|i| rows[first + i][half]);
                transpose_8x8(r)
            };
            let (a, b, c, d) = (quarter(0, 0), quarter(8, 0), quarter(0, 1), quarter(8, 1));
            for i in 0..8 {
                rows[i] = [a[i], b[i]];
                rows[8 + i] = [c[i], d[i]];
            }
        }
    }
}

// SAFETY: as for `Avx2`, with AVX-512.
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Simd for Avx512 {
    type V = __m512;
    const ISA: Isa = Isa::Avx512;
    const TILE: usize = tile::AVX512.0;
    const PANEL: usize = tile::AVX512.1;
    #[inline(always)]
    fn zero() -> Self::V {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    fn fourfold(from: &[f32; 4]) -> Self::V {
        unsafe {
            let index = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            _mm512_permutexvar_ps(index, _mm512_castps128_ps512(_mm_loadu_ps(from.as_ptr())))
        }
    }
    #[inline(always)]
    fn bytes(a: &[u8; 16], b: &[u8; 16], choice: &[[u8; 16]; 2]) -> Self::V {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(chosen_bytes(a, b, choice))) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: Self::V) {
        unsafe { _mm512_stream_ps(p, v) }
    }
    #[inline(always)]
    fn fence() {
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn times_power_of_two(a: Self::V, n: Self::V) -> Self::V {
        unsafe { _mm512_scalef_ps(a, n) }
    }
    #[inline(always)]
    fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn where_positive(condition: Self::V, a: Self::V, b: Self::V) -> Self::V {
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(condition, _mm512_setzero_ps());
            _mm512_mask_blend_ps(positive, b, a)
        }
    }
    #[inline(always)]
    fn sum(v: Self::V) -> f32 {
        unsafe { _mm512_reduce_add_ps(v) }
    }
    #[inline(always)]
    fn prefetch(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn prefetch_near(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    fn transpose(rows: &mut [Self::V; 16]) {
        unsafe {
            // Within each 128-bit quarter: t[4g + k] holds column k of rows 4g .. 4g + 4.
            let mut t = *rows;
            for g in (0..16).step_by(4) {
                let (a, b) = (_mm512_unpacklo_ps(rows[g], rows[g + 1]), _mm512_unpackhi_ps(rows[g], rows[g + 1]));
                let (c, d) =
                    (_mm512_unpacklo_ps(rows[g + 2], rows[g + 3]), _mm512_unpackhi_ps(rows[g + 2], rows[g + 3]));
                let (a, b, c, d) = (_mm512_castps_pd(a), _mm512_castps_pd(b), _mm512_castps_pd(c), _mm512_castps_pd(d));
                t[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
                t[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
                t[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
                t[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
            }
            // Then the 4 x 4 quarters themselves.
            for k in 0..4 {
                let a = _mm512_shuffle_f32x4(t[k], t[4 + k], 0x88);
                let b = _mm512_shuffle_f32x4(t[k], t[4 + k], 0xdd);
                let c = _mm512_shuffle_f32x4(t[8 + k], t[12 + k], 0x88);
                let d = _mm512_shuffle_f32x4(t[8 + k], t[12 + k], 0xdd);
                rows[k] = _mm512_shuffle_f32x4(a, c, 0x88);
                rows[4 + k] = _mm512_shuffle_f32x4(b, d, 0x88);
                rows[8 + k] = _mm512_shuffle_f32x4(a, c, 0xdd);
                rows[12 + k] = _mm512_shuffle_f32x4(b, d, 0xdd);
            }
        }
    }
}

// SAFETY: as for `Avx2`.
#[inline(always)]
unsafe fn transpose_8x8(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: as above.
    unsafe {
        let mut t = r;
        for g in (0..8).step_by(4) {
            let (a, b) = (_mm256_unpacklo_ps(r[g], r[g + 1]), _mm256_unpackhi_ps(r[g], r[g + 1]));
            let (c, d) = (_mm256_unpacklo_ps(r[g + 2], r[g + 3]), _mm256_unpackhi_ps(r[g + 2], r[g + 3]));
            t[g] = _mm256_shuffle_ps(a, c, 0x44);
            t[g + 1] = _mm256_shuffle_ps(a, c, 0xee);
            t[g + 2] = _mm256_shuffle_ps(b, d, 0x44);
            t[g + 3] = _mm256_shuffle_ps(b, d, 0xee);
        }
        let mut out = r;
        for k in 0..4 {
            out[k] = _mm256_permute2f128_ps(t[k], t[4 + k], 0x20);
            out[4 + k] = _mm256_permute2f128_ps(t[k], t[4 + k], 0x31);
        }
        out
    }
}

// SAFETY: as for `Avx2`.
#[inline(always)]
unsafe fn chosen_bytes(a: &[u8; 16], b: &[u8; 16], choice: &[[u8; 16]; 2]) -> __m128i {
    // SAFETY: as above. `NO_BYTE` makes `shuffle` write 0.
    unsafe {
        let of = |bytes: &[u8; 16], choice: &[u8; 16]| {
            _mm_shuffle_epi8(_mm_loadu_si128(bytes.as_ptr().cast()), _mm_loadu_si128(choice.as_ptr().cast()))
        };
        _mm_or_si128(of(a, &choice[0]), of(b, &choice[1]))
    }
}
