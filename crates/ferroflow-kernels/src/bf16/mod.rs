//! Products of bf16 numbers summed in f32: the register tile of every bf16 convolution.
//!
//! bf16 is the upper half of an f32. Processors multiply it in pairs: AVX512-BF16 two products per lane, AMX tiles
//! 16 x 16 sums of 32 products at once. One interface, `Product`, has three implementations: both of these, and plain
//! Rust, which says what they compute and stands in for them in tests.
//!
//! The instructions round to nearest even, and take and give zero for subnormal numbers; neither is configurable.
//! `round` flushes subnormals too, so that every implementation multiplies the same numbers. The product of two bf16
//! is exact in f32, so only the order of the sums differs: of 32 products AMX adds the even ones and the odd ones to
//! sums of their own and both to the tile's; AVX512-BF16 adds each pair to the sum, the odd one first.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod check;
mod portable;

use std::{marker::PhantomData, sync::OnceLock};

use crate::{Isa, machine};

/// Points, and outputs, of one tile.
pub(crate) const TILE: usize = 16;
/// Products that a step adds to each sum.
pub(crate) const DEPTH: usize = 32;
/// Tiles of points in a product.
pub(crate) const TILES: usize = 2;
/// Tiles of outputs in a product at most.
pub(crate) const PANEL: usize = 2;
/// Numbers in a tile of inputs or of weights.
pub(crate) const TILE_LEN: usize = TILE * DEPTH;

/// A way to multiply in bf16 that this processor has and that was seen to compute rightly: to hold one proves both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bf16(Unit);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
}

/// Why nothing can be multiplied in bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bf16Error {
    /// The processor, or the operating system on it, has no such instructions.
    Missing,
    /// The instructions are there but a known product came out wrong.
    Wrong {
        /// Which, as [`Bf16::name`].
        unit: &'static str,
    },
}

impl std::fmt::Display for Bf16Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => write!(
                f,
                "this processor has neither AVX512-BF16 nor AMX tiles that the system grants: compute in f32 \
                 (--precision f32)"
            ),
            Self::Wrong { unit } => write!(
                f,
                "this processor's bf16 instructions ({unit}) gave a wrong result for a known product: compute in f32 \
                 (--precision f32)"
            ),
        }
    }
}

impl std::error::Error for Bf16Error {}

impl Bf16 {
    /// The best of this processor, or the one that `FERROFLOW_BF16` (`portable`, `avx512`, `amx`) names if it has that.
    /// The portable one, slower than f32, is never chosen unasked.
    ///
    /// # Errors
    /// If there is none, or if it fails its test: one product with a known result, once per process.
    pub fn detect() -> Result<Self, Bf16Error> {
        static FOUND: OnceLock<Result<Bf16, Bf16Error>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let named = std::env::var("FERROFLOW_BF16").ok();
            let mut units = available();
            let found = match units.iter().position(|unit| Some(unit.name()) == named.as_deref()) {
                Some(named) => units.swap_remove(named),
                None => units.pop().filter(|&unit| unit != Unit::Portable).ok_or(Bf16Error::Missing)?,
            };
            if check::is_right(Self(found)) { Ok(Self(found)) } else { Err(Bf16Error::Wrong { unit: found.name() }) }
        })
    }

    /// Plain Rust, on every processor: what the others are compared with.
    pub fn portable() -> Self {
        Self(Unit::Portable)
    }

    /// `portable`, `avx512` or `amx`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Operations per second expected of one core, for the choice of an algorithm. The portable one stands in for the
    /// best, for the choice too.
    pub(crate) fn flops(self) -> f64 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 => machine::core::FLOPS_BF16_AVX512,
            _ => machine::core::FLOPS_BF16_AMX,
        }
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 => "avx512",
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Unit::Amx => "amx",
        }
    }
}

/// What this processor has, the best last.
fn available() -> Vec<Unit> {
    #[allow(unused_mut)]
    let mut all = vec![Unit::Portable];
    #[cfg(target_arch = "x86_64")]
    if !cfg!(miri) && avx512::is_available() {
        all.push(Unit::Avx512);
    }
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if !cfg!(miri) && amx::is_available() {
        all.push(Unit::Amx);
    }
    all
}

/// The nearest bf16, ties to even; subnormal numbers become zero, and not-a-number stays that.
#[inline(always)]
pub(crate) fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let finite_or_infinite = if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { nearest };
    (if bits & 0x7fff_ffff > 0x7f80_0000 { bits | 0x40_0000 } else { finite_or_infinite } >> 16) as u16
}

/// `sums[tile][panel][point][output] = sum over s and k of inputs[tile][point * step + offsets[s] + k] *
/// weights[s][panel][k][output]`, for 2 tiles of 16 points and a panel of 1 or 2 tiles of 16 outputs.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    /// The first number of each tile of points.
    pub inputs: [*const u16; TILES],
    /// Numbers from a point to the next.
    pub step: usize,
    /// Bytes from the first number of a point to the 32 of each step; at least one.
    pub offsets: &'a [u32],
    /// `[step][panel][16 pairs][16 outputs][2]`
    pub weights: *const u16,
    /// Tiles of outputs.
    pub panel: usize,
    /// `[tile][panel][16 points][16 outputs]`
    pub sums: *mut f32,
}

/// The processor's tiles, configured for the current thread as long as this lives.
pub(crate) struct Multiplier {
    unit: Unit,
    /// Tiles belong to a thread.
    thread: PhantomData<*const ()>,
}

impl Multiplier {
    /// # Safety
    /// While it lives, this thread makes no other.
    pub unsafe fn new(bf16: Bf16) -> Self {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if bf16.0 == Unit::Amx {
            // SAFETY: only where `is_available` said so is there a `Unit::Amx`.
            unsafe { amx::configure() };
        }
        Self { unit: bf16.0, thread: PhantomData }
    }

    /// Computes a product.
    ///
    /// # Safety
    /// Inputs and weights must be valid for reads, sums for writes, of as many numbers as [`Product`] says.
    #[inline(always)]
    pub unsafe fn run(&self, product: &Product<'_>) {
        debug_assert!(!product.offsets.is_empty() && (1..=PANEL).contains(&product.panel));
        match self.unit {
            // SAFETY: the caller's.
            Unit::Portable => unsafe { portable::multiply(Isa::detect(), product) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller's; a `Unit::Avx512` proves the instructions.
            Unit::Avx512 => unsafe {
                match product.panel {
                    1 => avx512::multiply::<1>(product),
                    _ => avx512::multiply::<2>(product),
                }
            },
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            // SAFETY: the caller's; `new` configured the tiles of this thread.
            Unit::Amx => unsafe {
                match product.panel {
                    1 => amx::multiply_narrow(product),
                    _ => amx::multiply(product),
                }
            },
        }
    }
}

impl Drop for Multiplier {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.unit == Unit::Amx {
            // SAFETY: `new` configured the tiles of this thread, and the type does not leave it.
            unsafe { amx::release() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn numbers_round_to_the_nearest_even() {
        let value = |bits: u16| f32::from_bits(u32::from(bits) << 16);
        for (x, want) in [
            (1.0, 0x3f80),
            (-1.0, 0xbf80),
            (1.0 + 1.0 / 256.0, 0x3f80),
            (1.0 + 3.0 / 256.0, 0x3f82),
            (1.0 + 1.1 / 256.0, 0x3f81),
            (f32::INFINITY, 0x7f80),
            (f32::NEG_INFINITY, 0xff80),
            (f32::MAX, 0x7f80),
            (-0.0, 0x8000),
            (1e-40, 0),
            (f32::MIN_POSITIVE, 0x0080),
        ] {
            assert_eq!(round(x), want, "{x}");
        }
        for nan in [0x7f80_0001u32, 0x7fff_ffff, 0xffff_ffff, 0xff80_0001] {
            assert!(value(round(f32::from_bits(nan))).is_nan(), "{nan:x}");
        }
        let mut random = Random::new(3);
        for _ in 0..10_000 {
            let x = f32::from_bits(random.next() as u32);
            if x.is_normal() {
                let (low, high) = (f32::from_bits(x.to_bits() & 0xffff_0000), value(round(x)));
                // Nearer than half a unit in the last place of eight digits.
                let unit = f64::from(f32::from_bits(low.to_bits() & 0x7f80_0000)) / 128.0;
                assert!(!high.is_finite() || (f64::from(high) - f64::from(x)).abs() <= unit / 2.0, "{x} to {high}");
            }
        }
    }

    #[test]
    fn every_unit_of_this_processor_passes_its_test() {
        for unit in available() {
            assert!(check::is_right(Bf16(unit)), "{unit:?}");
        }
    }

    /// Only the order of the sums may differ: a few roundings of sums of some 300 products below 1.
    #[test]
    fn units_agree_on_any_numbers() {
        let mut random = Random::new(5);
        let mut numbers = |len: usize| -> Vec<u16> { (0..len).map(|_| round(random.float())).collect() };
        for (panel, offsets, step) in [(1, vec![0u32, 6, 64], 32), (2, vec![2, 0, 130, 66, 512], 35), (2, vec![40], 7)]
        {
            let inputs = numbers(TILES * TILE * 40 + 300);
            let weights = numbers(offsets.len() * panel * TILE_LEN);
            let first = inputs.as_ptr();
            let sums = |unit: Unit| {
                let mut sums = vec![f32::NAN; TILES * panel * TILE * TILE];
                let product = Product {
                    inputs: [first, first.wrapping_add(TILE * step)],
                    step,
                    offsets: &offsets,
                    weights: weights.as_ptr(),
                    panel,
                    sums: sums.as_mut_ptr(),
                };
                // SAFETY: the only multiplier meanwhile; all is as long as the product says.
                unsafe { Multiplier::new(Bf16(unit)).run(&product) };
                sums
            };
            let want = sums(Unit::Portable);
            for (i, &want) in want.iter().enumerate() {
                let (tile, n, point, output) = (i / panel / 256, i / 256 % panel, i / 16 % 16, i % 16);
                let exact: f64 = (0..offsets.len() * DEPTH)
                    .map(|term| {
                        let value = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
                        let (s, k) = (term / DEPTH, term % DEPTH);
                        let at = (tile * TILE + point) * step + offsets[s] as usize / 2 + k;
                        let weight = (s * panel + n) * TILE_LEN + k / 2 * DEPTH + 2 * output + k % 2;
                        value(inputs[at]) * value(weights[weight])
                    })
                    .sum();
                assert!((f64::from(want) - exact).abs() < 1e-5, "sum {i}: {want}, not {exact}");
            }
            for unit in available() {
                let got = sums(unit);
                assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{unit:?} differs");
            }
        }
    }

    #[test]
    fn without_the_instructions_the_error_says_so() {
        match Bf16::detect() {
            Ok(found) => assert!(available().contains(&found.0)),
            Err(error) => {
                assert_eq!((error, available()), (Bf16Error::Missing, vec![Unit::Portable]));
                assert!(error.to_string().contains("neither AVX512-BF16 nor AMX"));
            }
        }
    }
}
