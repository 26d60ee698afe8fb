//! NeuFlow v2: a first flow by matching all pixels at 1/16, corrected there once and then at 1/8.
//!
//! Zhang, Gupta, Jiang and Singh, NeuFlow v2: High-Efficiency Optical Flow Estimation on Edge Devices, 2024 (arXiv 2408.10161),
//! figure 2; code: neufieldrobotics/NeuFlow_v2 `NeuFlow/neuflow.py`. Frames are BGR in 0..=1; flows are (u, v) in pixels of the level.
//! 9,029,536 parameters.
//!
//! ```text
//!   both frames -> backbone: features and context at 1/8 and 1/16
//!   features at 1/16, each frame's with the other's in view (two layers of attention) -> matching -> flow
//!
//!   1/16: [ look up around where the flow points -> convolutions: context, flow += update ]
//!     |  flow doubled; features and context joined with those at 1/8
//!   1/8:  [ the same ] x iterations
//!     |
//!   1/1:  convex upsampling by what frame 1 shows
//! ```

use crate::graph::{Builder, ConvSpec, Filter, Frame, Graph, Grid, Initialisation, Lookup, Naming, NodeId, Padding, k};
use crate::model::{CheckpointLayout, Definition, Entry, Fit, Network, Protocol, PyramidUnit, Row};
use crate::settings::{Setting, count};

/// Channels of a level's features.
const FEATURES: usize = 128;
/// Channels of its context, and of the context of an iteration.
const CONTEXT: usize = 64;
/// Offsets of up to 4 pixels, on the level itself.
const LOOKUP: Lookup = Lookup { radius: 4, levels: 1 };
/// Channels of the convolutions of an iteration at 1/16 and at 1/8, and how many there are.
const REFINED: [usize; 2] = [128, 96];
const LAYERS: usize = 5;
/// An iteration's context stays within these bounds (`Hardtanh`).
const BOUND: f32 = 4.0;

/// How often the flow at 1/8 is corrected.
#[derive(Clone, Debug, PartialEq)]
pub struct NeuFlowConfig {
    /// Corrections at 1/8.
    pub iterations: usize,
}

impl NeuFlowConfig {
    /// The published network.
    pub const fn v2() -> Self {
        Self { iterations: 8 }
    }

    pub(crate) const SETTINGS: &'static [Setting<Self>] =
        &[count!("iterations", "corrections at 1/8; any number with the same weights", 1.0..=32.0, iterations)
            .interchangeable()];

    /// The graph.
    pub fn build(&self) -> Graph {
        let mut net = Builder::new(Naming::Dotted).initialisation(Initialisation::XavierUniform { bias: 0.0 });
        let frames = [("1", Frame::First), ("2", Frame::Second)].map(|(number, frame)| {
            let frame = net.frame(frame);
            let bgr = net.channels(&format!("frame{number}.bgr"), frame, &[2, 1, 0]);
            net.scale(&format!("frame{number}.unit"), bgr, 1.0 / 255.0)
        });
        let both = net.stack("frames", &frames);
        let [coarse, fine] = net.scope("backbone.", |net| backbone(net, both));
        let coarse = net.scope("cross_attn_s16.", |net| attend(net, coarse));
        let [coarse_context, coarse] = parts(&mut net, "coarse", coarse);
        let [fine_context, fine] = parts(&mut net, "fine", fine);

        let maps = halves(&mut net, "coarse", coarse);
        let flow = net.global_matching("matched", maps[0], maps[1]);
        let empty = net.zeros("coarse.empty", maps[0], CONTEXT);
        let (_, flow) = refine(&mut net, ["refine_s16", "coarse"], REFINED[0], maps, coarse_context, (empty, flow));
        let enlarged = net.resize("coarse.enlarged", flow, 16, Filter::Bilinear, Grid::HalfPixel);
        let mut flows = vec![net.scale("coarse.pixels", enlarged, 16.0)];

        let doubled = net.resize("doubled", flow, 2, Filter::Nearest, Grid::HalfPixel);
        let mut flow = net.scale("flow0", doubled, 2.0);
        let merge = |net: &mut Builder, layer: &str, fine: NodeId, coarse: NodeId, out: usize| {
            let coarse = net.resize(&format!("{layer}.doubled"), coarse, 2, Filter::Nearest, Grid::HalfPixel);
            let x = net.concat(&format!("{layer}.input"), &[fine, coarse]);
            let x = net.conv(format!("{layer}.0"), x, k(3).out(out).no_bias());
            let x = net.gelu(&format!("{layer}.1"), x);
            let x = net.conv(format!("{layer}.2"), x, k(3).out(out).no_bias());
            net.batch_norm(format!("{layer}.3"), x)
        };
        let merged = merge(&mut net, "merge_s8", fine, coarse, FEATURES);
        let maps = halves(&mut net, "fine", merged);
        let context = merge(&mut net, "context_merge_s8", fine_context, coarse_context, CONTEXT);

        let seen = conv_block(&mut net, "conv_s8", frames[0], k(8).stride(8).padding(Padding::all(0)), FEATURES);
        let mut own = net.zeros("fine.empty", maps[0], CONTEXT);
        for iteration in 1..=self.iterations {
            if iteration > 1 {
                flow = net.detach(&format!("known{iteration}"), flow);
            }
            let (name, known) = (format!("iteration{iteration}"), flow);
            (own, flow) = refine(&mut net, ["refine_s8", &name], REFINED[1], maps, context, (own, flow));
            net.iteration(known, flow, &[]);
            flows.push(upsample(&mut net, &name, flow, seen));
        }
        net.finish(flows[flows.len() - 1], Filter::Bilinear, Grid::HalfPixel, &flows)
    }
}

/// Features and context at 1/16, with the place of each pixel, and at 1/8.
fn backbone(net: &mut Builder, frames: NodeId) -> [NodeId; 2] {
    let even = |kernel: usize, stride: usize| k(kernel).stride(stride).padding(Padding::all(2));
    let half = net.avg_pool("half", frames, 2);
    let quarter = net.avg_pool("quarter", half, 2);
    let eighth = net.avg_pool("eighth", quarter, 2);
    let a = conv_block(net, "block_8_1", half, even(8, 4), 2 * FEATURES);
    let b = conv_block(net, "block_8_2", quarter, even(6, 2), FEATURES);
    let both = net.concat("block_cat_8.input", &[a, b]);
    let fine = conv_block(net, "block_cat_8", both, k(3), FEATURES + CONTEXT);
    let a = conv_block(net, "block_16_1", eighth, even(6, 2), FEATURES);
    let b = conv_block(net, "block_8_16", fine, even(6, 2), FEATURES);
    let both = net.concat("block_cat_16.input", &[a, b]);
    let coarse = conv_block(net, "block_cat_16", both, k(3), FEATURES + CONTEXT - 2);
    // Rows first.
    let places = net.coordinates("places", coarse, true);
    let places = net.channels("places.rows_first", places, &[1, 0]);
    [net.concat("coarse", &[coarse, places]), fine]
}

/// Two convolutions, each with batch norm and leaky ReLU.
fn conv_block(net: &mut Builder, layer: &str, mut x: NodeId, first: ConvSpec, out: usize) -> NodeId {
    for (i, spec) in [(1, first), (2, k(3))] {
        x = net.conv(format!("{layer}.conv{i}"), x, spec.out(out).no_bias());
        x = net.batch_norm(format!("{layer}.norm{i}"), x);
        x = net.leaky(&format!("{layer}.{i}"), x);
    }
    x
}

/// Two layers in which every pixel of a frame looks at those of the other one.
fn attend(net: &mut Builder, mut x: NodeId) -> NodeId {
    let channels = net.channels_of(x);
    for layer in 0..2 {
        x = net.scope(&format!("layers.{layer}."), |net| {
            let [first, second] = [0, 1].map(|i| net.part(&format!("frame{}", i + 1), x, i, 2));
            let other = net.stack("other", &[second, first]);
            let linear = |net: &mut Builder, name: &str, x: NodeId| net.conv(name, x, k(1).out(channels));
            let query = linear(net, "q_proj", x);
            let [key, value] = ["k_proj", "v_proj"].map(|name| linear(net, name, other));
            let message = net.attention("message", query, key, value);
            let message = linear(net, "merge", message);
            let message = net.layer_norm("norm1", message, 1e-5);
            let both = net.concat("mlp.input", &[x, message]);
            let hidden = net.conv("mlp.0", both, k(1).out(2 * channels).no_bias());
            let hidden = net.gelu("mlp.1", hidden);
            let message = net.conv("mlp.2", hidden, k(1).out(channels).no_bias());
            let message = net.layer_norm("norm2", message, 1e-5);
            net.sum("sum", x, message)
        });
    }
    net.batch_norm("norm", x)
}

/// The context of frame 1, and the features of both frames.
fn parts(net: &mut Builder, name: &str, x: NodeId) -> [NodeId; 2] {
    let picked = |from: usize, count: usize| (from as u32..(from + count) as u32).collect::<Vec<u32>>();
    let both = net.channels(&format!("{name}.contexts"), x, &picked(0, CONTEXT));
    let first = net.part(&format!("{name}.context.linear"), both, 0, 2);
    let features = net.channels(&format!("{name}.features"), x, &picked(CONTEXT, FEATURES));
    [net.relu(&format!("{name}.context"), first), features]
}

/// Each frame's part.
fn halves(net: &mut Builder, name: &str, x: NodeId) -> [NodeId; 2] {
    [0, 1].map(|i| net.part(&format!("{name}.features{}", i + 1), x, i, 2))
}

/// One correction: the context of the next one, and the flow.
fn refine(
    net: &mut Builder,
    [layer, name]: [&str; 2],
    width: usize,
    maps: [NodeId; 2],
    context: NodeId,
    (own, flow): (NodeId, NodeId),
) -> (NodeId, NodeId) {
    let label = |part: &str| (format!("{name}.{part}"), format!("{layer}.{part}"));
    let costs = net.lookup(&format!("{name}.costs"), maps, flow, LOOKUP);
    // The radius is one of the inputs.
    let zeros = net.zeros(&format!("{name}.zeros"), flow, 1);
    let radius = net.affine(&format!("{name}.radius"), zeros, &[1.0], &[LOOKUP.radius as f32]);
    let mut x = net.concat(&format!("{name}.input"), &[costs, context, own, flow, radius]);
    let layers = (0..LAYERS).map(|i| (format!("conv_layers.{i}"), width));
    for (part, out) in [("conv1".to_string(), 2 * CONTEXT), ("conv2".to_string(), width)].into_iter().chain(layers) {
        let (node, layer) = label(&part);
        x = net.conv_leaky((node, format!("{layer}.conv")), x, k(3).out(out).no_bias());
    }
    let made = net.conv(label("conv3"), x, k(3).out(CONTEXT + 2));
    let update = net.channels(&format!("{name}.update"), made, &[0, 1]);
    let own = net.channels(&format!("{name}.own"), made, &(2..2 + CONTEXT as u32).collect::<Vec<u32>>());
    (bounded(net, &format!("{name}.bounded"), own), net.sum(&format!("{name}.flow"), flow, update))
}

/// `x` within `-BOUND..=BOUND`: `B - relu(2 B - relu(x + B))`.
fn bounded(net: &mut Builder, name: &str, x: NodeId) -> NodeId {
    let x = net.affine(&format!("{name}.above"), x, &[1.0], &[BOUND]);
    let x = net.relu(&format!("{name}.low"), x);
    let x = net.affine(&format!("{name}.below"), x, &[-1.0], &[2.0 * BOUND]);
    let x = net.relu(&format!("{name}.high"), x);
    net.affine(name, x, &[-1.0], &[BOUND])
}

/// The flow at full size, mixed as what frame 1 shows and the flow say.
fn upsample(net: &mut Builder, name: &str, flow: NodeId, seen: NodeId) -> NodeId {
    let mut x = net.concat(&format!("{name}.seen"), &[flow, seen]);
    for (i, out) in [(1, 256), (2, 512)] {
        x = net.conv((format!("{name}.upsample{i}"), format!("upsample_s8.conv{i}")), x, k(3).out(out));
        x = net.relu(&format!("{name}.upsample{i}.relu"), x);
    }
    let logits = net.conv((format!("{name}.logits"), "upsample_s8.conv3".to_string()), x, k(1).out(9 * 64));
    let fine = net.convex_upsample(&format!("{name}.convex"), flow, logits, 8);
    net.scale(&format!("{name}.pixels"), fine, 8.0)
}

/// The network of this file.
pub(crate) const NETWORKS: &[&dyn Entry] = &[&Row {
    name: "neuflow-v2",
    aliases: &["neuflow2"],
    config: NeuFlowConfig::v2,
    settings: NeuFlowConfig::SETTINGS,
    description: "NeuFlow v2: matching at 1/16, small recurrent corrections (for small devices)",
}];

impl Definition for NeuFlowConfig {
    fn define(&self) -> Network {
        Network {
            graph: self.build(),
            stride: 16,
            fit: Fit::STRETCH,
            protocol: Protocol { fit: Fit::STRETCH, batch: None },
            layout: CheckpointLayout::Oihw,
            pyramid_unit: PyramidUnit::Pixels(1.0),
            levels: Vec::new(),
            paper: "Zhang et al., NeuFlow v2: High-Efficiency Optical Flow Estimation on Edge Devices, 2024",
            test_gains: &[("refine_s16.conv3.weight", 0.3), ("refine_s8.conv3.weight", 0.1)],
        }
    }
}
