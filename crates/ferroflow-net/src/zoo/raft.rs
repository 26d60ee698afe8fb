//! RAFT: the products of all pairs of pixels, in which a recurrent unit looks up where the flow points, and corrects it.
//!
//! Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020, figure 1; code: princeton-vl/RAFT
//! `core/raft.py`, torchvision `raft_large` and `raft_small`, which compute the same under other names. Frames are RGB in -1..=1;
//! flows are (u, v) in pixels of the level, 1/8 of the frames. Parameters: 5,257,536; RAFT-small 990,162.
//!
//! ```text
//!   frame 1, frame 2 -> feature encoder (1/8) -> f1, f2: the products of all their pixels
//!   frame 1 -> context encoder (1/8) -> context, first hidden state
//!
//!   [ look up around where the flow points -> motion encoder
//!     motion, context -> GRU: hidden state -> flow += update ] x iterations
//!
//!   hidden state -> how to mix each fine flow of nine coarse ones (RAFT-small: bilinear)
//! ```

use crate::graph::{Builder, ConvSpec, Filter, Frame, Graph, Grid, Initialisation, Lookup, Naming, NodeId, k, kr};
use crate::model::{CheckpointLayout, Definition, Entry, Fit, Network, Protocol, PyramidUnit, Row};
use crate::settings::{Setting, count};

/// Ratio of the frames' size to that of the flow before it is upsampled.
pub(super) const DOWN: usize = 8;
/// Levels of the second map in which is looked up.
const LEVELS: usize = 4;
/// What multiplies the logits of the upsampling, so that their gradients weigh less.
const LOGITS: f32 = 0.25;
/// Standard deviation of PyTorch's own first weights, `sqrt(1 / (3 fan_in))`, as a fraction of Kaiming's.
const PLAIN: f32 = 0.408_248_3;

/// RAFT or RAFT-small, and how often it corrects its flow.
#[derive(Clone, Debug, PartialEq)]
pub struct RaftConfig {
    /// RAFT-small: bottleneck blocks, fewer channels, one 3x3 GRU, bilinear upsampling.
    pub small: bool,
    /// Number of corrections.
    pub iterations: usize,
}

impl RaftConfig {
    /// RAFT, with torchvision's 12 iterations.
    pub const fn large() -> Self {
        Self { small: false, iterations: 12 }
    }

    /// RAFT-small, with torchvision's 12 iterations.
    pub const fn small() -> Self {
        Self { small: true, iterations: 12 }
    }

    pub(crate) const SETTINGS: &'static [Setting<Self>] =
        &[count!("iterations", "corrections of the flow; any number with the same weights", 1.0..=32.0, iterations)
            .interchangeable()];

    /// The graph.
    pub fn build(&self) -> Graph {
        let mut net = Builder::new(Naming::Dotted).initialisation(Initialisation::KaimingNormal { slope: 0.0 });
        let [one, two] = signed_frames(&mut net);
        let both = net.stack("frames", &[one, two]);
        let (features, hidden, context) = if self.small { (128, 96, 64) } else { (256, 128, 128) };
        let maps = self.encoder(&mut net, "fnet.", both, features, Norm::Instance);
        let maps = [0, 1].map(|frame| net.part(&format!("features{}", frame + 1), maps, frame, 2));
        let norm = if self.small { Norm::None } else { Norm::Batch };
        let looked_at = self.encoder(&mut net, "cnet.", one, hidden + context, norm);
        let (mut state, context) = halves(&mut net, looked_at, hidden);
        state = net.tanh("state0", state);
        let context = net.relu("context", context);

        let mut flow = net.initial_flow("flow0", maps[0]);
        let mut flows = Vec::with_capacity(self.iterations);
        for iteration in 1..=self.iterations {
            let mut now = Iteration { net: &mut net, number: iteration };
            if iteration > 1 {
                flow = now.named(Builder::detach, "known", flow);
            }
            let costs = now.costs(maps, flow, if self.small { 3 } else { 4 });
            let motion = if self.small { now.small_motion(costs, flow) } else { now.motion(costs, flow) };
            let seen = now.concat("seen", &[context, motion]);
            state = if self.small {
                now.gru("", state, seen, k(3).out(hidden))
            } else {
                let across = now.gru("1", state, seen, kr(1, 5).out(hidden));
                now.gru("2", across, seen, kr(5, 1).out(hidden))
            };
            let width = if self.small { 128 } else { 256 };
            let x = now.conv_relu("update_block.flow_head.conv1", state, k(3).out(width));
            let update = now.conv("update_block.flow_head.conv2", x, k(3).out(2));
            let known = flow;
            flow = now.net.sum(&format!("flow{iteration}"), known, update);
            now.net.iteration(known, flow, if self.small { &[] } else { std::slice::from_ref(&state) });
            flows.push(if self.small {
                now.bilinear(flow)
            } else {
                let logits = now.logits("update_block.mask", state);
                now.convex(flow, logits)
            });
        }
        net.finish(flows[flows.len() - 1], Filter::Bilinear, Grid::HalfPixel, &flows)
    }

    /// Features of frames at 1/8.
    fn encoder(&self, net: &mut Builder, scope: &str, x: NodeId, out: usize, norm: Norm) -> NodeId {
        let widths = if self.small { [32, 32, 64, 96] } else { [64, 64, 96, 128] };
        net.scope(scope, |net| {
            let x = encode(net, "conv1", x, k(7).stride(2), widths[0]); // 1/2
            let x = norm.apply(net, "norm1", x);
            let mut x = net.relu("relu1", x);
            for (layer, stride) in [(1, 1), (2, 2), (3, 2)] {
                for (block, stride) in [(0, stride), (1, 1)] {
                    x = net.scope(&format!("layer{layer}.{block}."), |net| {
                        if self.small {
                            bottleneck(net, x, widths[layer], stride, norm)
                        } else {
                            residual(net, x, widths[layer], stride, norm)
                        }
                    });
                }
            }
            encode(net, "conv2", x, k(1), out)
        })
    }
}

/// Both frames in -1..=1.
pub(super) fn signed_frames(net: &mut Builder) -> [NodeId; 2] {
    [Frame::First, Frame::Second].map(|frame| {
        let name = if frame == Frame::First { "frame1.signed" } else { "frame2.signed" };
        let frame = net.frame(frame);
        net.affine(name, frame, &[2.0 / 255.0], &[-1.0])
    })
}

/// The first `count` channels, and the others.
pub(super) fn halves(net: &mut Builder, x: NodeId, count: usize) -> (NodeId, NodeId) {
    let channels = net.channels_of(x) as u32;
    let first: Vec<u32> = (0..count as u32).collect();
    let others: Vec<u32> = (count as u32..channels).collect();
    (net.channels("state.linear", x, &first), net.channels("context.linear", x, &others))
}

/// What normalises an encoder's features.
#[derive(Clone, Copy, PartialEq)]
enum Norm {
    Instance,
    Batch,
    None,
}

impl Norm {
    fn apply(self, net: &mut Builder, name: &str, x: NodeId) -> NodeId {
        match self {
            Self::Instance => net.instance_norm(name, x),
            Self::Batch => net.batch_norm(name, x),
            Self::None => x,
        }
    }
}

/// A convolution of an encoder, whose first weights are Kaiming's by fan out.
pub(super) fn encode(net: &mut Builder, name: &str, x: NodeId, spec: ConvSpec, out: usize) -> NodeId {
    let by_fan_out = (net.channels_of(x) as f32 / out as f32).sqrt();
    net.conv(name, x, spec.out(out).gain(by_fan_out))
}

/// Two 3x3 convolutions beside the input.
fn residual(net: &mut Builder, x: NodeId, out: usize, stride: usize, norm: Norm) -> NodeId {
    let mut y = x;
    for (i, stride) in [(1, stride), (2, 1)] {
        y = encode(net, &format!("conv{i}"), y, k(3).stride(stride), out);
        y = norm.apply(net, &format!("norm{i}"), y);
        y = net.relu(&format!("relu{i}"), y);
    }
    beside(net, x, y, out, stride, norm)
}

/// A 3x3 convolution of a quarter of the channels between two 1x1 ones, beside the input.
fn bottleneck(net: &mut Builder, x: NodeId, out: usize, stride: usize, norm: Norm) -> NodeId {
    let mut y = x;
    for (i, spec, out) in [(1, k(1), out / 4), (2, k(3).stride(stride), out / 4), (3, k(1), out)] {
        y = encode(net, &format!("conv{i}"), y, spec, out);
        y = norm.apply(net, &format!("norm{i}"), y);
        y = net.relu(&format!("relu{i}"), y);
    }
    beside(net, x, y, out, stride, norm)
}

/// `relu(x + y)`, `x` brought to the size of `y`.
fn beside(net: &mut Builder, mut x: NodeId, y: NodeId, out: usize, stride: usize, norm: Norm) -> NodeId {
    if stride > 1 {
        x = encode(net, "downsample.0", x, k(1).stride(stride), out);
        x = norm.apply(net, "downsample.1", x);
    }
    let sum = net.sum("sum", x, y);
    net.relu("out", sum)
}

/// The layers of one iteration; all iterations share their parameters.
pub(super) struct Iteration<'a> {
    pub net: &'a mut Builder,
    /// From 1; 0 is what comes before.
    pub number: usize,
}

impl Iteration<'_> {
    pub fn name(&self, name: &str) -> String {
        format!("iteration{}.{name}", self.number)
    }

    /// A node of one input.
    pub fn named(&mut self, node: impl FnOnce(&mut Builder, &str, NodeId) -> NodeId, name: &str, x: NodeId) -> NodeId {
        let name = self.name(name);
        node(self.net, &name, x)
    }

    pub fn concat(&mut self, name: &str, parts: &[NodeId]) -> NodeId {
        let name = self.name(name);
        self.net.concat(&name, parts)
    }

    pub fn conv(&mut self, layer: &str, x: NodeId, spec: ConvSpec) -> NodeId {
        self.net.conv((self.name(layer), layer.to_string()), x, spec.gain(PLAIN))
    }

    pub fn conv_relu(&mut self, layer: &str, x: NodeId, spec: ConvSpec) -> NodeId {
        let x = self.conv(layer, x, spec);
        self.named(Builder::relu, &format!("{layer}.relu"), x)
    }

    /// The costs around where a flow points.
    pub fn costs(&mut self, maps: [NodeId; 2], flow: NodeId, radius: usize) -> NodeId {
        let name = self.name("costs");
        self.net.lookup(&name, maps, flow, Lookup { radius, levels: LEVELS })
    }

    /// What the costs and the flow say, and the flow.
    pub fn motion(&mut self, costs: NodeId, flow: NodeId) -> NodeId {
        let c = self.conv_relu("update_block.encoder.convc1", costs, k(1).out(256));
        let c = self.conv_relu("update_block.encoder.convc2", c, k(3).out(192));
        let f = self.conv_relu("update_block.encoder.convf1", flow, k(7).out(128));
        let f = self.conv_relu("update_block.encoder.convf2", f, k(3).out(64));
        self.motion_of(c, f, flow, 126)
    }

    fn small_motion(&mut self, costs: NodeId, flow: NodeId) -> NodeId {
        let c = self.conv_relu("update_block.encoder.convc1", costs, k(1).out(96));
        let f = self.conv_relu("update_block.encoder.convf1", flow, k(7).out(64));
        let f = self.conv_relu("update_block.encoder.convf2", f, k(3).out(32));
        self.motion_of(c, f, flow, 80)
    }

    fn motion_of(&mut self, costs: NodeId, flows: NodeId, flow: NodeId, out: usize) -> NodeId {
        let both = self.concat("costs_and_flow", &[costs, flows]);
        let motion = self.conv_relu("update_block.encoder.conv", both, k(3).out(out));
        self.concat("motion", &[motion, flow])
    }

    /// A convolutional GRU: the state mixed with a new one, each channel and pixel by its own share.
    fn gru(&mut self, number: &str, state: NodeId, seen: NodeId, spec: ConvSpec) -> NodeId {
        let layer = |gate: &str| format!("update_block.gru.conv{gate}{number}");
        let input = self.concat(&format!("gru.input{number}"), &[state, seen]);
        let [share, reset] = ["z", "r"].map(|gate| {
            let linear = self.conv(&layer(gate), input, spec);
            self.named(Builder::sigmoid, &format!("gru.{gate}{number}"), linear)
        });
        let name = self.name(&format!("gru.kept{number}"));
        let kept = self.net.product(&name, reset, state);
        let input = self.concat(&format!("gru.kept_input{number}"), &[kept, seen]);
        let linear = self.conv(&layer("q"), input, spec);
        let new = self.named(Builder::tanh, &format!("gru.q{number}"), linear);
        let name = self.name(&format!("gru.state{number}"));
        self.net.lerp(&name, state, new, share)
    }

    /// The logits by which the hidden state mixes each fine pixel of nine coarse ones.
    pub fn logits(&mut self, layer: &str, state: NodeId) -> NodeId {
        let x = self.conv_relu(&format!("{layer}.0"), state, k(3).out(256));
        let logits = self.conv(&format!("{layer}.2"), x, k(1).out(9 * DOWN * DOWN));
        self.named(|net, name, x| net.scale(name, x, LOGITS), "logits", logits)
    }

    /// The flow at full size.
    pub fn convex(&mut self, flow: NodeId, logits: NodeId) -> NodeId {
        let name = self.name("convex");
        let fine = self.net.convex_upsample(&name, flow, logits, DOWN);
        self.named(|net, name, x| net.scale(name, x, DOWN as f32), "pixels", fine)
    }

    fn bilinear(&mut self, flow: NodeId) -> NodeId {
        let fine = |net: &mut Builder, name: &str, x| net.resize(name, x, DOWN, Filter::Bilinear, Grid::AlignCorners);
        let fine = self.named(fine, "fine", flow);
        self.named(|net, name, x| net.scale(name, x, DOWN as f32), "pixels", fine)
    }
}

/// The networks of this file.
pub(crate) const NETWORKS: &[&dyn Entry] = &[
    &Row {
        name: "raft",
        aliases: &["raft-large"],
        config: RaftConfig::large,
        settings: RaftConfig::SETTINGS,
        description: "RAFT: recurrent lookups in the products of all pixels (Princeton, torchvision)",
    },
    &Row {
        name: "raft-small",
        aliases: &[],
        config: RaftConfig::small,
        settings: RaftConfig::SETTINGS,
        description: "RAFT with a fifth of the parameters",
    },
];

impl Definition for RaftConfig {
    fn define(&self) -> Network {
        Network {
            graph: self.build(),
            stride: DOWN,
            fit: Fit::default(),
            protocol: Protocol { fit: Fit::default(), batch: None },
            layout: CheckpointLayout::Oihw,
            pyramid_unit: PyramidUnit::Pixels(1.0),
            levels: Vec::new(),
            paper: "Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020",
            test_gains: &[("update_block.flow_head.conv2.weight", 0.1)],
        }
    }
}
