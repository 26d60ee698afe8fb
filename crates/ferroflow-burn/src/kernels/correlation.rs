//! The cost volume and its gradients.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use ferroflow_net::graph::Correlation;

use super::{cast_back, cleared, dims, empty, plain, units};

/// Channels of a gradient that one unit sums: the gradient of the cost volume is read once for all of them.
const BLOCK: usize = 8;

/// Mean over channels of `f1(p) * f2(p + d)`, `[N, D * D, H, W]`; d row by row, zero outside.
pub(crate) fn correlation(f1: CubeTensor, f2: CubeTensor, c: Correlation) -> CubeTensor {
    let dtype = f1.dtype;
    let (f1, f2) = (plain(f1), plain(f2));
    let [n, channels, h, w] = dims(&f1);
    let diameter = c.diameter();
    let output = empty(&f1, [n, diameter * diameter, h, w]);
    let client = output.client.clone();
    let (count, dim) = units(&client, n * diameter * h * w);
    forward::launch(
        &client,
        count,
        dim,
        f1.into_tensor_arg(),
        f2.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        channels as u32,
        h as u32,
        w as u32,
        1.0 / channels as f32,
        diameter,
        c.stride,
    );
    cast_back(output, dtype)
}

/// The gradients with respect to both inputs.
pub(crate) fn correlation_backward(
    f1: CubeTensor,
    f2: CubeTensor,
    gradient: CubeTensor,
    c: Correlation,
) -> (CubeTensor, CubeTensor) {
    let dtype = f1.dtype;
    let (f1, f2, gradient) = (plain(f1), plain(f2), plain(gradient));
    let [n, channels, h, w] = dims(&f1);
    let to = |other: CubeTensor, second: bool| {
        let output = empty(&other, [n, channels, h, w]);
        let client = output.client.clone();
        let (count, dim) = units(&client, n * channels.div_ceil(BLOCK) * h * w);
        backward::launch(
            &client,
            count,
            dim,
            gradient.clone().into_tensor_arg(),
            other.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            channels as u32,
            h as u32,
            w as u32,
            1.0 / channels as f32,
            c.diameter(),
            c.stride,
            second,
            BLOCK,
        );
        cast_back(output, dtype)
    };
    (to(f2, false), to(f1, true))
}

/// One unit for each pixel and row of displacements: it reads a value of `f1` once for the whole row.
#[cube(launch)]
fn forward(
    f1: &Tensor<f32>,
    f2: &Tensor<f32>,
    output: &mut Tensor<f32>,
    channels: u32,
    height: u32,
    width: u32,
    factor: f32,
    #[comptime] diameter: usize,
    #[comptime] stride: usize,
) {
    let (channels, height, width) = (channels as usize, height as usize, width as usize);
    let pixels = height * width;
    let unit = ABSOLUTE_POS;
    let pixel = unit % pixels;
    let (y, x) = (pixel / width, pixel % width);
    let row = (unit / pixels) % diameter;
    let image = unit / (pixels * diameter);
    if unit >= output.len() / diameter {
        terminate!();
    }

    let reach = (diameter / 2 * stride) as i32;
    let mut sums = cleared(diameter);
    let other_y = y as i32 + (row * stride) as i32 - reach;
    if other_y >= 0 && other_y < height as i32 {
        for c in 0..channels {
            let plane = (image * channels + c) * pixels;
            let value = f1[plane + pixel];
            let line = plane + other_y as usize * width;
            #[unroll]
            for k in 0..diameter {
                let other_x = x as i32 + (k * stride) as i32 - reach;
                if other_x >= 0 && other_x < width as i32 {
                    sums[k] += value * f2[line + other_x as usize];
                }
            }
        }
    }
    let first = (image * diameter + row) * diameter;
    #[unroll]
    for k in 0..diameter {
        output[(first + k) * pixels + pixel] = sums[k] * factor;
    }
}

/// One unit for each pixel and `block` channels. `output(p)` is part of `f1(p)` and of `f2(p + d)`: the gradient with respect to
/// `f1` reads `f2` at p + d and the volume's gradient at p; that with respect to the second reads both at p - d.
#[cube(launch)]
fn backward(
    gradient: &Tensor<f32>,
    other: &Tensor<f32>,
    output: &mut Tensor<f32>,
    channels: u32,
    height: u32,
    width: u32,
    factor: f32,
    #[comptime] diameter: usize,
    #[comptime] stride: usize,
    #[comptime] second: bool,
    #[comptime] block: usize,
) {
    let (channels, height, width) = (channels as usize, height as usize, width as usize);
    let pixels = height * width;
    let blocks = channels.div_ceil(block);
    let unit = ABSOLUTE_POS;
    let pixel = unit % pixels;
    let (y, x) = (pixel / width, pixel % width);
    let first = (unit / pixels) % blocks * block;
    let image = unit / (pixels * blocks);
    if image >= output.len() / (pixels * channels) {
        terminate!();
    }

    let reach = (diameter / 2 * stride) as i32;
    let mut sums = cleared(block);
    for row in 0..diameter {
        let dy = (row * stride) as i32 - reach;
        let other_y = if second { y as i32 - dy } else { y as i32 + dy };
        if other_y >= 0 && other_y < height as i32 {
            for column in 0..diameter {
                let dx = (column * stride) as i32 - reach;
                let other_x = if second { x as i32 - dx } else { x as i32 + dx };
                if other_x >= 0 && other_x < width as i32 {
                    let there = other_y as usize * width + other_x as usize;
                    let at = if second { there } else { pixel };
                    let displacement = (image * diameter + row) * diameter + column;
                    let slope = gradient[displacement * pixels + at];
                    #[unroll]
                    for k in 0..block {
                        if first + k < channels {
                            sums[k] += slope * other[(image * channels + first + k) * pixels + there];
                        }
                    }
                }
            }
        }
    }
    #[unroll]
    for k in 0..block {
        if first + k < channels {
            output[(image * channels + first + k) * pixels + pixel] = sums[k] * factor;
        }
    }
}
