//! Measures the error on unseen data during training, beside the error of zero flow.

use std::sync::Arc;

use ferroflow_core::{
    Frame,
    io::{FormatError, frame},
    metrics::MetricError,
    viz::{self, Colours, Normalisation, Scaler},
};
use ferroflow_data::{Sample, Source};
use ferroflow_infer::{
    EstimateError, Estimator, NetworkOptions,
    evaluate::{DataResult, EvaluateError, Protocol, evaluate},
};
use ferroflow_net::{Model, Weights, device::Device};
use serde::Serialize;

use crate::{
    Recipe,
    data::{FeedError, Remembered, join},
};

/// The data to evaluate on.
pub struct Validation {
    sets: Vec<Set>,
    device: Arc<dyn Device>,
}

struct Set {
    data: Remembered,
    spec: String,
    /// Error of no motion; known after the first evaluation.
    zero: Option<f64>,
}

/// The errors on one data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The data set, as the recipe spells it.
    pub data: String,
    /// Number of scored pairs.
    pub pairs: usize,
    /// Mean end-point error over pixels, px.
    pub epe: f64,
    /// Mean end-point error of zero flow over pixels, px.
    pub zero_epe: f64,
}

impl Score {
    /// Whether the error is plausible: untrained weights are worse than zero flow, but not as much as diverged ones.
    pub fn is_sensible(&self) -> bool {
        // (Not a number is not sensible.)
        self.epe <= 10.0 * self.zero_epe.max(10.0)
    }
}

/// A picture for TensorBoard.
pub struct Picture {
    /// The data set and the pair.
    pub tag: String,
    /// Frame 1, the truth and the estimate in one picture.
    pub frame: Frame,
}

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidationError {
    /// The data cannot be opened.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The data set is endless, and the recipe does not limit it.
    #[error("{0} is endless: say how many pairs to evaluate (validate_pairs, or count= for synth)")]
    Endless(String),
    /// A pair cannot be read or scored.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The flow is not finite.
    #[error("no evaluation: {0}")]
    NotFinite(EstimateError),
    /// The flow is 1e9 px or more everywhere.
    #[error("no evaluation: {0}; the run has diverged: lower lr, clip the gradients (clip), or begin with a warmup")]
    BeyondSense(EvaluateError),
}

impl Validation {
    /// Opens the validation data of a recipe; its flow will be estimated on `device`.
    pub fn open(recipe: &Recipe, device: &Arc<dyn Device>) -> Result<Self, ValidationError> {
        let limit = (recipe.validate_pairs > 0).then_some(recipe.validate_pairs);
        let open = |spec: &String| {
            let source: Arc<dyn Source> = join(std::slice::from_ref(spec))?;
            let data = Remembered::new(source, limit).ok_or_else(|| ValidationError::Endless(spec.clone()))?;
            Ok(Set { data, spec: spec.clone(), zero: None })
        };
        let sets = recipe.validate.iter().map(open).collect::<Result<_, ValidationError>>()?;
        Ok(Self { sets, device: device.clone() })
    }

    /// Scores weights on every data set, and draws the first pair of each.
    pub fn run(&mut self, model: &Model, weights: &Weights) -> Result<Vec<(Score, Option<Picture>)>, ValidationError> {
        if self.sets.is_empty() {
            return Ok(Vec::new());
        }
        let estimator = Estimator::network(
            model.clone(),
            weights.clone(),
            NetworkOptions { fit: None, device: self.device.clone() },
        );
        let over_pixels = |result: &DataResult| result.summary.over_pixels.epe.unwrap_or(f64::NAN);
        let mut scores = Vec::with_capacity(self.sets.len());
        for set in &mut self.sets {
            let mut picture = None;
            let protocol = Protocol::default();
            let result = evaluate(&set.data, &estimator, protocol, |sample, estimate, _| {
                if picture.is_none() {
                    picture = draw(sample, estimate).map(|frame| Picture { tag: set.spec.clone(), frame });
                }
            })
            .map_err(|error| match error {
                EvaluateError::Estimate { source: source @ EstimateError::NotFinite { .. }, .. } => {
                    ValidationError::NotFinite(source)
                }
                error @ EvaluateError::Nothing { source: MetricError::NothingScored { unanswered: 1.. }, .. } => {
                    ValidationError::BeyondSense(error)
                }
                other => other.into(),
            })?;
            let zero_epe = match set.zero {
                Some(epe) => epe,
                None => over_pixels(&evaluate(&set.data, &Estimator::zero(), protocol, |_, _, _| {})?),
            };
            set.zero = Some(zero_epe);
            let score =
                Score { data: set.spec.clone(), pairs: result.summary.pairs, epe: over_pixels(&result), zero_epe };
            scores.push((score, picture));
        }
        Ok(scores)
    }
}

/// The mean error over the data sets, which decides which weights are best.
pub fn overall(scores: &[Score]) -> Option<f64> {
    (!scores.is_empty()).then(|| scores.iter().map(|s| s.epe).sum::<f64>() / scores.len() as f64)
}

fn draw(sample: &Sample, estimate: &ferroflow_core::FlowField) -> Option<Frame> {
    let truth = sample.flow.as_ref()?;
    let colours = Colours::default();
    let scale = Scaler::new(Normalisation::Frame).scale(truth, colours);
    let pictures = [sample.first.clone(), colours.paint(truth, scale), colours.paint(estimate, scale)];
    Some(viz::beside(&pictures, 4))
}

/// The bytes of a PNG file.
pub fn png(frame: &Frame) -> Result<Vec<u8>, FormatError> {
    frame::encode(frame, image::ImageFormat::Png)
}
