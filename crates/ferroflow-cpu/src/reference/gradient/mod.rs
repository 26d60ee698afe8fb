//! The gradient of every operation, from its definition: the gradient of the sum `<d_output, output>` with respect to each input.

mod conv;
mod convex_upsample;
mod correlation;
mod lookup;
mod pointwise;
mod resize;
mod smooth;
mod statistics;
mod warp;

use ferroflow_net::graph::{Op, Sizes};
use ferroflow_net::training::Gradients;
use ferroflow_net::weights::Weights;

use super::{Real, Tensor};

pub(super) use statistics::{BatchStatistics, batch_norm};

/// Everything the gradient of one operation is computed from.
pub(super) struct Context<'a, T> {
    pub op: &'a Op,
    pub inputs: &'a [&'a Tensor<T>],
    pub weights: &'a Weights,
    pub sizes: &'a Sizes,
    /// Per input: whether its gradient is wanted.
    pub wanted: &'a [bool],
    /// The statistics of a batch norm that normalises by those of the batch.
    pub statistics: Option<&'a BatchStatistics>,
}

/// The gradients of the inputs that want one (in order, `None` for the others); those of parameters are added to `sum`
/// where it has room for them.
pub(super) fn backward<T: Real>(
    context: &Context<'_, T>,
    d_output: &Tensor<T>,
    sum: &mut Gradients,
) -> Vec<Option<Tensor<T>>> {
    let Context { op, inputs, weights, sizes, wanted, statistics } = *context;
    let d = d_output;
    // For operations of one input, or whose inputs are treated alike.
    let one = |f: &dyn Fn() -> Tensor<T>| vec![wanted[0].then(f)];
    match op {
        Op::Frame(_) => Vec::new(),
        Op::Zeros { .. } => one(&|| Tensor::zeros(inputs[0].shape)),
        Op::Conv(c) => {
            conv::bias(d, c.bias, sum);
            conv::weight(inputs[0], d, c, sum.get_mut(c.weight));
            one(&|| conv::input(inputs[0].shape, d, weights.get(c.weight), c))
        }
        Op::Deconv(c) => {
            conv::bias(d, c.bias, sum);
            conv::transposed_weight(inputs[0], d, c, sum.get_mut(c.weight));
            one(&|| conv::transposed_input(inputs[0].shape, d, weights.get(c.weight), c))
        }
        Op::BatchNorm(b) => match statistics {
            Some(s) => {
                let [scale, shift] = statistics::batch_norm_parameters(inputs[0], d, s);
                add(sum.get_mut(b.scale), &scale);
                add(sum.get_mut(b.shift), &shift);
                one(&|| statistics::batch_norm_gradient(inputs[0], d, weights.get(b.scale), s))
            }
            // With running statistics it is a factor per channel, and the shift is a bias.
            None => {
                conv::bias(d, Some(b.shift), sum);
                let factor = |(scale, variance): (&f32, &f32)| scale / (variance + b.epsilon).sqrt();
                let factors: Vec<f32> = weights.get(b.scale).iter().zip(weights.get(b.variance)).map(factor).collect();
                one(&|| super::pointwise::affine(d, &factors, &[0.0]))
            }
        },
        Op::LeakyRelu { slope } => one(&|| pointwise::leaky(inputs[0], d, *slope)),
        Op::Smooth(curve) => one(&|| smooth::gradient(inputs[0], d, *curve)),
        Op::Concat => pointwise::concat(inputs, d, wanted),
        Op::Stack => pointwise::stack(inputs, d, wanted),
        Op::Part { index, .. } => one(&|| pointwise::part(inputs[0].shape, d, *index)),
        Op::Channels(picked) => one(&|| pointwise::channels(inputs[0].shape, d, picked)),
        Op::Affine { scale, .. } => one(&|| super::pointwise::affine(d, scale, &[0.0])),
        Op::Add => wanted.iter().map(|w| w.then(|| d.clone())).collect(),
        Op::Sub => vec![wanted[0].then(|| d.clone()), wanted[1].then(|| pointwise::subtrahend(inputs[1].shape, d))],
        Op::Product => {
            let by = |other: usize| super::pointwise::multiply(d, inputs[other]);
            vec![wanted[0].then(|| by(1)), wanted[1].then(|| by(0))]
        }
        Op::Lerp => {
            let (by_t, change) =
                (super::pointwise::multiply(d, inputs[2]), || super::pointwise::subtract(inputs[1], inputs[0]));
            vec![
                wanted[0].then(|| super::pointwise::subtract(d, &by_t)),
                wanted[1].then(|| by_t.clone()),
                wanted[2].then(|| super::pointwise::multiply(d, &change())),
            ]
        }
        Op::InstanceNorm { epsilon } => one(&|| statistics::instance_norm(inputs[0], d, *epsilon)),
        Op::LayerNorm(norm) => {
            let unit = super::statistics::normalise_pixels(inputs[0], norm.epsilon);
            conv::bias(&super::pointwise::multiply(d, &unit), Some(norm.scale), sum);
            conv::bias(d, Some(norm.shift), sum);
            one(&|| {
                let scaled = super::pointwise::affine(d, weights.get(norm.scale), &[0.0]);
                statistics::normalise_pixels(inputs[0], &scaled, norm.epsilon)
            })
        }
        Op::ChannelScale { factor } => {
            conv::bias(&super::pointwise::multiply(d, inputs[0]), Some(*factor), sum);
            one(&|| super::pointwise::affine(d, weights.get(*factor), &[0.0]))
        }
        Op::AveragePool { size } => one(&|| super::pool::gradient(inputs[0].shape, d, *size)),
        Op::Attention => {
            let gradients = super::attention::gradients([inputs[0], inputs[1], inputs[2]], d);
            gradients.into_iter().zip(wanted).map(|(d, wanted)| wanted.then_some(d)).collect()
        }
        Op::Coordinates { .. } => one(&|| Tensor::zeros(inputs[0].shape)),
        Op::Detach => one(&|| Tensor::zeros(inputs[0].shape)),
        Op::ChannelMean => inputs.iter().zip(wanted).map(|(x, w)| w.then(|| statistics::mean(inputs, x, d))).collect(),
        Op::ChannelNorm { floor } => one(&|| pointwise::channel_norm(inputs[0], d, *floor)),
        Op::Correlation(c) => {
            let gradient = |other: usize, sign| correlation::gradient(inputs[other], d, *c, sign);
            vec![wanted[0].then(|| gradient(1, 1)), wanted[1].then(|| gradient(0, -1))]
        }
        Op::Lookup(l) => {
            let gradients = lookup::gradients([inputs[0], inputs[1], inputs[2]], d, *l);
            gradients.into_iter().zip(wanted).map(|(gradient, &wanted)| wanted.then_some(gradient)).collect()
        }
        Op::Warp(w) => {
            let (image, flow) = warp::gradients(inputs[0], inputs[1], d, *w);
            vec![wanted[0].then_some(image), wanted[1].then_some(flow)]
        }
        Op::Resize { filter, grid, .. } => one(&|| resize::adjoint(d, inputs[0].shape, *filter, *grid)),
        Op::ConvexUpsample { factor } => {
            let (flow, logits) = convex_upsample::gradients(inputs[0], inputs[1], d, *factor);
            vec![wanted[0].then_some(flow), wanted[1].then_some(logits)]
        }
        Op::ToOutput { filter, grid } => one(&|| {
            let scaled = super::pointwise::affine(d, &super::output_scale(d.shape, sizes), &[0.0]);
            resize::adjoint(&scaled, inputs[0].shape, *filter, *grid)
        }),
        Op::Moments(over) => {
            inputs.iter().zip(wanted).map(|(x, w)| w.then(|| statistics::moments(x, d, *over))).collect()
        }
        Op::Standardise { epsilon } => {
            let (x, moments) = statistics::standardise(inputs[0], inputs[1], d, *epsilon);
            vec![wanted[0].then_some(x), wanted[1].then_some(moments)]
        }
    }
}

/// `sum += values`, where the parameter is trained.
fn add<T: Real>(sum: &mut [f32], values: &[T]) {
    sum.iter_mut().zip(values).for_each(|(s, v)| *s += v.f64() as f32);
}
