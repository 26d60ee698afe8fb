//! The contents of a data set: sizes of its pairs and statistics of its motion.

use std::{collections::HashMap, fmt};

use ferroflow_core::Size;

use rayon::prelude::*;
use serde::Serialize;

use crate::{DataError, Sample, Spec};

/// Magnitudes are counted in steps of this, px; percentiles are exact to one step.
const STEP: f64 = 1.0 / 32.0;
/// Magnitudes beyond this count as this, px.
const TOP: f64 = 2048.0;

/// Edges of the bins of the histogram, px.
const EDGES: [f64; 12] = [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, f64::INFINITY];
const PERCENTILES: [f64; 6] = [10.0, 25.0, 50.0, 75.0, 90.0, 99.0];

/// Samples read at a time: enough for every core, few enough to hold.
const BATCH: usize = 32;

/// Sizes and flow statistics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Info {
    /// The data set, as the user spelled it.
    pub spec: String,
    /// Number of pairs; `None` if it is endless.
    pub pairs: Option<usize>,
    /// Number of pairs that were read, evenly spread over the data set.
    pub read: usize,
    /// Sizes and the number of pairs of each, the narrowest first.
    pub sizes: Vec<(Size, usize)>,
    /// Statistics of the ground truth, if there is any.
    pub flow: Option<FlowStatistics>,
    /// Share of pixels that frame 2 does not show, if there are occlusion masks.
    pub occluded: Option<f64>,
}

/// Statistics over all known pixels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowStatistics {
    /// Share of pixels whose flow is known.
    pub known: f64,
    /// Mean magnitude, px.
    pub mean: f64,
    /// Largest magnitude, px.
    pub largest: f64,
    /// Percentiles of the magnitude: percent, and px.
    pub percentiles: Vec<(f64, f64)>,
    /// Lower edge of each bin, px, and its share of the known pixels.
    pub histogram: Vec<(f64, f64)>,
}

/// Reads at most `limit` pairs, evenly spread over the data set (the first ones of an endless one).
///
/// # Errors
/// If the data set cannot be opened or a pair cannot be read.
pub fn info(spec: &Spec, limit: usize) -> Result<Info, DataError> {
    let source = spec.open()?;
    let pairs = source.len();
    let read = pairs.unwrap_or(limit).min(limit);
    let at = |i: usize| pairs.map_or(i, |n| (i as u128 * n as u128 / read as u128) as usize);
    let mut tally = Tally::default();
    for start in (0..read).step_by(BATCH) {
        let batch: Vec<Sample> =
            (start..read.min(start + BATCH)).into_par_iter().map(|i| source.get(at(i))).collect::<Result<_, _>>()?;
        batch.iter().for_each(|sample| tally.add(sample));
    }
    Ok(tally.info(spec.to_string(), pairs, read))
}

#[derive(Default)]
struct Tally {
    sizes: HashMap<Size, usize>,
    counts: Vec<u64>,
    sum: f64,
    largest: f64,
    known: u64,
    pixels: u64,
    occluded: u64,
    masked: u64,
}

impl Tally {
    fn add(&mut self, sample: &Sample) {
        *self.sizes.entry(sample.first.size()).or_default() += 1;
        if let Some(mask) = &sample.occlusion {
            self.masked += mask.data().len() as u64;
            self.occluded += mask.count() as u64;
        }
        let Some(flow) = &sample.flow else { return };
        self.counts.resize((TOP / STEP) as usize + 1, 0);
        self.pixels += flow.u().len() as u64;
        for (i, (&u, &v)) in flow.u().iter().zip(flow.v()).enumerate() {
            if flow.validity().is_none_or(|known| known.data()[i]) {
                let magnitude = f64::from(u).hypot(f64::from(v));
                self.counts[(magnitude.min(TOP) / STEP) as usize] += 1;
                self.sum += magnitude;
                self.largest = self.largest.max(magnitude);
                self.known += 1;
            }
        }
    }

    fn info(&self, spec: String, pairs: Option<usize>, read: usize) -> Info {
        let share = |part: u64, whole: u64| part as f64 / whole as f64;
        // Bins end where an edge falls on a step, which every edge does.
        let below = |edge: f64| self.counts.iter().take((edge.min(TOP + 1.0) / STEP) as usize).sum::<u64>();
        let percentile = |percent: f64| {
            let rank = (percent / 100.0 * self.known as f64) as u64;
            let mut seen = 0;
            let step = self.counts.iter().position(|&count| {
                seen += count;
                seen > rank
            });
            (percent, step.unwrap_or(0) as f64 * STEP)
        };
        let flow = (self.known > 0).then(|| FlowStatistics {
            known: share(self.known, self.pixels),
            mean: self.sum / self.known as f64,
            largest: self.largest,
            percentiles: PERCENTILES.map(percentile).to_vec(),
            histogram: EDGES.windows(2).map(|e| (e[0], share(below(e[1]) - below(e[0]), self.known))).collect(),
        });
        let mut sizes: Vec<(Size, usize)> = self.sizes.iter().map(|(&size, &count)| (size, count)).collect();
        sizes.sort_by_key(|(size, _)| (size.width, size.height));
        Info { spec, pairs, read, sizes, flow, occluded: (self.masked > 0).then(|| share(self.occluded, self.masked)) }
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.pairs.map_or("endless".to_string(), |n| n.to_string());
        writeln!(f, "{}\n  pairs     {pairs}, {} read", self.spec, self.read)?;
        for (size, count) in &self.sizes {
            writeln!(f, "  size      {size}  {count}")?;
        }
        let Some(flow) = &self.flow else { return writeln!(f, "  no ground truth") };
        writeln!(f, "  known     {:.2} % of pixels", 100.0 * flow.known)?;
        if let Some(occluded) = self.occluded {
            writeln!(f, "  occluded  {:.2} % of pixels", 100.0 * occluded)?;
        }
        writeln!(f, "  motion    mean {:.2} px, largest {:.2} px", flow.mean, flow.largest)?;
        let percentiles: Vec<String> = flow.percentiles.iter().map(|(p, px)| format!("{p}%: {px:.1}")).collect();
        writeln!(f, "            {}", percentiles.join("  "))?;
        for (from, share) in &flow.histogram {
            let bar = "#".repeat((share * 60.0).round() as usize);
            writeln!(f, "  {from:>6} px  {:>5.1} %  {bar}", 100.0 * share)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::tests::{Tree, chairs, sintel};

    #[test]
    fn sizes_and_motion_are_counted() {
        let tree = Tree::new();
        tree.frame("1.png", 1).frame("2.png", 2).flow("f.flo", 3).mask("o.png");
        let table = "image1\timage2\tflow\tocclusions\n1.png\t2.png\tf.flo\to.png\n";
        let info = info(&tree.text("p.tsv", table).spec("pairs:{root}/p.tsv"), 10).unwrap();
        assert_eq!((info.pairs, info.read, &info.sizes[..]), (Some(1), 1, &[(Size::new(4, 6), 1)][..]));
        assert!((info.occluded.unwrap() - 1.0 / 6.0).abs() < 1e-12);
        // Rows of (3, 0), (3, 1), (3, 2), (3, 3).
        let flow = info.flow.as_ref().unwrap();
        let lengths = [3.0, 10f64.sqrt(), 13f64.sqrt(), 18f64.sqrt()];
        assert!((flow.mean - lengths.iter().sum::<f64>() / 4.0).abs() < 1e-9 && flow.largest == lengths[3]);
        assert_eq!(flow.percentiles[2], (50.0, (lengths[2] / STEP).floor() * STEP));
        assert_eq!(flow.histogram[3], (2.0, 1.0));
        assert!(info.to_string().contains("2 px  100.0 %"), "{info}");
    }

    #[test]
    fn a_limit_spreads_over_the_set() {
        let tree = chairs();
        let info_of = |text: &str, limit| info(&tree.spec(text), limit).unwrap();
        assert_eq!(info_of("chairs:{root}", 2).read, 2);
        assert_eq!(info_of("synth:chairs@size=16x16", 3).read, 3);
        assert!(info(&sintel().spec("sintel-clean:{root}@test"), 9).unwrap().flow.is_none());
    }
}
