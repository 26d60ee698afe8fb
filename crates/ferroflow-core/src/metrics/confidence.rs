//! Whether a confidence means what it says: its bins against the true error, one curve that calibrates it, and sparsification.

use serde::Serialize;

use super::{MetricError, endpoint_error};
use crate::{FlowField, Size};

/// Bins of the confidence from 0 to 1.
const BINS: usize = 20;

/// Shares of pixels that are left out of a sparsification curve.
const STEPS: usize = 50;

/// A pixel is right if its error is at most this, px: what a calibrated confidence is the probability of.
const RIGHT: f32 = 1.0;

/// Pixels of one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bin {
    pixels: u64,
    right: u64,
    confidence: f64,
    error: f64,
}

impl Bin {
    fn merge(&mut self, other: &Self) {
        self.pixels += other.pixels;
        self.right += other.right;
        self.confidence += other.confidence;
        self.error += other.error;
    }
}

/// What the confidences of pairs say and what is true, summed over pixels of known truth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfidenceTally {
    /// Of every other pair, so that a curve can be tried on pairs that it was not made of.
    halves: [[Bin; BINS]; 2],
    pairs: usize,
    /// Sum of the areas of the pairs, and their number.
    ause: (f64, usize),
}

/// A row of the table of reliability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReliabilityRow {
    /// Confidences from here,
    pub from: f64,
    /// to here.
    pub to: f64,
    /// Share of the pixels, %.
    pub share: f64,
    /// Mean confidence.
    pub confidence: f64,
    /// Share of these pixels with an error of at most 1 px, from 0 to 1: what the confidence ought to be.
    pub right: f64,
    /// Mean end-point error, px.
    pub epe: f64,
    /// The confidence after calibration by one curve that never falls.
    pub calibrated: f64,
}

/// How far a confidence can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reliability {
    /// Bins that hold pixels, from low to high confidence.
    pub bins: Vec<ReliabilityRow>,
    /// Mean distance between the confidence and the share of right pixels, weighted by pixels (expected calibration error), 0 to 1.
    pub calibration_error: f64,
    /// The same after calibration, each half of the pairs with the curve of the other half; `None` with a single pair.
    pub calibrated_error: Option<f64>,
    /// Area between the sparsification curve and the best possible one, as a share of the mean error of each pair, averaged over
    /// pairs: 0 if the confidence ranks pixels as their errors do. Random confidence has the area of a pair's own best curve below 1.
    pub ause: Option<f64>,
}

impl ConfidenceTally {
    /// Adds a pair: the confidence `[height, width]` from 0 to 1 of its estimate.
    pub fn add(&mut self, confidence: &[f32], estimate: &FlowField, truth: &FlowField) -> Result<(), MetricError> {
        let errors = endpoint_error(estimate, truth)?;
        if confidence.len() != errors.len() {
            let found = Size { height: 1, width: confidence.len() };
            return Err(MetricError::Size { what: "the confidence", expected: truth.size(), found });
        }
        let known = confidence.iter().copied().zip(errors).filter(|(c, e)| c.is_finite() && e.is_finite());
        let mut pixels: Vec<(f32, f32)> = known.collect();
        let half = &mut self.halves[self.pairs % 2];
        for &(confidence, error) in &pixels {
            let bin = &mut half[((confidence * BINS as f32) as usize).min(BINS - 1)];
            bin.pixels += 1;
            bin.right += u64::from(error <= RIGHT);
            bin.confidence += f64::from(confidence);
            bin.error += f64::from(error);
        }
        self.pairs += 1;
        if let Some(area) = ause(&mut pixels) {
            self.ause = (self.ause.0 + area, self.ause.1 + 1);
        }
        Ok(())
    }

    /// The table and the figures; `None` if no pixel was added.
    pub fn reliability(&self) -> Option<Reliability> {
        let mut all = self.halves[0];
        all.iter_mut().zip(&self.halves[1]).for_each(|(bin, other)| bin.merge(other));
        let pixels: u64 = all.iter().map(|bin| bin.pixels).sum();
        if pixels == 0 {
            return None;
        }
        let curve = monotone(&all);
        let row = |(index, bin): (usize, &Bin)| {
            let count = bin.pixels as f64;
            ReliabilityRow {
                from: index as f64 / BINS as f64,
                to: (index + 1) as f64 / BINS as f64,
                share: 100.0 * count / pixels as f64,
                confidence: bin.confidence / count,
                right: bin.right as f64 / count,
                epe: bin.error / count,
                calibrated: curve[index],
            }
        };
        let bins = all.iter().enumerate().filter(|(_, bin)| bin.pixels > 0).map(row).collect();
        let curves = [1, 0].map(|other: usize| monotone(&self.halves[other]));
        let crossed = || {
            let halves = self.halves.iter().zip(&curves);
            halves.map(|(half, curve)| distance(half, |index, _| curve[index])).sum::<f64>() / pixels as f64
        };
        Some(Reliability {
            bins,
            calibration_error: distance(&all, |_, bin| bin.confidence / bin.pixels as f64) / pixels as f64,
            calibrated_error: (self.pairs > 1).then(crossed),
            ause: (self.ause.1 > 0).then(|| self.ause.0 / self.ause.1 as f64),
        })
    }
}

/// Sum over pixels of the distance between what is said of a bin and its share of right pixels.
fn distance(bins: &[Bin; BINS], said: impl Fn(usize, &Bin) -> f64) -> f64 {
    let held = bins.iter().enumerate().filter(|(_, bin)| bin.pixels > 0);
    held.map(|(index, bin)| (said(index, bin) * bin.pixels as f64 - bin.right as f64).abs()).sum()
}

/// The share of right pixels of each bin as the nearest curve that never falls (pool adjacent violators); bins without pixels have the
/// value of the bin below.
fn monotone(bins: &[Bin; BINS]) -> [f64; BINS] {
    // Pools: right pixels, pixels, bins.
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for bin in bins {
        let mut pool = (bin.right as f64, bin.pixels as f64, 1);
        while let Some(&last) = pools.last() {
            // Nothing known joins what is below it.
            let falls = pool.1 == 0.0 || last.1 == 0.0 || last.0 * pool.1 >= pool.0 * last.1;
            if !falls {
                break;
            }
            pool = (pool.0 + last.0, pool.1 + last.1, pool.2 + last.2);
            pools.pop();
        }
        pools.push(pool);
    }
    let mut curve = [0.0; BINS];
    let values = pools.iter().flat_map(|&(right, pixels, count)| {
        std::iter::repeat_n(if pixels > 0.0 { right / pixels } else { 0.0 }, count)
    });
    curve.iter_mut().zip(values).for_each(|(place, value)| *place = value);
    curve
}

/// The area between the curves of the mean error of the pixels that are left when the least confident ones, or those of the largest
/// errors, are taken away, as a share of the mean error; `None` without error.
fn ause(pixels: &mut [(f32, f32)]) -> Option<f64> {
    let whole = pixels.iter().map(|&(_, error)| f64::from(error)).sum::<f64>() / pixels.len() as f64;
    if whole.is_nan() || whole <= 0.0 {
        return None;
    }
    pixels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let by_confidence = remaining(pixels);
    pixels.sort_by(|a, b| a.1.total_cmp(&b.1));
    let best = remaining(pixels);
    Some(by_confidence.iter().zip(&best).map(|(c, b)| (c - b) / whole).sum::<f64>() / STEPS as f64)
}

/// Mean error of the first pixels, from all of them down to a fiftieth.
fn remaining(pixels: &[(f32, f32)]) -> [f64; STEPS] {
    let mut means = [0.0; STEPS];
    let (mut sum, mut taken) = (0.0, 0);
    for step in (0..STEPS).rev() {
        let keep = (pixels.len() * (STEPS - step)).div_ceil(STEPS);
        sum += pixels[taken..keep].iter().map(|&(_, error)| f64::from(error)).sum::<f64>();
        taken = keep;
        means[step] = sum / keep as f64;
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(pairs: &[&[(f32, f32)]]) -> Reliability {
        let mut tally = ConfidenceTally::default();
        for pixels in pairs {
            let size = Size::new(1, pixels.len());
            let estimate = FlowField::from_fn(size, |x, _| (pixels[x].1, 0.0));
            let confidence: Vec<f32> = pixels.iter().map(|pixel| pixel.0).collect();
            tally.add(&confidence, &estimate, &FlowField::zeros(size)).unwrap();
        }
        tally.reliability().unwrap()
    }

    #[test]
    fn bins_hold_what_was_said_and_what_is_true() {
        let found = tally(&[&[(0.5, 2.0), (0.5, 0.5), (1.0, 0.0), (1.0, 1.0)]]);
        let [half, whole] = &found.bins[..] else { panic!("{found:?}") };
        assert_eq!((half.from, half.to, half.share, half.confidence), (0.5, 0.55, 50.0, 0.5));
        assert_eq!((half.right, half.epe, whole.right, whole.epe), (0.5, 1.25, 1.0, 0.5));
        assert_eq!((found.calibration_error, found.calibrated_error), (0.0, None));
    }

    #[test]
    fn one_curve_mends_a_confidence_that_is_too_high() {
        // Says 0.9 and is right in half of all cases; says 0.2 and is never right.
        let pair: Vec<(f32, f32)> =
            (0..40).map(|i| if i < 20 { (0.9, (i % 2) as f32 * 2.0) } else { (0.2, 3.0) }).collect();
        let found = tally(&[&pair, &pair]);
        assert!((found.calibration_error - 0.3).abs() < 1e-6, "{found:?}");
        assert_eq!(found.calibrated_error, Some(0.0));
        assert_eq!(found.bins.iter().map(|bin| bin.calibrated).collect::<Vec<_>>(), [0.0, 0.5]);
    }

    #[test]
    fn a_curve_never_falls() {
        let mut bins = [Bin::default(); BINS];
        for (index, right) in [(2, 50), (5, 80), (7, 60), (19, 90)] {
            bins[index] = Bin { pixels: 100, right, ..Bin::default() };
        }
        let curve = monotone(&bins);
        assert!(curve.windows(2).all(|pair| pair[0] <= pair[1]), "{curve:?}");
        assert_eq!((curve[2], curve[5], curve[7], curve[19]), (0.5, 0.7, 0.7, 0.9));
    }

    #[test]
    fn sparsification_is_nothing_where_errors_rank_as_confidence_does() {
        let ranked: Vec<(f32, f32)> = (0..100).map(|i| (1.0 - i as f32 / 100.0, i as f32)).collect();
        assert_eq!(tally(&[&ranked]).ause, Some(0.0));
        let reversed: Vec<(f32, f32)> = (0..100).map(|i| (i as f32 / 100.0, i as f32)).collect();
        // The mean grows from 1 to about 2 as it ought to fall to 0: the area between is 1, less a step.
        let area = tally(&[&reversed]).ause.unwrap();
        assert!((0.9..1.0).contains(&area), "{area}");
        assert_eq!(tally(&[&[(0.5, 0.0)]]).ause, None);
        let mut wrong = ConfidenceTally::default();
        let flow = FlowField::zeros(Size::new(1, 2));
        assert!(wrong.add(&[0.5], &flow, &flow).is_err());
        assert_eq!(wrong.reliability(), None);
    }
}
