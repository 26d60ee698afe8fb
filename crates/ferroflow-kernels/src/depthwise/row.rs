//! One output row of one block: four neighbouring outputs at a time, nine weights in registers.

use std::ops::Range;

use crate::{Isa, LANES, conv::Activation, simd::Simd};

pub struct Row<'a> {
    /// The three input rows; zeros for those outside the image.
    pub rows: [*const f32; 3],
    /// 1 where the rows are read doubled.
    pub half: usize,
    /// Floats from pixel to pixel.
    pub pixel: usize,
    /// Input columns, after doubling.
    pub width: usize,
    /// Zeros left of the image.
    pub before: usize,
    /// Bias and nine taps.
    pub weights: *const f32,
    pub activation: Activation,
    /// Output columns.
    pub columns: Range<usize>,
    pub to: &'a mut [f32],
}

impl Row<'_> {
    /// Computes the row.
    ///
    /// # Safety
    /// In a [`crate::simd::Kernel`]; the pointers valid as described, 16 floats readable from every pixel.
    #[inline(always)]
    pub unsafe fn run<S: Simd, const STRIDE: usize>(mut self) {
        let Range { start, end } = self.columns;
        // Outputs all of whose taps lie in the image.
        let inner = self.before.div_ceil(STRIDE).clamp(start, end);
        let outer = if self.width + self.before >= 3 { (self.width + self.before - 3) / STRIDE + 1 } else { 0 };
        let outer = outer.clamp(inner, end);
        // SAFETY: the caller's; `inner..outer` as said.
        unsafe {
            for x in start..inner {
                self.edge::<S, STRIDE>(x);
            }
            let mut x = inner;
            if S::ISA == Isa::Avx512 {
                while x + 4 <= outer {
                    self.inside::<S, STRIDE, 4>(x);
                    x += 4;
                }
            }
            while x + 2 <= outer {
                self.inside::<S, STRIDE, 2>(x);
                x += 2;
            }
            for x in x..outer {
                self.inside::<S, STRIDE, 1>(x);
            }
            for x in outer..end {
                self.edge::<S, STRIDE>(x);
            }
        }
    }

    #[inline(always)]
    unsafe fn inside<S: Simd, const STRIDE: usize, const T: usize>(&mut self, x: usize) {
        // SAFETY: `run`'s.
        unsafe {
            let first = x * STRIDE - self.before;
            let mut sums = [S::load(self.weights); T];
            for ky in 0..3 {
                let mut w = [S::zero(); 3];
                for kx in 0..3 {
                    w[kx] = S::load(self.weights.add((1 + 3 * ky + kx) * LANES));
                }
                for i in 0..(T - 1) * STRIDE + 3 {
                    let input = S::load(self.rows[ky].add(((first + i) >> self.half) * self.pixel));
                    for kx in 0..3 {
                        if i >= kx && (i - kx).is_multiple_of(STRIDE) && (i - kx) / STRIDE < T {
                            let t = (i - kx) / STRIDE;
                            sums[t] = S::fma(input, w[kx], sums[t]);
                        }
                    }
                }
            }
            for t in 0..T {
                self.write::<S>(x + t, sums[t]);
            }
        }
    }

    #[inline(always)]
    unsafe fn edge<S: Simd, const STRIDE: usize>(&mut self, x: usize) {
        // SAFETY: `run`'s; taps outside the image are left out.
        unsafe {
            let mut sum = S::load(self.weights);
            for kx in 0..3 {
                let Some(at) = (x * STRIDE + kx).checked_sub(self.before).filter(|at| *at < self.width) else {
                    continue;
                };
                for ky in 0..3 {
                    let input = S::load(self.rows[ky].add((at >> self.half) * self.pixel));
                    sum = S::fma(input, S::load(self.weights.add((1 + 3 * ky + kx) * LANES)), sum);
                }
            }
            self.write::<S>(x, sum);
        }
    }

    #[inline(always)]
    unsafe fn write<S: Simd>(&mut self, x: usize, sum: S::V) {
        let to = &mut self.to[(x - self.columns.start) * LANES..][..LANES];
        // SAFETY: `to` has 16 floats.
        unsafe {
            let sum = match self.activation {
                Activation::Linear => sum,
                Activation::LeakyRelu(slope) => S::max(sum, S::mul(sum, S::splat(slope))),
            };
            S::store(to.as_mut_ptr(), sum);
        }
    }
}
