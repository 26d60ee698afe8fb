//! The losses by name, with the constants that their projects use.

use serde::{Deserialize, Serialize};

use super::{Loss, Measure, Mixture, Penalty, Reads, Reduction, Sum};

/// The weights of Caffe's FlowNet, finest level first, which PWC-Net and ClementPinard use too.
const FLOWNET: [f32; 5] = [0.005, 0.01, 0.02, 0.08, 0.32];
/// tfoptflow's, finest level first: a network with fewer levels has the last of them.
const TFOPTFLOW: [f32; 6] = [0.0025, 0.005, 0.01, 0.02, 0.08, 0.32];
/// The weights of NVIDIA's multi-scale loss, finest level first.
const NVIDIA: [f32; 5] = [0.32, 0.16, 0.08, 0.04, 0.02];

/// The factor of RAFT's losses from one iteration to the one before.
const GAMMA: f64 = 0.8;
/// Truth that RAFT's losses leave out, px.
const LONGEST: f32 = 400.0;
/// Iterations for which the losses of a sequence have weights.
const MOST_ITERATIONS: usize = 64;

struct Named {
    name: &'static str,
    help: &'static str,
    reads: Reads,
    reduction: Reduction,
    penalty: Penalty,
    sum: Sum,
    /// None for the loss of a sequence, whose weights follow from a factor.
    weights: &'static [f32],
    mixture: Option<Mixture>,
}

/// The loss of a sequence of iterations (RAFT): each weighs [`GAMMA`] times as much as the next.
const fn sequence(name: &'static str, help: &'static str, sum: Sum, mixture: Option<Mixture>) -> Named {
    let (reduction, penalty) = (Reduction::Area, Penalty::L1);
    Named { name, help, reads: Reads::Pyramid, reduction, penalty, sum, weights: &[], mixture }
}

const fn pyramid(
    name: &'static str,
    help: &'static str,
    reduction: Reduction,
    penalty: Penalty,
    sum: Sum,
    weights: &'static [f32],
) -> Named {
    Named { name, help, reads: Reads::Pyramid, reduction, penalty, sum, weights, mixture: None }
}

const fn flow(name: &'static str, help: &'static str, penalty: Penalty, sum: Sum) -> Named {
    let (reduction, weights) = (Reduction::Area, &[1.0]);
    Named { name, help, reads: Reads::Flow, reduction, penalty, sum, weights, mixture: None }
}

const fn power(measure: Measure, epsilon: f32, power: f32) -> Penalty {
    Penalty { measure, epsilon, power }
}

use Measure::{Absolute, Squared};
use Reduction::{Area, Extremes, TopLeft, Triangle};

const LOSSES: &[Named] = &[
    flow("l1", "mean of |du| and |dv| at full size, px (NVIDIA, MindSpore)", Penalty::L1, Sum::MeanOfValues),
    flow("l2", "mean end-point error at full size, px (NVIDIA)", Penalty::L2, Sum::MeanOfPixels),
    flow("epe", "the same as l2", Penalty::L2, Sum::MeanOfPixels),
    flow("charbonnier", "mean of sqrt(e^2 + epsilon) at full size, px", power(Squared, 1e-6, 0.5), Sum::MeanOfPixels),
    pyramid(
        "multiscale-l1",
        "mean of |du| and |dv| at every level (NVIDIA)",
        Area,
        Penalty::L1,
        Sum::MeanOfValues,
        &NVIDIA,
    ),
    pyramid(
        "multiscale-l2",
        "mean end-point error at every level (NVIDIA)",
        Area,
        Penalty::L2,
        Sum::MeanOfPixels,
        &NVIDIA,
    ),
    pyramid(
        "multiscale-caffe",
        "sum of sqrt(e^2 + 0.01) at every level (Caffe's FlowNet, PWC-Net)",
        Triangle,
        power(Squared, 1e-2, 0.5),
        Sum::PerPair,
        &FLOWNET,
    ),
    pyramid(
        "multiscale-epe",
        "sum of end-point errors at every level (ClementPinard)",
        Area,
        Penalty::L2,
        Sum::PerPair,
        &FLOWNET,
    ),
    pyramid(
        "robust",
        "sum of (|du| + |dv| + 0.01)^0.4 at every level (PWC-Net's paper)",
        Triangle,
        power(Absolute, 1e-2, 0.4),
        Sum::PerPair,
        &FLOWNET,
    ),
    pyramid(
        "tfoptflow-multiscale",
        "sum of end-point errors at every level, in level pixels",
        TopLeft,
        Penalty::L2,
        Sum::PerPair,
        &TFOPTFLOW,
    ),
    pyramid(
        "tfoptflow-robust",
        "(sum of |du| + |dv|, + 0.01)^0.4 of every whole level, in level pixels",
        TopLeft,
        Penalty::L1,
        Sum::WholeLevel { epsilon: 1e-2, power: 0.4 },
        &TFOPTFLOW,
    ),
    pyramid(
        "small-displacement",
        "sum of (e^2 + 0.01)^0.2 at every level: small motion counts (FlowNet2-SD, Caffe's LpqLoss, p 2, q 0.2)",
        Triangle,
        power(Squared, 1e-2, 0.2),
        Sum::PerPair,
        &FLOWNET,
    ),
    pyramid(
        "lightflow-l1",
        "mean of |du| and |dv| of the network's own output",
        Area,
        Penalty::L1,
        Sum::MeanOfValues,
        &[1.0],
    ),
    pyramid(
        "lightflow-l2",
        "mean end-point error of the network's own output",
        Area,
        Penalty::L2,
        Sum::MeanOfPixels,
        &[1.0],
    ),
    sequence("sequence-l1", "|du| + |dv| of every iteration, the last weighing most (RAFT)", Sum::MeanOfAll, None),
    sequence(
        "mixture-of-laplace",
        "how unlikely the truth is by what every iteration says of its own errors (SEA-RAFT)",
        Sum::MeanOfValues,
        Some(Mixture::SEA_RAFT),
    ),
    pyramid(
        "lightflow-l1-sparse",
        "lightflow-l1 for sparse truth: extremes of each block, unknown as 0",
        Extremes,
        Penalty::L1,
        Sum::MeanOfValues,
        &[1.0],
    ),
];

/// The loss that needs no truth, with the settings of a recipe's `unsupervised`.
pub const UFLOW: &str = "uflow";

/// Every loss with one line about it.
pub const NAMES: [(&str, &str); LOSSES.len() + 1] = {
    let mut names =
        [(UFLOW, "learns from the frames alone: census, smoothness, self-supervision (UFlow)"); LOSSES.len() + 1];
    let mut i = 0;
    while i < LOSSES.len() {
        names[i] = (LOSSES[i].name, LOSSES[i].help);
        i += 1;
    }
    names
};

/// A loss by name, and constants that differ from the usual ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// One of [`NAMES`].
    pub name: String,
    /// Factor of each level, finest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<f64>>,
    /// Factor of each iteration to that of the next, of the loss of a sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Truth of this length or longer counts as unknown, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest: Option<f64>,
    /// The number that is added before the power is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// The power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<f64>,
}

impl LossConfig {
    /// The loss, or what is wrong with its description.
    pub fn build(&self) -> Result<Loss, String> {
        let Some(named) = LOSSES.iter().find(|l| l.name == self.name) else {
            return Err(crate::recipe::no_such("loss", &self.name, NAMES.iter().map(|(name, _)| *name)));
        };
        let is_sequence = named.weights.is_empty();
        if self.gamma.is_some() && !is_sequence {
            return Err(format!("loss.gamma is of the losses of a sequence, and `{}` is none", self.name));
        }
        let gamma = self.gamma.unwrap_or(GAMMA);
        if !(gamma > 0.0 && gamma <= 1.0) || self.longest.is_some_and(|longest| longest.is_nan() || longest <= 0.0) {
            return Err("loss.gamma must be above 0 and at most 1, and loss.longest above 0".into());
        }
        let mut loss = Loss {
            reads: named.reads,
            reduction: named.reduction,
            penalty: named.penalty,
            mixture: named.mixture,
            longest: self.longest.map(|longest| longest as f32).or(is_sequence.then_some(LONGEST)),
            sum: named.sum,
            from_coarsest: named.name.starts_with("tfoptflow"),
            weights: match &self.weights {
                Some(weights) => weights.iter().map(|&w| w as f32).collect(),
                None if is_sequence => (0..MOST_ITERATIONS).map(|i| gamma.powi(i as i32) as f32).collect(),
                None => named.weights.to_vec(),
            },
        };
        let (epsilon, power) = match &mut loss.sum {
            Sum::WholeLevel { epsilon, power } => (epsilon, power),
            _ => (&mut loss.penalty.epsilon, &mut loss.penalty.power),
        };
        *epsilon = self.epsilon.map_or(*epsilon, |e| e as f32);
        *power = self.q.map_or(*power, |q| q as f32);
        if !(epsilon.is_finite() && *epsilon >= 0.0 && power.is_finite() && *power > 0.0) {
            return Err("loss.epsilon must be 0 or more and loss.q more than 0".into());
        }
        if loss.weights.is_empty() || loss.weights.iter().any(|w| !(w.is_finite() && *w >= 0.0)) {
            return Err("loss.weights must be numbers of 0 or more, one for each level, finest first".into());
        }
        Ok(loss)
    }
}
