//! Convolutions, with the operations that are folded into them.

use std::sync::Arc;

use ferroflow_kernels::LANES;
use ferroflow_kernels::conv::{self, Activation, ConvKind, ConvPlan, ConvShape, Layer};
use ferroflow_net::{NodeId, Op, ParamId};

use super::{
    compile::Compiler,
    fixed::{FixedLayers, LayerKey, Once},
    fuse::{Chain, compose},
    options::PlanError,
    shapes::{GROUPS, layer_of},
    step::Kernel,
    value::Value,
};

/// Iterations that must have a part of their input in common, and channels of that part, for it to be summed apart: the result
/// is written and read once more.
const ITERATIONS: usize = 3;
const SHARED: usize = 64;

/// What a layer reads beside its input: the weights, and a factor and a summand for each output.
struct Parameters {
    weight: ParamId,
    bias: Option<ParamId>,
    maps: (Vec<f64>, Vec<f64>),
}

/// Some blocks of an input, and the channels of the weights that each of theirs is.
struct Part {
    value: Value,
    channels: Vec<u32>,
}

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
        let layer = Parameters { weight, bias, maps: self.maps(chain, shape.out_channels) };
        let (x, shape, channels, residual) = match self.split(chain, &x) {
            None => (x, shape, Vec::new(), chain.residual.map(|residual| self.dense(residual))),
            Some([fixed, changing]) => {
                let once = self.once(chain, &layer, shape, fixed);
                let shape = ConvShape { in_channels: changing.channels.len(), ..shape };
                (changing.value, shape, changing.channels, Some(once))
            }
        };
        let plan = self.prepared(&layer, shape, &x, &channels, chain.activation);
        let flop = shape.flop(x.extent);
        let inputs = std::iter::once(x).chain(residual).collect();
        let out = self.fresh(self.extent(chain.tail), shape.out_channels);
        self.push(chain.tail, Kernel::Conv(plan), flop, inputs, &out);
        Ok(out)
    }

    /// The layer of `shape` that reads these channels of the weights (all of them if there are none) from `x`.
    fn prepared(
        &mut self,
        layer: &Parameters,
        shape: ConvShape,
        x: &Value,
        channels: &[u32],
        activation: Activation,
    ) -> Arc<ConvPlan> {
        let Parameters { weight, bias, maps } = layer;
        let key = LayerKey {
            weight: *weight,
            bias: *bias,
            channels: channels.to_vec(),
            maps: [&maps.0, &maps.1].map(|map| map.iter().map(|v| v.to_bits()).collect()),
            shape,
            input: x.extent,
            lanes: x.lanes.clone(),
            activation: match activation {
                Activation::Smooth(curve) => (0, Some(curve)),
                linear => (linear.slope().to_bits(), None),
            },
        };
        if let Some(plan) = self.layers.prepared.get(&key) {
            return plan.clone();
        }
        let (mut weight, bias) = self.folded(&shape, *weight, *bias, maps);
        if !channels.is_empty() {
            let taps = shape.taps();
            let outputs = weight.chunks_exact(weight.len() / shape.out_channels);
            weight = outputs
                .flat_map(|output| channels.iter().flat_map(|&c| &output[c as usize * taps..][..taps]))
                .copied()
                .collect();
        }
        let layer = Layer { shape, input: x.extent, lanes: &x.lanes, weight: &weight, bias: Some(&bias), activation };
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

    /// What a layer makes of the part of its input that is the same in every iteration, without bias: computed by the first.
    fn once(&mut self, chain: &Chain, layer: &Parameters, shape: ConvShape, fixed: Part) -> Value {
        let known =
            self.layers.once.iter().find(|known| {
                (known.weight, &known.input) == (layer.weight, &fixed.value) && known.scale == layer.maps.0
            });
        if let Some(known) = known {
            return known.output.clone();
        }
        let shape = ConvShape { in_channels: fixed.channels.len(), ..shape };
        let maps = (layer.maps.0.clone(), vec![0.0; shape.out_channels]);
        let plain = Parameters { weight: layer.weight, bias: None, maps };
        let plan = self.prepared(&plain, shape, &fixed.value, &fixed.channels, Activation::Linear);
        let out = self.fresh(self.extent(chain.head), shape.out_channels);
        let flop = shape.flop(fixed.value.extent);
        self.push(chain.head, Kernel::Conv(plan), flop, vec![fixed.value.clone()], &out);
        let (input, scale) = (fixed.value, plain.maps.0);
        self.layers.once.push(Once { weight: layer.weight, scale, input, output: out.clone() });
        out
    }

    /// The input of a convolution in two parts, that which iterations have in common and that which changes, if it is worth
    /// while: the sum of the second begins with what the first, computed once, comes to.
    fn split(&self, chain: &Chain, x: &Value) -> Option<[Part; 2]> {
        let node = self.graph.node(chain.head);
        let Op::Conv(conv) = &node.op else { return None };
        if conv.groups != 1 || chain.residual.is_some() || x.lanes.len() < LANES {
            return None;
        }
        let own = self.leaves(node.inputs[0], 0);
        if own.len() < 2 {
            return None;
        }
        let others = self.graph.nodes.iter().filter(|other| other.op == node.op);
        let others: Vec<_> = others.map(|other| self.leaves(other.inputs[0], 0)).collect();
        let is_fixed =
            |leaf: &&(NodeId, usize)| others.iter().filter(|other| other.contains(leaf)).count() >= ITERATIONS;
        let mut fixed = vec![false; conv.in_channels];
        for &(id, first) in own.iter().filter(is_fixed) {
            fixed[first..][..self.channels(id)].fill(true);
        }
        let mut parts = [(); 2].map(|()| Part {
            value: Value { extent: x.extent, planes: Vec::new(), lanes: Vec::new() },
            channels: Vec::new(),
        });
        for (plane, lanes) in x.blocks() {
            // A block that holds something of both changes.
            let changes = lanes.iter().flatten().any(|&c| !fixed[c as usize]);
            let Part { value, channels } = &mut parts[usize::from(changes)];
            value.planes.push(plane);
            for lane in lanes {
                value.lanes.push(lane.map(|c| {
                    channels.push(c);
                    channels.len() as u32 - 1
                }));
            }
        }
        let worth = parts[0].channels.len() >= SHARED && !parts[1].channels.is_empty();
        worth.then_some(parts)
    }

    /// The values that a concatenation consists of, with their first channels in it.
    fn leaves(&self, id: NodeId, first: usize) -> Vec<(NodeId, usize)> {
        let node = self.graph.node(id);
        if node.op != Op::Concat {
            return vec![(id, first)];
        }
        let mut leaves = Vec::new();
        let mut at = first;
        for &input in &node.inputs {
            leaves.extend(self.leaves(input, at));
            at += self.channels(input);
        }
        leaves
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
