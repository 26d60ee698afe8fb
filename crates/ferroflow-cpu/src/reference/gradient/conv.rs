//! Convolution and transposed convolution: one loop per tap.

use std::ops::Range;

use ferroflow_net::ParamId;
use ferroflow_net::graph::{Conv, Deconv, Shape};
use ferroflow_net::training::Gradients;
use rayon::prelude::*;

use super::{Real, Tensor, add};

/// Sum over images and pixels, per channel.
pub(super) fn bias<T: Real>(d: &Tensor<T>, bias: Option<ParamId>, sum: &mut Gradients) {
    let Some(bias) = bias else { return };
    let [n, channels, ..] = d.shape;
    let total = |c: usize| (0..n).flat_map(|n| d.plane(n, c)).fold(T::default(), |sum, &v| sum + v);
    add(sum.get_mut(bias), &(0..channels).map(total).collect::<Vec<T>>());
}

/// Outputs along one axis whose tap lies inside the input, and where the first of them reads.
fn reach(tap: usize, before: usize, stride: usize, inputs: usize, outputs: usize) -> (Range<usize>, usize) {
    let first = before.saturating_sub(tap).div_ceil(stride);
    let end = (inputs + before).saturating_sub(tap).div_ceil(stride).clamp(first, outputs.max(first));
    (first..end, (first * stride + tap).saturating_sub(before))
}

/// For one tap: calls `f(input row, first input column, output row, output columns)` for every row it touches.
fn for_tap(c: &Conv, tap: usize, input: Shape, output: Shape, mut f: impl FnMut(usize, usize, usize, Range<usize>)) {
    let (ky, kx) = (tap / c.kernel[1] * c.dilation, tap % c.kernel[1] * c.dilation);
    let (rows, first_row) = reach(ky, c.padding.top, c.stride, input[2], output[2]);
    let (columns, first_column) = reach(kx, c.padding.left, c.stride, input[3], output[3]);
    for (i, y) in rows.enumerate() {
        f(first_row + i * c.stride, first_column, y, columns.clone());
    }
}

pub(super) fn weight<T: Real>(x: &Tensor<T>, d: &Tensor<T>, c: &Conv, sum: &mut [f32]) {
    let taps = c.kernel[0] * c.kernel[1];
    let (ins, outs) = (c.in_channels / c.groups, c.out_channels / c.groups);
    let (w, ow) = (x.shape[3], d.shape[3]);
    sum.par_chunks_mut(taps).enumerate().for_each(|(i, sums)| {
        let (output, input) = (i / ins, i / ins / outs * ins + i % ins);
        for (tap, sum) in sums.iter_mut().enumerate() {
            let mut total = T::default();
            for n in 0..x.shape[0] {
                let (x, d) = (x.plane(n, input), d.plane(n, output));
                for_tap(c, tap, [0, 0, x.len() / w, w], [0, 0, d.len() / ow, ow], |iy, ix, y, columns| {
                    let from = x[iy * w..][..w].iter().skip(ix).step_by(c.stride);
                    for (&d, &x) in d[y * ow..][columns].iter().zip(from) {
                        total += d * x;
                    }
                });
            }
            *sum += total.f64() as f32;
        }
    });
}

pub(super) fn input<T: Real>(shape: Shape, d: &Tensor<T>, weight: &[f32], c: &Conv) -> Tensor<T> {
    let taps = c.kernel[0] * c.kernel[1];
    let (ins, outs) = (c.in_channels / c.groups, c.out_channels / c.groups);
    let [_, channels, h, w] = shape;
    let ow = d.shape[3];
    let mut result = Tensor::zeros(shape);
    result.data.par_chunks_mut(h * w).enumerate().for_each(|(i, to)| {
        let (n, input) = (i / channels, i % channels);
        let first_output = input / ins * outs;
        for output in first_output..first_output + outs {
            for tap in 0..taps {
                let factor = T::of(f64::from(weight[(output * ins + input % ins) * taps + tap]));
                let d = d.plane(n, output);
                for_tap(c, tap, shape, [0, 0, d.len() / ow, ow], |iy, ix, y, columns| {
                    let to = to[iy * w..][..w].iter_mut().skip(ix).step_by(c.stride);
                    to.zip(&d[y * ow..][columns]).for_each(|(to, &d)| *to += factor * d);
                });
            }
        }
    });
    result
}

/// The transposed convolution of kernel 4 as the convolution whose gradient it is.
fn adjoint(c: &Deconv) -> Conv {
    Conv {
        weight: c.weight,
        bias: None,
        in_channels: c.out_channels,
        out_channels: c.in_channels,
        kernel: [4; 2],
        stride: 2,
        dilation: 1,
        groups: 1,
        padding: ferroflow_net::graph::Padding::all(1),
    }
}

pub(super) fn transposed_weight<T: Real>(x: &Tensor<T>, d: &Tensor<T>, c: &Deconv, sum: &mut [f32]) {
    weight(d, x, &adjoint(c), sum);
}

pub(super) fn transposed_input<T: Real>(shape: Shape, d: &Tensor<T>, weight: &[f32], c: &Deconv) -> Tensor<T> {
    crate::reference::conv::conv(d, weight, None, &adjoint(c), shape)
}
