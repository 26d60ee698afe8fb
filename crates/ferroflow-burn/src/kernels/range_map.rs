//! How much arrives at each pixel along a flow, and the gradient of that.

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    ops::numeric::{full_client, zeros_client},
    tensor::CubeTensor,
};
use cubecl::prelude::*;

use super::warp::{ALONG, Planes, Rules, pixels_of, planes, sample, warp_flow_backward};
use super::{cast_back, dims, empty, plain, units};

/// `[N, 2, H, W]` -> `[N, 1, H, W]`: every pixel sends a weight of 1, shared bilinearly by the four pixels around its target. Shares are
/// summed as whole numbers, in units of 2^-12 for an image of 512x512: any order gives the same sum, and every device has such atomic sums.
pub(crate) fn range_map(flow: CubeTensor) -> CubeTensor {
    let dtype = flow.dtype;
    let flow = plain(flow);
    let [n, _, h, w] = dims(&flow);
    let shape = [n, 1, h, w];
    // Even if all pixels send their weight to one place.
    let one = (1u32 << (30 - (h * w).ilog2().min(30))) as f32;
    let sums = zeros_client(flow.client.clone(), flow.device.clone(), Shape::from(shape), DType::U32);
    let output = empty(&flow, shape);
    let client = output.client.clone();
    let (count, dim) = units(&client, n * h * w);
    scatter::launch(
        &client,
        count.clone(),
        dim,
        flow.into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        planes(shape, ALONG),
        one,
        Rules::of(ALONG),
    );
    shares::launch(&client, count, dim, sums.into_tensor_arg(), output.clone().into_tensor_arg(), 1.0 / one);
    cast_back(output, dtype)
}

/// The gradient with respect to the flow: that of a warp of `gradient` where every pixel asks for 1.
pub(crate) fn range_map_backward(flow: CubeTensor, gradient: CubeTensor) -> CubeTensor {
    let [n, _, h, w] = dims(&flow);
    let ones = full_client(flow.client.clone(), Shape::from([n, 1, h, w]), flow.device.clone(), 1.0f32);
    warp_flow_backward(gradient, flow, ones, ALONG)
}

/// One unit for each pixel that sends.
#[cube(launch)]
fn scatter(flow: &Tensor<f32>, sums: &mut Tensor<Atomic<u32>>, planes: Planes, one: f32, #[comptime] rules: Rules) {
    if ABSOLUTE_POS >= flow.len() / 2 {
        terminate!();
    }
    let pixels = pixels_of(&planes);
    let n = ABSOLUTE_POS / pixels;
    let s = sample(flow, n, ABSOLUTE_POS % pixels, &planes, rules);
    let first = n * pixels;
    sums[first + s.at_00].fetch_add(u32::cast_from(s.share_00 * one + 0.5));
    sums[first + s.at_10].fetch_add(u32::cast_from(s.share_10 * one + 0.5));
    sums[first + s.at_01].fetch_add(u32::cast_from(s.share_01 * one + 0.5));
    sums[first + s.at_11].fetch_add(u32::cast_from(s.share_11 * one + 0.5));
}

#[cube(launch)]
fn shares(sums: &Tensor<u32>, output: &mut Tensor<f32>, share: f32) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    output[ABSOLUTE_POS] = f32::cast_from(sums[ABSOLUTE_POS]) * share;
}
