//! Convolutions with everything that is folded into them.

use std::sync::Arc;

use ferroflow_kernels::conv::{self, ConvKind, ConvPlan, ConvShape, Layer};
use ferroflow_net::{Op, ParamId, graph::Conv};

use super::{
    PlanError,
    compile::{Compiler, LayerKey},
    fuse::{Chain, compose},
    step::Kernel,
    value::Value,
};

/// Why a convolution in groups is refused.
pub(super) const GROUPS: &str = "groups that are not a depthwise 3x3 with stride 1 or 2";

impl<W: AsRef<[f32]>> Compiler<'_, W> {
    /// A convolution or transposed convolution with its batch norm, scale, residual and activation.
    pub(super) fn convolution(&mut self, chain: &Chain) -> Result<Value, PlanError> {
        let node = self.graph.node(chain.head);
        let Some((shape, weight, bias)) = layer_of(&node.op) else {
            return Err(self.unsupported(chain.head, "not a convolution"));
        };
        if matches!(&node.op, Op::Conv(c) if c.groups != 1) {
            return Err(self.unsupported(chain.head, GROUPS));
        }
        let x = match self.narrow(node.inputs[0]) {
            Some(narrow) => narrow,
            None => self.blocks(node.inputs[0]),
        };
        let key = LayerKey {
            weight,
            maps: chain.maps.clone(),
            shape,
            input: x.extent,
            lanes: x.lanes.clone(),
            slope: chain.activation.slope().to_bits(),
        };
        let plan = match self.layers.get(&key) {
            Some(plan) => plan.clone(),
            None => {
                let (weight, bias) = self.folded(&shape, weight, bias, chain);
                let layer = Layer {
                    shape,
                    input: x.extent,
                    lanes: &x.lanes,
                    weight: &weight,
                    bias: Some(&bias),
                    activation: chain.activation,
                };
                let options = conv::Options {
                    isa: self.options.isa,
                    exact: self.options.exact,
                    bf16: self.options.bf16,
                    threads: rayon::current_num_threads(),
                    algorithm: None,
                };
                let plan = Arc::new(ConvPlan::new(&layer, options));
                self.weight_bytes += plan.weight_bytes();
                self.layers.insert(key, plan.clone());
                plan
            }
        };
        let flop = shape.flop(x.extent);
        let mut inputs = vec![x];
        if let Some(residual) = chain.residual {
            inputs.push(self.dense(residual));
        }
        let out = self.fresh(self.extent(chain.tail), shape.out_channels);
        self.push(chain.tail, Kernel::Conv(plan), flop, inputs, &out);
        Ok(out)
    }

    /// Weights and bias with the chain's maps multiplied in, in f64 and rounded once.
    pub(super) fn folded(
        &self,
        shape: &ConvShape,
        weight: ParamId,
        bias: Option<ParamId>,
        chain: &Chain,
    ) -> (Vec<f32>, Vec<f32>) {
        let (scale, offset) = compose(self.graph, &chain.maps, shape.out_channels, |id| self.weight(id));
        let raw = self.weight(weight);
        let taps = shape.kernel * shape.kernel;
        let output = |i: usize| match shape.kind {
            ConvKind::Forward => i / (raw.len() / shape.out_channels),
            ConvKind::Transposed => i / taps % shape.out_channels,
        };
        let weight = raw.iter().enumerate().map(|(i, &w)| (f64::from(w) * scale[output(i)]) as f32).collect();
        let bias = (0..shape.out_channels)
            .map(|c| (bias.map_or(0.0, |b| f64::from(self.weight(b)[c])) * scale[c] + offset[c]) as f32)
            .collect();
        (weight, bias)
    }
}

/// What a convolution or a transposed one computes, its weight and its bias.
pub(super) fn layer_of(op: &Op) -> Option<(ConvShape, ParamId, Option<ParamId>)> {
    match op {
        Op::Conv(c) => Some((conv_shape(c), c.weight, c.bias)),
        Op::Deconv(d) => {
            let shape = ConvShape {
                kind: ConvKind::Transposed,
                in_channels: d.in_channels,
                out_channels: d.out_channels,
                kernel: 4,
                stride: 2,
                dilation: 1,
                padding: [1; 4],
            };
            Some((shape, d.weight, d.bias))
        }
        Op::Frame(_)
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
        | Op::Warp(_)
        | Op::Resize { .. }
        | Op::ConvexUpsample { .. }
        | Op::ToOutput { .. }
        | Op::Moments(_)
        | Op::Standardise { .. }
        | Op::Zeros { .. } => None,
    }
}

/// The layer without its parameters.
pub(super) fn conv_shape(c: &Conv) -> ConvShape {
    let p = c.padding;
    ConvShape {
        kind: ConvKind::Forward,
        in_channels: c.in_channels,
        out_channels: c.out_channels,
        kernel: c.kernel,
        stride: c.stride,
        dilation: c.dilation,
        padding: [p.top, p.left, p.bottom, p.right],
    }
}
