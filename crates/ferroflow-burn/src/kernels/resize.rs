//! Bilinear resizing and its gradient.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use ferroflow_net::graph::Grid;

use super::{cast_back, dims, empty, plain, units};

/// One axis: output `i` lies at `(factor * i + offset) / divisor` of the input, clamped to it. Whole numbers, so that a fraction is
/// exact to one rounding whatever the size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    inputs: usize,
    outputs: usize,
    factor: i32,
    offset: i32,
    divisor: i32,
}

impl Axis {
    /// See [`Grid::source`].
    pub(crate) fn new(grid: Grid, inputs: usize, outputs: usize) -> Self {
        let (from, to) = (inputs as i32, outputs as i32);
        let (factor, offset, divisor) = match grid {
            Grid::HalfPixel => (2 * from, from - to, 2 * to),
            Grid::AlignCorners if to == 1 => (0, 0, 1),
            Grid::AlignCorners => (from - 1, 0, to - 1),
            Grid::Asymmetric => (from, 0, to),
        };
        Self { inputs, outputs, factor, offset, divisor }
    }
}

/// `[N, C, H, W]` -> `[N, C, rows.outputs, columns.outputs]`
pub(crate) fn resize(x: CubeTensor, [rows, columns]: [Axis; 2]) -> CubeTensor {
    let dtype = x.dtype;
    let x = plain(x);
    let [n, channels, ..] = dims(&x);
    let output = empty(&x, [n, channels, rows.outputs, columns.outputs]);
    let client = output.client.clone();
    let (count, dim) = units(&client, output.meta.num_elements());
    forward::launch(
        &client,
        count,
        dim,
        x.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        rows.launch(),
        columns.launch(),
    );
    cast_back(output, dtype)
}

/// The gradient with respect to the input: each of its values gathers from the outputs that are mixed of it.
pub(crate) fn resize_backward(gradient: CubeTensor, [rows, columns]: [Axis; 2]) -> CubeTensor {
    let dtype = gradient.dtype;
    let gradient = plain(gradient);
    let [n, channels, ..] = dims(&gradient);
    let found = empty(&gradient, [n, channels, rows.inputs, columns.inputs]);
    let client = found.client.clone();
    let (count, dim) = units(&client, found.meta.num_elements());
    backward::launch(
        &client,
        count,
        dim,
        gradient.into_tensor_arg(),
        found.clone().into_tensor_arg(),
        rows.launch(),
        columns.launch(),
    );
    cast_back(found, dtype)
}

impl Axis {
    fn launch(self) -> LineLaunch {
        let Self { inputs, outputs, factor, offset, divisor } = self;
        LineLaunch::new(inputs as i32, outputs as i32, factor, offset, divisor)
    }
}

/// [`Axis`] on the device.
#[derive(CubeLaunch, CubeType)]
struct Line {
    inputs: i32,
    outputs: i32,
    factor: i32,
    offset: i32,
    divisor: i32,
}

/// The two inputs that an output is mixed of.
#[derive(CubeType)]
struct Tap {
    low: i32,
    high: i32,
    /// Share of the second.
    share: f32,
}

#[cube]
fn tap(line: &Line, i: i32) -> Tap {
    let place = max(line.factor * i + line.offset, 0);
    let last = line.inputs - 1;
    let low = min(place / line.divisor, last);
    let beyond = place - low * line.divisor;
    let share = select(low == last, 0.0, f32::cast_from(beyond) / f32::cast_from(line.divisor));
    Tap { low, high: min(low + 1, last), share }
}

/// What share of output `i` input `j` is.
#[cube]
fn share_of(line: &Line, i: i32, j: i32) -> f32 {
    let tap = tap(line, i);
    let first = select(tap.low == j, 1.0 - tap.share, 0.0);
    let second = select(tap.high == j, tap.share, 0.0);
    first + second
}

/// The first output that may be mixed of input `j`, or one before it.
#[cube]
fn first_output(line: &Line, j: i32) -> i32 {
    let place = ((j - 1) * line.divisor - line.offset) / max(line.factor, 1) - 1;
    select(j == 0 || line.factor == 0, 0, max(place, 0))
}

/// The end of the outputs that may be mixed of input `j`.
#[cube]
fn last_output(line: &Line, j: i32) -> i32 {
    let place = ((j + 1) * line.divisor - line.offset) / max(line.factor, 1) + 2;
    select(j == line.inputs - 1 || line.factor == 0, line.outputs, min(place, line.outputs))
}

#[cube(launch)]
fn forward(x: &Tensor<f32>, output: &mut Tensor<f32>, rows: Line, columns: Line) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let (height, width) = (rows.outputs as usize, columns.outputs as usize);
    let pixel = ABSOLUTE_POS % (height * width);
    let plane = ABSOLUTE_POS / (height * width);
    let down = tap(&rows, (pixel / width) as i32);
    let right = tap(&columns, (pixel % width) as i32);
    let from = columns.inputs as usize;
    let first = plane * rows.inputs as usize * from;
    let upper = first + down.low as usize * from;
    let lower = first + down.high as usize * from;
    let (left, next) = (right.low as usize, right.high as usize);
    let above = x[upper + left] + (x[upper + next] - x[upper + left]) * right.share;
    let below = x[lower + left] + (x[lower + next] - x[lower + left]) * right.share;
    output[ABSOLUTE_POS] = above + (below - above) * down.share;
}

#[cube(launch)]
fn backward(gradient: &Tensor<f32>, found: &mut Tensor<f32>, rows: Line, columns: Line) {
    if ABSOLUTE_POS >= found.len() {
        terminate!();
    }
    let (height, width) = (rows.inputs as usize, columns.inputs as usize);
    let pixel = ABSOLUTE_POS % (height * width);
    let plane = ABSOLUTE_POS / (height * width);
    let (y, x) = ((pixel / width) as i32, (pixel % width) as i32);
    let to = columns.outputs as usize;
    let first = plane * rows.outputs as usize * to;
    let mut sum = 0.0f32;
    for i in first_output(&rows, y)..last_output(&rows, y) {
        let down = share_of(&rows, i, y);
        if down != 0.0 {
            for k in first_output(&columns, x)..last_output(&columns, x) {
                sum += down * share_of(&columns, k, x) * gradient[first + i as usize * to + k as usize];
            }
        }
    }
    found[ABSOLUTE_POS] = sum;
}
