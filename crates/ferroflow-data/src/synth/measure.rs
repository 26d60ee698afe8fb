//! Measures whether the flow of generated pairs fits their frames, how large it is, and how fast pairs are made.

use std::{fmt, time::Instant};

use ferroflow_core::viz::warp;
use rayon::prelude::*;
use serde::Serialize;

use crate::{DataError, Sample, Source};

/// The figures of a number of pairs.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// Number of pairs.
    pub pairs: usize,
    /// Difference of frame 1 and frame 2 warped back by the flow, over visible pixels.
    pub warped: Disagreement,
    /// Difference of frame 1 and frame 2 as it is, over the same pixels.
    pub unwarped: Disagreement,
    /// Lengths of the flow vectors that are known.
    pub displacement: Displacement,
    /// Share of pixels that are occluded or leave the frame.
    pub occluded: f64,
    /// Share of pixels whose flow is unknown.
    pub unknown: f64,
    /// Number of threads that made the pairs.
    pub threads: usize,
    /// Pairs per second of all threads together.
    pub pairs_per_second: f64,
}

/// Absolute differences of channels, grey levels.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Disagreement {
    /// Mean.
    pub mean: f64,
    /// 95th percentile.
    pub p95: usize,
}

/// Lengths of flow vectors, pixels.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Displacement {
    /// Mean.
    pub mean: f64,
    /// Median, rounded down to whole pixels.
    pub median: usize,
    /// Share of those longer than 40 px.
    pub over_40: f64,
    /// The longest.
    pub longest: f32,
}

/// Counts of one or more pairs.
#[derive(Clone)]
struct Counts {
    warped: Vec<u64>,
    unwarped: Vec<u64>,
    /// By whole pixels, the last for all longer ones.
    lengths: Vec<u64>,
    sum: f64,
    longest: f32,
    occluded: u64,
    pixels: u64,
}

/// Bins of the histogram of lengths.
const LENGTHS: usize = 4096;
/// Pairs in memory at a time.
const BATCH: usize = 32;

/// Measures pairs `0..count` of a source that has flow and occlusion. The time is that of making the pairs, without measuring.
///
/// # Errors
/// The first error of the source.
pub fn measure(source: &dyn Source, count: usize) -> Result<Measurement, DataError> {
    let mut counts = Counts::new();
    let mut seconds = 0.0;
    for first in (0..count).step_by(BATCH) {
        let start = Instant::now();
        let batch: Result<Vec<Sample>, DataError> =
            (first..(first + BATCH).min(count)).into_par_iter().map(|index| source.get(index)).collect();
        seconds += start.elapsed().as_secs_f64();
        let found = batch?.par_iter().map(Counts::of).reduce(Counts::new, Counts::plus);
        counts = counts.plus(found);
    }
    Ok(counts.conclude(count, seconds))
}

impl Counts {
    fn new() -> Self {
        Self {
            warped: vec![0; 256],
            unwarped: vec![0; 256],
            lengths: vec![0; LENGTHS],
            sum: 0.0,
            longest: 0.0,
            occluded: 0,
            pixels: 0,
        }
    }

    fn of(sample: &Sample) -> Self {
        let mut counts = Self::new();
        let Some(flow) = &sample.flow else { return counts };
        let (back, seen) = warp(&sample.second, flow);
        let (w, h) = (flow.width(), flow.height());
        counts.pixels = (w * h) as u64;
        for y in 0..h {
            for x in 0..w {
                let hidden = sample.occlusion.as_ref().is_some_and(|mask| mask.get(x, y));
                counts.occluded += u64::from(hidden);
                let Some((u, v)) = flow.known(x, y) else { continue };
                let length = (u * u + v * v).sqrt();
                counts.sum += f64::from(length);
                counts.longest = counts.longest.max(length);
                counts.lengths[(length as usize).min(LENGTHS - 1)] += 1;
                if hidden || !seen.get(x, y) {
                    continue;
                }
                let (a, b, c) = (sample.first.pixel(x, y), back.pixel(x, y), sample.second.pixel(x, y));
                for k in 0..3 {
                    counts.warped[usize::from(a[k].abs_diff(b[k]))] += 1;
                    counts.unwarped[usize::from(a[k].abs_diff(c[k]))] += 1;
                }
            }
        }
        counts
    }

    fn plus(mut self, other: Self) -> Self {
        let add = |to: &mut Vec<u64>, from: Vec<u64>| to.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        add(&mut self.warped, other.warped);
        add(&mut self.unwarped, other.unwarped);
        add(&mut self.lengths, other.lengths);
        self.sum += other.sum;
        self.longest = self.longest.max(other.longest);
        self.occluded += other.occluded;
        self.pixels += other.pixels;
        self
    }

    fn conclude(&self, pairs: usize, seconds: f64) -> Measurement {
        let known: u64 = self.lengths.iter().sum();
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        Measurement {
            pairs,
            warped: Disagreement::of(&self.warped),
            unwarped: Disagreement::of(&self.unwarped),
            displacement: Displacement {
                mean: self.sum / known.max(1) as f64,
                median: quantile(&self.lengths, 0.5),
                over_40: share(self.lengths[40..].iter().sum(), known),
                longest: self.longest,
            },
            occluded: share(self.occluded, self.pixels),
            unknown: share(self.pixels - known, self.pixels),
            threads: rayon::current_num_threads(),
            pairs_per_second: pairs as f64 / seconds.max(1e-9),
        }
    }
}

impl Disagreement {
    fn of(counts: &[u64]) -> Self {
        let total: u64 = counts.iter().sum();
        let sum: u64 = counts.iter().enumerate().map(|(difference, &n)| difference as u64 * n).sum();
        Self { mean: sum as f64 / total.max(1) as f64, p95: quantile(counts, 0.95) }
    }
}

/// The first bin up to which a share of all counts lies.
fn quantile(counts: &[u64], share: f64) -> usize {
    let wanted = share * counts.iter().sum::<u64>() as f64;
    let mut below = 0;
    counts
        .iter()
        .position(|&n| {
            below += n;
            below as f64 >= wanted
        })
        .unwrap_or(0)
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (warped, unwarped, d) = (&self.warped, &self.unwarped, &self.displacement);
        writeln!(
            f,
            "frame 2 warped back differs from frame 1 by {:.2} grey levels in the mean, 95 % of values by at most {}",
            warped.mean, warped.p95
        )?;
        writeln!(f, "without warping by {:.2} and {} (over the same visible pixels)", unwarped.mean, unwarped.p95)?;
        writeln!(
            f,
            "displacement {:.2} px in the mean, median {} px, longest {:.0} px; {:.2} % over 40 px",
            d.mean,
            d.median,
            d.longest,
            100.0 * d.over_40
        )?;
        writeln!(f, "{:.2} % occluded, {:.3} % unknown", 100.0 * self.occluded, 100.0 * self.unknown)?;
        writeln!(f, "{:.1} pairs/s on {} threads ({} pairs)", self.pairs_per_second, self.threads, self.pairs)
    }
}

#[cfg(test)]
mod tests {
    use ferroflow_core::Size;

    use super::*;
    use crate::synth::{PRESETS, Preset, Synth};

    /// A source whose flow is off by so many pixels.
    struct Wrong(Synth, f32);

    impl Source for Wrong {
        fn name(&self) -> String {
            self.0.name()
        }

        fn len(&self) -> Option<usize> {
            None
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            let mut sample = self.0.sample(index as u64);
            if let Some(flow) = &mut sample.flow {
                flow.planes_mut().0.iter_mut().for_each(|u| *u += self.1);
            }
            Ok(sample)
        }
    }

    #[test]
    fn every_presets_flow_fits_its_frames_and_no_other_does() {
        for preset in PRESETS {
            let synth = Synth::new(Preset::named(preset).unwrap().without_effects(), 3, Size::new(192, 256));
            let right = measure(&synth, 8).unwrap();
            let wrong = measure(&Wrong(synth, 3.0), 8).unwrap();
            println!("{preset}: {right}");
            // Bilinear sampling of frame 2, mixed pixels at edges and other mip levels; not more.
            assert!(right.warped.mean < 2.5 && right.warped.p95 < 12, "{preset}: {right}");
            assert!(right.unwarped.mean > 1.5 * right.warped.mean, "{preset}: {right}");
            assert!(wrong.warped.mean > 2.0 * right.warped.mean, "{preset}: {wrong}");
            assert!(right.unknown < 0.05 && right.occluded < 0.6, "{preset}: {right}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values_counted() {
        assert_eq!(quantile(&[5, 0, 4, 1], 0.5), 0);
        assert_eq!(quantile(&[5, 0, 4, 1], 0.9), 2);
        assert_eq!(quantile(&[5, 0, 4, 1], 0.95), 3);
    }
}
