//! The gradient of each step.

use ferroflow_kernels::{
    Blocks, BlocksMut, Buffer, Isa, Scratch, Update,
    activation::{self, Smooth},
    conv::Activation,
    convex_upsample::ConvexUpsampleGradient,
    correlation::CorrelationGradient,
    elementwise,
    lookup::LookupGradient,
    norm, pool,
    warp::WarpGradient,
};
use ferroflow_net::training::Gradients;

use super::gradients::{Target, ValueGradients};
use super::layer::{At, Layer};
use crate::plan::step::{Kernel, Step, attention, slices};
use crate::plan::value::Value;

/// What all steps of a backward pass share.
pub(super) struct Pass<'a> {
    pub isa: Isa,
    pub pool: &'a mut [Buffer],
    pub layers: &'a mut [Layer],
    pub gradients: &'a mut ValueGradients,
    pub sum: &'a mut Gradients,
    pub scratch: &'a Scratch,
}

/// Carries the gradient of a step's output, if it has one, to its inputs and parameters.
pub(super) fn step(step: &Step, pass: &mut Pass<'_>) {
    let Some(output) = &step.output else { return };
    let Some(mut buffers) = pass.gradients.collect(output) else { return };
    {
        let planes = buffers.iter_mut().zip(&output.planes);
        let mut planes: Vec<&mut [f32]> = planes.map(|(b, p)| &mut b[p.start..][..p.len]).collect();
        let mut d = BlocksMut { extent: output.extent, planes: &mut planes };
        differentiate(step, output, &mut d, pass);
    }
    pass.gradients.release(output, buffers);
}

fn differentiate(step: &Step, output: &Value, d: &mut BlocksMut<'_, '_>, pass: &mut Pass<'_>) {
    let Pass { isa, pool, layers, gradients, sum, scratch } = pass;
    let (isa, scratch): (Isa, &Scratch) = (*isa, scratch);
    let mut work = step.work.map(|(plane, _)| std::mem::take(&mut pool[plane.buffer]));
    let inputs: Vec<Vec<&[f32]>> = step.inputs.iter().map(|v| slices(v, pool)).collect();
    let inputs: Vec<Blocks<'_>> =
        step.inputs.iter().zip(&inputs).map(|(v, planes)| Blocks { extent: v.extent, planes }).collect();
    let output_planes = slices(output, pool);
    let y = Blocks { extent: output.extent, planes: &output_planes };

    if let Kernel::Layer(i) = step.kernel {
        let at = At { isa, input: inputs[0], output: y, scratch };
        if gradients.wants(&step.inputs[0]) {
            gradients.with(&step.inputs[0], |update, d_input| {
                layers[i].backward(&at, d, sum, Some((update, d_input)));
            });
        } else {
            layers[i].backward(&at, d, sum, None);
        }
        return;
    }
    let activation = match &step.kernel {
        Kernel::Affine { activation, .. }
        | Kernel::Combine { activation, .. }
        | Kernel::InstanceNorm { activation, .. } => *activation,
        Kernel::Correlation(plan) => plan.activation(),
        Kernel::Conv(_)
        | Kernel::Depthwise(_)
        | Kernel::LargeDepthwise(_)
        | Kernel::Separable(_)
        | Kernel::SeparableFrames(..)
        | Kernel::Pack(_)
        | Kernel::Pixelwise { .. }
        | Kernel::PackNarrow(_)
        | Kernel::PixelMean(_)
        | Kernel::Activate { .. }
        | Kernel::Product
        | Kernel::Lerp
        | Kernel::LayerNorm { .. }
        | Kernel::AveragePool { .. }
        | Kernel::Attention { .. }
        | Kernel::Coordinates { .. }
        | Kernel::Channels(_)
        | Kernel::Stack
        | Kernel::ChannelMean
        | Kernel::ChannelNorm { .. }
        | Kernel::Moments { .. }
        | Kernel::Standardise { .. }
        | Kernel::Lookup { .. }
        | Kernel::Warp { .. }
        | Kernel::Resize { .. }
        | Kernel::ConvexUpsample(_)
        | Kernel::Output { .. }
        | Kernel::ConvexOutput(_)
        | Kernel::Zeros
        | Kernel::Initial
        | Kernel::Iteration
        | Kernel::Layer(_) => Activation::Linear,
    };
    elementwise::activation_gradient(isa, y, activation, d);
    let planes: Vec<&[f32]> = d.planes.iter().map(|p| &**p).collect();
    let d = Blocks { extent: d.extent, planes: &planes };
    // What computes something for both of its inputs does that once, unless they lie in the same buffers.
    let pair = Pair { kernel: &step.kernel, inputs: &inputs, d };
    let both = match &step.kernel {
        Kernel::Correlation(_) | Kernel::Warp { .. } | Kernel::ConvexUpsample(_) => {
            gradients.with_both([&step.inputs[0], &step.inputs[1]], |first, second| {
                pair.run(isa, first, second, &mut work, scratch);
            })
        }
        _ => false,
    };
    for (i, input) in step.inputs.iter().enumerate() {
        if both || !gradients.wants(input) {
            continue;
        }
        gradients.with(input, |update, to| match &step.kernel {
            Kernel::Affine { scale, .. } => elementwise::affine_gradient(isa, d, scale, update, to),
            Kernel::Combine { factor, .. } => {
                elementwise::accumulate(isa, d, if i == 0 { 1.0 } else { *factor }, update, to);
            }
            Kernel::Activate { curve, .. } => {
                let of = if *curve == Smooth::Gelu { inputs[0] } else { y };
                activation::gradient(isa, *curve, of, d, update, to);
            }
            Kernel::Product => elementwise::product_gradient(isa, d, inputs[1 - i], update, to),
            Kernel::Lerp => {
                elementwise::lerp_gradient(isa, [inputs[0], inputs[1], inputs[2]], d, i, update, to);
            }
            Kernel::InstanceNorm { epsilon, .. } => {
                norm::instance_norm_gradient(isa, inputs[0], *epsilon, d, update, to);
            }
            Kernel::Attention { channels } => {
                attention(&inputs, *channels).gradient(isa, d, i, update, to, scratch);
            }
            Kernel::AveragePool { size } => pool::average_pool_gradient(isa, d, *size, update, to),
            Kernel::Channels(lanes) => elementwise::channels_gradient(d, lanes, update, to),
            Kernel::Stack => {
                let images = to.extent.n;
                elementwise::accumulate_images(isa, d, i * images, images, 0, update, to);
            }
            Kernel::ChannelNorm { floor } => norm::channel_norm_gradient(isa, inputs[0], y, d, *floor, update, to),
            Kernel::Moments { channels, batch } => {
                norm::moments_gradient(isa, inputs[i], *channels, *batch, d, update, to);
            }
            Kernel::Standardise { epsilon, .. } => {
                let (first, second) = only(i, update, to);
                norm::standardise_gradient(isa, inputs[0], inputs[1], *epsilon, d, first, second);
            }
            Kernel::Correlation(_) | Kernel::Warp { .. } | Kernel::ConvexUpsample(_) => {
                let (first, second) = only(i, update, to);
                pair.run(isa, first, second, &mut work, scratch);
            }
            Kernel::Lookup { lookup, .. } => {
                let (features, flow) = ([inputs[0], inputs[1]], inputs[2]);
                let gradient = LookupGradient { lookup, features, flow, g: d };
                match i {
                    0 => gradient.first(isa, update, to, scratch),
                    1 => gradient.second(isa, update, to, scratch),
                    _ => gradient.flow(isa, update, to, scratch),
                }
            }
            Kernel::Resize { resize, scale } => resize.gradient().run(isa, d, scale, update, to, scratch),
            // They read frames, or nothing.
            Kernel::Pack(_)
            | Kernel::PackNarrow(_)
            | Kernel::Pixelwise { .. }
            | Kernel::PixelMean(_)
            | Kernel::Zeros
            | Kernel::Coordinates { .. }
            // Only plans for inference have them.
            | Kernel::Initial
        | Kernel::Iteration
            | Kernel::Conv(_)
            | Kernel::Depthwise(_)
            | Kernel::LargeDepthwise(_)
            | Kernel::Separable(_)
            | Kernel::SeparableFrames(..)
            | Kernel::LayerNorm { .. }
            | Kernel::ChannelMean
            | Kernel::ConvexOutput(_)
            // Differentiated by `flow`, and above.
            | Kernel::Output { .. }
            | Kernel::Layer(_) => unreachable!("`{}` reads no value that is trained", step.name),
        });
    }
    if let (Some(work), Some((plane, _))) = (work, step.work) {
        pool[plane.buffer] = work;
    }
}

/// A step whose gradients to its two inputs have something in common.
struct Pair<'a> {
    kernel: &'a Kernel,
    inputs: &'a [Blocks<'a>],
    d: Blocks<'a>,
}

impl Pair<'_> {
    fn run(
        &self,
        isa: Isa,
        first: Target<'_, '_, '_>,
        second: Target<'_, '_, '_>,
        work: &mut Option<Buffer>,
        scratch: &Scratch,
    ) {
        let (inputs, g) = (self.inputs, self.d);
        match self.kernel {
            Kernel::Correlation(plan) => {
                let work = work.get_or_insert_default();
                work.grow(plan.gradient_work_len());
                let features = [inputs[0], inputs[1]];
                CorrelationGradient { plan, features, g }.run(isa, first, second, work, scratch);
            }
            Kernel::Warp { axes, border, at_integer } => {
                let (image, flow, axes, border, at_integer) = (inputs[0], inputs[1], *axes, *border, *at_integer);
                WarpGradient { image, flow, axes, border, at_integer, g }.run(isa, first, second, scratch);
            }
            Kernel::ConvexUpsample(upsample) => {
                let (flow, logits) = (inputs[0], inputs[1]);
                ConvexUpsampleGradient { upsample, flow, logits, g }.run(isa, first, second, scratch);
            }
            _ => unreachable!("not a pair"),
        }
    }
}

/// One of two inputs to be given its gradient. One at a time, for both may lie in the same buffers.
fn only<'a, 'b, 'c>(
    i: usize,
    update: Update,
    to: &'a mut BlocksMut<'b, 'c>,
) -> (Target<'a, 'b, 'c>, Target<'a, 'b, 'c>) {
    if i == 0 { (Some((update, to)), None) } else { (None, Some((update, to))) }
}

/// The gradient of the step that writes the flow.
pub(super) fn flow(step: &Step, d: &[f32], gradients: &mut ValueGradients, scratch: &Scratch) {
    let Kernel::Output { resize, scale } = &step.kernel else { return };
    if gradients.wants(&step.inputs[0]) {
        gradients.with(&step.inputs[0], |update: Update, to| {
            resize.gradient().run_flow(d, *scale, update, to, scratch);
        });
    }
}
