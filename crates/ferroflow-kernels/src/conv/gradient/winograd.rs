//! The weight gradient by Winograd's transforms. The forward algorithm `A^T [(G g) . (B^T d)]` is linear in the filter, so
//! its transpose is the gradient: `dg = G^T [(A dy) . (B^T d)]`, summed over the tiles.
//!
//! Chunk by chunk of tiles: the input transform writes V as in the forward pass, the points' transform writes
//! `W[point][block][tile][16]`; one product per point adds `V^T W`, a sum over tiles, to the gradient of U, which lies as
//! U does; at the end the filter transform's transpose takes that to taps. Chunks do not depend on the number of
//! threads, which share points and panels.

use super::{
    form::{Correlation, GradientCandidate, TransformedGradient, WeightGradient},
    product::{product, tile_rows},
    target::Target,
};
use crate::{
    Blocks, Extent, Isa, LANES, Scratch, Update,
    conv::{
        layer::Options,
        problem::Problem,
        winograd::{
            input::InputTransform,
            memory::{Blocking, Memory},
            points::Points,
            scheme::{Place, Scheme, Tiles},
            transform,
        },
    },
    disjoint::Disjoint,
    gemm::{self, register_tile},
    machine::{
        Machine,
        gradient::{
            CHANNELS_AHEAD, CHUNK_BYTES, CHUNKS, FILTER, L3_BYTES, MAX_TILES, STAGE_TILES, THROUGH, TRANSFORM,
            WINOGRAD_EFFICIENCY,
        },
        select::PLANNED_THREADS,
    },
    simd::{self, Kernel, Simd},
    team,
};

/// The numbers of points for layers whose longest filter has `taps`. More points than six cost the transforms and the
/// gradient of U more than they save: F(6x6) took a quarter longer than F(4x4) on 3x3 and 5x5 layers.
fn sizes(taps: usize) -> &'static [usize] {
    match taps {
        2 | 3 => &[4, 6],
        _ => &[6, 8],
    }
}

/// One for each tile size.
pub fn candidates(form: &Correlation, options: Options) -> Vec<GradientCandidate> {
    let Some([taps, columns]) = Scheme::taps(&form.shape) else { return Vec::new() };
    // Kernels of one row or column take the direct way.
    if taps != columns {
        return Vec::new();
    }
    let problem =
        Problem { shape: form.shape, input: form.image, output: form.points, lanes: form.image_lanes.clone() };
    if form.image.is_empty()
        || form.points.is_empty()
        || form.point_lanes.len() < LANES
        || problem.lanes.iter().all(Option::is_none)
    {
        return Vec::new();
    }
    sizes(taps)
        .iter()
        .filter_map(|&n| {
            let (gradient, seconds) = WinogradGradient::new(form, Scheme::new(&problem, n)?, options);
            Some(GradientCandidate { seconds, exact: false, gradient: Box::new(gradient) })
        })
        .collect()
}

/// What decides the time. See [`crate::machine::gradient`].
struct Cost {
    machine: Machine,
    /// Tiles in all.
    tiles: usize,
    /// Vectors of V and W for each tile.
    per_tile: usize,
    /// Floats of the gradient of U.
    u: usize,
}

impl Cost {
    /// Tiles of a chunk, and the seconds expected with it. Every chunk takes the gradient of U from a cache and back, so
    /// chunks should be long; V and W of a chunk should stay in a cache, so chunks should be short.
    fn chunk(&self) -> (usize, f64) {
        let most = (CHUNK_BYTES / (4 * LANES * self.per_tile)).max(CHUNKS[0]);
        let even = |limit: usize| self.tiles.div_ceil(self.tiles.div_ceil(limit.min(most)).max(1));
        let timed = CHUNKS.into_iter().map(even).map(|tiles| (tiles, self.seconds(tiles)));
        timed.min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are chunks to compare")
    }

    /// Expected seconds on [`PLANNED_THREADS`].
    fn seconds(&self, tiles: usize) -> f64 {
        let threads = PLANNED_THREADS as f64;
        let chunks = self.tiles.div_ceil(tiles.max(1)) as f64;
        let (all, u) = (self.tiles as f64, self.u as f64);
        let product = 2.0 * all * u / WINOGRAD_EFFICIENCY;
        let transforms = TRANSFORM * all * self.per_tile as f64 + FILTER * u;
        let arithmetic = (product + transforms) / self.machine.flops / threads;

        let u_bytes = 4.0 * u;
        let staged = 4.0 * (LANES * self.per_tile) as f64 * all / chunks;
        let seconds_per_byte = |set: f64| {
            let missed = Machine::lost(set, L3_BYTES);
            (1.0 - missed) / self.machine.l3 / threads + missed / self.machine.dram
        };
        // The gradient of U is read and written with every chunk, and once more at the end.
        let memory = chunks * (THROUGH * staged + 2.0 * u_bytes) * seconds_per_byte(staged + u_bytes)
            + 2.0 * u_bytes * seconds_per_byte(u_bytes);
        self.machine.together(arithmetic, memory)
    }
}

struct WinogradGradient {
    isa: Isa,
    threads: usize,
    form: Correlation,
    scheme: Scheme,
    tiles: Tiles,
    /// Its U is the gradient of U.
    memory: Memory,
    /// Floats per pixel of an image block.
    pixel: usize,
}

/// What the threads share, each writing its own part.
#[derive(Clone, Copy)]
struct Shared<'a> {
    image: Blocks<'a>,
    points: Blocks<'a>,
    v: Disjoint<'a>,
    w: Disjoint<'a>,
    u: Disjoint<'a>,
}

impl WinogradGradient {
    fn new(form: &Correlation, scheme: Scheme, options: Options) -> (Self, f64) {
        let (_, panel) = register_tile(options.isa);
        let channels = scheme.used_channels(&form.image_lanes);
        let vectors = form.point_lanes.len().div_ceil(LANES);
        let tiles = Tiles::new(&scheme, form.image.n);
        let (products, points) = (scheme.products(), scheme.count());
        let cost = Cost {
            machine: Machine::of(options.isa),
            tiles: tiles.count(),
            per_tile: products * channels.len() + points * vectors,
            u: products * channels.iter().map(|c| c.1).sum::<usize>() * vectors * LANES,
        };
        let (chunk, seconds) = cost.chunk();
        let blocking = Blocking { tiles: chunk, blocks: channels.len(), staged: true };
        let gradient = Self {
            isa: options.isa,
            threads: options.threads,
            pixel: form.image_lanes.len().min(LANES),
            memory: Memory::new(&scheme, channels, vectors, panel, blocking),
            form: form.clone(),
            tiles,
            scheme,
        };
        (gradient, seconds)
    }

    /// Floats of W, and from a point to the next.
    fn w_point(&self) -> usize {
        (self.memory.vectors * self.memory.blocking.tiles + 1) * LANES
    }

    /// Floats of V and W of a chunk.
    fn staged_len(&self) -> usize {
        self.memory.v_len() + self.w_point() * self.memory.points
    }

    /// The gradient of U, or its sum with what is there; `staged` holds V and W.
    fn sum_with(&self, image: Blocks<'_>, points: Blocks<'_>, u: &mut [f32], update: Update, staged: &mut [f32]) {
        let memory = &self.memory;
        assert!(u.len() >= memory.u_len, "transformed gradient");
        let count = self.tiles.count();
        let chunks = count.div_ceil(memory.blocking.tiles);
        let (v, w) = staged.split_at_mut(memory.v_len());
        let shared = Shared { image, points, v: Disjoint::new(v), w: Disjoint::new(w), u: Disjoint::new(u) };
        let mut places = [Place::default(); MAX_TILES];
        for i in 0..chunks {
            let range = i * count / chunks..(i + 1) * count / chunks;
            let places = &mut places[..range.len()];
            self.tiles.fill(range.start, places);
            self.transforms(&shared, places);
            self.products(&shared, places.len(), i > 0 || update == Update::Add);
        }
    }

    /// Runs tasks `0..count` on the layer's threads.
    fn each(&self, count: usize, task: impl Fn(usize) + Send + Sync) {
        if self.threads == 1 {
            (0..count).for_each(task);
        } else {
            team::for_each(count, task);
        }
    }

    /// V and W of a chunk of tiles.
    fn transforms(&self, shared: &Shared<'_>, places: &[Place]) {
        let memory = &self.memory;
        let blocks = memory.channels.len();
        let parts = places.len().div_ceil(STAGE_TILES);
        let images = self.scheme.inputs.len() * blocks;
        self.each((images + memory.vectors) * parts, |task| {
            let (part, item) = (task % parts, task / parts);
            let tiles = part * places.len() / parts..(part + 1) * places.len() / parts;
            if item < images {
                let (phase, block) = (item / blocks, item % blocks);
                let input = &self.scheme.inputs[phase];
                // SAFETY: `Memory` lays these tiles out inside V; they, this block and this phase are this task's.
                unsafe {
                    InputTransform {
                        plane: shared.image.planes[memory.channels[block].0],
                        extent: shared.image.extent,
                        pixel: self.pixel,
                        merged: self.scheme.merged,
                        step: self.scheme.input_step,
                        base: input.base,
                        places: &places[tiles.clone()],
                        v: shared.v.at(block * memory.v_block() + tiles.start * LANES),
                        points: &memory.inputs[phase],
                    }
                    .run(self.isa, input.points);
                }
            } else {
                let block = item - images;
                // SAFETY: as above for W.
                unsafe {
                    PointTransform {
                        plane: shared.points.planes[block],
                        extent: shared.points.extent,
                        step: self.scheme.output_step,
                        places: &places[tiles.clone()],
                        w: shared.w.at((block * memory.blocking.tiles + tiles.start) * LANES),
                        point_step: self.w_point(),
                    }
                    .run(self.isa, self.scheme.points[0], self.scheme.m[0]);
                }
            }
        });
    }

    /// Adds a chunk's products to the gradient of U.
    fn products(&self, shared: &Shared<'_>, tiles: usize, add: bool) {
        let memory = &self.memory;
        self.each(memory.points * memory.panels.len(), |task| {
            let (point, panel) = (task / memory.panels.len(), task % memory.panels.len());
            let (first, vectors) = memory.panels[panel];
            // V and W are complete; the gradient of U at this point and panel is this task's.
            let sums = TileSums {
                v: shared.v.at(memory.v_point(point)),
                phases: memory.phases(point),
                phase_step: memory.v_block() * memory.blocking.blocks,
                block_step: memory.v_block(),
                channels: &memory.channels,
                w: shared.w.at(point * self.w_point() + first * memory.v_block()),
                vector_step: memory.v_block(),
                tiles,
                vectors,
                u: shared.u.at(memory.u(0, panel, point)),
                add,
            };
            simd::run(self.isa, sums);
        });
    }
}

impl WeightGradient for WinogradGradient {
    fn run(&self, image: Blocks<'_>, points: Blocks<'_>, d_weight: &mut [f32], scratch: &Scratch) {
        scratch.with_shared(self.staged_len() + self.memory.u_len, |floats| {
            let (staged, u) = floats.split_at_mut(self.staged_len());
            self.sum_with(image, points, u, Update::Overwrite, staged);
            self.finish(u, d_weight);
        });
    }

    fn in_two_parts(&self) -> Option<&dyn TransformedGradient> {
        Some(self)
    }

    fn name(&self) -> String {
        self.scheme.name()
    }
}

impl TransformedGradient for WinogradGradient {
    fn len(&self) -> usize {
        self.memory.u_len
    }

    fn sum(&self, image: Blocks<'_>, points: Blocks<'_>, sum: &mut [f32], update: Update, scratch: &Scratch) {
        scratch.with_shared(self.staged_len(), |staged| self.sum_with(image, points, sum, update, staged));
    }

    fn finish(&self, sum: &[f32], d_weight: &mut [f32]) {
        assert!(sum.len() >= self.memory.u_len, "transformed gradient");
        let target = Target::new(d_weight, &self.form.shape);
        let blocks = self.memory.channels.len();
        self.each(self.memory.panels.len() * blocks, |task| {
            let (panel, block) = (task / blocks, task % blocks);
            simd::run(self.isa, FilterTransform { gradient: self, u: sum, target, panel, block });
        });
    }
}

/// `W = A dy A^T` of one block of points.
struct PointTransform<'a> {
    plane: &'a [f32],
    extent: Extent,
    /// Pixels between the points of a tile.
    step: usize,
    places: &'a [Place],
    /// W at the block's first tile, and floats to the next point.
    w: *mut f32,
    point_step: usize,
}

/// The same for the set with `P` pairs, 0 and infinity, and `M` points along each side.
struct Sized<'a, const P: usize, const M: usize>(PointTransform<'a>);

/// 8 x 8 vectors.
#[repr(align(64))]
struct Window([f32; 64 * LANES]);

impl PointTransform<'_> {
    /// # Safety
    /// `w` is valid for writes of `places.len()` lines at each point, and no other thread touches these.
    unsafe fn run(self, isa: Isa, points: Points, m: usize) {
        macro_rules! pick {
            ($($p:literal: $($m:literal)*),*) => {
                match (points.pairs, m) {
                    $($(($p, $m) => simd::run(isa, Sized::<$p, $m>(self)),)*)*
                    _ => unreachable!("F({m}, ..) of {points:?}"),
                }
            };
        }
        // See `sizes`; all these sets have infinity.
        pick!(1: 2 3, 2: 3 4 5, 3: 5)
    }
}

impl<const P: usize, const M: usize> Kernel for Sized<'_, P, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let side = 2 * P + 2;
        let PointTransform { plane, extent: Extent { h, w: width, .. }, step, places, w, point_step } = self.0;
        let mut half = Window([0.0; 64 * LANES]);
        for (t, place) in places.iter().enumerate() {
            // Outputs of a forward layer's tiles begin inside it.
            let [y, x] = place.output.map(|p| p as usize);
            // SAFETY: pixels outside the extent are not read; W by `PointTransform::run`'s contract.
            unsafe {
                let from = plane.as_ptr().add(place.image * h * width * LANES);
                let inside = y + step * (M - 1) < h && x + step * (M - 1) < width;
                for j in 0..M {
                    let mut d = [S::zero(); 8];
                    let column = x + j * step;
                    if inside {
                        for (i, d) in d.iter_mut().enumerate().take(M) {
                            *d = S::load(from.add(((y + i * step) * width + column) * LANES));
                        }
                    } else if column < width {
                        for (i, d) in d.iter_mut().enumerate().take(M) {
                            if y + i * step < h {
                                *d = S::load(from.add(((y + i * step) * width + column) * LANES));
                            }
                        }
                    }
                    let d = transform::evaluate::<S, P, 1, M>(&d);
                    for (i, &d) in d.iter().enumerate().take(side) {
                        S::store(half.0.as_mut_ptr().add((i * 8 + j) * LANES), d);
                    }
                }
                for i in 0..side {
                    let mut d = [S::zero(); 8];
                    for (j, d) in d.iter_mut().enumerate().take(M) {
                        *d = S::load(half.0.as_ptr().add((i * 8 + j) * LANES));
                    }
                    let d = transform::evaluate::<S, P, 1, M>(&d);
                    for (j, &d) in d.iter().enumerate().take(side) {
                        S::store(w.add((i * side + j) * point_step + t * LANES), d);
                    }
                }
            }
        }
    }
}

/// At one point, for one panel: `U[phase][channel][vector] (+)= sum over tiles of V[phase][block][tile][channel] * W[vector][tile]`.
struct TileSums<'a> {
    v: *const f32,
    phases: usize,
    phase_step: usize,
    block_step: usize,
    /// The image's blocks; the second number is how many channels.
    channels: &'a [(usize, usize)],
    w: *const f32,
    vector_step: usize,
    tiles: usize,
    vectors: usize,
    u: *mut f32,
    add: bool,
}

impl Kernel for TileSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: V, W and U are laid out for these tiles, channels and vectors.
        unsafe {
            if const { S::PANEL >= 2 } && self.vectors == 2 {
                self.all::<S, 2>();
            } else {
                self.all::<S, 1>();
            }
        }
    }
}

impl TileSums<'_> {
    /// # Safety
    /// `N` is `vectors`; the pointers are valid.
    #[inline(always)]
    unsafe fn all<S: Simd, const N: usize>(&self) {
        let mut u = self.u;
        for phase in 0..self.phases {
            for (block, &(_, used)) in self.channels.iter().enumerate() {
                for (lane, rows) in gemm::groups(used, tile_rows(S::PANEL)) {
                    gemm::rows!(rows, tile_rows(S::PANEL), T => {
                        // SAFETY: the caller's.
                        unsafe {
                            let v = self.v.add(phase * self.phase_step + block * self.block_step + lane);
                            self.tile::<S, T, N>(v, u);
                            u = u.add(T * N * LANES);
                        }
                    });
                }
            }
        }
    }

    /// # Safety
    /// As for [`TileSums::all`]; `v` at the tile's first channel, `u` at its first vector.
    #[inline(always)]
    unsafe fn tile<S: Simd, const T: usize, const N: usize>(&self, v: *const f32, u: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            let mut tile = gemm::zero::<S, T, N>();
            if self.add {
                for t in 0..T {
                    for n in 0..N {
                        tile[t][n] = S::load(u.add((t * N + n) * LANES));
                    }
                }
            }
            let mut w = [std::ptr::null(); N];
            for n in 0..N {
                w[n] = self.w.add(n * self.vector_step);
            }
            for k in 0..self.tiles {
                product::<S, T, N>(&mut tile, v.add(k * LANES), w.map(|w| w.add(k * LANES)));
            }
            for t in 0..T {
                for n in 0..N {
                    S::store(u.add((t * N + n) * LANES), tile[t][n]);
                }
            }
        }
    }
}

/// `G^T U G`: the taps' gradients of one block of channels and one panel.
struct FilterTransform<'a> {
    gradient: &'a WinogradGradient,
    u: &'a [f32],
    target: Target<'a>,
    panel: usize,
    block: usize,
}

impl Kernel for FilterTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { gradient, u, target, panel, block } = self;
        let (scheme, memory) = (&gradient.scheme, &gradient.memory);
        let (first, width) = memory.panels[panel];
        let side = scheme.points[1].len();
        let depth: usize = memory.channels.iter().map(|c| c.1).sum();
        let before: usize = memory.channels[..block].iter().map(|c| c.1).sum();
        let lanes = &gradient.form.image_lanes;
        let [kernel_rows, kernel] = gradient.form.shape.kernel;
        let (plane, used) = memory.channels[block];
        // Per phase: the filter transforms, the first point, and how many phases come before it at each point.
        let mut placed = [0; 64];
        let phases: Vec<_> = scheme
            .inputs
            .iter()
            .map(|input| {
                let [y0, x0] = input.points.map(|p| p.first_in(scheme.points[0]));
                let single = |matrix: Vec<Vec<f64>>| -> Vec<[f32; 4]> {
                    matrix.iter().map(|row| std::array::from_fn(|k| row.get(k).map_or(0.0, |&g| g as f32))).collect()
                };
                let transforms = [0, 1].map(|axis| single(input.points[axis].filter(input.taps[axis].len())));
                let mut ranks = [0; 64];
                for y in y0..y0 + input.points[0].len() {
                    for x in x0..x0 + input.points[1].len() {
                        ranks[y * side + x] = placed[y * side + x];
                        placed[y * side + x] += 1;
                    }
                }
                (input, transforms, [y0, x0], ranks)
            })
            .collect();
        let mut taps = [0.0f32; 64 * LANES];
        for lane in 0..used {
            // Lanes after the first pixel's are the next pixel's.
            let (pixel, at) = match lanes.len() {
                narrow @ ..LANES => (lane / narrow, lane % narrow),
                _ => (0, plane * LANES + lane),
            };
            let Some(channel) = lanes[at] else { continue };
            for v in 0..width {
                taps.fill(0.0);
                for (input, [rows, columns], [y0, x0], ranks) in &phases {
                    let [row_taps, column_taps] = &input.taps;
                    let mut half = [[S::zero(); 4]; 8];
                    for (y, half) in half.iter_mut().enumerate().take(rows.len()) {
                        for (x, column) in columns.iter().enumerate() {
                            let point = (y0 + y) * side + x0 + x;
                            let k = ranks[point] * depth + before + lane;
                            let at = memory.u(0, panel, point) + (k * width + v) * LANES;
                            S::prefetch_near(u.as_ptr().wrapping_add(at + CHANNELS_AHEAD * width * LANES));
                            let value = S::read(&u[at..]);
                            for (sum, &factor) in half.iter_mut().zip(column) {
                                *sum = S::fma(value, S::splat(factor), *sum);
                            }
                        }
                    }
                    for (ky, &tap_y) in row_taps.iter().enumerate() {
                        for (kx, &tap_x) in column_taps.iter().enumerate() {
                            if tap_x + pixel >= kernel {
                                continue;
                            }
                            let mut sum = S::zero();
                            for (row, half) in rows.iter().zip(&half) {
                                sum = S::fma(half[kx], S::splat(row[ky]), sum);
                            }
                            S::write(&mut taps[(tap_y * kernel + tap_x + pixel) * LANES..], sum);
                        }
                    }
                }
                let outputs = &gradient.form.point_lanes[(first + v) * LANES..];
                for tap in (0..kernel_rows * kernel).step_by(LANES) {
                    let count = LANES.min(kernel_rows * kernel - tap);
                    // SAFETY: these channels' weights are this task's.
                    unsafe {
                        let mut vectors = [S::zero(); LANES];
                        for (t, vector) in vectors.iter_mut().enumerate() {
                            *vector = S::read(&taps[(tap + t) * LANES..]);
                        }
                        let outputs = &outputs[..outputs.len().min(LANES)];
                        target.add::<S>(outputs, channel as usize, tap, count, &mut vectors);
                    }
                }
            }
        }
    }
}
