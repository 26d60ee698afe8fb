//! Direct convolution as an implicit matrix product: any kernel, stride, dilation and padding, and the transposed 4x4.
//!
//! The outputs are cut into strips of a few rows and columns. A strip whose windows lie inside the image reads the
//! input in place; one that touches a border first copies what it needs into a patch with zeros around. First layers
//! (fewer than 16 channels) always copy, and pack the channels so that a row of the window is one stretch of memory.
//! A 1x1 layer has no borders and sees the images as one row of pixels.

pub(super) mod patch;
pub(crate) mod runs;
pub(crate) mod tile;

use self::{
    patch::Patch,
    runs::{Channels, Phase, Pitch, Window},
    tile::{Finish, Source, Tile},
};
use super::{
    engine::{Candidate, Engine, Epilogue, set_bias},
    layer::{ConvKind, Options},
    problem::{Filter, Problem},
};
use crate::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, Scratch,
    disjoint::Disjoint,
    gemm::register_tile,
    machine::{
        Machine,
        direct::{EFFICIENCY, PACKED_POINTS, STRIP_BYTES, STRIP_COLUMNS, STRIP_POINTS},
    },
    simd::{self, Kernel, Simd},
    team,
};

/// Computes every layer.
pub(super) fn candidates(problem: &Problem, options: Options) -> Vec<Candidate> {
    let machine = Machine::of(options.isa);
    let shape = &problem.shape;
    let idle = shape.out_channels.next_multiple_of(LANES) as f64 / shape.out_channels as f64;
    let weights = problem.lanes.len() * shape.out_channels.next_multiple_of(LANES) * shape.taps();
    let arithmetic = idle * shape.flop(problem.input) / (EFFICIENCY * machine.flops * options.threads as f64);
    vec![Candidate {
        name: "direct".into(),
        weights,
        seconds: machine.together(arithmetic, machine.cold(4.0 * weights as f64)),
        exact: true,
        build: Box::new(|problem, options| Box::new(Direct::new(problem, options))),
    }]
}

pub(super) struct Direct {
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
    channels: Channels,
    phases: Vec<Phase>,
    bias: Buffer,
    /// Rows and columns of a strip.
    strip: [usize; 2],
    /// Output blocks, and how many of them a task computes.
    blocks: usize,
    task_blocks: usize,
    tile: usize,
    panel: usize,
    pitch: Pitch,
}

impl Direct {
    pub fn new(problem: &Problem, options: Options) -> Self {
        let s = &problem.shape;
        let (tile, panel) = register_tile(options.isa);
        let (input, output) = (problem.input, problem.output);
        let pointwise = s.kernel == [1; 2] && s.stride == 1 && s.padding == [0; 4];
        let image = if pointwise { Extent { n: 1, h: 1, w: input.n * input.h * input.w } } else { input };
        let (layout, before, window) = problem.phases();
        let (stride, spread) = match s.kind {
            ConvKind::Forward => (s.stride, 1),
            ConvKind::Transposed => (1, s.stride),
        };
        let grid = if pointwise { [1, image.w] } else { [output.h.div_ceil(spread), output.w.div_ceil(spread)] };
        let channels = Channels::new(&problem.lanes, window[0].max(window[1]));
        let blocks = s.out_channels.div_ceil(LANES);

        let strip = strip(grid, stride, window, &channels, image.n, options.threads);
        let span = [(strip[0] - 1) * stride + window[0], (strip[1] - 1) * stride + window[1]];
        let strips = image.n * grid[0].div_ceil(strip[0]) * grid[1].div_ceil(strip[1]);
        let panels = blocks.div_ceil(panel);
        // Few strips: share the output channels too.
        let parts = if options.threads > 1 { (3 * options.threads).div_ceil(strips).min(panels) } else { 1 };
        let pitch = Pitch {
            source: image.w,
            patch: span[1],
            // Planes an odd number of lines apart do not share cache sets.
            patch_plane: if channels.packed.is_some() { 0 } else { ((span[0] * span[1]) | 1) * LANES },
        };
        let window_order = Window { columns: s.kernel[1], lanes: &problem.lanes, channels: &channels, pitch };
        let phases = layout
            .iter()
            .map(|(first, rows, columns)| Phase::ordered(&window_order, *first, [rows, columns], blocks, panel))
            .collect();
        Self {
            isa: options.isa,
            image,
            grid,
            stride,
            before,
            window,
            spread,
            channels,
            phases,
            bias: Buffer::zeroed(blocks * LANES),
            strip,
            blocks,
            task_blocks: panels.div_ceil(parts) * panel,
            tile,
            panel,
            pitch,
        }
    }

    fn patch_len(&self) -> usize {
        let span = (self.strip[0] - 1) * self.stride + self.window[0];
        let len = match self.channels.packed {
            // A vector is stored per pixel, the last one reaching past its channels.
            Some(pixel) => span * self.pitch.patch * pixel + LANES,
            None => self.pitch.patch_plane * self.channels.used.len(),
        };
        len.next_multiple_of(LANES)
    }

    fn sums_len(&self) -> usize {
        let tiles = self.strip[0] * self.strip[1].div_ceil(self.tile);
        if self.phases.iter().all(|p| p.chunks.len() == 1) { 0 } else { tiles * self.tile * self.panel * LANES }
    }
}

/// Rows and columns of a strip.
fn strip(
    grid: [usize; 2],
    stride: usize,
    window: [usize; 2],
    channels: &Channels,
    images: usize,
    threads: usize,
) -> [usize; 2] {
    let planes = if channels.packed.is_some() { 1 } else { channels.used.len() };
    let bytes = |rows: usize, columns: usize| {
        4 * planes * channels.pixel() * ((rows - 1) * stride + window[0]) * ((columns - 1) * stride + window[1])
    };
    let even = |size: usize, limit: usize| size.div_ceil(size.div_ceil(limit.max(1))).max(1);
    // The windows of a packed strip are small, its copy is dear: many rows share it.
    let points = if channels.packed.is_some() { PACKED_POINTS } else { STRIP_POINTS };
    let limit = if grid[0] == 1 { points } else { STRIP_COLUMNS };
    let mut columns = even(grid[1].max(1), limit);
    while columns > 28 && bytes(1, columns) > STRIP_BYTES {
        columns = even(grid[1], columns / 2);
    }
    let mut rows = even(grid[0].max(1), points / columns);
    let strips = |rows: usize| images * grid[0].div_ceil(rows) * grid[1].div_ceil(columns);
    while rows > 1
        && (bytes(rows, columns) > STRIP_BYTES || (threads > 1 && rows * columns > 56 && strips(rows) < 3 * threads))
    {
        rows -= 1;
    }
    [rows, columns]
}

impl Engine for Direct {
    fn set_weights(&mut self, filter: &Filter<'_>, bias: Option<&[f32]>) {
        for phase in &mut self.phases {
            phase.pack(filter, self.isa);
        }
        set_bias(&mut self.bias, bias);
    }

    fn run(&self, input: Blocks<'_>, epilogue: Epilogue<'_>, output: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        let strips = [self.image.n, self.grid[0].div_ceil(self.strip[0]), self.grid[1].div_ceil(self.strip[1])];
        let parts = self.blocks.div_ceil(self.task_blocks);
        let extent = if self.image == input.extent { output.extent } else { self.image };
        let outputs = Disjoint::blocks(output);
        let task = |task: usize| {
            let (strip, part) = (task / parts, task % parts);
            let (column, row) = (strip % strips[2], strip / strips[2] % strips[1]);
            scratch.with(self.scratch_len(), |scratch| {
                let strip = Strip {
                    engine: self,
                    input: input.planes,
                    epilogue,
                    outputs: &outputs,
                    extent,
                    image: strip / strips[2] / strips[1],
                    rows: share(self.grid[0], row, strips[1]),
                    columns: share(self.grid[1], column, strips[2]),
                    blocks: part * self.task_blocks..self.blocks.min((part + 1) * self.task_blocks),
                    scratch,
                };
                simd::run(self.isa, strip);
            });
        };
        let tasks = strips.iter().product::<usize>() * parts;
        team::for_each(tasks, task);
    }

    fn name(&self) -> String {
        "direct".into()
    }

    fn scratch_len(&self) -> usize {
        self.patch_len() + self.sums_len()
    }

    fn weight_bytes(&self) -> usize {
        self.phases.iter().map(|p| 4 * p.weights.len()).sum()
    }
}

/// The `i`-th of `parts` nearly equal parts of `size`.
#[inline(always)]
pub(crate) fn share(size: usize, i: usize, parts: usize) -> std::ops::Range<usize> {
    size * i / parts..size * (i + 1) / parts
}

/// One task: some outputs of one image, some output blocks.
struct Strip<'a> {
    engine: &'a Direct,
    input: &'a [&'a [f32]],
    epilogue: Epilogue<'a>,
    outputs: &'a [Disjoint<'a>],
    /// Of the output.
    extent: Extent,
    image: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    blocks: std::ops::Range<usize>,
    scratch: &'a mut [f32],
}

impl Kernel for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let e = self.engine;
        if self.rows.is_empty() || self.columns.is_empty() {
            return;
        }
        let (patch, sums) = self.scratch.split_at_mut(e.patch_len());
        let span = Patch {
            image: e.image,
            n: self.image,
            top: (self.rows.start * e.stride) as isize - e.before[0],
            left: (self.columns.start * e.stride) as isize - e.before[1],
            rows: (self.rows.len() - 1) * e.stride + e.window[0],
            columns: (self.columns.len() - 1) * e.stride + e.window[1],
            pitch: e.pitch,
            used: &e.channels.used,
            packed: e.channels.packed,
            source: e.channels.source,
        };
        let (source, pitch) = match span.in_place() {
            Some(at) => (Source::Blocks(self.input, at), e.image.w * e.channels.source),
            None => {
                span.copy::<S>(self.input, patch);
                (Source::Patch(patch.as_ptr()), e.pitch.patch * e.channels.pixel())
            }
        };
        let step = e.stride * e.channels.pixel();
        for phase in &e.phases {
            // The last points of a phase may lie outside an output that is no multiple of the stride.
            let inside = |points: &std::ops::Range<usize>, axis: usize, size: usize| {
                let end = (size - phase.first[axis].min(size)).div_ceil(e.spread);
                points.start..points.end.min(end).max(points.start)
            };
            let (rows, columns) = (inside(&self.rows, 0, self.extent.h), inside(&self.columns, 1, self.extent.w));
            if rows.is_empty() || columns.is_empty() {
                continue;
            }
            let tiles = columns.len().div_ceil(S::TILE);
            for first in self.blocks.clone().step_by(S::PANEL) {
                let blocks = S::PANEL.min(self.blocks.end - first);
                for (c, (runs, before)) in phase.chunks.iter().enumerate() {
                    let weights = &phase.weights[(first * phase.depth + blocks * before) * LANES..];
                    let last = c + 1 == phase.chunks.len();
                    // The next weights follow these; each tile asks for a share of them.
                    let len = blocks * phase.runs[runs.clone()].iter().map(|r| r.len as usize).sum::<usize>();
                    let ahead = len.div_ceil(rows.len() * tiles);
                    for (i, y) in rows.clone().enumerate() {
                        for t in 0..tiles {
                            let x = share(columns.len(), t, tiles);
                            let from = i * e.stride * pitch + x.start * step;
                            let point = ((self.image * self.extent.h + y * e.spread + phase.first[0]) * self.extent.w
                                + (columns.start + x.start) * e.spread
                                + phase.first[1])
                                * LANES;
                            let mut output = [std::ptr::null_mut(); 2];
                            let mut residual = [std::ptr::null(); 2];
                            for b in 0..blocks {
                                output[b] = self.outputs[first + b].at(point);
                                residual[b] = self.epilogue.addend(first + b, point, output[b]);
                            }
                            let sum = if phase.chunks.len() > 1 {
                                sums[(i * tiles + t) * S::TILE * S::PANEL * LANES..].as_mut_ptr()
                            } else {
                                std::ptr::null_mut()
                            };
                            let tile = Tile {
                                runs: &phase.runs[runs.clone()],
                                source: source.offset(from),
                                step,
                                weights: weights.as_ptr(),
                                next: weights.as_ptr().wrapping_add((len + (i * tiles + t) * ahead) * LANES),
                                ahead: ahead.div_ceil(runs.len().max(1)),
                                before: (c > 0).then_some(sum.cast_const()),
                                sums: sum,
                                finish: last.then_some(Finish {
                                    output: &output,
                                    residual: self.epilogue.adds().then_some(&residual),
                                    bias: e.bias[first * LANES..].as_ptr(),
                                    step: e.spread * LANES,
                                    activation: self.epilogue.activation,
                                }),
                            };
                            // SAFETY: the windows of the tile's points lie inside the source (`in_place`, or the copy
                            // spans the strip); weights and sums were sized by the same numbers; `ConvPlan::run`
                            // checked the extents of output and residual, and no other task has these points and blocks.
                            unsafe { tile.run::<S>(x.len(), blocks) };
                        }
                    }
                }
            }
        }
    }
}
