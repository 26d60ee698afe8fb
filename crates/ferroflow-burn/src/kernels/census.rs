//! The distance of census transforms and its gradient (Meister, Hur and Roth, AAAI 2018).
//!
//! The transform of a pixel p and a shift s is `t = d / sqrt(0.81 + d^2)`, with `d = grey(p + s) - grey(p)`, grey being 0..=255; the distance of two
//! transforms is the sum over shifts of `e^2 / (0.1 + e^2)`, with e the difference of the two t.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{cast_back, dims, empty, plain, units};

/// Squared grey values below this are no order.
const NO_ORDER: f32 = 0.81;
/// Squared differences of transforms above this are different.
const DIFFERENT: f32 = 0.1;

/// Grey images `[N, 1, H, W]` -> their distance at each pixel with a whole patch, of `2 * radius + 1` pixels a side, and 0 elsewhere.
pub(crate) fn census(first: CubeTensor, second: CubeTensor, radius: usize) -> CubeTensor {
    let dtype = first.dtype;
    let (first, second) = (plain(first), plain(second));
    let shape @ [.., h, w] = dims(&first);
    let output = empty(&first, shape);
    let client = output.client.clone();
    let (count, dim) = units(&client, output.meta.num_elements());
    forward::launch(
        &client,
        count,
        dim,
        first.into_tensor_arg(),
        second.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        h as u32,
        w as u32,
        radius as u32,
    );
    cast_back(output, dtype)
}

/// The gradient with respect to the second image.
pub(crate) fn census_backward(
    first: CubeTensor,
    second: CubeTensor,
    gradient: CubeTensor,
    radius: usize,
) -> CubeTensor {
    let dtype = second.dtype;
    let (first, second, gradient) = (plain(first), plain(second), plain(gradient));
    let shape @ [.., h, w] = dims(&second);
    let found = empty(&second, shape);
    let client = found.client.clone();
    let (count, dim) = units(&client, found.meta.num_elements());
    backward::launch(
        &client,
        count,
        dim,
        first.into_tensor_arg(),
        second.into_tensor_arg(),
        gradient.into_tensor_arg(),
        found.clone().into_tensor_arg(),
        h as u32,
        w as u32,
        radius as u32,
    );
    cast_back(found, dtype)
}

/// Whether all of a pixel's patch lies in the image.
#[cube]
fn is_whole(y: i32, x: i32, height: i32, width: i32, radius: i32) -> bool {
    y >= radius && y < height - radius && x >= radius && x < width - radius
}

/// One unit for each pixel.
#[cube(launch)]
fn forward(first: &Tensor<f32>, second: &Tensor<f32>, output: &mut Tensor<f32>, height: u32, width: u32, radius: u32) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let (height, width, radius) = (height as i32, width as i32, radius as i32);
    let pixel = (ABSOLUTE_POS % (height * width) as usize) as i32;
    let (y, x) = (pixel / width, pixel % width);
    let mut sum = 0.0f32;
    if is_whole(y, x, height, width, radius) {
        let (here1, here2) = (first[ABSOLUTE_POS], second[ABSOLUTE_POS]);
        for row in 0..2 * radius + 1 {
            for column in 0..2 * radius + 1 {
                let there = (ABSOLUTE_POS as i32 + (row - radius) * width + column - radius) as usize;
                // (The pixel itself adds 0.)
                let (d1, d2) = (first[there] - here1, second[there] - here2);
                let (s1, s2) = (NO_ORDER + d1 * d1, NO_ORDER + d2 * d2);
                let n = d1 * s2.sqrt() - d2 * s1.sqrt();
                sum += n * n / (DIFFERENT * s1 * s2 + n * n);
            }
        }
    }
    output[ABSOLUTE_POS] = sum;
}

/// One unit for each pixel: it is the middle of its own patch, and part of those around it.
#[cube(launch)]
fn backward(
    first: &Tensor<f32>,
    second: &Tensor<f32>,
    gradient: &Tensor<f32>,
    found: &mut Tensor<f32>,
    height: u32,
    width: u32,
    radius: u32,
) {
    if ABSOLUTE_POS >= found.len() {
        terminate!();
    }
    let (height, width, radius) = (height as i32, width as i32, radius as i32);
    let pixel = (ABSOLUTE_POS % (height * width) as usize) as i32;
    let (y, x) = (pixel / width, pixel % width);
    let (here1, here2) = (first[ABSOLUTE_POS], second[ABSOLUTE_POS]);
    let mut own = 0.0f32;
    if is_whole(y, x, height, width, radius) {
        own = gradient[ABSOLUTE_POS];
    }
    let mut sum = 0.0f32;
    for row in max(y - radius, 0)..min(y + radius + 1, height) {
        for column in max(x - radius, 0)..min(x + radius + 1, width) {
            let there = (ABSOLUTE_POS as i32 + (row - y) * width + column - x) as usize;
            let mut slope = own;
            if is_whole(row, column, height, width, radius) {
                slope += gradient[there];
            }
            let (d1, d2) = (first[there] - here1, second[there] - here2);
            let (s1, s2) = (NO_ORDER + d1 * d1, NO_ORDER + d2 * d2);
            let root = s1.sqrt();
            let n = d1 * s2.sqrt() - d2 * root;
            let below = DIFFERENT * s1 * s2 + n * n;
            // The term's slope in e, 0.2 e / (0.1 + e^2)^2, times that of t in the grey value, 0.81 / s2^(3/2).
            sum += slope * (2.0 * DIFFERENT * NO_ORDER) * n * root * s1 / (below * below);
        }
    }
    found[ABSOLUTE_POS] = sum;
}
