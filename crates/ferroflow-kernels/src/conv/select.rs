//! Which algorithm computes a layer: every family of engines lists what it can do, the time and the memory that it expects
//! to take; the cheapest is taken.

use super::{
    bf16, direct,
    engine::{Candidate, Engine},
    few,
    layer::Options,
    problem::Problem,
    reference, winograd,
};
use crate::machine::select::WEIGHT_FLOAT_SECONDS;

/// The families of engines. Each lists its ways to compute a layer: none if the layer is not of its kind.
const FAMILIES: &[fn(&Problem, Options) -> Vec<Candidate>] =
    &[reference::candidates, direct::candidates, few::candidates, winograd::candidates, bf16::candidates];

/// Every way to compute a problem, the cheapest first.
pub(super) fn candidates(problem: &Problem, options: Options) -> Vec<Candidate> {
    let mut all: Vec<_> = FAMILIES.iter().flat_map(|family| family(problem, options)).collect();
    all.retain(|c| c.exact || !options.exact);
    let price = |c: &Candidate| c.seconds + WEIGHT_FLOAT_SECONDS * c.weights as f64;
    all.sort_by(|a, b| price(a).total_cmp(&price(b)));
    all
}

/// The engine of the cheapest candidate, or of the one that `options` names.
pub(super) fn engine(problem: &Problem, options: Options) -> Box<dyn Engine> {
    let all = candidates(problem, options);
    let names: Vec<_> = all.iter().map(|c| c.name.clone()).collect();
    let chosen = all.into_iter().find(|c| options.algorithm.is_none_or(|name| c.name == name));
    match chosen {
        Some(candidate) => (candidate.build)(problem, options),
        None => panic!("no algorithm {:?} for {:?}; there are {names:?}", options.algorithm, problem.shape),
    }
}
