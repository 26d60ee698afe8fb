//! Which algorithm computes a layer: every family of engines lists what it can do and what it expects it to cost; the
//! cheapest is taken.

use super::{Engine, Layer, Options, direct, few, reference, winograd};
use crate::Isa;

/// One way to compute a layer.
pub(super) struct Candidate {
    /// What [`Engine::name`] will say.
    pub name: String,
    /// Expected seconds, on [`Options::threads`] of a [`Machine`].
    pub seconds: f64,
    /// Only sums of products of the given numbers (see [`Options::exact`]).
    pub exact: bool,
    /// Prepares it.
    pub build: Box<dyn FnOnce(&Layer<'_>, Options) -> Box<dyn Engine>>,
}

/// The families of engines. Each lists its ways to compute a layer: none if the layer is not of its kind.
const FAMILIES: &[fn(&Layer<'_>, Options) -> Vec<Candidate>] =
    &[reference::candidates, direct::candidates, few::candidates, winograd::candidates];

/// Every way to compute `layer`, the cheapest first.
pub(super) fn candidates(layer: &Layer<'_>, options: Options) -> Vec<Candidate> {
    let mut all: Vec<_> = FAMILIES.iter().flat_map(|family| family(layer, options)).collect();
    all.retain(|c| c.exact || !options.exact);
    all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    all
}

/// The engine of the cheapest candidate, or of the one that `options` names.
pub(super) fn engine(layer: &Layer<'_>, options: Options) -> Box<dyn Engine> {
    let all = candidates(layer, options);
    let names: Vec<_> = all.iter().map(|c| c.name.clone()).collect();
    let chosen = all.into_iter().find(|c| options.algorithm.is_none_or(|name| c.name == name));
    match chosen {
        Some(candidate) => (candidate.build)(layer, options),
        None => panic!("no algorithm {:?} for {:?}; there are {names:?}", options.algorithm, layer.shape),
    }
}

/// What the cost estimates assume of one core. Only the ratios matter for a choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// f32 operations per second of a register tile in cache.
    pub flops: f64,
    /// Bytes per second from the last-level cache, prefetched.
    pub l3: f64,
    /// Bytes per second from memory, shared by all cores.
    pub dram: f64,
    /// Bytes of the second-level cache.
    pub l2_bytes: usize,
}

impl Machine {
    /// A server core of each instruction set.
    pub fn of(isa: Isa) -> Self {
        let flops = match isa {
            Isa::Portable => 20e9,
            Isa::Avx2 => 100e9,
            Isa::Avx512 => 180e9,
        };
        Self { flops, l3: 25e9, dram: 15e9, l2_bytes: 1 << 20 }
    }
}
