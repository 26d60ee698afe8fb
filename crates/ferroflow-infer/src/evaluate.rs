//! Evaluates a method on a data set: the figures of the whole set and of every pair.

use std::{fmt, sync::Arc, time::Instant};

use ferroflow_core::{
    FlowField, Frame, Mask, Size,
    geometry::{Grid, resize::resize},
    metrics::{Average, Evaluation, MetricError, Metrics, OcclusionCurve, OcclusionScore, Summary, Tally, Truth},
};
use ferroflow_data::{Cropped, DataError, Sample, Source};
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
    /// Occlusion is to be measured and nobody knows it.
    #[error(
        "{data}: it is not known what is occluded in {pair}: occlusion can be measured on data with masks of it (Sintel, KITTI, \
         synthetic data, lists of pairs with a column `occlusions`)"
    )]
    NoOcclusion {
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
    /// How well occlusion was told, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occlusion: Option<OcclusionScore>,
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
    /// How well occlusion was told over the pixels of all pairs, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occlusion: Option<OcclusionScore>,
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

/// Tells how occluded each pixel of frame 1 is.
pub trait SoftOcclusion: fmt::Debug {
    /// From the flows there and back, of one size and in its pixels: `[height, width]`, 0 visible to 1 occluded.
    fn map(&self, forward: &FlowField, backward: &FlowField) -> Vec<f32>;
}

/// Occlusion is told from flows of this fraction of what the network sees: UFlow's finest, before they are enlarged.
const OCCLUSION_FRACTION: usize = 4;

/// How many pairs to evaluate, and how to average.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protocol<'a> {
    /// Take at most this many pairs.
    pub limit: Option<usize>,
    /// Also average over batches of this many pairs, as evaluation loops over batches do.
    pub batch: Option<usize>,
    /// Also measure how well this tells occlusion, from flows both ways at a quarter of the size that the network sees, as UFlow's
    /// evaluation does.
    pub occlusion: Option<&'a dyn SoftOcclusion>,
}

/// A project whose way of measuring errors can be followed. Its protocol is part of the definition of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its name on the command line.
    pub name: &'static str,
    /// How it fits frames and averages errors, for help texts.
    pub help: &'static str,
    network: &'static str,
    /// Frames are cut to an evaluation size only where their sides are multiples of this.
    cuts_multiples_of: Option<usize>,
}

impl Project {
    /// Every project.
    pub const ALL: [Self; 5] = [
        Self {
            name: "flownet2",
            help: "Centre crop to multiples of 64, mean over batches of 8 (MindSpore and NVIDIA FlowNet2)",
            network: "flownet2",
            cuts_multiples_of: Some(64),
        },
        Self {
            name: "pwcnet",
            help: "Resize to multiples of 64, mean over images (NVlabs, sniklaus)",
            network: "pwcnet",
            cuts_multiples_of: None,
        },
        Self {
            name: "tfoptflow",
            help: "Pad to multiples of 64 and cut back, mean over images (tfoptflow, FlowNet2 through ONNX)",
            network: "pwcnet-lg-6-2",
            cuts_multiples_of: None,
        },
        Self { name: "uflow", help: "Resize, mean over images", network: "uflow", cuts_multiples_of: None },
        Self { name: "lightflow", help: "Resize, mean over images", network: "lightflow", cuts_multiples_of: None },
    ];

    /// The project of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|project| project.name == name)
    }

    /// The pairs as a project, or none, sees them where it evaluates at a size of its own: the centre of each (FlowNet2's `eval_size`, which counts for
    /// frames that it need not fit; LightFlow's centre crops).
    pub fn cropped(project: Option<Self>, source: Arc<dyn Source>, size: Size) -> Cropped {
        Cropped::new(source, size, project.and_then(|project| project.cuts_multiples_of))
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
    protocol: Protocol<'_>,
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
    let mut occlusion = OcclusionCurve::default();
    let mut pairs = Vec::with_capacity(count);
    for index in 0..count {
        let sample = source.get(index)?;
        let pair = || sample.id.clone();
        let Some(truth) = &sample.flow else { return Err(EvaluateError::NoTruth { data, pair: pair() }) };
        let start = Instant::now();
        let failed = |source| EvaluateError::Estimate { pair: pair(), source };
        let estimate = estimator.estimate(&sample.first, &sample.second).map_err(failed)?;
        let seconds = start.elapsed().as_secs_f64();
        let mut scored = Truth::new(truth);
        if let Some(mask) = &sample.occlusion {
            scored = scored.occluded(mask);
        }
        let wrong = |source| EvaluateError::Metric { pair: pair(), source };
        let tally = Tally::of(&estimate, &scored).map_err(wrong)?;
        let mut told = None;
        if let Some(estimated) = protocol.occlusion {
            let Some(mask) = &sample.occlusion else { return Err(EvaluateError::NoOcclusion { data, pair: pair() }) };
            let map = occlusion_map(estimator, estimated, &sample.first, &sample.second).map_err(failed)?;
            let mut curve = OcclusionCurve::default();
            add_known(&mut curve, map, mask, truth).map_err(wrong)?;
            occlusion.merge(&curve);
            told = Some(curve.best());
        }
        let (id, metrics) = (sample.id.clone(), Metrics::of(&tally));
        let result = PairResult { id, size: truth.size(), seconds, metrics, occlusion: told };
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
        occlusion: protocol.occlusion.map(|_| occlusion.best()),
        seconds_per_pair: pairs.iter().map(|p| p.seconds).sum::<f64>() / pairs.len() as f64,
        pairs,
    })
}

/// How occluded each pixel of `first` is, `[height, width]`.
fn occlusion_map(
    estimator: &Estimator,
    occlusion: &dyn SoftOcclusion,
    first: &Frame,
    second: &Frame,
) -> Result<Vec<f32>, EstimateError> {
    let [forward, backward] = estimator.estimate_both_at(first, second, OCCLUSION_FRACTION)?;
    Ok(resize(&occlusion.map(&forward, &backward), forward.size(), 1, first.size(), Grid::HalfPixel))
}

/// Adds the pixels of known flow. A pixel that is neither occluded nor taken as such is in no figure.
fn add_known(
    curve: &mut OcclusionCurve,
    mut map: Vec<f32>,
    occluded: &Mask,
    truth: &FlowField,
) -> Result<(), MetricError> {
    let Some(known) = truth.validity() else { return curve.add(&map, occluded) };
    map.iter_mut().zip(known.data()).filter(|(_, known)| !**known).for_each(|(value, _)| *value = 0.0);
    curve.add(&map, &Mask::from_fn(occluded.size(), |x, y| occluded.get(x, y) && known.get(x, y)))
}

#[cfg(test)]
mod tests {
    use ferroflow_net::Fit;

    use super::*;

    /// A square that moves over a still ground, twice; of the second pair the data do not say what is occluded.
    struct Moving;

    const SIZE: Size = Size::new(64, 64);
    const SIDE: usize = 24;
    const SHIFT: usize = 8;

    fn inside(x: usize, y: usize, left: usize) -> bool {
        (left..left + SIDE).contains(&x) && (20..20 + SIDE).contains(&y)
    }

    impl Source for Moving {
        fn name(&self) -> String {
            "moving".into()
        }

        fn len(&self) -> Option<usize> {
            Some(2)
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            let at = |left| {
                Frame::from_fn(SIZE, move |x, y| {
                    let shade = |x: usize, y: usize| ((x * 31 + y * 17) ^ (x * y)) as u8;
                    if inside(x, y, left) { [shade(x - left, y), 255, 0] } else { [shade(x, y), 0, 0] }
                })
            };
            let occluded = |x, y| inside(x, y, 16 + SHIFT) && !inside(x, y, 16);
            Ok(Sample {
                first: at(16),
                second: at(16 + SHIFT),
                flow: Some(FlowField::from_fn(SIZE, |x, y| (if inside(x, y, 16) { SHIFT as f32 } else { 0.0 }, 0.0))),
                occlusion: (index == 0).then(|| Mask::from_fn(SIZE, occluded)),
                original: None,
                surround: None,
                id: index.to_string(),
            })
        }
    }

    /// Knows the answer, at a quarter of the size: what the flows say does not matter.
    #[derive(Debug)]
    struct Oracle;

    impl SoftOcclusion for Oracle {
        fn map(&self, forward: &FlowField, backward: &FlowField) -> Vec<f32> {
            assert_eq!((forward.size(), backward.size()), (Size::new(16, 16), Size::new(16, 16)));
            let occluded = |x: usize, y: usize| inside(4 * x, 4 * y, 16 + SHIFT) && !inside(4 * x, 4 * y, 16);
            (0..256).map(|i| if occluded(i % 16, i / 16) { 0.9 } else { 0.1 }).collect()
        }
    }

    #[test]
    fn occlusion_is_measured_where_it_is_known() {
        let measure = |limit| {
            let protocol = Protocol { limit: Some(limit), occlusion: Some(&Oracle), ..Protocol::default() };
            evaluate(&Moving, &Estimator::zero(), protocol, |_, _, _| {})
        };
        let result = measure(1).unwrap();
        let found = result.occlusion.unwrap();
        // Enlarging rounds the corners.
        assert!(found.f1 > 0.98 && (0.1..0.9).contains(&found.threshold), "{found:?}");
        assert_eq!(result.pairs[0].occlusion, Some(found));
        let error = measure(2).unwrap_err();
        assert!(matches!(&error, EvaluateError::NoOcclusion { pair, .. } if pair == "1"), "{error}");
        let plain = Protocol { limit: Some(2), ..Protocol::default() };
        assert_eq!(evaluate(&Moving, &Estimator::zero(), plain, |_, _, _| {}).unwrap().occlusion, None);
    }

    #[test]
    fn pixels_of_unknown_flow_are_not_counted() {
        let size = Size::new(1, 4);
        let occluded = Mask::new(size, vec![true, true, false, false]).unwrap();
        let truth = FlowField::sparse_from_fn(size, |x, _| (x % 2 == 0).then_some((0.0, 0.0)));
        let mut curve = OcclusionCurve::default();
        // Wrong at the second and the fourth pixel, of which nothing is known.
        add_known(&mut curve, vec![1.0, 0.0, 0.0, 1.0], &occluded, &truth).unwrap();
        assert!((curve.best().f1 - 1.0).abs() < 1e-5);
    }

    /// What `--protocol` does.
    #[test]
    fn projects_measure_as_they_did() {
        let expected = [
            ("flownet2", Fit::Crop, Some(8)),
            ("pwcnet", Fit::STRETCH, None),
            ("tfoptflow", Fit::ZEROS, None),
            ("uflow", Fit::STRETCH, None),
            ("lightflow", Fit::STRETCH, None),
        ];
        for (name, fit, batch) in expected {
            let protocol = Project::named(name).unwrap().protocol().unwrap();
            assert_eq!((protocol.fit, protocol.batch), (fit, batch), "{name}");
        }
        assert_eq!(expected.len(), Project::ALL.len());
    }
}
