//! Rill, Ferroflow's own network: one small decoder refines the flow again and again, from coarse to fine.
//!
//! It combines PWC-Net's principles (Sun et al. 2018: pyramid, warping, cost volume) with UFlow's normalisation of the features
//! that are compared (Jonschkowski et al. 2020) and RAFT's recurrence (Teed and Deng 2020). The same decoder serves every level
//! and every iteration, and passes its context on from one to the next, so that it learns from each pair many times over. The
//! last step, at 1/2, has no cost volume: it sharpens the flow from the features of frame 1 and those of frame 2 at the place to
//! which the flow points. Frames are RGB in -1..=1; flows are (u, v) in pixels of their level.
//!
//! ```text
//!            frame 1, frame 2
//!                   |
//!   pyramid: 1/2, 1/4, 1/8, 1/16, 1/32, 1/64 (two 3x3 convolutions each)
//!                   |
//!   1/64: [ warp frame 2's features by the flow, 81 costs, decoder: context, flow += update ] x iterations
//!     |  flow doubled, context through a transposed convolution
//!   1/32, 1/16, 1/8, 1/4: the same decoder, fewer iterations where they cost; at 1/4 then dilated convolutions that see
//!     |  far: flow += update
//!   1/2:  refine: features 1, features 2 warped, flow, context -> flow += update
//!     |
//!   1/1:  convex upsampling by what the last context says
//! ```

use crate::graph::{
    Builder, Correlation, Filter, FlowOrder, Frame, Graph, Grid, MomentsOver, Naming, NodeId, OnPixel, Warp,
    WarpBorder, k,
};
use crate::model::{CheckpointLayout, Definition, Entry, Fit, Network, Protocol, PyramidUnit, Row};
use crate::settings::{Setting, count};

const CORRELATION: Correlation = Correlation { max_displacement: 4, stride: 1 };
const WARP: Warp = Warp { border: WarpBorder::Zeros, order: FlowOrder::Uv, scale: 1.0, on_pixel: OnPixel::Right };
/// Channels to which each level's features of frame 1 are brought for the shared decoder.
const PROJECTED: usize = 32;
/// Channels of the last step's convolutions; the last is its context, which it gets as many of.
const REFINED: [usize; 2] = [32, 16];
/// Channels and dilation of the convolutions that see far, as in PWC-Net's context network.
const DILATED: [(usize, usize); 5] = [(48, 1), (48, 2), (48, 4), (32, 8), (32, 1)];
/// Updates begin this much smaller than other layers: at first, the flow is nearly zero rather than noise.
const UPDATE_GAIN: f32 = 0.02;
/// The finest level that matches, at 1/4.
const FINEST: usize = 2;

/// The width of the network, and its numbers of iterations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RillConfig {
    /// Channels of the features at 1/2, 1/4, ... 1/64.
    pub pyramid: [usize; 6],
    /// Channels of the decoder's convolutions; the last is the context.
    pub decoder: [usize; 4],
    /// Iterations at each of 1/64, 1/32 and 1/16, where they cost little.
    pub iterations: usize,
    /// Iterations at 1/8.
    pub iterations8: usize,
    /// Iterations at 1/4.
    pub iterations4: usize,
}

impl RillConfig {
    /// `rill`, which estimates about 20 pairs of 448x1024 a second on two cores.
    pub const fn small() -> Self {
        Self {
            pyramid: [16, 32, 40, 64, 80, 104],
            decoder: [64, 64, 48, 32],
            iterations: 4,
            iterations8: 2,
            iterations4: 1,
        }
    }

    /// `rill-large`, which is wider and has more iterations at the fine levels, for accuracy.
    pub const fn large() -> Self {
        Self {
            pyramid: [32, 64, 80, 96, 112, 128],
            decoder: [128, 128, 96, 64],
            iterations: 6,
            iterations8: 5,
            iterations4: 2,
        }
    }

    pub(crate) const SETTINGS: &'static [Setting<Self>] = &[
        count!(
            "iterations",
            "iterations at each of 1/64 to 1/16; any number with the same weights",
            1.0..=32.0,
            iterations
        )
        .interchangeable(),
        count!("iterations-8", "iterations at 1/8; any number with the same weights", 1.0..=32.0, iterations8)
            .interchangeable(),
        count!("iterations-4", "iterations at 1/4; any number with the same weights", 1.0..=32.0, iterations4)
            .interchangeable(),
    ];

    /// The graph. Level `l` is at `1 / 2^l`.
    pub fn build(&self) -> Graph {
        let mut net = Builder::new(Naming::Dotted);
        let frames = [net.frame(Frame::First), net.frame(Frame::Second)];
        let x = net.stack("frames", &frames);
        let x = net.affine("frames.signed", x, &[2.0 / 255.0], &[-1.0]);
        let pyramid = self.feature_pyramid(&mut net, x);
        let features = |net: &mut Builder, level: usize| {
            let stacked = pyramid[level - 1];
            [0, 1].map(|frame| net.part(&format!("features{}_{level}", frame + 1), stacked, frame, 2))
        };

        let mut flows = Vec::new();
        let mut state: Option<State> = None;
        for level in (FINEST..=pyramid.len()).rev() {
            let [features1, features2] = features(&mut net, level);
            let projected = net.conv(format!("project{level}"), features1, k(1).out(PROJECTED));
            let iterations = match level {
                2 => self.iterations4,
                3 => self.iterations8,
                _ => self.iterations,
            };
            for iteration in 1..=iterations {
                let tag = format!("{level}_{iteration}");
                let mut now = self.iterate(&mut net, &tag, [features1, features2], projected, state);
                if level == FINEST && iteration == iterations {
                    now.flow = look_around(&mut net, now);
                }
                flows.push(now.flow);
                state = Some(now);
            }
            state = state.map(|state| {
                let context = if level == FINEST { "up_context_refine" } else { "up_context" };
                let out = if level == FINEST { REFINED[1] } else { self.context() };
                enlarge(&mut net, level, state, context, out)
            });
        }
        let State { flow, context } = state.expect("there is at least one level");
        let features = features(&mut net, FINEST - 1);
        let refined = refine(&mut net, features, State { flow, context });
        let logits = net.conv("upsample_logits", refined.context, k(1).out(9 * 4));
        let full = net.convex_upsample("flow1_convex", refined.flow, logits, 2);
        let full = net.scale("flow0", full, 2.0);
        flows.extend([refined.flow, full]);
        net.finish(full, Filter::Bilinear, Grid::HalfPixel, &flows)
    }

    fn context(&self) -> usize {
        self.decoder[self.decoder.len() - 1]
    }

    /// Features of both frames, level by level.
    fn feature_pyramid(&self, net: &mut Builder, mut x: NodeId) -> Vec<NodeId> {
        let mut levels = Vec::with_capacity(self.pyramid.len());
        for (level, out) in (1..).zip(self.pyramid) {
            for (i, stride) in [2, 1].into_iter().enumerate() {
                x = net.conv_leaky(format!("pyramid{level}_{i}"), x, k(3).stride(stride).out(out));
            }
            levels.push(x);
        }
        levels
    }

    /// Looks where the flow points, and corrects it.
    fn iterate(
        &self,
        net: &mut Builder,
        tag: &str,
        features: [NodeId; 2],
        projected: NodeId,
        state: Option<State>,
    ) -> State {
        let [features1, features2] = features;
        let warped = match state {
            Some(State { flow, .. }) => net.warp(&format!("warped{tag}"), features2, flow, WARP),
            None => features2,
        };
        let [moments, a, b] = ["moments", "normal1_", "normal2_"].map(|name| format!("{name}{tag}"));
        let (a, b) = net.standardise([&moments, &a, &b], features1, warped, MomentsOver::Pair, 1e-6);
        let costs = net.correlation(&format!("costs{tag}"), a, b, CORRELATION);
        let before = state.unwrap_or_else(|| State {
            flow: net.zeros("zero_flow", features1, 2),
            context: net.zeros("zero_context", features1, self.context()),
        });
        let mut x = net.concat(&format!("seen{tag}"), &[costs, projected, before.flow, before.context]);
        for (i, out) in self.decoder.into_iter().enumerate() {
            x = net.conv_leaky((format!("decoder{tag}_{i}"), format!("decoder_{i}")), x, k(3).out(out));
        }
        let spec = k(3).out(2).gain(UPDATE_GAIN);
        let update = net.conv((format!("update{tag}"), "update".to_string()), x, spec);
        let flow = match state {
            Some(State { flow, .. }) => net.sum(&format!("flow{tag}"), flow, update),
            None => update,
        };
        State { flow, context: x }
    }
}

/// The networks of this file.
pub(crate) const NETWORKS: &[&dyn Entry] = &[
    &Row {
        name: "rill",
        aliases: &[],
        config: RillConfig::small,
        settings: RillConfig::SETTINGS,
        description: "ours: recurrent, coarse to fine, small and fast",
    },
    &Row {
        name: "rill-large",
        aliases: &[],
        config: RillConfig::large,
        settings: RillConfig::SETTINGS,
        description: "ours: wider, with more iterations",
    },
];

impl Definition for RillConfig {
    fn define(&self) -> Network {
        Network {
            graph: self.build(),
            stride: 1 << self.pyramid.len(),
            fit: Fit::STRETCH,
            protocol: Protocol { fit: Fit::STRETCH, batch: None },
            layout: CheckpointLayout::Oihw,
            pyramid_unit: PyramidUnit::LevelPixels { row_first: false },
            levels: Vec::new(),
            paper: "Ferroflow's own; recurrence as in Teed and Deng, RAFT, ECCV 2020, pyramid as in PWC-Net",
            test_gains: &[],
        }
    }
}

/// What an iteration hands to the next.
#[derive(Clone, Copy)]
struct State {
    flow: NodeId,
    context: NodeId,
}

/// The state of one level as that of the next finer one.
fn enlarge(net: &mut Builder, level: usize, state: State, layer: &str, out: usize) -> State {
    let doubled = net.resize(&format!("flow{level}_doubled"), state.flow, 2, Filter::Bilinear, Grid::HalfPixel);
    State {
        flow: net.scale(&format!("flow{level}_up"), doubled, 2.0),
        context: net.deconv((format!("context{level}_up"), layer.to_string()), state.context, out, true),
    }
}

/// The flow at 1/4, corrected by what lies far around.
fn look_around(net: &mut Builder, State { flow, context }: State) -> NodeId {
    let mut x = net.concat("dilated_seen", &[context, flow]);
    for (i, (out, dilation)) in DILATED.into_iter().enumerate() {
        x = net.conv_leaky(format!("dilated_{i}"), x, k(3).dilation(dilation).out(out));
    }
    let update = net.conv("dilated_update", x, k(3).out(2).gain(UPDATE_GAIN));
    net.sum("flow2", flow, update)
}

/// The flow at 1/2, sharpened along what is seen in frame 1 and by what does not fit in frame 2.
fn refine(net: &mut Builder, [features1, features2]: [NodeId; 2], State { flow, context }: State) -> State {
    let warped = net.warp("refine_warped", features2, flow, WARP);
    let mut x = net.concat("refine_seen", &[features1, flow, context, warped]);
    for (i, out) in REFINED.into_iter().enumerate() {
        x = net.conv_leaky(format!("refine_{i}"), x, k(3).out(out));
    }
    let update = net.conv("refine_update", x, k(3).out(2).gain(UPDATE_GAIN));
    State { flow: net.sum("flow1", flow, update), context: x }
}
