//! What it costs to run a network: operations, parameters, memory for the values between layers.

use super::{Graph, NodeId, Op, Shape, ShapeError, Sizes, Smooth};

/// The cost of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Floating-point operations of each node: multiplications and additions, convolutions counted directly.
    pub node_flop: Vec<f64>,
    /// Their sum.
    pub flop: f64,
    /// Bytes of all parameters as f32, running statistics included.
    pub parameter_bytes: usize,
    /// Most bytes that values alive at one time take as f32. Concatenations, slices and stacks are views and take none.
    pub activation_bytes: usize,
}

impl Graph {
    /// The cost of the flow at these sizes. What only training reads, as the finer flows of iterations before the last, is not
    /// computed for it and costs nothing.
    ///
    /// # Errors
    /// If the network does not take these sizes.
    pub fn cost(&self, sizes: &Sizes) -> Result<Cost, ShapeError> {
        let shapes = self.shapes(sizes)?;
        let needed = self.needed();
        let node_flop: Vec<f64> = self
            .nodes
            .iter()
            .zip(&shapes)
            .zip(&needed)
            .map(|((node, &output), &needed)| {
                let inputs: Vec<Shape> = node.inputs.iter().map(|&NodeId(i)| shapes[i as usize]).collect();
                if needed { flop(&node.op, &inputs, output) } else { 0.0 }
            })
            .collect();
        Ok(Cost {
            flop: node_flop.iter().sum(),
            node_flop,
            parameter_bytes: 4 * self.params.iter().map(super::Param::len).sum::<usize>(),
            activation_bytes: self.peak(&shapes, &needed),
        })
    }

    /// Whether the flow depends on each node; without a flow, all of them count.
    fn needed(&self) -> Vec<bool> {
        let mut needed = vec![self.flow.is_none(); self.nodes.len()];
        if let Some(NodeId(flow)) = self.flow {
            needed[flow as usize] = true;
        }
        for i in (0..self.nodes.len()).rev().filter(|_| self.flow.is_some()) {
            if needed[i] {
                self.nodes[i].inputs.iter().for_each(|&NodeId(input)| needed[input as usize] = true);
            }
        }
        needed
    }

    /// Most bytes alive at one time when the needed nodes run in order and values are dropped after their last reader.
    fn peak(&self, shapes: &[Shape], needed: &[bool]) -> usize {
        // Views hold no memory of their own and keep alive what they look at.
        let mut owners: Vec<Vec<usize>> = Vec::with_capacity(self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            owners.push(if node.op.is_view() {
                node.inputs.iter().flat_map(|&NodeId(n)| owners[n as usize].clone()).collect()
            } else {
                vec![i]
            });
        }
        let mut last_use: Vec<usize> = (0..self.nodes.len()).collect();
        for (i, node) in self.nodes.iter().enumerate().filter(|&(i, _)| needed[i]) {
            for &NodeId(n) in &node.inputs {
                owners[n as usize].iter().for_each(|&owner| last_use[owner] = i);
            }
        }
        let mut dying: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (value, &at) in last_use.iter().enumerate() {
            dying[at].push(value);
        }
        let (mut alive, mut peak) = (0, 0);
        for (i, node) in self.nodes.iter().enumerate().filter(|&(i, _)| needed[i]) {
            let bytes = |i: usize| 4 * shapes[i].iter().product::<usize>();
            if !node.op.is_view() {
                alive += bytes(i);
            }
            peak = peak.max(alive);
            alive -= dying[i].iter().filter(|&&v| !self.nodes[v].op.is_view()).map(|&v| bytes(v)).sum::<usize>();
        }
        peak
    }
}

impl Op {
    /// Whether its value is a view of its inputs' memory, so that nothing is computed.
    pub fn is_view(&self) -> bool {
        match self {
            Self::Concat | Self::Stack | Self::Part { .. } | Self::Channels(_) | Self::Detach => true,
            Self::Frame(_)
            | Self::Conv(_)
            | Self::Deconv(_)
            | Self::BatchNorm(_)
            | Self::LeakyRelu { .. }
            | Self::Affine { .. }
            | Self::Add
            | Self::Sub
            | Self::ChannelMean
            | Self::ChannelNorm { .. }
            | Self::Correlation(_)
            | Self::Lookup(_)
            | Self::Warp(_)
            | Self::Resize { .. }
            | Self::ConvexUpsample { .. }
            | Self::ToOutput { .. }
            | Self::Moments(_)
            | Self::Standardise { .. }
            | Self::Smooth(_)
            | Self::Product
            | Self::Lerp
            | Self::InstanceNorm { .. }
            | Self::LayerNorm(_)
            | Self::ChannelScale { .. }
            | Self::AveragePool { .. }
            | Self::Attention
            | Self::Coordinates { .. }
            | Self::Zeros { .. } => false,
        }
    }
}

/// Operations of one node.
fn flop(op: &Op, inputs: &[Shape], output: Shape) -> f64 {
    let count = |shape: Shape| shape.iter().product::<usize>() as f64;
    let read: f64 = inputs.iter().map(|&s| count(s)).sum();
    let written = count(output);
    match op {
        Op::Conv(c) => {
            let taps = c.in_channels / c.groups * c.kernel[0] * c.kernel[1];
            written * (2 * taps + usize::from(c.bias.is_some())) as f64
        }
        // Each input value meets the 4 x 4 kernel of every output channel.
        Op::Deconv(d) => read * (2 * 16 * d.out_channels) as f64 + if d.bias.is_some() { written } else { 0.0 },
        Op::Correlation(_) => 2.0 * written * inputs[0][1] as f64,
        // Products with one neighbour more along each axis, between which each offset is interpolated.
        Op::Lookup(lookup) => {
            let products = (lookup.side() + 1).pow(2) as f64 / (lookup.side().pow(2)) as f64 * written;
            2.0 * products * inputs[0][1] as f64 + 7.0 * written
        }
        // Four neighbours, weighted and summed.
        Op::Warp(_) => 7.0 * written,
        Op::Resize { filter: super::Filter::Bilinear, .. } | Op::ToOutput { filter: super::Filter::Bilinear, .. } => {
            7.0 * written
        }
        // Of each fine pixel nine logits: less the largest, exponential, sum; then two components, weighed and summed; and
        // what divides them.
        Op::ConvexUpsample { .. } => (9.0 * (3.0 + 2.0 * 2.0) + 2.0) * written / 2.0,
        Op::BatchNorm(_) | Op::Affine { .. } | Op::Standardise { .. } => 2.0 * written,
        Op::LeakyRelu { .. } | Op::Add | Op::Sub | Op::Product | Op::ChannelScale { .. } => written,
        Op::Lerp => 3.0 * written,
        // An exponential by a polynomial of degree 6, and a division; GELU has two polynomials.
        Op::Smooth(Smooth::Sigmoid | Smooth::Tanh) => 20.0 * written,
        Op::Smooth(Smooth::Gelu) => 30.0 * written,
        // Mean, variance, and what is made of them.
        Op::InstanceNorm { .. } => 5.0 * written,
        Op::LayerNorm(_) => 7.0 * written,
        Op::AveragePool { .. } => read,
        // Of each pair of pixels two products of vectors, and an exponential.
        Op::Attention => {
            let [n, channels, h, w] = inputs[0];
            (n * h * w) as f64 * (h * w) as f64 * (2 * (channels + output[1]) + 20) as f64
        }
        Op::ChannelMean => read,
        Op::ChannelNorm { .. } | Op::Moments(_) => 2.0 * read,
        Op::Frame(_)
        | Op::Concat
        | Op::Stack
        | Op::Part { .. }
        | Op::Channels(_)
        | Op::Detach
        | Op::Coordinates { .. }
        | Op::Zeros { .. }
        | Op::Resize { filter: super::Filter::Nearest, .. }
        | Op::ToOutput { filter: super::Filter::Nearest, .. } => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn flownet_s_costs_what_is_published() {
        // 73.8 GFLOP at 448x1024: two operations a multiply-add, transposed convolutions included.
        let cost = Model::named("flownet2-s").unwrap().graph.cost(&Sizes::new(1, 448, 1024)).unwrap();
        assert!((cost.flop / 1e9 - 73.8).abs() < 1.0, "{}", cost.flop);
        assert_eq!(cost.parameter_bytes, 4 * 38_676_506);
    }

    #[test]
    fn operations_grow_with_the_area_and_memory_with_the_batch() {
        for name in ["pwcnet", "uflow", "lightflow", "flownet2"] {
            let graph = Model::named(name).unwrap().graph;
            let cost = |batch, h, w| graph.cost(&Sizes::new(batch, h, w)).unwrap();
            let (small, large, twice) = (cost(1, 192, 256), cost(1, 384, 512), cost(2, 192, 256));
            assert!((large.flop / small.flop - 4.0).abs() < 0.01, "{name}");
            assert!((twice.flop / small.flop - 2.0).abs() < 0.01, "{name}");
            assert_eq!(twice.activation_bytes, 2 * small.activation_bytes, "{name}");
            // No network needs all its values at once.
            let all: usize =
                graph.shapes(&Sizes::new(1, 192, 256)).unwrap().iter().map(|s| s.iter().product::<usize>()).sum();
            assert!(small.activation_bytes < 4 * all / 2, "{name}");
        }
    }
}
