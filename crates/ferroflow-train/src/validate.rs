//! Errors on unseen data during training, beside those of saying that nothing moves.

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

/// What is known of the weights on one data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The data set, as spelled.
    pub data: String,
    /// Pairs scored.
    pub pairs: usize,
    /// Mean end-point error over pixels.
    pub epe: f64,
    /// The same for zero flow.
    pub zero_epe: f64,
}

impl Score {
    /// Whether the estimates may be flows: untrained weights are worse than zero flow, but not by so much.
    pub fn is_sensible(&self) -> bool {
        // (Not a number is not sensible.)
        self.epe <= 10.0 * self.zero_epe.max(10.0)
    }
}

/// A picture for TensorBoard.
pub struct Picture {
    /// The data set and the pair.
    pub tag: String,
    /// Frame 1, the truth, the estimate.
    pub frame: Frame,
}

/// An evaluation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidationError {
    /// The data cannot be opened.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The data never end.
    #[error("{0} is endless: say how many pairs to evaluate (validate_pairs, or count= for synth)")]
    Endless(String),
    /// A pair cannot be read or scored.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// Flow that is not finite.
    #[error("no evaluation: {0}")]
    NotFinite(EstimateError),
    /// Flow of 1e9 px and more, everywhere.
    #[error("no evaluation: {0}; the run has diverged: lower lr, clip the gradients (clip), or begin with a warmup")]
    BeyondSense(EvaluateError),
}

impl Validation {
    /// Opens the data of a recipe, to be estimated on a device.
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

    /// Scores weights on every data set, and a picture of the first pair of each.
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

/// The number that decides which weights are best: the mean over the data sets.
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
