//! SEA-RAFT: RAFT whose flow begins with a guess from both frames, and whose recurrent unit is of ConvNeXt blocks.
//!
//! Wang, Lipson and Deng, SEA-RAFT: Simple, Efficient, Accurate RAFT for Optical Flow, ECCV 2024, figure 3; code:
//! princeton-vl/SEA-RAFT `core/raft.py`. Frames are RGB in -1..=1; flows are (u, v) in pixels of the level, 1/8 of the frames.
//! Beside its flow it says of every pixel how far off it may be, as a mixture of two Laplace distributions, from which it learns.
//! In training, batch norm takes the statistics of both frames together, where the reference takes those of each by itself.
//! Parameters: 8,883,460 (S); 19,663,876 (M).
//!
//! ```text
//!   both frames -> ResNet (1/8) -> hidden state, context; hidden state -> first flow
//!   frame 1, frame 2 -> another ResNet (1/8) -> f1, f2: the products of all their pixels
//!
//!   [ look up around where the flow points -> motion encoder
//!     hidden state, context, motion -> ConvNeXt blocks: hidden state -> flow += update ] x iterations
//!
//!   hidden state -> how to mix each fine flow of nine coarse ones
//! ```

use super::raft::{DOWN, Iteration, encode, halves, signed_frames};
use crate::graph::{Builder, Filter, Graph, Grid, Initialisation, Naming, NodeId, k};
use crate::model::{CheckpointLayout, Definition, Entry, Fit, Network, Protocol, PyramidUnit, Row};
use crate::settings::{Setting, count};

/// Channels of the hidden state, and of the context.
const WIDTH: usize = 128;
/// Channels of the ResNets at 1/2, 1/4 and 1/8.
const RESNET: [usize; 3] = [64, 128, 256];
/// ConvNeXt blocks of an iteration.
const BLOCKS: usize = 2;
/// Channels of a prediction: the flow, then the logits of two Laplace distributions and the logarithms of their scales.
const PREDICTED: usize = 6;

/// With these the formula's flows are some pixels long, and iterations do not multiply roundings.
const GAINS_S: [(&str, f64); 3] = [
    ("flow_head.2.weight", 0.005),
    ("update_block.refine.0.final.weight", 0.5),
    ("update_block.refine.1.final.weight", 0.5),
];
/// The deeper encoders' values are larger: batch norm with the formula's statistics normalises nothing.
const GAINS_M: [(&str, f64); 5] =
    [GAINS_S[0], GAINS_S[1], GAINS_S[2], ("fnet.final_conv.weight", 0.01), ("init_conv.weight", 0.005)];

/// The depth of the encoders, and how often the flow is corrected.
#[derive(Clone, Debug, PartialEq)]
pub struct SeaRaftConfig {
    /// Blocks of the ResNets at 1/2, 1/4 and 1/8.
    pub blocks: [usize; 3],
    /// Number of corrections after the first flow.
    pub iterations: usize,
}

impl SeaRaftConfig {
    /// SEA-RAFT (S): the first blocks of ResNet-18.
    pub const fn small() -> Self {
        Self { blocks: [2, 2, 2], iterations: 4 }
    }

    /// SEA-RAFT (M): those of ResNet-34. With 12 iterations it is SEA-RAFT (L).
    pub const fn medium() -> Self {
        Self { blocks: [3, 4, 6], iterations: 4 }
    }

    pub(crate) const SETTINGS: &'static [Setting<Self>] =
        &[count!("iterations", "corrections of the flow; any number with the same weights", 1.0..=32.0, iterations)
            .interchangeable()];

    /// The graph.
    pub fn build(&self) -> Graph {
        let mut net = Builder::new(Naming::Dotted).initialisation(Initialisation::KaimingNormal { slope: 0.0 });
        let frames = signed_frames(&mut net);
        let together = net.concat("frames.both", &frames);
        let x = self.encoder(&mut net, "cnet.", together);
        let x = net.conv("init_conv", x, k(3).out(2 * WIDTH));
        let (mut state, context) = halves(&mut net, x, WIDTH);

        let stacked = net.stack("frames", &frames);
        let maps = self.encoder(&mut net, "fnet.", stacked);
        let maps = [0, 1].map(|frame| net.part(&format!("features{}", frame + 1), maps, frame, 2));

        let mut predicted = predict(&mut net, 0, state, None);
        let mut predictions = vec![predicted.all];
        for number in 1..=self.iterations {
            let mut now = Iteration { net: &mut net, number };
            let known = now.named(Builder::detach, "known", predicted.flow);
            let costs = now.costs(maps, known, 4);
            let motion = now.motion(costs, known);
            for block in 0..BLOCKS {
                state = refine(&mut now, block, &[state, context, motion]);
            }
            predicted = predict(&mut net, number, state, Some(known));
            net.iteration(known, predicted.flow, &[state]);
            predictions.push(predicted.all);
        }
        net.finish(predicted.fine, Filter::Bilinear, Grid::HalfPixel, &predictions)
    }

    /// A ResNet without its last stage, to 1/8.
    fn encoder(&self, net: &mut Builder, scope: &str, x: NodeId) -> NodeId {
        net.scope(scope, |net| {
            let x = encode(net, "conv1", x, k(7).stride(2), RESNET[0]); // 1/2
            let x = net.batch_norm("bn1", x);
            let mut x = net.relu("relu1", x);
            for (stage, (blocks, out)) in self.blocks.into_iter().zip(RESNET).enumerate() {
                for block in 0..blocks {
                    let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                    x = net.scope(&format!("layer{}.{block}.", stage + 1), |net| basic_block(net, x, out, stride));
                }
            }
            encode(net, "final_conv", x, k(1), 2 * WIDTH)
        })
    }
}

/// Two 3x3 convolutions beside the input.
fn basic_block(net: &mut Builder, mut x: NodeId, out: usize, stride: usize) -> NodeId {
    let mut y = x;
    for (i, stride) in [(1, stride), (2, 1)] {
        y = encode(net, &format!("conv{i}"), y, k(3).stride(stride), out);
        y = net.batch_norm(format!("bn{i}"), y);
        y = net.relu(&format!("relu{i}"), y);
    }
    if stride > 1 {
        x = encode(net, "downsample.0", x, k(1).stride(stride), out);
        x = net.batch_norm("downsample.1", x);
    }
    let sum = net.sum("sum", x, y);
    net.relu("out", sum)
}

/// The flow that a hidden state predicts, added to `known`.
fn predict(net: &mut Builder, number: usize, state: NodeId, known: Option<NodeId>) -> Prediction {
    let mut now = Iteration { net, number };
    let x = now.conv_relu("flow_head.0", state, k(3).out(2 * WIDTH));
    let predicted = now.conv("flow_head.2", x, k(3).out(PREDICTED));
    let mut flow = now.named(|net, name, x| net.channels(name, x, &[0, 1]), "update", predicted);
    if let Some(known) = known {
        flow = now.net.sum(&format!("flow{number}"), known, flow);
    }
    let logits = now.logits("upsample_weight", state);
    let fine = now.convex(flow, logits);
    // What it says of its errors, which only training reads, is mixed in the same way.
    let errors = [("weights", [2, 3]), ("scales", [4, 5])].map(|(what, picked)| {
        let coarse = now.named(|net, name, x| net.channels(name, x, &picked), &format!("{what}.coarse"), predicted);
        let name = now.name(what);
        now.net.convex_upsample(&name, coarse, logits, DOWN)
    });
    let prediction = now.concat("prediction", &[fine, errors[0], errors[1]]);
    Prediction { flow, fine, all: prediction }
}

/// What a hidden state predicts.
struct Prediction {
    /// The flow at 1/8.
    flow: NodeId,
    /// The flow at full size, in pixels.
    fine: NodeId,
    /// The same, and what it says of its errors.
    all: NodeId,
}

/// A ConvNeXt block (Liu et al. 2022) over the channels of all its inputs, and a 1x1 convolution to a hidden state.
fn refine(now: &mut Iteration<'_>, block: usize, inputs: &[NodeId]) -> NodeId {
    let layer = |name: &str| format!("update_block.refine.{block}.{name}");
    let input = now.concat(&layer("input"), inputs);
    let channels = now.net.channels_of(input);
    let x = now.conv(&layer("dwconv"), input, k(7));
    let label = (now.name(&layer("norm")), layer("norm"));
    let x = now.net.layer_norm(label, x, 1e-6);
    let x = now.conv(&layer("pwconv1"), x, k(1).out(4 * WIDTH));
    let x = now.named(Builder::gelu, &layer("gelu"), x);
    let x = now.conv(&layer("pwconv2"), x, k(1).out(channels));
    let label = (now.name(&layer("gamma")), layer("gamma"));
    let x = now.net.channel_scale(label, x);
    let name = now.name(&layer("sum"));
    let x = now.net.sum(&name, input, x);
    now.conv(&layer("final"), x, k(1).out(WIDTH))
}

/// The networks of this file.
pub(crate) const NETWORKS: &[&dyn Entry] = &[
    &Row {
        name: "sea-raft-s",
        aliases: &[],
        config: SeaRaftConfig::small,
        settings: SeaRaftConfig::SETTINGS,
        description: "SEA-RAFT (S): a first guess, then few recurrent corrections (Princeton)",
    },
    &Row {
        name: "sea-raft-m",
        aliases: &[],
        config: SeaRaftConfig::medium,
        settings: SeaRaftConfig::SETTINGS,
        description: "SEA-RAFT (M): deeper encoders; (L) with iterations=12",
    },
];

impl Definition for SeaRaftConfig {
    fn define(&self) -> Network {
        Network {
            graph: self.build(),
            stride: DOWN,
            fit: Fit::default(),
            protocol: Protocol { fit: Fit::default(), batch: None },
            layout: CheckpointLayout::Oihw,
            pyramid_unit: PyramidUnit::Pixels(1.0),
            levels: Vec::new(),
            paper: "Wang, Lipson and Deng, SEA-RAFT: Simple, Efficient, Accurate RAFT for Optical Flow, ECCV 2024",
            test_gains: if *self == (Self { iterations: self.iterations, ..Self::medium() }) {
                &GAINS_M
            } else {
                &GAINS_S
            },
        }
    }
}
