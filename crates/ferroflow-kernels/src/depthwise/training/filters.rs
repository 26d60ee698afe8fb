//! Gradients of the depthwise convolution, with those of the norm behind it: rows of `gd`, the gradient of the
//! convolution's result, are made as they are needed and stay in the first-level cache.

use std::ops::Range;

use super::{
    SeparableTraining, SeparableWeights, aligned,
    norm::{AHEAD, Constants},
    put, streams,
};
use crate::{
    Blocks, BlocksMut, Extent, LANES, Scratch, Update,
    conv::Activation,
    depthwise::{
        products::{Products, Taps, add_taps},
        row,
    },
    rows::RowsMut,
    simd::{self, Kernel, Simd},
    team,
};

/// Points of a task, about: enough that the rows computed twice, by two tasks, are few.
const STRIP: usize = 4096;
/// Rows of `gd` held at a time.
const RING: usize = 3;

impl SeparableTraining {
    /// Adds the weights' gradient, unless `gradient` is empty, and, where wanted, computes the input's, from the gradient
    /// `dz` at the first norm's output.
    pub(super) fn d_depthwise(
        &self,
        weights: &SeparableWeights<'_>,
        input: Blocks<'_>,
        dz: &[f32],
        d_input: Option<(Update, &mut BlocksMut<'_, '_>)>,
        gradient: &mut [f32],
        scratch: &Scratch,
    ) {
        let extent = self.output;
        let wanted = !gradient.is_empty();
        let update = d_input.as_ref().map_or(Update::Overwrite, |d| d.0);
        let stream = update == Update::Overwrite
            && d_input.as_ref().is_some_and(|(_, d)| {
                streams(self.input.len() * d.planes.len()) && d.planes.iter().all(|plane| aligned(plane))
            });
        let d_input = d_input.map(|(_, d)| {
            assert_eq!(self.pixel, LANES, "the gradient of a narrow input");
            assert_eq!(d.extent, self.input, "extent of the input's gradient");
            assert_eq!(d.planes.len(), self.sides[0].blocks(), "blocks of the input's gradient");
            RowsMut::new(d)
        });
        let side = &self.sides[0];
        let strips = extent.h.div_ceil(STRIP.div_ceil(extent.w));
        let tasks = side.blocks() * extent.n * strips;
        let sums: Vec<Taps> = team::map(0..tasks, |task| {
            let (block, n, strip) = (task / strips / extent.n, task / strips % extent.n, task % strips);
            let mut taps: Taps = [[0.0; LANES]; 9];
            for (lane, channel) in side.lanes[block * LANES..][..LANES].iter().enumerate() {
                let Some(channel) = *channel else { continue };
                for (tap, to) in taps.iter_mut().enumerate() {
                    to[lane] = weights.depthwise[channel as usize * 9 + tap];
                }
            }
            // The ring of rows with a zero after each, and a row of the input's gradient.
            let row = (extent.w + 1) * LANES;
            scratch.with(RING * row + self.input.w * LANES, |buffer| {
                let (ring, sum) = buffer.split_at_mut(RING * row);
                let strip = Strip {
                    block: self,
                    input,
                    dz: &dz[block * self.saved[0].pitch..][..extent.len()],
                    d_input: d_input.as_ref(),
                    update,
                    stream,
                    wanted,
                    taps: &taps,
                    index: block,
                    n,
                    rows: strip * extent.h / strips..(strip + 1) * extent.h / strips,
                    ring,
                    row,
                    sum: &mut sum[..self.input.w * LANES],
                };
                simd::run(self.isa, strip)
            })
        })
        .collect();
        if wanted {
            add_taps(&sums, extent.n * strips, &side.lanes, gradient);
        }
    }
}

/// Some rows of `gd` of one block of one image, and the input rows that they cover.
struct Strip<'a> {
    block: &'a SeparableTraining,
    input: Blocks<'a>,
    /// The block's gradient at the norm's output.
    dz: &'a [f32],
    d_input: Option<&'a RowsMut<'a>>,
    update: Update,
    /// Write the input's gradient past the caches.
    stream: bool,
    /// Whether the weights' gradient is wanted.
    wanted: bool,
    taps: &'a Taps,
    index: usize,
    n: usize,
    rows: Range<usize>,
    /// Rows of `gd`, that of `y` at `y % RING`, each with a pixel of zeros after it.
    ring: &'a mut [f32],
    row: usize,
    /// A row of the input's gradient, to be added or streamed.
    sum: &'a mut [f32],
}

impl Kernel for Strip<'_> {
    type Output = Taps;

    #[inline(always)]
    fn run<S: Simd>(mut self) -> Self::Output {
        let Extent { h, w, .. } = self.block.output;
        let stride = self.block.stride;
        let mut sums = [[0.0; LANES]; 9];
        for row in self.ring.chunks_mut(self.row) {
            row[w * LANES..].fill(0.0);
        }
        // SAFETY: inside a kernel; rows within the image.
        unsafe {
            if stride == 1 && self.rows.start > 0 {
                self.make::<S>(self.rows.start - 1);
            }
            self.make::<S>(self.rows.start);
            for y in self.rows.clone() {
                if y + 1 < h {
                    self.make::<S>(y + 1);
                }
                match stride {
                    _ if !self.wanted => {}
                    1 => self.weights::<S, 1>(y, &mut sums),
                    _ => self.weights::<S, 2>(y, &mut sums),
                }
                if let Some(d_input) = self.d_input {
                    match stride {
                        1 => self.same::<S>(d_input, y),
                        _ => self.double::<S>(d_input, y),
                    }
                }
            }
            S::fence();
        }
        sums
    }
}

/// # Safety of the methods
/// In a [`Kernel`]; `y` is a row of the output, and the ring holds it and those beside it in the image.
impl Strip<'_> {
    /// Computes a row of `gd`.
    #[inline(always)]
    unsafe fn make<S: Simd>(&mut self, y: usize) {
        let Extent { h, w, .. } = self.block.output;
        let at = (self.n * h + y) * w * LANES;
        let x = &self.block.saved[0].block(self.index)[at..][..w * LANES];
        let dz = &self.dz[at..][..w * LANES];
        let to = &mut self.ring[y % RING * self.row..][..w * LANES];
        // SAFETY: every chunk has 16 floats.
        unsafe {
            let norm = Constants::<S>::load(self.block.norms[0].block(self.index), 0.0);
            for ((x, dz), to) in x.chunks_exact(LANES).zip(dz.chunks_exact(LANES)).zip(to.chunks_exact_mut(LANES)) {
                S::prefetch_near(x.as_ptr().wrapping_add(AHEAD));
                S::prefetch_near(dz.as_ptr().wrapping_add(AHEAD));
                let gd = norm.d_norm(norm.centre(S::load(x.as_ptr())), S::load(dz.as_ptr()));
                S::store(to.as_mut_ptr(), gd);
            }
        }
    }

    /// A row of `gd`; zeros outside the image.
    #[inline(always)]
    fn gd(&self, y: Option<usize>) -> *const f32 {
        match y.filter(|y| *y < self.block.output.h) {
            Some(y) => self.ring[y % RING * self.row..][..self.row].as_ptr(),
            None => self.block.zeros.as_ptr(),
        }
    }

    /// Adds a row's share of the weights' gradient.
    #[inline(always)]
    unsafe fn weights<S: Simd, const STRIDE: usize>(&self, y: usize, sums: &mut Taps) {
        let Extent { h, w, .. } = self.block.input;
        let pixel = self.block.pixel;
        let plane = self.input.planes[self.index];
        let rows = [0, 1, 2].map(|ky| match (y * STRIDE + ky).checked_sub(1) {
            Some(at) if at < h => plane[(self.n * h + at) * w * pixel..].as_ptr(),
            _ => self.block.zeros.as_ptr(),
        });
        let row = Products { rows, pixel, width: w, before: 1, gd: self.gd(Some(y)), count: self.block.output.w };
        // SAFETY: rows of the input have `w` pixels, from each of which 16 floats can be read.
        unsafe { row.add::<S, STRIDE>(sums) };
    }

    /// Stride 1: a row of the input's gradient, by the filter turned about.
    #[inline(always)]
    unsafe fn same<S: Simd>(&mut self, d_input: &RowsMut<'_>, y: usize) {
        let width = self.block.input.w;
        let mut turned = [[0.0; LANES]; 10];
        for tap in 0..9 {
            turned[1 + tap] = self.taps[8 - tap];
        }
        let rows = [self.gd(y.checked_sub(1)), self.gd(Some(y)), self.gd(Some(y + 1))];
        // SAFETY: this row belongs to this task.
        let to = unsafe { d_input.row(self.index, self.n, y) };
        let aside = self.update == Update::Add || self.stream;
        let row = row::Row {
            rows,
            half: 0,
            pixel: LANES,
            width,
            before: 1,
            weights: turned.as_flattened().as_ptr(),
            activation: Activation::Linear,
            columns: 0..width,
            to: if aside { &mut *self.sum } else { &mut *to },
        };
        // SAFETY: rows of `gd` are as wide as the input.
        unsafe { row.run::<S, 1>() };
        if aside {
            for (x, value) in self.sum.chunks_exact(LANES).enumerate() {
                // SAFETY: 16 floats.
                unsafe { self.put::<S>(to, x, S::load(value.as_ptr())) };
            }
        }
    }

    /// Writes or adds a pixel of a row of the input's gradient.
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, to: &mut [f32], x: usize, value: S::V) {
        let to = to[x * LANES..][..LANES].as_mut_ptr();
        // SAFETY: `to` has 16 floats, aligned if they are streamed.
        unsafe {
            if self.update == Update::Add {
                S::store(to, S::add(S::load(to), value));
            } else {
                put::<S>(to, value, self.stream);
            }
        }
    }

    /// Stride 2: rows `2y` and `2y + 1` of the input's gradient, two columns at a time.
    #[inline(always)]
    unsafe fn double<S: Simd>(&mut self, d_input: &RowsMut<'_>, y: usize) {
        let Extent { h, w, .. } = self.block.input;
        let (above, below) = (self.gd(Some(y)), self.gd(Some(y + 1)));
        // SAFETY: these rows belong to this task; rows of `gd` have a pixel more than half of the input's.
        unsafe {
            let mut taps = [S::zero(); 9];
            for (tap, from) in taps.iter_mut().zip(self.taps) {
                *tap = S::load(from.as_ptr());
            }
            let [t00, t01, t02, t10, t11, t12, t20, t21, t22] = taps;
            let even = d_input.row(self.index, self.n, 2 * y);
            if 2 * y + 1 == h {
                for x in 0..w.div_ceil(2) {
                    let (a, b) = (S::load(above.add(x * LANES)), S::load(above.add((x + 1) * LANES)));
                    self.put::<S>(even, 2 * x, S::mul(a, t11));
                    if 2 * x + 1 < w {
                        self.put::<S>(even, 2 * x + 1, S::fma(b, t10, S::mul(a, t12)));
                    }
                }
                return;
            }
            let odd = d_input.row(self.index, self.n, 2 * y + 1);
            for x in 0..w.div_ceil(2) {
                let (a, b) = (S::load(above.add(x * LANES)), S::load(above.add((x + 1) * LANES)));
                let (c, d) = (S::load(below.add(x * LANES)), S::load(below.add((x + 1) * LANES)));
                self.put::<S>(even, 2 * x, S::mul(a, t11));
                self.put::<S>(odd, 2 * x, S::fma(c, t01, S::mul(a, t21)));
                if 2 * x + 1 < w {
                    self.put::<S>(even, 2 * x + 1, S::fma(b, t10, S::mul(a, t12)));
                    self.put::<S>(odd, 2 * x + 1, S::fma(d, t00, S::fma(c, t02, S::fma(b, t20, S::mul(a, t22)))));
                }
            }
        }
    }
}
