//! UFlow, a lighter PWC-Net for learning without ground truth.
//!
//! Jonschkowski et al., What Matters in Unsupervised Optical Flow, ECCV 2020; code: google-research/uflow
//! `uflow_model.py` and its MindSpore port. Frames are RGB in -1..=1; flows are (dy, dx) in pixels of their level.
//! 5,718,218 parameters, of which the finest context upsampling (16,416) is never read.

use super::uflow_names::UFlowNames;
use crate::graph::{
    Builder, Correlation, Filter, FlowOrder, Frame, Graph, Grid, Initialisation, MomentsOver, NodeId, OnPixel, Op,
    Padding, Warp, WarpBorder, k,
};
use crate::model::{Definition, Entry, Fit, Network, Protocol, PyramidUnit, Row};
use crate::settings::{Setting, count};

const CORRELATION: Correlation = Correlation { max_displacement: 4, stride: 1 };
/// Channels of the decoder's convolutions.
const DENSE: [usize; 5] = [128, 128, 96, 64, 32];
/// Channels and dilation of the refinement's convolutions, before its last.
const REFINEMENT: [(usize, usize); 6] = [(128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1)];
/// Channels that the shared decoder takes from the features, at any channel multiplier.
const SHARED_FEATURES: usize = 32;
/// Channels of the pyramid with `original_layer_sizes`.
const ORIGINAL_SIZES: [usize; 6] = [16, 32, 64, 96, 128, 196];

/// Factors on the formula's weights without normalisation, which else makes up for how features fade.
const UNNORMALISED_GAINS: &[(&str, f64)] = &[
    ("feature_model/_convs/0/0/kernel", 1.5),
    ("feature_model/_convs/1/0/kernel", 1.5),
    ("feature_model/_convs/2/0/kernel", 1.5),
    ("feature_model/_convs/3/0/kernel", 1.5),
    ("feature_model/_convs/4/0/kernel", 1.5),
];

/// The flags of Google's `uflow_flags.py` that shape the network, and what the MindSpore port does differently.
#[derive(Clone, Debug, PartialEq)]
pub struct UFlowConfig {
    /// Whose names the parameters have.
    pub names: UFlowNames,
    /// `num_levels`: the coarsest features are at `1 / 2^levels`.
    pub levels: usize,
    /// `level1_num_layers`
    pub level1_layers: usize,
    /// `level1_num_filters`
    pub level1_filters: usize,
    /// `level1_num_1x1`: how many of the last convolutions of level 1 are 1x1.
    pub level1_1x1: usize,
    /// `original_layer_sizes`: PWC-Net's pyramid channels.
    pub original_sizes: bool,
    /// `channel_multiplier`
    pub channel_multiplier: f64,
    /// `use_cost_volume`; a 4x4 convolution in its place otherwise.
    pub cost_volume: bool,
    /// `use_feature_warp`
    pub feature_warp: bool,
    /// `accumulate_flow`: a level's flow is added to the flow of the coarser level.
    pub accumulate_flow: bool,
    /// `normalize_before_cost_volume`
    pub normalize: bool,
    /// `shared_flow_decoder`: one decoder for all levels.
    pub shared_decoder: bool,
    /// Leaky ReLU on the costs.
    pub cost_leaky: bool,
    /// Grid of every resize.
    pub grid: Grid,
    /// What the feature normalisation averages over.
    pub moments: MomentsOver,
}

impl UFlowConfig {
    /// google-research/uflow with its default flags, except that every pair is normalised on its own (its own evaluation
    /// runs one pair at a time).
    pub fn google() -> Self {
        Self {
            names: UFlowNames::Google,
            levels: 5,
            level1_layers: 3,
            level1_filters: 32,
            level1_1x1: 0,
            original_sizes: false,
            channel_multiplier: 1.0,
            cost_volume: true,
            feature_warp: true,
            accumulate_flow: true,
            normalize: true,
            shared_decoder: false,
            cost_leaky: true,
            grid: Grid::HalfPixel,
            moments: MomentsOver::Pair,
        }
    }

    /// The MindSpore port.
    pub fn mindspore() -> Self {
        Self { names: UFlowNames::MindSpore, cost_leaky: false, grid: Grid::Asymmetric, ..Self::google() }
    }

    const GRID: Setting<Self> = Setting::<Self>::choice(
        "upsample-grid",
        "grid of every resize of a flow",
        &[
            ("half-pixel", |c| c.grid = Grid::HalfPixel),
            ("align-corners", |c| c.grid = Grid::AlignCorners),
            ("asymmetric", |c| c.grid = Grid::Asymmetric),
        ],
    )
    .interchangeable();
    const COST_ACTIVATION: Setting<Self> = Setting::choice(
        "cost-activation",
        "what follows the cost volume",
        &[("leaky", |c| c.cost_leaky = true), ("none", |c| c.cost_leaky = false)],
    );
    const MOMENTS: Setting<Self> = Setting::<Self>::choice(
        "normalize-over",
        "what features are normalised over",
        &[("pair", |c| c.moments = MomentsOver::Pair), ("batch", |c| c.moments = MomentsOver::Batch)],
    )
    .interchangeable();

    pub(crate) const SETTINGS: &'static [Setting<Self>] = &[
        Self::GRID,
        Self::COST_ACTIVATION,
        Self::MOMENTS,
        count!("levels", "levels of the feature pyramid", 2.0..=6.0, levels),
        count!("level1-layers", "convolutions of level 1", 1.0..=8.0, level1_layers),
        count!("level1-filters", "channels of level 1", 16.0..=256.0, level1_filters),
        count!("level1-1x1", "how many of the last convolutions of level 1 are 1x1", 0.0..=8.0, level1_1x1),
        Setting::choice(
            "layer-sizes",
            "channels of the pyramid: 32 everywhere, or PWC-Net's",
            &[("equal", |c| c.original_sizes = false), ("original", |c| c.original_sizes = true)],
        ),
        Setting::number(
            "channel-multiplier",
            "factor on the channels of every layer",
            0.1..=4.0,
            |c| c.channel_multiplier,
            |c, v| {
                c.channel_multiplier = v;
            },
        ),
        Setting::choice(
            "cost-volume",
            "off: a 4x4 convolution in its place",
            &[("on", |c| c.cost_volume = true), ("off", |c| c.cost_volume = false)],
        ),
        Setting::choice(
            "feature-warp",
            "warp the second frame's features",
            &[("on", |c| c.feature_warp = true), ("off", |c| c.feature_warp = false)],
        ),
        Setting::choice(
            "accumulate-flow",
            "a level's flow adds to that of the level above",
            &[("on", |c| c.accumulate_flow = true), ("off", |c| c.accumulate_flow = false)],
        ),
        Setting::choice(
            "normalize",
            "normalise features before the cost volume",
            &[("on", |c| c.normalize = true), ("off", |c| c.normalize = false)],
        ),
        Setting::choice(
            "shared-decoder",
            "one flow decoder for all levels",
            &[("off", |c| c.shared_decoder = false), ("on", |c| c.shared_decoder = true)],
        ),
    ];

    /// The options of the MindSpore port, whose structure is fixed.
    pub(crate) const SETTINGS_MINDSPORE: &'static [Setting<Self>] = &[Self::GRID, Self::COST_ACTIVATION, Self::MOMENTS];

    /// The graph. Levels are named by their stride: `flow2` is 1/4, `flow5` is 1/32.
    pub fn build(&self) -> Graph {
        let mut net = Builder::new(self.names.naming()).initialisation(Initialisation::XavierUniform { bias: 0.0 });
        let frames = [net.frame(Frame::First), net.frame(Frame::Second)];
        let x = net.stack("frames", &frames);
        let x = net.affine("frames.signed", x, &[2.0 / 255.0], &[-1.0]);
        let pyramid = self.feature_pyramid(&mut net, x);

        let mut flows: Vec<NodeId> = Vec::new();
        let mut up: Option<Up> = None;
        for level in (2..=self.levels).rev() {
            let features1 = net.part(&format!("features1_{level}"), pyramid[level - 1], 0, 2);
            let features2 = net.part(&format!("features2_{level}"), pyramid[level - 1], 1, 2);
            let cost = self.cost(&mut net, level, features1, features2, up);
            let context = self.decoder(&mut net, level, features1, cost, up);

            let label = |node: String| (node, self.names.flow(level, self.shared_decoder));
            let is_finest = level == 2;
            let mut flow = match up {
                Some(up) if self.accumulate_flow => {
                    let update = net.conv(label(format!("update{level}")), context, k(3).out(2));
                    let name = if is_finest { "flow2_raw".into() } else { format!("flow{level}") };
                    net.sum(&name, update, up.flow)
                }
                _ if is_finest => net.conv(label("flow2_raw".into()), context, k(3).out(2)),
                _ => net.conv(label(format!("flow{level}")), context, k(3).out(2)),
            };
            if is_finest {
                net.unused_deconv(&self.names.context_up(level), net.channels_of(context), self.scaled(32));
                let refinement = self.refinement(&mut net, context, flow);
                flow = net.sum("flow2", flow, refinement);
            } else {
                let doubled = net.resize(&format!("up_flow{level}"), flow, 2, Filter::Bilinear, self.grid);
                let label = (format!("up_context{level}"), self.names.context_up(level));
                up = Some(Up {
                    flow: net.scale(&format!("up_flow{level}.pixels"), doubled, 2.0),
                    context: net.deconv(label, context, self.scaled(32), true),
                });
            }
            flows.push(flow);
        }
        self.names.sort(&mut net);
        let finest = flows[flows.len() - 1];
        let uv = net.channels("flow2.uv", finest, &[1, 0]);
        let pixels = net.scale("flow2.pixels", uv, 4.0);
        net.finish(pixels, Filter::Bilinear, self.grid, &flows)
    }

    /// The nodes of the context and the flow of each level, and at last those of the refinement.
    fn levels_of(&self, graph: &Graph) -> Vec<Vec<NodeId>> {
        if self.shared_decoder {
            return Vec::new();
        }
        let called = |names: &[String]| {
            let ids = (0..graph.nodes.len() as u32).map(NodeId);
            ids.filter(|id| {
                let node = &graph.nodes[id.0 as usize];
                matches!(node.op, Op::Conv(_)) && names.contains(&node.name)
            })
            .collect()
        };
        let level = |level: usize| {
            // With or without the flow of the level above; the last convolution of the decoder has a name of its own.
            let (flow, update) = (format!("flow{level}"), format!("update{level}"));
            let raw = format!("flow{level}_raw");
            let context = format!("dense{level}_{}", DENSE.len() - 1);
            called(&[flow, update, raw, format!("{context}.conv")])
        };
        let refinement = called(&["refinement6".to_string()]);
        (2..=self.levels).map(level).chain([refinement]).collect()
    }

    fn scaled(&self, channels: usize) -> usize {
        (channels as f64 * self.channel_multiplier) as usize
    }

    /// Features of both frames; level 1 is at 1/2.
    fn feature_pyramid(&self, net: &mut Builder, mut x: NodeId) -> Vec<NodeId> {
        let mut levels = Vec::new();
        let mut number = 0;
        for level in 1..=self.levels {
            let (layers, out) = match (self.original_sizes, level) {
                (true, _) => (3, ORIGINAL_SIZES[level - 1]),
                (false, 1) => (self.level1_layers, self.level1_filters),
                (false, _) => (3, 32),
            };
            for i in 0..layers {
                let pointwise = level == 1 && i + self.level1_1x1 >= layers;
                let spec = k(if pointwise { 1 } else { 3 }).stride(if i == 0 { 2 } else { 1 }).out(self.scaled(out));
                number += 1;
                x = net.conv_leaky((format!("conv{level}_{i}"), self.names.feature(level, i, number)), x, spec);
            }
            levels.push(x);
        }
        levels
    }

    /// What matching says: 81 costs of the normalised features, or what stands in for them.
    fn cost(&self, net: &mut Builder, level: usize, features1: NodeId, features2: NodeId, up: Option<Up>) -> NodeId {
        let warped = match up {
            Some(up) if self.feature_warp => {
                let warp =
                    Warp { border: WarpBorder::Zeros, order: FlowOrder::Vu, scale: 1.0, on_pixel: OnPixel::Zero };
                net.warp(&format!("warped{level}"), features2, up.flow, warp)
            }
            _ => features2,
        };
        let (a, b) = if self.normalize {
            let [moments, a, b] = ["moments", "features1_norm", "warped2_norm"].map(|n| format!("{n}{level}"));
            net.standardise([&moments, &a, &b], features1, warped, self.moments, 1e-16)
        } else {
            (features1, warped)
        };
        let corr = if self.cost_volume {
            net.correlation(&format!("corr{level}"), a, b, CORRELATION)
        } else {
            let joined = net.concat(&format!("matched{level}"), &[a, b]);
            let spec = k(4).padding(Padding::before_after(1, 2)).out(self.scaled(64));
            net.conv((format!("corr{level}"), self.names.surrogate(level)), joined, spec)
        };
        if self.cost_leaky { net.leaky(&format!("cost{level}"), corr) } else { corr }
    }

    /// Densely connected convolutions, new features last; returns the context, the last one's features.
    fn decoder(&self, net: &mut Builder, level: usize, features1: NodeId, cost: NodeId, up: Option<Up>) -> NodeId {
        let (features, up) = if self.shared_decoder {
            let label = (format!("shared_features{level}"), self.names.shared_1x1(level));
            let features = net.conv(label, features1, k(1).out(SHARED_FEATURES));
            let up = up.unwrap_or_else(|| Up {
                flow: net.zeros("zero_flow", features1, 2),
                context: net.zeros("zero_context", features1, self.scaled(32)),
            });
            (features, Some(up))
        } else {
            (features1, up)
        };
        let input = format!("input{level}");
        let mut x = match up {
            None => net.concat(&input, &[cost, features]),
            Some(up) => net.concat(&input, &[up.context, up.flow, cost, features]),
        };
        let mut context = x;
        for (i, out) in DENSE.into_iter().enumerate() {
            let label = (format!("dense{level}_{i}"), self.names.dense(level, i, self.shared_decoder));
            context = net.conv_leaky(label, x, k(3).out(self.scaled(out)));
            if i + 1 < DENSE.len() {
                x = net.concat(&format!("dense{level}_{i}.joined"), &[x, context]);
            }
        }
        context
    }

    /// Dilated convolutions that see far: a correction of the finest flow.
    fn refinement(&self, net: &mut Builder, context: NodeId, flow: NodeId) -> NodeId {
        let mut x = net.concat("refinement.input", &[context, flow]);
        for (i, (out, dilation)) in REFINEMENT.into_iter().enumerate() {
            let label = (format!("refinement{i}"), self.names.refinement(i));
            x = net.conv_leaky(label, x, k(3).dilation(dilation).out(self.scaled(out)));
        }
        net.conv(("refinement6".to_string(), self.names.refinement(6)), x, k(3).out(2))
    }
}

/// The networks of this file.
pub(crate) const NETWORKS: &[&dyn Entry] = &[
    &Row {
        name: "uflow",
        aliases: &[],
        config: UFlowConfig::google,
        settings: UFlowConfig::SETTINGS,
        description: "UFlow (Google), learned without ground truth",
    },
    &Row {
        name: "uflow-mindspore",
        aliases: &[],
        config: UFlowConfig::mindspore,
        settings: UFlowConfig::SETTINGS_MINDSPORE,
        description: "the MindSpore port of UFlow",
    },
];

impl Definition for UFlowConfig {
    fn define(&self) -> Network {
        let graph = self.build();
        Network {
            levels: self.levels_of(&graph),
            graph,
            stride: 1 << self.levels,
            fit: Fit::Resize(self.grid),
            protocol: Protocol { fit: Fit::Resize(self.grid), batch: None },
            layout: self.names.layout(),
            pyramid_unit: PyramidUnit::LevelPixels { row_first: true },
            paper: "Jonschkowski et al., What Matters in Unsupervised Optical Flow, ECCV 2020",
            test_gains: if self.normalize { &[] } else { UNNORMALISED_GAINS },
        }
    }
}

/// What a level hands to the next finer one.
#[derive(Clone, Copy)]
struct Up {
    flow: NodeId,
    context: NodeId,
}
