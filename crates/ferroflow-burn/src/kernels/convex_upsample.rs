//! Convex upsampling and its gradients.
//!
//! A unit holds the nine weights of a fine pixel, so that neither they nor what they weigh are ever in memory: of Burn's operations every
//! neighbour would leave a tensor, and the softmax three, each of them as large as the flow or the logits.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{cast_back, dims, empty, plain, units};

/// Coarse pixels that a fine one is mixed of, 3 x 3.
const NEIGHBOURS: usize = 9;
/// Channels of a flow, each of every neighbour.
const SHARES: usize = 2 * NEIGHBOURS;

/// `[N, 2, h, w]`, logits `[N, 9 * factor * factor, h, w]` -> `[N, 2, factor * h, factor * w]`.
pub(crate) fn convex_upsample(flow: CubeTensor, logits: CubeTensor, factor: usize) -> CubeTensor {
    let dtype = flow.dtype;
    let (flow, logits) = (plain(flow), plain(logits));
    let [n, _, h, w] = dims(&flow);
    let output = empty(&flow, [n, 2, factor * h, factor * w]);
    let client = output.client.clone();
    let (count, dim) = units(&client, n * factor * factor * h * w);
    forward::launch(
        &client,
        count,
        dim,
        flow.into_tensor_arg(),
        logits.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        h as u32,
        w as u32,
        factor,
    );
    cast_back(output, dtype)
}

/// The gradients with respect to the flow and to the logits.
pub(crate) fn convex_upsample_backward(
    flow: CubeTensor,
    logits: CubeTensor,
    gradient: CubeTensor,
    factor: usize,
) -> (CubeTensor, CubeTensor) {
    let dtypes = [flow.dtype, logits.dtype];
    let (flow, logits, gradient) = (plain(flow), plain(logits), plain(gradient));
    let shape @ [n, _, h, w] = dims(&flow);
    let client = flow.client.clone();
    let (to_flow, to_logits) = (empty(&flow, shape), empty(&logits, dims(&logits)));
    let shares = empty(&flow, [n, factor * SHARES, h, w]);
    let (count, dim) = units(&client, n * factor * h * w);
    logits_gradient::launch(
        &client,
        count,
        dim,
        flow.into_tensor_arg(),
        logits.into_tensor_arg(),
        gradient.into_tensor_arg(),
        to_logits.clone().into_tensor_arg(),
        shares.clone().into_tensor_arg(),
        h as u32,
        w as u32,
        factor,
    );
    let (count, dim) = units(&client, to_flow.meta.num_elements());
    flow_gradient::launch(
        &client,
        count,
        dim,
        shares.into_tensor_arg(),
        to_flow.clone().into_tensor_arg(),
        h as u32,
        w as u32,
        factor,
    );
    (cast_back(to_flow, dtypes[0]), cast_back(to_logits, dtypes[1]))
}

/// The softmax over nine logits, `step` apart.
#[cube]
fn weigh(logits: &Tensor<f32>, first: usize, step: usize, weights: &mut Array<f32>) {
    let mut most = logits[first];
    #[unroll]
    for k in 1..NEIGHBOURS {
        most = max(most, logits[first + k * step]);
    }
    let mut sum = 0.0f32;
    #[unroll]
    for k in 0..NEIGHBOURS {
        let weight = (logits[first + k * step] - most).exp();
        weights[k] = weight;
        sum += weight;
    }
    #[unroll]
    for k in 0..NEIGHBOURS {
        weights[k] /= sum;
    }
}

/// Neighbour `k` of a pixel, 4 being itself; 0 outside.
#[cube]
fn neighbour(
    plane: &Tensor<f32>,
    first: usize,
    y: usize,
    x: usize,
    height: usize,
    width: usize,
    #[comptime] k: usize,
) -> f32 {
    let (row, column) = ((y + k / 3) as i32 - 1, (x + k % 3) as i32 - 1);
    let mut value = 0.0f32;
    if row >= 0 && row < height as i32 && column >= 0 && column < width as i32 {
        value = plane[first + row as usize * width + column as usize];
    }
    value
}

/// One unit for each fine pixel; units that follow each other read logits that do.
#[cube(launch)]
fn forward(
    flow: &Tensor<f32>,
    logits: &Tensor<f32>,
    output: &mut Tensor<f32>,
    height: u32,
    width: u32,
    #[comptime] factor: usize,
) {
    let (height, width) = (height as usize, width as usize);
    let pixels = height * width;
    let fine = comptime!(factor * factor);
    if ABSOLUTE_POS >= output.len() / 2 {
        terminate!();
    }
    let pixel = ABSOLUTE_POS % pixels;
    let within = ABSOLUTE_POS / pixels % fine;
    let n = ABSOLUTE_POS / (pixels * fine);
    let (y, x) = (pixel / width, pixel % width);
    let mut weights = Array::<f32>::new(NEIGHBOURS);
    weigh(logits, (n * NEIGHBOURS * fine + within) * pixels + pixel, fine * pixels, &mut weights);
    let at = (factor * y + within / factor) * factor * width + factor * x + within % factor;
    #[unroll]
    for c in 0..2 {
        let mut sum = 0.0f32;
        #[unroll]
        for k in 0..NEIGHBOURS {
            sum += weights[k] * neighbour(flow, (n * 2 + c) * pixels, y, x, height, width, k);
        }
        output[(n * 2 + c) * fine * pixels + at] = sum;
    }
}

/// One unit for each row of fine pixels in a coarse one. It gives the gradient of their logits, and as `shares`, `[N, factor * 2 * 9, h, w]`,
/// what these pixels add to the gradient of each neighbour.
#[cube(launch)]
fn logits_gradient(
    flow: &Tensor<f32>,
    logits: &Tensor<f32>,
    gradient: &Tensor<f32>,
    found: &mut Tensor<f32>,
    shares: &mut Tensor<f32>,
    height: u32,
    width: u32,
    #[comptime] factor: usize,
) {
    let (height, width) = (height as usize, width as usize);
    let pixels = height * width;
    let fine = comptime!(factor * factor);
    if ABSOLUTE_POS >= shares.len() / SHARES {
        terminate!();
    }
    let pixel = ABSOLUTE_POS % pixels;
    let row = ABSOLUTE_POS / pixels % factor;
    let n = ABSOLUTE_POS / (pixels * factor);
    let (y, x) = (pixel / width, pixel % width);
    let mut values = Array::<f32>::new(SHARES);
    let mut sums = Array::<f32>::new(SHARES);
    let mut weights = Array::<f32>::new(NEIGHBOURS);
    #[unroll]
    for i in 0..SHARES {
        values[i] = neighbour(flow, (n * 2 + i / NEIGHBOURS) * pixels, y, x, height, width, i % NEIGHBOURS);
        sums[i] = 0.0;
    }
    for column in 0..factor {
        let first = (n * NEIGHBOURS * fine + row * factor + column) * pixels + pixel;
        weigh(logits, first, fine * pixels, &mut weights);
        let at = n * 2 * fine * pixels + (factor * y + row) * factor * width + factor * x + column;
        let (across, down) = (gradient[at], gradient[at + fine * pixels]);
        // The slope of the softmax: by how much a neighbour is above the mean.
        let mut mean = 0.0f32;
        #[unroll]
        for k in 0..NEIGHBOURS {
            mean += weights[k] * (across * values[k] + down * values[NEIGHBOURS + k]);
            sums[k] += weights[k] * across;
            sums[NEIGHBOURS + k] += weights[k] * down;
        }
        #[unroll]
        for k in 0..NEIGHBOURS {
            found[first + k * fine * pixels] = weights[k] * (across * values[k] + down * values[NEIGHBOURS + k] - mean);
        }
    }
    #[unroll]
    for i in 0..SHARES {
        shares[((n * factor + row) * SHARES + i) * pixels + pixel] = sums[i];
    }
}

/// One unit for each value of the flow, which gathers from the pixels whose neighbour it is.
#[cube(launch)]
fn flow_gradient(shares: &Tensor<f32>, found: &mut Tensor<f32>, height: u32, width: u32, #[comptime] factor: usize) {
    let (height, width) = (height as usize, width as usize);
    let pixels = height * width;
    if ABSOLUTE_POS >= found.len() {
        terminate!();
    }
    let pixel = ABSOLUTE_POS % pixels;
    let c = ABSOLUTE_POS / pixels % 2;
    let n = ABSOLUTE_POS / (pixels * 2);
    let (y, x) = (pixel / width, pixel % width);
    let mut sum = 0.0f32;
    for row in 0..factor {
        let first = ((n * factor + row) * SHARES + c * NEIGHBOURS) * pixels;
        #[unroll]
        for k in 0..NEIGHBOURS {
            // This pixel is neighbour `8 - k` of its neighbour `k`.
            sum += neighbour(shares, first + (NEIGHBOURS - 1 - k) * pixels, y, x, height, width, k);
        }
    }
    found[ABSOLUTE_POS] = sum;
}
