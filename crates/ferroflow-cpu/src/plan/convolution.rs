//! Convolutions, with the operations that are folded into them.

use std::sync::Arc;

use ferroflow_kernels::conv::{self, Activation, ConvKind, ConvPlan, ConvShape, Layer};
use ferroflow_kernels::{LANES, lane_map};
use ferroflow_net::{NodeId, Op, ParamId};

use super::{
    compile::Compiler,
    fixed::{FixedLayers, LayerKey, Once},
    fuse::{Chain, compose},
    options::PlanError,
    shapes::{GROUPS, layer_of},
    step::Kernel,
    value::{Content, Plane, Value},
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
    /// The outputs that are computed, if not all.
    picked: Option<Vec<u32>>,
    /// The 1x1 layer whose outputs a 1x1 layer reads, which is computed with it as one.
    before: Option<Box<Parameters>>,
    /// The layer of the same input whose outputs follow.
    beside: Option<Box<Parameters>>,
}

impl Parameters {
    /// The same without a bias and summands.
    fn without_bias(&self) -> Self {
        let Self { weight, maps: (factors, summands), picked, before, beside, .. } = self;
        let inner = |other: &Option<Box<Self>>| other.as_ref().map(|other| Box::new(other.without_bias()));
        let maps = (factors.clone(), vec![0.0; summands.len()]);
        let (before, beside) = (inner(before), inner(beside));
        Self { weight: *weight, bias: None, maps, picked: picked.clone(), before, beside }
    }

    /// The bits of the maps.
    fn map_bits(&self) -> [Vec<u64>; 2] {
        [&self.maps.0, &self.maps.1].map(|map| map.iter().map(|v| v.to_bits()).collect())
    }
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
        if let Some(second) = &chain.pointwise {
            return Ok(self.composed(chain, second));
        }
        let x = match self.narrow(node.inputs[0]) {
            Some(narrow) => narrow,
            None => self.blocks(node.inputs[0]),
        };
        let (maps, picked) = (self.maps(chain, shape.out_channels), chain.picked.clone());
        let shape = ConvShape { out_channels: picked.as_ref().map_or(shape.out_channels, Vec::len), ..shape };
        let mut layer = Parameters { weight, bias, maps, picked, before: None, beside: None };
        let mut shape = shape;
        if let Some(beside) = &chain.beside
            && let Some((_, weight, bias)) = layer_of(&self.graph.node(beside.head).op)
        {
            let maps = self.maps(beside, shape.out_channels);
            layer.beside = Some(Box::new(Parameters { weight, bias, maps, picked: None, before: None, beside: None }));
            shape.out_channels *= 2;
        }
        let (x, shape, channels, residual) = match self.split(chain, &x) {
            None => (x, shape, Vec::new(), chain.residual.map(|residual| self.dense(residual))),
            Some([fixed, changing]) => {
                let once = self.once(chain, &layer, shape, fixed);
                let shape = ConvShape { in_channels: changing.channels.len(), ..shape };
                (changing.value, shape, changing.channels, Some(once))
            }
        };
        let plan = self.prepared(&layer, shape, &x, &channels, chain.activation());
        let flop = shape.flop(x.extent);
        let inputs = std::iter::once(x).chain(residual).collect();
        let out = self.fresh(self.extent(chain.tail), shape.out_channels);
        self.push(chain.tail, Kernel::Conv(plan), flop, inputs, &out);
        let Some(beside) = &chain.beside else { return Ok(out) };
        // Whole blocks of either.
        let (planes, lanes) = (out.planes.len() / 2, lane_map(&[shape.out_channels / 2]));
        let half = |planes: &[Plane]| Value { extent: out.extent, planes: planes.to_vec(), lanes: lanes.clone() };
        self.contents[beside.tail.0 as usize] = Some(Content::Blocks(half(&out.planes[planes..])));
        Ok(half(&out.planes[..planes]))
    }

    /// Two 1x1 convolutions as one, of the inputs of the first and of what is added to its outputs.
    fn composed(&mut self, chain: &Chain, second: &Chain) -> Value {
        let parameters = |compiler: &Self, chain: &Chain, before| {
            let Some((shape, weight, bias)) = layer_of(&compiler.graph.node(chain.head).op) else {
                unreachable!("a 1x1 convolution")
            };
            let maps = compiler.maps(chain, shape.out_channels);
            (shape, Parameters { weight, bias, maps, picked: None, before, beside: None })
        };
        let (before, first) = parameters(self, chain, None);
        let (after, layer) = parameters(self, second, Some(Box::new(first)));
        let mut x = self.blocks(self.graph.node(chain.head).inputs[0]);
        let mut shape = ConvShape { in_channels: before.in_channels, ..after };
        if let Some(added) = chain.residual {
            let added = self.blocks(added);
            x = Value::concat(&[(&x, before.in_channels), (&added, before.out_channels)]);
            shape.in_channels += before.out_channels;
        }
        let plan = self.prepared(&layer, shape, &x, &[], second.activation());
        let flop = shape.flop(x.extent);
        let out = self.fresh(self.extent(chain.tail), shape.out_channels);
        self.push(chain.tail, Kernel::Conv(plan), flop, vec![x], &out);
        out
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
        let key = LayerKey {
            weight: layer.weight,
            bias: layer.bias,
            channels: channels.to_vec(),
            picked: layer.picked.clone(),
            maps: layer.map_bits(),
            before: layer.before.as_ref().map(|before| (before.weight, before.bias, before.map_bits())),
            beside: layer.beside.as_ref().map(|beside| (beside.weight, beside.bias)),
            shape,
            input: x.extent,
            lanes: x.lanes.clone(),
            activation: match activation {
                Activation::Smooth(curve) => ([0; 2], Some(curve)),
                Activation::AroundSum { before, after } => ([before, after].map(f32::to_bits), None),
                Activation::Linear | Activation::LeakyRelu(_) => ([1.0, activation.slope()].map(f32::to_bits), None),
            },
        };
        if let Some(plan) = self.layers.prepared.get(&key) {
            return plan.clone();
        }
        let (mut weight, mut bias) = match &layer.before {
            Some(before) => self.multiplied(layer, before, &shape),
            None => {
                let outputs = layer.maps.0.len();
                self.folded(&ConvShape { out_channels: outputs, ..shape }, layer.weight, layer.bias, &layer.maps)
            }
        };
        if let Some(beside) = &layer.beside {
            let outputs = beside.maps.0.len();
            let (more, biases) =
                self.folded(&ConvShape { out_channels: outputs, ..shape }, beside.weight, beside.bias, &beside.maps);
            weight.extend(more);
            bias.extend(biases);
        }
        if let Some(picked) = &layer.picked {
            let len = weight.len() / layer.maps.0.len();
            weight = picked.iter().flat_map(|&output| &weight[output as usize * len..][..len]).copied().collect();
            bias = picked.iter().map(|&output| bias[output as usize]).collect();
        }
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
        let plain = layer.without_bias();
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
        if conv.groups != 1 || chain.residual.is_some() || chain.picked.is_some() || x.lanes.len() < LANES {
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

    /// Weights and bias of a 1x1 layer and the one before it as one: of the inputs of the first, and behind them, where `shape` has
    /// them, of what is added to its outputs.
    fn multiplied(&self, layer: &Parameters, before: &Parameters, shape: &ConvShape) -> (Vec<f32>, Vec<f32>) {
        let between = before.maps.0.len();
        let part = |outputs: usize, parameters: &Parameters| {
            let inputs = self.layers.weight(parameters.weight).len() / outputs;
            let shape = ConvShape { in_channels: inputs, out_channels: outputs, ..*shape };
            (inputs, self.folded(&shape, parameters.weight, parameters.bias, &parameters.maps))
        };
        let (inputs, (first, first_bias)) = part(between, before);
        let (_, (second, mut bias)) = part(shape.out_channels, layer);
        let added = shape.in_channels > inputs;
        let mut weight = Vec::with_capacity(shape.out_channels * shape.in_channels);
        for (factors, bias) in second.chunks_exact(between).zip(&mut bias) {
            let mut sums = vec![0.0f64; inputs];
            let mut sum = f64::from(*bias);
            for ((&factor, row), &first_bias) in factors.iter().zip(first.chunks_exact(inputs)).zip(&first_bias) {
                let factor = f64::from(factor);
                sums.iter_mut().zip(row).for_each(|(sum, &w)| *sum += factor * f64::from(w));
                sum += factor * f64::from(first_bias);
            }
            *bias = sum as f32;
            weight.extend(sums.into_iter().map(|sum| sum as f32));
            weight.extend(factors.iter().filter(|_| added));
        }
        (weight, bias)
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
