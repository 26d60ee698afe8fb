//! The register tile: up to `TILE` neighbouring outputs of a row by up to `PANEL` blocks of output channels.
//!
//! The sum runs over *runs*: stretches of the input in which the values of one output lie next to each other and those
//! of the next output `step` floats further. Weights are vectors read once in order; inputs are broadcast.

use super::runs::Run;
use crate::{LANES, conv::layer::Activation, gemm, machine::direct::VECTORS_AHEAD, simd::Simd};

pub(crate) use crate::gemm::register_tile;

/// Where a tile's inputs are.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// In the input blocks, this many floats from their beginning.
    Blocks(&'a [&'a [f32]], usize),
    /// In a copy with its own borders.
    Patch(*const f32),
}

impl Source<'_> {
    /// The source of a tile this many floats further.
    #[inline(always)]
    pub fn offset(self, floats: usize) -> Self {
        match self {
            Source::Blocks(planes, at) => Source::Blocks(planes, at + floats),
            Source::Patch(patch) => Source::Patch(patch.wrapping_add(floats)),
        }
    }

    #[inline(always)]
    unsafe fn at(self, run: &Run) -> *const f32 {
        match self {
            // SAFETY: the caller's tile lies inside the image, and `run.source` stays within its window.
            Source::Blocks(planes, at) => unsafe {
                planes.get_unchecked(run.plane as usize).as_ptr().add(at + run.source as usize)
            },
            // SAFETY: as above for the copy, which spans the windows of the whole strip.
            Source::Patch(patch) => unsafe { patch.add(run.patch as usize) },
        }
    }
}

/// What happens to a tile's sums when they are complete.
#[derive(Clone, Copy)]
pub struct Finish<'a> {
    /// One output vector per block, and the residual's, at the tile's first point.
    pub output: &'a [*mut f32],
    pub residual: Option<&'a [*const f32; 2]>,
    pub bias: *const f32,
    /// Floats between the outputs of neighbouring points.
    pub step: usize,
    pub activation: Activation,
}

/// One call of the micro-kernel.
#[derive(Clone, Copy)]
pub struct Tile<'a> {
    pub runs: &'a [Run],
    pub source: Source<'a>,
    /// Floats between the inputs of neighbouring points.
    pub step: usize,
    pub weights: *const f32,
    /// Weights to ask for meanwhile, and how many lines of them per run; any address.
    pub next: *const f32,
    pub ahead: usize,
    /// Sums of an earlier part of the runs; `None` at the first.
    pub before: Option<*const f32>,
    /// Where unfinished sums go.
    pub sums: *mut f32,
    /// `Some` at the last part.
    pub finish: Option<Finish<'a>>,
}

impl Tile<'_> {
    /// Computes `points` (1 to `TILE`) by `blocks` (1 to `PANEL`).
    ///
    /// # Safety
    /// Inputs, weights, sums, outputs as the fields say valid for that many points and
    /// blocks, and no other thread writing them.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(self, points: usize, blocks: usize) {
        // SAFETY: handed on.
        unsafe {
            if const { S::PANEL >= 2 } && blocks == 2 {
                self.pick::<S, 2>(points);
            } else {
                self.pick::<S, 1>(points);
            }
        }
    }

    #[inline(always)]
    unsafe fn pick<S: Simd, const P: usize>(self, points: usize) {
        // SAFETY: handed on.
        gemm::rows!(points, S::TILE, T => unsafe { self.sized::<S, T, P>() });
    }

    #[inline(always)]
    unsafe fn sized<S: Simd, const T: usize, const P: usize>(self) {
        // SAFETY: handed on.
        unsafe {
            let mut sums = [[S::zero(); P]; T];
            if let Some(before) = self.before {
                for t in 0..T {
                    for p in 0..P {
                        sums[t][p] = S::load(before.add((t * P + p) * LANES));
                    }
                }
            }
            // Constant distances cost no address arithmetic.
            match self.step {
                16 => self.accumulate::<S, T, P, 16>(&mut sums),
                32 => self.accumulate::<S, T, P, 32>(&mut sums),
                _ => self.accumulate::<S, T, P, 0>(&mut sums),
            }
            match self.finish {
                Some(finish) => finish.write::<S, T, P>(&sums),
                None => {
                    for t in 0..T {
                        for p in 0..P {
                            S::store(self.sums.add((t * P + p) * LANES), sums[t][p]);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn accumulate<S: Simd, const T: usize, const P: usize, const STEP: usize>(self, sums: &mut [[S::V; P]; T]) {
        let (mut weights, mut next) = (self.weights, self.next);
        let mut local = *sums;
        for run in self.runs {
            // SAFETY: a run's values of `T` points and as many weight vectors as it is long are valid.
            unsafe {
                for line in 0..self.ahead {
                    S::prefetch(next.wrapping_add(line * LANES));
                }
                next = next.wrapping_add(self.ahead * LANES);
                let mut input = self.source.at(run);
                for _ in 0..run.len {
                    for p in 0..P {
                        S::prefetch_near(weights.wrapping_add((VECTORS_AHEAD + p) * LANES));
                    }
                    if STEP == 0 {
                        strided::<S, T, P>(&mut local, input, self.step, weights);
                    } else {
                        gemm::step::<S, T, P, STEP>(&mut local, input, weights);
                    }
                    input = input.add(1);
                    weights = weights.add(P * LANES);
                }
            }
        }
        *sums = local;
    }
}

/// [`gemm::step`] with a distance between points that is not constant: every third point has its own pointer, so that
/// the two after it are one and two distances away, which an address can express.
#[inline(always)]
unsafe fn strided<S: Simd, const T: usize, const P: usize>(
    sums: &mut [[S::V; P]; T],
    input: *const f32,
    step: usize,
    weights: *const f32,
) {
    // SAFETY: the caller's: `T` points `step` apart, `P` vectors.
    unsafe {
        let mut w = [S::zero(); P];
        for p in 0..P {
            w[p] = S::load(weights.add(p * LANES));
        }
        for first in (0..T).step_by(3) {
            let third = input.add(first * step);
            for t in first..T.min(first + 3) {
                let x = S::splat(*third.add((t - first) * step));
                for p in 0..P {
                    sums[t][p] = S::fma(x, w[p], sums[t][p]);
                }
            }
        }
    }
}

impl Finish<'_> {
    #[inline(always)]
    unsafe fn write<S: Simd, const T: usize, const P: usize>(self, sums: &[[S::V; P]; T]) {
        // SAFETY: `Tile::run`'s contract: output and residual have `T` points `step` apart, `bias` has `P` vectors.
        unsafe {
            let slope = S::splat(self.activation.slope());
            let before = S::splat(self.activation.slope_before());
            for p in 0..P {
                let bias = S::load(self.bias.add(p * LANES));
                let output = *self.output.get_unchecked(p);
                for t in 0..T {
                    let mut v = S::add(sums[t][p], bias);
                    if let Some(residual) = self.residual {
                        v = S::max(v, S::mul(v, before));
                        v = S::add(v, S::load(residual.get_unchecked(p).add(t * self.step)));
                    }
                    if let Activation::LeakyRelu(_) | Activation::AroundSum { .. } = self.activation {
                        v = S::max(v, S::mul(v, slope));
                    }
                    S::store(output.add(t * self.step), v);
                }
            }
        }
    }
}
