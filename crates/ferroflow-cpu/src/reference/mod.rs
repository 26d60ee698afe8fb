//! The plain interpreter, which defines every operation of the graph on values `[N, C, H, W]` in single or double precision.
//!
//! Faster executors are tested against it. It keeps every value of the graph.

mod attention;
mod conv;
mod convex_upsample;
mod correlation;
mod gradient;
mod lookup;
mod pointwise;
mod pool;
mod real;
mod resize;
mod smooth;
mod statistics;
mod training;
mod warp;

use ferroflow_net::graph::{Frame, Graph, NodeId, Op, Shape, ShapeError, Sizes};
use ferroflow_net::weights::{Weights, WeightsError};

pub use real::Real;
pub use resize::resize;
pub use training::Training;

/// A value `[N, C, H, W]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<T> {
    /// `[N, C, H, W]`
    pub shape: Shape,
    /// Values, row-major over `shape`.
    pub data: Vec<T>,
}

impl<T: Real> Tensor<T> {
    /// A tensor of zeros.
    pub fn zeros(shape: Shape) -> Self {
        Self { shape, data: vec![T::default(); shape.iter().product()] }
    }

    /// A tensor from values in single precision; `None` if their number does not fit the shape.
    pub fn from_f32(shape: Shape, data: &[f32]) -> Option<Self> {
        (data.len() == shape.iter().product::<usize>()).then(|| Self::of(shape, data))
    }

    fn of(shape: Shape, data: &[f32]) -> Self {
        Self { shape, data: data.iter().map(|&v| T::of(f64::from(v))).collect() }
    }

    /// One channel of one image, `[H, W]`.
    pub fn plane(&self, n: usize, c: usize) -> &[T] {
        let [_, channels, h, w] = self.shape;
        &self.data[(n * channels + c) * h * w..][..h * w]
    }
}

/// The values of all nodes of a graph.
#[derive(Clone, Debug)]
pub struct Values<T> {
    tensors: Vec<Tensor<T>>,
}

impl<T> Values<T> {
    /// The value of a node.
    pub fn get(&self, id: NodeId) -> &Tensor<T> {
        &self.tensors[id.0 as usize]
    }
}

/// Why a graph cannot be run on these inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The network does not take these sizes.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The weights are another network's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A frame has a wrong length.
    #[error("a frame holds {found} values; [{batch}, 3, {height}, {width}] has {expected}")]
    FrameLength {
        /// Number of values given.
        found: usize,
        /// Number of values needed.
        expected: usize,
        /// Number of pairs in the batch.
        batch: usize,
        /// Height of the frames, pixels.
        height: usize,
        /// Width of the frames, pixels.
        width: usize,
    },
}

/// Runs a graph on the frames `[N, 3, H, W]`, RGB 0..=255, of `sizes.input`.
pub fn run<T: Real>(
    graph: &Graph,
    weights: &Weights,
    frames: [&[f32]; 2],
    sizes: &Sizes,
) -> Result<Values<T>, ReferenceError> {
    weights.check(graph)?;
    let shapes = graph.shapes(sizes)?;
    let (batch, height, width) = (sizes.batch, sizes.input.height, sizes.input.width);
    let expected = batch * 3 * height * width;
    if let Some(found) = frames.iter().map(|f| f.len()).find(|&len| len != expected) {
        return Err(ReferenceError::FrameLength { found, expected, batch, height, width });
    }
    let mut tensors: Vec<Tensor<T>> = Vec::with_capacity(graph.nodes.len());
    for (node, &shape) in graph.nodes.iter().zip(&shapes) {
        let inputs: Vec<&Tensor<T>> = node.inputs.iter().map(|&NodeId(i)| &tensors[i as usize]).collect();
        let value = match node.op {
            Op::Frame(Frame::First) => Tensor::of(shape, frames[0]),
            Op::Frame(Frame::Second) => Tensor::of(shape, frames[1]),
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
            | Op::Zeros { .. } => evaluate(&node.op, &inputs, weights, sizes, shape),
        };
        debug_assert_eq!(value.shape, shape, "{}", node.name);
        tensors.push(value);
    }
    Ok(Values { tensors })
}

/// Applies one operation to values. `weights` are those of the graph that the operation belongs to.
pub fn apply<T: Real>(
    op: &Op,
    inputs: &[&Tensor<T>],
    weights: &Weights,
    sizes: &Sizes,
) -> Result<Tensor<T>, ReferenceError> {
    let shapes: Vec<Shape> = inputs.iter().map(|x| x.shape).collect();
    let shape = op.output_shape(&shapes, sizes).map_err(|reason| ShapeError {
        node: format!("{op:?}"),
        inputs: shapes,
        reason,
    })?;
    Ok(evaluate(op, inputs, weights, sizes, shape))
}

fn evaluate<T: Real>(op: &Op, inputs: &[&Tensor<T>], weights: &Weights, sizes: &Sizes, shape: Shape) -> Tensor<T> {
    match op {
        Op::Frame(_) | Op::Zeros { .. } => Tensor::zeros(shape),
        Op::Conv(c) => conv::conv(inputs[0], weights.get(c.weight), c.bias.map(|b| weights.get(b)), c, shape),
        Op::Deconv(d) => conv::deconv(inputs[0], weights.get(d.weight), d.bias.map(|b| weights.get(b)), d, shape),
        Op::BatchNorm(b) => {
            let [scale, shift, mean, variance] = [b.scale, b.shift, b.mean, b.variance].map(|id| weights.get(id));
            statistics::batch_norm(inputs[0], scale, shift, mean, variance, b.epsilon)
        }
        Op::LeakyRelu { slope } => pointwise::leaky(inputs[0], *slope),
        Op::Smooth(curve) => smooth::smooth(inputs[0], *curve),
        Op::Concat => pointwise::concat(inputs, shape),
        Op::Stack => Tensor { shape, data: inputs.iter().flat_map(|x| x.data.iter().copied()).collect() },
        Op::Part { index, .. } => {
            let len = shape.iter().product();
            Tensor { shape, data: inputs[0].data[index * len..][..len].to_vec() }
        }
        Op::Channels(picked) => pointwise::channels(inputs[0], picked),
        Op::Affine { scale, offset } => pointwise::affine(inputs[0], scale, offset),
        Op::Add => pointwise::add(inputs[0], inputs[1]),
        Op::Sub => pointwise::subtract(inputs[0], inputs[1]),
        Op::Product => pointwise::multiply(inputs[0], inputs[1]),
        Op::Lerp => pointwise::lerp(inputs[0], inputs[1], inputs[2]),
        Op::InstanceNorm { epsilon } => statistics::instance_norm(inputs[0], *epsilon),
        Op::LayerNorm(norm) => {
            let [scale, shift] = [norm.scale, norm.shift].map(|id| weights.get(id));
            pointwise::affine(&statistics::normalise_pixels(inputs[0], norm.epsilon), scale, shift)
        }
        Op::ChannelScale { factor } => pointwise::affine(inputs[0], weights.get(*factor), &[0.0]),
        Op::AveragePool { size } => pool::average_pool(inputs[0], *size, shape),
        Op::Detach => inputs[0].clone(),
        Op::Attention => attention::attention([inputs[0], inputs[1], inputs[2]]),
        Op::Coordinates { centred } => attention::coordinates(shape, *centred),
        Op::ChannelMean => statistics::channel_mean(inputs),
        Op::ChannelNorm { floor } => pointwise::channel_norm(inputs[0], *floor),
        Op::Correlation(c) => correlation::correlation(inputs[0], inputs[1], *c),
        Op::Lookup(l) => lookup::lookup([inputs[0], inputs[1], inputs[2]], *l, shape),
        Op::Warp(w) => warp::warp(inputs[0], inputs[1], *w),
        Op::Resize { filter, grid, .. } => resize::resize(inputs[0], shape[2], shape[3], *filter, *grid),
        Op::ConvexUpsample { factor } => convex_upsample::convex_upsample(inputs[0], inputs[1], *factor, shape),
        Op::ToOutput { filter, grid } => {
            let resized = resize::resize(inputs[0], shape[2], shape[3], *filter, *grid);
            pointwise::affine(&resized, &output_scale(shape, sizes), &[0.0])
        }
        Op::Moments(over) => statistics::moments(inputs[0], inputs[1], *over),
        Op::Standardise { epsilon } => statistics::standardise(inputs[0], inputs[1], *epsilon),
    }
}

/// What [`Op::ToOutput`] multiplies u and v by.
fn output_scale(output: Shape, sizes: &Sizes) -> [f32; 2] {
    let ratio = |to: usize, from: usize| (to as f64 / from as f64) as f32;
    [ratio(output[3], sizes.input.width), ratio(output[2], sizes.input.height)]
}
