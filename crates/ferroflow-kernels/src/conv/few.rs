//! Layers of 1 to 4 outputs, the flow predictors: 3x3 stride 1, and the transposed 4x4.
//!
//! With outputs in the lanes, 14 of 16 would be idle. Here the lanes are *input* channels: one accumulator per output and
//! point, one horizontal sum at the end. Columns go in blocks of 64, so that three rows of hundreds of channels stay in
//! the second-level cache; only tiles at the image's border are copied.

use rayon::prelude::*;

use super::{
    Activation, ConvKind, ConvShape, Engine, Layer, Options,
    direct::{
        Output,
        patch::Patch,
        phases,
        runs::{Channels, Pitch, Taps},
        share,
    },
    select::{Candidate, Machine},
};
use crate::{
    Blocks, BlocksMut, Buffer, Isa, LANES, Scratch,
    simd::{self, Kernel, Simd},
};

/// Columns of a task.
const COLUMNS: usize = 64;
/// Input channels below which the horizontal sums cost more than idle lanes.
const MIN_CHANNELS: usize = 24;
/// Points of the largest tile.
const MAX_TILE: usize = 8;

/// Computes the layers of [`takes`].
pub(super) fn candidates(layer: &Layer<'_>, options: Options) -> Vec<Candidate> {
    if !takes(&layer.shape) {
        return Vec::new();
    }
    let machine = Machine::of(options.isa);
    vec![Candidate {
        name: "few outputs".into(),
        seconds: layer.shape.flop(layer.input) / (0.6 * machine.flops * options.threads as f64),
        exact: true,
        build: Box::new(|layer, options| Box::new(Few::new(layer, options))),
    }]
}

/// Whether lanes over input channels pay.
fn takes(shape: &ConvShape) -> bool {
    let square = shape.kind == ConvKind::Transposed || (shape.kernel == 3 && shape.stride == 1 && shape.dilation == 1);
    square && shape.out_channels <= 4 && shape.in_channels >= MIN_CHANNELS
}

pub(super) struct Few {
    isa: Isa,
    shape: ConvShape,
    channels: Channels,
    phases: Vec<Phase>,
    bias: Vec<f32>,
    activation: Activation,
    threads: usize,
}

struct Phase {
    first: [usize; 2],
    /// Rows of the window, and its first column.
    rows: Vec<usize>,
    column: usize,
    /// `[plane][row][output][column][16]`
    weights: Buffer,
}

impl Few {
    pub fn new(layer: &Layer<'_>, options: Options) -> Self {
        let s = layer.shape;
        let mut channels = Channels::new(layer.lanes, 3);
        channels.packed = None;
        let mut bias = layer.bias.map_or(vec![0.0; s.out_channels], <[f32]>::to_vec);
        bias.resize(outputs(s.out_channels), 0.0);
        Self {
            isa: options.isa,
            shape: s,
            phases: phases(layer)
                .into_iter()
                .map(|(first, rows, columns)| Phase {
                    first,
                    rows: rows.iter().map(|r| r.0).collect(),
                    column: columns[0].0,
                    weights: pack(layer, &rows, &columns),
                })
                .collect(),
            channels,
            bias,
            activation: layer.activation,
            threads: options.threads,
        }
    }

    /// Zeros above and left of the grid of windows.
    fn before(&self) -> [usize; 2] {
        match self.shape.kind {
            ConvKind::Forward => [self.shape.padding[0], self.shape.padding[1]],
            ConvKind::Transposed => [1, 1],
        }
    }

    fn pitch(&self) -> Pitch {
        let columns = MAX_TILE + 2;
        Pitch { source: 0, patch: columns, patch_plane: (3 * columns + 1) * LANES }
    }
}

/// Accumulators per point.
fn outputs(channels: usize) -> usize {
    if channels == 3 { 4 } else { channels }
}

fn pack(layer: &Layer<'_>, rows: &Taps, columns: &Taps) -> Buffer {
    let s = &layer.shape;
    let count = outputs(s.out_channels);
    let mut packed = Buffer::zeroed(layer.lanes.len() * rows.len() * columns.len() * count);
    let mut at = 0;
    for plane in layer.lanes.chunks(LANES) {
        for &(_, ky) in rows {
            for o in 0..count {
                for &(_, kx) in columns {
                    for (lane, channel) in plane.iter().enumerate() {
                        if let (Some(c), true) = (channel, o < s.out_channels) {
                            packed[at + lane] = layer.weight[s.weight_index(o, *c as usize, ky, kx)];
                        }
                    }
                    at += LANES;
                }
            }
        }
    }
    packed
}

impl Engine for Few {
    fn run(&self, input: Blocks<'_>, residual: Option<Blocks<'_>>, output: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        let spread = if self.shape.kind == ConvKind::Transposed { 2 } else { 1 };
        let grid = [output.extent.h / spread, output.extent.w / spread];
        let columns = grid[1].div_ceil(COLUMNS);
        // A task's first rows are read twice; two tasks of more than 8 rows per thread balance well enough.
        let bands = grid[0].div_ceil(8).min((4 * self.threads).div_ceil(columns)).max(1);
        let out = Output(output.planes[0].as_mut_ptr());
        let extent = output.extent;
        (0..input.extent.n * bands * columns).into_par_iter().with_max_len(1).for_each(|task| {
            let (column, band) = (task % columns, task / columns % bands);
            scratch.with(self.scratch_len(), |scratch| {
                let band = Band {
                    engine: self,
                    input,
                    residual: residual.map(|r| r.planes[0]),
                    output: out,
                    width: extent.w,
                    height: extent.h,
                    spread,
                    image: task / columns / bands,
                    rows: share(grid[0], band, bands),
                    columns: column * COLUMNS..grid[1].min((column + 1) * COLUMNS),
                    scratch,
                };
                simd::run(self.isa, band);
            });
        });
    }

    fn name(&self) -> String {
        "few outputs".into()
    }

    fn scratch_len(&self) -> usize {
        self.channels.used.len() * self.pitch().patch_plane
    }

    fn weight_bytes(&self) -> usize {
        self.phases.iter().map(|p| 4 * p.weights.len()).sum()
    }
}

/// One task: some rows of a block of columns of one image.
struct Band<'a> {
    engine: &'a Few,
    input: Blocks<'a>,
    residual: Option<&'a [f32]>,
    output: Output,
    width: usize,
    height: usize,
    spread: usize,
    image: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    scratch: &'a mut [f32],
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        // Accumulators (outputs times points, 16 lanes each) fill the registers that inputs and weights leave.
        let wide = S::ISA == Isa::Avx512;
        match (outputs(self.engine.shape.out_channels), self.engine.shape.kind, wide) {
            (1, ConvKind::Forward, true) => self.tiles::<S, 1, 8, 3>(),
            (2, ConvKind::Forward, true) => self.tiles::<S, 2, 8, 3>(),
            (_, ConvKind::Forward, true) => self.tiles::<S, 4, 4, 3>(),
            (1, ConvKind::Transposed, true) => self.tiles::<S, 1, 8, 2>(),
            (2, ConvKind::Transposed, true) => self.tiles::<S, 2, 8, 2>(),
            (_, ConvKind::Transposed, true) => self.tiles::<S, 4, 4, 2>(),
            (1, ConvKind::Forward, false) => self.tiles::<S, 1, 4, 3>(),
            (2, ConvKind::Forward, false) => self.tiles::<S, 2, 3, 3>(),
            (_, ConvKind::Forward, false) => self.tiles::<S, 4, 1, 3>(),
            (1, ConvKind::Transposed, false) => self.tiles::<S, 1, 4, 2>(),
            (2, ConvKind::Transposed, false) => self.tiles::<S, 2, 3, 2>(),
            (_, ConvKind::Transposed, false) => self.tiles::<S, 4, 1, 2>(),
        }
    }
}

impl Band<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const O: usize, const T: usize, const KX: usize>(&mut self) {
        let e = self.engine;
        let (pitch, before) = (e.pitch(), e.before());
        for y in self.rows.clone() {
            for x in self.columns.clone().step_by(T) {
                let span = Patch {
                    image: self.input.extent,
                    n: self.image,
                    top: y as isize - before[0] as isize,
                    left: x as isize - before[1] as isize,
                    rows: 3,
                    columns: T + 2,
                    pitch,
                    channels: &e.channels,
                };
                let inside = span.in_place();
                if inside.is_none() {
                    // SAFETY: inside a kernel; the scratch holds `scratch_len` floats.
                    unsafe { span.copy::<S>(self.input.planes, self.scratch) };
                }
                let count = T.min(self.columns.end - x);
                for phase in &e.phases {
                    // SAFETY: inside a kernel.
                    let mut sums = unsafe { [[S::zero(); T]; O] };
                    let mut weights = phase.weights.as_ptr();
                    for plane in 0..self.input.planes.len() {
                        let (from, row_pitch) = match inside {
                            Some(at) => (self.input.planes[plane][at..].as_ptr(), self.input.extent.w * LANES),
                            None => (self.scratch[plane * pitch.patch_plane..].as_ptr(), pitch.patch * LANES),
                        };
                        for &row in &phase.rows {
                            // SAFETY: three rows of `T + 2` pixels are there, in the image or in the patch; the weights
                            // were packed in this order.
                            unsafe {
                                let from = from.add(row * row_pitch + phase.column * LANES);
                                row_sums::<S, O, T, KX>(from, weights, &mut sums);
                                weights = weights.add(O * KX * LANES);
                            }
                        }
                    }
                    let at = ((self.image * self.height + y * self.spread + phase.first[0]) * self.width
                        + x * self.spread
                        + phase.first[1])
                        * LANES;
                    for t in 0..count {
                        let at = at + t * self.spread * LANES;
                        let mut point = [0.0f32; LANES];
                        for o in 0..O.min(e.shape.out_channels) {
                            // SAFETY: inside a kernel.
                            let sum = unsafe { S::sum(sums[o][t]) };
                            let v = sum + e.bias[o] + self.residual.map_or(0.0, |r| r[at + o]);
                            point[o] = v.max(v * e.activation.slope());
                        }
                        // SAFETY: `ConvPlan::run` checked the output's extent, and no other task has this point.
                        unsafe { S::store(self.output.0.add(at), S::load(point.as_ptr())) };
                    }
                }
            }
        }
    }
}

/// Adds one row of one block: `T + KX - 1` inputs, each used by up to `KX` points.
///
/// # Safety
/// In a [`Kernel`]; `from` valid for those pixels, `weights` for `O * KX` vectors.
#[inline(always)]
unsafe fn row_sums<S: Simd, const O: usize, const T: usize, const KX: usize>(
    from: *const f32,
    weights: *const f32,
    sums: &mut [[S::V; T]; O],
) {
    // SAFETY: the caller's.
    unsafe {
        let mut w = [[S::zero(); KX]; O];
        for o in 0..O {
            for k in 0..KX {
                w[o][k] = S::load(weights.add((o * KX + k) * LANES));
            }
        }
        for i in 0..T + KX - 1 {
            let x = S::load(from.add(i * LANES));
            for k in 0..KX {
                if i >= k && i - k < T {
                    for o in 0..O {
                        sums[o][i - k] = S::fma(x, w[o][k], sums[o][i - k]);
                    }
                }
            }
        }
    }
}
