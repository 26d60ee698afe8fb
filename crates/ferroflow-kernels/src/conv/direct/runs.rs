//! How a layer's window lies in memory: the order of the sum, and the weights packed in it.

use crate::{Buffer, LANES, conv::Layer};

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

/// The taps along one axis: (distance from the window's beginning, kernel index).
pub type Taps = Vec<(usize, usize)>;

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

/// Bytes of weights that a chunk may have: with its inputs it should stay in a second-level cache of 1 MB.
const CHUNK_BYTES: usize = 256 << 10;

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
        let lane = |plane: usize, l: usize| layer.lanes.get(plane * LANES + l).copied().flatten();
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
        let weights = pack(layer, &steps, panel);
        let chunks = chunks(&runs, panel);
        Self { first, runs, chunks, depth: steps.len(), weights }
    }
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

fn pack(layer: &Layer<'_>, steps: &[(Option<u32>, usize, usize)], panel: usize) -> Buffer {
    let s = &layer.shape;
    let blocks = s.out_channels.div_ceil(LANES);
    let mut packed = Buffer::zeroed(blocks * steps.len() * LANES);
    for first in (0..blocks).step_by(panel) {
        let width = panel.min(blocks - first) * LANES;
        let panel = &mut packed[first * steps.len() * LANES..][..steps.len() * width];
        for (row, &(channel, ky, kx)) in panel.chunks_mut(width).zip(steps) {
            let Some(channel) = channel else { continue };
            for (o, w) in (first * LANES..s.out_channels).zip(row) {
                *w = layer.weight[s.weight_index(o, channel as usize, ky, kx)];
            }
        }
    }
    packed
}
