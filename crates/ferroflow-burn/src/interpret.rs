//! Runs a graph node by node.

use burn::tensor::module::{BatchNormTrainOutput, batch_norm, batch_norm_train};
use burn::tensor::{Device, Tensor, TensorData};
use ferroflow_net::graph::{BatchNorm, Frame, Graph, NodeId, Op, ParamId, Shape, Size, Sizes};
use ferroflow_net::weights::Weights;

use crate::device::Precision;
use crate::fuse::{Kernel, last_readers, steps};
use crate::ops;

/// The parameters of a graph on a device, flat.
pub(crate) struct Parameters(Vec<Tensor<1>>);

impl Parameters {
    /// Copies weights that belong to the graph.
    pub(crate) fn upload(weights: &Weights, device: &Device) -> Self {
        let upload = |v: &[f32]| Tensor::from_data(TensorData::new(v.to_vec(), [v.len()]), device);
        Self(weights.iter().map(upload).collect())
    }

    /// Marks those whose gradient is wanted.
    pub(crate) fn track(self, trained: &[bool]) -> Self {
        Self(self.0.into_iter().zip(trained).map(|(tensor, &trained)| tensor.set_require_grad(trained)).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tensor<1>> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Tensor<1>> {
        self.0.iter_mut()
    }
}

/// By what batch norm normalises.
pub(crate) enum Normalisation<'a> {
    /// The running statistics among the parameters.
    Running,
    /// The statistics of the batch where its scale is trained.
    Batch { trained: &'a [bool] },
}

/// What one node of batch norm saw.
pub(crate) struct BatchStatistics {
    pub(crate) norm: BatchNorm,
    /// Per channel, `[C]`.
    pub(crate) mean: Tensor<1>,
    /// The biased one, `[C]`.
    pub(crate) variance: Tensor<1>,
    /// Values per channel.
    pub(crate) count: usize,
}

/// A graph about to be run.
pub(crate) struct Interpreter<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) sizes: &'a Sizes,
    /// The shapes of the graph for these sizes.
    pub(crate) shapes: &'a [Shape],
    pub(crate) parameters: &'a Parameters,
    /// `[N, 3, H, W]` of these sizes.
    pub(crate) frames: &'a [Tensor<4>; 2],
    /// In place of [`Graph::initial`].
    pub(crate) start: Option<Tensor<4>>,
    pub(crate) normalisation: Normalisation<'a>,
    pub(crate) precision: Precision,
}

impl Interpreter<'_> {
    /// The values of `outputs`, and the statistics of the batch in execution order where it is normalised by them.
    pub(crate) fn run(&self, outputs: &[NodeId]) -> (Vec<Tensor<4>>, Vec<BatchStatistics>) {
        let steps = steps(self.graph, outputs);
        let last_readers = last_readers(&steps, outputs);
        let mut statistics = Vec::new();
        let mut values: Vec<Option<Tensor<4>>> = vec![None; steps.len()];
        for (i, step) in steps.iter().enumerate() {
            if last_readers[i].is_none() {
                continue;
            }
            let inputs: Vec<Tensor<4>> = step.inputs.iter().filter_map(|id| values[id.0 as usize].clone()).collect();
            // Let go of here, so that an operation may write over its input.
            for &NodeId(input) in &step.inputs {
                if last_readers[input as usize] == Some(i) {
                    values[input as usize] = None;
                }
            }
            let value = match (&self.start, &step.kernel) {
                (Some(start), _) if self.graph.initial == Some(NodeId(i as u32)) => start.clone(),
                (_, Kernel::Op(op)) => self.evaluate(op, inputs, self.shapes[i], &mut statistics),
                (_, Kernel::WarpedCorrelation(c, warp)) => ops::warped_correlation(three(inputs), *c, *warp),
            };
            debug_assert_eq!(value.dims(), self.shapes[i], "{}", self.graph.nodes[i].name);
            values[i] = Some(value);
        }
        (outputs.iter().filter_map(|id| values[id.0 as usize].clone()).collect(), statistics)
    }

    fn evaluate(
        &self,
        op: &Op,
        inputs: Vec<Tensor<4>>,
        shape: Shape,
        statistics: &mut Vec<BatchStatistics>,
    ) -> Tensor<4> {
        let parameter = |id: ParamId| self.parameters.0[id.0 as usize].clone();
        match op {
            Op::Frame(Frame::First) => self.frames[0].clone(),
            Op::Frame(Frame::Second) => self.frames[1].clone(),
            Op::Conv(c) => {
                let x = one(inputs);
                ops::in_precision(self.precision, shape, x, parameter(c.weight), c.bias.map(parameter), |x, w, b| {
                    ops::conv(x, w, b, c)
                })
            }
            Op::Deconv(d) => {
                let x = one(inputs);
                ops::in_precision(self.precision, shape, x, parameter(d.weight), d.bias.map(parameter), |x, w, b| {
                    ops::deconv(x, w, b, d)
                })
            }
            Op::BatchNorm(b) => {
                let x = one(inputs);
                let (scale, shift, epsilon) = (parameter(b.scale), parameter(b.shift), f64::from(b.epsilon));
                match self.normalisation {
                    Normalisation::Batch { trained } if trained[b.scale.0 as usize] => {
                        let BatchNormTrainOutput { output, mean, variance } =
                            batch_norm_train(x, scale, shift, epsilon);
                        let count = shape[0] * shape[2] * shape[3];
                        statistics.push(BatchStatistics { norm: b.clone(), mean, variance, count });
                        output
                    }
                    _ => batch_norm(x, scale, shift, parameter(b.mean), parameter(b.variance), epsilon),
                }
            }
            Op::LeakyRelu { slope } => ops::leaky(one(inputs), *slope),
            Op::Smooth(curve) => ops::smooth(one(inputs), *curve),
            Op::Concat => Tensor::cat(inputs, 1),
            Op::Stack => Tensor::cat(inputs, 0),
            Op::Part { index, .. } => one(inputs).narrow(0, index * shape[0], shape[0]),
            Op::Channels(picked) => ops::channels(one(inputs), picked),
            Op::Affine { scale, offset } => ops::affine(one(inputs), scale, offset),
            Op::Add => on_two(inputs, Tensor::add),
            Op::Sub => on_two(inputs, Tensor::sub),
            Op::Product => on_two(inputs, Tensor::mul),
            Op::Lerp => {
                let [a, b, t] = three(inputs);
                ops::lerp(a, b, t)
            }
            Op::InstanceNorm { epsilon } => ops::instance_norm(one(inputs), *epsilon),
            Op::LayerNorm(norm) => {
                ops::layer_norm(one(inputs), parameter(norm.scale), parameter(norm.shift), norm.epsilon)
            }
            Op::ChannelScale { factor } => ops::channel_scale(one(inputs), parameter(*factor)),
            Op::AveragePool { size } => ops::average_pool(one(inputs), *size),
            Op::Detach => one(inputs).detach(),
            Op::Attention => {
                let [q, k, v] = three(inputs);
                ops::attention(q, k, v)
            }
            Op::Coordinates { centred } => ops::coordinates(one(inputs), *centred),
            Op::ChannelMean => ops::channel_mean(inputs),
            Op::ChannelNorm { floor } => ops::channel_norm(one(inputs), *floor),
            Op::Correlation(c) => on_two(inputs, |f1, f2| ops::correlation(f1, f2, *c)),
            Op::Lookup(l) => {
                let [first, second, flow] = three(inputs);
                ops::lookup([first, second], flow, *l)
            }
            Op::Warp(w) => on_two(inputs, |image, flow| ops::warp(image, flow, *w)),
            Op::Resize { filter, grid, .. } => {
                ops::resize(one(inputs), Size { height: shape[2], width: shape[3] }, *filter, *grid)
            }
            Op::ConvexUpsample { factor } => on_two(inputs, |flow, logits| ops::convex_upsample(flow, logits, *factor)),
            Op::ToOutput { filter, grid } => ops::to_output(one(inputs), self.sizes, *filter, *grid),
            Op::Moments(over) => on_two(inputs, |a, b| ops::moments(a, b, *over)),
            Op::Standardise { epsilon } => on_two(inputs, |x, moments| ops::standardise(x, moments, *epsilon)),
            Op::Zeros { .. } => {
                let x = one(inputs);
                Tensor::zeros(shape, (&x.device(), x.dtype()))
            }
        }
    }
}

fn one(inputs: Vec<Tensor<4>>) -> Tensor<4> {
    inputs.into_iter().next().expect("shape inference refuses a node without its input")
}

fn on_two(inputs: Vec<Tensor<4>>, f: impl FnOnce(Tensor<4>, Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    let mut inputs = inputs.into_iter();
    let (a, b) = inputs.next().zip(inputs.next()).expect("shape inference refuses a node without both inputs");
    f(a, b)
}

fn three(inputs: Vec<Tensor<4>>) -> [Tensor<4>; 3] {
    inputs.try_into().expect("shape inference refuses a node without its inputs")
}
