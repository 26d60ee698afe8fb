//! What training without truth minimises: flow that brings one frame back to the other, that is smooth, and that a network finds
//! again where it sees less (Jonschkowski et al., "What Matters in Unsupervised Optical Flow", ECCV 2020).
//!
//! A step runs the network on frames 1 and 2 in both orders, as one batch: all pairs forward, then all pairs backward.
//! A [`Scene`] judges its flows by the frames as they were before colours were augmented; [`self_supervision`] judges the
//! flow of frames that were [cut](Cut) by what a teacher, or the network itself, found in the whole ones. All are plain functions from
//! flows to values and gradients; where the flow is not finite the value is not a number, for the loop to notice.

mod census;
mod criterion;
mod direction;
mod distance;
mod judge;
mod levels;
mod occlusion;
mod options;
mod pass;
mod photometric;
mod selfsup;
mod smoothness;
mod ssim;
mod supervised;
#[cfg(test)]
mod tests;

use ferroflow_core::Size;
use ferroflow_net::{graph::Shape, training::Values};

use crate::loss::add_term;

pub use criterion::Unsupervised;
pub use distance::Distance;
pub use judge::{Judgement, judge};
pub use options::{
    ClippedScores, EdgeWeighting, OcclusionEstimation, OcclusionSteps, ResizeGrid, Scores, SelfSupervisionMask,
    TeacherImages, UnsupervisedOptions,
};
pub use pass::Scene;
pub use selfsup::{Cut, TeacherAndStudent, self_supervision};
pub use supervised::supervised;

/// Why flows cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsupervisedError {
    /// An option that makes no sense.
    #[error("{what}")]
    Option {
        /// What it should be.
        what: &'static str,
    },
    /// The network gave nothing.
    #[error("the network gives no flow: choose one that has a pyramid of flows")]
    NoFlow,
    /// A flow of a size that does not go with the frames.
    #[error(
        "a flow of {flow:?} (batch, components, height, width) does not fit frames of {frames}: both sides must be 1, 2, 4, ... times \
         its own; choose a crop that is a multiple of the network's stride"
    )]
    Flow {
        /// Of the flow.
        flow: Shape,
        /// Of the frames.
        frames: Size,
    },
    /// Flows of another number of pairs.
    #[error(
        "{flows} flows for {pairs} pairs: the network must give every pair's flow forward, then every pair's backward"
    )]
    Batch {
        /// In the batch.
        flows: usize,
        /// Of frames.
        pairs: usize,
    },
    /// Frames or masks of another size.
    #[error("{what} holds {found} values where the size of the frames asks for {expected}")]
    Length {
        /// Which.
        what: &'static str,
        /// Values that there should be.
        expected: usize,
        /// Values that there are.
        found: usize,
    },
    /// Frames that lie outside of what they were cut out of.
    #[error("frames of {frames} at {at:?} (x, y) do not lie in a picture of {surround}")]
    Surround {
        /// Size of the frames.
        frames: Size,
        /// Of their top left pixel.
        at: (usize, usize),
        /// Size of the picture.
        surround: Size,
    },
    /// A crop of which too little would be left for the student.
    #[error(
        "a crop of {frames} is too small for what self-supervision cuts off: it needs {needed} (or make selfsup_crop_height and selfsup_crop_width less)"
    )]
    Small {
        /// Size of the frames.
        frames: Size,
        /// The least that works.
        needed: Size,
    },
    /// What is left for the student is no size for the network.
    #[error(
        "self-supervision leaves {rest} of the crop, and the network needs multiples of {stride}: choose another crop, or resize_selfsup = true"
    )]
    Rest {
        /// What is left.
        rest: Size,
        /// Of the network.
        stride: usize,
    },
    /// Nothing of the frames would be left for the student.
    #[error(
        "frames of {frames} are too small for selfsup_crop_height and selfsup_crop_width: make these less than half of them"
    )]
    Cut {
        /// Size of the frames.
        frames: Size,
    },
}

/// What a loss says about the flows of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// The sum of the terms.
    pub value: f64,
    /// Each term that has a weight, with it.
    pub terms: Vec<(&'static str, f64)>,
    /// Of the value with respect to each flow of the pass, in their order.
    pub gradients: Vec<Values>,
}

impl Terms {
    /// Multiplies everything.
    fn scale(&mut self, factor: f64) {
        if factor != 1.0 {
            self.value *= factor;
            self.terms.iter_mut().for_each(|(_, value)| *value *= factor);
            self.gradients.iter_mut().flat_map(|d| &mut d.data).for_each(|d| *d *= factor as f32);
        }
    }

    /// Adds what is said about other flows.
    fn join(&mut self, others: Self) {
        self.value += others.value;
        for (name, value) in others.terms {
            add_term(&mut self.terms, name, value);
        }
        self.gradients.extend(others.gradients);
    }

    /// Only the finest of the `flows` counts.
    fn new(terms: Vec<(&'static str, f64)>, finest: Values, flows: &[Values]) -> Self {
        let others = flows.iter().skip(1).map(|flow| Values::zeros(flow.shape));
        let gradients = std::iter::once(finest).chain(others).collect();
        Self { value: terms.iter().map(|(_, value)| value).sum(), terms, gradients }
    }
}

/// The value of a loss, unless a flow is not finite.
fn check_finite(value: f64, flows: &[&Values]) -> f64 {
    // Not-a-number is absorbing, and so is infinity times 0.
    let finite = flows.iter().all(|flow| flow.data.iter().fold(0.0f32, |sum, v| sum + 0.0 * v) == 0.0);
    if finite { value } else { f64::NAN }
}

fn expect(what: &'static str, expected: usize, found: usize) -> Result<(), UnsupervisedError> {
    if expected == found { Ok(()) } else { Err(UnsupervisedError::Length { what, expected, found }) }
}
