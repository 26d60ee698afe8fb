//! What an instruction set computes with, and a computation on it.

use super::isa::Isa;

/// An instruction set of vectors of 16 floats, and the proof that this processor has it: its types are private to `simd`,
/// where [`super::run`] alone names them, after it has looked. Who has an `S: Simd` was called by it. So computing with vectors
/// is safe; only what goes through a pointer is not.
///
/// # Safety
/// Who implements it must see to it that no code can name the type where the instruction set may be missing, and that `load` and
/// `store` touch 16 floats.
///
/// # Safety of the methods that are unsafe
/// Pointers must be valid for 16 floats; no alignment is needed.
#[allow(clippy::missing_safety_doc)]
pub unsafe trait Simd: Copy + Send + Sync + 'static {
    /// The vector.
    type V: Copy;
    /// Which set this is.
    const ISA: Isa;
    /// Rows of the register tile `TILE` points x `PANEL` vectors that reaches the arithmetic limit.
    const TILE: usize;
    /// Vectors of that tile.
    const PANEL: usize;
    /// All zero.
    fn zero() -> Self::V;
    /// All equal.
    fn splat(x: f32) -> Self::V;
    /// 16 floats from memory.
    unsafe fn load(p: *const f32) -> Self::V;
    /// 16 floats to memory.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first 16 floats of a slice.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    fn read(from: &[f32]) -> Self::V {
        let from: &[f32; 16] = from.first_chunk().expect("a vector has 16 floats");
        // SAFETY: they are there.
        unsafe { Self::load(from.as_ptr()) }
    }
    /// Into the first 16 floats of a slice.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    fn write(to: &mut [f32], v: Self::V) {
        let to: &mut [f32; 16] = to.first_chunk_mut().expect("a vector has 16 floats");
        // SAFETY: they are there.
        unsafe { Self::store(to.as_mut_ptr(), v) }
    }
    /// `a + b`
    fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * 2^n` for whole `n` of -126..=127.
    fn times_power_of_two(a: Self::V, n: Self::V) -> Self::V;
    /// `a * b + c`
    fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of each pair.
    fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of each pair.
    fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a` where `condition` is positive, `b` elsewhere.
    fn where_positive(condition: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Sum of the 16.
    fn sum(v: Self::V) -> f32;
    /// Float `j` of row `i` and float `i` of row `j` change places.
    fn transpose(rows: &mut [Self::V; 16]);
    /// Four floats, each four times.
    #[inline(always)]
    fn fourfold(from: &[f32; 4]) -> Self::V {
        Self::read(&std::array::from_fn::<f32, 16, _>(|i| from[i / 4]))
    }
    /// Of 16 bytes of `a` and of `b` those chosen, as floats: float `i` is the sum of byte `choice[0][i]` of `a` and byte
    /// `choice[1][i]` of `b`, of which one is [`NO_BYTE`] and counts 0.
    #[inline(always)]
    fn bytes(a: &[u8; 16], b: &[u8; 16], choice: &[[u8; 16]; 2]) -> Self::V {
        let byte = |of: &[u8; 16], i: u8| if i == NO_BYTE { 0.0 } else { f32::from(of[i as usize % 16]) };
        Self::read(&std::array::from_fn::<f32, 16, _>(|i| byte(a, choice[0][i]) + byte(b, choice[1][i])))
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
    fn fence() {}
    /// Asks for the cache line of `p` (any address) in the second-level cache.
    #[inline(always)]
    fn prefetch(_p: *const f32) {}
    /// Asks for the cache line of `p` (any address) in the first-level cache.
    #[inline(always)]
    fn prefetch_near(_p: *const f32) {}
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
