//! What the kernels assume of the machine they run on.

use std::sync::OnceLock;

use crate::Isa;

/// What a float of prepared weights must save, in seconds a run: a millisecond for 10 MB. FlowNet2 has four networks' worth
/// of weights in memory; at 25 MB they took a fifth more of it.
pub(crate) const WEIGHT_FLOAT_SECONDS: f64 = 1e-3 * 4.0 / 10e6;

/// The number of threads that algorithms are chosen for, so that the choice (and so the rounding of results) is the same
/// on any number.
pub(crate) const PLANNED_THREADS: usize = 2;

/// Seconds to prepare one float of weights on [`PLANNED_THREADS`].
pub(crate) const PREPARE_SECONDS: f64 = 0.7e-9;

/// Share of the shorter of arithmetic and memory traffic that the longer does not hide.
const EXPOSED: f64 = 0.7;

/// How much faster than its excess a working set larger than a cache loses it.
const THRASH: f64 = 1.4;

/// What the cost estimates assume of one core. Only the ratios matter for a choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
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
