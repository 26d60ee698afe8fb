//! The graph's operations, written as TensorFlow's.

use super::emit::{Emit, INDEX, per_axis, word};
use super::proto::{Node, Shape, Value, kind};
use super::{GraphDefError, INPUT, OUTPUT};
use crate::CheckpointLayout::Hwio;
use crate::graph::{
    self, Conv, Correlation, Deconv, Filter, FlowOrder, Frame, Graph, Grid, NodeId, Op, ParamId, Size, Smooth, Warp,
    WarpBorder,
};
use crate::weights::Weights;

pub(super) fn lower(
    graph: &Graph,
    weights: &Weights,
    shapes: &[graph::Shape],
    size: Size,
) -> Result<Vec<Node>, GraphDefError> {
    let unsupported = |what: &str| GraphDefError::Unsupported(what.into());
    let flow = graph.flow.ok_or_else(|| unsupported("no flow"))?;
    let unit = unit_frames(graph).ok_or_else(|| unsupported("another input than both frames as RGB / 255"))?;
    let mut lower = Lower { emit: Emit::default(), graph, weights, shapes };
    let sides = [1, 2, size.height, size.width, 3];
    let attributes = [("dtype", Value::Type(kind::FLOAT)), ("shape", Value::Shape(Shape::of(&sides)))];
    lower.emit.named(INPUT, "Placeholder", &[], &attributes);
    // Both frames as a batch.
    lower.emit.begin(&graph.node(unit).name);
    lower.emit.reshape(INPUT, &sides[1..]);
    lower.emit.rename_last(&graph.node(unit).name);
    for id in (unit.0 + 1..graph.nodes.len() as u32).map(NodeId) {
        lower.node(id)?;
    }
    let flow = &graph.node(flow).name;
    lower.emit.named(OUTPUT, "Identity", &[flow.as_str()], &[("T", Value::Type(kind::FLOAT))]);
    Ok(lower.emit.nodes)
}

/// The value that is both frames stacked, divided by 255.
fn unit_frames(graph: &Graph) -> Option<NodeId> {
    let frame = |id: &NodeId, frame: Frame| graph.node(*id).op == Op::Frame(frame);
    let is_unit = |node: &graph::Node| match (&node.op, &node.inputs[..]) {
        (Op::Affine { scale, offset }, [stack]) => {
            let stack = graph.node(*stack);
            let frames = matches!(&stack.inputs[..], [a, b] if frame(a, Frame::First) && frame(b, Frame::Second));
            stack.op == Op::Stack && frames && scale[..] == [1.0 / 255.0] && offset.iter().all(|&o| o == 0.0)
        }
        _ => false,
    };
    graph.nodes.iter().position(is_unit).map(|i| NodeId(i as u32))
}

struct Lower<'a> {
    emit: Emit,
    graph: &'a Graph,
    weights: &'a Weights,
    shapes: &'a [graph::Shape],
}

impl Lower<'_> {
    /// `[N, H, W, C]`
    fn sides(&self, id: NodeId) -> [usize; 4] {
        let [n, c, h, w] = self.shapes[id.0 as usize];
        [n, h, w, c]
    }

    fn node(&mut self, id: NodeId) -> Result<(), GraphDefError> {
        let graph = self.graph;
        let node = graph.node(id);
        self.emit.begin(&node.name);
        let inputs: Vec<&str> = node.inputs.iter().map(|&input| graph.node(input).name.as_str()).collect();
        let unsupported = |what: &str| Err(GraphDefError::Unsupported(format!("{what} (`{}`)", node.name)));
        match &node.op {
            Op::Part { index, .. } => {
                let sides = self.sides(id);
                self.emit.slice(inputs[0], &[index * sides[0], 0, 0, 0], &sides);
            }
            Op::Conv(conv) if conv.groups == 1 => self.conv(conv, inputs[0], self.sides(node.inputs[0])),
            Op::Deconv(deconv) => self.deconv(deconv, inputs[0], self.sides(id)),
            Op::LeakyRelu { slope } => {
                self.emit.op("LeakyRelu", &inputs, &[("alpha", Value::Float(*slope))]);
            }
            Op::Smooth(Smooth::Sigmoid) => {
                self.emit.op("Sigmoid", &inputs, &[]);
            }
            Op::Smooth(Smooth::Tanh) => {
                self.emit.op("Tanh", &inputs, &[]);
            }
            Op::Product => {
                self.emit.mul(inputs[0], inputs[1]);
            }
            Op::Lerp => {
                let change = self.emit.sub(inputs[1], inputs[0]);
                let part = self.emit.mul(inputs[2], &change);
                self.emit.add(inputs[0], &part);
            }
            Op::Concat => {
                self.emit.concat(&inputs);
            }
            Op::Add => {
                self.emit.add(inputs[0], inputs[1]);
            }
            Op::Affine { scale, offset } => {
                let factor = self.emit.floats(&[scale.len()], scale);
                let scaled = self.emit.mul(inputs[0], &factor);
                if offset.iter().any(|&o| o != 0.0) {
                    let summand = self.emit.floats(&[offset.len()], offset);
                    self.emit.add(&scaled, &summand);
                }
            }
            Op::Correlation(correlation) => {
                self.correlation(*correlation, [inputs[0], inputs[1]], self.sides(node.inputs[0]));
            }
            Op::Warp(warp) if warp.border == WarpBorder::Replicate => {
                self.warp(*warp, [inputs[0], inputs[1]], self.sides(node.inputs[0]));
            }
            Op::Resize { filter, grid, .. } | Op::ToOutput { filter, grid } => {
                let [_, height, width, _] = self.sides(id);
                let size = self.emit.sides(&[height, width]);
                let (aligned, half) = match (filter, grid) {
                    // Whatever the grid, the pixel whose area a sample lies in.
                    (Filter::Nearest, _) | (Filter::Bilinear, Grid::Asymmetric) => (false, false),
                    (Filter::Bilinear, Grid::AlignCorners) => (true, false),
                    (Filter::Bilinear, Grid::HalfPixel) => (false, true),
                };
                let op = if *filter == Filter::Nearest { "ResizeNearestNeighbor" } else { "ResizeBilinear" };
                let mut attributes = vec![("align_corners", Value::Flag(aligned))];
                // TensorFlow 1.12 does not know the attribute.
                if half {
                    attributes.push(("half_pixel_centers", Value::Flag(true)));
                }
                self.emit.op(op, &[inputs[0], &size], &attributes);
            }
            Op::Conv(_) => return unsupported("a depthwise convolution"),
            Op::Warp(_) => return unsupported("a warp that does not repeat the border"),
            Op::BatchNorm(_) => return unsupported("batch norm"),
            Op::Frame(_) | Op::Stack | Op::Channels(_) | Op::Sub | Op::Zeros { .. } => {
                return unsupported("frames or channels in another order");
            }
            Op::ChannelMean | Op::ChannelNorm { .. } | Op::Moments(_) | Op::Standardise { .. } => {
                return unsupported("a normalisation");
            }
            Op::Lookup(_) => return unsupported("the lookup in all products"),
            Op::ConvexUpsample { .. } => return unsupported("convex upsampling"),
            Op::Smooth(Smooth::Gelu) => return unsupported("GELU"),
            Op::InstanceNorm { .. } | Op::LayerNorm(_) => {
                return unsupported("a normalisation over pixels or channels");
            }
            Op::ChannelScale { .. } => return unsupported("a factor for each channel that is trained"),
            Op::AveragePool { .. } => return unsupported("average pooling"),
            Op::Attention | Op::Coordinates { .. } => return unsupported("attention"),
            Op::Detach => return unsupported("a value without gradient"),
        }
        self.emit.rename_last(&node.name);
        Ok(())
    }

    /// A parameter as a constant of its name, in TensorFlow's order.
    fn param(&mut self, id: ParamId) -> String {
        let param = self.graph.param(id);
        if !self.emit.nodes.iter().any(|node| node.name == param.name) {
            let values = Hwio.to_stored(&param.shape, self.weights.get(id));
            self.emit.variable(&param.name, &Hwio.stored_shape(&param.shape), &values);
        }
        param.name.clone()
    }

    fn bias(&mut self, x: String, bias: Option<ParamId>) {
        if let Some(bias) = bias {
            let bias = self.param(bias);
            self.emit.op("BiasAdd", &[&x, &bias], &[("data_format", word("NHWC"))]);
        }
    }

    fn conv(&mut self, conv: &Conv, x: &str, [_, height, width, _]: [usize; 4]) {
        let weight = self.param(conv.weight);
        let pads = conv.padding;
        let pads = [pads.top, pads.bottom, pads.left, pads.right];
        // What TensorFlow's `SAME` pads: as little as gives ceil(side / stride), the odd one behind.
        let same = |side: usize, kernel: usize| {
            let taps = (kernel - 1) * conv.dilation + 1;
            let total = ((side.div_ceil(conv.stride) - 1) * conv.stride + taps).saturating_sub(side);
            [total / 2, total - total / 2]
        };
        let is_same = pads[..2] == same(height, conv.kernel[0]) && pads[2..] == same(width, conv.kernel[1]);
        let padded = if is_same || pads == [0; 4] { x.to_string() } else { self.emit.pad(x, pads) };
        let attributes = [
            ("strides", per_axis(conv.stride)),
            ("dilations", per_axis(conv.dilation)),
            ("padding", word(if is_same { "SAME" } else { "VALID" })),
            ("data_format", word("NHWC")),
        ];
        let y = self.emit.op("Conv2D", &[&padded, &weight], &attributes);
        self.bias(y, conv.bias);
    }

    fn deconv(&mut self, deconv: &Deconv, x: &str, sides: [usize; 4]) {
        let weight = self.param(deconv.weight);
        let sides = self.emit.sides(&sides);
        let attributes = [
            ("strides", per_axis(2)),
            ("dilations", per_axis(1)),
            ("padding", word("SAME")),
            ("data_format", word("NHWC")),
        ];
        let y = self.emit.op("Conv2DBackpropInput", &[&sides, &weight, x], &attributes);
        self.bias(y, deconv.bias);
    }

    fn correlation(&mut self, correlation: Correlation, [first, second]: [&str; 2], sides: [usize; 4]) {
        // What the stride reaches.
        let max = correlation.max_displacement - correlation.max_displacement % correlation.stride;
        let padded = self.emit.pad(second, [max; 4]);
        let channels = self.emit.ints(&[3]);
        let mut costs = Vec::new();
        for dy in (0..=2 * max).step_by(correlation.stride) {
            for dx in (0..=2 * max).step_by(correlation.stride) {
                let shifted = self.emit.slice(&padded, &[0, dy, dx, 0], &sides);
                let product = self.emit.mul(first, &shifted);
                let attributes = [("Tidx", INDEX), ("keep_dims", Value::Flag(true))];
                costs.push(self.emit.op("Mean", &[&product, &channels], &attributes));
            }
        }
        let costs: Vec<&str> = costs.iter().map(String::as_str).collect();
        self.emit.concat(&costs);
    }

    /// A warp of one image: four pixels for each, gathered from the list of all.
    fn warp(&mut self, warp: Warp, [image, flow]: [&str; 2], [_, height, width, channels]: [usize; 4]) {
        let emit = &mut self.emit;
        let (u, v, sign) = match warp.order {
            FlowOrder::Uv => (0, 1, 1.0),
            FlowOrder::Vu => (1, 0, 1.0),
            FlowOrder::NegatedVu => (1, 0, -1.0),
        };
        let line = |length: usize| (0..length).map(|i| i as f32).collect::<Vec<_>>();
        let (columns, rows) =
            (emit.floats(&[1, 1, width, 1], &line(width)), emit.floats(&[1, height, 1, 1], &line(height)));
        let (zero, one) = (emit.float(0.0), emit.float(1.0));
        let scale = emit.float(sign * warp.scale);
        let mut axis = |channel: usize, grid: &str, length: usize| {
            let part = emit.slice(flow, &[0, 0, 0, channel], &[1, height, width, 1]);
            let moved = emit.mul(&part, &scale);
            let at = emit.add(&moved, grid);
            // A point beyond the border is the border's.
            let last = emit.float(length as f32 - 1.0);
            let at = emit.op("Maximum", &[&at, &zero], &[]);
            let at = emit.op("Minimum", &[&at, &last], &[]);
            let low = emit.op("Floor", &[&at], &[]);
            let next = emit.add(&low, &one);
            let high = emit.op("Minimum", &[&next, &last], &[]);
            let high_weight = emit.sub(&at, &low);
            let low_weight = emit.sub(&one, &high_weight);
            let types = [("SrcT", Value::Type(kind::FLOAT)), ("DstT", INDEX)];
            [(low, low_weight), (high, high_weight)].map(|(at, weight)| (emit.node("Cast", &[&at], &types), weight))
        };
        let (x, y) = (axis(u, &columns, width), axis(v, &rows, height));
        let pixels = emit.reshape(image, &[height * width, channels]);
        let (row, first) = (emit.int(width as i32), emit.int(0));
        let types = [("Tparams", Value::Type(kind::FLOAT)), ("Tindices", INDEX), ("Taxis", INDEX)];
        let mut sum: Option<String> = None;
        for (line, across) in &y {
            let start = emit.node("Mul", &[line, &row], &[("T", INDEX)]);
            for (column, along) in &x {
                let place = emit.node("Add", &[&start, column], &[("T", INDEX)]);
                let sides = emit.sides(&[1, height, width]);
                let place = emit.node("Reshape", &[&place, &sides], &[("T", INDEX), ("Tshape", INDEX)]);
                let taken = emit.node("GatherV2", &[&pixels, &place, &first], &types);
                let weight = emit.mul(across, along);
                let part = emit.mul(&taken, &weight);
                sum = Some(match sum {
                    None => part,
                    Some(sum) => emit.add(&sum, &part),
                });
            }
        }
    }
}
