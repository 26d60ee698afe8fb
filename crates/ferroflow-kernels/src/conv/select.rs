//! Which algorithm computes a layer: every family of engines lists what it can do, the time and the memory that it expects
//! to take; the cheapest is taken.

use std::sync::OnceLock;

use super::{Engine, Options, Problem, bf16, direct, few, reference, winograd};
use crate::Isa;

/// Prepares an engine, all but its weights.
pub(super) type Build = Box<dyn FnOnce(&Problem, Options) -> Box<dyn Engine>>;

/// One way to compute a layer.
pub(super) struct Candidate {
    /// What [`Engine::name`] will say.
    pub name: String,
    /// Expected seconds, on [`Options::threads`] of a [`Machine`].
    pub seconds: f64,
    /// Floats of prepared weights, which take time where weights change.
    pub weights: usize,
    /// Only sums of products of the given numbers (see [`Options::exact`]).
    pub exact: bool,
    /// Prepares it.
    pub build: Build,
}

/// The families of engines. Each lists its ways to compute a layer: none if the layer is not of its kind.
const FAMILIES: &[fn(&Problem, Options) -> Vec<Candidate>] =
    &[reference::candidates, direct::candidates, few::candidates, winograd::candidates, bf16::candidates];

/// What a float of prepared weights must save, in seconds a run: a millisecond for 10 MB. FlowNet2 has four networks' worth
/// of weights in memory; at 25 MB they took a fifth more of it.
const MEMORY: f64 = 1e-3 * 4.0 / 10e6;

/// Share of the shorter of arithmetic and memory traffic that the longer does not hide.
const EXPOSED: f64 = 0.7;

impl Candidate {
    fn price(&self) -> f64 {
        self.seconds + MEMORY * self.weights as f64
    }
}

/// Every way to compute a problem, the cheapest first.
pub(super) fn candidates(problem: &Problem, options: Options) -> Vec<Candidate> {
    let mut all: Vec<_> = FAMILIES.iter().flat_map(|family| family(problem, options)).collect();
    all.retain(|c| c.exact || !options.exact);
    all.sort_by(|a, b| a.price().total_cmp(&b.price()));
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

/// How much faster than its excess a working set larger than a cache loses it.
const THRASH: f64 = 1.4;

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
    /// A server core of each instruction set, both cores at work. AVX-512's rates are fitted to timings of 22 layers in many
    /// blockings; AVX2's keeps their ratio to the peak.
    pub fn of(isa: Isa) -> Self {
        let flops = match isa {
            Isa::Portable => 20e9,
            Isa::Neon => 50e9,
            Isa::Avx2 => 75e9,
            Isa::Avx512 => 115e9,
        };
        Self { flops, l3: 18e9, dram: 18e9, l2_bytes: l2_bytes() }
    }

    /// Seconds to read weights from memory, as a layer in a network does.
    pub fn cold(&self, bytes: f64) -> f64 {
        bytes / self.dram
    }

    /// Share of a working set of `bytes` that a cache of `cache` bytes loses between its uses.
    pub fn lost(bytes: f64, cache: f64) -> f64 {
        (THRASH * (1.0 - cache / bytes)).clamp(0.0, 1.0)
    }

    /// Seconds that arithmetic and memory traffic, or two kinds of traffic, take together.
    pub fn together(&self, a: f64, b: f64) -> f64 {
        a.max(b) + EXPOSED * a.min(b)
    }
}

/// Bytes of this processor's second-level cache, or 1 MB if it does not say.
fn l2_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| cpu_l2_bytes().unwrap_or(1 << 20))
}

#[cfg(target_arch = "x86_64")]
fn cpu_l2_bytes() -> Option<usize> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    // The caches are in leaf 4 of Intel's processors and in 0x8000_001d, in the same form, of AMD's.
    let leaf = |leaf: u32| {
        (0..8).map(move |i| __cpuid_count(leaf, i)).take_while(|c| c.eax & 0x1f != 0).find(|c| c.eax >> 5 & 7 == 2).map(
            |c| {
                let field = |shift: u32, bits: u32| ((c.ebx >> shift) & ((1 << bits) - 1)) as usize + 1;
                field(22, 10) * field(12, 10) * field(0, 12) * (c.ecx as usize + 1)
            },
        )
    };
    let intel = (__cpuid(0).eax >= 4).then(|| leaf(4)).flatten();
    intel.or_else(|| (__cpuid(0x8000_0000).eax >= 0x8000_001d).then(|| leaf(0x8000_001d)).flatten())
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_l2_bytes() -> Option<usize> {
    None
}
