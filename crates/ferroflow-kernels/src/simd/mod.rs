//! One vector of 16 floats on every instruction set.
//!
//! A kernel is written once, generic over [`Simd`], as an `#[inline(always)]` body of a [`Kernel`]; [`run`] compiles it
//! once per instruction set inside a function that enables the set, and picks at run time.

mod exp;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod smooth;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use exp::exp;
pub use isa::Isa;
pub use portable::Portable;
pub(crate) use smooth::{gelu, gelu_slope, sigmoid, tanh};
pub use vector::{Kernel, NO_BYTE, Simd};

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
