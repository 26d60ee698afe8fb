//! Layers of 1 to 4 outputs, the flow predictors and flow upsamplings: 3x3 stride 1, and the transposed 4x4.
//!
//! With outputs in the lanes, 14 of 16 would be idle. Here the lanes are *input* channels: one accumulator per output and
//! point, one horizontal sum at the end. The input is walked a few blocks at a time, so that three rows of them stay in
//! the cache; the accumulators of a band of rows wait in the working memory. Only tiles at a border copy their input.

use std::ops::Range;

use super::{
    direct::{
        patch::Patch,
        runs::{Channels, Pitch},
        share,
    },
    engine::{Candidate, Engine, Epilogue, set_bias},
    layer::{ConvKind, ConvShape, Options},
    problem::{Filter, Problem, Taps},
};
use crate::{
    Blocks, BlocksMut, Buffer, Isa, LANES, LaneMap, Scratch,
    disjoint::Disjoint,
    machine::{
        Machine,
        few::{BAND_SUMS, COLUMNS, EFFICIENCY, GROUP},
    },
    simd::{self, Kernel, Simd},
    team,
};

/// Points of the largest tile.
const MAX_TILE: usize = 8;

/// Computes the layers of [`takes`].
pub(super) fn candidates(problem: &Problem, options: Options) -> Vec<Candidate> {
    if !takes(problem) || problem.lanes.len() < LANES {
        return Vec::new();
    }
    let machine = Machine::of(options.isa);
    let idle = problem.lanes.len() as f64 / problem.shape.in_channels as f64;
    vec![Candidate {
        name: "few outputs".into(),
        weights: problem.lanes.len() * problem.shape.taps(),
        seconds: idle * problem.shape.flop(problem.input) / (EFFICIENCY * machine.flops * options.threads as f64),
        exact: true,
        build: Box::new(|problem, options| Box::new(Few::new(problem, options))),
    }]
}

/// Whether this engine can compute the layer.
fn takes(problem: &Problem) -> bool {
    let s = &problem.shape;
    let square = match s.kind {
        ConvKind::Forward => s.kernel == [3; 2] && s.stride == 1 && s.dilation == 1,
        ConvKind::Transposed => {
            let twice = (problem.output.h, problem.output.w) == (2 * problem.input.h, 2 * problem.input.w);
            twice && (s.kernel, s.stride, s.dilation, s.padding[0], s.padding[1]) == ([4; 2], 2, 1, 1, 1)
        }
    };
    square && s.out_channels <= 4
}

pub(super) struct Few {
    isa: Isa,
    shape: ConvShape,
    lanes: LaneMap,
    used: Vec<usize>,
    phases: Vec<Phase>,
    bias: Vec<f32>,
    /// Rows and columns of a band.
    band: [usize; 2],
}

struct Phase {
    first: [usize; 2],
    /// The window's rows (distance from its beginning, kernel row) and columns.
    taps: [Taps; 2],
    /// `[plane][row][output][column][16]`
    weights: Buffer,
}

impl Few {
    fn new(problem: &Problem, options: Options) -> Self {
        let s = problem.shape;
        let phases: Vec<Phase> = problem
            .phases()
            .0
            .into_iter()
            .map(|(first, rows, columns)| Phase {
                first,
                weights: Buffer::zeroed(problem.lanes.len() * rows.len() * columns.len() * outputs(s.out_channels)),
                taps: [rows, columns],
            })
            .collect();
        let mut few = Self {
            isa: options.isa,
            shape: s,
            lanes: problem.lanes.clone(),
            used: Channels::new(&problem.lanes, 1).used,
            phases,
            bias: vec![0.0; outputs(s.out_channels)],
            band: [1, 1],
        };
        let output = problem.output;
        let [height, width] = few.grid(output.h, output.w);
        let points = BAND_SUMS / (few.phases.len() * outputs(s.out_channels));
        let columns = width.min(if few.spread() == 1 { COLUMNS } else { COLUMNS / 2 });
        let bands = (3 * options.threads).div_ceil(problem.input.n * width.div_ceil(columns));
        few.band = [(points / columns).min(height.div_ceil(bands)).max(1), columns];
        few
    }

    /// Output columns between neighbouring points.
    fn spread(&self) -> usize {
        if self.shape.kind == ConvKind::Transposed { 2 } else { 1 }
    }

    fn grid(&self, height: usize, width: usize) -> [usize; 2] {
        [height / self.spread(), width / self.spread()]
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

    fn patch_len(&self) -> usize {
        GROUP.min(self.used.len()) * self.pitch().patch_plane
    }
}

/// Accumulators per point.
fn outputs(channels: usize) -> usize {
    if channels == 3 { 4 } else { channels }
}

/// `[plane][row][output][column][16]`
fn pack(lanes: &LaneMap, channels: usize, filter: &Filter<'_>, [rows, columns]: &[Taps; 2], packed: &mut [f32]) {
    let mut vectors = packed.chunks_exact_mut(LANES);
    for plane in lanes.chunks(LANES) {
        for &(_, ky) in rows {
            for o in 0..outputs(channels) {
                for &(_, kx) in columns {
                    let Some(vector) = vectors.next() else { return };
                    for (value, channel) in vector.iter_mut().zip(plane) {
                        if let (Some(c), true) = (channel, o < channels) {
                            *value = filter.at(o, *c as usize, ky, kx);
                        }
                    }
                }
            }
        }
    }
}

impl Engine for Few {
    fn set_weights(&mut self, filter: &Filter<'_>, bias: Option<&[f32]>) {
        for phase in &mut self.phases {
            pack(&self.lanes, self.shape.out_channels, filter, &phase.taps, &mut phase.weights);
        }
        set_bias(&mut self.bias, bias);
    }

    fn run(&self, input: Blocks<'_>, epilogue: Epilogue<'_>, output: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        let extent = output.extent;
        let [height, width] = self.grid(extent.h, extent.w);
        let (bands, columns) = (height.div_ceil(self.band[0]), width.div_ceil(self.band[1]));
        let out = Disjoint::new(output.planes[0]);
        team::for_each(input.extent.n * bands * columns, |task| {
            let (column, band) = (task % columns, task / columns % bands);
            scratch.with(self.scratch_len(), |scratch| {
                let (patch, sums) = scratch.split_at_mut(self.patch_len());
                let band = Band {
                    engine: self,
                    input,
                    epilogue,
                    output: out,
                    size: [extent.h, extent.w],
                    image: task / columns / bands,
                    rows: share(height, band, bands),
                    columns: share(width, column, columns),
                    patch,
                    sums,
                };
                simd::run(self.isa, band);
            });
        });
    }

    fn name(&self) -> String {
        "few outputs".into()
    }

    fn scratch_len(&self) -> usize {
        let sums = self.band[0] * (self.band[1] + MAX_TILE) * self.phases.len() * outputs(self.shape.out_channels);
        self.patch_len() + (sums + LANES) * LANES
    }

    fn weight_bytes(&self) -> usize {
        self.phases.iter().map(|p| 4 * p.weights.len()).sum()
    }
}

/// One task: some rows of a block of columns of one image.
struct Band<'a> {
    engine: &'a Few,
    input: Blocks<'a>,
    epilogue: Epilogue<'a>,
    output: Disjoint<'a>,
    /// Height and width of the output.
    size: [usize; 2],
    image: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    patch: &'a mut [f32],
    /// `[phase][row][column][output][16]`, columns rounded up to whole tiles.
    sums: &'a mut [f32],
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        // Accumulators (outputs times points, 16 lanes each) fill the registers that inputs and weights leave.
        macro_rules! tiles {
            ($outputs:literal, $wide:literal, $narrow:literal) => {
                match (S::ISA, self.engine.shape.kind) {
                    (Isa::Avx512, ConvKind::Forward) => self.tiles::<S, $outputs, $wide, 3>(),
                    (Isa::Avx512, ConvKind::Transposed) => self.tiles::<S, $outputs, $wide, 2>(),
                    (_, ConvKind::Forward) => self.tiles::<S, $outputs, $narrow, 3>(),
                    (_, ConvKind::Transposed) => self.tiles::<S, $outputs, $narrow, 2>(),
                }
            };
        }
        match outputs(self.engine.shape.out_channels) {
            1 => tiles!(1, 8, 4),
            2 => tiles!(2, 8, 3),
            _ => tiles!(4, 4, 1),
        }
    }
}

impl Band<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const O: usize, const T: usize, const KX: usize>(&mut self) {
        let planes = self.input.planes.len();
        for first in (0..planes).step_by(GROUP) {
            let group = first..planes.min(first + GROUP);
            for y in self.rows.clone() {
                for x in self.columns.clone().step_by(T) {
                    self.tile::<S, O, T, KX>(group.clone(), y, x);
                }
            }
        }
        self.finish::<S, O, T>();
    }

    /// The first accumulator of a row.
    #[inline(always)]
    fn row<const O: usize, const T: usize>(&self, phase: usize, y: usize) -> usize {
        let columns = self.columns.len().next_multiple_of(T);
        (phase * self.rows.len() + y - self.rows.start) * columns * O * LANES
    }

    /// Adds a group of blocks to the accumulators of one tile.
    #[inline(always)]
    fn tile<S: Simd, const O: usize, const T: usize, const KX: usize>(
        &mut self,
        group: Range<usize>,
        y: usize,
        x: usize,
    ) {
        let e = self.engine;
        let (pitch, before) = (e.pitch(), e.before());
        let span = Patch {
            image: self.input.extent,
            n: self.image,
            top: y as isize - before[0] as isize,
            left: x as isize - before[1] as isize,
            rows: 3,
            columns: T + 2,
            pitch,
            used: &e.used[group.clone()],
            packed: None,
            source: LANES,
        };
        let inside = span.in_place();
        if inside.is_none() {
            span.copy::<S>(&self.input.planes[group.clone()], self.patch);
        }
        for (p, phase) in e.phases.iter().enumerate() {
            let at = self.row::<O, T>(p, y) + (x - self.columns.start) * O * LANES;
            let waiting = &mut self.sums[at..][..T * O * LANES];
            let mut weights = phase.weights[group.start * phase.taps[0].len() * O * KX * LANES..].as_ptr();
            // SAFETY: three rows of `T + 2` pixels are there, in the image or in the patch; the weights
            // were packed in this order; `T * O` accumulators wait.
            unsafe {
                let mut sums = [[S::zero(); T]; O];
                if group.start > 0 {
                    for t in 0..T {
                        for o in 0..O {
                            sums[o][t] = S::load(waiting.as_ptr().add((t * O + o) * LANES));
                        }
                    }
                }
                for plane in group.clone() {
                    let (from, row_pitch) = match inside {
                        Some(at) => (self.input.planes[plane][at..].as_ptr(), self.input.extent.w * LANES),
                        None => (self.patch[(plane - group.start) * pitch.patch_plane..].as_ptr(), pitch.patch * LANES),
                    };
                    if e.used[plane] == 0 {
                        weights = weights.add(phase.taps[0].len() * O * KX * LANES);
                        continue;
                    }
                    for &(row, _) in &phase.taps[0] {
                        let from = from.add(row * row_pitch + phase.taps[1][0].0 * LANES);
                        row_sums::<S, O, T, KX>(from, weights, &mut sums);
                        weights = weights.add(O * KX * LANES);
                    }
                }
                for t in 0..T {
                    for o in 0..O {
                        S::store(waiting.as_mut_ptr().add((t * O + o) * LANES), sums[o][t]);
                    }
                }
            }
        }
    }

    /// Sums the lanes and writes the outputs.
    #[inline(always)]
    fn finish<S: Simd, const O: usize, const T: usize>(&mut self) {
        let e = self.engine;
        let spread = e.spread();
        for (p, phase) in e.phases.iter().enumerate() {
            for y in self.rows.clone() {
                let row = self.row::<O, T>(p, y);
                let line = (self.image * self.size[0] + y * spread + phase.first[0]) * self.size[1];
                for x in self.columns.clone().step_by(LANES / O) {
                    let mut sums = [0.0f32; LANES];
                    let from = &self.sums[row + (x - self.columns.start) * O * LANES..][..LANES * LANES];
                    let mut rows = [S::zero(); LANES];
                    for i in 0..LANES {
                        rows[i] = S::read(&from[i * LANES..]);
                    }
                    S::transpose(&mut rows);
                    let mut sum = rows[0];
                    for i in 1..LANES {
                        sum = S::add(sum, rows[i]);
                    }
                    S::write(&mut sums, sum);
                    for (t, sums) in sums.chunks_exact(O).take(self.columns.end - x).enumerate() {
                        let at = (line + (x + t) * spread + phase.first[1]) * LANES;
                        let mut point = [0.0f32; LANES];
                        for o in 0..O.min(e.shape.out_channels) {
                            let addend = self.epilogue.addend(0, at + o, self.output.at(at + o));
                            // SAFETY: the addend has the output's extent, or is the output.
                            let addend = if self.epilogue.adds() { unsafe { addend.read() } } else { 0.0 };
                            let v = sums[o] + e.bias[o];
                            let v = v.max(v * self.epilogue.activation.slope_before()) + addend;
                            point[o] = v.max(v * self.epilogue.activation.slope());
                        }
                        // SAFETY: `ConvPlan::run` checked the output's extent, and no other task has this point.
                        unsafe { S::store(self.output.at(at), S::read(&point)) };
                    }
                }
            }
        }
    }
}

/// Adds one row of one block: `T + KX - 1` inputs, each used by up to `KX` points.
///
/// # Safety
/// `from` valid for those pixels, `weights` for `O * KX` vectors.
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
