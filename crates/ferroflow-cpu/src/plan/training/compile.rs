//! Compiles the layers of the training plan.

use ferroflow_kernels::{
    Everyone,
    conv::{self, training::ConvTraining},
    depthwise::training::SeparableTraining,
};
use ferroflow_net::{
    Graph, NodeId, Op, ParamId,
    graph::{BatchNorm, Conv},
};

use super::layer::{Convolution, DepthwiseConvolution, DepthwiseKernel, Layer, Norm, Separable, TrainedLayerNorm};
use crate::plan::{
    compile::{Compiler, Layers},
    fuse::{Chain, Purpose, separable_block},
    options::PlanError,
    shapes::{GROUPS, conv_shape, is_depthwise, is_large_depthwise, layer_of},
    step::Kernel,
    value::Value,
};

/// The layers that have been compiled, and what depends on trained parameters.
pub(in crate::plan) struct TrainedLayers<'a> {
    /// Per parameter of the graph: whether its gradient is wanted.
    trained: &'a [bool],
    /// What [`Kernel::Layer`] means.
    pub layers: Vec<Layer>,
    /// Per buffer, up to the last that is: whether a trained parameter decides what it holds.
    pub wanted: Vec<bool>,
}

impl<'a> TrainedLayers<'a> {
    pub fn new(trained: &'a [bool]) -> Self {
        Self { trained, layers: Vec::new(), wanted: Vec::new() }
    }

    fn is_trained(&self, id: ParamId) -> bool {
        self.trained[id.0 as usize]
    }

    /// Whether a trained parameter decides any part of a value.
    fn is_wanted(&self, value: &Value) -> bool {
        value.planes.iter().any(|plane| self.wanted.get(plane.buffer) == Some(&true))
    }

    fn want(&mut self, value: &Value) {
        for plane in &value.planes {
            self.wanted.resize(self.wanted.len().max(plane.buffer + 1), false);
            self.wanted[plane.buffer] = true;
        }
    }

    /// Adds a layer; the result is its index.
    fn add(&mut self, layer: Layer) -> usize {
        self.layers.push(layer);
        self.layers.len() - 1
    }
}

impl Layers for TrainedLayers<'_> {
    const PURPOSE: Purpose = Purpose::Training;

    fn check(&self, _: &Graph) -> Result<(), PlanError> {
        Ok(())
    }

    fn weight(&self, _: ParamId) -> &[f32] {
        unreachable!("nothing is folded into weights that change")
    }

    fn compile(compiler: &mut Compiler<'_, Self>, chain: &Chain) -> Result<Value, PlanError> {
        compiler.trained_layer(chain)
    }

    fn made(&mut self, inputs: &[Value], output: &Value) {
        if inputs.iter().any(|input| self.is_wanted(input)) {
            self.want(output);
        }
    }
}

impl Compiler<'_, TrainedLayers<'_>> {
    /// A step that runs a layer; `parameters` are those it reads.
    fn push_layer(
        &mut self,
        node: NodeId,
        index: usize,
        flop: f64,
        input: Value,
        channels: usize,
        parameters: &[ParamId],
    ) -> Value {
        let out = self.fresh(self.extent(node), channels);
        self.push(node, Kernel::Layer(index), flop, vec![input], &out);
        if parameters.iter().any(|&id| self.layers.is_trained(id)) {
            self.layers.want(&out);
        }
        out
    }

    /// A convolution or a batch norm with its activation, or a whole depthwise separable block.
    fn trained_layer(&mut self, chain: &Chain) -> Result<Value, PlanError> {
        let graph = self.graph;
        let node = graph.node(chain.head);
        match (&node.op, &chain.pointwise) {
            (Op::Conv(depthwise), Some(second)) => {
                let block = separable_block(graph, chain, second);
                let (pointwise, norms) = block.ok_or_else(|| self.unsupported(chain.head, "not a separable block"))?;
                Ok(self.trained_block(chain, second, [depthwise, pointwise], norms))
            }
            (Op::Conv(c), None) if is_depthwise(c) || is_large_depthwise(c) => {
                let x = self.dense(node.inputs[0]);
                let flop = conv_shape(c).flop(x.extent) / c.groups as f64;
                let (activation, isa) = (chain.activation(), self.options.isa);
                let layer = DepthwiseConvolution {
                    conv: c.clone(),
                    activation,
                    input: x.extent,
                    isa,
                    kernel: DepthwiseKernel::Unprepared,
                };
                let params: Vec<_> = std::iter::once(c.weight).chain(c.bias).collect();
                let index = self.layers.add(Layer::Depthwise(Box::new(layer)));
                Ok(self.push_layer(chain.tail, index, flop, x, c.out_channels, &params))
            }
            (Op::Conv(c), None) if c.groups != 1 => Err(self.unsupported(chain.head, GROUPS)),
            (Op::BatchNorm(norm), _) => {
                let x = self.dense(node.inputs[0]);
                let channels = self.channels(chain.tail);
                let layer = if self.layers.is_trained(norm.scale) {
                    let weights = [Vec::new(), Vec::new()];
                    let (norm, activation) = (norm.clone(), chain.activation());
                    let everyone = Everyone::default();
                    Layer::Norm(Box::new(Norm { norm, activation, statistics: None, everyone, weights }))
                } else {
                    Layer::FrozenNorm {
                        norm: norm.clone(),
                        activation: chain.activation(),
                        scale: Vec::new(),
                        offset: Vec::new(),
                    }
                };
                let index = self.layers.add(layer);
                Ok(self.push_layer(chain.tail, index, 0.0, x, channels, &[norm.scale, norm.shift]))
            }
            (Op::LayerNorm(norm), _) => {
                let x = self.dense(node.inputs[0]);
                let channels = self.channels(chain.tail);
                let layer = TrainedLayerNorm { norm: norm.clone(), channels, weights: [Vec::new(), Vec::new()] };
                let index = self.layers.add(Layer::PixelNorm(Box::new(layer)));
                Ok(self.push_layer(chain.tail, index, 0.0, x, channels, &[norm.scale, norm.shift]))
            }
            (Op::ChannelScale { factor }, _) => {
                let x = self.dense(node.inputs[0]);
                let channels = self.channels(chain.tail);
                let layer = Layer::Scale { factor: *factor, activation: chain.activation(), scale: Vec::new() };
                let index = self.layers.add(layer);
                Ok(self.push_layer(chain.tail, index, 0.0, x, channels, &[*factor]))
            }
            (op, _) => {
                let Some((shape, weight, bias)) = layer_of(op) else {
                    return Err(self.unsupported(chain.head, "not a layer"));
                };
                let x = match self.narrow(node.inputs[0]) {
                    Some(narrow) => narrow,
                    None => self.blocks(node.inputs[0]),
                };
                let options = conv::Options {
                    isa: self.options.isa,
                    exact: self.options.exact,
                    bf16: None,
                    threads: rayon::current_num_threads(),
                    algorithm: None,
                };
                let flop = shape.flop(x.extent);
                let params: Vec<_> = std::iter::once(weight).chain(bias).collect();
                let wanted = self.layers.is_wanted(&x);
                let twin = self.layers.layers.iter().position(|layer| match layer {
                    Layer::Conv(conv) => {
                        (conv.weight, conv.bias, conv.activation) == (weight, bias, chain.activation())
                            && conv.kernel.is_for(shape, x.extent, &x.lanes, wanted)
                    }
                    _ => false,
                });
                let index = match twin {
                    Some(index) => index,
                    None => {
                        let kernel = ConvTraining::new(shape, x.extent, &x.lanes, wanted, options);
                        let activation = chain.activation();
                        let conv = Convolution { kernel, activation, weight, bias, readers: 0 };
                        self.layers.add(Layer::Conv(Box::new(conv)))
                    }
                };
                if let Layer::Conv(conv) = &mut self.layers.layers[index] {
                    conv.readers += 1;
                }
                Ok(self.push_layer(chain.tail, index, flop, x, shape.out_channels, &params))
            }
        }
    }

    fn trained_block(
        &mut self,
        chain: &Chain,
        second: &Chain,
        [depthwise, pointwise]: [&Conv; 2],
        norms: [BatchNorm; 2],
    ) -> Value {
        let params =
            [depthwise.weight, norms[0].scale, norms[0].shift, pointwise.weight, norms[1].scale, norms[1].shift];
        let input = self.graph.node(chain.head).inputs[0];
        let x = match self.narrow(input) {
            Some(narrow) => narrow,
            None => self.blocks(input),
        };
        let kernel = SeparableTraining::new(
            x.extent,
            &x.lanes,
            pointwise.out_channels,
            depthwise.stride,
            [norms[0].epsilon, norms[1].epsilon],
            [chain.activation().slope(), second.activation().slope()],
            self.options.isa,
        );
        let shape = conv_shape(depthwise);
        let flop = shape.flop(x.extent) / depthwise.groups as f64 + conv_shape(pointwise).flop(kernel.output());
        let block = Separable {
            kernel,
            depthwise: depthwise.weight,
            pointwise: pointwise.weight,
            frozen: norms.each_ref().map(|norm| !self.layers.is_trained(norm.scale)),
            norms,
            weights: std::array::from_fn(|_| Vec::new()),
        };
        let index = self.layers.add(Layer::Separable(Box::new(block)));
        self.push_layer(chain.tail, index, flop, x, pointwise.out_channels, &params)
    }
}
