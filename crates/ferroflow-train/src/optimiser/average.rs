//! The exponential moving average of the weights, which usually has a smaller error than the weights of a single step.

use ferroflow_net::Weights;
use rayon::prelude::*;

use super::CHUNK;

/// A running average of weights and running statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Average {
    decay: f32,
    weights: Weights,
}

impl Average {
    /// An average that starts at these weights.
    pub fn new(decay: f32, weights: Weights) -> Self {
        Self { decay, weights }
    }

    /// Sets the average to `decay * average + (1 - decay) * weights`. In the first updates `decay` is at most
    /// `(1 + updates) / (10 + updates)`, as in TensorFlow, so that the random weights of the beginning are soon forgotten.
    pub fn update(&mut self, weights: &Weights, updates: u64) {
        let decay = self.decay.min((1.0 + updates as f32) / (10.0 + updates as f32));
        let pairs = self.weights.iter_mut().zip(weights.iter());
        let chunks: Vec<_> = pairs.flat_map(|(a, w)| a.chunks_mut(CHUNK).zip(w.chunks(CHUNK))).collect();
        chunks.into_par_iter().for_each(|(average, weights)| {
            average.iter_mut().zip(weights).for_each(|(a, &w)| *a += (1.0 - decay) * (w - *a));
        });
    }

    /// The average.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }
}
