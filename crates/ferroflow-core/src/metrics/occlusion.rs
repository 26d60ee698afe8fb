//! How well a soft occlusion map finds occluded pixels: the largest F1 over 40 thresholds (UFlow's evaluation).

use super::MetricError;
use crate::{Mask, Size};

const THRESHOLDS: usize = 40;

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
            // `value > t` holds for the first thresholds only.
            let above = (0..THRESHOLDS).take_while(|&t| f64::from(value) > t as f64 / (THRESHOLDS - 1) as f64).count();
            let counts = if occluded { &mut self.true_positive } else { &mut self.false_positive };
            counts[..above].iter_mut().for_each(|c| *c += 1);
            self.occluded += u64::from(occluded);
        }
        Ok(())
    }

    /// The largest F1, from 0 to 1: `p = tp / (tp + fp + 1e-6)`, `r = tp / (tp + fn + 1e-6)`, `2 p r / (p + r + 1e-6)`.
    pub fn f_max(&self) -> f64 {
        let f1 = |(&hit, &wrong): (&u64, &u64)| {
            let precision = hit as f64 / ((hit + wrong) as f64 + 1e-6);
            let recall = hit as f64 / (self.occluded as f64 + 1e-6);
            2.0 * precision * recall / (precision + recall + 1e-6)
        };
        self.true_positive.iter().zip(&self.false_positive).map(f1).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_threshold_counts() {
        let truth = Mask::new(Size::new(1, 4), vec![true, true, false, false]).unwrap();
        let mut perfect = OcclusionCurve::default();
        perfect.add(&[0.9, 0.7, 0.3, 0.0], &truth).unwrap();
        assert!((perfect.f_max() - 1.0).abs() < 1e-5);
        let mut one_wrong = OcclusionCurve::default();
        one_wrong.add(&[0.9, 0.2, 0.3, 0.0], &truth).unwrap();
        // Best below 0.2: precision 2/3, recall 1.
        assert!((one_wrong.f_max() - 0.8).abs() < 1e-5);
        assert!(one_wrong.add(&[0.5], &truth).is_err());
    }
}
