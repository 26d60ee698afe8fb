//! The three matrix products of a 1x1 convolution over points in blocks: outputs, input gradient, weight gradient.
//!
//! The first two are one [`Product`] with different weights: rows are points, weights are vectors of 16 outputs. The
//! third ([`WeightGradient`]) sums over points: rows are input channels.

use std::ops::Range;

use crate::{
    LANES,
    gemm::{self, groups, rows},
    simd::{self, Isa, Kernel, Simd},
    team,
};

/// The channels of one side of the convolution, in blocks.
pub struct Side {
    /// Per lane.
    pub lanes: Vec<Option<u32>>,
    pub channels: usize,
    /// Per block: lanes up to its last channel.
    pub depths: Vec<usize>,
    /// Per block: its first channel, if it holds 16 in a row.
    whole: Vec<Option<usize>>,
}

impl Side {
    /// Fills up the last block.
    pub fn new(lanes: &[Option<u32>]) -> Self {
        let mut lanes = lanes.to_vec();
        lanes.resize(lanes.len().next_multiple_of(LANES), None);
        let depth = |block: &[Option<u32>]| block.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let whole = |block: &[Option<u32>]| {
            let first = block[0]?;
            block.iter().zip(first..).all(|(&lane, channel)| lane == Some(channel)).then_some(first as usize)
        };
        Self {
            channels: lanes.iter().flatten().count(),
            depths: lanes.chunks(LANES).map(depth).collect(),
            whole: lanes.chunks(LANES).map(whole).collect(),
            lanes,
        }
    }

    pub fn blocks(&self) -> usize {
        self.depths.len()
    }

    /// Rows of the weights of a product over this side.
    pub fn depth(&self) -> usize {
        self.depths.iter().sum()
    }

    fn block(&self, block: usize) -> &[Option<u32>] {
        &self.lanes[block * LANES..][..LANES]
    }
}

/// Packs the weights `[out, channels]` for a [`Product`]: `[panel of output blocks][channel][vectors of a panel]`.
pub fn pack(isa: Isa, weights: &[f32], input: &Side, output: &Side, panel: usize, to: &mut [f32]) {
    let depth = input.depth();
    let to = &mut to[..output.blocks() * depth * LANES];
    team::for_chunks_mut(to, panel * depth * LANES, |i, to| {
        let vectors = to.len() / depth.max(1) / LANES;
        for vector in 0..vectors {
            let of = i * panel + vector;
            let mut row = 0;
            for block in 0..input.blocks() {
                let square = Square { weights, rows: (output, of), columns: (input, block) };
                let to = &mut to[(row * vectors + vector) * LANES..];
                simd::run(isa, PackTransposed { square, step: vectors * LANES, rows: input.depths[block], to });
                row += input.depths[block];
            }
        }
    });
}

/// Packs the weights `[out, channels]` transposed: the [`Product`] that leads from outputs' gradients to inputs'.
pub fn pack_transposed(isa: Isa, weights: &[f32], input: &Side, output: &Side, panel: usize, to: &mut [f32]) {
    let depth = output.depth();
    let to = &mut to[..input.blocks() * depth * LANES];
    team::for_chunks_mut(to, panel * depth * LANES, |i, to| {
        simd::run(isa, Pack { weights, input, output, first: i * panel, vectors: to.len() / depth / LANES, to });
    });
}

/// One panel of [`pack_transposed`].
struct Pack<'a> {
    weights: &'a [f32],
    input: &'a Side,
    output: &'a Side,
    /// First block and blocks of the panel.
    first: usize,
    vectors: usize,
    to: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut to = self.to.chunks_exact_mut(LANES);
        for block in 0..self.output.blocks() {
            for lane in 0..self.output.depths[block] {
                for column in self.first..self.first + self.vectors {
                    let square =
                        Square { weights: self.weights, rows: (self.output, block), columns: (self.input, column) };
                    let Some(to) = to.next() else { return };
                    // SAFETY: inside a kernel.
                    unsafe { S::store(to.as_mut_ptr(), square.row::<S>(lane)) };
                }
            }
        }
    }
}

/// Weights between two blocks: row = output channel, column = input channel; 0 for padding lanes.
#[derive(Clone, Copy)]
struct Square<'a> {
    weights: &'a [f32],
    rows: (&'a Side, usize),
    columns: (&'a Side, usize),
}

impl Square<'_> {
    /// # Safety
    /// In a [`Kernel`].
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, lane: usize) -> S::V {
        let ((output, row), (input, column)) = (self.rows, self.columns);
        // SAFETY: every slice has 16 floats.
        unsafe {
            let Some(o) = output.block(row)[lane] else { return S::zero() };
            let row = &self.weights[o as usize * input.channels..][..input.channels];
            match input.whole[column] {
                Some(first) => S::load(row[first..][..LANES].as_ptr()),
                None => {
                    let mut values = [0.0; LANES];
                    for (to, channel) in values.iter_mut().zip(input.block(column)) {
                        *to = channel.map_or(0.0, |c| row[c as usize]);
                    }
                    S::load(values.as_ptr())
                }
            }
        }
    }
}

struct PackTransposed<'a> {
    square: Square<'a>,
    /// Floats between the rows of `to`, and how many of them.
    step: usize,
    rows: usize,
    to: &'a mut [f32],
}

impl Kernel for PackTransposed<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: inside a kernel; every slice has 16 floats.
        unsafe {
            let mut rows = [S::zero(); LANES];
            for (lane, row) in rows.iter_mut().enumerate() {
                *row = self.square.row::<S>(lane);
            }
            S::transpose(&mut rows);
            for (i, &row) in rows.iter().enumerate().take(self.rows) {
                S::store(self.to[i * self.step..][..LANES].as_mut_ptr(), row);
            }
        }
    }
}

/// What happens to the sums of a register tile.
pub trait Finish<S: Simd> {
    /// `tile[t][n]`: output block `block + n` of point `point + t` of the chunk.
    ///
    /// # Safety
    /// In a [`Kernel`].
    unsafe fn finish<const T: usize, const N: usize>(&mut self, block: usize, point: usize, tile: &[[S::V; N]; T]);
}

/// Floats of weights asked for ahead of use: the way from the second-level cache.
const AHEAD: usize = 16 * LANES;

/// Points of a chunk times packed weights.
pub struct Product<'a> {
    /// The chunk: blocks `pitch` floats apart, of which `depths` lanes count.
    pub chunk: *const f32,
    pub pitch: usize,
    pub depths: &'a [usize],
    pub points: usize,
    /// All packed weights; `depth` rows.
    pub weights: &'a [f32],
    pub depth: usize,
    /// Output blocks to compute; begins at a panel's first.
    pub blocks: Range<usize>,
}

impl Product<'_> {
    /// # Safety
    /// In a [`Kernel`]; `chunk` has `points` points in every block.
    #[inline(always)]
    pub unsafe fn run<S: Simd, F: Finish<S>>(&self, finish: &mut F) {
        for first in self.blocks.clone().step_by(S::PANEL) {
            let vectors = S::PANEL.min(self.blocks.end - first);
            let weights = &self.weights[first * self.depth * LANES..][..vectors * self.depth * LANES];
            for (point, rows) in groups(self.points, S::TILE) {
                rows!(rows, S::TILE, T => {
                    // SAFETY: the chunk has these points, the panel these weights.
                    unsafe {
                        if const { S::PANEL >= 2 } && vectors == 2 {
                            finish.finish::<T, 2>(first, point, &self.tile::<S, T, 2>(point, weights));
                        } else {
                            finish.finish::<T, 1>(first, point, &self.tile::<S, T, 1>(point, weights));
                        }
                    }
                });
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const T: usize, const N: usize>(&self, point: usize, weights: &[f32]) -> [[S::V; N]; T] {
        // SAFETY: `run`'s.
        unsafe {
            let mut tile = gemm::zero::<S, T, N>();
            let (mut from, mut weights) = (self.chunk.add(point * LANES), weights.as_ptr());
            for &depth in self.depths {
                for lane in 0..depth {
                    for n in 0..N {
                        S::prefetch_near(weights.wrapping_add(AHEAD + n * LANES));
                    }
                    gemm::step::<S, T, N, LANES>(&mut tile, from.add(lane), weights);
                    weights = weights.add(N * LANES);
                }
                from = from.wrapping_add(self.pitch);
            }
            tile
        }
    }
}

/// `sums[c][o] += sum over points of input[c] * d_output[o]`, lanes including padding: `[input lane][output lane]`.
pub struct WeightGradient<'a> {
    /// Blocks `pitches[0]` floats apart, of which `depths` lanes count.
    pub input: *const f32,
    pub depths: &'a [usize],
    /// Blocks `pitches[1]` floats apart.
    pub d_output: *const f32,
    pub output_blocks: usize,
    pub pitches: [usize; 2],
    pub points: usize,
    /// `depths.len() * 16` rows of `output_blocks * 16`.
    pub sums: *mut f32,
}

/// Points at a time: two blocks of output gradients and one of inputs fit in L1.
const DEPTH: usize = 256;

impl WeightGradient<'_> {
    /// # Safety
    /// In a [`Kernel`]; the pointers as described.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(&self) {
        for first in (0..self.output_blocks).step_by(S::PANEL) {
            let vectors = S::PANEL.min(self.output_blocks - first);
            for (point, points) in groups(self.points, DEPTH) {
                for (block, &depth) in self.depths.iter().enumerate() {
                    for (lane, rows) in groups(depth, S::TILE).filter(|group| group.1 > 0) {
                        // SAFETY: the caller's: these points, lanes and blocks are there.
                        unsafe {
                            let input = self.input.add(block * self.pitches[0] + point * LANES + lane);
                            let d_output = self.d_output.add(first * self.pitches[1] + point * LANES);
                            let at = (block * LANES + lane) * self.output_blocks + first;
                            let sums = self.sums.add(at * LANES);
                            rows!(rows, S::TILE, T => {
                                if const { S::PANEL >= 2 } && vectors == 2 {
                                    self.tile::<S, T, 2>(input, d_output, points, sums);
                                } else {
                                    self.tile::<S, T, 1>(input, d_output, points, sums);
                                }
                            });
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const T: usize, const N: usize>(
        &self,
        input: *const f32,
        d_output: *const f32,
        points: usize,
        sums: *mut f32,
    ) {
        // SAFETY: `run`'s.
        unsafe {
            // The sums come from a further cache, while the products run.
            for t in 0..T {
                for n in 0..N {
                    S::prefetch_near(sums.add((t * self.output_blocks + n) * LANES));
                }
            }
            let mut tile = gemm::zero::<S, T, N>();
            for point in 0..points {
                let mut gradients = [S::zero(); N];
                for (n, gradient) in gradients.iter_mut().enumerate() {
                    *gradient = S::load(d_output.add(n * self.pitches[1] + point * LANES));
                }
                for (t, row) in tile.iter_mut().enumerate() {
                    let value = S::splat(*input.add(point * LANES + t));
                    for (sum, &gradient) in row.iter_mut().zip(&gradients) {
                        *sum = S::fma(value, gradient, *sum);
                    }
                }
            }
            for (t, row) in tile.iter().enumerate() {
                for (n, &sum) in row.iter().enumerate() {
                    let to = sums.add((t * self.output_blocks + n) * LANES);
                    S::store(to, S::add(S::load(to), sum));
                }
            }
        }
    }
}

/// Adds sums of [`WeightGradient`], one after the other, to the gradient `[out, channels]`.
pub fn add_weight_gradient(isa: Isa, sums: &[&[f32]], input: &Side, output: &Side, gradient: &mut [f32]) {
    // Rows of 16 outputs: a block's channels follow one another on this side.
    team::for_chunks_mut(gradient, LANES * input.channels, |block, gradient| {
        for column in 0..input.blocks() {
            simd::run(isa, AddTransposed { sums, input, output, column, block, gradient });
        }
    });
}

struct AddTransposed<'a> {
    sums: &'a [&'a [f32]],
    input: &'a Side,
    output: &'a Side,
    column: usize,
    block: usize,
    gradient: &'a mut [f32],
}

impl Kernel for AddTransposed<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let channels = self.input.channels;
        let mut square = [[0.0f32; LANES]; LANES];
        // SAFETY: inside a kernel; every slice has 16 floats.
        unsafe {
            let mut rows = [S::zero(); LANES];
            for (lane, row) in rows.iter_mut().enumerate().take(self.input.depths[self.column]) {
                let at = ((self.column * LANES + lane) * self.output.blocks() + self.block) * LANES;
                for sums in self.sums {
                    *row = S::add(*row, S::load(sums[at..][..LANES].as_ptr()));
                }
            }
            S::transpose(&mut rows);
            for (to, row) in square.iter_mut().zip(rows) {
                S::store(to.as_mut_ptr(), row);
            }
        }
        for (gradient, row) in self.gradient.chunks_mut(channels).zip(&square) {
            match self.input.whole[self.column] {
                Some(first) => {
                    let to = gradient[first..][..LANES].as_mut_ptr();
                    // SAFETY: inside a kernel; both have 16 floats.
                    unsafe { S::store(to, S::add(S::load(to), S::load(row.as_ptr()))) };
                }
                None => {
                    for (channel, x) in self.input.block(self.column).iter().zip(row) {
                        if let Some(channel) = channel {
                            gradient[*channel as usize] += x;
                        }
                    }
                }
            }
        }
    }
}
