//! The gradient of depthwise filters: sums of products of a gradient with the input, tap by tap.

use crate::{Isa, LANES, simd::Simd};

/// A number for each tap and lane of a block.
pub type Taps = [[f32; LANES]; 9];

/// Products of a row of `gd`, the gradient of a depthwise convolution's result, with the three input rows it is made of.
pub struct Products {
    /// Zeros for rows outside the image.
    pub rows: [*const f32; 3],
    /// Floats from pixel to pixel of the input.
    pub pixel: usize,
    /// Columns of the input.
    pub width: usize,
    /// Zeros left of the image.
    pub before: usize,
    /// The row of `gd`, and its columns.
    pub gd: *const f32,
    pub count: usize,
}

impl Products {
    /// Adds the row's share of the weights' gradient.
    ///
    /// # Safety
    /// In a [`crate::simd::Kernel`]; the rows valid as described, 16 floats readable from every pixel.
    #[inline(always)]
    pub unsafe fn add<S: Simd, const STRIDE: usize>(&self, sums: &mut Taps) {
        // SAFETY: the caller's; AVX2 and less do not have the registers for nine sums at a time.
        unsafe {
            if const { matches!(S::ISA, Isa::Avx512) } {
                self.add_rows::<S, STRIDE, 3, 4>(0, sums);
            } else {
                for ky in 0..3 {
                    self.add_rows::<S, STRIDE, 1, 2>(ky, sums);
                }
            }
        }
    }

    /// Adds to the sums of `R` rows of taps from `first`, `T` points at a time.
    #[inline(always)]
    unsafe fn add_rows<S: Simd, const STRIDE: usize, const R: usize, const T: usize>(
        &self,
        first: usize,
        sums: &mut Taps,
    ) {
        // Points all of whose taps lie in the image.
        let inner = self.before.div_ceil(STRIDE).min(self.count);
        let outer = (self.width + self.before).checked_sub(3).map_or(0, |last| last / STRIDE + 1);
        let outer = outer.clamp(inner, self.count);
        // SAFETY: `add`'s.
        unsafe {
            let mut local = [[S::zero(); 3]; R];
            for ky in 0..R {
                for kx in 0..3 {
                    local[ky][kx] = S::load(sums[3 * (first + ky) + kx].as_ptr());
                }
            }
            for point in 0..inner {
                self.edge::<S, STRIDE, R>(first, point, &mut local);
            }
            let mut point = inner;
            while point + T <= outer {
                self.inside::<S, STRIDE, R, T>(first, point, &mut local);
                point += T;
            }
            while point < outer {
                self.inside::<S, STRIDE, R, 1>(first, point, &mut local);
                point += 1;
            }
            for point in outer..self.count {
                self.edge::<S, STRIDE, R>(first, point, &mut local);
            }
            for ky in 0..R {
                for kx in 0..3 {
                    S::store(sums[3 * (first + ky) + kx].as_mut_ptr(), local[ky][kx]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn inside<S: Simd, const STRIDE: usize, const R: usize, const T: usize>(
        &self,
        first: usize,
        point: usize,
        sums: &mut [[S::V; 3]; R],
    ) {
        // SAFETY: `add`'s.
        unsafe {
            let mut gd = [S::zero(); T];
            for t in 0..T {
                gd[t] = S::load(self.gd.add((point + t) * LANES));
            }
            for ky in 0..R {
                let row = self.rows[first + ky].add((point * STRIDE - self.before) * self.pixel);
                for i in 0..(T - 1) * STRIDE + 3 {
                    let x = S::load(row.add(i * self.pixel));
                    for kx in 0..3 {
                        if i >= kx && (i - kx).is_multiple_of(STRIDE) && (i - kx) / STRIDE < T {
                            sums[ky][kx] = S::fma(x, gd[(i - kx) / STRIDE], sums[ky][kx]);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn edge<S: Simd, const STRIDE: usize, const R: usize>(
        &self,
        first: usize,
        point: usize,
        sums: &mut [[S::V; 3]; R],
    ) {
        // SAFETY: `add`'s; taps outside the image are left out.
        unsafe {
            let gd = S::load(self.gd.add(point * LANES));
            for kx in 0..3 {
                let Some(at) = (point * STRIDE + kx).checked_sub(self.before).filter(|at| *at < self.width) else {
                    continue;
                };
                for ky in 0..R {
                    let x = S::load(self.rows[first + ky].add(at * self.pixel));
                    sums[ky][kx] = S::fma(x, gd, sums[ky][kx]);
                }
            }
        }
    }
}

/// Adds the sums of a layer's tasks, `each` of them in a row for every block, to the gradient `[channels, 3, 3]`.
pub fn add_taps(sums: &[Taps], each: usize, lanes: &[Option<u32>], gradient: &mut [f32]) {
    for (sums, lanes) in sums.chunks(each).zip(lanes.chunks(LANES)) {
        for (lane, channel) in lanes.iter().enumerate() {
            let Some(channel) = *channel else { continue };
            for (tap, to) in gradient[channel as usize * 9..][..9].iter_mut().enumerate() {
                *to += sums.iter().map(|sums| f64::from(sums[tap][lane])).sum::<f64>() as f32;
            }
        }
    }
}
