//! Convolutions, with the operations that are folded into them.

use std::sync::Arc;

use ferroflow_kernels::conv::{self, Activation, ConvKind, ConvPlan, ConvShape, Layer};
use ferroflow_net::{Op, ParamId};

use super::{
    compile::Compiler,
    fixed::{FixedLayers, LayerKey},
    fuse::{Chain, compose},
    options::PlanError,
    shapes::{GROUPS, layer_of},
    step::Kernel,
    value::Value,
};

impl<W: AsRef<[f32]>> Compiler<'_, FixedLayers<'_, W>> {
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
        let maps = self.maps(chain, shape.out_channels);
        let key = LayerKey {
            weight,
            maps: [&maps.0, &maps.1].map(|map| map.iter().map(|v| v.to_bits()).collect()),
            shape,
            input: x.extent,
            lanes: x.lanes.clone(),
            activation: match chain.activation {
                Activation::Smooth(curve) => (0, Some(curve)),
                linear => (linear.slope().to_bits(), None),
            },
        };
        let plan = match self.layers.prepared.get(&key) {
            Some(plan) => plan.clone(),
            None => {
                let (weight, bias) = self.folded(&shape, weight, bias, &maps);
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
                self.layers.bytes += plan.weight_bytes();
                self.layers.prepared.insert(key, plan.clone());
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

    /// The factor and the summand of each channel that a chain's maps come to.
    pub(super) fn maps(&self, chain: &Chain, channels: usize) -> (Vec<f64>, Vec<f64>) {
        compose(self.graph, &chain.maps, channels, |id| self.layers.weight(id))
    }

    /// Weights and bias with a chain's maps multiplied in, in f64 and rounded once.
    pub(super) fn folded(
        &self,
        shape: &ConvShape,
        weight: ParamId,
        bias: Option<ParamId>,
        (scale, offset): &(Vec<f64>, Vec<f64>),
    ) -> (Vec<f32>, Vec<f32>) {
        let raw = self.layers.weight(weight);
        let taps = shape.taps();
        let output = |i: usize| match shape.kind {
            ConvKind::Forward => i / (raw.len() / shape.out_channels),
            ConvKind::Transposed => i / taps % shape.out_channels,
        };
        let weight = raw.iter().enumerate().map(|(i, &w)| (f64::from(w) * scale[output(i)]) as f32).collect();
        let bias = (0..shape.out_channels)
            .map(|c| (bias.map_or(0.0, |b| f64::from(self.layers.weight(b)[c])) * scale[c] + offset[c]) as f32)
            .collect();
        (weight, bias)
    }
}
