//! Which length of flow is painted at full strength. A video that is scaled frame by frame flickers; a fixed length, or the
//! length of the whole sequence, keeps its colours steady.

use super::Colours;
use crate::FlowField;

/// The rule for the length at full strength.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Normalisation {
    /// The longest vector of each flow.
    #[default]
    Frame,
    /// This length in pixels, the same for every flow.
    Fixed(f64),
    /// The length that this percentage of each flow's vectors do not exceed, so that one outlier does not pale the rest.
    Percentile(f64),
    /// The longest vector of all flows observed so far.
    Sequence,
}

/// The lengths that colours run between, in px.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The length that is painted as no motion: 0, or with [`Colours::Hsv`] and [`Normalisation::Frame`] the shortest vector's.
    pub low: f64,
    /// The length that is painted at full strength.
    pub high: f64,
}

/// A [`Normalisation`] at work on a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaler {
    rule: Normalisation,
    longest: f64,
}

impl Scaler {
    /// Starts a sequence.
    pub fn new(rule: Normalisation) -> Self {
        Self { rule, longest: 0.0 }
    }

    /// Notes a flow of the sequence before any is painted. With [`Normalisation::Sequence`], observe all flows first for colours
    /// that stay the same, or none for a scale that only grows.
    pub fn observe(&mut self, flow: &FlowField, colours: Colours) {
        self.longest = self.longest.max(lengths(flow, colours).fold(0.0, f64::max));
    }

    /// The scale for this flow. Without any known and finite vector, or without motion, 1 px is full strength.
    pub fn scale(&mut self, flow: &FlowField, colours: Colours) -> Scale {
        let (mut low, high) = (
            0.0,
            match self.rule {
                Normalisation::Fixed(px) => px,
                Normalisation::Percentile(percent) => percentile(lengths(flow, colours).collect(), percent),
                Normalisation::Frame => lengths(flow, colours).fold(0.0, f64::max),
                Normalisation::Sequence => {
                    self.observe(flow, colours);
                    self.longest
                }
            },
        );
        if matches!((self.rule, colours), (Normalisation::Frame, Colours::Hsv { .. })) {
            // Min-max, as the original has it; a flow of one length everywhere is then without motion.
            low = lengths(flow, colours).fold(f64::INFINITY, f64::min);
            low = if low.is_finite() { low } else { 0.0 };
        }
        if high > 0.0 && high.is_finite() { Scale { low, high } } else { Scale { low: 0.0, high: 1.0 } }
    }
}

/// What a colouring takes for the length of each known, finite vector.
fn lengths(flow: &FlowField, colours: Colours) -> impl Iterator<Item = f64> + '_ {
    let known = flow.validity().map(|m| m.data());
    flow.u().iter().zip(flow.v()).enumerate().filter_map(move |(i, (&u, &v))| {
        let present = known.is_none_or(|k| k[i]) && u.is_finite() && v.is_finite();
        present.then(|| colours.length(u.into(), v.into()))
    })
}

/// Nearest rank; 0 of nothing.
fn percentile(mut lengths: Vec<f64>, percent: f64) -> f64 {
    if lengths.is_empty() {
        return 0.0;
    }
    // `as` makes 0 of NaN and of what is below 0.
    let rank = (percent / 100.0 * lengths.len() as f64).ceil() as usize;
    let at = rank.clamp(1, lengths.len()) - 1;
    *lengths.select_nth_unstable_by(at, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Size, viz::Zero};

    const WHEEL: Colours = Colours::Wheel { zero: Zero::White, gamma: 1.0 };

    fn ramp(n: usize) -> FlowField {
        FlowField::from_fn(Size::new(1, n), |x, _| (0.0, (x + 1) as f32))
    }

    #[test]
    fn each_rule_by_hand() {
        let high = |rule| Scaler::new(rule).scale(&ramp(200), WHEEL).high;
        assert_eq!(high(Normalisation::Frame), 200.0);
        assert_eq!(high(Normalisation::Fixed(12.5)), 12.5);
        assert_eq!(high(Normalisation::Percentile(99.0)), 198.0);
        assert_eq!(high(Normalisation::Percentile(0.0)), 1.0);
        assert_eq!(high(Normalisation::Percentile(1e9)), 200.0);
        for rule in [Normalisation::Fixed(0.0), Normalisation::Fixed(f64::NAN), Normalisation::Fixed(-3.0)] {
            assert_eq!(high(rule), 1.0);
        }
    }

    #[test]
    fn a_sequence_observed_first_has_one_scale() {
        let mut scaler = Scaler::new(Normalisation::Sequence);
        assert_eq!(scaler.scale(&ramp(3), WHEEL).high, 3.0);
        scaler.observe(&ramp(50), WHEEL);
        assert_eq!(scaler.scale(&ramp(3), WHEEL).high, 50.0);
    }

    #[test]
    fn what_is_unknown_or_not_finite_sets_no_scale() {
        let wild = FlowField::from_fn(Size::new(1, 3), |x, _| ([f32::NAN, f32::INFINITY, 2.0][x], 0.0));
        assert_eq!(Scaler::new(Normalisation::Frame).scale(&wild, WHEEL).high, 2.0);
        let unknown = FlowField::sparse_from_fn(Size::new(1, 2), |_, _| None);
        for colours in [WHEEL, Colours::Hsv { zero: Zero::White }, Colours::LightFlow] {
            assert_eq!(Scaler::new(Normalisation::Frame).scale(&unknown, colours), Scale { low: 0.0, high: 1.0 });
        }
    }
}
