//! What training minimises: how far the network's flows are from the truth, and how that depends on each value of them.
//!
//! The losses of all projects are one sum: over levels, over pixels, of a penalty of the difference between the flow and
//! the truth brought to the level's size and unit. They differ in four choices, which [`NAMES`] lists by name. Unknown
//! pixels count nowhere; where a norm is 0, its gradient is 0.

mod named;
mod penalty;
mod target;
#[cfg(test)]
mod tests;

use ferroflow_net::{Graph, NodeId, PyramidUnit, training::Values};
use rayon::prelude::*;

pub use named::{LossConfig, NAMES};
pub use penalty::{Measure, Penalty};
pub use target::{Reduction, Target, Truth};

/// A loss: which outputs it reads, how it compares them, how it sums.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// Which outputs of the network.
    pub reads: Reads,
    /// How the truth is brought to the size of a level.
    pub reduction: Reduction,
    /// What a difference costs at a pixel.
    pub penalty: Penalty,
    /// From pixels to a level's value.
    pub sum: Sum,
    /// A factor for each level, finest first; one for the flow.
    pub weights: Vec<f32>,
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

/// A loss that does not fit the network or the batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// The network has more levels than the loss has weights.
    #[error(
        "the network has {levels} levels and the loss {weights} weights: give one for each level, finest first (loss.weights)"
    )]
    Weights {
        /// Levels of the network.
        levels: usize,
        /// Weights of the loss.
        weights: usize,
    },
    /// The network has no flow of that kind.
    #[error("the network has no {what}: choose a loss that reads something else")]
    NoOutput {
        /// What is missing.
        what: &'static str,
    },
    /// A level whose size does not divide that of the frames.
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

/// What a loss says about the outputs of a forward pass.
#[derive(Clone, Debug)]
pub struct Graded {
    /// The loss.
    pub value: f64,
    /// Mean end-point error over the known pixels of the finest output, in pixels of the frames.
    pub epe: f64,
    /// Of the loss with respect to each output, in the order of the outputs.
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

    /// The loss of `outputs` `[N, 2, h, w]`, finest first, and its gradients. `unit` is that of the network's pyramid.
    pub fn grade(&self, outputs: &[Values], truth: &Truth, unit: PyramidUnit) -> Result<Graded, LossError> {
        let unit = match self.reads {
            Reads::Pyramid => unit,
            Reads::Flow => PyramidUnit::Pixels(1.0),
        };
        let mut graded = Graded { value: 0.0, epe: 0.0, gradients: Vec::with_capacity(outputs.len()) };
        // Iterations of one level share its target.
        let mut last: Option<Target> = None;
        for (index, (output, &weight)) in outputs.iter().zip(&self.weights).enumerate() {
            let target = match last.take() {
                Some(target) if target.shape[2..] == output.shape[2..] => target,
                _ => truth.at([output.shape[2], output.shape[3]], self.reduction, unit)?,
            };
            if target.shape[0] != output.shape[0] {
                return Err(size_error(output, truth));
            }
            let level = self.level(output, last.insert(target), weight);
            graded.value += level.value;
            if index == 0 {
                graded.epe = level.epe;
            }
            graded.gradients.push(level.gradient);
        }
        Ok(graded)
    }

    /// One output against its target.
    fn level(&self, output: &Values, target: &Target, weight: f32) -> Level {
        let [n, _, h, w] = output.shape;
        let pixels = h * w;
        let mut gradient = Values::zeros(output.shape);
        // Each image's sums by themselves, added in their order: the same bits for any number of threads.
        let sums: Vec<ImageSums> = (
            gradient.data.par_chunks_exact_mut(2 * pixels),
            output.data.par_chunks_exact(2 * pixels),
            target.flow.par_chunks_exact(2 * pixels),
            target.known.par_chunks_exact(pixels),
        )
            .into_par_iter()
            .map(|(gradient, output, target, known)| self.penalty.image(output, target, known, gradient))
            .collect();
        let penalty: f64 = sums.iter().map(|s| s.penalty).sum();
        let error: f64 = sums.iter().map(|s| s.error).sum();
        let known: usize = sums.iter().map(|s| s.known).sum();
        let mean = |count: usize| if count == 0 { 0.0 } else { 1.0 / count as f64 };
        // The value, and its derivative with respect to the sum of the penalties.
        let (value, slope) = match self.sum {
            Sum::MeanOfValues => (penalty * mean(2 * known), mean(2 * known)),
            Sum::MeanOfPixels => (penalty * mean(known), mean(known)),
            Sum::PerPair => (penalty * mean(n), mean(n)),
            Sum::WholeLevel { epsilon, power } => {
                let (base, power) = (penalty * mean(n) + f64::from(epsilon), f64::from(power));
                let slope = if base > 0.0 { power * base.powf(power - 1.0) * mean(n) } else { 0.0 };
                (base.powf(power), slope)
            }
        };
        let factor = (f64::from(weight) * slope) as f32;
        gradient.data.par_iter_mut().with_min_len(1 << 14).for_each(|g| *g *= factor);
        Level { value: f64::from(weight) * value, epe: error * f64::from(target.unit) * mean(known), gradient }
    }
}

struct Level {
    value: f64,
    epe: f64,
    gradient: Values,
}

/// Over the known pixels of one image.
struct ImageSums {
    penalty: f64,
    /// Lengths of the differences, in the output's unit.
    error: f64,
    known: usize,
}

fn size_error(output: &Values, truth: &Truth) -> LossError {
    let three = |[n, _, h, w]: [usize; 4]| [n, h, w];
    LossError::Size { level: three(output.shape), truth: three(truth.flow.shape) }
}

/// What weight decay as a part of the loss adds to its value: `decay / 2 * sum of squares` (tfoptflow's regulariser).
pub fn l2_penalty<'a>(decay: f32, weights: impl IntoIterator<Item = &'a [f32]>) -> f64 {
    let squares: f64 = weights.into_iter().flatten().map(|&v| f64::from(v).powi(2)).sum();
    f64::from(decay) / 2.0 * squares
}
