//! What a series of timed runs says.

use std::fmt;

use serde::Serialize;

/// Seconds of runs, and what follows from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timing {
    /// Number of runs.
    pub runs: usize,
    /// Pairs that each run estimates.
    pub batch: usize,
    /// Mean.
    pub mean_s: f64,
    /// Mean without the first run, which often does what later ones need not; the same if there is only one.
    pub mean_without_first_s: f64,
    /// Median.
    pub median_s: f64,
    /// Fastest run.
    pub min_s: f64,
    /// Nine runs of ten take at most this.
    pub p90_s: f64,
    /// 19 runs of 20 take at most this.
    pub p95_s: f64,
    /// 99 runs of 100 take at most this.
    pub p99_s: f64,
    /// Pairs a second, at the median.
    pub pairs_per_s: f64,
}

impl Timing {
    /// Of runs in the order in which they ran. All zero if there are none.
    pub fn of(seconds: &[f64], batch: usize) -> Self {
        let mut sorted = seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let Some(&min_s) = sorted.first() else { return Self::default() };
        let mean = |seconds: &[f64]| seconds.iter().sum::<f64>() / seconds.len() as f64;
        let rest = if seconds.len() > 1 { &seconds[1..] } else { seconds };
        let percentile = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).clamp(1, sorted.len()) - 1];
        let median_s = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        Self {
            runs: seconds.len(),
            batch,
            mean_s: mean(seconds),
            mean_without_first_s: mean(rest),
            median_s,
            min_s,
            p90_s: percentile(90),
            p95_s: percentile(95),
            p99_s: percentile(99),
            pairs_per_s: batch as f64 / median_s,
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |seconds: f64| 1e3 * seconds;
        let runs = if self.runs == 1 { "run" } else { "runs" };
        write!(
            f,
            "mean {:.1} ms, without the first {:.1} ms, median {:.1} ms, fastest {:.1} ms, percentiles 90 {:.1} ms, 95 {:.1} ms, \
             99 {:.1} ms over {} {runs}: {:.2} pairs/s",
            ms(self.mean_s),
            ms(self.mean_without_first_s),
            ms(self.median_s),
            ms(self.min_s),
            ms(self.p90_s),
            ms(self.p95_s),
            ms(self.p99_s),
            self.runs,
            self.pairs_per_s
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_by_hand() {
        let timing = Timing::of(&[9.0, 1.0, 2.0, 4.0], 8);
        assert_eq!((timing.runs, timing.mean_s, timing.median_s, timing.min_s), (4, 4.0, 3.0, 1.0));
        assert!((timing.mean_without_first_s - 7.0 / 3.0).abs() < 1e-12);
        assert_eq!((timing.p90_s, timing.p99_s, timing.pairs_per_s), (9.0, 9.0, 8.0 / 3.0));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let timing = Timing::of(&hundred, 1);
        assert_eq!((timing.p90_s, timing.p95_s, timing.p99_s), (90.0, 95.0, 99.0));
        assert_eq!((Timing::of(&[2.0], 1).mean_without_first_s, Timing::of(&[], 1)), (2.0, Timing::default()));
    }
}
