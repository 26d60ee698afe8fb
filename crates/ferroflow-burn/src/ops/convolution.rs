//! Convolution and transposed convolution.

use burn::tensor::Tensor;
use burn::tensor::module::{conv_transpose2d, conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use ferroflow_net::graph::{Conv, Deconv};

/// `weight` is `[out, in / groups, kh, kw]`, flat.
pub(crate) fn conv(x: Tensor<4>, weight: Tensor<1>, bias: Option<Tensor<1>>, c: &Conv) -> Tensor<4> {
    let weight = weight.reshape([c.out_channels, c.in_channels / c.groups, c.kernel[0], c.kernel[1]]);
    let padding = [(c.padding.top, c.padding.bottom), (c.padding.left, c.padding.right)];
    conv2d(x, weight, bias, ConvOptions::new_with_padding([c.stride; 2], padding, [c.dilation; 2], c.groups))
}

/// `weight` is `[in, out, 4, 4]`, flat.
pub(crate) fn deconv(x: Tensor<4>, weight: Tensor<1>, bias: Option<Tensor<1>>, d: &Deconv) -> Tensor<4> {
    let weight = weight.reshape([d.in_channels, d.out_channels, 4, 4]);
    conv_transpose2d(x, weight, bias, ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1))
}
