//! Evaluates methods on a data set: the figures of the whole set and of every pair.

mod compare;
mod flows;

use std::{fmt, path::PathBuf, sync::Arc, time::Instant};

pub use compare::{Comparison, Difference, SequenceRow};
use ferroflow_core::{
    FlowField, Frame, Mask, Size,
    consistency::Sundaram,
    geometry::{Grid, resize::resize},
    io::IoError,
    metrics::{
        Average, Bands, ConfidenceTally, Evaluation, MetricError, Metrics, OcclusionCurve, OcclusionScore, Reliability,
        Summary, Tally, Truth,
    },
};
use ferroflow_data::{Cropped, DataError, Sample, Source};
use ferroflow_net::{Model, ModelError};
pub use flows::FlowFolder;
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
    /// A folder of flows has none for a pair.
    #[error(
        "{pair}: {} holds no flow of it; looked for {} with the endings of flow files", folder.display(), names.join(", ")
    )]
    NoFlow {
        /// The pair.
        pair: String,
        /// The folder.
        folder: PathBuf,
        /// The names that were looked for, without endings.
        names: Vec<String>,
    },
    /// A file of a folder of flows is the only one that two pairs could mean.
    #[error(
        "{} would be the flow of {first} and of {second}: give flows names that tell pairs apart, such as DATA/ID.flo, as eval \
         --save writes them, or the folders of the data set", path.display()
    )]
    OneFlowForTwo {
        /// The file.
        path: PathBuf,
        /// A pair that it was taken for.
        first: String,
        /// Another one.
        second: String,
    },
    /// A flow that another program has written cannot be read.
    #[error(transparent)]
    Flow(#[from] IoError),
    /// What is asked for takes an estimator.
    #[error(
        "occlusion and confidence take the flows both ways: they are measured of methods that estimate, not of folders of flows"
    )]
    NoEstimator,
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
    /// Seconds from decoded frames to flow; `None` if the flow was read from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
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
    /// Whether confidence means something, over the pixels of all pairs, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Reliability>,
    /// Mean seconds for a pair, from decoded frames to flow; `None` if flows were read from files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_per_pair: Option<f64>,
    /// Mean iterations of a recurrent network for a pair, where some are left out ([`Estimator::with_stop_below`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterations: Option<f64>,
    /// The figures of every pair, in order.
    pub pairs: Vec<PairResult>,
}

/// A method with its results.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// A short name, for headings.
    pub name: String,
    /// The method in a line, as [`Estimator::describe`] gives it.
    pub method: String,
    /// One result for each data set.
    pub results: Vec<DataResult>,
}

impl DataResult {
    /// The averages with their names.
    pub fn averages(&self) -> Vec<(&'static str, &Metrics)> {
        let mut averages = vec![("over pixels", &self.summary.over_pixels), ("over images", &self.summary.over_images)];
        averages.extend(self.over_batches.as_ref().map(|batches| ("over batches", batches)));
        averages
    }
}

/// What gives the flow of a pair: an [`Estimator`], or the files of another program ([`FlowFolder`]).
pub trait Method {
    /// The flow of pair `index` of `source`.
    ///
    /// # Errors
    /// If the method has none.
    fn flow(&self, source: &dyn Source, index: usize, sample: &Sample) -> Result<FlowField, EvaluateError>;

    /// The estimator, if it is one: only then is it timed, and asked for flows both ways.
    fn estimator(&self) -> Option<&Estimator> {
        None
    }
}

impl Method for Estimator {
    fn flow(&self, _: &dyn Source, _: usize, sample: &Sample) -> Result<FlowField, EvaluateError> {
        let failed = |source| EvaluateError::Estimate { pair: sample.id.clone(), source };
        self.estimate(&sample.first, &sample.second).map_err(failed)
    }

    fn estimator(&self) -> Option<&Estimator> {
        Some(self)
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
    /// Also measure whether the confidence of the forward-backward check ([`Sundaram`]) means something.
    pub confidence: bool,
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

/// From this share of pixels of known truth on, distances to occlusion boundaries are taken: masks of sparse truth (KITTI's laser
/// points) have no boundaries of their own. No data set lies near it.
const DENSE: f64 = 0.8;

/// One method at work on a data set.
struct Running<'a> {
    method: &'a dyn Method,
    evaluation: Evaluation,
    occlusion: OcclusionCurve,
    confidence: ConfidenceTally,
    pairs: Vec<PairResult>,
}

/// A pair with what is known of it.
struct Known<'a> {
    source: &'a dyn Source,
    index: usize,
    sample: &'a Sample,
    flow: &'a FlowField,
    truth: Truth<'a>,
}

impl<'a> Running<'a> {
    fn new(method: &'a dyn Method) -> Self {
        let (evaluation, occlusion, confidence) = Default::default();
        Self { method, evaluation, occlusion, confidence, pairs: Vec::new() }
    }

    /// Scores the method on a pair, and gives its flow.
    fn score(&mut self, known: &Known<'_>, protocol: Protocol<'_>) -> Result<FlowField, EvaluateError> {
        let Known { source, index, sample, flow: truth, truth: scored } = known;
        let pair = || sample.id.clone();
        let start = Instant::now();
        let estimate = self.method.flow(*source, *index, sample)?;
        let seconds = self.method.estimator().map(|_| start.elapsed().as_secs_f64());
        let wrong = |source| EvaluateError::Metric { pair: pair(), source };
        let failed = |source| EvaluateError::Estimate { pair: pair(), source };
        let tally = Tally::of(&estimate, scored).map_err(wrong)?;
        let estimator = || self.method.estimator().ok_or(EvaluateError::NoEstimator);
        let mut told = None;
        if let Some(estimated) = protocol.occlusion {
            let Some(mask) = &sample.occlusion else {
                return Err(EvaluateError::NoOcclusion { data: source.name(), pair: pair() });
            };
            let map = occlusion_map(estimator()?, estimated, &sample.first, &sample.second).map_err(failed)?;
            let mut curve = OcclusionCurve::default();
            add_known(&mut curve, map, mask, truth).map_err(wrong)?;
            self.occlusion.merge(&curve);
            told = Some(curve.best());
        }
        if protocol.confidence {
            let back = estimator()?.estimate(&sample.second, &sample.first).map_err(failed)?;
            let checked = Sundaram::default().check(&estimate, &back).map_err(|error| failed(error.into()))?;
            self.confidence.add(&checked.confidence, &estimate, truth).map_err(wrong)?;
        }
        let metrics = Metrics::of(&tally);
        self.pairs.push(PairResult { id: pair(), size: truth.size(), seconds, metrics, occlusion: told });
        self.evaluation.add(tally);
        Ok(estimate)
    }

    fn result(self, data: String, protocol: Protocol<'_>) -> Result<DataResult, EvaluateError> {
        let summary = self.evaluation.summary();
        if summary.scored_pixels == 0 {
            let source = MetricError::NothingScored { unanswered: summary.unanswered_pixels };
            return Err(EvaluateError::Nothing { data, source });
        }
        let seconds: Option<f64> = self.pairs.iter().map(|pair| pair.seconds).sum();
        Ok(DataResult {
            data,
            summary,
            over_batches: protocol.batch.map(|size| self.evaluation.average(Average::Batches(size))),
            occlusion: protocol.occlusion.map(|_| self.occlusion.best()),
            confidence: if protocol.confidence { self.confidence.reliability() } else { None },
            seconds_per_pair: seconds.map(|seconds| seconds / self.pairs.len() as f64),
            iterations: self.method.estimator().and_then(Estimator::take_iterations),
            pairs: self.pairs,
        })
    }
}

/// Takes the flow of every pair of `source` and scores it against the truth, in order.
///
/// `watch` is called for every pair, with the flow and its figures.
///
/// # Errors
/// At the first pair that cannot be read, estimated or compared with its truth, and if no pixel of any pair could be scored.
pub fn evaluate(
    source: &dyn Source,
    method: &dyn Method,
    protocol: Protocol<'_>,
    mut watch: impl FnMut(&Sample, &FlowField, &PairResult),
) -> Result<DataResult, EvaluateError> {
    let mut results = evaluate_all(source, &[method], protocol, |sample, flows, figures| {
        watch(sample, &flows[0], figures[0]);
    })?;
    Ok(results.remove(0))
}

/// As [`evaluate`], for several methods, each of which sees a pair before the next pair is read: one result for each, the same as each
/// has alone. `watch` gets their flows and figures in the order of the methods.
///
/// # Errors
/// As those of [`evaluate`], of any method.
pub fn evaluate_all(
    source: &dyn Source,
    methods: &[&dyn Method],
    protocol: Protocol<'_>,
    mut watch: impl FnMut(&Sample, &[FlowField], &[&PairResult]),
) -> Result<Vec<DataResult>, EvaluateError> {
    let data = source.name();
    let count = match (source.len(), protocol.limit) {
        (Some(len), limit) => len.min(limit.unwrap_or(len)),
        (None, Some(limit)) => limit,
        (None, None) => return Err(EvaluateError::Endless { data }),
    };
    if count == 0 {
        return Err(EvaluateError::NoPairs { data });
    }
    let mut running: Vec<Running<'_>> = methods.iter().map(|method| Running::new(*method)).collect();
    for index in 0..count {
        let sample = source.get(index)?;
        let foreground = source.foreground(index)?;
        let Some(flow) = &sample.flow else { return Err(EvaluateError::NoTruth { data, pair: sample.id }) };
        let bands = sample.occlusion.as_ref().filter(|_| is_dense(flow)).map(Bands::around);
        let mut truth = Truth::new(flow);
        if let Some(mask) = &sample.occlusion {
            truth = truth.occluded(mask);
        }
        if let Some(bands) = &bands {
            truth = truth.bands(bands);
        }
        if let Some(mask) = &foreground {
            truth = truth.foreground(mask);
        }
        let known = Known { source, index, sample: &sample, flow, truth };
        let flows = running.iter_mut().map(|method| method.score(&known, protocol)).collect::<Result<Vec<_>, _>>()?;
        let figures: Vec<&PairResult> = running.iter().filter_map(|method| method.pairs.last()).collect();
        watch(&sample, &flows, &figures);
    }
    running.into_iter().map(|method| method.result(data.clone(), protocol)).collect()
}

/// Whether the truth is known nearly everywhere.
fn is_dense(truth: &FlowField) -> bool {
    truth.validity().is_none_or(|known| known.count() as f64 >= DENSE * known.data().len() as f64)
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
