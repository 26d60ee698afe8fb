//! Winograd convolution: fewer products for small filters (Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural
//! Networks"), for stride 1, dilated, stride 2 and transposed layers alike (see [`scheme`]).
//!
//! Chunk by chunk of tiles: the input transform writes V, one matrix product per point takes V and the transformed
//! weights U to M, the inverse transform writes outputs.

mod cost;
pub(super) mod input;
pub(super) mod memory;
mod output;
pub(super) mod points;
mod product;
pub(super) mod scheme;
#[cfg(test)]
mod tests;
pub(super) mod transform;
mod weights;

use self::{
    input::InputTransform,
    memory::{Blocking, Memory},
    output::OutputTransform,
    product::Product,
    scheme::{Place, Scheme, Tiles},
};
use super::{
    engine::{Candidate, Engine, Epilogue, set_bias},
    layer::Options,
    problem::{Filter, Problem},
};
use crate::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, LaneMap, Scratch,
    disjoint::Disjoint,
    gemm::register_tile,
    machine::winograd::{MAX_TILES, STAGE_TILES},
    simd, team,
};

/// The numbers of points that layers whose longest filter has `taps` may use. F(7, 2) rounds too much; odd numbers serve
/// only two taps, which leave few to choose from.
fn sizes([rows, columns]: [usize; 2]) -> &'static [usize] {
    match rows.max(columns) {
        _ if rows != columns => &[6, 8],
        2 => &[3, 4, 5, 6, 7],
        3 => &[4, 6, 8],
        _ => &[6, 8],
    }
}

/// F(m, r) for every m there are points for.
pub(super) fn candidates(problem: &Problem, options: Options) -> Vec<Candidate> {
    let Some(taps) = Scheme::taps(&problem.shape) else { return Vec::new() };
    let (input, output) = (problem.input, problem.output);
    if input.is_empty() || output.is_empty() || problem.lanes.iter().all(Option::is_none) {
        return Vec::new();
    }
    let (tile, panel) = register_tile(options.isa);
    sizes(taps)
        .iter()
        .filter_map(|&n| {
            let scheme = Scheme::new(problem, n)?;
            let (blocking, seconds) = cost::plan(problem, &scheme, options, tile, panel);
            Some(Candidate {
                name: scheme.name(),
                seconds,
                weights: problem.lanes.len()
                    * problem.shape.out_channels.next_multiple_of(LANES)
                    * scheme.products()
                    * scheme.outputs.len(),
                exact: false,
                build: Box::new(move |problem, options| Box::new(Winograd::new(problem, scheme, blocking, options))),
            })
        })
        .collect()
}

struct Winograd {
    isa: Isa,
    threads: usize,
    scheme: Scheme,
    tiles: Tiles,
    memory: Memory,
    lanes: LaneMap,
    u: Buffer,
    bias: Buffer,
    /// Floats per pixel of an input block.
    pixel: usize,
    /// Blocks of the output.
    blocks: usize,
}

/// One run's values, as the threads share them.
struct Values<'a> {
    input: Blocks<'a>,
    epilogue: Epilogue<'a>,
    extent: Extent,
    outputs: Vec<Disjoint<'a>>,
}

/// Some tiles of a chunk's V.
struct PartOfV<'a> {
    /// Input phase.
    phase: usize,
    /// Channel chunk, and block of it.
    chunk: usize,
    block: usize,
    /// The first tile, and where all lie.
    first: usize,
    places: &'a [Place],
}

/// Working memory that threads share, each writing its own part of it.
#[derive(Clone, Copy)]
struct Shared<'a> {
    v: Disjoint<'a>,
    m: Disjoint<'a>,
}

impl Winograd {
    fn new(problem: &Problem, scheme: Scheme, blocking: Blocking, options: Options) -> Self {
        let blocks = problem.shape.out_channels.div_ceil(LANES);
        let vectors = blocks * scheme.outputs.len();
        let (_, panel) = register_tile(options.isa);
        let memory = Memory::new(&scheme, scheme.used_channels(&problem.lanes), vectors, panel, blocking);
        Self {
            isa: options.isa,
            threads: options.threads,
            tiles: Tiles::new(&scheme, problem.input.n),
            u: Buffer::zeroed(memory.u_len),
            bias: Buffer::zeroed(blocks * LANES),
            pixel: problem.lanes.len().min(LANES),
            lanes: problem.lanes.clone(),
            blocks,
            scheme,
            memory,
        }
    }

    /// Computes a part of `v`.
    ///
    /// # Safety
    /// `v` is a V of this layer; nobody else uses these tiles of this block and phase.
    unsafe fn input(&self, values: &Values<'_>, v: *mut f32, part: PartOfV<'_>) {
        let PartOfV { phase, chunk, block, first, places } = part;
        let input = &self.scheme.inputs[phase];
        // SAFETY: `Memory` lays these tiles out inside V.
        unsafe {
            InputTransform {
                plane: values.input.planes[self.memory.chunk(chunk)[block].0],
                extent: values.input.extent,
                pixel: self.pixel,
                merged: self.scheme.merged,
                step: self.scheme.input_step,
                base: input.base,
                places,
                v: v.add(block * self.memory.v_block() + first * LANES),
                points: &self.memory.inputs[phase],
            }
            .run(self.isa, input.points);
        }
    }

    /// The products of one panel at one point, for the first `tiles` tiles; `m` is where the panel's M begins.
    ///
    /// # Safety
    /// `v` is a filled V of this layer and `m` valid for the panel; nobody else uses this point of M.
    unsafe fn product(&self, v: *const f32, m: *mut f32, chunk: usize, panel: usize, point: usize, tiles: usize) {
        let memory = &self.memory;
        let (first, vectors) = memory.panels[panel];
        if (first..first + vectors).all(|vector| self.scheme.vanishes(vector / self.blocks, point)) {
            for at in (0..vectors * tiles).filter(|_| chunk == 0) {
                let at = at / tiles * memory.m_vector() + at % tiles * memory.m_tile() + point * LANES;
                // SAFETY: as below: M has a line per vector, tile and point.
                unsafe { m.add(at).write_bytes(0, LANES) };
            }
            return;
        }
        // SAFETY: `Memory` lays V, U and M out for these tiles, channels and vectors.
        let product = unsafe {
            Product {
                v: v.add(memory.v_point(point)),
                phases: memory.phases(point),
                phase_step: memory.v_block() * memory.blocking.blocks,
                block_step: memory.v_block(),
                channels: memory.chunk(chunk),
                u: self.u.as_ptr().add(memory.u(chunk, panel, point)),
                m: m.add(point * LANES),
                tile_step: memory.m_tile(),
                vector_step: memory.m_vector(),
                tiles,
                vectors,
                add: chunk > 0,
            }
        };
        simd::run(self.isa, product);
    }

    /// The outputs of some tiles of one vector; `m` is where the first tile's M begins.
    ///
    /// # Safety
    /// `m` is filled; nobody else writes these tiles of this vector.
    unsafe fn output(&self, values: &Values<'_>, m: *const f32, vector: usize, places: &[Place]) {
        let (phase, block) = (&self.scheme.outputs[vector / self.blocks], vector % self.blocks);
        let addend = values.epilogue.addend(block, 0, values.outputs[block].at(0));
        // SAFETY: the planes have the extent (asserted by `ConvPlan::run`), the bias a vector per block.
        unsafe {
            OutputTransform {
                m,
                tile_step: self.memory.m_tile(),
                places,
                base: phase.base,
                step: self.scheme.output_step,
                output: values.outputs[block].at(0),
                extent: values.extent,
                residual: values.epilogue.adds().then_some(addend),
                bias: self.bias[block * LANES..].as_ptr(),
                slopes: [values.epilogue.activation.slope_before(), values.epilogue.activation.slope()],
            }
            .run(self.isa, self.scheme.points, self.scheme.m);
        }
    }

    /// All of some tiles, in memory of one thread.
    fn chunk(&self, values: &Values<'_>, places: &[Place], scratch: &mut [f32]) {
        let memory = &self.memory;
        let (v, m) = scratch.split_at_mut(memory.v_len());
        let (v, m) = (v.as_mut_ptr(), m[..memory.m_len()].as_mut_ptr());
        for chunk in 0..memory.chunks() {
            for phase in 0..self.scheme.inputs.len() {
                for block in 0..memory.chunk(chunk).len() {
                    // SAFETY: V is this thread's own.
                    unsafe { self.input(values, v, PartOfV { phase, chunk, block, first: 0, places }) };
                }
            }
            for (panel, &(first, count)) in memory.panels.iter().enumerate() {
                // SAFETY: M is this thread's own, and whole or as large as a panel; the tiles are this task's.
                unsafe {
                    let m = m.add(if memory.m_whole() { first * memory.m_vector() } else { 0 });
                    for point in 0..memory.points {
                        self.product(v, m, chunk, panel, point, places.len());
                    }
                    if chunk + 1 == memory.chunks() {
                        for vector in 0..count {
                            self.output(values, m.add(vector * memory.m_vector()), first + vector, places);
                        }
                    }
                }
            }
        }
    }

    /// All of some tiles, by all threads together.
    fn staged(&self, values: &Values<'_>, places: &[Place], shared: &Shared<'_>) {
        let memory = &self.memory;
        let parts = places.len().div_ceil(STAGE_TILES);
        let part = |i: usize| i * places.len() / parts..(i + 1) * places.len() / parts;
        for chunk in 0..memory.chunks() {
            let blocks = memory.chunk(chunk).len();
            self.each(self.scheme.inputs.len() * blocks * parts, |task| {
                let (phase, block, part) = (task / parts / blocks, task / parts % blocks, part(task % parts));
                // SAFETY: each task has its own tiles, block and phase of V.
                unsafe {
                    let part = PartOfV { phase, chunk, block, first: part.start, places: &places[part] };
                    self.input(values, shared.v.at(0), part);
                }
            });
            self.each(memory.points * memory.panels.len(), |task| {
                let (point, panel) = (task / memory.panels.len(), task % memory.panels.len());
                // SAFETY: each task has its own point and panel of M; V is complete.
                unsafe {
                    let m = shared.m.at(memory.panels[panel].0 * memory.m_vector());
                    self.product(shared.v.at(0), m, chunk, panel, point, places.len());
                }
            });
        }
        self.each(memory.vectors * parts, |task| {
            let (vector, part) = (task / parts, part(task % parts));
            // SAFETY: each task has its own tiles and vector; M is complete.
            unsafe {
                let m = shared.m.at(vector * memory.m_vector() + part.start * memory.m_tile());
                self.output(values, m, vector, &places[part]);
            }
        });
    }

    /// Runs tasks `0..count` on the layer's threads.
    fn each(&self, count: usize, task: impl Fn(usize) + Send + Sync) {
        if self.threads == 1 {
            (0..count).for_each(task);
        } else {
            team::for_each(count, task);
        }
    }
}

impl Engine for Winograd {
    fn set_weights(&mut self, filter: &Filter<'_>, bias: Option<&[f32]>) {
        weights::transform(filter, &self.lanes, self.blocks, &self.scheme, &self.memory, &mut self.u, self.isa);
        set_bias(&mut self.bias, bias);
    }

    fn run(&self, input: Blocks<'_>, epilogue: Epilogue<'_>, output: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        let values = Values { input, epilogue, extent: output.extent, outputs: Disjoint::blocks(output) };
        let count = self.tiles.count();
        let chunks = count.div_ceil(self.memory.blocking.tiles);
        let range = |i: usize| i * count / chunks..(i + 1) * count / chunks;
        let places = |i: usize, places: &mut [Place; MAX_TILES]| {
            let range = range(i);
            self.tiles.fill(range.start, &mut places[..range.len()]);
            range.len()
        };
        let len = self.memory.v_len() + self.memory.m_len();
        if self.memory.blocking.staged {
            scratch.with_shared(len, |memory| {
                let (v, m) = memory.split_at_mut(self.memory.v_len());
                let shared = Shared { v: Disjoint::new(v), m: Disjoint::new(m) };
                let mut buffer = [Place::default(); MAX_TILES];
                for i in 0..chunks {
                    let len = places(i, &mut buffer);
                    self.staged(&values, &buffer[..len], &shared);
                }
            });
        } else {
            self.each(chunks, |i| {
                let mut buffer = [Place::default(); MAX_TILES];
                let tiles = places(i, &mut buffer);
                scratch.with(len, |memory| self.chunk(&values, &buffer[..tiles], memory));
            });
        }
    }

    fn name(&self) -> String {
        self.scheme.name()
    }

    fn scratch_len(&self) -> usize {
        if self.memory.blocking.staged { 0 } else { self.memory.v_len() + self.memory.m_len() }
    }

    fn weight_bytes(&self) -> usize {
        4 * self.u.len()
    }
}
