//! Products of each pixel with those of a window that it points at: what RAFT looks up, without the products of all pixels.
//!
//! At 448x1024 all products of a pair take 205 MB, at every iteration of RAFT and for the gradient of each; the windows take 11 MB.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::warp::{lies_in, place};
use super::{cast_back, cleared, dims, empty, plain, units};

/// Channels of a gradient that one unit sums.
const BLOCK: usize = 8;

/// Sums over channels of `f1(p) * f2(q)`, `[N, side * side, H, W]`; q row by row in a window of `side` x `side` pixels of `f2`, of any size, that
/// begins at `corner`, `[N, 2, H, W]`, a column and a row in whole numbers; 0 outside.
pub(crate) fn window_products(f1: CubeTensor, f2: CubeTensor, corner: CubeTensor, side: usize) -> CubeTensor {
    let dtype = f1.dtype;
    let [f1, f2, corner] = [f1, f2, corner].map(plain);
    let [n, _, h, w] = dims(&f1);
    let output = empty(&f1, [n, side * side, h, w]);
    let client = output.client.clone();
    let (count, dim) = units(&client, n * side * h * w);
    let maps = maps(&f1, &f2);
    forward::launch(
        &client,
        count,
        dim,
        f1.into_tensor_arg(),
        f2.into_tensor_arg(),
        corner.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        maps,
        side,
    );
    cast_back(output, dtype)
}

/// The gradients with respect to both maps.
pub(crate) fn window_products_backward(
    f1: CubeTensor,
    f2: CubeTensor,
    corner: CubeTensor,
    gradient: CubeTensor,
    side: usize,
) -> (CubeTensor, CubeTensor) {
    let dtype = f1.dtype;
    let [f1, f2, corner, gradient] = [f1, f2, corner, gradient].map(plain);
    let client = f1.client.clone();
    let to = |like: &CubeTensor| {
        let shape @ [n, channels, h, w] = dims(like);
        (empty(like, shape), units(&client, n * channels.div_ceil(BLOCK) * h * w))
    };
    let (to_f1, (count, dim)) = to(&f1);
    first_gradient::launch(
        &client,
        count,
        dim,
        f2.clone().into_tensor_arg(),
        corner.clone().into_tensor_arg(),
        gradient.clone().into_tensor_arg(),
        to_f1.clone().into_tensor_arg(),
        maps(&f1, &f2),
        side,
        BLOCK,
    );
    let (to_f2, (count, dim)) = to(&f2);
    let maps = maps(&f1, &f2);
    second_gradient::launch(
        &client,
        count,
        dim,
        f1.into_tensor_arg(),
        corner.into_tensor_arg(),
        gradient.into_tensor_arg(),
        to_f2.clone().into_tensor_arg(),
        maps,
        side,
        BLOCK,
    );
    (cast_back(to_f1, dtype), cast_back(to_f2, dtype))
}

/// The sizes of two maps of as many channels.
#[derive(CubeLaunch, CubeType)]
struct Maps {
    channels: u32,
    /// Pixels of the first.
    pixels: u32,
    /// Of the second.
    height: u32,
    width: u32,
}

fn maps(f1: &CubeTensor, f2: &CubeTensor) -> MapsLaunch {
    let ([_, channels, h, w], [_, _, height, width]) = (dims(f1), dims(f2));
    MapsLaunch::new(channels as u32, (h * w) as u32, height as u32, width as u32)
}

/// One unit for each pixel and row of its window: it reads a value of `f1` once for the whole row.
#[cube(launch)]
fn forward(
    f1: &Tensor<f32>,
    f2: &Tensor<f32>,
    corner: &Tensor<f32>,
    output: &mut Tensor<f32>,
    maps: Maps,
    #[comptime] side: usize,
) {
    let (channels, pixels, width) = (maps.channels as usize, maps.pixels as usize, maps.width as usize);
    let (last_row, last_column) = (f32::cast_from(maps.height - 1), f32::cast_from(maps.width - 1));
    let others = maps.height as usize * width;
    if ABSOLUTE_POS >= output.len() / side {
        terminate!();
    }
    let pixel = ABSOLUTE_POS % pixels;
    let row = ABSOLUTE_POS / pixels % side;
    let n = ABSOLUTE_POS / (pixels * side);
    let left = corner[n * 2 * pixels + pixel];
    let y = corner[(n * 2 + 1) * pixels + pixel] + f32::cast_from(row as u32);

    let mut sums = cleared(side);
    if lies_in(y, last_row) {
        let line = place(y, last_row) as usize * width;
        for c in 0..channels {
            let value = f1[(n * channels + c) * pixels + pixel];
            let there = (n * channels + c) * others + line;
            #[unroll]
            for k in 0..side {
                let x = left + comptime!(k as f32);
                if lies_in(x, last_column) {
                    sums[k] += value * f2[there + place(x, last_column) as usize];
                }
            }
        }
    }
    let first = (n * side + row) * side;
    #[unroll]
    for k in 0..side {
        output[(first + k) * pixels + pixel] = sums[k];
    }
}

/// One unit for each pixel of the first map and `block` channels.
#[cube(launch)]
fn first_gradient(
    f2: &Tensor<f32>,
    corner: &Tensor<f32>,
    gradient: &Tensor<f32>,
    found: &mut Tensor<f32>,
    maps: Maps,
    #[comptime] side: usize,
    #[comptime] block: usize,
) {
    let (channels, pixels, width) = (maps.channels as usize, maps.pixels as usize, maps.width as usize);
    let (last_row, last_column) = (f32::cast_from(maps.height - 1), f32::cast_from(maps.width - 1));
    let others = maps.height as usize * width;
    let blocks = channels.div_ceil(block);
    let pixel = ABSOLUTE_POS % pixels;
    let first = ABSOLUTE_POS / pixels % blocks * block;
    let n = ABSOLUTE_POS / (pixels * blocks);
    if n >= found.len() / (pixels * channels) {
        terminate!();
    }
    let left = corner[n * 2 * pixels + pixel];
    let top = corner[(n * 2 + 1) * pixels + pixel];

    let mut sums = cleared(block);
    for row in 0..side {
        let y = top + f32::cast_from(row as u32);
        if lies_in(y, last_row) {
            for column in 0..side {
                let x = left + f32::cast_from(column as u32);
                if lies_in(x, last_column) {
                    let there = place(y, last_row) as usize * width + place(x, last_column) as usize;
                    let slope = gradient[((n * side + row) * side + column) * pixels + pixel];
                    #[unroll]
                    for k in 0..block {
                        if first + k < channels {
                            sums[k] += slope * f2[(n * channels + first + k) * others + there];
                        }
                    }
                }
            }
        }
    }
    #[unroll]
    for k in 0..block {
        if first + k < channels {
            found[(n * channels + first + k) * pixels + pixel] = sums[k];
        }
    }
}

/// One unit for each pixel of the second map and `block` channels. It asks every pixel of the first whether its window holds it, which is
/// less work than sums of the windows that no two units may make at once, and in a fixed order.
#[cube(launch)]
fn second_gradient(
    f1: &Tensor<f32>,
    corner: &Tensor<f32>,
    gradient: &Tensor<f32>,
    found: &mut Tensor<f32>,
    maps: Maps,
    #[comptime] side: usize,
    #[comptime] block: usize,
) {
    let (channels, pixels, width) = (maps.channels as usize, maps.pixels as usize, maps.width as usize);
    let others = maps.height as usize * width;
    let last = comptime!((side - 1) as f32);
    let blocks = channels.div_ceil(block);
    let other = ABSOLUTE_POS % others;
    let first = ABSOLUTE_POS / others % blocks * block;
    let n = ABSOLUTE_POS / (others * blocks);
    if n >= found.len() / (others * channels) {
        terminate!();
    }
    let x = f32::cast_from((other % width) as u32);
    let y = f32::cast_from((other / width) as u32);

    let mut sums = cleared(block);
    for pixel in 0..pixels {
        let column = x - corner[n * 2 * pixels + pixel];
        let row = y - corner[(n * 2 + 1) * pixels + pixel];
        if lies_in(column, last) && lies_in(row, last) {
            let at = (n * side + place(row, last) as usize) * side + place(column, last) as usize;
            let slope = gradient[at * pixels + pixel];
            #[unroll]
            for k in 0..block {
                if first + k < channels {
                    sums[k] += slope * f1[(n * channels + first + k) * pixels + pixel];
                }
            }
        }
    }
    #[unroll]
    for k in 0..block {
        if first + k < channels {
            found[(n * channels + first + k) * others + other] = sums[k];
        }
    }
}
