//! What a layer is: its shape, the values it is prepared with, and how it may be computed.

use crate::{
    Bf16, BlocksMut, Extent, Isa, LANES,
    activation::{Smooth, activate_in_place},
    layout::check_lanes,
};

/// What a layer computes, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Convolution, or transposed convolution with kernel 4, stride 2, padding 1.
    pub kind: ConvKind,
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
    /// Zeros above, left, below, right.
    pub padding: [usize; 4],
}

/// Direction of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConvKind {
    /// Weights `[out, in, k, k]`.
    Forward,
    /// Weights `[in, out, 4, 4]`, stride 2, padding 1: the output is twice as large.
    Transposed,
}

impl ConvShape {
    /// The output's extent for this input.
    ///
    /// # Panics
    /// If the kernel does not fit into the padded input.
    pub fn output(&self, input: Extent) -> Extent {
        match self.kind {
            ConvKind::Transposed => Extent { n: input.n, h: 2 * input.h, w: 2 * input.w },
            ConvKind::Forward => {
                let [top, left, bottom, right] = self.padding;
                let out = |size: usize, kernel: usize, before: usize, after: usize| {
                    let room = size.checked_add(before)?.checked_add(after)?;
                    let reach = kernel.checked_sub(1)?.checked_mul(self.dilation)?.checked_add(1)?;
                    room.checked_sub(reach)?.checked_div(self.stride).map(|last| last + 1)
                };
                match (out(input.h, self.kernel[0], top, bottom), out(input.w, self.kernel[1], left, right)) {
                    (Some(h), Some(w)) => Extent { n: input.n, h, w },
                    _ => panic!("{self:?} has no output for an input of {input:?}"),
                }
            }
        }
    }

    /// Checks a layer where it is prepared: what its kernels compute with must not wrap, and its lanes be those of its input.
    ///
    /// # Panics
    /// If it is no layer.
    pub(super) fn check(&self, input: Extent, lanes: &[Option<u32>]) {
        let Self { kind, in_channels, out_channels, kernel, stride, dilation, padding } = *self;
        if kind == ConvKind::Transposed {
            assert_eq!(
                (kernel, stride, dilation, padding),
                ([4; 2], 2, 1, [1; 4]),
                "a transposed convolution is 4x4, stride 2"
            );
        }
        // Counts of lanes, with the last block filled up, and lane numbers of 32 bits.
        assert!([in_channels, out_channels].iter().all(|&c| c <= u32::MAX as usize - LANES), "channels");
        let weights = [out_channels, kernel[0], kernel[1], 4].into_iter().try_fold(in_channels, usize::checked_mul);
        assert!(weights.is_some_and(|bytes| bytes <= isize::MAX as usize), "{self:?} has more weights than any memory");
        assert!(padding.iter().all(|&p| p <= i32::MAX as usize) && dilation <= i32::MAX as usize, "{self:?}");
        input.len();
        self.output(input).len();
        check_lanes(lanes, in_channels);
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Multiply-adds times two, counted as direct convolution.
    pub fn flop(&self, input: Extent) -> f64 {
        let pixels = match self.kind {
            ConvKind::Forward => self.output(input),
            ConvKind::Transposed => input,
        };
        2.0 * (pixels.n * pixels.h * pixels.w) as f64 * (self.in_channels * self.out_channels * self.taps()) as f64
    }
}

/// What is applied to each sum, after the bias and the residual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    Linear,
    /// `max(x, slope * x)`, `0 <= slope <= 1`.
    LeakyRelu(f32),
    /// A leaky ReLU of slope `before` ahead of the residual, and one of slope `after` behind it. Only convolutions take it.
    AroundSum {
        /// Of what the layer computes.
        before: f32,
        /// Of the sum.
        after: f32,
    },
    /// Applied by a pass of its own over what the engines have written. Not every kernel takes it: those say so.
    Smooth(Smooth),
}

impl Activation {
    /// The slope on the negative side (1 for linear, and for what follows in a pass of its own).
    pub fn slope(self) -> f32 {
        match self {
            Activation::Linear | Activation::Smooth(_) => 1.0,
            Activation::LeakyRelu(slope) | Activation::AroundSum { after: slope, .. } => slope,
        }
    }

    /// The slope ahead of the residual.
    pub(crate) fn slope_before(self) -> f32 {
        match self {
            Activation::AroundSum { before, .. } => before,
            Activation::Linear | Activation::LeakyRelu(_) | Activation::Smooth(_) => 1.0,
        }
    }

    /// What is left to do after an engine has applied the slope: of `channels` channels, in place.
    pub(super) fn finish(self, isa: Isa, channels: usize, output: &mut BlocksMut<'_, '_>) {
        if let Self::Smooth(curve) = self {
            activate_in_place(isa, curve, channels, output);
        }
    }
}

/// How to prepare a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Instruction set.
    pub isa: Isa,
    /// Only sums of products of the given numbers: no Winograd.
    pub exact: bool,
    /// Allows products of numbers rounded to bf16, where that is expected to be faster; `None` computes in f32.
    pub bf16: Option<Bf16>,
    /// Threads that will run it.
    pub threads: usize,
    /// An algorithm by name (as [`super::ConvPlan::algorithm`] prints it), for tests and benchmarks; `None` chooses.
    pub algorithm: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self { isa: Isa::detect(), exact: false, bf16: None, threads: rayon::current_num_threads(), algorithm: None }
    }
}

/// Everything that is known when a layer is prepared.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// What it computes.
    pub shape: ConvShape,
    /// The size it will run at.
    pub input: Extent,
    /// Which input channel each lane of the input blocks holds ([`crate::lane_map`]); lanes of `None` hold zeros.
    /// Fewer than 16 lanes are one block without padding, `[n][h][w][lanes]`: frames for a first layer, of which most of
    /// a whole block would be memory traffic for nothing.
    pub lanes: &'a [Option<u32>],
    /// Weights in PyTorch's order.
    pub weight: &'a [f32],
    /// `[out]`
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}
