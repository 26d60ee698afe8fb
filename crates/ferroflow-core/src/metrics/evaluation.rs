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
    pub aae: Option<f64>,
    pub wauc: Option<f64>,
    pub s0_10: Option<f64>,
    pub s10_40: Option<f64>,
    pub s40_plus: Option<f64>,
    pub matched: Option<f64>,
    pub unmatched: Option<f64>,
    pub density: Option<f64>,
    pub unanswered: u64,
}

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
            aae: tally.angle.mean(),
            wauc: tally.wauc(),
            s0_10: tally.speed[0].mean(),
            s10_40: tally.speed[1].mean(),
            s40_plus: tally.speed[2].mean(),
            matched: tally.matched.mean(),
            unmatched: tally.unmatched.mean(),
            density: (tally.pixels > 0).then(|| 100.0 * scored / tally.pixels as f64),
            unanswered: tally.unanswered,
        }
    }

    /// Every figure with its name and unit, in the order of reports. [`Metrics::written`] formats a figure as tables show it.
    pub fn rows(&self) -> [(&'static str, &'static str, Option<f64>); 14] {
        [
            ("epe", "px", self.epe),
            ("px1", "%", self.px1),
            ("px3", "%", self.px3),
            ("px5", "%", self.px5),
            ("fl", "%", self.fl),
            ("aae", "degrees", self.aae),
            ("wauc", "", self.wauc),
            ("s0_10", "px", self.s0_10),
            ("s10_40", "px", self.s10_40),
            ("s40_plus", "px", self.s40_plus),
            ("matched", "px", self.matched),
            ("unmatched", "px", self.unmatched),
            ("density", "%", self.density),
            ("unanswered", "pixels", Some(self.unanswered as f64)),
        ]
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
            aae: mean(|m| m.aae),
            wauc: mean(|m| m.wauc),
            s0_10: mean(|m| m.s0_10),
            s10_40: mean(|m| m.s10_40),
            s40_plus: mean(|m| m.s40_plus),
            matched: mean(|m| m.matched),
            unmatched: mean(|m| m.unmatched),
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
