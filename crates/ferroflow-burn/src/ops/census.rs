//! UFlow's census loss, where the flows lie.

use burn::tensor::Tensor;
use ferroflow_net::PyramidUnit;
use ferroflow_net::graph::{Filter, Size};
use ferroflow_net::training::{Census, Occluded};

use crate::kernels::ALONG;

use super::{channels, coordinates, gpu, per_channel, resize, warp};

/// What red, green and blue are of grey.
const GREY: [f32; 3] = [0.2989, 0.587, 0.114];

/// Frames `[N, 3, H, W]` and the flows there and back `[N, 2, H / k, W / k]`, k a power of two -> the loss, `[1]`; differentiable in the flows.
pub(crate) fn census(frames: [Tensor<4>; 2], flows: [Tensor<4>; 2], census: &Census<'_>) -> Tensor<1> {
    let [first, second] = frames.map(|frame| {
        let weights = per_channel(&GREY, &frame);
        frame.mul(weights).sum_dim(1)
    });
    let [there, back] = flows.map(|flow| in_pixels(flow, census));
    let forward = direction([&first, &second], [&there, &back], census);
    if census.only_forward { forward } else { forward.add(direction([&second, &first], [&back, &there], census)) }
}

/// (u, v) in pixels of the frames, at their size.
fn in_pixels(flow: Tensor<4>, census: &Census<'_>) -> Tensor<4> {
    let ([_, _, mut height, mut width], Size { height: full, .. }) = (flow.dims(), census.size);
    let mut flow = match census.unit {
        PyramidUnit::Pixels(pixels) => flow.mul_scalar(pixels / (full / height) as f32),
        PyramidUnit::LevelPixels { row_first: true } => channels(flow, &[1, 0]),
        PyramidUnit::LevelPixels { row_first: false } => flow,
    };
    while height < full {
        (height, width) = (2 * height, 2 * width);
        flow = resize(flow, Size { height, width }, Filter::Bilinear, census.grid).mul_scalar(2.0);
    }
    flow
}

/// From one grey image along the flow to the other; `back` is that one's flow.
fn direction(images: [&Tensor<4>; 2], [flow, back]: [&Tensor<4>; 2], census: &Census<'_>) -> Tensor<1> {
    let [n, _, height, width] = flow.dims();
    let Census { cost: [offset, exponent], weight, .. } = *census;
    let radius = census.patch / 2;
    let whole = |x: Tensor<4>| x.narrow(2, radius, height - 2 * radius).narrow(3, radius, width - 2 * radius);
    let warped = warp(images[1].clone(), flow.clone(), ALONG);
    let distance = whole(gpu::census(images[0].clone(), warped, radius));
    let cost = distance.add_scalar(offset).powf_scalar(exponent);
    let mask = whole(inside(flow).mul(visible(flow, back, census.occluded)));
    let mask = if census.through_mask { mask } else { mask.detach() };
    let counted = total(mask.clone().detach()).add_scalar(1e-6 * (n * height * width) as f64);
    total(cost.mul(mask)).mul_scalar(0.5 * weight).div(counted)
}

/// 1 where flow ends between pixel centres, 0 elsewhere.
fn inside(flow: &Tensor<4>) -> Tensor<4> {
    let [.., height, width] = flow.dims();
    let flow = flow.clone().detach();
    let ends = coordinates(flow.clone(), false).add(flow);
    let last = per_channel(&[(width - 1) as f32, (height - 1) as f32], &ends);
    let inside = ends.clone().greater_equal_scalar(0.0).bool_and(ends.clone().lower_equal(last));
    let both = ends.zeros_like().mask_fill(inside, 1.0);
    both.clone().narrow(1, 0, 1).mul(both.narrow(1, 1, 1))
}

/// How much the other image shows of each pixel, 0 to 1.
fn visible(flow: &Tensor<4>, back: &Tensor<4>, occluded: Occluded) -> Tensor<4> {
    match occluded {
        Occluded::Nothing => flow.clone().detach().narrow(1, 0, 1).ones_like(),
        Occluded::NoArrivals => gpu::range_map(back.clone()).clamp(0.0, 1.0),
        Occluded::NoReturn => {
            let (flow, back) = (flow.clone().detach(), back.clone().detach());
            let back = warp(back, flow.clone(), ALONG);
            let squared = |x: Tensor<4>| x.clone().mul(x).sum_dim(1);
            let apart = squared(flow.clone().add(back.clone()));
            let lengths = squared(flow).add(squared(back));
            let elsewhere = apart.clone().greater(lengths.mul_scalar(0.01).add_scalar(0.5));
            apart.ones_like().mask_fill(elsewhere, 0.0)
        }
    }
}

/// The sum of all values, row by row.
fn total(x: Tensor<4>) -> Tensor<1> {
    let [n, c, height, width] = x.dims();
    let rows: Tensor<2> = x.reshape([n * c * height, width]).sum_dim(1);
    rows.reshape([n * c * height]).sum_dim(0)
}
