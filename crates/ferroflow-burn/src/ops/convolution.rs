//! Convolution and transposed convolution.

use burn::tensor::Tensor;
use burn::tensor::module::{conv_transpose2d, conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use ferroflow_net::graph::{Conv, Deconv, Shape};

use crate::device::Precision;

/// Channels of a flow, or of both directions': a layer that gives no more is never rounded.
const FLOW: usize = 4;

/// A convolution whose factors are rounded to a precision: result, weights and gradients stay in f32.
pub(crate) fn in_precision(
    precision: Precision,
    output: Shape,
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Option<Tensor<1>>,
    convolve: impl FnOnce(Tensor<4>, Tensor<1>, Option<Tensor<1>>) -> Tensor<4>,
) -> Tensor<4> {
    match precision.dtype() {
        Some(dtype) if output[1] > FLOW => {
            let full = x.dtype();
            let [_, channels, ..] = output;
            let product = convolve(x.cast(dtype), weight.cast(dtype), None).cast(full);
            // The bias is added in f32.
            bias.into_iter().fold(product, |sum, bias| sum.add(bias.reshape([1, channels, 1, 1])))
        }
        _ => convolve(x, weight, bias),
    }
}

/// `weight` is `[out, in / groups, kh, kw]`, flat.
pub(crate) fn conv(x: Tensor<4>, weight: Tensor<1>, bias: Option<Tensor<1>>, c: &Conv) -> Tensor<4> {
    let weight = weight.reshape([c.out_channels, c.in_channels / c.groups, c.kernel[0], c.kernel[1]]);
    let padding = [(c.padding.top, c.padding.bottom), (c.padding.left, c.padding.right)];
    conv2d(x, weight, bias, ConvOptions::new_with_padding([c.stride; 2], padding, [c.dilation; 2], c.groups))
}

/// `[N, P, C]` times `[N, C, Q]`, as 1x1 convolutions: on a card Burn makes matrix products of them, and Mesa's driver for processors
/// (22.3) crashes on the kernels of its matrix product, not on those of its convolution.
pub(super) fn products(left: Tensor<3>, right: Tensor<3>) -> Tensor<3> {
    let ([n, p, channels], q) = (left.dims(), right.dims()[2]);
    let of_image = |i: usize| {
        let image = right.clone().narrow(0, i, 1).reshape([1, channels, q, 1]);
        let weight = left.clone().narrow(0, i, 1).reshape([p, channels, 1, 1]);
        conv2d(image, weight, None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1)).reshape([1, p, q])
    };
    Tensor::cat((0..n).map(of_image).collect(), 0)
}

/// `weight` is `[in, out, 4, 4]`, flat.
pub(crate) fn deconv(x: Tensor<4>, weight: Tensor<1>, bias: Option<Tensor<1>>, d: &Deconv) -> Tensor<4> {
    let weight = weight.reshape([d.in_channels, d.out_channels, 4, 4]);
    if !x.is_autodiff() && !weight.is_autodiff() {
        return conv_transpose2d(x, weight, bias, ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1));
    }
    let sum = super::extension::deconv(x, weight);
    bias.into_iter().fold(sum, |sum, bias| sum.add(bias.reshape([1, d.out_channels, 1, 1])))
}
