//! What the kernels assume of the machine they run on: every number that decides which algorithm computes a layer, how
//! values are cut for the caches, and what is worth handing to another thread.
//!
//! A module names what uses its numbers and the command that shows whether another value is better; change one, run it
//! before and after, alternating. Commands are run in `crates/ferroflow-kernels`. A number that
//! chooses an algorithm or cuts a sum also moves the last digits of results. What only bounds the rounding of a sum (in `norm`,
//! `batch_norm`, `pack` and the gradient of a bias) stays beside it.
//!
//! Fitted on two cores of an Intel Xeon (Ice Lake, AVX-512, 1.25 MB of second-level cache each) unless said.

use std::sync::OnceLock;

use crate::Isa;

/// Rates and caches of a core, as [`Machine`] reports them to the cost estimates of `conv`.
///
/// `cargo run --release --example conv_table -- "" all` prints the time of every algorithm for each layer and the register
/// tile's rate beside it: the one chosen should be the fastest.
pub(crate) mod core {
    /// f32 operations per second of a register tile in cache, both cores at work: fitted to timings of 22 layers in many
    /// blockings.
    pub const FLOPS_AVX512: f64 = 115e9;
    /// The same, keeping AVX-512's ratio to the peak.
    pub const FLOPS_AVX2: f64 = 75e9;
    /// The same.
    pub const FLOPS_NEON: f64 = 50e9;
    /// The same.
    pub const FLOPS_PORTABLE: f64 = 20e9;
    /// bf16 operations per second of AVX512-BF16: twice the rate of f32. Processors that have tiles too are slower at it.
    #[cfg(target_arch = "x86_64")]
    pub const FLOPS_BF16_AVX512: f64 = 250e9;
    /// bf16 operations per second of AMX.
    pub const FLOPS_BF16_AMX: f64 = 1700e9;
    /// Bytes per second from the last-level cache, prefetched.
    pub const L3_BYTES_PER_SECOND: f64 = 18e9;
    /// Bytes per second from memory, shared by all cores.
    pub const DRAM_BYTES_PER_SECOND: f64 = 18e9;
    /// Bytes of the second-level cache of a processor that does not say.
    pub const L2_BYTES: usize = 1 << 20;
    /// Share of the shorter of arithmetic and memory traffic that the longer does not hide.
    pub const EXPOSED: f64 = 0.7;
    /// How much faster than its excess a working set larger than a cache loses it.
    pub const THRASH: f64 = 1.4;
}

/// Rows by vectors of the register tile of each instruction set, `Simd::TILE` and `Simd::PANEL`: what the registers hold.
///
/// `cargo run --release --example conv_table -- "" direct 1`: its column `peak` is the tile's rate in the first-level cache.
pub(crate) mod tile {
    /// 28 sums, 2 vectors and a broadcast operand in 32 registers.
    #[cfg(target_arch = "x86_64")]
    pub const AVX512: (usize, usize) = (14, 2);
    /// 12 sums, the two halves of a vector and a broadcast in 16 registers.
    #[cfg(target_arch = "x86_64")]
    pub const AVX2: (usize, usize) = (6, 1);
    /// 24 sums, 4 weights and the broadcast inputs in 32 registers.
    #[cfg(target_arch = "aarch64")]
    pub const NEON: (usize, usize) = (6, 1);
    /// As many as the compiler keeps in the registers of any target.
    pub const PORTABLE: (usize, usize) = (4, 1);
}

/// Choosing among algorithms: `conv::select` and `conv::training`.
///
/// Times as for [`core`]; memory is `ferroflow bench -m flownet2` (peak memory) for [`select::WEIGHT_FLOAT_SECONDS`]; training
/// is `cargo bench --bench training`.
pub(crate) mod select {
    /// What a float of prepared weights must save, in seconds a run: a millisecond for 10 MB. FlowNet2 has four networks'
    /// worth of weights in memory; at 25 MB they took a fifth more of it.
    pub const WEIGHT_FLOAT_SECONDS: f64 = 1e-3 * 4.0 / 10e6;
    /// The number of threads that the algorithms of training are chosen for, so that the choice (and so the rounding of
    /// results) is the same on any number.
    pub const PLANNED_THREADS: usize = 2;
    /// Seconds to prepare one float of weights on [`PLANNED_THREADS`].
    pub const PREPARE_SECONDS: f64 = 0.7e-9;
}

/// Direct convolution: `conv::direct`.
///
/// `cargo run --release --example conv_table -- "" direct`; `cargo bench --bench direct`.
pub(crate) mod direct {
    /// Share of [`Machine::flops`](super::Machine::flops) that a layer reaches.
    pub const EFFICIENCY: f64 = 0.8;
    /// Outputs of a strip: enough that weights read from a third-level cache cost little beside the arithmetic.
    pub const STRIP_POINTS: usize = 224;
    /// The same where the channels are packed.
    pub const PACKED_POINTS: usize = 1568;
    /// Columns of a strip at most.
    pub const STRIP_COLUMNS: usize = 112;
    /// Bytes of input that a strip may span.
    pub const STRIP_BYTES: usize = 512 << 10;
    /// Bytes of weights that a chunk may have: with its inputs it should stay in a second-level cache of 1 MB.
    pub const CHUNK_BYTES: usize = 256 << 10;
    /// Vectors of weights asked for ahead of use: eight steps of two vectors, the way from the second-level cache.
    pub const VECTORS_AHEAD: usize = 16;
}

/// Layers of few outputs: `conv::few`.
///
/// `cargo run --release --example conv_table -- "" few`.
pub(crate) mod few {
    /// Share of [`Machine::flops`](super::Machine::flops) that a layer reaches.
    pub const EFFICIENCY: f64 = 0.6;
    /// Accumulators of a band: 128 KB, a tenth of a second-level cache.
    pub const BAND_SUMS: usize = 2048;
    /// Columns of a band of a convolution.
    pub const COLUMNS: usize = 64;
    /// Input blocks walked together: three rows of each stay in the cache even where the planes' distance is a power of two.
    pub const GROUP: usize = 8;
}

/// Winograd convolution: `conv::winograd`.
///
/// `cargo run --release --example conv_table -- "" winograd`.
pub(crate) mod winograd {
    /// Tiles of a chunk that has its own V and M, to choose from: whole register tiles.
    pub const CHUNKS: [usize; 4] = [14, 28, 42, 56];
    /// Input blocks at a time, to choose from.
    pub const BLOCKS: [usize; 10] = [2, 3, 4, 6, 8, 12, 16, 24, 32, usize::MAX];
    /// Tiles of a chunk whose V and M all threads share, to choose from.
    pub const STAGED_CHUNKS: [usize; 4] = [56, 112, 168, MAX_TILES];
    /// Most tiles of a chunk.
    pub const MAX_TILES: usize = 256;
    /// Tiles that one task transforms in a staged layer.
    pub const STAGE_TILES: usize = 32;
    /// Operations that transforming one vector of 16 costs, loads and stores included, at the rate of the products.
    pub const TRANSFORM: f64 = 1050.0;
    /// Rows that a register tile loses to its beginning and end: fewer rows are slower by that.
    pub const TILE_OVERHEAD: f64 = 1.5;
    /// How much slower the products of a panel of one vector are where two fit.
    pub const ODD_PANEL: f64 = 0.18;
    /// Transforms that adding to an M which is there costs.
    pub const ACCUMULATE: f64 = 0.1;
    /// Share of the second-level caches in which V or M of a staged chunk stays.
    pub const STAGED_SHARE: f64 = 0.5;
    /// Passes over memory that V and M of a staged chunk cost: written in scattered lines, read once.
    pub const THROUGH: f64 = 5.0;
    /// Seconds to bring threads together.
    pub const BARRIER: f64 = 5e-6;
}

/// Convolution in bf16: `conv::bf16`.
///
/// `ferroflow bench -m pwcnet --precision bf16 --profile` on a processor with AMX or AVX512-BF16. The rates are in [`core`].
pub(crate) mod bf16 {
    /// Share of the products' rate that a layer reaches.
    pub const EFFICIENCY: f64 = 0.8;
    /// Outputs of a strip at most: enough that weights read from a third-level cache cost little beside the products.
    pub const STRIP_POINTS: usize = 1024;
    /// Fewer than this are not worth a strip, while threads can share the channels.
    pub const LEAST_POINTS: usize = 128;
    /// Bytes of a strip's copy: it stays in the second-level cache beside a panel's weights.
    pub const STRIP_BYTES: usize = 384 << 10;
    /// Pixels that are copied in the time in which a strip's weights are read anew.
    pub const STRIP_PIXELS: usize = 128;
}

/// Weight gradients: `conv::gradient`.
///
/// `cargo bench --bench training`; the rates were fitted to timings of 34 layers with AVX-512.
pub(crate) mod gradient {
    /// Share of the peak that the register tiles of the direct way reach.
    pub const DIRECT_EFFICIENCY: f64 = 0.77;
    /// Points that such a tile runs over before the next: with their image rows they should stay in the first-level cache.
    pub const RUN_POINTS: usize = 256;
    /// Share of the peak that layers of few outputs reach.
    pub const FEW_EFFICIENCY: f64 = 0.5;
    /// Share of the peak that products of Winograd's domain reach.
    pub const WINOGRAD_EFFICIENCY: f64 = 0.85;
    /// Tiles of a chunk, to choose from.
    pub const CHUNKS: [usize; 11] = [32, 48, 64, 96, 128, 192, 256, 384, 512, 768, MAX_TILES];
    /// Most tiles of a chunk.
    pub const MAX_TILES: usize = 1024;
    /// Most bytes of V and W of a chunk.
    pub const CHUNK_BYTES: usize = 8 << 20;
    /// Tiles that one task transforms.
    pub const STAGE_TILES: usize = 32;
    /// Operations that transforming one vector of 16 costs, loads and stores apart, at the rate of the products.
    pub const TRANSFORM: f64 = 400.0;
    /// Operations that taking one float of the gradient of U to taps costs.
    pub const FILTER: f64 = 60.0;
    /// Times that V and W pass through a cache: written in scattered lines, read by each panel.
    pub const THROUGH: f64 = 2.4;
    /// What one of the layers can expect of a third-level cache.
    pub const L3_BYTES: f64 = 13e6;
    /// Channels ahead of the one whose taps are computed, whose part of U is fetched: each point's lies elsewhere.
    pub const CHANNELS_AHEAD: usize = 4;
}

/// Preparing weights: `conv::problem`.
///
/// `cargo bench --bench training` (forward includes new weights).
pub(crate) mod weights {
    /// Inputs ahead of the one whose taps are read, whose weights are fetched: sixteen outputs' lie in sixteen places.
    pub const INPUTS_AHEAD: usize = 4;
}

/// Passes over values, pixel by pixel: `rows`, `pack`, `pixelwise`, `resize`, `correlation`.
///
/// `cargo bench --bench ops`.
pub(crate) mod passes {
    /// Below this many floats the hand-over to another thread costs more than it saves.
    pub const SMALL: usize = 1 << 14;
    /// Pixels of a block that a task has: 64 KB of output, half of an L2 with the inputs, and enough pieces for every thread.
    pub const PIXELS: usize = 1024;
    /// Pixels of frames that a task packs: as many as fill some 48 KB.
    pub const PACK_PIXELS: usize = 2048;
    /// Pixels of frames at a time: their channels stay in L1.
    pub const PACK_RUN: usize = 128;
    /// Pixels that the operations of a field are computed for at a time.
    pub const FIELD_RUN: usize = 128;
    /// Rows of the flow at full size that one task makes: neighbours read the same rows of the small one.
    pub const FLOW_ROWS: usize = 16;
    /// Channels of a correlation summed at a time: their rows stay in L1.
    pub const CORRELATION_CHANNELS: usize = 64;
    /// Rows of a feature that one task lays out for a correlation.
    pub const CORRELATION_ROWS: usize = 4;
}

/// Threads that wait for the next layer: `team`.
///
/// `ferroflow bench -m lightflow` on one thread, on all, and beside another program that computes.
pub(crate) mod team {
    /// Moments after which others may have the processor, about 50 microseconds.
    pub const PATIENCE: u32 = 1000;
    /// Moments after which members who have not come are not expected any more, some milliseconds.
    pub const PATIENCE_WITH_OTHERS: u32 = 20 * PATIENCE;
}

/// Large buffers: `buffer`.
///
/// `ferroflow bench -m flownet2`.
pub(crate) mod memory {
    /// From this size on a buffer is asked to lie on pages of this size: a network that walks through hundreds of megabytes
    /// of weights otherwise waits for addresses to be translated.
    pub const HUGE: usize = 2 << 20;
}

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
    /// A core of this instruction set.
    pub fn of(isa: Isa) -> Self {
        let flops = match isa {
            Isa::Portable => core::FLOPS_PORTABLE,
            Isa::Neon => core::FLOPS_NEON,
            Isa::Avx2 => core::FLOPS_AVX2,
            Isa::Avx512 => core::FLOPS_AVX512,
        };
        Self { flops, l3: core::L3_BYTES_PER_SECOND, dram: core::DRAM_BYTES_PER_SECOND, l2_bytes: l2_bytes() }
    }

    /// Seconds to read weights from memory, as a layer in a network does.
    pub fn cold(&self, bytes: f64) -> f64 {
        bytes / self.dram
    }

    /// Share of a working set of `bytes` that a cache of `cache` bytes loses between its uses.
    pub fn lost(bytes: f64, cache: f64) -> f64 {
        (core::THRASH * (1.0 - cache / bytes)).clamp(0.0, 1.0)
    }

    /// Seconds that arithmetic and memory traffic, or two kinds of traffic, take together.
    pub fn together(&self, a: f64, b: f64) -> f64 {
        a.max(b) + core::EXPOSED * a.min(b)
    }
}

/// Bytes of this processor's second-level cache, or [`core::L2_BYTES`] if it does not say.
fn l2_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| if cfg!(miri) { core::L2_BYTES } else { cpu_l2_bytes().unwrap_or(core::L2_BYTES) })
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
