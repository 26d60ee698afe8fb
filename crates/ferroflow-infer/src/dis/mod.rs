//! Dense Inverse Search: optical flow without a network or weights (Kroeger, Timofte, Dai and Van Gool, "Fast Optical Flow
//! using Dense Inverse Search", ECCV 2016).
//!
//! From the coarsest level of a grey pyramid to the finest, it matches overlapping patches by inverse search (`patches`), spreads
//! their motion over the pixels (`densify`), refines it by minimising a variational energy (`variational`), and doubles it for
//! the next level.
//!
//! The formulas are the paper's. Where the paper leaves a choice open, or OpenCV's `DISOpticalFlow` does better, they follow
//! OpenCV: patches are compared after subtracting their means, the neighbours' motion gives further starting points, and the
//! constants of the energy are OpenCV's. This implementation differs from both:
//!
//! * a patch takes whole Gauss-Newton steps on a damped Hessian, stops at the best position seen, and is not searched again on
//!   the way back unless a neighbour's motion fits it better;
//! * patches lie closer together on the coarse levels, which are cheap and decide large motion, than on the finest;
//! * the images are linearised two or three times a level, not once, with four fixed-point iterations each;
//! * levels halve exactly and stay in floating point; frames smaller than a patch are extended by their edges.
//!
//! The flow is the same, bit for bit, for any number of threads and every instruction set.

mod densify;
mod linearise;
mod parted;
mod patches;
mod pyramid;
mod system;
mod variational;

use std::sync::{Mutex, PoisonError};

use ferroflow_core::{FlowField, FrameView, Size};
use ferroflow_kernels::Isa;

use patches::{Grid, Level, Match};
use pyramid::{Flow, Gradient, Pyramid};
use variational::Refinement;

/// Width and height of a patch.
const PATCH: usize = 8;

/// The finest level of the pyramid, which decides accuracy and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// The finest level has a quarter of the frames' width and height.
    Fast,
    /// The finest level has half of the frames' width and height, which takes about three times the work.
    Medium,
}

impl Preset {
    /// The last scale: frames reduced by `2^scale`.
    fn finest(self) -> usize {
        match self {
            Preset::Fast => 2,
            Preset::Medium => 1,
        }
    }

    /// Pixels from patch to patch.
    fn stride(self, scale: usize) -> usize {
        if scale < 3 { 4 } else { 2 }
    }

    /// How often the images are linearised anew around the flow.
    fn linearisations(self, scale: usize) -> usize {
        if scale == self.finest() { 2 } else { 3 }
    }
}

/// Why there is no flow between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisError {
    /// The two frames are of different sizes.
    #[error("the first frame is {first}, the second {second}: scale or crop one to the size of the other")]
    SizeMismatch {
        /// Size of the first frame.
        first: Size,
        /// Size of the second frame.
        second: Size,
    },
    /// The frames have no pixels.
    #[error("the frames have no pixels: give frames of at least 1x1")]
    Empty,
}

/// Dense Inverse Search with its buffers, which are reused from pair to pair.
#[derive(Debug)]
pub struct Dis {
    preset: Preset,
    /// One for each call that ever ran at the same time as others.
    workspaces: Mutex<Vec<Workspace>>,
}

impl Dis {
    /// The method with a preset.
    pub fn new(preset: Preset) -> Self {
        Self { preset, workspaces: Mutex::default() }
    }

    /// The flow from `first` to `second`, in pixels. It runs on the current rayon pool.
    ///
    /// # Errors
    /// If the frames differ in size or have no pixels.
    pub fn estimate<'a>(
        &self,
        first: impl Into<FrameView<'a>>,
        second: impl Into<FrameView<'a>>,
    ) -> Result<FlowField, DisError> {
        let (first, second) = (first.into(), second.into());
        if first.size() != second.size() {
            return Err(DisError::SizeMismatch { first: first.size(), second: second.size() });
        }
        if first.size().pixels() == 0 {
            return Err(DisError::Empty);
        }
        let workspaces = || self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        let mut workspace = workspaces().pop().unwrap_or_default();
        let flow = workspace.estimate(self.preset, first, second);
        workspaces().push(workspace);
        Ok(flow)
    }
}

#[derive(Debug, Default)]
struct Workspace {
    first: Pyramid,
    second: Pyramid,
    gradient: Gradient,
    matches: Vec<Match>,
    flow: Flow,
    finer: Flow,
    refinements: Vec<Refinement>,
}

impl Workspace {
    fn estimate(&mut self, preset: Preset, first: FrameView<'_>, second: FrameView<'_>) -> FlowField {
        let size = first.size();
        let finest = preset.finest();
        let coarsest = coarsest_scale(size).max(finest);
        self.first.build(first, coarsest);
        self.second.build(second, coarsest);
        self.refinements.resize_with(coarsest + 1, Refinement::default);

        let top = &self.first.levels[coarsest];
        self.flow.reset(top.size);
        for scale in (1..=coarsest).rev() {
            let (first, second) = (&self.first.levels[scale], &self.second.levels[scale]);
            if scale < coarsest {
                self.flow.upsample(&mut self.finer, first.size);
                std::mem::swap(&mut self.flow, &mut self.finer);
            }
            if scale < finest {
                continue;
            }
            self.gradient.compute(first);
            let grid = Grid::new(first.size, preset.stride(scale));
            let level = Level { first, gradient: &self.gradient, second };
            patches::search(level, grid, &self.flow, &mut self.matches);
            densify::densify(first, second, grid, &self.matches, &mut self.flow);
            for _ in 0..preset.linearisations(scale) {
                self.refinements[scale].refine(first, second, &mut self.flow);
            }
        }
        let mut full = Flow::default();
        self.flow.upsample(&mut full, size);
        FlowField::new(size, full.u, full.v).expect("upsample sets both planes to the size")
    }
}

/// The scale at which the frame is about four patches long, so that motion of a quarter of it is found, but no side is
/// shorter than a patch.
fn coarsest_scale(size: Size) -> usize {
    let (long, short) = (size.width.max(size.height), size.width.min(size.height));
    let reach = (long as f64 / (4 * PATCH) as f64).log2().round().max(0.0) as usize;
    reach.min((short / PATCH).max(1).ilog2() as usize)
}

/// The instruction set of this method. Its loops are too short for the widest vectors to pay for their lower clock.
fn isa() -> Isa {
    Isa::detect().min(Isa::Avx2)
}

#[cfg(test)]
mod tests;
