//! The cost volume of features and of others that are warped meanwhile: forward, the warped map is never there as a whole.
//!
//! A pixel of it is part of as many products as there are displacements, 81 in PWC-Net. Sampled for each of them it would be read four times as
//! often. So the units of a cube, one for each pixel of a tile, first warp the tile and its surroundings into shared memory, a block of channels
//! at a time: a displacement of 4 around 16 x 16 pixels makes 2.25 samples of each pixel, and every product reads shared memory.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use ferroflow_net::graph::{Correlation, Warp};

use super::correlation::{correlation, correlation_backward};
use super::warp::{
    Planes, Rules, Scatter, mixed, pixels_of, planes, sample, warp, warp_flow_backward, warp_image_backward,
};
use super::{cast_back, cleared, dims, empty, plain};

/// Pixels of a tile along each axis.
const TILE: usize = 16;
/// Displacements along each axis whose sums a unit can hold in registers.
const MOST: usize = 9;
/// Channels that are warped at a time, where there is shared memory for them.
const BLOCK: usize = 8;

/// Mean over channels of `f1(p) * warped(p + d)`, as [`correlation`], where `warped` is `image` sampled at `p + flow(p)`, as [`warp`].
pub(crate) fn warped_correlation([f1, image, flow]: [CubeTensor; 3], c: Correlation, w: Warp) -> CubeTensor {
    match block(&f1.client, c) {
        Some(block) if !computes_on_processor(&f1.client) => tiled([f1, image, flow], c, w, block),
        _ => correlation(f1, warp(image, flow, w), c),
    }
}

/// Shared memory of Mesa's driver for processors is memory like any other, and the driver (22.3) crashes on it in CubeCL's SPIR-V.
fn computes_on_processor(client: &Client) -> bool {
    client.properties().identity.name.contains("llvmpipe")
}

/// How many channels of a tile go into shared memory at a time; `None` where a unit cannot hold all sums, or a tile does not fit.
pub(super) fn block(client: &Client, c: Correlation) -> Option<usize> {
    let side = side(TILE, c.diameter(), c.stride);
    let hardware = &client.properties().hardware;
    let block = BLOCK.min(hardware.max_shared_memory_size / (side * side * size_of::<f32>()));
    let fits = block > 0 && c.diameter() <= MOST && hardware.max_units_per_cube >= (TILE * TILE) as u32;
    fits.then_some(block)
}

/// By the kernel, tile by tile.
pub(super) fn tiled(inputs: [CubeTensor; 3], c: Correlation, w: Warp, block: usize) -> CubeTensor {
    let dtype = inputs[0].dtype;
    let diameter = c.diameter();
    let [f1, image, flow] = inputs.map(plain);
    let shape @ [n, channels, height, width] = dims(&f1);
    let output = empty(&f1, [n, diameter * diameter, height, width]);
    let client = output.client.clone();
    let tiles = |pixels: usize| pixels.div_ceil(TILE) as u32;
    forward::launch(
        &client,
        CubeCount::Static(tiles(width), tiles(height), n as u32),
        CubeDim::new_2d(TILE as u32, TILE as u32),
        f1.into_tensor_arg(),
        image.into_tensor_arg(),
        flow.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        planes(shape, w),
        1.0 / channels as f32,
        Rules::of(w),
        diameter,
        c.stride,
        TILE,
        block,
    );
    cast_back(output, dtype)
}

/// The gradients with respect to the first features, to those that are warped, and to the flow. The map is warped again, so that
/// none is kept from the forward pass; it is needed as a whole for the first of them, and its own gradient for the others.
pub(crate) fn warped_correlation_backward(
    [f1, image, flow]: [CubeTensor; 3],
    gradient: CubeTensor,
    c: Correlation,
    w: Warp,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let scatter = Scatter::of(&image.client);
    let warped = warp(image.clone(), flow.clone(), w);
    let (to_f1, to_warped) = correlation_backward(f1, warped, gradient, c);
    let to_flow = warp_flow_backward(image, flow.clone(), to_warped.clone(), w);
    (to_f1, warp_image_backward(flow, to_warped, w, scatter), to_flow)
}

/// Pixels along each axis that the displacements of a tile reach.
const fn side(tile: usize, diameter: usize, stride: usize) -> usize {
    tile + diameter / 2 * stride * 2
}

/// One unit for each pixel and all displacements, one cube for each tile.
#[cube(launch)]
fn forward(
    f1: &Tensor<f32>,
    image: &Tensor<f32>,
    flow: &Tensor<f32>,
    output: &mut Tensor<f32>,
    planes: Planes,
    factor: f32,
    #[comptime] rules: Rules,
    #[comptime] diameter: usize,
    #[comptime] stride: usize,
    #[comptime] tile: usize,
    #[comptime] block: usize,
) {
    let side = comptime!(side(tile, diameter, stride));
    let area = comptime!(side * side);
    let reach = comptime!(diameter / 2 * stride) as i32;
    let displacements = comptime!(diameter * diameter);
    let (channels, height, width) = (planes.channels as usize, planes.height as usize, planes.width as usize);
    let pixels = pixels_of(&planes);
    let n = CUBE_POS_Z as usize;
    let (left, top) = (CUBE_POS_X as usize * tile, CUBE_POS_Y as usize * tile);
    let (x, y) = (left + UNIT_POS_X as usize, top + UNIT_POS_Y as usize);
    let inside = x < width && y < height;
    let pixel = y * width + x;
    let corner = UNIT_POS_Y as usize * side + UNIT_POS_X as usize;

    let mut warped = Shared::<[f32]>::new_slice(area * block);
    let mut sums = cleared(displacements);
    for part in 0..channels.div_ceil(block) {
        let first = part * block;
        let mut at = UNIT_POS as usize;
        while at < area {
            let column = (left + at % side) as i32 - reach;
            let row = (top + at / side) as i32 - reach;
            if column >= 0 && column < width as i32 && row >= 0 && row < height as i32 {
                let s = sample(flow, n, row as usize * width + column as usize, &planes, rules);
                #[unroll]
                for k in 0..block {
                    if first + k < channels {
                        warped[k * area + at] = mixed(image, (n * channels + first + k) * pixels, &s);
                    }
                }
            } else {
                #[unroll]
                for k in 0..block {
                    warped[k * area + at] = 0.0;
                }
            }
            at += tile * tile;
        }
        sync_cube();
        if inside {
            for k in 0..min(block, channels - first) {
                let value = f1[(n * channels + first + k) * pixels + pixel];
                let there = k * area + corner;
                #[unroll]
                for row in 0..diameter {
                    #[unroll]
                    for column in 0..diameter {
                        sums[row * diameter + column] += value * warped[there + (row * side + column) * stride];
                    }
                }
            }
        }
        sync_cube();
    }
    if inside {
        #[unroll]
        for d in 0..displacements {
            output[(n * displacements + d) * pixels + pixel] = sums[d] * factor;
        }
    }
}
