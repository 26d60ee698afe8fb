//! Gradients of a depthwise layer on its own.

use std::ops::Range;

use super::{
    DepthwisePlan, Filters,
    products::{Products, Taps, add_taps},
};
use crate::{
    Blocks, BlocksMut, Extent, LANES, Update,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
    team,
};

/// Points of a task that sums products, about.
const STRIP: usize = 4096;

impl DepthwisePlan {
    /// Adds the gradient of the weights, `[channels, 3, 3]`, from that of the result before its activation.
    ///
    /// # Panics
    /// If a value does not have the extent and the number of blocks that the layer was prepared for, or parts of the input
    /// are read doubled.
    pub fn weight_gradient(&self, input: Blocks<'_>, d: Blocks<'_>, gradient: &mut [f32]) {
        let filters = &self.filters;
        filters.check(input);
        self.check_gradient(d);
        let Extent { n: images, h, w } = filters.output;
        let strips = h.div_ceil(STRIP.div_ceil(w));
        let tasks = filters.blocks() * images * strips;
        let sums: Vec<Taps> = team::map(0..tasks, |task| {
            let (block, n, strip) = (task / strips / images, task / strips % images, task % strips);
            let rows = strip * h / strips..(strip + 1) * h / strips;
            let input = filters.image(input, block, n);
            simd::run(filters.isa, Strip { filters, input, d: image(d, block, n), rows })
        })
        .collect();
        add_taps(&sums, images * strips, &self.lanes, gradient);
    }

    /// The gradient of the input, from that of the result before its activation.
    ///
    /// # Panics
    /// As for [`Self::weight_gradient`].
    pub fn input_gradient(&self, d: Blocks<'_>, update: Update, d_input: &mut BlocksMut<'_, '_>) {
        let filters = &self.filters;
        self.check_gradient(d);
        assert_eq!(d_input.extent, filters.input, "extent of the input's gradient");
        assert_eq!(d_input.planes.len(), filters.blocks(), "blocks of the input's gradient");
        let Extent { n: images, h, w } = filters.input;
        let rows = RowsMut::new(d_input);
        for_ranges(filters.blocks() * images * h, w * LANES, |range| {
            for i in range {
                let (block, n, y) = (i / h / images, i / h % images, i % h);
                // SAFETY: each `i` is one row of one block.
                let to = unsafe { rows.row(block, n, y) };
                simd::run(filters.isa, InputRow { filters, d: image(d, block, n), block, y, update, to });
            }
        });
    }

    fn check_gradient(&self, d: Blocks<'_>) {
        let filters = &self.filters;
        assert!(!filters.doubled.contains(&true), "the gradient of a doubled input");
        assert_eq!(d.extent, filters.output, "extent of the output's gradient");
        assert_eq!(d.planes.len(), filters.blocks(), "blocks of the output's gradient");
        assert!(d.planes.iter().all(|plane| plane.len() >= d.extent.len()), "a block of the output's gradient");
    }
}

/// One block of one image.
fn image<'a>(value: Blocks<'a>, block: usize, n: usize) -> &'a [f32] {
    let len = value.extent.h * value.extent.w * LANES;
    &value.planes[block][n * len..][..len]
}

/// Sums of products over some rows of the output, of one block of one image.
struct Strip<'a> {
    filters: &'a Filters,
    input: &'a [f32],
    d: &'a [f32],
    rows: Range<usize>,
}

impl Kernel for Strip<'_> {
    type Output = Taps;

    #[inline(always)]
    fn run<S: Simd>(self) -> Taps {
        let f = self.filters;
        let mut sums = [[0.0; LANES]; 9];
        for y in self.rows {
            let rows = [0, 1, 2].map(|ky| match (y * f.stride + ky).checked_sub(f.before[0]) {
                Some(at) if at < f.input.h => self.input[at * f.input.w * LANES..].as_ptr(),
                _ => f.zeros.as_ptr(),
            });
            let (width, count) = (f.input.w, f.output.w);
            let gd = self.d[y * count * LANES..].as_ptr();
            let row = Products { rows, pixel: LANES, width, before: f.before[1], gd, count };
            // SAFETY: inside a kernel; rows of the input have `width` pixels, that of the gradient `count` (`image`).
            unsafe {
                match f.stride {
                    1 => row.add::<S, 1>(&mut sums),
                    _ => row.add::<S, 2>(&mut sums),
                }
            }
        }
        sums
    }
}

/// A row of the input's gradient, of one block of one image.
struct InputRow<'a> {
    filters: &'a Filters,
    d: &'a [f32],
    block: usize,
    y: usize,
    update: Update,
    to: &'a mut [f32],
}

impl Kernel for InputRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: inside a kernel.
        unsafe {
            match self.filters.stride {
                1 => self.across::<S, 1>(),
                _ => self.across::<S, 2>(),
            }
        }
    }
}

impl InputRow<'_> {
    /// # Safety
    /// In a [`Kernel`].
    #[inline(always)]
    unsafe fn across<S: Simd, const STRIDE: usize>(self) {
        let Filters { input, output, before: [top, left], weights, .. } = self.filters;
        // The rows of the output that this one is part of, one for each row of taps.
        let rows = [0, 1, 2].map(|ky| {
            let at = (self.y + top).checked_sub(ky).filter(|at| at.is_multiple_of(STRIDE))? / STRIDE;
            (at < output.h).then(|| self.d[at * output.w * LANES..].as_ptr())
        });
        // Columns all of whose outputs exist.
        let inner = 2usize.saturating_sub(*left).min(input.w);
        let outer = (output.w * STRIDE).saturating_sub(*left).clamp(inner, input.w);
        // SAFETY: rows of the output's gradient have `output.w` pixels; there are nine taps after the bias; 16 floats each.
        unsafe {
            let taps: [S::V; 9] =
                std::array::from_fn(|tap| S::load(weights[(self.block * 10 + 1 + tap) * LANES..][..LANES].as_ptr()));
            for (x, to) in self.to.chunks_exact_mut(LANES).enumerate() {
                let inside = (inner..outer).contains(&x);
                let mut sum = if self.update == Update::Add { S::load(to.as_ptr()) } else { S::zero() };
                for (ky, row) in rows.iter().enumerate() {
                    let Some(row) = row else { continue };
                    for kx in ((x + left) % STRIDE..3).step_by(STRIDE) {
                        if inside || (x + left >= kx && (x + left - kx) / STRIDE < output.w) {
                            let d = S::load(row.add((x + left - kx) / STRIDE * LANES));
                            sum = S::fma(d, taps[3 * ky + kx], sum);
                        }
                    }
                }
                S::store(to.as_mut_ptr(), sum);
            }
        }
    }
}
