//! Variational refinement (the paper's section 2.3, after Brox et al. 2004): the dense flow moves towards the minimum of
//!
//! ```text
//! E(u, v) = DELTA |I2(x + u, y + v) - I1(x, y)| + GAMMA |grad I2(x + u, y + v) - grad I1(x, y)| + ALPHA |grad u, grad v|
//! ```
//!
//! summed over the pixels, with the robust norm `|s| = sqrt(s^2 + EPSILON^2)`, each constancy term divided by the length of
//! its derivatives (Zimmer et al. 2011); the constants are in `system`. The images are linearised around the flow that comes in; a fixed-point iteration holds
//! the weights that the norms give and solves what is left, a linear system, by red-black successive over-relaxation.
//!
//! All sweeps of an iteration run as one wavefront down the rows, each a row behind the one before, so that coefficients are
//! made, used and forgotten within the cache. A band of rows is solved on its own together with [`HALO`] rows at either side:
//! its sweeps see no further, so the result does not depend on the bands.

use ferroflow_core::Size;
use ferroflow_kernels::simd::{self, Kernel, Simd};
use rayon::prelude::*;

use super::isa;
use super::linearise::Linearised;
use super::parted::Parted;
use super::pyramid::{Flow, Plane};
use super::system::{COEFFICIENTS, DOWN, Motion, UP, assemble, relax};

/// Fixed-point iterations of one linearisation.
const ITERATIONS: usize = 4;
/// Sweeps of one iteration, each over one colour of the chessboard.
const SWEEPS: usize = 10;
/// Rows beyond its own that a band works on.
const HALO: usize = SWEEPS;
/// Rows a thread takes at least when parting and joining.
const BAND: usize = 32;

/// Buffers of one level, kept from call to call.
#[derive(Debug, Default)]
pub(super) struct Refinement {
    images: Linearised,
    /// The flow that came in, and the flow before and after an iteration: `[height, 2, parted]`, u and v.
    start: Vec<f32>,
    old: Vec<f32>,
    new: Vec<f32>,
    bands: Vec<Scratch>,
}

/// What one band works in.
#[derive(Debug, Default)]
struct Scratch {
    /// The band's rows, its halo, and a row around them that no link reaches: `[rows, 2, parted]`, u and v.
    flow: Vec<f32>,
    /// A ring of rows, one for each sweep: `[SWEEPS, COEFFICIENTS, parted]`.
    coefficients: Vec<f32>,
}

impl Refinement {
    /// Refines `flow` between the two frames of one level.
    pub(super) fn refine(&mut self, first: &Plane, second: &Plane, flow: &mut Flow) {
        let Size { height, width } = first.size;
        let parted = Parted { width };
        let len = 2 * parted.len();
        self.images.compute(first, second, flow);
        for buffer in [&mut self.start, &mut self.old, &mut self.new] {
            buffer.resize(height * len, 0.0);
        }
        let rows = flow.u.par_chunks(width).zip(flow.v.par_chunks(width));
        self.start.par_chunks_mut(len).zip(rows).with_min_len(BAND).for_each(|(row, (u, v))| {
            let [row_u, row_v] = parted.split_mut(row);
            parted.part(u, row_u);
            parted.part(v, row_v);
        });
        self.old.copy_from_slice(&self.start);

        let band = height.div_ceil(rayon::current_num_threads()).max(2 * HALO);
        self.bands.resize_with(height.div_ceil(band), Scratch::default);
        for _ in 0..ITERATIONS {
            let (images, start, old) = (&self.images, &self.start, &self.old);
            let bands = self.new.par_chunks_mut(band * len).zip(&mut self.bands);
            bands.enumerate().for_each(|(index, (new, scratch))| {
                simd::run(isa(), Band { parted, height, top: index * band, images, start, old, new, scratch });
            });
            std::mem::swap(&mut self.old, &mut self.new);
        }
        let rows = flow.u.par_chunks_mut(width).zip(flow.v.par_chunks_mut(width));
        self.old.par_chunks(len).zip(rows).with_min_len(BAND).for_each(|(row, (u, v))| {
            let [row_u, row_v] = parted.split(row);
            parted.join(row_u, u);
            parted.join(row_v, v);
        });
    }
}

/// One fixed-point iteration on rows `top..`, from `old` into `new`.
struct Band<'a> {
    parted: Parted,
    height: usize,
    top: usize,
    images: &'a Linearised,
    start: &'a [f32],
    old: &'a [f32],
    new: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl<'a> Kernel for Band<'a> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { parted, height, top, images, start, old, new, scratch } = self;
        let (len, system_len) = (2 * parted.len(), COEFFICIENTS * parted.len());
        let bottom = top + new.len() / len;
        let (first, end) = (top.saturating_sub(HALO), (bottom + HALO).min(height));
        let Scratch { flow, coefficients } = scratch;
        flow.resize((end - first + 2) * len, 0.0);
        flow[len..][..(end - first) * len].copy_from_slice(&old[first * len..end * len]);
        coefficients.resize(SWEEPS * system_len, 0.0);
        let slot = |row: usize| row % SWEEPS * system_len;

        for front in first..end + SWEEPS {
            if front < end {
                let out = slot(front);
                if front == first {
                    // The image ends here, or the halo does, whose first row no sweep changes.
                    coefficients[out + UP * parted.len()..][..parted.len()].fill(0.0);
                } else {
                    let above = slot(front - 1) + DOWN * parted.len();
                    coefficients.copy_within(above..above + parted.len(), out + UP * parted.len());
                }
                let row = |flow: &'a [f32], y: usize| Motion::new(parted, &flow[y * len..][..len]);
                let below = (front + 1 < height).then(|| row(old, front + 1));
                let out = &mut coefficients[out..][..system_len];
                assemble(parted, images.row(parted, front), row(start, front), row(old, front), below, out);
            }
            for sweep in 0..SWEEPS.min(front + 1) {
                // Sweep s must be right as far beyond the band as the sweeps after it will see.
                let (row, reach) = (front - sweep, SWEEPS - 1 - sweep);
                if row < first || row >= end || row + reach < top || row >= bottom + reach {
                    continue;
                }
                let (before, rest) = flow.split_at_mut((row - first + 1) * len);
                let (here, after) = rest.split_at_mut(len);
                let above = Motion::new(parted, &before[before.len() - len..]);
                let below = Motion::new(parted, &after[..len]);
                let even = (row + sweep) % 2 == 0;
                relax(parted, even, &coefficients[slot(row)..][..system_len], above, here, below);
            }
        }
        new.copy_from_slice(&flow[(top - first + 1) * len..][..new.len()]);
        for row in new.chunks_exact_mut(parted.len()) {
            parted.repeat_edges(row);
        }
    }
}
