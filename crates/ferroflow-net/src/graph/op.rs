//! The kinds of operation. Each variant's comment gives its inputs, its output and its formula.

use ferroflow_core::geometry::Grid;

use super::ParamId;

/// An operation of the graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// No input -> `[N, 3, H, W]`, RGB 0..=255.
    Frame(Frame),
    /// `[N, C, H, W]` -> `[N, O, H', W']`: cross-correlation plus bias.
    Conv(Conv),
    /// `[N, C, H, W]` -> `[N, O, 2H, 2W]`: transposed convolution, kernel 4, stride 2, padding 1.
    Deconv(Deconv),
    /// Per channel `(x - mean) / sqrt(var + eps) * scale + shift`.
    BatchNorm(BatchNorm),
    /// `x` where positive, `slope * x` elsewhere.
    LeakyRelu {
        /// 0.1 in the networks of the FlowNet family; 0 is ReLU.
        slope: f32,
    },
    /// An activation that is not a line on either side of 0.
    Smooth(Smooth),
    /// Joins any number of inputs along the channels, in order.
    Concat,
    /// Joins any number of inputs of one shape along the batch, in order: `[N, ..]` each -> `[k * N, ..]`. The two
    /// frames of a pair go through a shared feature pyramid as one batch, so weights are read once.
    Stack,
    /// The reverse of [`Op::Stack`]: `[of * N, ..]` -> images `index * N .. (index + 1) * N`.
    Part {
        /// Number of the part, from 0.
        index: usize,
        /// Number of parts in the stack.
        of: usize,
    },
    /// Picks channels, for a slice or another order (RGB to BGR, (dy, dx) to (u, v)).
    Channels(Vec<u32>),
    /// Per channel `scale * x + offset`; a single entry is used for all channels.
    Affine {
        /// One factor per channel, or one for all.
        scale: Vec<f32>,
        /// One summand per channel, or one for all.
        offset: Vec<f32>,
    },
    /// `a + b`, the same shape.
    Add,
    /// `a - b`; `b` may also be `[N, C, 1, 1]`.
    Sub,
    /// `a * b`, the same shape.
    Product,
    /// `(a, b, t)`, the same shape -> `a + t * (b - a)`, as a GRU mixes its old and its new state.
    Lerp,
    /// `(x - mean) / sqrt(variance + epsilon)` with the mean and the biased variance of each image and channel over its pixels.
    InstanceNorm {
        /// Added to the variance (1e-5).
        epsilon: f32,
    },
    /// `(x - mean) / sqrt(variance + epsilon) * scale + shift` with the mean and the biased variance of each pixel over its
    /// channels, and a factor and a summand for each channel.
    LayerNorm(LayerNorm),
    /// `factor * x` with one factor for each channel, the layer scale of Touvron et al. 2021.
    ChannelScale {
        /// `[C]`
        factor: ParamId,
    },
    /// `[N, C, H, W]` -> `[N, C, H / size, W / size]`, rounded down: mean of each window of `size` x `size` pixels.
    AveragePool {
        /// Side of a window, and pixels from one to the next.
        size: usize,
    },
    /// `x`, whose gradient is 0.
    Detach,
    /// `(q, k, v)`, `[N, C, H, W]` twice and `[N, V, H, W]` -> `[N, V, H, W]`: at each pixel the sum of `v` over all pixels,
    /// weighed by the softmax over them of `q . k / sqrt(C)` (Vaswani et al. 2017, equation 1), of each image by itself.
    Attention,
    /// `[N, 2, H, W]`, with the size of the input: column and row of each pixel, from 0, or less half of width and height.
    Coordinates {
        /// Whether 0 is the middle.
        centred: bool,
    },
    /// One or more inputs `[N, C, H, W]` -> `[N, C, 1, 1]`: mean over the pixels of all inputs.
    ChannelMean,
    /// `[N, C, H, W]` -> `[N, 1, H, W]`: `sqrt(max(sum_c x^2, floor))`.
    ChannelNorm {
        /// Smallest sum of squares (0 except in the MindSpore port).
        floor: f32,
    },
    /// `(f1, f2)` -> `[N, D * D, H, W]`: mean over channels of `f1(p) * f2(p + d)`, zero outside; dy outer, dx inner.
    Correlation(Correlation),
    /// `(f1, f2, flow)` -> `[N, levels * (2 radius + 1)^2, H, W]`: what RAFT looks up in the products of all pixels of two feature
    /// maps (Teed & Deng 2020, section 3.2; `CorrBlock`).
    Lookup(Lookup),
    /// `(image, flow)` -> image sampled at `p + flow(p)`.
    Warp(Warp),
    /// `[N, C, H, W]` -> `[N, C, factor * H, factor * W]`; values are not scaled.
    Resize {
        /// Ratio of the output's size to the input's.
        factor: usize,
        /// Interpolation.
        filter: Filter,
        /// Where samples lie.
        grid: Grid,
    },
    /// `(flow, logits)`, `[N, 2, h, w]` and `[N, 9 * factor * factor, h, w]` -> `[N, 2, factor * h, factor * w]`: RAFT's
    /// convex upsampling (Teed & Deng 2020, section 3.3). Every fine pixel is the sum of the nine coarse ones around it,
    /// zeros outside, weighed by the softmax over its logits: channel `(k * factor + dy) * factor + dx` is that of
    /// neighbour `k` (row by row, 4 is the coarse pixel itself) for fine pixel `(dy, dx)` of a coarse one, as the
    /// `view(N, 1, 9, factor, factor, H, W)` of `upsample_flow` has them. Values are not scaled: RAFT's `8 * flow` is a
    /// [`Op::Affine`] behind it, which the executors fuse.
    ConvexUpsample {
        /// How many times larger, at least 2.
        factor: usize,
    },
    /// Flow in pixels of the network input, `[N, 2, h, w]` (u, v) -> `[N, 2, Ho, Wo]` in pixels of the output image:
    /// resized, u times `Wo / W`, v times `Ho / H`, where `(H, W)` is the size of the network's input frames.
    /// A copy when nothing changes.
    ToOutput {
        /// Interpolation.
        filter: Filter,
        /// Where samples lie.
        grid: Grid,
    },
    /// `(a, b)`, `[N, C, H, W]` -> `[N, 2, 1, 1]`: mean and biased variance over (C, H, W) of each, averaged over the
    /// two tensors (and the batch).
    Moments(MomentsOver),
    /// `(x, moments)` -> `(x - mean) / sqrt(variance + epsilon)`.
    Standardise {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Zeros `[N, channels, H, W]`, with the size of the input.
    Zeros {
        /// Channels of the result.
        channels: usize,
    },
}

impl Op {
    /// The parameters it reads.
    pub fn params(&self) -> Vec<ParamId> {
        self.clone().params_mut().into_iter().map(|id| *id).collect()
    }

    /// The parameters it reads, to renumber.
    pub(super) fn params_mut(&mut self) -> Vec<&mut ParamId> {
        match self {
            Self::Conv(Conv { weight, bias, .. }) | Self::Deconv(Deconv { weight, bias, .. }) => {
                std::iter::once(weight).chain(bias).collect()
            }
            Self::BatchNorm(BatchNorm { scale, shift, mean, variance, .. }) => vec![scale, shift, mean, variance],
            Self::LayerNorm(LayerNorm { scale, shift, .. }) => vec![scale, shift],
            Self::ChannelScale { factor } => vec![factor],
            Self::Frame(_)
            | Self::LeakyRelu { .. }
            | Self::Concat
            | Self::Stack
            | Self::Part { .. }
            | Self::Channels(_)
            | Self::Affine { .. }
            | Self::Add
            | Self::Sub
            | Self::ChannelMean
            | Self::ChannelNorm { .. }
            | Self::Correlation(_)
            | Self::Lookup(_)
            | Self::Warp(_)
            | Self::Resize { .. }
            | Self::ConvexUpsample { .. }
            | Self::ToOutput { .. }
            | Self::Moments(_)
            | Self::Standardise { .. }
            | Self::Smooth(_)
            | Self::Product
            | Self::Lerp
            | Self::InstanceNorm { .. }
            | Self::AveragePool { .. }
            | Self::Attention
            | Self::Coordinates { .. }
            | Self::Detach
            | Self::Zeros { .. } => Vec::new(),
        }
    }
}

/// Which frame of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// The frame whose pixels the flow describes.
    First,
    /// The frame they moved to.
    Second,
}

/// Zero padding in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on all four sides.
    pub const fn all(p: usize) -> Self {
        Self { top: p, left: p, bottom: p, right: p }
    }

    /// `before` rows above and columns left, `after` below and right (TensorFlow's `same` with stride 2).
    pub const fn before_after(before: usize, after: usize) -> Self {
        Self { top: before, left: before, bottom: after, right: after }
    }
}

/// A convolution; `groups == in_channels == out_channels` is a depthwise one.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// `[out, in / groups, kh, kw]`
    pub weight: ParamId,
    /// `[out]`
    pub bias: Option<ParamId>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step between outputs.
    pub stride: usize,
    /// Distance between taps.
    pub dilation: usize,
    /// 1, or `in_channels` for depthwise.
    pub groups: usize,
    /// Zeros around the input.
    pub padding: Padding,
}

/// A transposed convolution, kernel 4, stride 2, padding 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Deconv {
    /// `[in, out, 4, 4]`
    pub weight: ParamId,
    /// `[out]`
    pub bias: Option<ParamId>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
}

/// Batch normalisation with running statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// Gamma.
    pub scale: ParamId,
    /// Beta.
    pub shift: ParamId,
    /// Running mean.
    pub mean: ParamId,
    /// Running variance.
    pub variance: ParamId,
    /// Added to the variance (1e-5).
    pub epsilon: f32,
}

/// Layer normalisation over the channels of each pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// `[C]`
    pub scale: ParamId,
    /// `[C]`
    pub shift: ParamId,
    /// Added to the variance.
    pub epsilon: f32,
}

/// What [`Op::Smooth`] applies to each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Smooth {
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `tanh x`
    Tanh,
    /// `x (1 + erf(x / sqrt 2)) / 2`, the exact form of PyTorch.
    Gelu,
}

/// The cost volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correlation {
    /// Largest displacement in pixels of the feature map (4 in PWC-Net, 20 in FlowNetC).
    pub max_displacement: usize,
    /// Step between displacements (1 in PWC-Net, 2 in FlowNetC).
    pub stride: usize,
}

impl Correlation {
    /// Displacements per axis, `2 * (max / stride) + 1`.
    pub fn diameter(self) -> usize {
        2 * (self.max_displacement / self.stride) + 1
    }
}

/// RAFT's lookup in the products of all pairs of pixels.
///
/// Level `l` is the second map averaged over windows of `2^l` x `2^l` pixels; each time it is halved, a last odd row and column are
/// left out. Channel `(l * side + i) * side + j` is `<f1(p), level(q)> / sqrt(C)` at `q = (p + flow(p)) / 2^l + (i - radius,
/// j - radius)`, columns first: the outer offset is that of x, as in the references' `meshgrid(dy, dx)`. Between pixels `q` is
/// interpolated bilinearly, the centre of pixel (0, 0) being 0, and what lies outside the level is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Largest offset along each axis, in pixels of a level (4; 3 in RAFT-small).
    pub radius: usize,
    /// Number of levels (4).
    pub levels: usize,
}

impl Lookup {
    /// Offsets per axis, `2 * radius + 1`.
    pub fn side(self) -> usize {
        2 * self.radius + 1
    }

    /// Channels of the result.
    pub fn channels(self) -> usize {
        self.levels * self.side() * self.side()
    }

    /// Height and width of a level, of a map of this size.
    pub fn level_size(self, level: usize, [height, width]: [usize; 2]) -> [usize; 2] {
        [height >> level, width >> level]
    }
}

/// Backward warping: the second input says where to sample the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warp {
    /// What lies outside the image.
    pub border: WarpBorder,
    /// How the two flow channels name the axes.
    pub order: FlowOrder,
    /// Factor from flow values to pixels of the warped image.
    pub scale: f32,
    /// The derivative where the sampling point lies on a pixel.
    pub on_pixel: OnPixel,
}

/// The derivative of a warp along an axis whose coordinate is a whole number, where the slopes to both sides differ. Each
/// framework has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnPixel {
    /// The slope to the right: the neighbours are `floor` and `floor + 1` (NVIDIA's kernels, `grid_sample`, Caffe).
    Right,
    /// 0: the neighbours are `floor` and `ceil`, one and the same (UFlow).
    Zero,
    /// 0, except on the last pixel, where it is the slope to the left: `floor` is at most the pixel before the last, and the
    /// fraction is clamped to 0..=1 by functions whose derivative is 0 at 0 (tfoptflow's `dense_image_warp`). For
    /// [`WarpBorder::Replicate`].
    ZeroButLast,
}

/// What a warp reads outside the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WarpBorder {
    /// The nearest border pixel: the sampling point is clamped to the image (NVIDIA, MindSpore, tfoptflow).
    Replicate,
    /// Zero: each of the four neighbours that lies outside counts 0 (UFlow; `grid_sample` with zeros).
    Zeros,
    /// As `Zeros`, and 0 wherever the weights of the neighbours inside sum to less than the threshold (PWC-Net).
    ZerosMasked {
        /// 0.9999 in NVlabs' and ptlflow's code, 0.999 in others.
        threshold: f32,
    },
    /// Neighbours clamped, weights from `x - floor(clamp(x))`: extrapolates linearly left of and above the image
    /// (the Ascend ONNX graph).
    Extrapolate,
    /// 0 when the sampling point lies outside `[0, W) x [0, H)`, else the right and lower neighbours clamped (Caffe).
    Caffe,
}

/// Meaning of a flow's two channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowOrder {
    /// (u, v): right, down.
    Uv,
    /// (dy, dx): UFlow.
    Vu,
    /// Row minus channel 0, column minus channel 1: tfoptflow's `dense_image_warp`.
    NegatedVu,
}

/// Interpolation of a resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// `source = floor(destination / factor)`, whatever the grid.
    Nearest,
    /// Linear along both axes, source clamped to the image.
    Bilinear,
}

/// What [`Op::Moments`] averages over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MomentsOver {
    /// Every pair on its own, so that batching changes nothing.
    Pair,
    /// The whole batch, as Google's UFlow computes it.
    Batch,
}
