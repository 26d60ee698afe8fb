//! The products: at one point, all tiles of a chunk times one panel of weights.

use crate::{
    LANES, gemm,
    simd::{Kernel, Simd},
};

/// `M[vector][tile] (+)= sum over phases, blocks, channels of V[phase][block][tile][channel] * U[..channel][vector]`
pub struct Product<'a> {
    pub v: *const f32,
    /// Input phases, and floats from one to the next.
    pub phases: usize,
    pub phase_step: usize,
    /// Floats from a channel block to the next.
    pub block_step: usize,
    /// The channel blocks; the second number is how many channels.
    pub channels: &'a [(usize, usize)],
    pub u: *const f32,
    pub m: *mut f32,
    /// Floats from a tile of M to the next, and from a vector to the next.
    pub tile_step: usize,
    pub vector_step: usize,
    pub tiles: usize,
    /// 1 or 2, at most `PANEL`.
    pub vectors: usize,
    /// Add to M.
    pub add: bool,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // The next panel follows this one in memory: its lines are asked for while this one is used.
        let lanes = self.phases * self.channels.iter().map(|c| c.1).sum::<usize>();
        let next = self.u.wrapping_add(lanes * self.vectors * LANES);
        for (group, (first, rows)) in gemm::groups(self.tiles, S::TILE).enumerate() {
            let next = next.wrapping_add(group % self.vectors * LANES);
            gemm::rows!(rows, S::TILE, T => {
                // SAFETY: V, U and M are laid out by one `Memory` for at least these tiles and vectors.
                unsafe {
                    if const { S::PANEL >= 2 } && self.vectors == 2 {
                        self.group::<S, T, 2>(first, next);
                    } else {
                        self.group::<S, T, 1>(first, next);
                    }
                }
            });
        }
    }
}

impl Product<'_> {
    /// # Safety
    /// The pointers are valid for `first + T` tiles and `N` vectors; `next` may be anything.
    #[inline(always)]
    unsafe fn group<S: Simd, const T: usize, const N: usize>(&self, first: usize, mut next: *const f32) {
        // SAFETY: the caller's.
        unsafe {
            let m = self.m.add(first * self.tile_step);
            let mut tile = gemm::zero::<S, T, N>();
            if self.add {
                for (t, row) in tile.iter_mut().enumerate() {
                    for (n, sum) in row.iter_mut().enumerate() {
                        *sum = S::load(m.add(t * self.tile_step + n * self.vector_step));
                    }
                }
            }
            let mut u = self.u;
            for phase in 0..self.phases {
                let mut v = self.v.add(phase * self.phase_step + first * LANES);
                for &(_, depth) in self.channels {
                    for k in 0..depth {
                        S::prefetch(next);
                        gemm::step::<S, T, N, LANES>(&mut tile, v.add(k), u);
                        u = u.add(N * LANES);
                        next = next.wrapping_add(N * LANES);
                    }
                    v = v.add(self.block_step);
                }
            }
            for (t, row) in tile.iter().enumerate() {
                for (n, &sum) in row.iter().enumerate() {
                    S::store(m.add(t * self.tile_step + n * self.vector_step), sum);
                }
            }
        }
    }
}
