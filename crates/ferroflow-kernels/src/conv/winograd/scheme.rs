//! Every kind of layer as one Winograd form: tiles of a fine grid, input phases that add up in the Winograd domain, and
//! output phases that share the input's transform.
//!
//! * Stride 1: one phase each way.
//! * Dilation d: d x d interleaved sub-grids, each an ordinary convolution of every d-th pixel.
//! * Stride 2: a sum of four stride-1 convolutions, of the even and odd rows and columns with every second tap. The
//!   shorter filters take the point set without its last point, so that all four share one inverse transform.
//! * Stride 2 of frames, few channels without padding: two neighbouring pixels are one vector, which merges the phases of
//!   even and odd columns. (Space-to-depth in one direction, at no cost.)
//! * Transposed of stride 2, and the input gradient of a stride-2 layer: each output parity is a convolution with every
//!   second tap. With the outputs of a parity counted from where all four read the same window (odd ones of the 4x4 from
//!   -1), the layer is one F(m, r) with four times the outputs; shorter filters have zeros at their end.
//! * Transposed of stride 1, the input gradient of a stride-1 layer: the taps in reverse.
//! * A kernel of one row or one column: along the other axis a tile has one value, one output and the one point 0.

use super::points::Points;
use crate::{
    LANES,
    conv::{
        layer::{ConvKind, ConvShape},
        problem::Problem,
    },
};

/// In the place of a tap: a zero.
pub const NO_TAP: usize = usize::MAX >> 1;

/// One summand of the outputs: a sub-grid of the input and its filter.
#[derive(Clone, Debug)]
pub struct InputPhase {
    /// Row and column of tile (0, 0)'s first value.
    pub base: [isize; 2],
    /// Rows and columns of the filter that this phase takes; of the second pixel of a vector, one column further.
    pub taps: [Vec<usize>; 2],
    /// Points along rows and columns.
    pub points: [Points; 2],
}

/// One sub-grid of the outputs.
#[derive(Clone, Debug)]
pub struct OutputPhase {
    /// Row and column of tile (0, 0)'s first output.
    pub base: [isize; 2],
    /// Rows and columns of the filter, where these depend on the output and not on the input.
    pub taps: Option<[Vec<usize>; 2]>,
}

/// A layer in Winograd form.
#[derive(Clone, Debug)]
pub struct Scheme {
    /// Outputs of a tile along rows and columns.
    pub m: [usize; 2],
    /// All points along rows and columns.
    pub points: [Points; 2],
    /// Pixels of the input between neighbouring values of a tile.
    pub input_step: usize,
    /// Pixels of the output between neighbouring outputs of a tile.
    pub output_step: usize,
    /// Neighbouring pixels in one vector.
    pub merged: usize,
    pub inputs: Vec<InputPhase>,
    pub outputs: Vec<OutputPhase>,
    /// Interleaved sub-grids along each side.
    pub grids: usize,
    /// Rows and columns of outputs, of all sub-grids (for one output phase).
    pub size: [usize; 2],
}

impl Scheme {
    /// The longest filter of a layer's phases along rows and columns, if it has a Winograd form.
    pub fn taps(shape: &ConvShape) -> Option<[usize; 2]> {
        let [rows, columns] = shape.kernel;
        match (shape.kind, shape.stride, rows, shape.dilation) {
            (_, 1, 1, _) if (2..=5).contains(&columns) => Some(shape.kernel),
            (_, 1, 2..=5, _) if columns == 1 => Some(shape.kernel),
            _ if rows != columns => None,
            (_, 1, 2..=4, _) => Some(shape.kernel),
            (_, 2, 3..=8, 1) => Some([rows.div_ceil(2); 2]),
            _ => None,
        }
    }

    /// The form of a problem that [`Scheme::taps`] admits, with `n` points (4 to 8; 3 for two taps) along an axis of several taps.
    pub fn new(problem: &Problem, n: usize) -> Option<Self> {
        let shape = &problem.shape;
        let longest = Self::taps(shape)?;
        let points = longest.map(|taps| Points::new(if taps == 1 { 1 } else { n }));
        let m = [0, 1].map(|axis| points[axis].len() + 1 - longest[axis]);
        let output = problem.output;
        let lanes = problem.lanes.len();
        let [top, left] = [shape.padding[0] as isize, shape.padding[1] as isize];
        let scheme = match shape.kind {
            ConvKind::Transposed => {
                let stride = shape.stride;
                let [(rows, top), (columns, left)] = [0, 1].map(|axis| problem.residues(axis));
                // The window of a residue whose taps begin further on is that of an earlier point.
                let begin = |taps: &[(usize, usize)]| taps.first().map_or(0, |t| t.0);
                let padded = |axis: usize, taps: &[(usize, usize)]| {
                    let mut indices: Vec<usize> = taps.iter().map(|t| t.1).collect();
                    indices.resize(longest[axis], NO_TAP);
                    indices
                };
                let base = |taps: &[(usize, usize)], residue: usize| residue as isize - (begin(taps) * stride) as isize;
                let size = |axes: &[Vec<(usize, usize)>], size: usize| {
                    let points = |r: usize| size.saturating_sub(r).div_ceil(stride) + begin(&axes[r]);
                    (0..stride).map(points).max().unwrap_or(0)
                };
                Self {
                    m,
                    points,
                    input_step: shape.dilation,
                    output_step: stride * shape.dilation,
                    merged: 1,
                    inputs: vec![InputPhase { base: [top, left], taps: [vec![], vec![]], points }],
                    outputs: (0..stride)
                        .flat_map(|y| (0..stride).map(move |x| (y, x)))
                        .map(|(y, x)| OutputPhase {
                            base: [base(&rows[y], y), base(&columns[x], x)],
                            taps: Some([padded(0, &rows[y]), padded(1, &columns[x])]),
                        })
                        .collect(),
                    grids: shape.dilation,
                    size: [size(&rows, output.h), size(&columns, output.w)],
                }
            }
            ConvKind::Forward => {
                let merged = if shape.stride == 2 && 2 * lanes <= LANES { 2 } else { 1 };
                let one = |axis: usize, parity: usize| -> Vec<usize> {
                    (parity..shape.kernel[axis]).step_by(shape.stride).collect()
                };
                let set = |axis: usize, taps: &[usize]| {
                    if taps.len() == longest[axis] { points[axis] } else { points[axis].reduced() }
                };
                Self {
                    m,
                    points,
                    input_step: shape.stride * shape.dilation,
                    output_step: shape.dilation,
                    merged,
                    inputs: (0..shape.stride)
                        .flat_map(|y| (0..shape.stride).step_by(merged).map(move |x| (y, x)))
                        .map(|(y, x)| InputPhase {
                            base: [y as isize - top, x as isize - left],
                            points: [set(0, &one(0, y)), set(1, &one(1, x))],
                            taps: [one(0, y), one(1, x)],
                        })
                        .collect(),
                    outputs: vec![OutputPhase { base: [0, 0], taps: None }],
                    grids: shape.dilation,
                    size: [output.h, output.w],
                }
            }
        };
        Some(scheme)
    }

    /// Its name among algorithms.
    pub fn name(&self) -> String {
        let [rows, columns] = self.m;
        format!("winograd F({rows}x{columns})")
    }

    /// The input blocks that hold channels: plane, lanes up to the last channel.
    pub fn used_channels(&self, lanes: &[Option<u32>]) -> Vec<(usize, usize)> {
        if lanes.len() < LANES {
            return vec![(0, lanes.len() * self.merged)];
        }
        lanes
            .chunks(LANES)
            .enumerate()
            .filter_map(|(plane, block)| block.iter().rposition(Option::is_some).map(|last| (plane, last + 1)))
            .collect()
    }

    /// Rows (`axis` 0) or columns of tiles of sub-grid `grid`.
    pub fn tiles(&self, axis: usize, grid: usize) -> usize {
        self.size[axis].saturating_sub(grid).div_ceil(self.grids).div_ceil(self.m[axis])
    }

    /// The filter's rows and columns that take input phase `i` to output phase `o`.
    pub fn kernel(&self, i: usize, o: usize) -> &[Vec<usize>; 2] {
        self.outputs[o].taps.as_ref().unwrap_or(&self.inputs[i].taps)
    }

    /// How many products a tile needs per pair of channels, over all input phases, and the mean over the output phases.
    pub fn products(&self) -> usize {
        let all: usize = self.inputs.iter().map(|phase| phase.points[0].len() * phase.points[1].len()).sum();
        let points = self.count();
        let vanishing: usize =
            (0..self.outputs.len()).map(|o| (0..points).filter(|&point| self.vanishes(o, point)).count()).sum();
        all - vanishing / self.outputs.len()
    }

    /// Points of a tile.
    pub fn count(&self) -> usize {
        self.points[0].len() * self.points[1].len()
    }

    /// Whether output phase `o`'s filters are 0 at a point: at infinity a filter is its last tap, which short ones lack.
    pub fn vanishes(&self, o: usize, point: usize) -> bool {
        let [rows, columns] = self.points.map(Points::len);
        let short = |axis: usize| {
            let taps = self.outputs[o].taps.as_ref();
            taps.is_some_and(|taps| taps[axis].last() == Some(&NO_TAP)) && self.points[axis].infinity
        };
        (short(0) && point / columns + 1 == rows) || (short(1) && point % columns + 1 == columns)
    }
}

/// Where one tile lies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    pub image: usize,
    /// Row and column in the input of its first value, less the phase's base.
    pub input: [isize; 2],
    /// Row and column of its first output, less the phase's base.
    pub output: [isize; 2],
}

/// All tiles of all images and sub-grids, in order.
#[derive(Debug)]
pub struct Tiles {
    /// First tile, image, sub-grid's row and column, tiles per row.
    grids: Vec<(usize, usize, [usize; 2], usize)>,
    count: usize,
    m: [usize; 2],
    steps: [usize; 2],
}

impl Tiles {
    pub fn new(scheme: &Scheme, images: usize) -> Self {
        let mut grids = Vec::new();
        let mut count = 0;
        for image in 0..images {
            for y in 0..scheme.grids {
                for x in 0..scheme.grids {
                    let (rows, columns) = (scheme.tiles(0, y), scheme.tiles(1, x));
                    if rows * columns > 0 {
                        grids.push((count, image, [y, x], columns));
                        count += rows * columns;
                    }
                }
            }
        }
        Self { grids, count, m: scheme.m, steps: [scheme.input_step, scheme.output_step] }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The places of the tiles from `first` on.
    pub fn fill(&self, first: usize, places: &mut [Place]) {
        let mut grid = self.grids.partition_point(|g| g.0 <= first) - 1;
        for (tile, place) in (first..).zip(places) {
            if self.grids.get(grid + 1).is_some_and(|g| g.0 <= tile) {
                grid += 1;
            }
            let (start, image, offset, columns) = self.grids[grid];
            let at = [(tile - start) / columns * self.m[0], (tile - start) % columns * self.m[1]];
            let [input, output] = self.steps.map(|step| [0, 1].map(|axis| (at[axis] * step + offset[axis]) as isize));
            *place = Place { image, input, output };
        }
    }
}
