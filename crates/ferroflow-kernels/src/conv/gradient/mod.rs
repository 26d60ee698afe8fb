//! The weight gradient of a layer, by each algorithm that can compute it, and the gradient of its bias.

mod bias;
mod direct;
mod few;
mod form;
mod product;
mod target;
mod winograd;

pub use bias::bias_gradient;
use form::GradientCandidate;
pub(super) use form::{Correlation, WeightGradient};

use super::layer::Options;

/// The ways to compute a weight gradient.
pub(super) fn candidates(correlation: &Correlation, options: Options) -> Vec<GradientCandidate> {
    let mut all = vec![direct::candidate(correlation, options)];
    all.extend(few::candidate(correlation, options));
    all.extend(winograd::candidates(correlation, options));
    all.retain(|c| c.exact || !options.exact);
    all
}

/// The one expected to be fastest.
pub(super) fn cheapest(correlation: &Correlation, options: Options) -> Box<dyn WeightGradient> {
    let all = candidates(correlation, options).into_iter();
    all.min_by(|a, b| a.seconds.total_cmp(&b.seconds)).expect("the direct way takes every layer").gradient
}
