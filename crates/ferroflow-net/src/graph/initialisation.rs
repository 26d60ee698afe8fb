//! How the first weights of a network are drawn.

use serde::{Deserialize, Serialize};

/// The distribution of first weights ([`crate::Weights::random`]); batch norm always begins as the identity. The reference's
/// distribution is part of a network's definition, because a recipe that works with one may diverge with another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Initialisation {
    /// He et al. 2015 for leaky ReLU of slope 0.1: uniform, by fan in, for which a transposed convolution counts the quarter
    /// of its taps that meet in an output. Biases are 0. No reference uses this one; `rill` does.
    HeUniform {},
    /// PyTorch's `kaiming_normal_` with `mode="fan_in"`, whose fan in of a transposed convolution is counted over its
    /// outputs. Biases are 0.
    KaimingNormal {
        /// The slope of the leaky ReLU that it corrects for.
        #[serde(default)]
        slope: f64,
    },
    /// Glorot and Bengio 2010: uniform, by fan in and fan out.
    XavierUniform {
        /// Biases are uniform in 0..this; 0 is none.
        #[serde(default)]
        bias: f64,
    },
    /// TensorFlow's `he_normal`, cut off at two deviations, for convolutions; its default, Xavier's uniform one, for
    /// transposed ones. Biases are 0.
    KerasHeNormal {},
}

impl Default for Initialisation {
    fn default() -> Self {
        Self::HeUniform {}
    }
}
