//! Convolution in bf16 as an implicit matrix product: any kernel, stride, dilation and padding, and the transposed 4x4.
//!
//! Inputs and weights are rounded to bf16, multiplied and summed in f32 ([`crate::bf16`]); bias, residual, activation and
//! the output are f32 as everywhere. The outputs are cut into strips. A strip's inputs are copied once, in bf16 with
//! zeros around, two blocks of channels side by side: a tile of inputs is then 16 points a stride apart with 32 channels
//! of one tap each, and a tap is an offset. Where strips are too few for the threads, all are copied first and the
//! outputs' channels are shared too. A dilation of d is d x d dense convolutions, each of every d-th row and column.
//!
//! Layers of up to four outputs stay in f32: they are the flows, and would leave three quarters of a tile idle.

mod order;
mod patch;

use std::ops::Range;

use self::{
    order::{Layout, Phase, Pitch},
    patch::{Copy, Span},
};
use super::{
    engine::{Addend, Candidate, Engine, Epilogue, set_bias},
    layer::{Activation, ConvKind, ConvShape, Layer, Options},
    problem::{Filter, Problem},
};
use crate::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, Scratch,
    bf16::{Bf16, DEPTH, Multiplier, PANEL, Product, TILE, TILES},
    disjoint::Disjoint,
    lane_map,
    machine::{
        Machine,
        bf16::{EFFICIENCY, LEAST_POINTS, STRIP_BYTES, STRIP_PIXELS, STRIP_POINTS},
    },
    simd::{self, Kernel, Simd},
    team,
};

/// Outputs below which a layer stays in f32.
pub(crate) const LEAST_OUTPUTS: usize = 5;
/// Computes every layer but those of few outputs, where bf16 is asked for.
pub(super) fn candidates(problem: &Problem, options: Options) -> Vec<Candidate> {
    let Some(bf16) = options.bf16 else { return Vec::new() };
    if problem.shape.out_channels < LEAST_OUTPUTS {
        return Vec::new();
    }
    let engine = Tiled::new(problem, options, bf16, None);
    vec![Candidate {
        name: engine.name(),
        weights: engine.weight_bytes() / size_of::<f32>(),
        seconds: engine.seconds(options),
        exact: false,
        build: Box::new(move |_, _| Box::new(engine)),
    }]
}

struct Tiled {
    bf16: Bf16,
    isa: Isa,
    /// Images, rows, columns of the input as read (a 1x1 layer: one image of one row).
    image: Extent,
    /// Points that each phase computes, per image.
    grid: [usize; 2],
    /// Pixels between the windows of neighbouring points.
    stride: usize,
    /// Pixels from the window's beginning to its point.
    before: [isize; 2],
    /// Pixels a window spans.
    window: [usize; 2],
    /// Output columns between neighbouring points.
    spread: usize,
    /// Pixels of the input between neighbouring ones of a window: images of every such row and column are convolved
    /// one by one.
    every: usize,
    layout: Layout,
    pitch: Pitch,
    phases: Vec<Phase>,
    bias: Buffer,
    /// Rows and columns of a strip; columns fill tiles.
    strip: [usize; 2],
    /// Output blocks, and how many of them a task computes.
    blocks: usize,
    task_blocks: usize,
}

/// One strip.
struct Strip {
    index: usize,
    image: usize,
    /// First row and column of what is convolved: of every [`Tiled::every`]-th.
    first: [usize; 2],
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Tiled {
    /// `strip_of` is the rows and columns of a strip; `None` chooses.
    fn new(problem: &Problem, options: Options, bf16: Bf16, strip_of: Option<[usize; 2]>) -> Self {
        let s = &problem.shape;
        let (input, output) = (problem.input, problem.output);
        let pointwise = s.kernel == [1; 2] && s.stride == 1 && s.padding == [0; 4];
        let image = if pointwise { Extent { n: 1, h: 1, w: input.n * input.h * input.w } } else { input };
        let dilated = s.kind == ConvKind::Forward && s.stride == 1 && s.taps() > 1;
        let every = if dilated { s.dilation } else { 1 };
        let dense = Problem { shape: ConvShape { dilation: s.dilation / every, ..*s }, ..problem.clone() };
        let (phase_taps, before, window) = dense.phases();
        let (stride, spread) = match s.kind {
            ConvKind::Forward => (s.stride, every),
            ConvKind::Transposed => (1, s.stride),
        };
        let grid = if pointwise { [1, image.w] } else { [output.h.div_ceil(spread), output.w.div_ceil(spread)] };
        let layout = Layout::new(&problem.lanes);
        let blocks = s.out_channels.div_ceil(LANES);

        let bytes = size_of::<u16>() * layout.groups() * layout.pixel;
        let images = image.n * every * every;
        let strip = strip_of.unwrap_or_else(|| strip(grid, stride, window, bytes, images, options.threads));
        let span = [(strip[0] - 1) * stride + window[0], (strip[1] - 1) * stride + window[1]];
        let strips = images * grid[0].div_ceil(strip[0]) * grid[1].div_ceil(strip[1]);
        let panels = blocks.div_ceil(PANEL);
        let parts = if options.threads > 1 { (3 * options.threads).div_ceil(strips.max(1)).min(panels) } else { 1 };
        // Groups an odd number of lines apart do not share cache sets.
        let pitch = Pitch { row: span[1], group: ((span[0] * span[1]) | 1) * layout.pixel };
        let phases = phase_taps
            .iter()
            .map(|(first, rows, columns)| {
                Phase::new(&layout, pitch, &problem.lanes, s.kernel[1], *first, [rows, columns], blocks)
            })
            .collect();
        Self {
            bf16,
            isa: options.isa,
            image,
            grid,
            stride,
            before,
            window,
            spread,
            every,
            layout,
            pitch,
            phases,
            bias: Buffer::zeroed(blocks * LANES),
            strip,
            blocks,
            task_blocks: panels.div_ceil(parts) * PANEL,
        }
    }

    /// Strips per image along both axes, and in all.
    fn strips(&self) -> [usize; 3] {
        let [rows, columns] = [0, 1].map(|axis| self.grid[axis].div_ceil(self.strip[axis]));
        [rows, columns, self.image.n * self.every * self.every * rows * columns]
    }

    fn strip(&self, index: usize) -> Strip {
        let [rows, columns, _] = self.strips();
        let part = |axis: usize, i: usize| i * self.strip[axis]..((i + 1) * self.strip[axis]).min(self.grid[axis]);
        let image = index / columns / rows;
        Strip {
            index,
            image: image / self.every / self.every,
            first: [image / self.every % self.every, image % self.every],
            rows: part(0, index / columns % rows),
            columns: part(1, index % columns),
        }
    }

    /// Floats that hold a strip's copy. The tiles of its last points reach past it.
    fn patch_len(&self) -> usize {
        let beyond = (TILE - 1) * self.stride * self.layout.pixel + DEPTH;
        ((self.layout.groups() * self.pitch.group + beyond) * size_of::<u16>()).div_ceil(size_of::<f32>() * LANES)
            * LANES
    }

    /// Copies a group of a strip's channels; `patch` begins where the group does.
    fn copy(&self, strip: &Strip, group: usize, input: Blocks<'_>, patch: &mut [u16]) {
        let begin = |axis: usize, points: &Range<usize>| {
            (points.start * self.stride * self.every + strip.first[axis]) as isize - self.before[axis]
        };
        let span = Span {
            image: self.image,
            n: strip.image,
            top: begin(0, &strip.rows),
            left: begin(1, &strip.columns),
            every: self.every,
            rows: (strip.rows.len() - 1) * self.stride + self.window[0],
        };
        let Self { ref layout, pitch, .. } = *self;
        let planes = layout.planes_of(group, |plane| input.planes[plane]);
        simd::run(self.isa, Copy { span, layout, pitch, planes, patch });
    }

    /// Expected time.
    fn seconds(&self, options: Options) -> f64 {
        let machine = Machine::of(options.isa);
        let strips = self.strips()[2] as f64;
        let images = self.image.n * self.every * self.every;
        let tiles = images * self.grid[0] * self.grid[1].div_ceil(TILE);
        let steps: usize = self.phases.iter().map(|p| p.offsets.len()).sum();
        let products = 2 * tiles * steps * self.blocks * TILE * TILE * DEPTH;
        let points = self.phases.len() * images * self.grid[0] * self.grid[1];
        let copied = strips * (size_of::<f32>() * self.layout.groups() * self.pitch.group) as f64;
        let weights = strips * self.weight_bytes() as f64;
        let written = (size_of::<f32>() * points * self.blocks * LANES) as f64;
        let all = products as f64 / (EFFICIENCY * self.bf16.flops()) + (copied + weights + written) / machine.l3;
        all / options.threads.max(1) as f64
    }
}

/// Rows and columns of a strip: as many points as its bounds allow, in the shape that copies least beside them.
/// `bytes` are those of a pixel's copy.
fn strip(
    grid: [usize; 2],
    stride: usize,
    window: [usize; 2],
    bytes: usize,
    images: usize,
    threads: usize,
) -> [usize; 2] {
    let span = |points: usize, axis: usize| (points.max(1) - 1) * stride + window[axis];
    let fits = |rows: usize, columns: usize| {
        rows * columns <= STRIP_POINTS && bytes * span(rows, 0) * span(columns, 1) <= STRIP_BYTES
    };
    let widest = grid[1].next_multiple_of(TILE).clamp(TILE, STRIP_POINTS);
    let shapes = (TILE..=widest).step_by(TILE).map(|limit| {
        let parts = grid[1].div_ceil(limit).max(1);
        let columns = grid[1].max(1).div_ceil(parts).next_multiple_of(TILE);
        let most = (1..=grid[0].max(1)).take_while(|&rows| fits(rows, columns)).last().unwrap_or(1);
        [grid[0].max(1).div_ceil(grid[0].max(1).div_ceil(most)), columns]
    });
    let cost = |[rows, columns]: [usize; 2]| {
        let strips = (grid[0].div_ceil(rows) * grid[1].div_ceil(columns)) as f64;
        let within = fits(rows, columns) || columns == TILE;
        // A strip's weights are read anew: as dear as some hundred pixels.
        (!within, strips * (span(rows, 0) * span(columns, 1) + STRIP_PIXELS) as f64)
    };
    let best = shapes.min_by(|&a, &b| {
        let ((a_over, a), (b_over, b)) = (cost(a), cost(b));
        a_over.cmp(&b_over).then(a.total_cmp(&b))
    });
    let [mut rows, columns] = best.unwrap_or([1, TILE]);
    let strips = |rows: usize| images * grid[0].div_ceil(rows) * grid[1].div_ceil(columns);
    while rows > 1 && threads > 1 && rows * columns >= 2 * LEAST_POINTS && strips(rows) < 3 * threads {
        rows = rows.div_ceil(2);
    }
    [rows, columns]
}

impl Engine for Tiled {
    fn set_weights(&mut self, filter: &Filter<'_>, bias: Option<&[f32]>) {
        self.phases.iter_mut().for_each(|phase| phase.pack(filter));
        set_bias(&mut self.bias, bias);
    }

    fn run(&self, input: Blocks<'_>, epilogue: Epilogue<'_>, output: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        let extent = if self.image == input.extent { output.extent } else { self.image };
        let outputs = Disjoint::blocks(output);
        let multiply = |strip: &Strip, blocks: Range<usize>, patch: &[u16]| {
            let outputs = &outputs;
            simd::run(self.isa, Multiply { engine: self, strip, blocks, patch, epilogue, outputs, extent });
        };
        let strips = self.strips()[2];
        let (parts, groups) = (self.blocks.div_ceil(self.task_blocks), self.layout.groups());
        if parts == 1 {
            return team::for_each(strips, |i| {
                let strip = self.strip(i);
                scratch.with(self.patch_len(), |patch| {
                    let patch = halves(patch);
                    (0..groups).for_each(|i| self.copy(&strip, i, input, &mut patch[i * self.pitch.group..]));
                    multiply(&strip, 0..self.blocks, patch);
                });
            });
        }
        let len = self.patch_len();
        scratch.with_shared(strips * len, |patches| {
            for (i, patch) in patches[..strips * len].chunks_mut(len).enumerate() {
                let strip = self.strip(i);
                let patch = halves(patch);
                // Only a single group reaches past its place.
                let (each, all) = if groups == 1 {
                    (patch.len(), patch.len())
                } else {
                    (self.pitch.group, groups * self.pitch.group)
                };
                let all = all.min(patch.len());
                team::for_chunks_mut(&mut patch[..all], each, |group, patch| self.copy(&strip, group, input, patch));
            }
            let patches = &*patches;
            team::for_each(strips * parts, |task| {
                let strip = self.strip(task / parts);
                let first = task % parts * self.task_blocks;
                let blocks = first..self.blocks.min(first + self.task_blocks);
                multiply(&strip, blocks, as_halves(&patches[strip.index * len..][..len]));
            });
        });
    }

    fn name(&self) -> String {
        format!("{} bf16", self.bf16.name())
    }

    fn scratch_len(&self) -> usize {
        if self.blocks <= self.task_blocks { self.patch_len() } else { 0 }
    }

    fn weight_bytes(&self) -> usize {
        self.phases.iter().map(Phase::weight_bytes).sum()
    }
}

/// A 1x1 convolution in bf16 of points that lie side by side in blocks: the second half of a depthwise separable layer.
pub(crate) struct Points(Tiled);

impl Points {
    /// Prepares `layer` for up to `most` points at once.
    pub fn new(layer: &Layer<'_>, most: usize, bf16: Bf16, isa: Isa) -> Self {
        let line = Extent { n: 1, h: 1, w: most };
        let mut lanes = layer.lanes.to_vec();
        lanes.resize(lanes.len().next_multiple_of(LANES), None);
        let problem = Problem { shape: layer.shape, input: line, output: line, lanes };
        let options = Options { isa, exact: false, bf16: Some(bf16), threads: 1, algorithm: None };
        let mut tiled = Tiled::new(&problem, options, bf16, Some([1, most.next_multiple_of(TILE)]));
        let outputs = lane_map(&[layer.shape.out_channels]);
        tiled.set_weights(&Filter::new(&layer.shape, layer.weight, &outputs), layer.bias);
        Self(tiled)
    }

    pub fn name(&self) -> String {
        self.0.name()
    }

    /// Floats of working memory.
    pub fn scratch_len(&self) -> usize {
        self.0.patch_len()
    }

    pub fn weight_bytes(&self) -> usize {
        self.0.weight_bytes()
    }

    /// Computes some points and blocks of an output. `plane` gives the points of an input block.
    ///
    /// # Safety
    /// The contract of [`Disjoint`] for these points and blocks.
    #[inline(always)]
    pub unsafe fn run<'a, S: Simd>(&self, plane: impl Fn(usize) -> &'a [f32], part: PointsOf<'_>, scratch: &mut [f32]) {
        let PointsOf { at, pixels, blocks, activation, outputs } = part;
        let Tiled { layout, pitch, .. } = &self.0;
        let patch = halves(scratch);
        let image = Extent { n: 1, h: 1, w: at.len() };
        let span = Span { image, n: 0, top: 0, left: 0, every: 1, rows: 1 };
        for group in 0..layout.groups() {
            let planes = layout.planes_of(group, &plane);
            Copy { span, layout, pitch: *pitch, planes, patch: &mut patch[group * pitch.group..] }.run::<S>();
        }
        let strip = Strip { index: 0, image: 0, first: [0; 2], rows: 0..1, columns: at };
        let extent = Extent { n: 1, h: 1, w: pixels };
        let epilogue = Epilogue { addend: Addend::Nothing, activation };
        Multiply { engine: &self.0, strip: &strip, blocks, patch, epilogue, outputs, extent }.run::<S>();
    }
}

/// Some points and blocks of an output.
pub(crate) struct PointsOf<'a> {
    /// Of the pixels of a block.
    pub at: Range<usize>,
    /// Pixels of a block.
    pub pixels: usize,
    /// The first is a multiple of [`PANEL`].
    pub blocks: Range<usize>,
    /// Applied last.
    pub activation: Activation,
    /// All blocks of the output.
    pub outputs: &'a [Disjoint<'a>],
}

/// The same memory as bf16.
fn halves(floats: &mut [f32]) -> &mut [u16] {
    // SAFETY: every two bytes of a float are a valid `u16`, and of any two a float.
    unsafe { floats.align_to_mut().1 }
}

/// The same memory as bf16.
fn as_halves(floats: &[f32]) -> &[u16] {
    // SAFETY: every two bytes of a float are a valid `u16`.
    unsafe { floats.align_to().1 }
}

/// One task: the outputs of a strip, some blocks of them.
struct Multiply<'a> {
    engine: &'a Tiled,
    strip: &'a Strip,
    blocks: Range<usize>,
    patch: &'a [u16],
    epilogue: Epilogue<'a>,
    outputs: &'a [Disjoint<'a>],
    /// Of the output.
    extent: Extent,
}

/// The sums of a product.
#[repr(align(64))]
struct Sums([f32; TILES * PANEL * TILE * TILE]);

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (e, strip) = (self.engine, self.strip);
        let mut sums = Sums([0.0; TILES * PANEL * TILE * TILE]);
        // SAFETY: a task makes this one, and runs no other task meanwhile.
        let multiplier = unsafe { Multiplier::new(e.bf16) };
        debug_assert!(self.blocks.start.is_multiple_of(PANEL));
        for phase in &e.phases {
            let first = |axis: usize| phase.first[axis] + strip.first[axis];
            // The last points of a phase may lie outside an output that is no multiple of the stride.
            let inside = |points: &Range<usize>, axis: usize, size: usize| {
                let end = size.saturating_sub(first(axis)).div_ceil(e.spread);
                points.start..points.end.min(end).max(points.start)
            };
            let (rows, columns) = (inside(&strip.rows, 0, self.extent.h), inside(&strip.columns, 1, self.extent.w));
            let across = columns.len().div_ceil(TILE);
            let tiles = rows.len() * across;
            let place = |tile: usize| (tile / across, tile % across * TILE);
            for block in self.blocks.clone().step_by(PANEL) {
                let panel = PANEL.min(self.blocks.end - block);
                for t in (0..tiles).step_by(TILES) {
                    // A last odd tile is computed twice.
                    let pair: [usize; TILES] = std::array::from_fn(|i| (t + i).min(tiles - 1));
                    let product = Product {
                        inputs: pair.map(|tile| {
                            let (y, x) = place(tile);
                            self.patch[(y * e.pitch.row + x) * e.stride * e.layout.pixel..].as_ptr()
                        }),
                        step: e.stride * e.layout.pixel,
                        offsets: &phase.offsets,
                        weights: phase.panel(block),
                        panel,
                        sums: sums.0.as_mut_ptr(),
                    };
                    // SAFETY: the windows of the strip's points lie in the patch, those of the points up to the tile's
                    // end in what `patch_len` adds; weights and sums are of the sizes that `Phase` and `Sums` have.
                    unsafe { multiplier.run(&product) };
                    for (i, &tile) in pair.iter().enumerate().take(tiles - t) {
                        let (y, x) = place(tile);
                        let row = strip.image * self.extent.h + (rows.start + y) * e.spread + first(0);
                        let column = (columns.start + x) * e.spread + first(1);
                        let point = (row * self.extent.w + column) * LANES;
                        for n in 0..panel {
                            let sums = &sums.0[(i * panel + n) * TILE * TILE..][..TILE * TILE];
                            // SAFETY: these points lie in the output, whose extent and the addend's
                            // `ConvPlan::run` checked, and no other task has them and this block.
                            unsafe { self.finish::<S>(sums, block + n, point, TILE.min(columns.len() - x)) };
                        }
                    }
                }
            }
        }
    }
}

impl Multiply<'_> {
    /// Bias, addend and activation of some points of a block; `point` is where the first is.
    ///
    /// # Safety
    /// The points lie in the output.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, sums: &[f32], block: usize, point: usize, points: usize) {
        let step = self.engine.spread * LANES;
        // SAFETY: the caller's.
        unsafe {
            let bias = S::read(&self.engine.bias[block * LANES..]);
            let slope = S::splat(self.epilogue.activation.slope());
            let before = S::splat(self.epilogue.activation.slope_before());
            let output = self.outputs[block].at(point);
            let addend = self.epilogue.addend(block, point, output);
            for (i, sum) in sums.chunks_exact(LANES).enumerate().take(points) {
                let mut v = S::add(S::read(sum), bias);
                if self.epilogue.adds() {
                    v = S::add(S::max(v, S::mul(v, before)), S::load(addend.add(i * step)));
                }
                if self.epilogue.activation != Activation::Linear {
                    v = S::max(v, S::mul(v, slope));
                }
                S::store(output.add(i * step), v);
            }
        }
    }
}
