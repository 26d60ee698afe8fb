//! Losses: how far the network's flows are from the truth, and the gradient with respect to each of their values.
//!
//! The losses of all projects are a sum over levels and pixels of a penalty of the difference between the flow and the truth,
//! which is brought to the level's size and unit. They differ in four choices, for which [`NAMES`] has names. Unknown pixels do
//! not count; where a norm is 0, its gradient is 0.

mod mixture;
mod named;
mod penalty;
mod target;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, ops::AddAssign};

use ferroflow_core::Size;
use ferroflow_net::{Graph, NodeId, PyramidUnit, graph::Shape, training::Values};
use rayon::prelude::*;

use crate::unsupervised::UnsupervisedError;

pub use mixture::Mixture;
pub use named::{LossConfig, NAMES, UFLOW};
pub use penalty::{Measure, Penalty};
pub use target::{Reduction, Target, Truth};

/// A loss: which outputs it reads, how it compares them with the truth, and how it sums the differences.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// Which outputs of the network it reads.
    pub reads: Reads,
    /// How the truth is brought to the size of a level.
    pub reduction: Reduction,
    /// The penalty of a difference at a pixel.
    pub penalty: Penalty,
    /// What takes the place of the penalty where the network says how far off it may be.
    pub mixture: Option<Mixture>,
    /// Truth of this length or longer counts as unknown, in pixels of the frames.
    pub longest: Option<f32>,
    /// How the penalties of a level become one value.
    pub sum: Sum,
    /// A factor for each level, finest first; a single factor for [`Reads::Flow`].
    pub weights: Vec<f32>,
    /// Whether a network with fewer levels takes those of the coarsest levels, not of the finest.
    pub from_coarsest: bool,
}

/// Which outputs a loss reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The flows of all levels, in the network's own unit.
    Pyramid,
    /// The flow at the size of the frames, in pixels.
    Flow,
}

/// How the penalties of a level become one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sum {
    /// Mean over known pixels and both components.
    MeanOfValues,
    /// Sum over known pixels and both components, divided by the number of all pixels and components (RAFT).
    MeanOfAll,
    /// Mean over known pixels.
    MeanOfPixels,
    /// Sum over pixels, mean over the batch.
    PerPair,
    /// `(sum over pixels, mean over the batch, + epsilon) ^ power`.
    WholeLevel {
        /// Keeps the gradient finite at 0.
        epsilon: f32,
        /// Below 1, large errors weigh less.
        power: f32,
    },
}

/// Why a loss does not fit the network or the batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// The network has more levels than the loss has weights.
    #[error(
        "the network has {levels} levels and the loss {weights} weights: give one for each level, finest first (loss.weights)"
    )]
    Weights {
        /// Number of levels of the network.
        levels: usize,
        /// Number of weights of the loss.
        weights: usize,
    },
    /// The network does not say how far off its flow may be.
    #[error(
        "the network has no prediction of its errors, which the loss reads: choose another one, such as `sequence-l1`"
    )]
    NoMixture,
    /// A loss without truth cannot be computed for this network or batch.
    #[error(transparent)]
    Unsupervised(#[from] UnsupervisedError),
    /// Pairs have no true flow.
    #[error("{0} has no true flow: train on data with ground truth, or with a loss that needs none (loss = \"uflow\")")]
    NoTruth(String),
    /// The network lacks an output that the loss reads.
    #[error("the network has no {what}: choose a loss that reads something else")]
    NoOutput {
        /// What is missing.
        what: &'static str,
    },
    /// The size of a level does not divide the size of the frames.
    #[error(
        "a level of {level:?} does not fit a truth of {truth:?} (batch, height, width): choose a crop that is a multiple of the network's stride"
    )]
    Size {
        /// Batch, height and width of the level.
        level: [usize; 3],
        /// Batch, height and width of the truth.
        truth: [usize; 3],
    },
}

/// The loss of the outputs of a forward pass, and its gradients.
#[derive(Clone, Debug)]
pub struct Graded {
    /// The loss.
    pub value: f64,
    /// Its named parts, if it has any.
    pub terms: Vec<(&'static str, f64)>,
    /// Mean end-point error over the known pixels of the finest output, in pixels of the frames; `None` without truth.
    pub epe: Option<f64>,
    /// The gradients of the loss with respect to each output, in the order of the outputs.
    pub gradients: Vec<Values>,
}

impl Loss {
    /// The nodes whose values [`Loss::grade`] takes, finest first.
    pub fn outputs(&self, graph: &Graph) -> Result<Vec<NodeId>, LossError> {
        let outputs = match self.reads {
            Reads::Flow => vec![graph.flow.ok_or(LossError::NoOutput { what: "flow" })?],
            Reads::Pyramid => graph.pyramid.iter().rev().copied().collect(),
        };
        match outputs.len() {
            0 => Err(LossError::NoOutput { what: "pyramid" }),
            levels if levels > self.weights.len() => Err(LossError::Weights { levels, weights: self.weights.len() }),
            _ => Ok(outputs),
        }
    }

    /// The loss of `outputs` `[N, 2, h, w]` (and channels behind those of the flow, which only [`Loss::mixture`] reads), finest first, and its gradients. `unit` is the unit of the network's pyramid.
    pub fn grade(&self, outputs: &[Values], truth: &Truth, unit: PyramidUnit) -> Result<Graded, LossError> {
        self.grade_part(outputs, truth, unit, None)
    }

    /// The share that a part of a batch has in the loss of the whole: the shares of all parts add up to the loss of one
    /// large batch, and so do their gradients, also where one part knows more pixels than another. `whole` holds the
    /// [tallies](Tally) of all parts together, one for each output; without it the part is the whole.
    pub fn grade_part(
        &self,
        outputs: &[Values],
        truth: &Truth,
        unit: PyramidUnit,
        whole: Option<&[Tally]>,
    ) -> Result<Graded, LossError> {
        let gradients = Vec::with_capacity(outputs.len());
        let mut graded = Graded { value: 0.0, terms: Vec::new(), epe: None, gradients };
        let shapes = outputs.iter().map(|output| output.shape);
        let left_out = if self.from_coarsest { self.weights.len().saturating_sub(outputs.len()) } else { 0 };
        self.each_level(shapes, truth, unit, |index, target| {
            let output = &outputs[index];
            let (sums, gradient) = self.compare(output, target);
            let level = self.level(&sums, gradient, target, whole.map(|w| w[index]), self.weights[left_out + index]);
            graded.value += level.value;
            if index == 0 {
                graded.epe = Some(level.epe);
            }
            graded.gradients.push(level.gradient);
        })?;
        Ok(graded)
    }

    /// What a part of a batch adds to the tallies of the whole according to its truth, for outputs of these shapes, finest first.
    pub fn count(&self, shapes: &[Shape], truth: &Truth, unit: PyramidUnit) -> Result<Vec<Tally>, LossError> {
        let mut tallies = Vec::with_capacity(shapes.len());
        self.each_level(shapes.iter().copied(), truth, unit, |_, target| {
            let known = target.known.iter().filter(|&&known| known).count();
            tallies.push(Tally { pairs: target.shape[0], known, penalty: 0.0 });
        })?;
        Ok(tallies)
    }

    /// What a part of a batch adds to the tallies of the whole, including its penalties, for a loss that
    /// [needs them](Self::needs_penalties).
    pub fn measure(&self, outputs: &[Values], truth: &Truth, unit: PyramidUnit) -> Result<Vec<Tally>, LossError> {
        let mut tallies = Vec::with_capacity(outputs.len());
        self.each_level(outputs.iter().map(|output| output.shape), truth, unit, |index, target| {
            tallies.push(self.compare(&outputs[index], target).0.tally(target.shape[0]));
        })?;
        Ok(tallies)
    }

    /// Whether the share of a part depends on the penalties of the other parts, not only on their truth.
    pub fn needs_penalties(&self) -> bool {
        matches!(self.sum, Sum::WholeLevel { .. })
    }

    /// The targets of outputs of these shapes, one after the other.
    fn each_level(
        &self,
        shapes: impl Iterator<Item = Shape>,
        truth: &Truth,
        unit: PyramidUnit,
        mut look: impl FnMut(usize, &Target),
    ) -> Result<(), LossError> {
        let unit = match self.reads {
            Reads::Pyramid => unit,
            Reads::Flow => PyramidUnit::Pixels(1.0),
        };
        let truth = &*match self.longest {
            Some(longest) => truth.shorter_than(longest),
            None => Cow::Borrowed(truth),
        };
        // Iterations of one level share its target.
        let mut last: Option<Target> = None;
        for (index, shape) in shapes.enumerate().take(self.weights.len()) {
            let target = match last.take() {
                Some(target) if target.shape[2..] == shape[2..] => target,
                _ => truth.at(Size { height: shape[2], width: shape[3] }, self.reduction, unit)?,
            };
            if target.shape[0] != shape[0] {
                return Err(size_error(shape, truth));
            }
            if self.mixture.is_some() && shape[1] != mixture::CHANNELS {
                return Err(LossError::NoMixture);
            }
            look(index, last.insert(target));
        }
        Ok(())
    }

    /// One output against its target: the sums of the penalties, and the derivatives of that sum.
    fn compare(&self, output: &Values, target: &Target) -> (Sums, Values) {
        let [_, channels, h, w] = output.shape;
        let pixels = h * w;
        let mut gradient = Values::zeros(output.shape);
        // Each image's sums by themselves, added in their order: the same bits for any number of threads.
        let images: Vec<Sums> = (
            gradient.data.par_chunks_exact_mut(channels * pixels),
            output.data.par_chunks_exact(channels * pixels),
            target.flow.par_chunks_exact(2 * pixels),
            target.known.par_chunks_exact(pixels),
        )
            .into_par_iter()
            .map(|(gradient, output, target, known)| match &self.mixture {
                Some(mixture) => mixture.image(output, target, known, gradient),
                None => {
                    let flow = 2 * pixels;
                    self.penalty.image(&output[..flow], target, known, &mut gradient[..flow])
                }
            })
            .collect();
        let sums = Sums {
            penalty: images.iter().map(|s| s.penalty).sum(),
            error: images.iter().map(|s| s.error).sum(),
            known: images.iter().map(|s| s.known).sum(),
        };
        (sums, gradient)
    }

    /// From the sums of a part of the batch to its share in the value of the level.
    fn level(&self, sums: &Sums, mut gradient: Values, target: &Target, whole: Option<Tally>, weight: f32) -> Level {
        let part = sums.tally(target.shape[0]);
        let whole = whole.unwrap_or(part);
        let mean = |count: usize| if count == 0 { 0.0 } else { 1.0 / count as f64 };
        // The value, and its derivative with respect to the sum of the penalties.
        let (value, slope) = match self.sum {
            Sum::MeanOfValues => (part.penalty * mean(2 * whole.known), mean(2 * whole.known)),
            Sum::MeanOfAll => {
                let all = 2 * whole.pairs * target.shape[2] * target.shape[3];
                (part.penalty * mean(all), mean(all))
            }
            Sum::MeanOfPixels => (part.penalty * mean(whole.known), mean(whole.known)),
            Sum::PerPair => (part.penalty * mean(whole.pairs), mean(whole.pairs)),
            Sum::WholeLevel { epsilon, power } => {
                let (base, power) = (whole.penalty * mean(whole.pairs) + f64::from(epsilon), f64::from(power));
                let slope = if base > 0.0 { power * base.powf(power - 1.0) * mean(whole.pairs) } else { 0.0 };
                // It is no sum over pairs: each is said to have the same part in it.
                (base.powf(power) * (part.pairs as f64 * mean(whole.pairs)), slope)
            }
        };
        let factor = (f64::from(weight) * slope) as f32;
        gradient.data.par_iter_mut().with_min_len(1 << 14).for_each(|g| *g *= factor);
        let epe = sums.error * f64::from(target.unit) * mean(whole.known);
        Level { value: f64::from(weight) * value, epe, gradient }
    }
}

/// What the loss of a whole batch depends on, for one output of the network. The tallies of the parts of a batch add up to that of
/// the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Number of pairs.
    pub pairs: usize,
    /// Number of pixels of the output where the truth is known.
    pub known: usize,
    /// Sum of the penalties over these pixels; 0 if [counted](Loss::count) by the truth alone.
    pub penalty: f64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, part: Self) {
        self.pairs += part.pairs;
        self.known += part.known;
        self.penalty += part.penalty;
    }
}

struct Level {
    value: f64,
    epe: f64,
    gradient: Values,
}

/// Over known pixels.
struct Sums {
    penalty: f64,
    /// Lengths of the differences, in the output's unit.
    error: f64,
    known: usize,
}

impl Sums {
    fn tally(&self, pairs: usize) -> Tally {
        Tally { pairs, known: self.known, penalty: self.penalty }
    }
}

fn size_error(output: Shape, truth: &Truth) -> LossError {
    let three = |[n, _, h, w]: Shape| [n, h, w];
    LossError::Size { level: three(output), truth: three(truth.flow.shape) }
}

/// The value of weight decay as a part of the loss: `decay / 2 * sum of squares` (tfoptflow's regulariser).
pub fn l2_penalty<'a>(decay: f32, weights: impl IntoIterator<Item = &'a [f32]>) -> f64 {
    let squares: f64 = weights.into_iter().flatten().map(|&v| f64::from(v).powi(2)).sum();
    f64::from(decay) / 2.0 * squares
}

/// Adds to the part of a loss that has this name.
pub(crate) fn add_term(terms: &mut Vec<(&'static str, f64)>, name: &'static str, value: f64) {
    match terms.iter_mut().find(|(known, _)| *known == name) {
        Some((_, sum)) => *sum += value,
        None => terms.push((name, value)),
    }
}
