//! The register tile on operands in the first-level cache.

#![allow(unsafe_code)]

use ferroflow_kernels::{
    Buffer, Isa, LANES, gemm,
    simd::{self, Kernel, Simd},
};

/// Products summed by one tile.
const DEPTH: usize = 256;

pub struct Tile {
    isa: Isa,
    input: Buffer,
    weights: Buffer,
    sums: Buffer,
}

impl Tile {
    pub fn new(isa: Isa) -> Self {
        let (input, weights) = (Buffer::zeroed(DEPTH + 14 * LANES), Buffer::zeroed(DEPTH * 2 * LANES));
        Self { isa, input, weights, sums: Buffer::zeroed(14 * 2 * LANES) }
    }

    pub fn flop(&self) -> u64 {
        struct Points;
        impl Kernel for Points {
            type Output = usize;
            fn run<S: Simd>(self) -> usize {
                S::TILE * S::PANEL
            }
        }
        (2 * DEPTH * LANES * simd::run(self.isa, Points)) as u64
    }

    pub fn run(&mut self) {
        simd::run(self.isa, Once { input: &self.input, weights: &self.weights, sums: &mut self.sums });
    }
}

struct Once<'a> {
    input: &'a [f32],
    weights: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for Once<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        match S::ISA {
            Isa::Avx512 => self.sized::<S, 14, 2>(),
            Isa::Avx2 | Isa::Neon => self.sized::<S, 6, 1>(),
            Isa::Portable => self.sized::<S, 4, 1>(),
        }
    }
}

impl Once<'_> {
    #[inline(always)]
    fn sized<S: Simd, const T: usize, const P: usize>(self) {
        // SAFETY: inside a kernel; `Tile::new` made the buffers for the largest tile and `DEPTH` products.
        unsafe {
            let mut tile = gemm::zero::<S, T, P>();
            gemm::accumulate::<S, T, P, LANES>(&mut tile, self.input.as_ptr(), self.weights.as_ptr(), DEPTH);
            for (t, row) in tile.iter().enumerate() {
                for (p, &sum) in row.iter().enumerate() {
                    S::store(self.sums.as_mut_ptr().add((t * P + p) * LANES), sum);
                }
            }
        }
    }
}
