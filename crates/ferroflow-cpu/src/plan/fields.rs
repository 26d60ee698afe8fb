//! Nodes that are computed pixel by pixel together with the node that reads them: see [`ferroflow_kernels::pixelwise`].

use std::collections::HashMap;

use ferroflow_kernels::{
    LANES,
    pixelwise::{Instruction, Program, Register},
    resize::Resize,
};
use ferroflow_net::{NodeId, Op, graph::Frame};

use super::{
    compile::{Compiler, Layers, axes, border, sampling},
    step::Kernel,
    value::{Pixel, Value},
};

/// Fields have few channels: every channel is a register.
const FEW: usize = 4;

/// A program that is being written.
#[derive(Default)]
struct Writer {
    program: Program,
    sources: Vec<Pixel>,
    inputs: Vec<Value>,
    written: HashMap<NodeId, Vec<Register>>,
}

impl<L: Layers> Compiler<'_, L> {
    /// Which nodes are fields, given which are plain functions of the frames.
    pub(super) fn field_nodes(&self, pixels: &[bool]) -> Vec<bool> {
        let mut fields: Vec<bool> = Vec::with_capacity(pixels.len());
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let field = |id: NodeId| fields[id.0 as usize];
            let pixel = |id: NodeId| pixels[id.0 as usize];
            let few = |id: NodeId| self.channels(id) <= FEW;
            // What a convolution computes is better summed as it is written.
            let convolved = |id: NodeId| matches!(self.graph.node(id).op, Op::Conv(_) | Op::Deconv(_));
            let operand = |id: NodeId| field(id) || pixel(id) || (few(id) && !convolved(id));
            let of = &node.inputs;
            // A stack's images are not those of the frames.
            let is = !pixels[i]
                && self.shapes[i][0] == self.sizes.batch
                && match &node.op {
                    Op::Resize { .. } => few(of[0]) && !field(of[0]) && !pixel(of[0]),
                    Op::Affine { .. } | Op::Channels(_) => field(of[0]),
                    Op::ChannelNorm { .. } => field(of[0]) || (pixel(of[0]) && few(of[0])),
                    Op::Add | Op::Sub => {
                        self.shape(of[0]) == self.shape(of[1])
                            && (field(of[0]) || field(of[1]))
                            && operand(of[0])
                            && operand(of[1])
                    }
                    Op::Warp(_) => pixel(of[0]) && few(of[0]) && self.frames_of(of[0]).len() == 1 && !pixel(of[1]),
                    Op::Concat => {
                        of.iter().any(|&id| field(id))
                            && of.iter().all(|&id| field(id) || pixel(id) || few(id))
                            && self.channels(NodeId(i as u32)) <= 2 * LANES
                    }
                    Op::Frame(_)
                    | Op::Conv(_)
                    | Op::Deconv(_)
                    | Op::BatchNorm(_)
                    | Op::LeakyRelu { .. }
                    | Op::Stack
                    | Op::Part { .. }
                    | Op::ChannelMean
                    | Op::Correlation(_)
                    | Op::Lookup(_)
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
                    | Op::Zeros { .. } => false,
                };
            fields.push(is);
        }
        fields
    }

    /// The frames that a plain function of the frames reads.
    fn frames_of(&self, id: NodeId) -> Vec<Frame> {
        let node = self.graph.node(id);
        match (&node.op, &node.inputs[..]) {
            (Op::Frame(frame), _) => vec![*frame],
            (Op::Sub, [x, _]) => self.frames_of(*x),
            (_, inputs) => {
                let mut frames: Vec<Frame> = inputs.iter().flat_map(|&i| self.frames_of(i)).collect();
                frames.sort_by_key(|f| *f == Frame::Second);
                frames.dedup();
                frames
            }
        }
    }

    /// Computes a field into blocks.
    pub(super) fn field(&mut self, id: NodeId) -> Value {
        let mut writer = Writer::default();
        let registers = self.registers(id, &mut writer);
        let out = self.fresh(self.extent(id), self.channels(id));
        let Writer { mut program, sources, inputs, .. } = writer;
        program.set_outputs(out.lanes.iter().map(|l| l.map(|c| registers[c as usize])).collect());
        self.push(id, Kernel::Pixelwise { program, sources }, 0.0, inputs, &out);
        out
    }

    /// The registers that hold a node's channels.
    fn registers(&mut self, id: NodeId, writer: &mut Writer) -> Vec<Register> {
        if let Some(registers) = writer.written.get(&id) {
            return registers.clone();
        }
        let registers = if !self.is_deferred(id) {
            let value = self.blocks(id);
            let input = writer.input(&value);
            (0..self.channels(id) as u32)
                .filter_map(|c| value.lane_of(c))
                .map(|lane| writer.program.push(Instruction::Load { input, lane }))
                .collect()
        } else if let [part] = &self.described[id.0 as usize][..] {
            let first = writer.sources.len();
            writer.sources.extend(part.iter().cloned());
            (first..writer.sources.len()).map(|s| writer.program.push(Instruction::Frame(s))).collect()
        } else {
            self.operation(id, writer)
        };
        writer.written.insert(id, registers.clone());
        registers
    }

    fn operation(&mut self, id: NodeId, writer: &mut Writer) -> Vec<Register> {
        let node = self.graph.node(id);
        let channels = self.channels(id);
        match &node.op {
            Op::Resize { filter, grid, .. } => {
                let value = self.blocks(node.inputs[0]);
                let input = writer.input(&value);
                let resize = Resize::new(value.extent, self.extent(id), sampling(*filter, *grid));
                let resize = writer.program.resize(resize);
                (0..channels as u32)
                    .filter_map(|c| value.lane_of(c))
                    .map(|lane| writer.program.push(Instruction::Enlarge { input, lane, resize }))
                    .collect()
            }
            Op::Warp(w) => {
                let flow = self.registers(node.inputs[1], writer);
                let axes = axes(w, [0, 1]);
                let first = writer.sources.len();
                writer.sources.extend(self.described[node.inputs[0].0 as usize].concat());
                let sources = first..writer.sources.len();
                let flow = [flow[axes.x_lane], flow[axes.y_lane]];
                let border = border(w.border);
                let to = writer.program.push(Instruction::Warp { sources, flow, scale: axes.scale, border });
                (to..to + channels).collect()
            }
            Op::Add | Op::Sub => {
                let factor = if node.op == Op::Add { 1.0 } else { -1.0 };
                let (a, b) = (self.registers(node.inputs[0], writer), self.registers(node.inputs[1], writer));
                a.into_iter().zip(b).map(|(a, b)| writer.program.push(Instruction::Combine { a, b, factor })).collect()
            }
            Op::Affine { scale, offset } => {
                let at = |v: &[f32], c: usize| if v.len() == 1 { v[0] } else { v[c] };
                let x = self.registers(node.inputs[0], writer);
                let affine = |(c, a)| Instruction::Affine { a, scale: at(scale, c), offset: at(offset, c) };
                x.into_iter().enumerate().map(|x| writer.program.push(affine(x))).collect()
            }
            Op::ChannelNorm { floor } => {
                let of = self.registers(node.inputs[0], writer);
                vec![writer.program.push(Instruction::Norm { of, floor: *floor })]
            }
            Op::Channels(picked) => {
                let x = self.registers(node.inputs[0], writer);
                picked.iter().map(|&c| x[c as usize]).collect()
            }
            Op::Concat => node.inputs.iter().flat_map(|&i| self.registers(i, writer)).collect(),
            Op::Frame(_)
            | Op::Conv(_)
            | Op::Deconv(_)
            | Op::BatchNorm(_)
            | Op::LeakyRelu { .. }
            | Op::Stack
            | Op::Part { .. }
            | Op::ChannelMean
            | Op::Correlation(_)
            | Op::Lookup(_)
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
            | Op::Zeros { .. } => unreachable!("`{}` is no field", node.name),
        }
    }
}

impl Writer {
    fn input(&mut self, value: &Value) -> usize {
        self.inputs.push(value.clone());
        self.inputs.len() - 1
    }
}
