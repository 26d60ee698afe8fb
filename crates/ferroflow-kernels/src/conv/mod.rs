//! Convolution and transposed convolution: prepared once per layer and size, run per frame.
//!
//! [`ConvPlan::new`] picks the algorithm by shape, packs or transforms the weights for it, and knows its working
//! memory; [`ConvPlan::run`] then only computes. Bias, activation and residual are applied as results are written.

pub(crate) mod bf16;
pub(crate) mod direct;
mod few;
mod problem;
mod reference;
mod select;
#[cfg(test)]
mod tests;
pub mod training;
mod winograd;

use self::problem::{Filter, Problem};
use crate::{Bf16, Blocks, BlocksMut, Extent, Isa, LANES, Scratch, lane_map, layout::check_lanes};

/// What a layer computes, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Convolution, or transposed convolution with kernel 4, stride 2, padding 1.
    pub kind: ConvKind,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Square kernel size.
    pub kernel: usize,
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
                let out = |size: usize, before: usize, after: usize| {
                    let room = size.checked_add(before)?.checked_add(after)?;
                    let reach = self.kernel.checked_sub(1)?.checked_mul(self.dilation)?.checked_add(1)?;
                    room.checked_sub(reach)?.checked_div(self.stride).map(|last| last + 1)
                };
                match (out(input.h, top, bottom), out(input.w, left, right)) {
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
    fn check(&self, input: Extent, lanes: &[Option<u32>]) {
        let Self { kind, in_channels, out_channels, kernel, stride, dilation, padding } = *self;
        if kind == ConvKind::Transposed {
            assert_eq!(
                (kernel, stride, dilation, padding),
                (4, 2, 1, [1; 4]),
                "a transposed convolution is 4x4, stride 2"
            );
        }
        // Counts of lanes, with the last block filled up, and lane numbers of 32 bits.
        assert!([in_channels, out_channels].iter().all(|&c| c <= u32::MAX as usize - LANES), "channels");
        let weights = [out_channels, kernel, kernel, 4].into_iter().try_fold(in_channels, usize::checked_mul);
        assert!(weights.is_some_and(|bytes| bytes <= isize::MAX as usize), "{self:?} has more weights than any memory");
        assert!(padding.iter().all(|&p| p <= i32::MAX as usize) && dilation <= i32::MAX as usize, "{self:?}");
        input.len();
        self.output(input).len();
        check_lanes(lanes, in_channels);
    }

    /// Multiply-adds times two, counted as direct convolution.
    pub fn flop(&self, input: Extent) -> f64 {
        let pixels = match self.kind {
            ConvKind::Forward => self.output(input),
            ConvKind::Transposed => input,
        };
        2.0 * (pixels.n * pixels.h * pixels.w) as f64
            * (self.in_channels * self.out_channels * self.kernel * self.kernel) as f64
    }
}

/// What is applied to each sum, after the bias and the residual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    Linear,
    /// `max(x, slope * x)`, `0 <= slope <= 1`.
    LeakyRelu(f32),
}

impl Activation {
    /// The slope on the negative side (1 for linear).
    pub fn slope(self) -> f32 {
        match self {
            Activation::Linear => 1.0,
            Activation::LeakyRelu(slope) => slope,
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
    /// An algorithm by name (as [`ConvPlan::algorithm`] prints it), for tests and benchmarks; `None` chooses.
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

/// What is added to a sum before its activation, beside the bias.
#[derive(Clone, Copy)]
enum Addend<'a> {
    Nothing,
    Value(Blocks<'a>),
    /// What the output holds.
    Output,
}

/// How sums become outputs.
#[derive(Clone, Copy)]
struct Epilogue<'a> {
    addend: Addend<'a>,
    activation: Activation,
}

impl Epilogue<'_> {
    /// Whether there is an addend.
    #[inline(always)]
    fn adds(&self) -> bool {
        !matches!(self.addend, Addend::Nothing)
    }

    /// Where the addend of the output that lies at `output`, `at` floats into its block, is; null if there is none.
    #[inline(always)]
    fn addend(&self, block: usize, at: usize, output: *const f32) -> *const f32 {
        match self.addend {
            Addend::Nothing => std::ptr::null(),
            Addend::Value(value) => value.planes[block].as_ptr().wrapping_add(at),
            Addend::Output => output,
        }
    }
}

/// One algorithm with its prepared weights.
trait Engine: Send + Sync {
    /// Takes weights, and prepares them in place. In parallel.
    fn set_weights(&mut self, filter: &Filter<'_>, bias: Option<&[f32]>);
    fn run(&self, input: Blocks<'_>, epilogue: Epilogue<'_>, output: &mut BlocksMut<'_, '_>, scratch: &Scratch);
    /// Its name, e.g. `winograd F(6x6)`.
    fn name(&self) -> String;
    /// Floats of working memory per thread.
    fn scratch_len(&self) -> usize;
    /// Bytes of prepared weights.
    fn weight_bytes(&self) -> usize;
}

/// Takes a bias, or none.
fn set_bias(to: &mut [f32], bias: Option<&[f32]>) {
    to.fill(0.0);
    if let Some(values) = bias {
        to[..values.len()].copy_from_slice(values);
    }
}

/// A layer ready to run.
pub struct ConvPlan {
    shape: ConvShape,
    input: Extent,
    /// Blocks of the input, and floats of each.
    input_blocks: (usize, usize),
    activation: Activation,
    engine: Box<dyn Engine>,
}

impl ConvPlan {
    /// Prepares a layer: chooses the algorithm, packs the weights.
    ///
    /// # Panics
    /// If `options` names an algorithm that cannot compute the layer, or it is none: sizes that wrap, a lane that names no
    /// channel, weights that are missing.
    pub fn new(layer: &Layer<'_>, options: Options) -> Self {
        layer.shape.check(layer.input, layer.lanes);
        let input_blocks =
            (layer.lanes.len().div_ceil(LANES), layer.input.len() / LANES * layer.lanes.len().min(LANES));
        let mut engine = select::engine(&Problem::new(layer), options);
        let outputs = lane_map(&[layer.shape.out_channels]);
        engine.set_weights(&Filter::new(&layer.shape, layer.weight, &outputs), layer.bias);
        Self { shape: layer.shape, input: layer.input, input_blocks, activation: layer.activation, engine }
    }

    /// The names of all algorithms that can compute a layer, the one [`ConvPlan::new`] would choose first.
    pub fn algorithms(layer: &Layer<'_>, options: Options) -> Vec<String> {
        select::candidates(&Problem::new(layer), options).into_iter().map(|c| c.name).collect()
    }

    /// Extent of the output.
    pub fn output(&self) -> Extent {
        self.shape.output(self.input)
    }

    /// Blocks of the output.
    pub fn output_blocks(&self) -> usize {
        self.shape.out_channels.div_ceil(LANES)
    }

    /// The algorithm chosen.
    pub fn algorithm(&self) -> String {
        self.engine.name()
    }

    /// Floats of working memory per thread.
    pub fn scratch_len(&self) -> usize {
        self.engine.scratch_len()
    }

    /// Bytes of prepared weights.
    pub fn weight_bytes(&self) -> usize {
        self.engine.weight_bytes()
    }

    /// Computes the layer: `activation(conv(input) + bias + residual)`.
    ///
    /// # Panics
    /// If a value does not have the extent and the number of blocks that the layer was prepared for.
    pub fn run(
        &self,
        input: Blocks<'_>,
        residual: Option<Blocks<'_>>,
        output: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        assert_eq!(input.extent, self.input, "input extent");
        assert_eq!(output.extent, self.output(), "output extent");
        assert_eq!(output.planes.len(), self.output_blocks(), "output blocks");
        assert_eq!(input.planes.len(), self.input_blocks.0, "input blocks");
        assert!(input.planes.iter().all(|p| p.len() >= self.input_blocks.1), "input blocks");
        assert!(output.planes.iter().all(|p| p.len() >= output.extent.len()), "output blocks");
        if let Some(residual) = residual {
            assert_eq!(residual.extent, self.output(), "residual extent");
            assert_eq!(residual.planes.len(), self.output_blocks(), "residual blocks");
            assert!(residual.planes.iter().all(|p| p.len() >= output.extent.len()), "residual blocks");
        }
        let epilogue =
            Epilogue { addend: residual.map_or(Addend::Nothing, Addend::Value), activation: self.activation };
        self.engine.run(input, epilogue, output, scratch);
    }
}
