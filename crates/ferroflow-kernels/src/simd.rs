//! One vector of 16 floats on every instruction set.
//!
//! A kernel is written once, generic over [`Simd`], as an `#[inline(always)]` body of a [`Kernel`]; [`run`] compiles it
//! once per instruction set inside a function that enables the set, and picks at run time.

use std::sync::OnceLock;

/// An instruction set the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust over `[f32; 16]`, which the compiler vectorises for the target's baseline (NEON on aarch64).
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

impl Isa {
    /// The best this machine has, or the one `FERROFLOW_ISA` (`portable`, `avx2`, `avx512`) names if it has that.
    pub fn detect() -> Self {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(|| {
            let available = Self::available();
            let best = *available.last().unwrap_or(&Isa::Portable);
            match std::env::var("FERROFLOW_ISA").as_deref() {
                Ok(name) => available.into_iter().find(|isa| isa.name() == name).unwrap_or(best),
                Err(_) => best,
            }
        })
    }

    /// Every instruction set of this machine, the portable one first, the best last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut all = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Isa::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    all.push(Isa::Avx512);
                }
            }
        }
        all
    }

    /// Its name in `FERROFLOW_ISA` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

/// Vectors of 16 floats.
///
/// # Safety of the methods
/// Only inside [`Kernel::run`] as called by [`run`], which proves that the instruction set is there. Pointers must be
/// valid for 16 floats; no alignment is needed.
#[allow(clippy::missing_safety_doc)]
pub trait Simd: Copy + Send + Sync + 'static {
    /// The vector.
    type V: Copy;
    /// Which set this is.
    const ISA: Isa;
    /// Rows of the register tile `TILE` points x `PANEL` vectors that reaches the arithmetic limit.
    const TILE: usize;
    /// Vectors of that tile.
    const PANEL: usize;
    /// All zero.
    unsafe fn zero() -> Self::V;
    /// All equal.
    unsafe fn splat(x: f32) -> Self::V;
    /// 16 floats from memory.
    unsafe fn load(p: *const f32) -> Self::V;
    /// 16 floats to memory.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// `a + b`
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of each pair.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of each pair.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a` where `condition` is positive, `b` elsewhere.
    unsafe fn where_positive(condition: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Sum of the 16.
    unsafe fn sum(v: Self::V) -> f32;
    /// Float `j` of row `i` and float `i` of row `j` change places.
    unsafe fn transpose(rows: &mut [Self::V; 16]);
    /// 16 floats to memory past the caches, for values that will have left them before they are read; `p` is aligned to
    /// 64 bytes. [`Simd::fence`] comes after the last, before another thread reads.
    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: Self::V) {
        // SAFETY: the caller's.
        unsafe { Self::store(p, v) }
    }
    /// Orders earlier [`Simd::stream`]s before all later stores.
    #[inline(always)]
    unsafe fn fence() {}
    /// Asks for the cache line of `p` (any address) in the second-level cache.
    #[inline(always)]
    unsafe fn prefetch(_p: *const f32) {}
    /// Asks for the cache line of `p` (any address) in the first-level cache.
    #[inline(always)]
    unsafe fn prefetch_near(_p: *const f32) {}
}

/// A computation to be compiled for every instruction set. `run` and all it calls must be `#[inline(always)]`.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// The body.
    fn run<S: Simd>(self) -> Self::Output;
}

/// Runs a kernel on `isa`.
///
/// # Panics
/// If this machine lacks `isa`.
pub fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        Isa::Portable => kernel.run::<Portable>(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            assert!(Isa::detected() >= Isa::Avx2, "this machine has no AVX2");
            // SAFETY: the assertion above.
            unsafe { x86::run_avx2(kernel) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            assert!(Isa::detected() >= Isa::Avx512, "this machine has no AVX-512");
            // SAFETY: the assertion above.
            unsafe { x86::run_avx512(kernel) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        _ => panic!("this machine has no {}", isa.name()),
    }
}

impl Isa {
    /// The best of [`Isa::available`], whatever the environment says.
    fn detected() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().unwrap_or(&Isa::Portable))
    }
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub struct Portable;

/// 16 floats, for the compiler to vectorise.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Lanes([f32; 16]);

impl Lanes {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self;
        for i in 0..16 {
            out.0[i] = f(self.0[i], other.0[i]);
        }
        out
    }
}

impl Simd for Portable {
    type V = Lanes;
    const ISA: Isa = Isa::Portable;
    const TILE: usize = 4;
    const PANEL: usize = 1;
    #[inline(always)]
    unsafe fn zero() -> Lanes {
        Lanes([0.0; 16])
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Lanes {
        Lanes([x; 16])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Lanes {
        // SAFETY: the caller's pointer is valid for 16 floats.
        Lanes(unsafe { p.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Lanes) {
        // SAFETY: the caller's pointer is valid for 16 floats.
        unsafe { p.cast::<[f32; 16]>().write_unaligned(v.0) }
    }
    #[inline(always)]
    unsafe fn add(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        let mut out = c;
        for i in 0..16 {
            // `mul_add` without the instruction is a library call; two roundings are as good here.
            out.0[i] = if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
                a.0[i].mul_add(b.0[i], c.0[i])
            } else {
                a.0[i] * b.0[i] + c.0[i]
            };
        }
        out
    }
    #[inline(always)]
    unsafe fn max(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn where_positive(condition: Lanes, a: Lanes, b: Lanes) -> Lanes {
        let mut out = b;
        for i in 0..16 {
            out.0[i] = if condition.0[i] > 0.0 { a.0[i] } else { b.0[i] };
        }
        out
    }
    #[inline(always)]
    unsafe fn sum(v: Lanes) -> f32 {
        v.0.iter().sum()
    }
    #[inline(always)]
    unsafe fn transpose(rows: &mut [Lanes; 16]) {
        let from = *rows;
        for (i, row) in rows.iter_mut().enumerate() {
            for (j, value) in row.0.iter_mut().enumerate() {
                *value = from[j].0[i];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Isa, Kernel, Simd};

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

    // SAFETY of every block below: `Simd`'s contract; the methods run only inside `run_avx2` and `run_avx512`.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Avx2 {
        type V = [__m256; 2];
        const ISA: Isa = Isa::Avx2;
        const TILE: usize = 6;
        const PANEL: usize = 1;
        #[inline(always)]
        unsafe fn zero() -> Self::V {
            unsafe { [_mm256_setzero_ps(); 2] }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
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
        unsafe fn stream(p: *mut f32, v: Self::V) {
            unsafe {
                _mm256_stream_ps(p, v[0]);
                _mm256_stream_ps(p.add(8), v[1]);
            }
        }
        #[inline(always)]
        unsafe fn fence() {
            unsafe { _mm_sfence() }
        }
        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
            unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
        }
        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
            unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
        }
        #[inline(always)]
        unsafe fn where_positive(condition: Self::V, a: Self::V, b: Self::V) -> Self::V {
            unsafe {
                let half = |i: usize| {
                    let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(condition[i], _mm256_setzero_ps());
                    _mm256_blendv_ps(b[i], a[i], positive)
                };
                [half(0), half(1)]
            }
        }
        #[inline(always)]
        unsafe fn sum(v: Self::V) -> f32 {
            unsafe {
                let s = _mm256_add_ps(v[0], v[1]);
                let s = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
                let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
                _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)))
            }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn prefetch_near(p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn transpose(rows: &mut [Self::V; 16]) {
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

    // SAFETY of every block below: as for `Avx2`.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Avx512 {
        type V = __m512;
        const ISA: Isa = Isa::Avx512;
        const TILE: usize = 14;
        const PANEL: usize = 2;
        #[inline(always)]
        unsafe fn zero() -> Self::V {
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
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
        unsafe fn stream(p: *mut f32, v: Self::V) {
            unsafe { _mm512_stream_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn fence() {
            unsafe { _mm_sfence() }
        }
        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn where_positive(condition: Self::V, a: Self::V, b: Self::V) -> Self::V {
            unsafe {
                let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(condition, _mm512_setzero_ps());
                _mm512_mask_blend_ps(positive, b, a)
            }
        }
        #[inline(always)]
        unsafe fn sum(v: Self::V) -> f32 {
            unsafe { _mm512_reduce_add_ps(v) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn prefetch_near(p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn transpose(rows: &mut [Self::V; 16]) {
            unsafe {
                // Within each 128-bit quarter: t[4g + k] holds column k of rows 4g .. 4g + 4.
                let mut t = *rows;
                for g in (0..16).step_by(4) {
                    let (a, b) = (_mm512_unpacklo_ps(rows[g], rows[g + 1]), _mm512_unpackhi_ps(rows[g], rows[g + 1]));
                    let (c, d) =
                        (_mm512_unpacklo_ps(rows[g + 2], rows[g + 3]), _mm512_unpackhi_ps(rows[g + 2], rows[g + 3]));
                    let (a, b, c, d) =
                        (_mm512_castps_pd(a), _mm512_castps_pd(b), _mm512_castps_pd(c), _mm512_castps_pd(d));
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
}

#[cfg(test)]
mod tests {
    use super::{Isa, Kernel, Simd, run};

    struct Transpose<'a>(&'a mut [[f32; 16]; 16]);

    impl Kernel for Transpose<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self) {
            // SAFETY: called through `run`; every row has 16 floats.
            unsafe {
                let mut rows: [S::V; 16] = std::array::from_fn(|i| S::load(self.0[i].as_ptr()));
                S::transpose(&mut rows);
                for (to, row) in self.0.iter_mut().zip(rows) {
                    S::store(to.as_mut_ptr(), row);
                }
            }
        }
    }

    #[test]
    fn transposition_swaps_rows_and_columns() {
        for isa in Isa::available() {
            let mut square = std::array::from_fn(|i| std::array::from_fn(|j| (16 * i + j) as f32));
            run(isa, Transpose(&mut square));
            for (i, row) in square.iter().enumerate() {
                for (j, &value) in row.iter().enumerate() {
                    assert_eq!(value, (16 * j + i) as f32, "{}", isa.name());
                }
            }
        }
    }
}
