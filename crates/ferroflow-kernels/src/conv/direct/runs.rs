//! How a layer's window lies in memory: the order of the sum, and the weights packed in it.

use std::mem;

use crate::{
    Buffer, Isa, LANES,
    conv::{
        layer::Layer,
        problem::{Filter, Taps},
    },
    disjoint::Disjoint,
    lane_map,
    machine::direct::CHUNK_BYTES,
    simd::{self, Kernel, Simd},
    team,
};

/// Inputs of one output that lie next to each other.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Input block.
    pub plane: u32,
    /// Values.
    pub len: u32,
    /// Floats from the window's first pixel to the run, in the input block.
    pub source: u32,
    /// The same in a patch.
    pub patch: u32,
}

/// One convolution over the grid: the whole layer, or one of the four phases of a transposed one.
pub struct Phase {
    /// Row and column of its first output.
    pub first: [usize; 2],
    /// The sum's order.
    pub runs: Vec<Run>,
    /// Ranges of `runs` whose weights fit in the cache beside their inputs, with the weight vectors before them.
    pub chunks: Vec<(std::ops::Range<usize>, usize)>,
    /// Vectors of weights per output block.
    pub depth: usize,
    /// `[panel][depth][blocks of the panel][16]`
    pub weights: Buffer,
    /// Input channel, tap (row-major) and step of every summand, ordered by channel and tap.
    places: Vec<(u32, u32, u32)>,
    panel: usize,
    blocks: usize,
}

/// How the input's channels are read.
#[derive(Clone, Debug)]
pub struct Channels {
    /// Lanes in use of each block: up to the last that holds a channel.
    pub used: Vec<usize>,
    /// `Some`: patches hold `[row][column][this many channels]`, for first layers; else they are blocks as the input.
    pub packed: Option<usize>,
    /// Floats from pixel to pixel of the input.
    pub source: usize,
}

impl Channels {
    /// Packs where blocks of 16 would be mostly padding.
    pub fn new(lanes: &[Option<u32>], window: usize) -> Self {
        let used: Vec<usize> =
            lanes.chunks(LANES).map(|block| block.iter().rposition(Option::is_some).map_or(0, |l| l + 1)).collect();
        let sum: usize = used.iter().sum();
        if lanes.len() < LANES {
            return Self { used: vec![lanes.len()], packed: Some(lanes.len()), source: lanes.len() };
        }
        let packed = (window > 1 && sum > 0 && sum < LANES).then_some(sum);
        Self { used, packed, source: LANES }
    }

    /// Floats from pixel to pixel.
    pub fn pixel(&self) -> usize {
        self.packed.unwrap_or(LANES)
    }
}

impl Phase {
    /// Orders the sum and packs the weights, `panel` blocks of outputs side by side.
    pub fn new(
        layer: &Layer<'_>,
        channels: &Channels,
        first: [usize; 2],
        taps: [&Taps; 2],
        pitch: Pitch,
        panel: usize,
    ) -> Self {
        let s = &layer.shape;
        let window = Window { columns: s.kernel[1], lanes: layer.lanes, channels, pitch };
        let mut phase = Self::ordered(&window, first, taps, s.out_channels.div_ceil(LANES), panel);
        phase.pack(&Filter::new(s, layer.weight, &lane_map(&[s.out_channels])), Isa::detect());
        phase
    }

    /// Orders the sum, for `blocks` blocks of outputs.
    pub fn ordered(window: &Window<'_>, first: [usize; 2], taps: [&Taps; 2], blocks: usize, panel: usize) -> Self {
        let Window { columns: kernel_columns, lanes, channels, pitch } = *window;
        let mut runs = Vec::new();
        // Input channel, kernel row, kernel column of each step of the sum.
        let mut steps: Vec<(Option<u32>, usize, usize)> = Vec::new();
        let [rows, columns] = taps;
        let adjacent = columns.windows(2).all(|c| c[1].0 == c[0].0 + 1);
        let mut push = |plane: usize, row: usize, column: usize, len: usize| {
            let pixel = channels.pixel();
            runs.push(Run {
                plane: plane as u32,
                len: len as u32,
                source: ((row * pitch.source + column) * channels.source) as u32,
                patch: (plane * pitch.patch_plane + (row * pitch.patch + column) * pixel) as u32,
            });
        };
        let lane = |plane: usize, l: usize| lanes.get(plane * LANES + l).copied().flatten();
        if channels.packed.is_some() {
            for &(row, ky) in rows {
                for (i, &(column, kx)) in columns.iter().enumerate() {
                    if !adjacent {
                        push(0, row, column, channels.pixel());
                    } else if i == 0 {
                        push(0, row, column, channels.pixel() * columns.len());
                    }
                    for (plane, &used) in channels.used.iter().enumerate() {
                        steps.extend((0..used).map(|l| (lane(plane, l), ky, kx)));
                    }
                }
            }
        } else {
            for (plane, &used) in channels.used.iter().enumerate().filter(|(_, used)| **used > 0) {
                let whole = adjacent && used > LANES - LANES / 8;
                let used = if whole { LANES } else { used };
                for &(row, ky) in rows {
                    for (i, &(column, kx)) in columns.iter().enumerate() {
                        if !whole {
                            push(plane, row, column, used);
                        } else if i == 0 {
                            push(plane, row, column, LANES * columns.len());
                        }
                        steps.extend((0..used).map(|l| (lane(plane, l), ky, kx)));
                    }
                }
            }
        }
        let chunks = chunks(&runs, panel);
        let place = |(k, &(channel, y, x)): (usize, &(Option<u32>, usize, usize))| {
            Some((channel?, (y * kernel_columns + x) as u32, k as u32))
        };
        let mut places: Vec<_> = steps.iter().enumerate().filter_map(place).collect();
        places.sort_unstable();
        let weights = Buffer::zeroed(blocks * steps.len() * LANES);
        Self { first, runs, chunks, depth: steps.len(), weights, places, panel, blocks }
    }

    /// Takes the weights.
    pub(in crate::conv) fn pack(&mut self, filter: &Filter<'_>, isa: Isa) {
        // Blocks together: of an adjoint layer, the weights of neighbouring outputs lie next to each other.
        const BLOCKS: usize = 4;
        let mut weights = mem::take(&mut self.weights);
        let to = Disjoint::new(&mut weights);
        let phase = &*self;
        team::for_each(phase.blocks.div_ceil(BLOCKS), |group| {
            let blocks = group * BLOCKS..phase.blocks.min((group + 1) * BLOCKS);
            simd::run(isa, Pack { phase, filter, blocks, to });
        });
        self.weights = weights;
    }
}

/// Packs the weights of some blocks of outputs.
struct Pack<'a> {
    phase: &'a Phase,
    filter: &'a Filter<'a>,
    blocks: std::ops::Range<usize>,
    to: Disjoint<'a>,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { phase, filter, blocks, to } = self;
        let group = |place: &(u32, u32, u32)| (place.0, place.1 / LANES as u32);
        let mut taps = [0.0f32; LANES * LANES];
        for places in phase.places.chunk_by(|a, b| group(a) == group(b)) {
            let (channel, first_tap) = (places[0].0 as usize, places[0].1 as usize / LANES * LANES);
            for block in blocks.clone() {
                let first = block - block % phase.panel;
                let width = phase.panel.min(phase.blocks - first);
                // SAFETY: every step of this block has its own place in the weights, which no other task
                // writes.
                unsafe {
                    let vectors = filter.taps::<S>(block, channel, first_tap);
                    for (i, &vector) in vectors.iter().enumerate() {
                        S::write(&mut taps[i * LANES..], vector);
                    }
                    for &(_, tap, k) in places {
                        let place = (first * phase.depth + k as usize * width + block - first) * LANES;
                        S::store(to.at(place), S::read(&taps[(tap as usize - first_tap) * LANES..]));
                    }
                }
            }
        }
    }
}

/// What the windows of a layer's phases have in common.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    /// Columns of the kernel.
    pub columns: usize,
    /// The input channel of each lane.
    pub lanes: &'a [Option<u32>],
    pub channels: &'a Channels,
    pub pitch: Pitch,
}

/// Pixels from row to row of the input and of a patch, and floats from plane to plane of a patch.
#[derive(Clone, Copy)]
pub struct Pitch {
    pub source: usize,
    pub patch: usize,
    pub patch_plane: usize,
}

fn chunks(runs: &[Run], panel: usize) -> Vec<(std::ops::Range<usize>, usize)> {
    let limit = CHUNK_BYTES / (4 * LANES * panel);
    let total: usize = runs.iter().map(|r| r.len as usize).sum();
    let even = total.div_ceil(total.div_ceil(limit).max(1));
    let mut chunks = Vec::new();
    let (mut begin, mut before, mut depth) = (0, 0, 0);
    for (i, run) in runs.iter().enumerate() {
        depth += run.len as usize;
        if depth >= even || i + 1 == runs.len() {
            chunks.push((begin..i + 1, before));
            begin = i + 1;
            before += depth;
            depth = 0;
        }
    }
    if chunks.is_empty() {
        chunks.push((0..0, 0));
    }
    chunks
}
