//! One vector of 16 floats on every instruction set.
//!
//! A kernel is written once, generic over [`Simd`], as an `#[inline(always)]` body of a [`Kernel`]; [`run`] compiles it
//! once per instruction set inside a function that enables the set, and picks at run time.

mod exp;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

pub use exp::exp;
pub use portable::Portable;

/// An instruction set the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust over `[f32; 16]`, which the compiler vectorises for the target's baseline.
    Portable,
    /// NEON, on every 64-bit Arm processor.
    Neon,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

impl Isa {
    /// The best this machine has, or the one `FERROFLOW_ISA` (`portable`, `neon`, `avx2`, `avx512`) names if it has that.
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
        #[cfg(target_arch = "aarch64")]
        all.push(Isa::Neon);
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
            Isa::Neon => "neon",
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
    /// `a / b`
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * 2^n` for whole `n` of -126..=127.
    unsafe fn times_power_of_two(a: Self::V, n: Self::V) -> Self::V;
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
    /// Four floats from memory (`p` is valid for these), each four times.
    #[inline(always)]
    unsafe fn load_fourfold(p: *const f32) -> Self::V {
        // SAFETY: the caller's.
        unsafe { Self::load(std::array::from_fn::<f32, 16, _>(|i| *p.add(i / 4)).as_ptr()) }
    }
    /// Of 16 bytes of `a` and of `b` (both valid for these) those chosen, as floats: float `i` is the sum of byte
    /// `choice[0][i]` of `a` and byte `choice[1][i]` of `b`, of which one is [`NO_BYTE`] and counts 0.
    #[inline(always)]
    unsafe fn load_bytes(a: *const u8, b: *const u8, choice: &[[u8; 16]; 2]) -> Self::V {
        // SAFETY: the caller's.
        let byte = |p: *const u8, i: u8| if i == NO_BYTE { 0.0 } else { f32::from(unsafe { *p.add(i as usize % 16) }) };
        let floats: [f32; 16] = std::array::from_fn(|i| byte(a, choice[0][i]) + byte(b, choice[1][i]));
        // SAFETY: 16 floats.
        unsafe { Self::load(floats.as_ptr()) }
    }
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

/// In place of a byte's number: no byte.
pub const NO_BYTE: u8 = 0x80;

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
        #[cfg(target_arch = "aarch64")]
        // SAFETY: the target has it.
        Isa::Neon => unsafe { neon::run_neon(kernel) },
        #[allow(unreachable_patterns)]
        _ => panic!("this machine has no {}", isa.name()),
    }
}

#[cfg(target_arch = "x86_64")]
impl Isa {
    /// The best of [`Isa::available`], whatever the environment says.
    fn detected() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().unwrap_or(&Isa::Portable))
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
