//! Layers of a plan that trains.

use ferroflow_kernels::{
    conv::{self, training::ConvTraining},
    depthwise::training::SeparableTraining,
};
use ferroflow_net::{
    Graph, Op,
    graph::{BatchNorm, Conv, Padding},
};

use super::layer::{Convolution, DepthwiseConvolution, Layer, Norm, Separable};
use crate::plan::{
    PlanError,
    compile::Compiler,
    convolution::{GROUPS, conv_shape, layer_of},
    depthwise::is_depthwise,
    fuse::Chain,
    value::Value,
};

impl<W: AsRef<[f32]>> Compiler<'_, W> {
    /// A convolution or a batch norm with its activation, or a whole depthwise separable block.
    pub(in crate::plan) fn trained_layer(&mut self, chain: &Chain) -> Result<Value, PlanError> {
        let graph = self.graph;
        let node = graph.node(chain.head);
        match (&node.op, &chain.pointwise) {
            (Op::Conv(depthwise), Some(second)) => {
                let block = separable_block(graph, chain, second);
                let (pointwise, norms) = block.ok_or_else(|| self.unsupported(chain.head, "not a separable block"))?;
                Ok(self.trained_block(chain, second, [depthwise, pointwise], norms))
            }
            (Op::Conv(c), None) if is_depthwise(c) => {
                let x = self.dense(node.inputs[0]);
                let flop = conv_shape(c).flop(x.extent) / c.groups as f64;
                let layer = DepthwiseConvolution { conv: c.clone(), activation: chain.activation, kernel: None };
                let params: Vec<_> = std::iter::once(c.weight).chain(c.bias).collect();
                let layer = Layer::Depthwise(Box::new(layer));
                Ok(self.push_layer(chain.tail, layer, flop, x, c.out_channels, &params))
            }
            (Op::Conv(c), None) if c.groups != 1 => Err(self.unsupported(chain.head, GROUPS)),
            (Op::BatchNorm(norm), _) => {
                let x = self.dense(node.inputs[0]);
                let channels = self.channels(chain.tail);
                let layer = if self.is_trained(norm.scale) {
                    let weights = [Vec::new(), Vec::new()];
                    let (norm, activation) = (norm.clone(), chain.activation);
                    Layer::Norm(Box::new(Norm { norm, activation, statistics: None, weights }))
                } else {
                    Layer::FrozenNorm { norm: norm.clone(), activation: chain.activation, scale: Vec::new() }
                };
                Ok(self.push_layer(chain.tail, layer, 0.0, x, channels, &[norm.scale, norm.shift]))
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
                let wanted = self.is_wanted(&x);
                let twin = self.trained_layers.iter_mut().position(|layer| match layer {
                    Layer::Conv(conv) => {
                        (conv.weight, conv.bias, conv.activation) == (weight, bias, chain.activation)
                            && conv.kernel.is_for(shape, x.extent, &x.lanes, wanted)
                    }
                    _ => false,
                });
                let index = match twin {
                    Some(index) => index,
                    None => {
                        let kernel = ConvTraining::new(shape, x.extent, &x.lanes, wanted, options);
                        let activation = chain.activation;
                        let conv = Convolution { kernel, activation, weight, bias, readers: 0, prepared: false };
                        self.add_layer(Layer::Conv(Box::new(conv)))
                    }
                };
                if let Layer::Conv(conv) = &mut self.trained_layers[index] {
                    conv.readers += 1;
                }
                Ok(self.push_step(chain.tail, index, flop, x, shape.out_channels, &params))
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
            [chain.activation.slope(), second.activation.slope()],
            self.options.isa,
        );
        let shape = conv_shape(depthwise);
        let flop = shape.flop(x.extent) / depthwise.groups as f64 + conv_shape(pointwise).flop(kernel.output());
        let block = Separable {
            kernel,
            depthwise: depthwise.weight,
            pointwise: pointwise.weight,
            frozen: norms.each_ref().map(|norm| !self.is_trained(norm.scale)),
            norms,
            weights: std::array::from_fn(|_| Vec::new()),
        };
        let layer = Layer::Separable(Box::new(block));
        self.push_layer(chain.tail, layer, flop, x, pointwise.out_channels, &params)
    }
}

/// The 1x1 convolution and the norms of a depthwise convolution and what follows it, if they are the block that is trained
/// as one operator: without biases, one norm behind each.
pub(in crate::plan) fn separable_block<'g>(
    graph: &'g Graph,
    first: &Chain,
    second: &Chain,
) -> Option<(&'g Conv, [BatchNorm; 2])> {
    let conv = |chain: &Chain| match &graph.node(chain.head).op {
        Op::Conv(conv) if conv.bias.is_none() => Some(conv),
        _ => None,
    };
    let norm = |chain: &Chain| match chain.maps[..] {
        [map] => match &graph.node(map).op {
            Op::BatchNorm(norm) => Some(norm.clone()),
            _ => None,
        },
        _ => None,
    };
    let (depthwise, pointwise) = (conv(first)?, conv(second)?);
    let norms = [norm(first)?, norm(second)?];
    (depthwise.padding == Padding::all(1)).then_some((pointwise, norms))
}
