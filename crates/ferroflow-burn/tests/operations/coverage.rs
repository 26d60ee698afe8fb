//! Names of the variants of operations and of their settings. A variant without a line does not compile; a line without
//! a row fails [`crate::every_variant_has_a_row`].

use std::collections::BTreeSet;

use ferroflow_net::Op;
use ferroflow_net::graph::{Filter, FlowOrder, Frame, Grid, MomentsOver, OnPixel, Smooth, WarpBorder};

/// A function that names a value's variant, and all its names.
macro_rules! variants {
    ($function:ident, $all:ident: $type:ty { $($pattern:pat $(if $guard:expr)? => $name:literal),+ $(,)? }) => {
        pub fn $function(value: &$type) -> &'static str {
            match value { $($pattern $(if $guard)? => $name),+ }
        }
        pub const $all: &[&str] = &[$($name),+];
    };
}

variants!(operation, OPERATIONS: Op {
    Op::Frame(_) => "frame",
    Op::Conv(c) if c.groups > 1 => "depthwise convolution",
    Op::Conv(_) => "convolution",
    Op::Deconv(_) => "transposed convolution",
    Op::BatchNorm(_) => "batch norm",
    Op::LeakyRelu { .. } => "leaky ReLU",
    Op::Smooth(_) => "smooth activation",
    Op::Concat => "concat",
    Op::Stack => "stack",
    Op::Part { .. } => "part",
    Op::Channels(_) => "channels",
    Op::Affine { .. } => "affine",
    Op::Add => "add",
    Op::Sub => "sub",
    Op::Product => "product",
    Op::Lerp => "lerp",
    Op::InstanceNorm { .. } => "instance norm",
    Op::LayerNorm(_) => "layer norm",
    Op::ChannelScale { .. } => "channel scale",
    Op::AveragePool { .. } => "average pool",
    Op::Detach => "detach",
    Op::Attention => "attention",
    Op::Coordinates { .. } => "coordinates",
    Op::ChannelMean => "channel mean",
    Op::ChannelNorm { .. } => "channel norm",
    Op::Correlation(_) => "correlation",
    Op::Lookup(_) => "lookup",
    Op::Warp(_) => "warp",
    Op::Resize { .. } => "resize",
    Op::ConvexUpsample { .. } => "convex upsampling",
    Op::ToOutput { .. } => "to output",
    Op::Moments(_) => "moments",
    Op::Standardise { .. } => "standardise",
    Op::Zeros { .. } => "zeros",
});

variants!(frame, FRAMES: Frame {
    Frame::First => "the first frame",
    Frame::Second => "the second frame",
});

variants!(border, BORDERS: WarpBorder {
    WarpBorder::Replicate => "border: replicate",
    WarpBorder::Zeros => "border: zeros",
    WarpBorder::ZerosMasked { .. } => "border: zeros, masked",
    WarpBorder::Extrapolate => "border: extrapolate",
    WarpBorder::Caffe => "border: Caffe's",
});

variants!(order, ORDERS: FlowOrder {
    FlowOrder::Uv => "flow of (u, v)",
    FlowOrder::Vu => "flow of (v, u)",
    FlowOrder::NegatedVu => "flow of (-v, -u)",
});

variants!(on_pixel, ON_PIXEL: OnPixel {
    OnPixel::Right => "on a pixel, the slope to the right",
    OnPixel::Zero => "on a pixel, 0",
    OnPixel::ZeroButLast => "on a pixel, 0 but on the last",
});

variants!(filter, FILTERS: Filter {
    Filter::Nearest => "nearest",
    Filter::Bilinear => "bilinear",
});

variants!(grid, GRIDS: Grid {
    Grid::HalfPixel => "half pixel",
    Grid::AlignCorners => "corners aligned",
    Grid::Asymmetric => "asymmetric",
});

variants!(smooth, SMOOTH: Smooth {
    Smooth::Sigmoid => "sigmoid",
    Smooth::Tanh => "tanh",
    Smooth::Gelu => "GELU",
});

variants!(moments, MOMENTS: MomentsOver {
    MomentsOver::Pair => "moments of a pair",
    MomentsOver::Batch => "moments of the batch",
});

/// All names of settings.
pub fn all_settings() -> BTreeSet<&'static str> {
    [FRAMES, BORDERS, ORDERS, ON_PIXEL, FILTERS, GRIDS, SMOOTH, MOMENTS].into_iter().flatten().copied().collect()
}

/// The names of an operation's settings.
pub fn settings(op: &Op) -> Vec<&'static str> {
    match op {
        Op::Frame(which) => vec![frame(which)],
        Op::Warp(w) => vec![border(&w.border), order(&w.order), on_pixel(&w.on_pixel)],
        Op::Resize { filter: by, grid: on, .. } | Op::ToOutput { filter: by, grid: on } => vec![filter(by), grid(on)],
        Op::Smooth(curve) => vec![smooth(curve)],
        Op::Moments(over) => vec![moments(over)],
        Op::Conv(_)
        | Op::Deconv(_)
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
        | Op::ConvexUpsample { .. }
        | Op::Standardise { .. }
        | Op::Product
        | Op::Lerp
        | Op::InstanceNorm { .. }
        | Op::LayerNorm(_)
        | Op::ChannelScale { .. }
        | Op::AveragePool { .. }
        | Op::Attention
        | Op::Coordinates { .. }
        | Op::Detach
        | Op::Zeros { .. } => Vec::new(),
    }
}
