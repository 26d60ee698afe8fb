//! Compiles the graph to steps: decides which nodes are fused, which are views, and which kernel computes the others.

use std::collections::HashMap;

use ferroflow_kernels::{
    Extent, LANES,
    activation::Smooth,
    conv::Activation,
    convex_upsample::ConvexUpsample,
    correlation::Correlation,
    lane_map,
    lookup::Lookup,
    resize::{Resize, Sampling},
    warp::{AtInteger, Axes, Border},
};
use ferroflow_net::{
    Graph, NodeId, Op, ParamId,
    graph::{self, Filter, FlowOrder, Grid, Iteration, MomentsOver, OnPixel, Shape, Sizes, Warp, WarpBorder},
};

use super::{
    fuse::{Chain, Purpose, Uses, compose, fused, pair_up, reads_doubled},
    options::{Options, PlanError},
    step::{Kernel, Step},
    value::{Content, Pixel, Plane, Value, per_lane},
};

/// Steps and the buffers they use, each buffer still its own.
pub(super) struct Compiled<L> {
    pub steps: Vec<Step>,
    /// Lengths in floats.
    pub buffers: Vec<usize>,
    pub kept: Vec<(NodeId, Value)>,
    pub layers: L,
}

/// What plans that estimate and plans that train do not share: how layers become steps.
pub(super) trait Layers: Sized {
    const PURPOSE: Purpose;

    /// Looks at the parameters before anything is compiled.
    fn check(&self, graph: &Graph) -> Result<(), PlanError>;

    /// The values of a parameter of a batch norm that is folded into a map.
    fn weight(&self, id: ParamId) -> &[f32];

    /// A chain that starts with a convolution, a transposed one or a batch norm.
    fn compile(compiler: &mut Compiler<'_, Self>, chain: &Chain) -> Result<Value, PlanError>;

    /// Learns that a step makes `output` of `inputs`.
    fn made(&mut self, inputs: &[Value], output: &Value);
}

pub(super) struct Compiler<'a, L> {
    pub(super) graph: &'a Graph,
    pub(super) shapes: Vec<Shape>,
    pub(super) sizes: Sizes,
    pub(super) options: &'a Options,
    pub(super) uses: Uses,
    pub(super) contents: Vec<Option<Content>>,
    steps: Vec<Step>,
    buffers: Vec<usize>,
    pub(super) layers: L,
    /// The pixel nodes' channels, also after blocks have been written.
    pub(super) described: Vec<Vec<Vec<Pixel>>>,
    /// Pixel nodes that have been written without padding lanes.
    pub(super) narrowed: HashMap<NodeId, Value>,
    /// Lookups with their maps, and where those after them find what they know.
    lookups: Vec<(Lookup, [Value; 2], Plane)>,
}

impl<'a, L: Layers> Compiler<'a, L> {
    /// `roots` are what the plan computes, besides [`Options::keep`].
    pub fn new(
        graph: &'a Graph,
        layers: L,
        sizes: Sizes,
        options: &'a Options,
        roots: &[NodeId],
    ) -> Result<Self, PlanError> {
        let shapes = graph.shapes(&sizes)?;
        let mut keep = options.keep.clone();
        if L::PURPOSE == Purpose::Inference {
            keep.extend(graph.iterations.iter().flat_map(ends));
        }
        Ok(Self {
            graph,
            sizes,
            options,
            uses: Uses::new(graph, roots, &keep),
            contents: vec![None; shapes.len()],
            described: vec![Vec::new(); shapes.len()],
            narrowed: HashMap::new(),
            shapes,
            steps: Vec::new(),
            buffers: Vec::new(),
            layers,
            lookups: Vec::new(),
        })
    }

    pub fn compile(mut self) -> Result<Compiled<L>, PlanError> {
        self.layers.check(self.graph)?;
        let pixels = self.pixel_nodes();
        let fields = match L::PURPOSE {
            Purpose::Inference => self.field_nodes(&pixels),
            Purpose::Training => vec![false; pixels.len()],
        };
        // A chain is computed where its last node stands: by then everything it reads exists.
        let mut chains: HashMap<NodeId, Chain> = HashMap::new();
        let mut claimed: Vec<bool> = pixels.iter().zip(&fields).map(|(p, f)| p | f).collect();
        for i in 0..self.graph.nodes.len() {
            let head = NodeId(i as u32);
            if claimed[i] || !self.uses.is_needed(head) {
                continue;
            }
            let mut chain = fused(self.graph, &self.uses, &claimed, head, L::PURPOSE);
            if L::PURPOSE == Purpose::Inference
                && let Some(output) = self.output_of(&chain)
            {
                chain.tail = output;
            }
            let mut node = head;
            claimed[i] = true;
            while node != chain.tail {
                node = self.uses.only_reader(node).unwrap_or(chain.tail);
                claimed[node.0 as usize] = true;
            }
            chains.insert(chain.tail, chain);
        }
        if L::PURPOSE == Purpose::Inference {
            pair_up(self.graph, &mut chains);
        }
        for i in 0..self.graph.nodes.len() {
            let id = NodeId(i as u32);
            if pixels[i] && self.uses.is_needed(id) {
                self.described[i] = self.pixels(id);
                self.contents[i] = Some(Content::Deferred);
            } else if fields[i] && self.uses.is_needed(id) {
                self.contents[i] = Some(Content::Deferred);
            } else if let Some(chain) = chains.remove(&id) {
                self.contents[i] = self.compute(&chain)?;
            }
            if L::PURPOSE == Purpose::Inference
                && let Some(iteration) = self.graph.iterations.iter().find(|iteration| iteration.after == id)
            {
                let inputs = ends(iteration).map(|id| self.dense(id)).collect();
                let (name, kernel) = (format!("{}.end", self.graph.node(id).name), Kernel::Iteration);
                self.steps.push(Step { node: id, name, kernel, flop: 0.0, inputs, output: None, work: None });
            }
        }
        let mut kept = Vec::new();
        for &id in &self.options.keep {
            if self.contents[id.0 as usize].is_some() {
                kept.push((id, self.blocks(id)));
            }
        }
        Ok(Compiled { steps: self.steps, buffers: self.buffers, kept, layers: self.layers })
    }

    pub(super) fn shape(&self, id: NodeId) -> Shape {
        self.shapes[id.0 as usize]
    }

    pub(super) fn extent(&self, id: NodeId) -> Extent {
        let [n, _, h, w] = self.shape(id);
        Extent { n, h, w }
    }

    pub(super) fn channels(&self, id: NodeId) -> usize {
        self.shape(id)[1]
    }

    /// A buffer of its own with `len` floats.
    pub(super) fn buffer(&mut self, len: usize) -> Plane {
        self.buffers.push(len);
        Plane { buffer: self.buffers.len() - 1, start: 0, len }
    }

    /// A value in buffers of its own, channel `c` in lane `c`.
    pub(super) fn fresh(&mut self, extent: Extent, channels: usize) -> Value {
        let planes = (0..channels.div_ceil(LANES)).map(|_| self.buffer(extent.len())).collect();
        Value { extent, planes, lanes: lane_map(&[channels]) }
    }

    pub(super) fn push(&mut self, node: NodeId, kernel: Kernel, flop: f64, inputs: Vec<Value>, output: &Value) {
        let name = self.graph.node(node).name.clone();
        self.layers.made(&inputs, output);
        self.steps.push(Step { node, name, kernel, flop, inputs, output: Some(output.clone()), work: None });
    }

    /// The value of a node in blocks, written now if it is still pixels.
    pub(super) fn blocks(&mut self, id: NodeId) -> Value {
        match &self.contents[id.0 as usize] {
            Some(Content::Blocks(value)) => value.clone(),
            Some(Content::Deferred) => {
                let parts = self.described[id.0 as usize].clone();
                let value = if parts.is_empty() {
                    self.field(id)
                } else {
                    let value = self.fresh(self.extent(id), self.channels(id));
                    self.push(id, Kernel::Pack(parts), 0.0, Vec::new(), &value);
                    value
                };
                self.contents[id.0 as usize] = Some(Content::Blocks(value.clone()));
                value
            }
            None => unreachable!("node {id:?} is read before it is computed"),
        }
    }

    /// The same with channel `c` in lane `c`.
    pub(super) fn dense(&mut self, id: NodeId) -> Value {
        let value = self.blocks(id);
        if value.is_dense(self.channels(id)) {
            return value;
        }
        let picked: Vec<u32> = (0..self.channels(id) as u32).collect();
        let dense = self.pick(id, &value, &picked);
        self.contents[id.0 as usize] = Some(Content::Blocks(dense.clone()));
        dense
    }

    /// Copies channels of a value, in this order, into blocks of their own.
    fn pick(&mut self, node: NodeId, from: &Value, picked: &[u32]) -> Value {
        let to = self.fresh(from.extent, picked.len());
        let lane = |l: &Option<u32>| l.and_then(|c| from.lane_of(picked[c as usize])).map(|lane| lane as u32);
        let lanes = to.lanes.iter().map(lane).collect();
        self.push(node, Kernel::Channels(lanes), 0.0, vec![from.clone()], &to);
        to
    }

    fn compute(&mut self, chain: &Chain) -> Result<Option<Content>, PlanError> {
        let (head, tail) = (chain.head, chain.tail);
        let node = self.graph.node(head);
        let inputs = &node.inputs;
        let extent = self.extent(tail);
        let channels = self.channels(tail);
        let value = match &node.op {
            Op::Conv(_) | Op::Deconv(_) | Op::BatchNorm(_) | Op::LayerNorm(_) | Op::ChannelScale { .. } => {
                L::compile(self, chain)?
            }
            Op::Affine { .. } | Op::LeakyRelu { .. } => self.map(chain)?,
            Op::Add | Op::Sub => {
                let (a, b) = (self.dense(inputs[0]), self.dense(inputs[1]));
                let factor = if node.op == Op::Add { 1.0 } else { -1.0 };
                let out = self.fresh(extent, channels);
                self.push(tail, Kernel::Combine { factor, activation: chain.activation() }, 0.0, vec![a, b], &out);
                out
            }
            Op::Smooth(curve) => {
                let x = self.dense(inputs[0]);
                let out = self.fresh(extent, channels);
                self.push(head, Kernel::Activate { curve: smooth(*curve), channels }, 0.0, vec![x], &out);
                out
            }
            Op::Product => {
                let factors = vec![self.dense(inputs[0]), self.dense(inputs[1])];
                let out = self.fresh(extent, channels);
                self.push(head, Kernel::Product, 0.0, factors, &out);
                out
            }
            Op::Lerp => {
                let values = inputs.iter().map(|&i| self.dense(i)).collect();
                let out = self.fresh(extent, channels);
                self.push(head, Kernel::Lerp, 0.0, values, &out);
                out
            }
            Op::InstanceNorm { epsilon } => {
                let values = inputs.iter().copied().chain(chain.residual).map(|i| self.dense(i)).collect();
                let out = self.fresh(extent, channels);
                let kernel = Kernel::InstanceNorm { epsilon: *epsilon, activation: chain.activation() };
                self.push(tail, kernel, 0.0, values, &out);
                out
            }
            Op::AveragePool { size } => {
                let x = self.dense(inputs[0]);
                let out = self.fresh(extent, channels);
                self.push(head, Kernel::AveragePool { size: *size }, 0.0, vec![x], &out);
                out
            }
            Op::Detach => self.detached(head),
            Op::Attention => {
                let values = inputs.iter().map(|&i| self.dense(i)).collect();
                let out = self.fresh(extent, channels);
                let [n, of, h, w] = self.shape(inputs[0]);
                let flop = 2.0 * (n * h * w) as f64 * (h * w) as f64 * (of + channels) as f64;
                self.push(head, Kernel::Attention { channels: of }, flop, values, &out);
                out
            }
            Op::Coordinates { centred } => {
                let out = self.fresh(extent, channels);
                let middle = [extent.w, extent.h].map(|size| if *centred { size as f32 / 2.0 } else { 0.0 });
                self.push(head, Kernel::Coordinates { less: middle }, 0.0, Vec::new(), &out);
                out
            }
            Op::Concat => self.concat(head),
            Op::Stack => {
                let parts: Vec<Value> = inputs.iter().map(|&i| self.dense(i)).collect();
                let out = self.fresh(extent, channels);
                self.push(head, Kernel::Stack, 0.0, parts, &out);
                out
            }
            Op::Part { index, .. } => self.blocks(inputs[0]).part(*index, extent.n),
            Op::Channels(picked) => {
                let from = self.blocks(inputs[0]);
                match whole_planes(&from, picked) {
                    Some(view) => view,
                    None => self.pick(head, &from, picked),
                }
            }
            Op::ChannelMean => {
                if L::PURPOSE == Purpose::Training && self.frame_means(inputs).is_none() {
                    return Err(self.unsupported(head, "the mean of values that are trained"));
                }
                let out = self.fresh(extent, channels);
                match self.frame_means(inputs) {
                    Some(means) => self.push(head, Kernel::PixelMean(means), 0.0, Vec::new(), &out),
                    None => {
                        let inputs = inputs.iter().map(|&i| self.dense(i)).collect();
                        self.push(head, Kernel::ChannelMean, 0.0, inputs, &out);
                    }
                }
                out
            }
            Op::ChannelNorm { floor } => {
                let x = self.blocks(inputs[0]);
                let out = self.fresh(extent, channels);
                self.push(head, Kernel::ChannelNorm { floor: *floor }, 0.0, vec![x], &out);
                out
            }
            Op::Correlation(c) => {
                let features = vec![self.dense(inputs[0]), self.dense(inputs[1])];
                let in_channels = self.channels(inputs[0]);
                let plan = Correlation::new(extent, in_channels, c.max_displacement, c.stride, chain.activation());
                let out = self.fresh(extent, channels);
                let work = self.buffer(plan.work_len());
                self.push(tail, Kernel::Correlation(plan), plan.flop(), features, &out);
                if let Some(step) = self.steps.last_mut() {
                    step.work = Some((work, plan.work_len()));
                }
                out
            }
            Op::Lookup(l) => {
                let features = [0, 1].map(|i| self.dense(inputs[i]));
                let (flow, lanes) = self.flow(inputs[2]);
                let lookup = Lookup::new(extent, self.channels(inputs[0]), l.radius, l.levels, lanes);
                let out = self.fresh(extent, channels);
                let (work, again) = match L::PURPOSE {
                    Purpose::Inference => self.known_products(head, &lookup, &features),
                    Purpose::Training => (None, false),
                };
                let inputs = features.into_iter().chain([flow]).collect();
                self.push(head, Kernel::Lookup { lookup, again }, lookup.flop(), inputs, &out);
                if let Some(step) = self.steps.last_mut() {
                    step.work = work;
                }
                out
            }
            Op::Warp(w) => {
                let image = self.dense(inputs[0]);
                let (flow, lanes) = self.flow(inputs[1]);
                let (axes, border) = (axes(w, lanes), border(w.border));
                let out = self.fresh(extent, channels);
                let kernel = Kernel::Warp { axes, border, at_integer: at_integer(w.on_pixel) };
                self.push(head, kernel, 0.0, vec![image, flow], &out);
                out
            }
            Op::Resize { .. } if L::PURPOSE == Purpose::Inference && reads_doubled(self.graph, &self.uses, head) => {
                let mut x = self.dense(inputs[0]);
                x.extent = extent;
                x
            }
            Op::Resize { filter, grid, .. } => {
                let x = self.dense(inputs[0]);
                let resize = Resize::new(x.extent, extent, sampling(*filter, *grid));
                let (scale, _) = compose(self.graph, &chain.maps, channels, |id| self.layers.weight(id));
                let scale = per_lane(scale.into_iter().map(|s| s as f32));
                let out = self.fresh(extent, channels);
                self.push(tail, Kernel::Resize { resize, scale }, 0.0, vec![x], &out);
                out
            }
            Op::ConvexUpsample { factor } => {
                let (flow, lanes) = self.flow(inputs[0]);
                let logits = self.dense(inputs[1]);
                let is_output = matches!(self.graph.node(tail).op, Op::ToOutput { .. });
                let (scale, _) = compose(self.graph, &chain.maps, channels, |id| self.layers.weight(id));
                let to_output = if is_output { self.output_scale() } else { [1.0; 2] };
                let scale = [0, 1].map(|c| scale[c] as f32 * to_output[c]);
                let upsample = ConvexUpsample { from: flow.extent, factor: *factor, lanes, scale };
                let inputs = vec![flow, logits];
                if is_output {
                    let (name, kernel) = (self.graph.node(tail).name.clone(), Kernel::ConvexOutput(upsample));
                    self.steps.push(Step { node: tail, name, kernel, flop: 0.0, inputs, output: None, work: None });
                    return Ok(None);
                }
                let out = self.fresh(extent, channels);
                self.push(tail, Kernel::ConvexUpsample(upsample), 0.0, inputs, &out);
                out
            }
            Op::ToOutput { filter, grid } => {
                let flow = self.dense(inputs[0]);
                let resize = Resize::new(flow.extent, extent, sampling(*filter, *grid));
                let scale = self.output_scale();
                let name = node.name.clone();
                let kernel = Kernel::Output { resize, scale };
                let inputs = vec![flow];
                self.steps.push(Step { node: tail, name, kernel, flop: 0.0, inputs, output: None, work: None });
                return Ok(None);
            }
            Op::Moments(over) => {
                let pair = vec![self.dense(inputs[0]), self.dense(inputs[1])];
                let kernel = Kernel::Moments { channels: self.channels(inputs[0]), batch: *over == MomentsOver::Batch };
                let out = self.fresh(extent, channels);
                self.push(head, kernel, 0.0, pair, &out);
                out
            }
            Op::Standardise { epsilon } => {
                let inputs = vec![self.dense(inputs[0]), self.dense(inputs[1])];
                let out = self.fresh(extent, channels);
                self.push(head, Kernel::Standardise { channels, epsilon: *epsilon }, 0.0, inputs, &out);
                out
            }
            Op::Zeros { .. } => {
                let out = self.fresh(extent, channels);
                let is_given = L::PURPOSE == Purpose::Inference && self.graph.initial == Some(head);
                let kernel = if is_given { Kernel::Initial } else { Kernel::Zeros };
                self.push(head, kernel, 0.0, Vec::new(), &out);
                out
            }
            Op::Frame(_) => return Err(self.unsupported(head, "a frame that is not pixels")),
        };
        Ok(Some(Content::Blocks(value)))
    }

    /// Where lookups in the same maps hand on what they know, if there are several, and whether this one is not the first.
    fn known_products(&mut self, id: NodeId, lookup: &Lookup, features: &[Value; 2]) -> (Option<(Plane, usize)>, bool) {
        let len = lookup.known_len();
        let known = self.lookups.iter().find(|(known, maps, _)| (known, maps) == (lookup, features));
        if let Some((.., plane)) = known {
            return (Some((*plane, len)), true);
        }
        let node = self.graph.node(id);
        let same = |other: &&graph::Node| other.op == node.op && other.inputs[..2] == node.inputs[..2];
        if self.graph.nodes.iter().filter(same).count() < 2 {
            return (None, false);
        }
        let plane = self.buffer(len);
        self.lookups.push((*lookup, features.clone(), plane));
        (Some((plane, len)), false)
    }

    /// The value itself where no gradient is computed, else a copy, which is not known to depend on parameters.
    fn detached(&mut self, id: NodeId) -> Value {
        let input = self.graph.node(id).inputs[0];
        if L::PURPOSE == Purpose::Inference {
            return self.blocks(input);
        }
        let x = self.dense(input);
        let out = self.fresh(x.extent, self.channels(id));
        let name = self.graph.node(id).name.clone();
        let (kernel, inputs, output) = (Kernel::Stack, vec![x], Some(out.clone()));
        self.steps.push(Step { node: id, name, kernel, flop: 0.0, inputs, output, work: None });
        out
    }

    /// A chain that starts with a map of single values: per channel, then the activation.
    pub(super) fn map(&mut self, chain: &Chain) -> Result<Value, PlanError> {
        let (head, tail) = (chain.head, chain.tail);
        let node = self.graph.node(head);
        let channels = self.channels(tail);
        let x = self.dense(node.inputs[0]);
        let (maps, activation) = match node.op {
            Op::LeakyRelu { slope } if (0.0..=1.0).contains(&slope) => (Vec::new(), Activation::LeakyRelu(slope)),
            Op::LeakyRelu { .. } => return Err(self.unsupported(head, "a slope outside 0..=1")),
            _ => ([&[head], &chain.maps[..]].concat(), chain.activation()),
        };
        let (scale, offset) = compose(self.graph, &maps, channels, |id| self.layers.weight(id));
        let lanes = |v: Vec<f64>| per_lane(v.into_iter().map(|v| v as f32));
        let kernel = Kernel::Affine { scale: lanes(scale), offset: lanes(offset), activation };
        let out = self.fresh(self.extent(tail), channels);
        self.push(tail, kernel, 0.0, vec![x], &out);
        Ok(out)
    }

    /// The output, where it takes the result of a convex upsampling as it is and is its only reader: two planes are an
    /// eighth of the block that would be written for it.
    fn output_of(&self, chain: &Chain) -> Option<NodeId> {
        let output = self.uses.only_reader(chain.tail)?;
        let writes = matches!(self.graph.node(chain.head).op, Op::ConvexUpsample { .. })
            && matches!(self.graph.node(output).op, Op::ToOutput { .. });
        (writes && self.shape(output) == self.shape(chain.tail)).then_some(output)
    }

    /// What [`Op::ToOutput`] multiplies u and v by.
    fn output_scale(&self) -> [f32; 2] {
        let Sizes { input, output, .. } = self.sizes;
        [output.width as f32 / input.width as f32, output.height as f32 / input.height as f32]
    }

    /// Whether a node's value has not been written to blocks.
    pub(super) fn is_deferred(&self, id: NodeId) -> bool {
        matches!(self.contents[id.0 as usize], Some(Content::Deferred))
    }

    pub(super) fn unsupported(&self, node: NodeId, reason: &'static str) -> PlanError {
        PlanError::Unsupported { node: self.graph.node(node).name.clone(), reason }
    }

    /// The block of a flow that holds both of its channels, and their lanes within it.
    fn flow(&mut self, id: NodeId) -> (Value, [usize; 2]) {
        let value = self.blocks(id);
        let lanes = [0, 1].map(|c| value.lane_of(c).unwrap_or(usize::MAX));
        if lanes[0] / LANES == lanes[1] / LANES && lanes[0] != usize::MAX {
            let block = lanes[0] / LANES;
            let planes = vec![value.planes[block]];
            let map = value.lanes[block * LANES..][..LANES].to_vec();
            return (Value { extent: value.extent, planes, lanes: map }, lanes.map(|l| l % LANES));
        }
        (self.dense(id), [0, 1])
    }
}

/// What the end of an iteration holds.
fn ends(iteration: &Iteration) -> impl Iterator<Item = NodeId> {
    [iteration.before, iteration.after].into_iter().chain(iteration.state.iter().copied())
}

pub(super) fn smooth(curve: graph::Smooth) -> Smooth {
    match curve {
        graph::Smooth::Sigmoid => Smooth::Sigmoid,
        graph::Smooth::Tanh => Smooth::Tanh,
        graph::Smooth::Gelu => Smooth::Gelu,
    }
}

pub(super) fn axes(warp: &Warp, lanes: [usize; 2]) -> Axes {
    let (x, y, scale) = match warp.order {
        FlowOrder::Uv => (0, 1, warp.scale),
        FlowOrder::Vu => (1, 0, warp.scale),
        FlowOrder::NegatedVu => (1, 0, -warp.scale),
    };
    Axes { x_lane: lanes[x], y_lane: lanes[y], scale }
}

fn at_integer(rule: OnPixel) -> AtInteger {
    match rule {
        OnPixel::Right => AtInteger::Right,
        OnPixel::Zero => AtInteger::Zero,
        OnPixel::ZeroButLast => AtInteger::ZeroButLast,
    }
}

pub(super) fn border(border: WarpBorder) -> Border {
    match border {
        WarpBorder::Replicate => Border::Replicate,
        WarpBorder::Zeros => Border::Zeros,
        WarpBorder::ZerosMasked { threshold } => Border::ZerosMasked(threshold),
        WarpBorder::Extrapolate => Border::Extrapolate,
        WarpBorder::Caffe => Border::Caffe,
    }
}

pub(super) fn sampling(filter: Filter, grid: Grid) -> Sampling {
    match (filter, grid) {
        (Filter::Nearest, _) => Sampling::Nearest,
        (Filter::Bilinear, Grid::HalfPixel) => Sampling::HalfPixel,
        (Filter::Bilinear, Grid::AlignCorners) => Sampling::AlignCorners,
        (Filter::Bilinear, Grid::Asymmetric) => Sampling::Asymmetric,
    }
}

/// Picked channels as a list of whole planes, if each plane is taken entirely or not at all.
fn whole_planes(from: &Value, picked: &[u32]) -> Option<Value> {
    let mut view = Value { extent: from.extent, planes: Vec::new(), lanes: Vec::new() };
    for (plane, lanes) in from.blocks() {
        let places = |c: &Option<u32>| c.map(|c| picked.iter().position(|&p| p == c));
        let taken: Vec<Option<Option<usize>>> = lanes.iter().map(places).collect();
        if taken.iter().flatten().all(Option::is_some) {
            view.planes.push(plane);
            view.lanes.extend(taken.into_iter().map(|l| l.flatten().map(|i| i as u32)));
        } else if taken.iter().flatten().any(Option::is_some) {
            return None;
        }
    }
    // A channel picked twice is in one lane only.
    (view.lanes.iter().flatten().count() == picked.len()).then_some(view)
}
