//! One output row of one block: several neighbouring outputs at a time, bias and nine weights in registers.

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

/// Columns ahead of which new rows are asked for: the processor's own prefetching begins anew at every row.
const AHEAD: usize = 32;

impl Row<'_> {
    /// Computes the row.
    ///
    /// # Safety
    /// In a [`crate::simd::Kernel`]; the pointers valid as described, 16 floats readable from every pixel.
    #[inline(always)]
    pub unsafe fn run<S: Simd, const STRIDE: usize>(self) {
        // SAFETY: the caller's.
        unsafe {
            match (self.half, self.pixel) {
                (0, LANES) => self.across::<S, STRIDE, LANES, 0>(),
                (0, _) => self.across::<S, STRIDE, 0, 0>(),
                _ => self.across::<S, STRIDE, LANES, 1>(),
            }
        }
    }

    /// `PIXEL` and `HALF` are the fields of these names, so that addresses are displacements; a `PIXEL` of 0 is any.
    #[inline(always)]
    unsafe fn across<S: Simd, const STRIDE: usize, const PIXEL: usize, const HALF: usize>(mut self) {
        let Range { start, end } = self.columns;
        // Outputs all of whose taps lie in the image.
        let inner = self.before.div_ceil(STRIDE).clamp(start, end);
        let outer = if self.width + self.before >= 3 { (self.width + self.before - 3) / STRIDE + 1 } else { 0 };
        let outer = outer.clamp(inner, end);
        // SAFETY: the caller's; `inner..outer` as said.
        unsafe {
            let mut weights = [S::zero(); 10];
            for (i, weight) in weights.iter_mut().enumerate() {
                *weight = S::load(self.weights.add(i * LANES));
            }
            for x in start..inner {
                self.edge::<S, STRIDE>(x);
            }
            let mut x = inner;
            // Several at a time begin with the first of two equal columns.
            let before = self.before;
            let odd = |x: usize| HALF == 1 && !(x * STRIDE - before).is_multiple_of(2);
            if x < outer && odd(x) {
                self.inside::<S, STRIDE, PIXEL, HALF, 1>(x, &weights);
                x += 1;
            }
            if x < outer && !odd(x) {
                // Twice as many at stride 2 would take 17 inputs: more than there are registers.
                while S::ISA == Isa::Avx512 && STRIDE == 1 && x + 8 <= outer {
                    self.inside::<S, STRIDE, PIXEL, HALF, 8>(x, &weights);
                    x += 8;
                }
                if S::ISA == Isa::Avx512 {
                    while x + 4 <= outer {
                        self.inside::<S, STRIDE, PIXEL, HALF, 4>(x, &weights);
                        x += 4;
                    }
                }
                while x + 2 <= outer {
                    self.inside::<S, STRIDE, PIXEL, HALF, 2>(x, &weights);
                    x += 2;
                }
            }
            for x in x..outer {
                self.inside::<S, STRIDE, PIXEL, HALF, 1>(x, &weights);
            }
            for x in outer..end {
                self.edge::<S, STRIDE>(x);
            }
        }
    }

    #[inline(always)]
    unsafe fn inside<S: Simd, const STRIDE: usize, const PIXEL: usize, const HALF: usize, const T: usize>(
        &mut self,
        x: usize,
        weights: &[S::V; 10],
    ) {
        // SAFETY: `run`'s.
        unsafe {
            let pixel = if PIXEL == 0 { self.pixel } else { PIXEL };
            let first = x * STRIDE - self.before;
            let odd = if T == 1 { first % (HALF + 1) } else { 0 };
            let at = |i: usize| ((odd + i) >> HALF) * pixel;
            let mut sums = [weights[0]; T];
            for ky in 0..3 {
                let row = self.rows[ky].add((first >> HALF) * pixel);
                // Rows that the output row above has not read.
                if T > 2 && ky + STRIDE >= 3 {
                    for i in 0..(T * STRIDE) >> HALF {
                        S::prefetch_near(row.wrapping_add((AHEAD + i) * pixel));
                    }
                }
                for i in 0..(T - 1) * STRIDE + 3 {
                    let input = S::load(row.add(at(i)));
                    for kx in 0..3 {
                        if i >= kx && (i - kx).is_multiple_of(STRIDE) && (i - kx) / STRIDE < T {
                            let t = (i - kx) / STRIDE;
                            sums[t] = S::fma(input, weights[1 + 3 * ky + kx], sums[t]);
                        }
                    }
                }
            }
            self.write::<S, T>(x, sums);
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
            self.write::<S, 1>(x, [sum]);
        }
    }

    #[inline(always)]
    unsafe fn write<S: Simd, const T: usize>(&mut self, x: usize, sums: [S::V; T]) {
        let to = &mut self.to[(x - self.columns.start) * LANES..][..T * LANES];
        for (to, sum) in to.chunks_exact_mut(LANES).zip(sums) {
            // SAFETY: `to` has 16 floats.
            unsafe {
                let sum = match self.activation {
                    Activation::Linear | Activation::Smooth(_) => sum,
                    Activation::LeakyRelu(slope) => S::max(sum, S::mul(sum, S::splat(slope))),
                    Activation::AroundSum { .. } => unreachable!("nothing is added"),
                };
                S::store(to.as_mut_ptr(), sum);
            }
        }
    }
}
