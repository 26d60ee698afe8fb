//! Describes the layers of a graph as the kernels take them.

use ferroflow_kernels::conv::{ConvKind, ConvShape};
use ferroflow_net::{Op, ParamId, graph::Conv};

/// Why a convolution in groups is refused.
pub(super) const GROUPS: &str = "groups that are not depthwise with stride 1, or 3x3 with stride 2";

/// What a convolution or a transposed one computes, its weight and its bias.
pub(super) fn layer_of(op: &Op) -> Option<(ConvShape, ParamId, Option<ParamId>)> {
    match op {
        Op::Conv(c) => Some((conv_shape(c), c.weight, c.bias)),
        Op::Deconv(d) => {
            let shape = ConvShape {
                kind: ConvKind::Transposed,
                in_channels: d.in_channels,
                out_channels: d.out_channels,
                kernel: [4; 2],
                stride: 2,
                dilation: 1,
                padding: [1; 4],
            };
            Some((shape, d.weight, d.bias))
        }
        Op::Frame(_)
        | Op::BatchNorm(_)
        | Op::LeakyRelu { .. }
        | Op::Concat
        | Op::Stack
        | Op::Part { .. }
        | Op::Channels(_)
        | Op::Affine { .. }
        | Op::Add
        | Op::Sub
        | Op::ChannelMean
        | Op::ChannelNorm { .. }
        | Op::Correlation(_)
        | Op::Lookup(_)
        | Op::Warp(_)
        | Op::Resize { .. }
        | Op::ConvexUpsample { .. }
        | Op::ToOutput { .. }
        | Op::Moments(_)
        | Op::Standardise { .. }
        | Op::Smooth(_)
        | Op::Product
        | Op::Lerp
        | Op::InstanceNorm { .. }
        | Op::LayerNorm(_)
        | Op::ChannelScale { .. }
        | Op::AveragePool { .. }
        | Op::Attention
        | Op::Coordinates { .. }
        | Op::Detach
        | Op::Zeros { .. } => None,
    }
}

/// The layer without its parameters.
pub(super) fn conv_shape(c: &Conv) -> ConvShape {
    let p = c.padding;
    ConvShape {
        kind: ConvKind::Forward,
        in_channels: c.in_channels,
        out_channels: c.out_channels,
        kernel: c.kernel,
        stride: c.stride,
        dilation: c.dilation,
        padding: [p.top, p.left, p.bottom, p.right],
    }
}

/// Whether the depthwise 3x3 kernels can compute it.
pub(super) fn is_depthwise(c: &Conv) -> bool {
    has_own_filters(c) && c.kernel == [3; 2] && matches!(c.stride, 1 | 2)
}

/// Whether the depthwise kernels of other sizes can compute it.
pub(super) fn is_large_depthwise(c: &Conv) -> bool {
    has_own_filters(c) && c.kernel != [3; 2] && c.stride == 1
}

fn has_own_filters(c: &Conv) -> bool {
    c.groups == c.in_channels && c.groups == c.out_channels && c.groups > 1 && c.dilation == 1
}
