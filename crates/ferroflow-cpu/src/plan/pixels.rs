//! The preprocessing of the frames, which is not a pass of its own but part of writing the first blocks.

use ferroflow_kernels::LANES;
use ferroflow_net::{NodeId, Op, graph::Frame};

use super::{
    compile::{Compiler, Layers},
    step::Kernel,
    value::{Pixel, Value},
};

impl<L: Layers> Compiler<'_, L> {
    /// Which nodes are affine functions of the frames, channel by channel.
    pub(super) fn pixel_nodes(&self) -> Vec<bool> {
        let mut pixels: Vec<bool> = Vec::with_capacity(self.graph.nodes.len());
        for node in &self.graph.nodes {
            let of = |id: &NodeId| pixels[id.0 as usize];
            let is = match node.op {
                Op::Frame(_) => true,
                Op::Channels(_) | Op::Affine { .. } | Op::Concat | Op::Stack | Op::Part { .. } => {
                    node.inputs.iter().all(of)
                }
                // Once a mean has been taken off, a second one would not fit a `Pixel`.
                Op::Sub => of(&node.inputs[0]) && self.is_mean(node.inputs[1]) && !self.has_mean(node.inputs[0]),
                Op::Conv(_)
                | Op::Deconv(_)
                | Op::BatchNorm(_)
                | Op::LeakyRelu { .. }
                | Op::Add
                | Op::ChannelMean
                | Op::ChannelNorm { .. }
                | Op::Correlation(_)
                | Op::Lookup(_)
                | Op::Warp(_)
                | Op::Resize { .. }
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
            pixels.push(is);
        }
        pixels
    }

    fn is_mean(&self, id: NodeId) -> bool {
        self.graph.node(id).op == Op::ChannelMean
    }

    fn has_mean(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        node.op == Op::Sub || node.inputs.iter().any(|&i| self.has_mean(i))
    }

    /// The channels of a node that is such a function, part by part of a stack.
    pub(super) fn pixels(&mut self, id: NodeId) -> Vec<Vec<Pixel>> {
        let node = self.graph.node(id);
        let parts: Vec<Vec<Vec<Pixel>>> = node.inputs.iter().map(|&i| self.described[i.0 as usize].clone()).collect();
        let each = |parts: &[Vec<Pixel>], f: &dyn Fn(usize, &Pixel) -> Pixel| -> Vec<Vec<Pixel>> {
            parts.iter().map(|p| p.iter().enumerate().map(|(c, pixel)| f(c, pixel)).collect()).collect()
        };
        match &node.op {
            Op::Frame(frame) => {
                let frame = usize::from(*frame == Frame::Second);
                vec![(0..3).map(|c| Pixel::raw(frame, c)).collect()]
            }
            Op::Channels(picked) => {
                parts[0].iter().map(|p| picked.iter().map(|&c| p[c as usize].clone()).collect()).collect()
            }
            Op::Affine { scale, offset } => {
                let at = |v: &[f32], c: usize| if v.len() == 1 { v[0] } else { v[c] };
                each(&parts[0], &|c, pixel| pixel.affine(at(scale, c), at(offset, c)))
            }
            Op::Concat => {
                (0..parts[0].len()).map(|part| parts.iter().flat_map(|input| input[part].clone()).collect()).collect()
            }
            Op::Stack => parts.concat(),
            Op::Part { index, of } => {
                let count = parts[0].len() / of;
                parts[0][index * count..][..count].to_vec()
            }
            Op::Sub => {
                let mean = self.dense(node.inputs[1]);
                let subtract = |c: usize, pixel: &Pixel| {
                    let (plane, lane) = (mean.planes[c / LANES], c % LANES);
                    Pixel { mean: Some((plane, lane, -1.0)), ..pixel.clone() }
                };
                each(&parts[0], &subtract)
            }
            Op::Conv(_)
            | Op::Deconv(_)
            | Op::BatchNorm(_)
            | Op::LeakyRelu { .. }
            | Op::Add
            | Op::ChannelMean
            | Op::ChannelNorm { .. }
            | Op::Correlation(_)
            | Op::Lookup(_)
            | Op::Warp(_)
            | Op::Resize { .. }
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
            | Op::Zeros { .. } => {
                unreachable!("`{}` is no function of the frames", node.name)
            }
        }
    }

    /// The channels of a plain function of the frames that are fewer than a block's, unless it has been written to blocks.
    pub(super) fn few_pixels(&self, id: NodeId) -> Option<Vec<Vec<Pixel>>> {
        let parts = &self.described[id.0 as usize];
        let written = !self.is_deferred(id) || self.uses.is_kept(id);
        (!written && !parts.is_empty() && self.channels(id) < LANES).then(|| parts.clone())
    }

    /// The same, written as one block without padding lanes.
    pub(super) fn narrow(&mut self, id: NodeId) -> Option<Value> {
        if let Some(value) = self.narrowed.get(&id) {
            return Some(value.clone());
        }
        let parts = self.few_pixels(id)?;
        let (extent, channels) = (self.extent(id), self.channels(id));
        // Kernels may load 16 floats from every pixel, the last one too.
        let plane = self.buffer(extent.len() / LANES * channels + LANES);
        let value = Value { extent, planes: vec![plane], lanes: (0..channels as u32).map(Some).collect() };
        self.push(id, Kernel::PackNarrow(parts), 0.0, Vec::new(), &value);
        self.narrowed.insert(id, value.clone());
        Some(value)
    }

    /// For a mean over frames: per channel what is averaged, if the inputs are plain functions of the frames.
    pub(super) fn frame_means(&self, inputs: &[NodeId]) -> Option<Vec<Vec<Pixel>>> {
        let mut channels: Vec<Vec<Pixel>> = Vec::new();
        for &input in inputs {
            let parts = &self.described[input.0 as usize];
            let [part] = &parts[..] else { return None };
            if part.iter().any(|p| p.mean.is_some()) {
                return None;
            }
            channels.resize(part.len(), Vec::new());
            for (averaged, pixel) in channels.iter_mut().zip(part) {
                averaged.push(pixel.clone());
            }
        }
        Some(channels)
    }
}
