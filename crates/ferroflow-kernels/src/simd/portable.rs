//! Plain Rust.

use super::{isa::Isa, vector::Simd};
use crate::machine::tile;

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

// SAFETY: plain Rust is everywhere; `load` and `store` touch 16 floats.
unsafe impl Simd for Portable {
    type V = Lanes;
    const ISA: Isa = Isa::Portable;
    const TILE: usize = tile::PORTABLE.0;
    const PANEL: usize = tile::PORTABLE.1;
    #[inline(always)]
    fn zero() -> Lanes {
        Lanes([0.0; 16])
    }
    #[inline(always)]
    fn splat(x: f32) -> Lanes {
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
    fn add(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| a / b)
    }
    #[inline(always)]
    fn times_power_of_two(a: Lanes, n: Lanes) -> Lanes {
        a.zip(n, |a, n| a * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
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
    fn max(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(a: Lanes, b: Lanes) -> Lanes {
        a.zip(b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn where_positive(condition: Lanes, a: Lanes, b: Lanes) -> Lanes {
        let mut out = b;
        for i in 0..16 {
            out.0[i] = if condition.0[i] > 0.0 { a.0[i] } else { b.0[i] };
        }
        out
    }
    #[inline(always)]
    fn sum(v: Lanes) -> f32 {
        v.0.iter().sum()
    }
    #[inline(always)]
    fn transpose(rows: &mut [Lanes; 16]) {
        let from = *rows;
        for (i, row) in rows.iter_mut().enumerate() {
            for (j, value) in row.0.iter_mut().enumerate() {
                *value = from[j].0[i];
            }
        }
    }
}
