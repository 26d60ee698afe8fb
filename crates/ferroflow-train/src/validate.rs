//! Measures the error on unseen data during training, beside the error of zero flow.

use std::{fmt, sync::Arc};

use ferroflow_core::{
    FlowField, Size,
    metrics::MetricError,
    viz::{self, Colours, Normalisation, Scaler},
};
use ferroflow_data::{Sample, Source};
use ferroflow_infer::{
    EstimateError, Estimator, NetworkOptions,
    evaluate::{DataResult, EvaluateError, Project, Protocol, evaluate},
};
use ferroflow_net::{Model, ModelError, Weights, device::Device};
use serde::Serialize;

use crate::{
    Recipe,
    data::{FeedError, Remembered, join},
    pictures::{Gallery, Picture},
    recipe::Pictures,
    unsupervised::{UnsupervisedError, judge},
};

/// The data to evaluate on, and how.
pub struct Validation {
    sets: Vec<Set>,
    way: Way,
    remarks: Vec<String>,
    device: Arc<dyn Device>,
}

/// How weights are evaluated.
#[derive(Clone, Debug)]
struct Way {
    protocol: Option<(Project, ferroflow_net::Protocol)>,
    /// Pairs in the batches over which errors are averaged.
    batch: Option<usize>,
    /// Size in which the network sees frames.
    size: Option<Size>,
    pictures: Pictures,
}

struct Set {
    data: Remembered,
    spec: String,
    /// Whether the truth is known.
    labelled: bool,
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
    /// Mean end-point error, over pixels or as the protocol has it; `None` where the truth is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epe: Option<f64>,
    /// The project whose way of fitting and averaging was followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
    /// The same for zero flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_epe: Option<f64>,
    /// Where the truth is not known: how well the flow brings frames back to each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub census: Option<f64>,
    /// The same for zero flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_census: Option<f64>,
    /// Where the truth is not known: how far from itself the flow there and back ends, px.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<f64>,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.data)?;
        match (self.epe, self.zero_epe, self.round_trip) {
            (Some(epe), Some(zero), _) => {
                let by = self.protocol.map_or(String::new(), |protocol| format!(" by the protocol {protocol}"));
                write!(f, "EPE {epe:.3} px{by}, zero flow {zero:.3} px")
            }
            (_, _, round_trip) => {
                let [census, zero] = self.value();
                write!(
                    f,
                    "census loss {census:.4}, zero flow {zero:.4}; there and back {:.3} px",
                    round_trip.unwrap_or(f64::NAN)
                )
            }
        }
    }
}

impl Score {
    /// Whether the error is plausible: untrained weights are worse than zero flow, but not as much as diverged ones.
    pub fn is_sensible(&self) -> bool {
        // (Not a number is not sensible.)
        self.epe.zip(self.zero_epe).is_none_or(|(epe, zero)| epe <= 10.0 * zero.max(10.0))
    }

    /// For the story of a weight file.
    pub fn metrics(&self) -> Vec<(String, f64)> {
        [("epe", self.epe), ("census", self.census), ("round_trip", self.round_trip)]
            .into_iter()
            .filter_map(|(name, value)| Some((format!("{}/{name}", self.data), value?)))
            .collect()
    }

    /// The number that says how bad the weights are, and that of zero flow.
    pub fn value(&self) -> [f64; 2] {
        [self.epe.or(self.census), self.zero_epe.or(self.zero_census)].map(|value| value.unwrap_or(f64::NAN))
    }
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
    /// The network cannot be evaluated so.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The network does not see frames of the size that was asked for.
    #[error("validate_size: {0}")]
    Size(EstimateError),
    /// A pair that cannot be estimated.
    #[error("no evaluation: {id}: {source}")]
    Estimate {
        /// The pair.
        id: String,
        /// Why.
        source: EstimateError,
    },
    /// A pair that cannot be judged without its truth.
    #[error("no evaluation: {0}")]
    Judge(#[from] UnsupervisedError),
    /// Flow that is not finite.
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
        let project = recipe.project();
        let protocol = project.map(|project| Ok::<_, ModelError>((project, project.protocol()?))).transpose()?;
        let mut remarks = Vec::new();
        let mut open = |spec: &String| {
            let mut source: Arc<dyn Source> = join(std::slice::from_ref(spec))?;
            remarks.extend(source.remarks());
            if let Some(size) = recipe.validate_crop {
                source = Arc::new(Project::cropped(project, source, size));
            }
            let data = Remembered::new(source, limit).ok_or_else(|| ValidationError::Endless(spec.clone()))?;
            let labelled = data.get(0).map_err(FeedError::from)?.flow.is_some();
            Ok(Set { data, spec: spec.clone(), labelled, zero: None })
        };
        let sets = recipe.validate.iter().map(&mut open).collect::<Result<_, ValidationError>>()?;
        let batch = recipe.validate_batch.or(protocol.and_then(|(_, protocol)| protocol.batch));
        let way = Way { protocol, batch, size: recipe.validate_size, pictures: recipe.pictures };
        Ok(Self { sets, way, remarks, device: device.clone() })
    }

    /// What a user should know of how the data were read.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Whether there are data whose truth is not known: what is said of them is worth something beside what was said before.
    pub fn compares(&self) -> bool {
        self.sets.iter().any(|set| !set.labelled)
    }

    /// Scores weights on every data set, with pictures of the first pairs of each.
    pub fn run(&mut self, model: &Model, weights: &Weights) -> Result<Vec<(Score, Vec<Picture>)>, ValidationError> {
        if self.sets.is_empty() {
            return Ok(Vec::new());
        }
        let way = self.way.clone();
        let fit = way.protocol.map(|(_, protocol)| protocol.fit);
        let estimator = |model: Model| {
            let options = NetworkOptions { fit, device: self.device.clone() };
            let network = Estimator::network(model, weights.clone(), options);
            network.with_network_size(way.size).map_err(ValidationError::Size)
        };
        let levels = match way.pictures {
            // The finest is the estimate.
            Pictures::Pyramid => (0..model.graph.pyramid.len().saturating_sub(1))
                .map(|level| estimator(model.of_level(level)?))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let estimator = estimator(model.clone())?;
        let protocol = Protocol { batch: way.batch, ..Protocol::default() };
        let mut scores = Vec::with_capacity(self.sets.len());
        for set in &mut self.sets {
            if !set.labelled {
                scores.push(set.judge(&estimator)?);
                continue;
            }
            let mut gallery = Gallery::new(&set.spec, way.pictures, set.zero.is_none());
            let result = evaluate(&set.data, &estimator, protocol, |sample, estimate, _| {
                gallery.add(sample, estimate, &levels);
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
                None => way.error(&evaluate(&set.data, &Estimator::zero(), protocol, |_, _, _| {})?),
            };
            set.zero = Some(zero_epe);
            let score = Score {
                data: set.spec.clone(),
                pairs: result.summary.pairs,
                epe: Some(way.error(&result)),
                protocol: way.protocol.map(|(project, _)| project.name),
                zero_epe: Some(zero_epe),
                census: None,
                zero_census: None,
                round_trip: None,
            };
            scores.push((score, gallery.pictures()));
        }
        Ok(scores)
    }
}

impl Way {
    /// The mean end-point error, averaged as the protocol has it; over pixels without one.
    fn error(&self, result: &DataResult) -> f64 {
        let metrics = match (&result.over_batches, self.protocol) {
            (Some(batches), _) => batches,
            (None, Some(_)) => &result.summary.over_images,
            (None, None) => &result.summary.over_pixels,
        };
        metrics.epe.unwrap_or(f64::NAN)
    }
}

impl Set {
    /// What can be said without the truth, and a picture of the first pair: frame 1, the flow, frame 2 brought back.
    fn judge(&mut self, estimator: &Estimator) -> Result<(Score, Vec<Picture>), ValidationError> {
        let pairs = self.data.len().unwrap_or(0);
        let (mut census, mut zero_census, mut round_trip, mut pictures) = (0.0, 0.0, 0.0, Vec::new());
        for index in 0..pairs {
            let Sample { first, second, id, .. } = self.data.get(index).map_err(FeedError::from)?;
            let refused = |source| match source {
                source @ EstimateError::NotFinite { .. } => ValidationError::NotFinite(source),
                source => ValidationError::Estimate { id: id.clone(), source },
            };
            let forward = estimator.estimate(&first, &second).map_err(refused)?;
            let backward = estimator.estimate(&second, &first).map_err(refused)?;
            let found = judge(&first, &second, &forward, &backward)?;
            (census, round_trip) = (census + found.census, round_trip + found.round_trip);
            if self.zero.is_none() {
                let still = FlowField::zeros(first.size());
                zero_census += judge(&first, &second, &still, &still)?.census;
            }
            if index == 0 {
                let colours = Colours::default();
                let scale = Scaler::new(Normalisation::Frame).scale(&forward, colours);
                let (brought_back, _) = viz::warp(&second, &forward);
                let frame = viz::beside(&[first, colours.paint(&forward, scale), brought_back], 4);
                pictures.push(Picture { tag: self.spec.clone(), frame });
            }
        }
        let mean = |sum: f64| sum / pairs as f64;
        let zero = *self.zero.get_or_insert(mean(zero_census));
        let score = Score {
            data: self.spec.clone(),
            pairs,
            epe: None,
            protocol: None,
            zero_epe: None,
            census: Some(mean(census)),
            zero_census: Some(zero),
            round_trip: Some(mean(round_trip)),
        };
        Ok((score, pictures))
    }
}

/// The number that decides which weights are best: the mean error over the data sets whose truth is known, or, if there are none, the mean
/// census loss over the others.
pub fn overall(scores: &[Score]) -> Option<f64> {
    let labelled: Vec<f64> = scores.iter().filter_map(|score| score.epe).collect();
    let values = if labelled.is_empty() { scores.iter().map(|score| score.value()[0]).collect() } else { labelled };
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
