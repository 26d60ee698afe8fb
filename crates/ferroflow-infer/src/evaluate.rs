//! Evaluates a method on a data set: the figures of the whole set and of every pair.

use std::time::Instant;

use ferroflow_core::{
    FlowField, Size,
    metrics::{Average, Evaluation, MetricError, Metrics, Summary, Tally, Truth},
};
use ferroflow_data::{DataError, Sample, Source};
use ferroflow_net::{Model, ModelError};
use serde::Serialize;

use crate::{Estimator, estimator::EstimateError};

/// Why an evaluation stopped. No pair is skipped silently: an error of a pair names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The data set cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The method failed on a pair.
    #[error("{pair}: {source}")]
    Estimate {
        /// The pair.
        pair: String,
        /// The cause.
        source: EstimateError,
    },
    /// The estimate cannot be scored.
    #[error("{pair}: {source}")]
    Metric {
        /// The pair.
        pair: String,
        /// The cause.
        source: MetricError,
    },
    /// Pairs were estimated, but none of their pixels could be scored.
    #[error("{data}: {source}")]
    Nothing {
        /// The data set.
        data: String,
        /// The cause.
        source: MetricError,
    },
    /// A pair has no true flow to compare with.
    #[error("{data}: {pair} has no true flow (a test split?): choose data with ground truth")]
    NoTruth {
        /// The data set.
        data: String,
        /// The pair.
        pair: String,
    },
    /// There is no pair to estimate.
    #[error("{data}: no pairs to evaluate")]
    NoPairs {
        /// The data set.
        data: String,
    },
    /// The data set is endless, and no limit was given.
    #[error("{data} is endless: say how many pairs to take (--limit)")]
    Endless {
        /// The data set.
        data: String,
    },
}

/// The figures of one pair.
#[derive(Clone, Debug, Serialize)]
pub struct PairResult {
    /// Name of the pair in its data set.
    pub id: String,
    /// Size of the frames.
    pub size: Size,
    /// Seconds from decoded frames to flow.
    pub seconds: f64,
    /// The metrics over its scored pixels.
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// The figures of a data set.
#[derive(Clone, Debug, Serialize)]
pub struct DataResult {
    /// The data set, as the user spelled it.
    pub data: String,
    /// The averages over pixels and over images.
    #[serde(flatten)]
    pub summary: Summary,
    /// The average over batches, if [`Protocol::batch`] asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_batches: Option<Metrics>,
    /// Mean seconds for a pair, from decoded frames to flow.
    pub seconds_per_pair: f64,
    /// The figures of every pair, in order.
    pub pairs: Vec<PairResult>,
}

impl DataResult {
    /// Headings and figures for a table, with those of another method on the same data beside them if there is one.
    pub fn columns<'a>(&'a self, compared: Option<(&str, &'a Self)>) -> Vec<(String, &'a Metrics)> {
        let mut columns = vec![
            ("over pixels".to_string(), &self.summary.over_pixels),
            ("over images".to_string(), &self.summary.over_images),
        ];
        columns.extend(self.over_batches.as_ref().map(|batches| ("over batches".to_string(), batches)));
        if let Some((name, compared)) = compared {
            columns.push((format!("{name} over pixels"), &compared.summary.over_pixels));
            columns.push((format!("{name} over images"), &compared.summary.over_images));
        }
        columns
    }
}

/// How many pairs to evaluate, and how to average.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protocol {
    /// Take at most this many pairs.
    pub limit: Option<usize>,
    /// Also average over batches of this many pairs, as evaluation loops over batches do.
    pub batch: Option<usize>,
}

/// A project whose way of measuring errors can be followed. Its protocol is part of the definition of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its name on the command line.
    pub name: &'static str,
    /// How it fits frames and averages errors, for help texts.
    pub help: &'static str,
    network: &'static str,
}

impl Project {
    /// Every project.
    pub const ALL: [Self; 5] = [
        Self {
            name: "flownet2",
            help: "Centre crop to multiples of 64, mean over batches of 8 (MindSpore and NVIDIA FlowNet2)",
            network: "flownet2",
        },
        Self {
            name: "pwcnet",
            help: "Resize to multiples of 64, mean over images (NVlabs, sniklaus)",
            network: "pwcnet",
        },
        Self {
            name: "tfoptflow",
            help: "Pad to multiples of 64 and cut back, mean over images (tfoptflow, FlowNet2 through ONNX)",
            network: "pwcnet-lg-6-2",
        },
        Self { name: "uflow", help: "Resize, mean over images", network: "uflow" },
        Self { name: "lightflow", help: "Resize, mean over batches of 128", network: "lightflow" },
    ];

    /// The project of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|project| project.name == name)
    }

    /// How it fits frames and averages errors.
    ///
    /// # Errors
    /// If there is no network of that name, which would be a fault of this library.
    pub fn protocol(self) -> Result<ferroflow_net::Protocol, ModelError> {
        Ok(Model::named(self.network)?.protocol)
    }
}

/// Estimates every pair of `source` and scores it against the truth, in order.
///
/// `watch` is called for every pair, with its estimate and its figures.
///
/// # Errors
/// At the first pair that cannot be read, estimated or compared with its truth, and if no pixel of any pair could be scored.
pub fn evaluate(
    source: &dyn Source,
    estimator: &Estimator,
    protocol: Protocol,
    mut watch: impl FnMut(&Sample, &FlowField, &PairResult),
) -> Result<DataResult, EvaluateError> {
    let data = source.name();
    let count = match (source.len(), protocol.limit) {
        (Some(len), limit) => len.min(limit.unwrap_or(len)),
        (None, Some(limit)) => limit,
        (None, None) => return Err(EvaluateError::Endless { data }),
    };
    if count == 0 {
        return Err(EvaluateError::NoPairs { data });
    }
    let mut evaluation = Evaluation::default();
    let mut pairs = Vec::with_capacity(count);
    for index in 0..count {
        let sample = source.get(index)?;
        let pair = || sample.id.clone();
        let Some(truth) = &sample.flow else { return Err(EvaluateError::NoTruth { data, pair: pair() }) };
        let start = Instant::now();
        let estimate = estimator
            .estimate(&sample.first, &sample.second)
            .map_err(|source| EvaluateError::Estimate { pair: pair(), source })?;
        let seconds = start.elapsed().as_secs_f64();
        let mut scored = Truth::new(truth);
        if let Some(mask) = &sample.occlusion {
            scored = scored.occluded(mask);
        }
        let tally = Tally::of(&estimate, &scored).map_err(|source| EvaluateError::Metric { pair: pair(), source })?;
        let result = PairResult { id: sample.id.clone(), size: truth.size(), seconds, metrics: Metrics::of(&tally) };
        watch(&sample, &estimate, &result);
        evaluation.add(tally);
        pairs.push(result);
    }
    let summary = evaluation.summary();
    if summary.scored_pixels == 0 {
        let source = MetricError::NothingScored { unanswered: summary.unanswered_pixels };
        return Err(EvaluateError::Nothing { data, source });
    }
    Ok(DataResult {
        data,
        summary,
        over_batches: protocol.batch.map(|size| evaluation.average(Average::Batches(size))),
        seconds_per_pair: pairs.iter().map(|p| p.seconds).sum::<f64>() / pairs.len() as f64,
        pairs,
    })
}

#[cfg(test)]
mod tests {
    use ferroflow_net::Fit;

    use super::*;

    /// What `--protocol` has always done.
    #[test]
    fn projects_measure_as_they_did() {
        let expected = [
            ("flownet2", Fit::Crop, Some(8)),
            ("pwcnet", Fit::STRETCH, None),
            ("tfoptflow", Fit::ZEROS, None),
            ("uflow", Fit::STRETCH, None),
            ("lightflow", Fit::STRETCH, Some(128)),
        ];
        for (name, fit, batch) in expected {
            let protocol = Project::named(name).unwrap().protocol().unwrap();
            assert_eq!((protocol.fit, protocol.batch), (fit, batch), "{name}");
        }
        assert_eq!(expected.len(), Project::ALL.len());
    }
}
