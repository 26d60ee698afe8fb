//! Optimisers: three variants of Adam, stochastic gradient descent, and the norm and scale of gradients.
//!
//! A step is one pass over each parameter, which applies scale, decay, moments and update to each value, in chunks on all threads.
//! A value depends on its own gradient alone, so the result does not depend on the number of threads.

mod average;
mod norm;
mod scale;
#[cfg(test)]
mod tests;

use ferroflow_net::{
    Graph, Weights,
    graph::{Param, ParamRole},
    training::{AdamStep, Gradients},
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::loss::l2_penalty;

pub use average::Average;
pub use norm::norm;
pub use scale::{LossScale, LossScaleConfig};

/// Values in a piece of work.
const CHUNK: usize = 1 << 14;

/// An update rule with its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum OptimiserConfig {
    /// PyTorch's Adam: `epsilon` is added to the corrected root, weight decay to the gradient.
    Adam {
        /// Decay of the mean of the gradient.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the mean of its square.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Number that is added to the root.
        #[serde(default = "epsilon")]
        epsilon: f64,
    },
    /// TensorFlow's and MindSpore's Adam: `epsilon` is added before the root is corrected.
    AdamTensorflow {
        /// Decay of the mean of the gradient.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the mean of its square.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Number that is added to the root.
        #[serde(default = "epsilon")]
        epsilon: f64,
    },
    /// Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019, as in PyTorch).
    Adamw {
        /// Decay of the mean of the gradient.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the mean of its square.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Number that is added to the root.
        #[serde(default = "epsilon")]
        epsilon: f64,
    },
    /// Gradient descent with PyTorch's momentum.
    Sgd {
        /// Share of the last update that is added to the next.
        #[serde(default = "beta1")]
        momentum: f64,
    },
    /// Proximal gradient descent without regularisation, as tfoptflow uses it, which is plain gradient descent.
    Proximal {},
}

fn beta1() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.999
}

fn epsilon() -> f64 {
    1e-8
}

/// The parameters that weight decay pulls towards 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decayed {
    /// The weights, including batch norm's factors, but not the biases.
    #[default]
    Weights,
    /// Every trained parameter.
    All,
}

/// How strongly parameters are pulled towards 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decay {
    /// Of weights, including batch norm's factors.
    pub weights: f32,
    /// Of biases, including batch norm's offsets.
    pub biases: f32,
}

impl Decay {
    /// The same for all parameters that are pulled.
    pub fn of(decay: f32, decayed: Decayed) -> Self {
        Self { weights: decay, biases: if decayed == Decayed::All { decay } else { 0.0 } }
    }
}

/// An update rule and its moments for each trained parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimiser {
    config: OptimiserConfig,
    /// Steps taken.
    steps: u64,
    /// By parameter of the graph.
    decay: Vec<f32>,
    trained: Vec<bool>,
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
}

impl Optimiser {
    /// An optimiser before its first step.
    pub fn new(config: OptimiserConfig, graph: &Graph, trained: &[bool], decay: Decay) -> Self {
        let decay = |p: &Param| match p.role {
            ParamRole::ConvWeight | ParamRole::DeconvWeight | ParamRole::NormScale => decay.weights,
            ParamRole::Bias | ParamRole::NormShift => decay.biases,
            ParamRole::NormMean | ParamRole::NormVariance => 0.0,
        };
        let zeros = |wanted: bool| {
            let len = |(param, &trained): (&Param, &bool)| if wanted && trained { param.len() } else { 0 };
            graph.params.iter().zip(trained).map(|p| vec![0.0; len(p)]).collect()
        };
        let (first, second) = match config {
            OptimiserConfig::Adam { .. } | OptimiserConfig::AdamTensorflow { .. } | OptimiserConfig::Adamw { .. } => {
                (true, true)
            }
            OptimiserConfig::Sgd { .. } => (true, false),
            OptimiserConfig::Proximal {} => (false, false),
        };
        Self {
            config,
            steps: 0,
            decay: graph.params.iter().map(decay).collect(),
            trained: trained.to_vec(),
            first: zeros(first),
            second: zeros(second),
        }
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Weight decay as a part of the loss: half of each trained parameter's decay times the sum of its squares (tfoptflow's regulariser).
    pub fn regulariser(&self, weights: &Weights) -> f64 {
        let params = weights.iter().zip(&self.decay).zip(&self.trained).filter(|(_, trained)| **trained);
        params.map(|((values, &decay), _)| l2_penalty(decay, [values])).sum()
    }

    /// Moves the trained weights by one step at this rate. The gradients are first multiplied by `factor`, which combines the
    /// inverse of the loss scale and clipping.
    pub fn step(&mut self, weights: &mut Weights, gradients: &Gradients, rate: f64, factor: f32) {
        self.steps += 1;
        let update = self.config.update(self.steps, rate, factor);
        let mut work = Vec::new();
        let params = weights.iter_mut().zip(gradients.iter()).zip(&self.decay).zip(&self.trained);
        let memory = self.first.iter_mut().zip(&mut self.second);
        for ((((weights, gradients), &decay), &trained), (first, second)) in params.zip(memory) {
            if !trained {
                continue;
            }
            // Rules without a moment get empty chunks of it.
            let mut first = first.chunks_mut(CHUNK);
            let mut second = second.chunks_mut(CHUNK);
            for (weights, gradients) in weights.chunks_mut(CHUNK).zip(gradients.chunks(CHUNK)) {
                work.push((
                    weights,
                    gradients,
                    first.next().unwrap_or_default(),
                    second.next().unwrap_or_default(),
                    decay,
                ));
            }
        }
        work.into_par_iter().for_each(|(weights, gradients, first, second, decay)| {
            update.apply(weights, gradients, first, second, decay);
        });
    }

    /// Whether a device can take the steps (see [`count`](Self::count)).
    pub fn is_adam(&self) -> bool {
        self.config.adam(1, 0.0, 1.0).is_some()
    }

    /// Notes a step that a device takes, at this rate and with gradients multiplied by `factor`: its constants, if the rule is one
    /// of Adam's.
    pub fn count(&mut self, rate: f64, factor: f32) -> Option<AdamStep> {
        let step = self.config.adam(self.steps + 1, rate, factor)?;
        self.steps += 1;
        Some(step)
    }

    /// The weight decay of each parameter.
    pub fn decay(&self) -> &[f32] {
        &self.decay
    }

    /// As [`memory`](Self::memory), for moments that a device has moved.
    pub fn memory_mut(&mut self) -> [&mut [Vec<f32>]; 2] {
        [&mut self.first, &mut self.second]
    }

    /// The first and the second moments of each parameter, for a checkpoint; empty if the rule has none.
    pub fn memory(&self) -> [&[Vec<f32>]; 2] {
        [&self.first, &self.second]
    }

    /// Continues with the moments of a checkpoint.
    ///
    /// # Errors
    /// If they are those of another rule or network.
    pub fn restore(&mut self, steps: u64, memory: [Vec<Vec<f32>>; 2]) -> Result<(), String> {
        let lengths = |memory: &[Vec<f32>]| memory.iter().map(Vec::len).collect::<Vec<_>>();
        let [first, second] = memory;
        if lengths(&first) != lengths(&self.first) || lengths(&second) != lengths(&self.second) {
            return Err("it holds the memory of another optimiser, or of other trained parameters (keys `optimiser` and `freeze`)".into());
        }
        (self.steps, self.first, self.second) = (steps, first, second);
        Ok(())
    }
}

/// The constants of one step.
#[derive(Clone, Copy)]
enum Update {
    Adam(AdamStep),
    Sgd { rate: f32, momentum: f32, factor: f32 },
    Descent { rate: f32, factor: f32 },
}

impl OptimiserConfig {
    fn update(self, step: u64, rate: f64, factor: f32) -> Update {
        match self {
            Self::Sgd { momentum } => Update::Sgd { rate: rate as f32, momentum: momentum as f32, factor },
            Self::Proximal {} => Update::Descent { rate: rate as f32, factor },
            _ => self.adam(step, rate, factor).map_or(Update::Descent { rate: rate as f32, factor }, Update::Adam),
        }
    }

    /// `None` if it is no variant of Adam.
    fn adam(self, step: u64, rate: f64, factor: f32) -> Option<AdamStep> {
        let (Self::Adam { beta1, beta2, epsilon }
        | Self::AdamTensorflow { beta1, beta2, epsilon }
        | Self::Adamw { beta1, beta2, epsilon }) = self
        else {
            return None;
        };
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        let (first, second) = (1.0 - beta1.powi(step), (1.0 - beta2.powi(step)).sqrt());
        let (corrected, root) = match self {
            Self::AdamTensorflow { .. } => (rate * second / first, 1.0),
            _ => (rate / first, 1.0 / second),
        };
        Some(AdamStep {
            rate: corrected as f32,
            root: root as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            epsilon: epsilon as f32,
            apart: if matches!(self, Self::Adamw { .. }) { rate as f32 } else { 0.0 },
            factor,
        })
    }
}

impl Update {
    fn apply(self, weights: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32], decay: f32) {
        match self {
            Self::Adam(step) => {
                let AdamStep { rate, root, beta1, beta2, epsilon, factor, .. } = step;
                let (coupled, keep) = step.decays(decay);
                let moments = first.iter_mut().zip(second);
                for ((w, &g), (m, v)) in weights.iter_mut().zip(gradients).zip(moments) {
                    let g = g * factor + coupled * *w;
                    *m += (1.0 - beta1) * (g - *m);
                    *v = beta2 * *v + (1.0 - beta2) * g * g;
                    *w = keep * *w - rate * *m / (v.sqrt() * root + epsilon);
                }
            }
            Self::Sgd { rate, momentum, factor } => {
                for ((w, &g), b) in weights.iter_mut().zip(gradients).zip(first) {
                    *b = momentum * *b + (g * factor + decay * *w);
                    *w -= rate * *b;
                }
            }
            Self::Descent { rate, factor } => {
                for (w, &g) in weights.iter_mut().zip(gradients) {
                    *w -= rate * (g * factor + decay * *w);
                }
            }
        }
    }
}
