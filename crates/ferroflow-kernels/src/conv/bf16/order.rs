//! How a layer's inputs lie in bf16, the order of its sums, and the weights packed in it.

use std::mem;

use crate::{
    Buffer, LANES,
    bf16::{DEPTH, PANEL, TILE_LEN, round},
    conv::problem::{Filter, Taps},
    disjoint::Disjoint,
    team,
};

/// How the bf16 copy of an input lies: `[group][row][column][pixel]`.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The input blocks that hold channels.
    pub planes: Vec<usize>,
    /// Floats from pixel to pixel of the input.
    pub source: usize,
    /// Numbers from pixel to pixel of the copy: two blocks side by side, one if there is but one, or the few channels of
    /// a first layer. Only a group of two blocks fills the steps of a sum by itself; of the others, neighbouring pixels
    /// do.
    pub pixel: usize,
}

impl Layout {
    pub fn new(lanes: &[Option<u32>]) -> Self {
        let holds = |block: &[Option<u32>]| block.iter().any(Option::is_some);
        let planes: Vec<usize> = lanes.chunks(LANES).enumerate().filter(|(_, b)| holds(b)).map(|(i, _)| i).collect();
        let source = lanes.len().min(LANES);
        Self { pixel: if planes.len() > 1 { DEPTH } else { source }, planes, source }
    }

    pub fn groups(&self) -> usize {
        self.planes.len().div_ceil((self.pixel / self.source).max(1)).max(1)
    }

    /// The one or two blocks of a group, out of all that `plane` gives.
    #[inline(always)]
    pub fn planes_of<'a>(&self, group: usize, plane: impl Fn(usize) -> &'a [f32]) -> [Option<&'a [f32]>; 2] {
        let group = self.group(group);
        std::array::from_fn(|i| group.get(i).map(|&p| plane(p)))
    }

    /// The input blocks of a group: one or two.
    pub fn group(&self, group: usize) -> &[usize] {
        let each = (self.pixel / self.source).max(1);
        &self.planes[(group * each).min(self.planes.len())..self.planes.len().min((group + 1) * each)]
    }
}

/// Numbers from row to row and from group to group of the copy, in pixels and in numbers.
#[derive(Clone, Copy, Debug)]
pub struct Pitch {
    pub row: usize,
    pub group: usize,
}

/// One convolution over the grid: the whole layer, or one of the four phases of a transposed one.
pub struct Phase {
    /// Row and column of its first output.
    pub first: [usize; 2],
    /// Bytes from the window's beginning to the inputs of each step.
    pub offsets: Vec<u32>,
    /// Input channel and tap (row-major) of each number of each step; `None` has weight 0.
    summands: Vec<Option<(u32, u32)>>,
    /// `[panel][step][blocks of the panel][16 pairs][16 outputs][2]` in bf16.
    weights: Buffer,
    blocks: usize,
}

impl Phase {
    /// Orders the sum of a window with a kernel of so many columns, for `blocks` blocks of outputs.
    pub fn new(
        layout: &Layout,
        pitch: Pitch,
        lanes: &[Option<u32>],
        kernel_columns: usize,
        first: [usize; 2],
        [rows, columns]: [&Taps; 2],
        blocks: usize,
    ) -> Self {
        let (mut offsets, mut summands) = (Vec::new(), Vec::new());
        let mut stretch = |group: usize, row: usize, column: usize, values: Vec<Option<(u32, u32)>>| {
            let begin = group * pitch.group + (row * pitch.row + column) * layout.pixel;
            for (i, part) in values.chunks(DEPTH).enumerate() {
                offsets.push((size_of::<u16>() * (begin + i * DEPTH)) as u32);
                summands.extend(part);
                summands.resize(offsets.len() * DEPTH, None);
            }
        };
        let adjacent = columns.windows(2).all(|c| c[1].0 == c[0].0 + 1);
        for group in 0..layout.groups() {
            for &(row, ky) in rows {
                let pixel = |kx: usize| {
                    let tap = (ky * kernel_columns + kx) as u32;
                    let lane = |l: usize| {
                        let plane = *layout.group(group).get(l / layout.source)?;
                        Some((lanes[plane * LANES + l % layout.source]?, tap))
                    };
                    (0..layout.pixel).map(lane).collect::<Vec<_>>()
                };
                if adjacent && !columns.is_empty() {
                    stretch(group, row, columns[0].0, columns.iter().flat_map(|&(_, kx)| pixel(kx)).collect());
                } else {
                    columns.iter().for_each(|&(column, kx)| stretch(group, row, column, pixel(kx)));
                }
            }
        }
        if rows.is_empty() || columns.is_empty() {
            // No tap reaches these outputs: a sum of zeros.
            stretch(0, 0, 0, vec![None]);
        }
        let weights = Buffer::zeroed(blocks * offsets.len() * TILE_LEN / 2);
        Self { first, offsets, summands, weights, blocks }
    }

    /// Takes the weights.
    pub fn pack(&mut self, filter: &Filter<'_>) {
        let mut weights = mem::take(&mut self.weights);
        let to = Disjoint::new(&mut weights);
        let phase = &*self;
        team::for_each(phase.blocks, |block| {
            let (panel, width) = phase.panel_of(block);
            for (s, summands) in phase.summands.chunks(DEPTH).enumerate() {
                let tile = panel * phase.offsets.len() + s * width + block - panel;
                // SAFETY: every block has its own tile of every step, of which there are as many as the buffer holds.
                let tile = unsafe { &mut *to.at(tile * TILE_LEN / 2).cast::<[u16; TILE_LEN]>() };
                for (k, summand) in summands.iter().enumerate() {
                    for lane in 0..LANES {
                        tile[k / 2 * DEPTH + 2 * lane + k % 2] = summand.map_or(0, |(channel, tap)| {
                            let (ky, kx) = (tap as usize / filter.kernel[1], tap as usize % filter.kernel[1]);
                            round(filter.at(block * LANES + lane, channel as usize, ky, kx))
                        });
                    }
                }
            }
        });
        self.weights = weights;
    }

    /// First block of a block's panel, and how many the panel has.
    fn panel_of(&self, block: usize) -> (usize, usize) {
        let first = block - block % PANEL;
        (first, PANEL.min(self.blocks - first))
    }

    /// The weights of the panel that begins with this block.
    pub fn panel(&self, first: usize) -> *const u16 {
        self.weights[first * self.offsets.len() * TILE_LEN / 2..].as_ptr().cast()
    }

    pub fn weight_bytes(&self) -> usize {
        4 * self.weights.len()
    }
}
