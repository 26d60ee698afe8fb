//! Layers with trained parameters.

use ferroflow_kernels::batch_norm::{self, BatchNormGradient, Statistics};
use ferroflow_kernels::conv::{
    Activation,
    training::{ConvTraining, bias_gradient},
};
use ferroflow_kernels::depthwise::training::{SeparableGradients, SeparableTraining, SeparableWeights};
use ferroflow_kernels::depthwise::{Depthwise, DepthwisePlan, LargeDepthwise, LargeDepthwisePlan};
use ferroflow_kernels::norm::{LayerNorm, LayerNormGradient, product_sums};
use ferroflow_kernels::{Blocks, BlocksMut, Extent, Isa, LANES, Scratch, Update, elementwise, lane_map};
use ferroflow_net::graph::{self, BatchNorm, Conv};
use ferroflow_net::training::Gradients;
use ferroflow_net::{ParamId, Weights};

use crate::plan::shapes::{conv_shape, is_large_depthwise};
use crate::plan::value::per_lane;

/// A layer and the parameters it reads.
pub enum Layer {
    Conv(Box<Convolution>),
    /// A depthwise convolution on its own.
    Depthwise(Box<DepthwiseConvolution>),
    /// Batch norm by the statistics of the batch, and the activation after it.
    Norm(Box<Norm>),
    /// Batch norm by its running statistics: an affine map, with a factor and a summand for each lane.
    FrozenNorm {
        norm: BatchNorm,
        activation: Activation,
        scale: Vec<f32>,
        offset: Vec<f32>,
    },
    /// Layer norm.
    PixelNorm(Box<TrainedLayerNorm>),
    /// A factor for each channel.
    Scale {
        factor: ParamId,
        activation: Activation,
        /// Per lane.
        scale: Vec<f32>,
    },
    Separable(Box<Separable>),
}

/// Layer norm, with a factor and a summand for each lane.
pub struct TrainedLayerNorm {
    pub norm: graph::LayerNorm,
    pub channels: usize,
    pub weights: [Vec<f32>; 2],
}

impl TrainedLayerNorm {
    fn kernel(&self) -> LayerNorm<'_> {
        let [scale, shift] = &self.weights;
        LayerNorm { channels: self.channels, scale, shift, epsilon: self.norm.epsilon }
    }
}

/// A convolution, and the parameters and the activation that all steps which run it share.
pub struct Convolution {
    pub kernel: ConvTraining,
    pub activation: Activation,
    pub weight: ParamId,
    pub bias: Option<ParamId>,
    /// Steps of the plan that run it: iterations of a recurrent network.
    pub readers: usize,
}

/// A depthwise convolution, prepared whenever there are weights.
pub struct DepthwiseConvolution {
    pub conv: Conv,
    pub activation: Activation,
    pub input: Extent,
    pub isa: Isa,
    pub kernel: DepthwiseKernel,
}

/// What computes a depthwise convolution.
pub enum DepthwiseKernel {
    Unprepared,
    Small(DepthwisePlan),
    Large(LargeDepthwisePlan),
}

impl DepthwiseConvolution {
    fn prepared(&self, weights: &Weights) -> DepthwiseKernel {
        let Self { conv, activation, input, isa, .. } = self;
        let (activation, input, isa) = (*activation, *input, *isa);
        let lanes = lane_map(&[conv.in_channels]);
        let padding = conv_shape(conv).padding;
        let (weight, bias) = (weights.get(conv.weight), conv.bias.map(|b| weights.get(b)));
        if is_large_depthwise(conv) {
            let (kernel, lanes) = (conv.kernel, &lanes[..]);
            let layer = LargeDepthwise { input, lanes, kernel, padding, weight, bias, activation };
            return DepthwiseKernel::Large(LargeDepthwisePlan::new(&layer, isa));
        }
        let layer = Depthwise {
            input,
            lanes: &lanes,
            stride: conv.stride,
            padding,
            weight,
            bias,
            activation,
            doubled: &[],
            pixel: LANES,
        };
        DepthwiseKernel::Small(DepthwisePlan::new(&layer, isa))
    }
}

/// Batch norm with what its last forward pass has left.
pub struct Norm {
    pub norm: BatchNorm,
    pub activation: Activation,
    pub statistics: Option<Statistics>,
    /// Factor and summand of each lane.
    pub weights: [Vec<f32>; 2],
}

/// Depthwise and pointwise convolution, each with batch norm and activation.
pub struct Separable {
    pub kernel: SeparableTraining,
    pub depthwise: ParamId,
    pub pointwise: ParamId,
    pub norms: [BatchNorm; 2],
    /// Whether each norm normalises by its running statistics.
    pub frozen: [bool; 2],
    /// What [`Self::reads`] names.
    pub weights: [Vec<f32>; 10],
}

impl Separable {
    pub fn params(&self) -> [ParamId; 6] {
        let [a, b] = &self.norms;
        [self.depthwise, a.scale, a.shift, self.pointwise, b.scale, b.shift]
    }

    /// The parameters, then the running statistics.
    fn reads(&self) -> [ParamId; 10] {
        let ([a, b], [depthwise, scale1, shift1, pointwise, scale2, shift2]) = (&self.norms, self.params());
        [depthwise, scale1, shift1, pointwise, scale2, shift2, a.mean, a.variance, b.mean, b.variance]
    }

    fn weights_of(frozen: [bool; 2], weights: &[Vec<f32>; 10]) -> SeparableWeights<'_> {
        let [depthwise, scale1, shift1, pointwise, scale2, shift2, mean1, variance1, mean2, variance2] = weights;
        let given = [[mean1, variance1], [mean2, variance2]].map(|given| given.map(Vec::as_slice));
        let statistics = [0, 1].map(|i| frozen[i].then_some(given[i]));
        SeparableWeights { depthwise, scale1, shift1, pointwise, scale2, shift2, statistics }
    }
}

/// What a layer's gradient is taken at.
pub struct At<'a> {
    pub isa: Isa,
    pub input: Blocks<'a>,
    pub output: Blocks<'a>,
    pub scratch: &'a Scratch,
}

impl Layer {
    /// Takes the weights of the next passes, in the form that its kernels read.
    pub fn load(&mut self, weights: &Weights) {
        match self {
            Self::Conv(conv) => {
                conv.kernel.set_weights(weights.get(conv.weight), conv.bias.map(|b| weights.get(b)));
            }
            Self::Depthwise(layer) => layer.kernel = layer.prepared(weights),
            Self::Norm(layer) => {
                layer.weights =
                    [layer.norm.scale, layer.norm.shift].map(|id| per_lane(weights.get(id).iter().copied()));
            }
            Self::FrozenNorm { norm, scale, offset, .. } => {
                let [gamma, beta, mean, variance] =
                    [norm.scale, norm.shift, norm.mean, norm.variance].map(|id| weights.get(id));
                let factor = |c: usize| gamma[c] / (variance[c] + norm.epsilon).sqrt();
                *scale = per_lane((0..gamma.len()).map(factor));
                *offset = per_lane((0..gamma.len()).map(|c| beta[c] - mean[c] * factor(c)));
            }
            Self::PixelNorm(layer) => {
                layer.weights =
                    [layer.norm.scale, layer.norm.shift].map(|id| per_lane(weights.get(id).iter().copied()));
            }
            Self::Scale { factor, scale, .. } => *scale = per_lane(weights.get(*factor).iter().copied()),
            Self::Separable(block) => {
                let reads = block.reads();
                for (kept, id) in block.weights.iter_mut().zip(reads) {
                    kept.clear();
                    kept.extend_from_slice(weights.get(id));
                }
            }
        }
    }

    pub fn forward(&mut self, isa: Isa, input: Blocks<'_>, out: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        match self {
            Self::Conv(conv) => conv.kernel.forward(input, conv.activation, out, scratch),
            Self::Depthwise(layer) => match &layer.kernel {
                DepthwiseKernel::Unprepared => {}
                DepthwiseKernel::Small(kernel) => kernel.run(input, out),
                DepthwiseKernel::Large(kernel) => kernel.run(input, out),
            },
            Self::Norm(layer) => {
                let ([scale, shift], epsilon) = (&layer.weights, layer.norm.epsilon);
                let statistics = batch_norm::batch_norm(isa, input, scale, shift, epsilon, layer.activation, out);
                layer.statistics = Some(statistics);
            }
            Self::FrozenNorm { activation, scale, offset, .. } => {
                elementwise::affine(isa, input, scale, offset, *activation, out);
            }
            Self::PixelNorm(layer) => layer.kernel().run(isa, input, out),
            Self::Scale { activation, scale, .. } => {
                elementwise::affine(isa, input, scale, &vec![0.0; scale.len()], *activation, out);
            }
            Self::Separable(block) => {
                block.kernel.forward(&Separable::weights_of(block.frozen, &block.weights), input, out, scratch);
            }
        }
    }

    /// Adds the gradients of the parameters to `sum`, and gives that of the input where it is wanted. `d` is the gradient
    /// of the output, which becomes working memory.
    pub fn backward(
        &mut self,
        at: &At<'_>,
        d: &mut BlocksMut<'_, '_>,
        sum: &mut Gradients,
        d_input: Option<(Update, &mut BlocksMut<'_, '_>)>,
    ) {
        let At { isa, input, output, scratch } = *at;
        // Back through the activation, and through batch norm, in place.
        match self {
            Self::Conv(conv) => elementwise::activation_gradient(isa, output, conv.activation, d),
            Self::Depthwise(layer) => elementwise::activation_gradient(isa, output, layer.activation, d),
            Self::FrozenNorm { activation, .. } | Self::Scale { activation, .. } => {
                elementwise::activation_gradient(isa, output, *activation, d);
            }
            Self::Norm(layer) => {
                let Some(statistics) = &layer.statistics else { return };
                let ([scale, shift], activation) = (&layer.weights, layer.activation);
                // One entry for each lane, of this step alone.
                let [mut d_scale, mut d_shift] = [(); 2].map(|()| vec![0.0; d.planes.len() * LANES]);
                let gradient = BatchNormGradient { x: input, statistics, scale, shift, activation };
                gradient.run(isa, d, &mut d_scale, &mut d_shift);
                for (id, new) in [(layer.norm.scale, d_scale), (layer.norm.shift, d_shift)] {
                    sum.get_mut(id).iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
                }
            }
            Self::PixelNorm(_) | Self::Separable(_) => {}
        }
        let planes: Vec<&[f32]> = d.planes.iter().map(|p| &**p).collect();
        let d = Blocks { extent: d.extent, planes: &planes };
        match self {
            Self::Conv(conv) => {
                let Convolution { kernel, weight, bias, readers, .. } = &mut **conv;
                let d_weight = sum.get_mut(*weight);
                match (d_weight.is_empty(), *readers) {
                    (true, _) => {}
                    (false, 1) => kernel.weight_gradient(input, d, d_weight, scratch),
                    (false, _) => kernel.sum_weight_gradient(input, d, d_weight, scratch),
                }
                if let Some(bias) = bias.filter(|b| !sum.get(*b).is_empty()) {
                    bias_gradient(isa, d, sum.get_mut(bias), scratch);
                }
                if let Some((update, d_input)) = d_input {
                    kernel.input_gradient(d, update, d_input, scratch);
                }
            }
            Self::Depthwise(layer) => {
                let conv = &layer.conv;
                if !sum.get(conv.weight).is_empty() {
                    match &layer.kernel {
                        DepthwiseKernel::Unprepared => {}
                        DepthwiseKernel::Small(kernel) => kernel.weight_gradient(input, d, sum.get_mut(conv.weight)),
                        DepthwiseKernel::Large(kernel) => kernel.weight_gradient(input, d, sum.get_mut(conv.weight)),
                    }
                }
                if let Some(bias) = conv.bias.filter(|b| !sum.get(*b).is_empty()) {
                    bias_gradient(isa, d, sum.get_mut(bias), scratch);
                }
                if let Some((update, d_input)) = d_input {
                    match &layer.kernel {
                        DepthwiseKernel::Unprepared => {}
                        DepthwiseKernel::Small(kernel) => kernel.input_gradient(d, update, d_input),
                        DepthwiseKernel::Large(kernel) => kernel.input_gradient(d, update, d_input),
                    }
                }
            }
            Self::Norm(_) => {
                if let Some((update, d_input)) = d_input {
                    elementwise::accumulate(isa, d, 1.0, update, d_input);
                }
            }
            Self::FrozenNorm { norm, scale, .. } => {
                if !sum.get(norm.shift).is_empty() {
                    bias_gradient(isa, d, sum.get_mut(norm.shift), scratch);
                }
                if let Some((update, d_input)) = d_input {
                    elementwise::affine_gradient(isa, d, scale, update, d_input);
                }
            }
            Self::PixelNorm(layer) => {
                let gradient = LayerNormGradient { norm: layer.kernel(), x: input, g: d };
                let norm = &layer.norm;
                if !(sum.get(norm.scale).is_empty() && sum.get(norm.shift).is_empty()) {
                    let [d_scale, d_shift] = sum.get_many_mut([norm.scale, norm.shift]);
                    gradient.parameters(isa, d_scale, d_shift);
                }
                if let Some((update, d_input)) = d_input {
                    gradient.input(isa, update, d_input);
                }
            }
            Self::Scale { factor, scale, .. } => {
                if !sum.get(*factor).is_empty() {
                    let products = product_sums(isa, d, input);
                    sum.get_mut(*factor).iter_mut().zip(products).for_each(|(sum, new)| *sum += new as f32);
                }
                if let Some((update, d_input)) = d_input {
                    elementwise::affine_gradient(isa, d, scale, update, d_input);
                }
            }
            Self::Separable(block) => {
                let [depthwise, scale1, shift1, pointwise, scale2, shift2] = sum.get_many_mut(block.params());
                let gradients = SeparableGradients { depthwise, scale1, shift1, pointwise, scale2, shift2 };
                let weights = Separable::weights_of(block.frozen, &block.weights);
                block.kernel.backward(&weights, input, d, d_input, gradients, scratch);
            }
        }
    }

    /// After the backward passes of all its steps: adds to `sum` what was kept back to be taken to the weights at once.
    pub fn finish(&mut self, sum: &mut Gradients) {
        if let Self::Conv(conv) = self {
            let d_weight = sum.get_mut(conv.weight);
            if !d_weight.is_empty() {
                conv.kernel.finish_weight_gradient(d_weight);
            }
        }
    }

    pub fn update_statistics(&self, momentum: f32, weights: &mut Weights) {
        match self {
            Self::Norm(layer) => {
                if let Some(Statistics { mean, unbiased_variance, .. }) = &layer.statistics {
                    weights.move_statistics(&layer.norm, [mean, unbiased_variance], momentum);
                }
            }
            Self::Separable(block) => {
                for (statistics, norm) in block.kernel.statistics().into_iter().zip(&block.norms) {
                    if let Some(statistics) = statistics {
                        weights.move_statistics(norm, statistics, momentum);
                    }
                }
            }
            Self::Conv(_) | Self::Depthwise(_) | Self::FrozenNorm { .. } | Self::PixelNorm(_) | Self::Scale { .. } => {}
        }
    }

    /// What computes it in the forward pass (0) or its gradients (1).
    pub fn algorithm(&self, pass: usize) -> String {
        match self {
            Self::Conv(conv) => {
                let [forward, input, weight] = conv.kernel.algorithms();
                if pass == 0 { forward } else { format!("{input}; {weight}") }
            }
            Self::Depthwise(_) => "depthwise".into(),
            Self::Norm(_) | Self::FrozenNorm { .. } => "batch norm".into(),
            Self::PixelNorm(_) => "layer norm".into(),
            Self::Scale { .. } => "affine".into(),
            Self::Separable(_) => "separable block".into(),
        }
    }

    pub fn weight_bytes(&self) -> usize {
        match self {
            Self::Conv(conv) => conv.kernel.weight_bytes(),
            Self::Separable(block) => block.weights.iter().map(|w| 4 * w.len()).sum(),
            // As many as the parameters, nine to a channel.
            Self::Depthwise(_) | Self::Norm(_) | Self::FrozenNorm { .. } | Self::PixelNorm(_) | Self::Scale { .. } => 0,
        }
    }

    /// Bytes kept from the forward to the backward pass beside the values.
    pub fn saved_bytes(&self) -> usize {
        match self {
            Self::Separable(block) => block.kernel.saved_bytes(),
            Self::Conv(_)
            | Self::Depthwise(_)
            | Self::Norm(_)
            | Self::FrozenNorm { .. }
            | Self::PixelNorm(_)
            | Self::Scale { .. } => 0,
        }
    }
}
