//! What an instruction set computes with, and a computation on it.

use super::isa::Isa;

/// Vectors of 16 floats.
///
/// # Safety of the methods
/// Only inside [`Kernel::run`] as called by [`super::run`], which proves that the instruction set is there. Pointers must be
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
