//! Operations on each pixel alone, and those that only move channels.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::Tensor;
use ferroflow_net::graph::Smooth;

use super::per_channel;

/// An activation, in the precision of its input, which Burn's own sigmoid leaves.
pub(crate) fn smooth(x: Tensor<4>, curve: Smooth) -> Tensor<4> {
    match curve {
        // `1 / (1 + e^-x)`, without a number that overflows.
        Smooth::Sigmoid => x.mul_scalar(0.5).tanh().add_scalar(1.0).mul_scalar(0.5),
        Smooth::Tanh => x.tanh(),
        Smooth::Gelu => {
            let erf = x.clone().mul_scalar(FRAC_1_SQRT_2).erf();
            x.mul_scalar(0.5).mul(erf.add_scalar(1.0))
        }
    }
}

/// `a + t * (b - a)`
pub(crate) fn lerp(a: Tensor<4>, b: Tensor<4>, t: Tensor<4>) -> Tensor<4> {
    a.clone().add(b.sub(a).mul(t))
}

/// One trained factor per channel, `[C]`.
pub(crate) fn channel_scale(x: Tensor<4>, factor: Tensor<1>) -> Tensor<4> {
    let channels = x.dims()[1];
    x.mul(factor.reshape([1, channels, 1, 1]))
}

/// `scale * x + offset`, one entry per channel or one for all.
pub(crate) fn affine(x: Tensor<4>, scale: &[f32], offset: &[f32]) -> Tensor<4> {
    let scaled = match scale {
        &[scale] => x.mul_scalar(scale),
        scale => x.clone().mul(per_channel(scale, &x)),
    };
    match offset {
        &[0.0] => scaled,
        &[offset] => scaled.add_scalar(offset),
        offset => scaled.clone().add(per_channel(offset, &scaled)),
    }
}

/// The channels named, in that order.
pub(crate) fn channels(x: Tensor<4>, picked: &[u32]) -> Tensor<4> {
    let runs = picked.chunk_by(|a, b| a + 1 == *b);
    let mut runs: Vec<Tensor<4>> = runs.map(|run| x.clone().narrow(1, run[0] as usize, run.len())).collect();
    if runs.len() == 1 { runs.remove(0) } else { Tensor::cat(runs, 1) }
}

/// `sqrt(max(sum_c x^2, floor))`; the gradient is 0 where the floor holds, so that a zero vector has one.
pub(crate) fn channel_norm(x: Tensor<4>, floor: f32) -> Tensor<4> {
    let sum = x.clone().mul(x).sum_dim(1);
    let floored = sum.clone().lower_equal_scalar(floor);
    sum.mask_fill(floored.clone(), 1.0).sqrt().mask_fill(floored, floor.sqrt())
}
