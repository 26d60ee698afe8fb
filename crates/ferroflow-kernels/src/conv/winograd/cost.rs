//! How to cut a layer, and how long it will take: arithmetic and cache traffic of the three stages, tiles rounded up.
//!
//! What decides is where U comes from. Every chunk of tiles streams it once, so chunks should be long; but V and M of a
//! chunk should stay in the second-level cache, so chunks should be short, or take the channels in parts. Layers with many
//! channels and few tiles stream V and M instead (staged).

use super::{
    memory::Blocking,
    scheme::{Scheme, Tiles},
};
use crate::{
    LANES,
    conv::{layer::Options, problem::Problem},
    machine::{
        Machine,
        winograd::{
            ACCUMULATE, BARRIER, BLOCKS, CHUNKS, ODD_PANEL, STAGED_CHUNKS, STAGED_SHARE, THROUGH, TILE_OVERHEAD,
            TRANSFORM,
        },
    },
};

struct Model<'a> {
    machine: Machine,
    threads: f64,
    tile: usize,
    panel: usize,
    scheme: &'a Scheme,
    tiles: usize,
    blocks: usize,
    lanes: usize,
    vectors: usize,
}

/// The blocking for a layer, and the seconds expected with it. `tile` and `panel` are the instruction set's.
pub fn plan(problem: &Problem, scheme: &Scheme, options: Options, tile: usize, panel: usize) -> (Blocking, f64) {
    let channels = scheme.used_channels(&problem.lanes);
    let model = Model {
        machine: Machine::of(options.isa),
        threads: options.threads.max(1) as f64,
        tile,
        panel,
        scheme,
        tiles: Tiles::new(scheme, problem.input.n).count(),
        blocks: channels.len(),
        lanes: channels.iter().map(|c| c.1).sum(),
        vectors: problem.shape.out_channels.div_ceil(LANES) * scheme.outputs.len(),
    };
    // Whole register tiles; what is not a multiple is split evenly.
    let some = |counts: &[usize], most: usize| {
        let mut counts: Vec<_> = counts.iter().map(|&c| c.min(most)).collect();
        counts.dedup();
        counts
    };
    let steps = CHUNKS.map(|t| t / tile.min(14) * tile.min(14));
    // Tiles of one row or column are small.
    let lines = if scheme.m.contains(&1) { 4 } else { 1 };
    let mut all = Vec::new();
    for tiles in some(&steps.map(|t| lines * t), model.tiles) {
        for blocks in some(&BLOCKS, model.blocks) {
            all.push(Blocking { tiles, blocks, staged: false });
        }
    }
    for tiles in some(&STAGED_CHUNKS, model.tiles) {
        all.push(Blocking { tiles, blocks: model.blocks, staged: true });
    }
    let timed = all.into_iter().map(|blocking| (blocking, model.seconds(blocking)));
    timed.min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are blockings to compare")
}

impl Model<'_> {
    fn seconds(&self, blocking: Blocking) -> f64 {
        let points = self.scheme.count();
        let products = self.scheme.products();
        let chunks = self.tiles.div_ceil(blocking.tiles) as f64;
        let tiles = self.tiles as f64 / chunks;
        let parts = self.blocks.div_ceil(blocking.blocks) as f64;
        let bytes = |floats: f64| 4.0 * floats;
        let vector = LANES as f64;

        // Arithmetic, of all chunks. A register tile of fewer rows, or one vector wide, is slower.
        let rows = tiles / (tiles / self.tile as f64).ceil();
        let full = (rows / (rows + TILE_OVERHEAD)) / (self.tile as f64 / (self.tile as f64 + TILE_OVERHEAD));
        let odd = (self.vectors % self.panel) as f64 / self.vectors as f64;
        let product = 2.0 * self.tiles as f64 * (products * self.lanes * self.vectors * LANES) as f64;
        let product = product / full * (1.0 + ODD_PANEL * odd);
        let accumulated = (parts - 1.0) * ACCUMULATE * (points * self.vectors) as f64;
        // Along one axis instead of two.
        let axes = if self.scheme.m.contains(&1) { 0.5 } else { 1.0 };
        let transforms = axes
            * TRANSFORM
            * self.tiles as f64
            * ((products * self.blocks + points * self.vectors) as f64 + accumulated);
        let arithmetic = (product + transforms) / self.machine.flops;

        // Traffic beyond the second-level cache.
        let u = bytes((products * self.lanes * self.vectors * LANES) as f64);
        let v = bytes(tiles * (products * blocking.blocks) as f64 * vector);
        let m_panel = bytes(tiles * (points * self.panel) as f64 * vector);
        let m = bytes(tiles * (points * self.vectors) as f64 * vector);
        let panel = u / (points * self.vectors.div_ceil(self.panel)) as f64 / parts;
        let cache = self.machine.l2_bytes as f64;
        let traffic = if blocking.staged {
            let through = |size: f64| if size < STAGED_SHARE * cache * self.threads { 0.0 } else { THROUGH * size };
            chunks * (u + through(v) + through(m))
        } else {
            let held = v + 2.0 * panel + if parts > 1.0 { m } else { m_panel };
            let spilled = Machine::lost(held, cache);
            let again =
                v * self.vectors.div_ceil(self.panel) as f64 * parts + if parts > 1.0 { 2.0 * parts * m } else { 0.0 };
            let kept = u + v < cache;
            chunks * (spilled * again + if kept { 0.0 } else { u })
        };
        let memory = traffic / self.machine.l3;

        // In a network the weights come from memory once; all threads share that.
        let cold = self.machine.cold(u);
        let (tasks, barriers) = if blocking.staged { (f64::MAX, 3.0 * chunks) } else { (chunks, 1.0) };
        let share = if tasks == f64::MAX { 1.0 / self.threads } else { (tasks / self.threads).ceil() / tasks };
        let spread = share * self.machine.together(arithmetic, memory);
        let barriers = if self.threads > 1.0 { barriers * BARRIER } else { 0.0 };
        self.machine.together(spread, cold) + barriers
    }
}
