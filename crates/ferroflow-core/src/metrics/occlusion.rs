//! How well a soft occlusion map finds occluded pixels: the largest F1 over 40 thresholds (UFlow's evaluation).

use serde::Serialize;

use super::MetricError;
use crate::{Mask, Size};

const THRESHOLDS: usize = 40;

/// How well occlusion is told at the threshold that tells it best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct OcclusionScore {
    /// From 0 to 1: `p = tp / (tp + fp + 1e-6)`, `r = tp / (tp + fn + 1e-6)`, `2 p r / (p + r + 1e-6)`.
    pub f1: f64,
    /// Pixels above this are taken as occluded; the lowest one where several are as good.
    pub threshold: f64,
}

/// Hits and misses at each of 40 thresholds from 0 to 1, summed over pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct OcclusionCurve {
    true_positive: [u64; THRESHOLDS],
    false_positive: [u64; THRESHOLDS],
    occluded: u64,
}

impl Default for OcclusionCurve {
    fn default() -> Self {
        Self { true_positive: [0; THRESHOLDS], false_positive: [0; THRESHOLDS], occluded: 0 }
    }
}

impl OcclusionCurve {
    /// Adds a map `[height, width]` of values from 0 to 1 (1: occluded), compared with the true mask.
    pub fn add(&mut self, map: &[f32], truth: &Mask) -> Result<(), MetricError> {
        if map.len() != truth.data().len() {
            let found = Size { height: 1, width: map.len() };
            return Err(MetricError::Size { what: "the occlusion map", expected: truth.size(), found });
        }
        for (&value, &occluded) in map.iter().zip(truth.data()) {
            // Holds for the first thresholds only.
            let above = (0..THRESHOLDS).take_while(|&t| f64::from(value) > threshold(t)).count();
            let counts = if occluded { &mut self.true_positive } else { &mut self.false_positive };
            counts[..above].iter_mut().for_each(|c| *c += 1);
            self.occluded += u64::from(occluded);
        }
        Ok(())
    }

    /// Adds the pixels of another curve.
    pub fn merge(&mut self, other: &Self) {
        for (counts, more) in
            [(&mut self.true_positive, &other.true_positive), (&mut self.false_positive, &other.false_positive)]
        {
            counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
        self.occluded += other.occluded;
    }

    /// The threshold of the largest F1, and that F1.
    pub fn best(&self) -> OcclusionScore {
        let f1 = |(&hit, &wrong): (&u64, &u64)| {
            let precision = hit as f64 / ((hit + wrong) as f64 + 1e-6);
            let recall = hit as f64 / (self.occluded as f64 + 1e-6);
            2.0 * precision * recall / (precision + recall + 1e-6)
        };
        let scores = self.true_positive.iter().zip(&self.false_positive).map(f1).enumerate();
        scores.fold(OcclusionScore::default(), |best, (t, f1)| {
            if f1 > best.f1 { OcclusionScore { f1, threshold: threshold(t) } } else { best }
        })
    }
}

fn threshold(index: usize) -> f64 {
    index as f64 / (THRESHOLDS - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_threshold_counts() {
        let truth = Mask::new(Size::new(1, 4), vec![true, true, false, false]).unwrap();
        let mut perfect = OcclusionCurve::default();
        perfect.add(&[0.9, 0.7, 0.3, 0.0], &truth).unwrap();
        let best = perfect.best();
        // The first of 0/39, 1/39, ... that 0.3 does not exceed.
        assert!((best.f1 - 1.0).abs() < 1e-5 && best.threshold == 12.0 / 39.0, "{best:?}");
        let mut one_wrong = OcclusionCurve::default();
        one_wrong.add(&[0.9, 0.2, 0.3, 0.0], &truth).unwrap();
        // Best below 0.2: precision 2/3, recall 1.
        assert!((one_wrong.best().f1 - 0.8).abs() < 1e-5);
        assert!(one_wrong.add(&[0.5], &truth).is_err());
        // Over both pairs at 0.31: precision 1, recall 3/4.
        one_wrong.merge(&perfect);
        assert!((one_wrong.best().f1 - 6.0 / 7.0).abs() < 1e-5, "{:?}", one_wrong.best());
    }
}
