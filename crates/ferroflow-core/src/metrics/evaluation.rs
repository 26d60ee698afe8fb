//! From the tallies of pairs to the figures of a data set.

use serde::Serialize;

use super::Tally;

/// How the pairs of a data set become one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// The mean over all scored pixels of all pairs: large and dense pairs weigh more.
    Pixels,
    /// The mean of each pair's own figure: every pair weighs the same. Pairs without a scored pixel of a kind are left
    /// out of that kind's mean.
    Images,
    /// The mean of the figures of consecutive groups of this many pairs, the last perhaps smaller: what evaluation
    /// loops over batches compute.
    Batches(usize),
}

/// The figures of a data set or a pair; their definitions are in the [module documentation](super). A figure is `None`
/// where no pixel contributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Metrics {
    pub epe: Option<f64>,
    pub px1: Option<f64>,
    pub px3: Option<f64>,
    pub px5: Option<f64>,
    pub fl: Option<f64>,
    pub fl_bg: Option<f64>,
    pub fl_fg: Option<f64>,
    pub aae: Option<f64>,
    pub wauc: Option<f64>,
    pub s0_10: Option<f64>,
    pub s10_40: Option<f64>,
    pub s40_plus: Option<f64>,
    pub matched: Option<f64>,
    pub unmatched: Option<f64>,
    pub d0_10: Option<f64>,
    pub d10_60: Option<f64>,
    pub d60_140: Option<f64>,
    pub density: Option<f64>,
    pub unanswered: u64,
}

/// A figure of a table.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in tables and in JSON.
    pub name: &'static str,
    /// Its unit, empty if it has none.
    pub unit: &'static str,
    /// What it is, in words.
    pub definition: &'static str,
    /// The figure.
    pub of: fn(&Metrics) -> Option<f64>,
}

/// Every figure, in the order of reports.
pub const METRICS: [Metric; 19] = [
    Metric {
        name: "epe",
        unit: "px",
        of: |m| m.epe,
        definition: "mean end-point error: the distance between the estimated and the true vector",
    },
    Metric { name: "px1", unit: "%", of: |m| m.px1, definition: "share of pixels with an error above 1 px" },
    Metric { name: "px3", unit: "%", of: |m| m.px3, definition: "share of pixels with an error above 3 px" },
    Metric { name: "px5", unit: "%", of: |m| m.px5, definition: "share of pixels with an error above 5 px" },
    Metric {
        name: "fl",
        unit: "%",
        of: |m| m.fl,
        definition: "outliers as KITTI 2015 counts them: an error above 3 px and above 5 % of the true length",
    },
    Metric {
        name: "fl_bg",
        unit: "%",
        of: |m| m.fl_bg,
        definition: "outliers among the pixels of the background, where the data have object maps (KITTI)",
    },
    Metric {
        name: "fl_fg",
        unit: "%",
        of: |m| m.fl_fg,
        definition: "outliers among the pixels of objects, where the data have object maps (KITTI)",
    },
    Metric {
        name: "aae",
        unit: "degrees",
        of: |m| m.aae,
        definition: "mean angle between (u, v, 1) of estimate and truth (Middlebury)",
    },
    Metric {
        name: "wauc",
        unit: "",
        of: |m| m.wauc,
        definition: "0 to 100, higher is better: the share of pixels below each threshold up to 5 px, small ones weighing more (Spring)",
    },
    Metric {
        name: "s0_10",
        unit: "px",
        of: |m| m.s0_10,
        definition: "end-point error where the true motion is below 10 px (Sintel)",
    },
    Metric {
        name: "s10_40",
        unit: "px",
        of: |m| m.s10_40,
        definition: "end-point error where the true motion is from 10 to 40 px (Sintel)",
    },
    Metric {
        name: "s40_plus",
        unit: "px",
        of: |m| m.s40_plus,
        definition: "end-point error where the true motion is above 40 px (Sintel)",
    },
    Metric {
        name: "matched",
        unit: "px",
        of: |m| m.matched,
        definition: "end-point error of pixels that frame 2 shows too, where the data have masks of occlusions",
    },
    Metric {
        name: "unmatched",
        unit: "px",
        of: |m| m.unmatched,
        definition: "end-point error of occluded pixels, which frame 2 does not show",
    },
    Metric {
        name: "d0_10",
        unit: "px",
        of: |m| m.d0_10,
        definition: "end-point error less than 10 px away from the nearest occlusion boundary (Sintel; dense truth only)",
    },
    Metric {
        name: "d10_60",
        unit: "px",
        of: |m| m.d10_60,
        definition: "end-point error from 10 to 60 px away from the nearest occlusion boundary",
    },
    Metric {
        name: "d60_140",
        unit: "px",
        of: |m| m.d60_140,
        definition: "end-point error from 60 to 140 px away from the nearest occlusion boundary",
    },
    Metric {
        name: "density",
        unit: "%",
        of: |m| m.density,
        definition: "share of all pixels that are scored: those of known truth that have an estimate",
    },
    Metric {
        name: "unanswered",
        unit: "pixels",
        of: |m| Some(m.unanswered as f64),
        definition: "pixels of known truth where the estimate is unknown, not finite, or 1e9 px or more; they are in no other figure",
    },
];

impl Metrics {
    /// The figures over the pixels of a tally.
    pub fn of(tally: &Tally) -> Self {
        let scored = tally.scored() as f64;
        let percent = |count: u64| (scored > 0.0).then(|| 100.0 * count as f64 / scored);
        Self {
            epe: tally.error.mean(),
            px1: percent(tally.beyond[0]),
            px3: percent(tally.beyond[1]),
            px5: percent(tally.beyond[2]),
            fl: percent(tally.outliers),
            fl_bg: tally.outliers_of[0].mean().map(|share| 100.0 * share),
            fl_fg: tally.outliers_of[1].mean().map(|share| 100.0 * share),
            aae: tally.angle.mean(),
            wauc: tally.wauc(),
            s0_10: tally.speed[0].mean(),
            s10_40: tally.speed[1].mean(),
            s40_plus: tally.speed[2].mean(),
            matched: tally.matched.mean(),
            unmatched: tally.unmatched.mean(),
            d0_10: tally.bands[0].mean(),
            d10_60: tally.bands[1].mean(),
            d60_140: tally.bands[2].mean(),
            density: (tally.pixels > 0).then(|| 100.0 * scored / tally.pixels as f64),
            unanswered: tally.unanswered,
        }
    }

    /// Every figure with its name and unit, in the order of [`METRICS`]. [`Metrics::written`] formats a figure as tables show it.
    pub fn rows(&self) -> [(&'static str, &'static str, Option<f64>); METRICS.len()] {
        METRICS.map(|metric| (metric.name, metric.unit, (metric.of)(self)))
    }

    /// A figure of the given unit as text: counts of pixels have no decimals, everything else has four.
    pub fn written(unit: &str, value: f64) -> String {
        let decimals = if unit == "pixels" { 0 } else { 4 };
        format!("{value:.decimals$}")
    }

    /// The mean of each figure over those that have it; the unanswered pixels of all.
    fn mean(all: &[Self]) -> Self {
        let mean = |figure: fn(&Self) -> Option<f64>| {
            let present: Vec<f64> = all.iter().filter_map(figure).collect();
            (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64)
        };
        Self {
            epe: mean(|m| m.epe),
            px1: mean(|m| m.px1),
            px3: mean(|m| m.px3),
            px5: mean(|m| m.px5),
            fl: mean(|m| m.fl),
            fl_bg: mean(|m| m.fl_bg),
            fl_fg: mean(|m| m.fl_fg),
            aae: mean(|m| m.aae),
            wauc: mean(|m| m.wauc),
            s0_10: mean(|m| m.s0_10),
            s10_40: mean(|m| m.s10_40),
            s40_plus: mean(|m| m.s40_plus),
            matched: mean(|m| m.matched),
            unmatched: mean(|m| m.unmatched),
            d0_10: mean(|m| m.d0_10),
            d10_60: mean(|m| m.d10_60),
            d60_140: mean(|m| m.d60_140),
            density: mean(|m| m.density),
            unanswered: all.iter().map(|m| m.unanswered).sum(),
        }
    }
}

/// The tallies of the pairs of a data set, in order.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    pairs: Vec<Tally>,
}

/// A data set's figures in both averages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Pairs that were scored.
    pub pairs: usize,
    /// Pixels that were scored.
    pub scored_pixels: u64,
    /// Pixels with known truth at which the estimates are unknown, not finite, or 1e9 px or more.
    pub unanswered_pixels: u64,
    /// [`Average::Pixels`].
    pub over_pixels: Metrics,
    /// [`Average::Images`].
    pub over_images: Metrics,
}

impl Evaluation {
    /// Adds the next pair.
    pub fn add(&mut self, pair: Tally) {
        self.pairs.push(pair);
    }

    /// The tallies added so far.
    pub fn pairs(&self) -> &[Tally] {
        &self.pairs
    }

    /// The figures under one rule of averaging. A batch size of 0 counts as 1.
    pub fn average(&self, rule: Average) -> Metrics {
        let over_pixels = |pairs: &[Tally]| {
            let mut total = Tally::default();
            pairs.iter().for_each(|pair| total.merge(pair));
            Metrics::of(&total)
        };
        let groups = |size: usize| self.pairs.chunks(size.max(1)).map(over_pixels).collect::<Vec<_>>();
        match rule {
            Average::Pixels => over_pixels(&self.pairs),
            Average::Images => Metrics::mean(&groups(1)),
            Average::Batches(size) => Metrics::mean(&groups(size)),
        }
    }

    /// The figures in both averages.
    pub fn summary(&self) -> Summary {
        Summary {
            pairs: self.pairs.len(),
            scored_pixels: self.pairs.iter().map(Tally::scored).sum(),
            unanswered_pixels: self.pairs.iter().map(|p| p.unanswered).sum(),
            over_pixels: self.average(Average::Pixels),
            over_images: self.average(Average::Images),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FlowField, Size, metrics::Truth};

    /// Pairs of 1, 3, 1 and 1 pixels with errors 4, 0, 1 and 3.
    fn evaluation() -> Evaluation {
        let mut all = Evaluation::default();
        for (pixels, error) in [(1, 4.0), (3, 0.0), (1, 1.0), (1, 3.0)] {
            let truth = FlowField::zeros(Size::new(1, pixels));
            let estimate = FlowField::from_fn(Size::new(1, pixels), |_, _| (error, 0.0));
            all.add(Tally::of(&estimate, &Truth::new(&truth)).unwrap());
        }
        all
    }

    #[test]
    fn the_averages_differ_and_are_named() {
        let all = evaluation();
        assert_eq!(all.average(Average::Pixels).epe, Some(8.0 / 6.0));
        assert_eq!(all.average(Average::Images).epe, Some(8.0 / 4.0));
        // (4 + 0*3)/4 and (1 + 3)/2.
        assert_eq!(all.average(Average::Batches(2)).epe, Some((1.0 + 2.0) / 2.0));
        // (4 + 0*3 + 1)/5 and 3 alone.
        assert_eq!(all.average(Average::Batches(3)).epe, Some((1.0 + 3.0) / 2.0));
        let summary = all.summary();
        assert_eq!((summary.pairs, summary.scored_pixels), (4, 6));
        assert_eq!(summary.over_images, all.average(Average::Images));
        let json = serde_json::to_value(summary).unwrap();
        assert_eq!(json["over_images"]["epe"], 2.0);
        assert!(json["over_pixels"]["matched"].is_null());
    }

    #[test]
    fn a_pair_without_scored_pixels_does_not_count() {
        let mut all = evaluation();
        let nothing = FlowField::sparse_from_fn(Size::new(1, 2), |_, _| None);
        all.add(Tally::of(&FlowField::zeros(Size::new(1, 2)), &Truth::new(&nothing)).unwrap());
        assert_eq!(all.average(Average::Images).epe, Some(2.0));
        assert_eq!(Evaluation::default().summary().over_pixels, Metrics::default());
    }

    #[test]
    fn unanswered_pixels_are_counted_under_every_rule() {
        let mut all = evaluation();
        let half = FlowField::sparse_from_fn(Size::new(1, 4), |x, _| (x < 2).then_some((2.0, 0.0)));
        all.add(Tally::of(&half, &Truth::new(&FlowField::zeros(Size::new(1, 4)))).unwrap());
        for rule in [Average::Pixels, Average::Images, Average::Batches(2)] {
            let metrics = all.average(rule);
            assert_eq!(metrics.unanswered, 2, "{rule:?}");
            assert!(metrics.rows().contains(&("unanswered", "pixels", Some(2.0))));
        }
        assert_eq!(Metrics::written("pixels", 2.0), "2");
    }
}
