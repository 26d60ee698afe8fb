//! A method's card: its errors on generated scenes that each show one difficulty ([`ferroflow_data::card`]).

use ferroflow_core::metrics::{MetricError, endpoint_error};
use ferroflow_data::card::{CASES, Case, Pair, Textures};
use serde::Serialize;

use crate::{EstimateError, Estimator};

/// Seeds of the pairs of each case, whose errors are averaged. Each pair has its own textures and direction of motion.
pub const SEEDS: [u64; 3] = [0, 1, 2];

/// The errors of a method on every case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Card {
    /// Name of the method.
    pub method: String,
    /// The method in a line, as [`Estimator::describe`] gives it.
    pub description: String,
    /// Number of pairs in each row.
    pub pairs: usize,
    /// One row for each case, in order.
    pub rows: Vec<Row>,
}

/// The result of one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The group of cases that it belongs to.
    pub theme: &'static str,
    /// Name of the case.
    pub name: &'static str,
    /// What the scene shows, and which pixels count if not all do.
    pub what: &'static str,
    /// Height of the frames, pixels.
    pub height: usize,
    /// Width of the frames, pixels.
    pub width: usize,
    /// Number of pixels that counted, over all pairs.
    pub scored: u64,
    /// Number of these pixels without a finite flow; no error below includes them.
    pub unanswered: u64,
    /// Mean error of zero flow at the pixels that counted, px, which is the mean displacement.
    pub zero_epe: f64,
    /// The errors; `None` where the method gave no flow.
    #[serde(flatten)]
    pub errors: Option<Errors>,
    /// The errors, summed up in a word.
    pub grade: Grade,
    /// Why there is no flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// End-point errors over the pixels that counted and were answered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Errors {
    /// Mean error, px.
    pub epe: f64,
    /// The error that nine pixels of ten do not exceed, px.
    pub p90: f64,
    /// Share of pixels with an error above 3 px, %.
    pub px3: f64,
}

/// How well a method does on a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// The mean error is at most 0.2 px or 5 % of zero flow's error.
    Good,
    /// The mean error is at most half of zero flow's, or at most 1 px where nothing moves.
    Rough,
    /// The mean error is larger: most of the motion was not found, or motion was found where there is none.
    Lost,
    /// The method gave no flow.
    Failed,
}

impl Grade {
    fn of(epe: f64, zero_epe: f64) -> Self {
        let rough = if zero_epe > 0.0 { 0.5 * zero_epe } else { 1.0 };
        if epe <= (0.05 * zero_epe).max(0.2) {
            Self::Good
        } else if epe <= rough {
            Self::Rough
        } else {
            Self::Lost
        }
    }

    /// The grade in a word, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Rough => "rough",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}

/// What was measured of one case so far.
#[derive(Default)]
struct Score {
    /// Errors of the pixels that counted and were answered, px.
    errors: Vec<f32>,
    zero: f64,
    scored: u64,
    failure: Option<String>,
}

/// Why a pair of the card has no error.
#[derive(Debug, thiserror::Error)]
enum CardError {
    #[error(transparent)]
    Estimate(#[from] EstimateError),
    #[error(transparent)]
    Metric(#[from] MetricError),
}

impl Card {
    /// Measures a method on every case. If it fails on a case, the row says so and the next case follows. `watch` is called for
    /// every pair.
    pub fn measure(estimator: &Estimator, mut watch: impl FnMut(&Case)) -> Self {
        let mut scores: Vec<Score> = CASES.iter().map(|_| Score::default()).collect();
        for seed in SEEDS {
            let textures = Textures::new(seed);
            for (case, score) in CASES.iter().zip(&mut scores) {
                if let Err(error) = score.add(&case.pair(&textures), estimator) {
                    score.failure.get_or_insert(error.to_string());
                }
                watch(case);
            }
        }
        let rows = CASES.iter().zip(scores).map(|(case, score)| score.row(case)).collect();
        let (method, description) = (estimator.name().into(), estimator.describe());
        Self { method, description, pairs: SEEDS.len(), rows }
    }
}

impl Score {
    /// Adds a pair.
    fn add(&mut self, pair: &Pair, estimator: &Estimator) -> Result<(), CardError> {
        let counts = |at: usize| pair.scored.data()[at];
        for (_, (&u, &v)) in pair.flow.u().iter().zip(pair.flow.v()).enumerate().filter(|(at, _)| counts(*at)) {
            self.scored += 1;
            self.zero += f64::from(u).hypot(f64::from(v));
        }
        let estimate = estimator.estimate(&pair.first, &pair.second)?;
        // Not a number where there is no answer.
        let errors = endpoint_error(&estimate, &pair.flow)?.into_iter().enumerate();
        self.errors.extend(errors.filter(|(at, error)| counts(*at) && error.is_finite()).map(|(_, error)| error));
        Ok(())
    }

    fn row(mut self, case: &Case) -> Row {
        let answered = self.errors.len();
        let zero_epe = self.zero / self.scored.max(1) as f64;
        let errors = (answered > 0 && self.failure.is_none()).then(|| {
            let sum: f64 = self.errors.iter().map(|&e| f64::from(e)).sum();
            let beyond = self.errors.iter().filter(|&&e| e > 3.0).count();
            // The smallest error that nine in ten do not exceed.
            let rank = (answered * 9).div_ceil(10) - 1;
            let (_, p90, _) = self.errors.select_nth_unstable_by(rank, f32::total_cmp);
            Errors { epe: sum / answered as f64, p90: f64::from(*p90), px3: 100.0 * beyond as f64 / answered as f64 }
        });
        Row {
            theme: case.theme.name(),
            name: case.name,
            what: case.what,
            height: case.size.height,
            width: case.size.width,
            scored: self.scored,
            unanswered: self.scored - answered as u64,
            zero_epe,
            errors,
            grade: errors.map_or(Grade::Failed, |e| Grade::of(e.epe, zero_epe)),
            failure: self.failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dis::Preset;

    fn row<'a>(card: &'a Card, name: &str) -> &'a Row {
        card.rows.iter().find(|row| row.name == name).unwrap()
    }

    /// The same rows on every run; the errors of zero flow are the lengths of the shifts.
    #[test]
    fn zero_flow_is_wrong_by_the_motion() {
        let card = Card::measure(&Estimator::zero(), |_| {});
        // Shifts of points near 1000 px in f32: 6e-5 px.
        for (name, length) in [
            ("0.5 px", 0.5),
            ("1 px", 1.0),
            ("5 px", 5.0),
            ("40 px", 40.0),
            ("100 px", 100.0),
            ("small and fast", 60.0),
        ] {
            let Row { zero_epe, errors: Some(errors), .. } = row(&card, name) else { panic!("{name}") };
            assert!((errors.epe - length).abs() < 1e-4 && (errors.p90 - length).abs() < 2e-4, "{name}: {errors:?}");
            assert!((zero_epe - errors.epe).abs() < 1e-6, "{name}");
            assert_eq!(errors.px3, if length > 3.0 { 100.0 } else { 0.0 }, "{name}");
        }
        for name in ["no motion", "flat grey"] {
            let none = Errors { epe: 0.0, p90: 0.0, px3: 0.0 };
            assert_eq!((row(&card, name).errors, row(&card, name).grade), (Some(none), Grade::Good));
        }
        assert_eq!(row(&card, "100 px").grade, Grade::Lost);
        assert_eq!(Card::measure(&Estimator::zero(), |_| {}), card);
    }

    #[test]
    fn dis_finds_shifts() {
        let mut pairs = 0;
        let card = Card::measure(&Estimator::dis(Preset::Medium), |_| pairs += 1);
        assert_eq!(pairs, SEEDS.len() * CASES.len());
        for row in card.rows.iter().filter(|row| row.theme == "shift") {
            let Some(errors) = row.errors else { panic!("{}: {:?}", row.name, row.failure) };
            assert!(errors.epe < 0.2, "{}: {errors:?}", row.name);
        }
        assert_eq!(row(&card, "no motion").errors.unwrap().epe, 0.0);
    }

    #[test]
    fn a_method_that_fails_says_where_and_why() {
        let score = Score { failure: Some("too small".into()), ..Score::default() };
        let row = score.row(&CASES[0]);
        assert_eq!((row.errors, row.grade, row.failure.as_deref()), (None, Grade::Failed, Some("too small")));
        assert!(serde_json::to_value(&row).unwrap()["epe"].is_null());
    }

    #[test]
    fn nine_in_ten_are_within_p90() {
        let mut score = Score { scored: 12, ..Score::default() };
        score.errors = (1..=10).map(|e| e as f32).collect();
        let row = score.row(&CASES[0]);
        assert_eq!(row.errors, Some(Errors { epe: 5.5, p90: 9.0, px3: 70.0 }));
        assert_eq!(row.unanswered, 2);
    }
}
