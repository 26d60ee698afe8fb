//! What a step minimises, and which forward passes of the network it needs for that.
//!
//! A supervised loss is one pass over the frames as they come ([`Supervised`]). Losses without truth look at a pair both ways
//! round, and at several versions of its frames: the loop runs the passes that a criterion asks for, one after the other on one
//! trainer, and goes back through each as soon as it has been graded, so that a step needs the memory of a single pass.

use std::borrow::Cow;

use ferroflow_core::Size;
use ferroflow_net::{
    Model, NodeId, PyramidUnit,
    graph::Shape,
    peers::Peers,
    training::{Census, Values},
};

use crate::{
    data::Batch,
    loss::{Graded, Loss, LossError, Tally},
};

/// What training minimises.
pub trait Criterion: Send + Sync {
    /// The nodes whose values it reads, finest first. Every pass gives them.
    fn outputs(&self) -> &[NodeId];

    /// Whether the network is also run from the second frames to the first. Its outputs then have the size of a batch of twice as
    /// many pairs: all forward, then all backward.
    fn both_directions(&self) -> bool {
        false
    }

    /// What it reads of the data beside the frames.
    fn needs(&self) -> Needs;

    /// The forward passes of step `step`, in the order in which they are run.
    fn passes(&self, step: u64) -> Vec<Pass>;

    /// First and second frames of a pass, `[N, 3, H, W]`, RGB 0..=255.
    ///
    /// # Errors
    /// If they cannot be made of those of the batch.
    fn frames<'a>(&self, step: u64, pass: &Pass, batch: &'a Batch) -> Result<[Cow<'a, [f32]>; 2], LossError>;

    /// Size of the frames of a pass, where those of the batch are of size `crop`.
    fn size(&self, _pass: &Pass, crop: Size) -> Size {
        crop
    }

    /// Whether some passes run with the weights of a [teacher](Whose::Teacher).
    fn has_teacher(&self) -> bool {
        false
    }

    /// Whether the share of one batch in the loss of a step depends on what the network says about the others.
    fn tallies_values(&self) -> bool {
        false
    }

    /// What a batch, one of several of a step, adds to the tallies of the whole step: by the shapes of the outputs, and by
    /// their values where [it takes them](Self::tallies_values).
    fn tally(&self, shapes: &[Shape], values: Option<&[Values]>, batch: &Batch) -> Result<Vec<Tally>, LossError>;

    /// The part of the loss of the last pass that a device may compute where its outputs lie; [`grade`](Self::grade) is then told its value
    /// and leaves it out of the gradient.
    fn census<'a>(&self, _graded: &Grading<'a>) -> Option<Census<'a>> {
        None
    }

    /// The loss of the last of the passes run so far, one that is [differentiated](Pass::differentiated), and its gradient
    /// with respect to the outputs of that pass. The losses of all passes add up to that of the step.
    fn grade(&self, graded: Grading<'_>) -> Result<Graded, LossError>;
}

/// What a criterion reads of the data beside the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Every pair has its true flow.
    pub truth: bool,
    /// Frames as they were before their colours were augmented.
    pub original: bool,
    /// What the frames were cut out of.
    pub surround: bool,
    /// Which pixels are occluded, where the data know it.
    pub occlusion: bool,
}

/// What there is to grade.
#[derive(Clone, Copy, Debug)]
pub struct Grading<'a> {
    /// The step, 0 for the first.
    pub step: u64,
    /// What the network saw.
    pub batch: &'a Batch,
    /// The outputs of the passes run so far.
    pub passes: &'a [Vec<Values>],
    /// [Tallies](Criterion::tally) of all batches of the step together, those of the peers too; `None` where this is the only one.
    pub whole: Option<&'a [Tally]>,
    /// The ranks that grade the other parts of the same batch, at the same time.
    pub peers: &'a dyn Peers,
    /// What the device computed of the loss of the last pass, if it did.
    pub census: Option<f64>,
}

/// A forward pass of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Which version of the frames it sees.
    pub view: View,
    /// Whose weights it runs with.
    pub weights: Whose,
    /// Whether the loss has a gradient with respect to what it gives.
    pub differentiated: bool,
}

/// A version of the frames of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Before photometric augmentation.
    Original,
    /// As the augmentation gives them.
    Augmented,
    /// Cut out of the augmented ones and enlarged to their size.
    Transformed,
}

/// Whose weights a pass runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those that are trained.
    Student,
    /// Those that the run began with.
    Teacher,
}

/// A loss that compares flows with their truth.
pub struct Supervised {
    loss: Loss,
    outputs: Vec<NodeId>,
    unit: PyramidUnit,
}

impl Supervised {
    /// A loss for a network.
    ///
    /// # Errors
    /// If the network lacks what the loss reads.
    pub fn new(loss: Loss, model: &Model) -> Result<Self, LossError> {
        Ok(Self { outputs: loss.outputs(&model.graph)?, loss, unit: model.pyramid_unit })
    }
}

impl Criterion for Supervised {
    fn outputs(&self) -> &[NodeId] {
        &self.outputs
    }

    fn needs(&self) -> Needs {
        Needs { truth: true, ..Needs::default() }
    }

    fn passes(&self, _: u64) -> Vec<Pass> {
        vec![Pass { view: View::Augmented, weights: Whose::Student, differentiated: true }]
    }

    fn frames<'a>(&self, _: u64, _: &Pass, batch: &'a Batch) -> Result<[Cow<'a, [f32]>; 2], LossError> {
        Ok(batch.frames.each_ref().map(|frames| Cow::Borrowed(&frames[..])))
    }

    fn tallies_values(&self) -> bool {
        self.loss.needs_penalties()
    }

    fn tally(&self, shapes: &[Shape], values: Option<&[Values]>, batch: &Batch) -> Result<Vec<Tally>, LossError> {
        match values {
            Some(values) => self.loss.measure(values, batch.truth()?, self.unit),
            None => self.loss.count(shapes, batch.truth()?, self.unit),
        }
    }

    fn grade(&self, graded: Grading<'_>) -> Result<Graded, LossError> {
        let outputs = graded.passes.last().map_or(&[][..], |outputs| outputs);
        self.loss.grade_part(outputs, graded.batch.truth()?, self.unit, graded.whole)
    }
}
