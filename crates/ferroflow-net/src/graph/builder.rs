//! Builds a graph as the papers' tables read: one call per layer, with the channels counted along the way.

use super::{
    BatchNorm, Conv, Correlation, Deconv, Filter, Frame, Graph, Grid, Initialisation, Iteration, LayerNorm, Lookup,
    MomentsOver, Node, NodeId, Op, Padding, Param, ParamId, ParamRole, Smooth, Warp,
};

/// A graph under construction.
///
/// Every method that adds a node takes its name first. A layer with parameters takes a [`Label`], which is one name for the node and
/// its parameters, or two if the reference checkpoint has another name than the figure.
#[derive(Debug)]
pub struct Builder {
    graph: Graph,
    channels: Vec<usize>,
    scope: String,
    naming: Naming,
}

/// How the reference framework names a layer's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `layer.weight`, `layer.bias`; batch norm `layer.running_mean`, ... (also MindSpore's files here)
    Dotted,
    /// `layer/kernel`, `layer/bias`
    Kernel,
}

/// A node's name and the checkpoint's name of its layer, both within the current scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Name of the node.
    pub node: String,
    /// Name of the layer in the reference checkpoint, without `.weight`.
    pub layer: String,
}

impl From<&str> for Label {
    fn from(name: &str) -> Self {
        Self { node: name.into(), layer: name.into() }
    }
}

impl From<String> for Label {
    fn from(name: String) -> Self {
        Self { node: name.clone(), layer: name }
    }
}

impl<N: Into<String>, L: Into<String>> From<(N, L)> for Label {
    fn from((node, layer): (N, L)) -> Self {
        Self { node: node.into(), layer: layer.into() }
    }
}

/// The settings of a convolution: `k(3).stride(2).out(64)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvSpec {
    kernel: [usize; 2],
    stride: usize,
    dilation: usize,
    out: Option<usize>,
    padding: Option<Padding>,
    bias: bool,
    gain: f32,
}

/// A convolution with a square kernel, stride 1, dilation 1, bias, and as many zeros on every side as keep the size. It is depthwise
/// unless [`ConvSpec::out`] sets the number of output channels.
pub const fn k(kernel: usize) -> ConvSpec {
    kr(kernel, kernel)
}

/// As [`k`], with a rectangular kernel of so many rows and columns.
pub const fn kr(rows: usize, columns: usize) -> ConvSpec {
    let kernel = [rows, columns];
    ConvSpec { kernel, stride: 1, dilation: 1, out: None, padding: None, bias: true, gain: 1.0 }
}

impl ConvSpec {
    /// Channels of the output.
    pub const fn out(self, channels: usize) -> Self {
        Self { out: Some(channels), ..self }
    }

    /// Step between outputs, in pixels of the input.
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Distance between taps.
    pub const fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    /// Zeros around the input, if they are not `dilation * (kernel - 1) / 2` on every side (of the kernel's rows above and
    /// below, of its columns left and right).
    pub const fn padding(self, padding: Padding) -> Self {
        Self { padding: Some(padding), ..self }
    }

    /// Without bias.
    pub const fn no_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    /// Multiplies the usual first weights by this factor, which is small where a layer's output is added to a flow.
    pub const fn gain(self, gain: f32) -> Self {
        Self { gain, ..self }
    }
}

impl Builder {
    /// An empty graph whose parameters are named this way.
    pub fn new(naming: Naming) -> Self {
        Self { graph: Graph::default(), channels: Vec::new(), scope: String::new(), naming }
    }

    /// Sets how first weights are drawn. Default: [`Initialisation::HeUniform`].
    pub fn initialisation(mut self, initialisation: Initialisation) -> Self {
        self.graph.initialisation = initialisation;
        self
    }

    /// Puts `prefix` before every name that `build` gives.
    pub fn scope<T>(&mut self, prefix: &str, build: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.scope.len();
        self.scope.push_str(prefix);
        let built = build(self);
        self.scope.truncate(outer);
        built
    }

    /// Channels of a node's value.
    pub fn channels_of(&self, x: NodeId) -> usize {
        self.channels[x.0 as usize]
    }

    /// The finished graph. `flow` is in pixels of the network input and becomes the output (an [`Op::ToOutput`] named `flow`);
    /// `pyramid` lists the values that training losses read, coarse to fine.
    pub fn finish(mut self, flow: NodeId, filter: Filter, grid: Grid, pyramid: &[NodeId]) -> Graph {
        let flow = self.add("flow", Op::ToOutput { filter, grid }, &[flow], 2);
        self.graph.flow = Some(flow);
        self.graph.pyramid = pyramid.to_vec();
        self.graph
    }

    /// Number of parameters so far: a mark for [`Builder::sort_params`].
    pub fn param_count(&self) -> usize {
        self.graph.params.len()
    }

    /// Sorts the parameters from number `first` on into the reference checkpoint's order, if that is not the order of execution.
    /// The sort is stable, by `key` of the names without the current scope.
    pub fn sort_params<K: Ord>(&mut self, first: usize, key: impl Fn(&str) -> K) {
        let mut order: Vec<usize> = (first..self.graph.params.len()).collect();
        order.sort_by_key(|&i| key(&self.graph.params[i].name[self.scope.len()..]));
        let mut moved = vec![0; order.len()];
        for (to, &from) in order.iter().enumerate() {
            moved[from - first] = to + first;
        }
        let sorted: Vec<Param> = order.iter().map(|&i| self.graph.params[i].clone()).collect();
        self.graph.params[first..].clone_from_slice(&sorted);
        for id in self.graph.nodes.iter_mut().flat_map(|n| n.op.params_mut()) {
            if id.0 as usize >= first {
                id.0 = moved[id.0 as usize - first] as u32;
            }
        }
    }

    /// One of the two frames, RGB 0..=255.
    pub fn frame(&mut self, which: Frame) -> NodeId {
        let name = match which {
            Frame::First => "frame1",
            Frame::Second => "frame2",
        };
        self.add(name, Op::Frame(which), &[], 3)
    }

    /// A convolution without activation.
    pub fn conv(&mut self, label: impl Into<Label>, x: NodeId, spec: ConvSpec) -> NodeId {
        let label = label.into();
        let in_channels = self.channels_of(x);
        let (out, groups) = spec.out.map_or((in_channels, in_channels), |out| (out, 1));
        let shape = vec![out, in_channels / groups, spec.kernel[0], spec.kernel[1]];
        let weight = self.weight(&label.layer, shape, ParamRole::ConvWeight);
        self.graph.params[weight.0 as usize].gain = spec.gain;
        let bias = spec.bias.then(|| self.bias(&label.layer, out));
        let [rows, columns] = spec.kernel.map(|taps| spec.dilation * (taps - 1) / 2);
        let same = Padding { top: rows, left: columns, bottom: rows, right: columns };
        let conv = Conv {
            weight,
            bias,
            in_channels,
            out_channels: out,
            kernel: spec.kernel,
            stride: spec.stride,
            dilation: spec.dilation,
            groups,
            padding: spec.padding.unwrap_or(same),
        };
        self.add(&label.node, Op::Conv(conv), &[x], out)
    }

    /// A convolution (`NAME.conv`) and its leaky ReLU (`NAME`).
    pub fn conv_leaky(&mut self, label: impl Into<Label>, x: NodeId, spec: ConvSpec) -> NodeId {
        let Label { node, layer } = label.into();
        let linear = self.conv((format!("{node}.conv"), layer), x, spec);
        self.leaky(&node, linear)
    }

    /// A transposed convolution, kernel 4, stride 2, padding 1: twice the size.
    pub fn deconv(&mut self, label: impl Into<Label>, x: NodeId, out: usize, bias: bool) -> NodeId {
        let label = label.into();
        let in_channels = self.channels_of(x);
        let weight = self.weight(&label.layer, vec![in_channels, out, 4, 4], ParamRole::DeconvWeight);
        let bias = bias.then(|| self.bias(&label.layer, out));
        self.add(&label.node, Op::Deconv(Deconv { weight, bias, in_channels, out_channels: out }), &[x], out)
    }

    /// The parameters of a transposed convolution that the checkpoint holds and the network does not use.
    pub fn unused_deconv(&mut self, layer: &str, in_channels: usize, out: usize) {
        let weight = self.weight(layer, vec![in_channels, out, 4, 4], ParamRole::DeconvWeight);
        let bias = self.bias(layer, out);
        for id in [weight, bias] {
            self.graph.params[id.0 as usize].used = false;
        }
    }

    /// Batch norm with running statistics, epsilon 1e-5.
    pub fn batch_norm(&mut self, label: impl Into<Label>, x: NodeId) -> NodeId {
        let label = label.into();
        let channels = self.channels_of(x);
        let mut param = |suffix, role| self.param(&format!("{}.{suffix}", label.layer), vec![channels], role);
        let norm = BatchNorm {
            scale: param("weight", ParamRole::NormScale),
            shift: param("bias", ParamRole::NormShift),
            mean: param("running_mean", ParamRole::NormMean),
            variance: param("running_var", ParamRole::NormVariance),
            epsilon: 1e-5,
        };
        self.add(&label.node, Op::BatchNorm(norm), &[x], channels)
    }

    /// Leaky ReLU with slope 0.1.
    pub fn leaky(&mut self, name: &str, x: NodeId) -> NodeId {
        self.same(name, Op::LeakyRelu { slope: 0.1 }, &[x])
    }

    /// ReLU.
    pub fn relu(&mut self, name: &str, x: NodeId) -> NodeId {
        self.same(name, Op::LeakyRelu { slope: 0.0 }, &[x])
    }

    /// `1 / (1 + e^-x)`
    pub fn sigmoid(&mut self, name: &str, x: NodeId) -> NodeId {
        self.same(name, Op::Smooth(Smooth::Sigmoid), &[x])
    }

    /// `tanh x`
    pub fn tanh(&mut self, name: &str, x: NodeId) -> NodeId {
        self.same(name, Op::Smooth(Smooth::Tanh), &[x])
    }

    /// GELU by the error function.
    pub fn gelu(&mut self, name: &str, x: NodeId) -> NodeId {
        self.same(name, Op::Smooth(Smooth::Gelu), &[x])
    }

    /// Each image and channel less its mean and divided by its standard deviation, epsilon 1e-5.
    pub fn instance_norm(&mut self, name: &str, x: NodeId) -> NodeId {
        self.same(name, Op::InstanceNorm { epsilon: 1e-5 }, &[x])
    }

    /// Layer norm over the channels of each pixel, with a factor (`layer.weight`) and a summand (`layer.bias`) for each channel.
    pub fn layer_norm(&mut self, label: impl Into<Label>, x: NodeId, epsilon: f32) -> NodeId {
        let label = label.into();
        let channels = self.channels_of(x);
        let mut param = |suffix, role| self.param(&format!("{}.{suffix}", label.layer), vec![channels], role);
        let norm = LayerNorm {
            scale: param("weight", ParamRole::NormScale),
            shift: param("bias", ParamRole::NormShift),
            epsilon,
        };
        self.add(&label.node, Op::LayerNorm(norm), &[x], channels)
    }

    /// A learned factor for each channel, which begins at 1e-6 (ConvNeXt's layer scale). The label's layer is the whole name of the
    /// parameter.
    pub fn channel_scale(&mut self, label: impl Into<Label>, x: NodeId) -> NodeId {
        let label = label.into();
        let channels = self.channels_of(x);
        let factor = self.param(&label.layer, vec![channels], ParamRole::NormScale);
        self.graph.params[factor.0 as usize].gain = 1e-6;
        self.add(&label.node, Op::ChannelScale { factor }, &[x], channels)
    }

    /// Mean of each window of `size` x `size` pixels; what is left over at the right and the bottom is not read.
    pub fn avg_pool(&mut self, name: &str, x: NodeId, size: usize) -> NodeId {
        self.same(name, Op::AveragePool { size }, &[x])
    }

    /// `x`, through which no gradient passes.
    pub fn detach(&mut self, name: &str, x: NodeId) -> NodeId {
        self.same(name, Op::Detach, &[x])
    }

    /// Joins along channels.
    pub fn concat(&mut self, name: &str, parts: &[NodeId]) -> NodeId {
        let channels = parts.iter().map(|&p| self.channels_of(p)).sum();
        self.add(name, Op::Concat, parts, channels)
    }

    /// Joins along the batch.
    pub fn stack(&mut self, name: &str, parts: &[NodeId]) -> NodeId {
        self.same(name, Op::Stack, parts)
    }

    /// Takes one of the `of` parts of a stack.
    pub fn part(&mut self, name: &str, x: NodeId, index: usize, of: usize) -> NodeId {
        self.same(name, Op::Part { index, of }, &[x])
    }

    /// The `picked` channels, in this order.
    pub fn channels(&mut self, name: &str, x: NodeId, picked: &[u32]) -> NodeId {
        self.add(name, Op::Channels(picked.to_vec()), &[x], picked.len())
    }

    /// Every value times `factor`.
    pub fn scale(&mut self, name: &str, x: NodeId, factor: f32) -> NodeId {
        self.affine(name, x, &[factor], &[0.0])
    }

    /// `scale * x + offset`, each one number or one per channel.
    pub fn affine(&mut self, name: &str, x: NodeId, scale: &[f32], offset: &[f32]) -> NodeId {
        self.same(name, Op::Affine { scale: scale.to_vec(), offset: offset.to_vec() }, &[x])
    }

    /// `a + b`
    pub fn sum(&mut self, name: &str, a: NodeId, b: NodeId) -> NodeId {
        self.same(name, Op::Add, &[a, b])
    }

    /// `a - b`, where `b` may be a mean per channel.
    pub fn difference(&mut self, name: &str, a: NodeId, b: NodeId) -> NodeId {
        self.same(name, Op::Sub, &[a, b])
    }

    /// `a * b`
    pub fn product(&mut self, name: &str, a: NodeId, b: NodeId) -> NodeId {
        self.same(name, Op::Product, &[a, b])
    }

    /// `a + t * (b - a)`: a GRU's `(1 - z) h + z q` is that of `(h, q, z)`.
    pub fn lerp(&mut self, name: &str, a: NodeId, b: NodeId, t: NodeId) -> NodeId {
        self.same(name, Op::Lerp, &[a, b, t])
    }

    /// At each pixel the mean of `v` over all pixels, weighed by the softmax of how well their keys `k` fit its query `q`.
    pub fn attention(&mut self, name: &str, q: NodeId, k: NodeId, v: NodeId) -> NodeId {
        let channels = self.channels_of(v);
        self.add(name, Op::Attention, &[q, k, v], channels)
    }

    /// Column and row of each pixel of `like`, from 0, or less half of its width and height.
    pub fn coordinates(&mut self, name: &str, like: NodeId, centred: bool) -> NodeId {
        self.add(name, Op::Coordinates { centred }, &[like], 2)
    }

    /// The flow from `a` to `b` by global matching (GMFlow): where the pixels that fit lie in the mean, less the pixel's own place.
    pub fn global_matching(&mut self, name: &str, a: NodeId, b: NodeId) -> NodeId {
        let places = self.coordinates(&format!("{name}.coordinates"), a, false);
        let matches = self.attention(&format!("{name}.matches"), a, b, places);
        self.difference(name, matches, places)
    }

    /// Mean per channel over the pixels of all inputs.
    pub fn channel_mean(&mut self, name: &str, inputs: &[NodeId]) -> NodeId {
        self.same(name, Op::ChannelMean, inputs)
    }

    /// Length of the vector of channels, at each pixel.
    pub fn channel_norm(&mut self, name: &str, x: NodeId, floor: f32) -> NodeId {
        self.add(name, Op::ChannelNorm { floor }, &[x], 1)
    }

    /// The cost volume of two feature maps.
    pub fn correlation(&mut self, name: &str, a: NodeId, b: NodeId, correlation: Correlation) -> NodeId {
        let diameter = correlation.diameter();
        self.add(name, Op::Correlation(correlation), &[a, b], diameter * diameter)
    }

    /// What RAFT looks up in the products of all pixels of `features`, around where `flow` points.
    pub fn lookup(&mut self, name: &str, features: [NodeId; 2], flow: NodeId, lookup: Lookup) -> NodeId {
        self.add(name, Op::Lookup(lookup), &[features[0], features[1], flow], lookup.channels())
    }

    /// `image` sampled where `flow` points.
    pub fn warp(&mut self, name: &str, image: NodeId, flow: NodeId, warp: Warp) -> NodeId {
        self.same(name, Op::Warp(warp), &[image, flow])
    }

    /// `factor` times larger; values stay as they are.
    pub fn resize(&mut self, name: &str, x: NodeId, factor: usize, filter: Filter, grid: Grid) -> NodeId {
        self.same(name, Op::Resize { factor, filter, grid }, &[x])
    }

    /// `flow` at `factor` times the size, each fine pixel a convex combination of the nine coarse ones around it by the
    /// softmax over `logits`, `9 * factor * factor` channels (RAFT); values stay as they are.
    pub fn convex_upsample(&mut self, name: &str, flow: NodeId, logits: NodeId, factor: usize) -> NodeId {
        self.same(name, Op::ConvexUpsample { factor }, &[flow, logits])
    }

    /// `a` and `b`, each minus their common mean and divided by their common standard deviation (UFlow).
    pub fn standardise(
        &mut self,
        names: [&str; 3],
        a: NodeId,
        b: NodeId,
        over: MomentsOver,
        epsilon: f32,
    ) -> (NodeId, NodeId) {
        let moments = self.add(names[0], Op::Moments(over), &[a, b], 2);
        let mut apply = |name, x| self.same(name, Op::Standardise { epsilon }, &[x, moments]);
        (apply(names[1], a), apply(names[2], b))
    }

    /// The flow from which a recurrent network starts, of the size of `like`: zeros, or what the caller gives.
    pub fn initial_flow(&mut self, name: &str, like: NodeId) -> NodeId {
        let flow = self.zeros(name, like, 2);
        self.graph.initial = Some(flow);
        flow
    }

    /// Says that `after` is `before`, corrected, and that so much of the state is read after the last correction.
    pub fn iteration(&mut self, before: NodeId, after: NodeId, state: &[NodeId]) {
        self.graph.iterations.push(Iteration { before, after, state: state.to_vec() });
    }

    /// Zeros of the size of `like`.
    pub fn zeros(&mut self, name: &str, like: NodeId, channels: usize) -> NodeId {
        self.add(name, Op::Zeros { channels }, &[like], channels)
    }

    fn same(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> NodeId {
        let channels = self.channels_of(inputs[0]);
        self.add(name, op, inputs, channels)
    }

    fn add(&mut self, name: &str, op: Op, inputs: &[NodeId], channels: usize) -> NodeId {
        let id = NodeId(self.graph.nodes.len() as u32);
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), name: format!("{}{name}", self.scope) });
        self.channels.push(channels);
        id
    }

    fn weight(&mut self, layer: &str, shape: Vec<usize>, role: ParamRole) -> ParamId {
        let name = match self.naming {
            Naming::Dotted => format!("{layer}.weight"),
            Naming::Kernel => format!("{layer}/kernel"),
        };
        self.param(&name, shape, role)
    }

    fn bias(&mut self, layer: &str, channels: usize) -> ParamId {
        let name = match self.naming {
            Naming::Dotted => format!("{layer}.bias"),
            Naming::Kernel => format!("{layer}/bias"),
        };
        self.param(&name, vec![channels], ParamRole::Bias)
    }

    /// A parameter named twice is one parameter, read twice (UFlow's shared decoder).
    fn param(&mut self, name: &str, shape: Vec<usize>, role: ParamRole) -> ParamId {
        let name = format!("{}{name}", self.scope);
        let params = &mut self.graph.params;
        let index = params.iter().position(|p| p.name == name).unwrap_or(params.len());
        if index == params.len() {
            params.push(Param { name, shape, role, used: true, gain: 1.0 });
        } else {
            assert_eq!(params[index].shape, shape, "`{name}` is shared by layers of different shape");
        }
        ParamId(index as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_parameters_keeps_layers_on_their_own() {
        let mut net = Builder::new(Naming::Dotted);
        let x = net.frame(Frame::First);
        let b = net.scope("s.", |net| {
            let first = net.param_count();
            let b = net.conv("b", x, k(3).out(4));
            let a = net.conv("a", b, k(1).out(2).no_bias());
            net.sort_params(first, |name| name.to_string());
            (a, b)
        });
        let graph = net.finish(b.0, Filter::Bilinear, Grid::HalfPixel, &[]);
        let names: Vec<&str> = graph.params.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["s.a.weight", "s.b.bias", "s.b.weight"]);
        for node in &graph.nodes {
            if let Op::Conv(c) = &node.op {
                assert_eq!(graph.param(c.weight).name, format!("{}.weight", node.name));
            }
        }
    }

    #[test]
    fn a_parameter_named_twice_is_shared() {
        let mut net = Builder::new(Naming::Kernel);
        let x = net.frame(Frame::First);
        let once = net.conv(("one", "decoder"), x, k(3).out(3));
        let twice = net.conv(("two", "decoder"), once, k(3).out(3));
        let graph = net.finish(twice, Filter::Nearest, Grid::HalfPixel, &[]);
        assert_eq!(graph.params.len(), 2);
    }
}
