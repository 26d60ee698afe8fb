//! Several methods on the same pairs: rows for sequences, and paired differences with their uncertainty.

use std::collections::BTreeMap;

use ferroflow_data::random::Random;
use serde::Serialize;

use super::{DataResult, PairResult};

/// Resamples of the bootstrap: the ends of a 95 % interval then vary by about a hundredth of its width.
const RESAMPLES: usize = 10_000;

/// The same run gives the same intervals.
const SEED: u64 = 2026;

/// With at least this many sequences, whole sequences are resampled: their pairs resemble each other, so that intervals over single
/// pairs would be too narrow. Fewer sequences tell too little about their own spread.
const LEAST_SEQUENCES: usize = 10;

/// The methods on one data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The data set.
    pub data: String,
    /// Names of the methods, in the order of the columns below.
    pub methods: Vec<String>,
    /// A row for each sequence: what precedes the last `/` of the names of its pairs. Empty where names have no such part or every
    /// pair is alone.
    pub sequences: Vec<SequenceRow>,
    /// Every further method against the first, in each metric.
    pub differences: Vec<Difference>,
    /// What the bootstrap drew: `sequences` or `pairs`.
    pub resampled: &'static str,
}

/// Means over the pairs of a sequence, one for each method.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SequenceRow {
    /// The sequence.
    pub name: String,
    /// Its pairs.
    pub pairs: usize,
    /// Mean end-point error over images, px.
    pub epe: Vec<Option<f64>>,
    /// Outliers over images, %.
    pub fl: Vec<Option<f64>>,
}

/// How much one method differs from another on the same pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The method.
    pub method: String,
    /// What it is compared with.
    pub than: String,
    /// `epe` (px) or `fl` (%).
    pub metric: &'static str,
    /// Pairs that both have scored.
    pub pairs: usize,
    /// Mean over these pairs of the method's figure less the other's: below 0, the method is better.
    pub mean: f64,
    /// Ends of the 95 % interval of that mean, by the percentile bootstrap; `None` if there is a single pair.
    pub interval: Option<[f64; 2]>,
    /// Pairs on which the method is better.
    pub better: usize,
    /// Pairs on which it is worse.
    pub worse: usize,
}

/// A figure of a pair.
type Figure = fn(&PairResult) -> Option<f64>;

const FIGURES: [(&str, Figure); 2] = [("epe", |pair| pair.metrics.epe), ("fl", |pair| pair.metrics.fl)];

impl Comparison {
    /// Compares methods on the same pairs, in the same order; the others are compared with the first.
    pub fn of(methods: &[(&str, &DataResult)]) -> Self {
        let sequences = sequences(methods);
        let by_sequence = sequences.len() >= LEAST_SEQUENCES;
        let mut differences = Vec::new();
        if let Some((&(first, base), others)) = methods.split_first() {
            for &(name, result) in others {
                let compared = |(metric, figure): (&'static str, Figure)| {
                    difference(&base.pairs, &result.pairs, figure, by_sequence).map(|found| Difference {
                        method: name.into(),
                        than: first.into(),
                        metric,
                        ..found
                    })
                };
                differences.extend(FIGURES.into_iter().filter_map(compared));
            }
        }
        Self {
            data: methods.first().map_or_else(String::new, |(_, result)| result.data.clone()),
            methods: methods.iter().map(|(name, _)| name.to_string()).collect(),
            sequences,
            differences,
            resampled: if by_sequence { "sequences" } else { "pairs" },
        }
    }
}

/// The part of a pair's name that names its sequence.
fn sequence(id: &str) -> Option<&str> {
    id.rsplit_once('/').map(|(sequence, _)| sequence)
}

fn sequences(methods: &[(&str, &DataResult)]) -> Vec<SequenceRow> {
    let Some((_, first)) = methods.first() else { return Vec::new() };
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, pair) in first.pairs.iter().enumerate() {
        let Some(name) = sequence(&pair.id) else { return Vec::new() };
        members.entry(name).or_default().push(index);
    }
    if members.len() < 2 || members.len() == first.pairs.len() {
        return Vec::new();
    }
    let means = |figure: Figure, of: &[usize]| {
        let mean = |(_, result): &(&str, &DataResult)| {
            let present: Vec<f64> = of.iter().filter_map(|&index| figure(result.pairs.get(index)?)).collect();
            (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64)
        };
        methods.iter().map(mean).collect()
    };
    let row = |(name, of): (&str, Vec<usize>)| SequenceRow {
        name: name.into(),
        pairs: of.len(),
        epe: means(FIGURES[0].1, &of),
        fl: means(FIGURES[1].1, &of),
    };
    members.into_iter().map(row).collect()
}

/// The difference of two methods in a figure, without names; `None` if they share no pair.
fn difference(base: &[PairResult], other: &[PairResult], figure: Figure, by_sequence: bool) -> Option<Difference> {
    let both = base.iter().zip(other).filter_map(|(a, b)| Some((&*a.id, figure(b)? - figure(a)?)));
    let differences: Vec<(&str, f64)> = both.collect();
    let count = differences.len();
    if count == 0 {
        return None;
    }
    // What is drawn together: the sum of its differences, and their number.
    let mut units: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for &(id, difference) in &differences {
        let unit = units.entry(if by_sequence { sequence(id).unwrap_or(id) } else { id }).or_default();
        *unit = (unit.0 + difference, unit.1 + 1.0);
    }
    let units: Vec<(f64, f64)> = units.into_values().collect();
    Some(Difference {
        method: String::new(),
        than: String::new(),
        metric: "",
        pairs: count,
        mean: differences.iter().map(|(_, d)| d).sum::<f64>() / count as f64,
        interval: interval(&units),
        better: differences.iter().filter(|(_, d)| *d < 0.0).count(),
        worse: differences.iter().filter(|(_, d)| *d > 0.0).count(),
    })
}

/// The 95 % percentile interval of the mean, by drawing as many units with replacement as there are.
fn interval(units: &[(f64, f64)]) -> Option<[f64; 2]> {
    if units.len() < 2 {
        return None;
    }
    let mut random = Random::new(SEED, &[]);
    let mut mean = || {
        let drawn = (0..units.len()).map(|_| units[random.below(units.len())]);
        let (sum, count) = drawn.fold((0.0, 0.0), |total, unit| (total.0 + unit.0, total.1 + unit.1));
        sum / count
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| mean()).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
    Some([at(0.025), at(0.975)])
}

#[cfg(test)]
mod tests {
    use ferroflow_core::{
        Size,
        metrics::{Evaluation, Metrics},
    };

    use super::*;

    fn result(errors: &[(String, f64)]) -> DataResult {
        let pair = |(id, epe): &(String, f64)| PairResult {
            id: id.clone(),
            size: Size::new(4, 4),
            seconds: None,
            metrics: Metrics { epe: Some(*epe), fl: Some(0.0), ..Metrics::default() },
            occlusion: None,
        };
        DataResult {
            data: "data".into(),
            summary: Evaluation::default().summary(),
            over_batches: None,
            occlusion: None,
            confidence: None,
            seconds_per_pair: None,
            iterations: None,
            pairs: errors.iter().map(pair).collect(),
        }
    }

    /// The standard error of a mean of 400 differences with a deviation of 1 is 0.05, so the interval is 0.2 wide.
    #[test]
    fn the_interval_is_that_of_the_normal_distribution_for_many_pairs() {
        let mut random = Random::new(1, &[]);
        let ids = |i: usize| format!("{i}");
        let base: Vec<(String, f64)> = (0..400).map(|i| (ids(i), 3.0)).collect();
        let other: Vec<(String, f64)> = (0..400).map(|i| (ids(i), 3.5 + f64::from(random.normal()))).collect();
        let (base, other) = (result(&base), result(&other));
        let compared = Comparison::of(&[("a", &base), ("b", &other)]);
        assert_eq!((compared.resampled, compared.sequences.len(), compared.differences.len()), ("pairs", 0, 2));
        let found = &compared.differences[0];
        let [low, high] = found.interval.unwrap();
        assert!((found.mean - 0.5).abs() < 0.15 && low < found.mean && found.mean < high, "{found:?}");
        assert!((high - low - 0.196).abs() < 0.03, "{found:?}");
        assert_eq!(found.better + found.worse, 400);
        assert_eq!(Comparison::of(&[("a", &base), ("b", &other)]), compared, "the seed is fixed");
        let same = Comparison::of(&[("a", &base), ("a again", &base)]);
        assert_eq!((same.differences[0].mean, same.differences[0].interval), (0.0, Some([0.0, 0.0])));
    }

    /// Ten pairs of a sequence that are all alike are one observation, not ten.
    #[test]
    fn pairs_of_a_sequence_are_drawn_together() {
        let ids = |i: usize| format!("scene_{:02}/{}", i / 10, i % 10);
        let base: Vec<(String, f64)> = (0..120).map(|i| (ids(i), 1.0)).collect();
        let other: Vec<(String, f64)> = (0..120).map(|i| (ids(i), 1.0 + (i / 10 % 2) as f64)).collect();
        let (base, other) = (result(&base), result(&other));
        let compared = Comparison::of(&[("a", &base), ("b", &other)]);
        assert_eq!((compared.resampled, compared.sequences.len()), ("sequences", 12));
        assert_eq!(compared.sequences[1].epe, [Some(1.0), Some(2.0)]);
        assert_eq!(compared.sequences[1].pairs, 10);
        // Twelve coins: a standard error of 0.5 / sqrt(12) = 0.144; of 120 it would be 0.046.
        let [low, high] = compared.differences[0].interval.unwrap();
        assert!((0.45..0.65).contains(&(high - low)), "{low} to {high}");
    }

    #[test]
    fn one_pair_has_no_interval_and_no_method_no_rows() {
        let one = result(&[("a/1".into(), 1.0)]);
        let compared = Comparison::of(&[("a", &one), ("b", &one)]);
        assert_eq!((compared.differences[0].interval, compared.sequences.len()), (None, 0));
        assert!(Comparison::of(&[]).differences.is_empty());
    }
}
