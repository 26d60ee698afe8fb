//! Depthwise convolutions, alone or with the 1x1 convolution that follows.

use std::sync::Arc;

use ferroflow_kernels::{
    LANES,
    conv::ConvShape,
    depthwise::{Depthwise, DepthwisePlan, LargeDepthwise, LargeDepthwisePlan, Pointwise, SeparablePlan},
};
use ferroflow_net::{Op, graph::Conv};

use super::{compile::Compiler, fixed::FixedLayers, fuse::Chain, shapes::conv_shape, step::Kernel, value::Value};

impl<W: AsRef<[f32]>> Compiler<'_, FixedLayers<'_, W>> {
    /// A depthwise convolution of another size than 3x3, and what its chain adds.
    pub(super) fn large_depthwise(&mut self, chain: &Chain, c: &Conv) -> Value {
        let x = self.dense(self.graph.node(chain.head).inputs[0]);
        let shape = conv_shape(c);
        let (weight, bias) = self.folded(&shape, c.weight, c.bias, &self.maps(chain, c.out_channels));
        let layer = LargeDepthwise {
            input: x.extent,
            lanes: &x.lanes,
            kernel: c.kernel,
            padding: shape.padding,
            weight: &weight,
            bias: Some(&bias),
            activation: chain.activation(),
        };
        let plan = LargeDepthwisePlan::new(&layer, self.options.isa);
        self.layers.bytes += plan.weight_bytes();
        let out = self.fresh(self.extent(chain.tail), c.out_channels);
        let flop = shape.flop(x.extent) / c.groups as f64;
        self.push(chain.tail, Kernel::LargeDepthwise(Arc::new(plan)), flop, vec![x], &out);
        out
    }

    /// A depthwise convolution and what its chain adds.
    pub(super) fn depthwise(&mut self, chain: &Chain, c: &Conv) -> Value {
        let input = self.graph.node(chain.head).inputs[0];
        // A first layer takes the frames as they are.
        let pixels = if chain.pointwise.is_some() { self.few_pixels(input) } else { None };
        let (x, pixel) = match pixels {
            Some(_) => {
                let lanes = (0..c.in_channels as u32).map(Some).collect();
                (Value { extent: self.extent(input), planes: Vec::new(), lanes }, c.in_channels)
            }
            None => (self.blocks(input), LANES),
        };
        let shape = conv_shape(c);
        let (weight, bias) = self.folded(&shape, c.weight, c.bias, &self.maps(chain, c.out_channels));
        let doubled: Vec<bool> = (0..x.planes.len()).map(|i| x.is_doubled(i)).collect();
        let layer = Depthwise {
            input: x.extent,
            lanes: &x.lanes,
            stride: c.stride,
            padding: shape.padding,
            weight: &weight,
            bias: Some(&bias),
            activation: chain.activation(),
            doubled: &doubled,
            pixel,
        };
        let flop = shape.flop(x.extent) / c.groups as f64;
        let extent = self.extent(chain.tail);
        let Some(pointwise) = &chain.pointwise else {
            let plan = DepthwisePlan::new(&layer, self.options.isa);
            self.layers.bytes += 4 * (weight.len() + bias.len());
            let mut out = self.fresh(extent, x.lanes.len());
            out.lanes.clone_from(&x.lanes);
            self.push(chain.tail, Kernel::Depthwise(Arc::new(plan)), flop, vec![x], &out);
            return out;
        };
        let Op::Conv(p) = &self.graph.node(pointwise.head).op else { unreachable!("a pointwise chain starts so") };
        let pointwise_shape = ConvShape { in_channels: p.in_channels, ..conv_shape(p) };
        let (weight, bias) = self.folded(&pointwise_shape, p.weight, p.bias, &self.maps(pointwise, p.out_channels));
        let second = Pointwise {
            out_channels: p.out_channels,
            weight: &weight,
            bias: Some(&bias),
            activation: pointwise.activation(),
        };
        let (isa, bf16) = (self.options.isa, self.options.bf16);
        let plan = SeparablePlan::new(&layer, &second, isa, bf16, rayon::current_num_threads());
        self.layers.bytes += plan.weight_bytes();
        let flop = flop + pointwise_shape.flop(extent);
        let out = self.fresh(extent, p.out_channels);
        let plan = Arc::new(plan);
        let (kernel, inputs) = match pixels {
            Some(parts) => (Kernel::SeparableFrames(plan, parts), Vec::new()),
            None => (Kernel::Separable(plan), vec![x]),
        };
        self.push(chain.tail, kernel, flop, inputs, &out);
        out
    }
}
