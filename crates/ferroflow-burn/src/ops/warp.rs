//! Backward warping with every border rule.

use burn::tensor::{Bool, Tensor};
use ferroflow_net::graph::{Correlation, FlowOrder, OnPixel, Warp, WarpBorder};

use super::along;

/// `image` sampled at `p + flow(p)`, bilinear; differentiable in both.
pub(crate) fn warp(image: Tensor<4>, flow: Tensor<4>, warp: Warp) -> Tensor<4> {
    #[cfg(feature = "cube")]
    if super::gpu::has_kernels(&image) {
        return super::gpu::warp(image, flow, warp);
    }
    let [n, channels, h, w] = image.dims();
    let [x, y] = sampling_points(flow, warp);
    let (x0, a) = neighbours(x.clone(), w, warp);
    let (y0, b) = neighbours(y.clone(), h, warp);
    let (x1, y1) = (x0.clone().add_scalar(1.0), y0.clone().add_scalar(1.0));
    let (one_less_a, one_less_b) = (a.clone().neg().add_scalar(1.0), b.clone().neg().add_scalar(1.0));
    let corners = [(&x0, &y0), (&x1, &y0), (&x0, &y1), (&x1, &y1)];
    let mut weights =
        [one_less_a.clone().mul(one_less_b.clone()), a.clone().mul(one_less_b), one_less_a.mul(b.clone()), a.mul(b)];
    match warp.border {
        WarpBorder::Replicate | WarpBorder::Extrapolate => {}
        WarpBorder::Zeros | WarpBorder::ZerosMasked { .. } => {
            for (weight, (x, y)) in weights.iter_mut().zip(corners) {
                let inside = between(x, 0, w - 1).bool_and(between(y, 0, h - 1));
                weight.inplace(|weight| weight.mask_fill(inside.bool_not(), 0.0));
            }
            if let WarpBorder::ZerosMasked { threshold } = warp.border {
                let [w0, w1, w2, w3] = weights.clone().map(Tensor::detach);
                let outside = w0.add(w1).add(w2).add(w3).lower_scalar(threshold);
                weights = weights.map(|weight| weight.mask_fill(outside.clone(), 0.0));
            }
        }
        WarpBorder::Caffe => {
            let below = |p: Tensor<4>, size: usize| p.lower_scalar(size as f32);
            let inside = between(&x, 0, w).bool_and(between(&y, 0, h)).bool_and(below(x, w)).bool_and(below(y, h));
            let outside = inside.bool_not();
            weights = weights.map(|weight| weight.mask_fill(outside.clone(), 0.0));
        }
    }

    let flat = image.reshape([n, channels, h * w]);
    let index = |p: &Tensor<4>, size: usize| p.clone().clamp(0.0, (size - 1) as f32).int();
    let sampled = corners.into_iter().zip(weights).map(|((x, y), weight)| {
        // Clamped once more: what a flow that is not a number becomes as an integer differs from device to device.
        let at = index(y, h).mul_scalar(w as i64).add(index(x, w)).clamp(0, (h * w - 1) as i64);
        let at = at.reshape([n, 1, h * w]).expand([n, channels, h * w]);
        flat.clone().gather(2, at).reshape([n, channels, h, w]).mul(weight)
    });
    sampled.reduce(Tensor::add).expect("four corners")
}

/// The cost volume of `f1` with `image` warped by `flow`; differentiable in all three.
pub(crate) fn warped_correlation(inputs: [Tensor<4>; 3], c: Correlation, by: Warp) -> Tensor<4> {
    #[cfg(feature = "cube")]
    if super::gpu::has_kernels(&inputs[0]) {
        return super::gpu::warped_correlation(inputs, c, by);
    }
    let [f1, image, flow] = inputs;
    super::correlation(f1, warp(image, flow, by), c)
}

/// Column and row of the image that each pixel reads, `[N, 1, H, W]` each.
fn sampling_points(flow: Tensor<4>, warp: Warp) -> [Tensor<4>; 2] {
    let [_, _, h, w] = flow.dims();
    let (columns, rows) = (along(3, count(w), &flow), along(2, count(h), &flow));
    let flow = flow.mul_scalar(warp.scale);
    let (first, second) = (flow.clone().narrow(1, 0, 1), flow.narrow(1, 1, 1));
    match warp.order {
        FlowOrder::Uv => [columns.add(first), rows.add(second)],
        FlowOrder::Vu => [columns.add(second), rows.add(first)],
        FlowOrder::NegatedVu => [columns.sub(second), rows.sub(first)],
    }
}

fn count(size: usize) -> Vec<f32> {
    (0..size).map(|i| i as f32).collect()
}

/// Along one axis: the neighbour before each point, and how far beyond it the point lies. Only the latter is
/// differentiated.
fn neighbours(point: Tensor<4>, size: usize, warp: Warp) -> (Tensor<4>, Tensor<4>) {
    let fixed = point.clone().detach();
    let last = (size - 1) as f32;
    let on_last = fixed.clone().equal_scalar(last);
    let whole = fixed.clone().equal(fixed.clone().floor());
    let before = match warp.border {
        WarpBorder::Extrapolate => fixed.clamp(0.0, last).floor(),
        WarpBorder::Replicate | WarpBorder::Zeros | WarpBorder::ZerosMasked { .. } | WarpBorder::Caffe => fixed.floor(),
    };
    match warp.on_pixel {
        // NVIDIA, NVlabs: the derivative on a pixel is that to the right of it.
        OnPixel::Right => (before.clone(), point.sub(before)),
        // UFlow's neighbours are floor and ceiling, one and the same on a pixel: the derivative there is 0.
        OnPixel::Zero => {
            let beyond = point.sub(before.clone());
            (before, beyond.clone().mask_where(whole, beyond.detach()))
        }
        // tfoptflow clamps the fraction, by which the derivative is 0 on a pixel, save on the last: to the left of it.
        OnPixel::ZeroButLast => {
            let before = before.mask_fill(on_last.clone(), last - 1.0);
            let beyond = point.sub(before.clone());
            (before, beyond.clone().mask_where(whole.bool_and(on_last.bool_not()), beyond.detach()))
        }
    }
}

/// Both bounds belong to it; NaN does not.
fn between(p: &Tensor<4>, low: usize, high: usize) -> Tensor<4, Bool> {
    p.clone().greater_equal_scalar(low as f32).bool_and(p.clone().lower_equal_scalar(high as f32))
}
