//! LightFlow: depthwise separable convolutions, one flow averaged over five resolutions.
//!
//! Zhu et al., Towards High Performance Video Object Detection for Mobiles, 2018 (arXiv 1804.05830), table 2; code:
//! McDo/LightFlowPytorch `FlowNetL.py`. Frames are RGB in 0..=1 less [0.411, 0.432, 0.45]; its flow at 1/4 size is in
//! units of 20 pixels. Parameters: 2,540,390 at width 1; 1,442,690 at 0.75; 653,406 at 0.5.

use crate::graph::{Builder, Filter, Frame, Graph, Grid, Initialisation, Naming, NodeId, k};
use crate::model::{CheckpointLayout, Definition, Entry, Fit, Network, Protocol, PyramidUnit, Row};
use crate::settings::Setting;

/// Taken off the frames: FlowNet's means in BGR order, applied to RGB by the original.
const MEAN: [f32; 3] = [0.411, 0.432, 0.45];

/// The width of the network, and the unit of its flow.
#[derive(Clone, Debug, PartialEq)]
pub struct LightFlowConfig {
    /// Factor on all channels between the frames' 6 and the flow's 2.
    pub width: f64,
    /// Factor from the network's flow to pixels; stored in its checkpoints.
    pub div_flow: f32,
}

impl LightFlowConfig {
    /// LightFlow of this width, which is 1, 0.75 or 0.5 in the paper.
    pub const fn of_width(width: f64) -> Self {
        Self { width, div_flow: 20.0 }
    }

    pub(crate) const SETTINGS: &'static [Setting<Self>] = &[Setting::number(
        "div-flow",
        "the network's flow times this is pixels, as in training",
        1e-3..=1e3,
        |c| c.div_flow.into(),
        |c, v| c.div_flow = v as f32,
    )];

    /// The graph.
    pub fn build(&self) -> Graph {
        let mut builder = Builder::new(Naming::Dotted).initialisation(Initialisation::KaimingNormal { slope: 0.1 });
        let frames = [builder.frame(Frame::First), builder.frame(Frame::Second)];
        let offset = MEAN.map(|m| -m);
        let [x1, x2] = [1, 2].map(|i| builder.affine(&format!("x{i}"), frames[i - 1], &[1.0 / 255.0], &offset));
        let x = builder.concat("x6", &[x1, x2]);
        let mut net = LightFlow { net: &mut builder, width: self.width };

        let conv1 = net.conv_dw("conv1", x, 32, 2); // 1/2
        let conv2 = net.conv_dw("conv2", conv1, 64, 2); // 1/4
        let conv3 = net.conv_dw("conv3", conv2, 128, 2); // 1/8
        let conv4a = net.conv_dw("conv4a", conv3, 256, 2); // 1/16
        let conv4b = net.conv_dw("conv4b", conv4a, 256, 1);
        let conv5a = net.conv_dw("conv5a", conv4b, 512, 2); // 1/32
        let conv5b = net.conv_dw("conv5b", conv5a, 512, 1);
        let conv6a = net.conv_dw("conv6a", conv5b, 1024, 2); // 1/64
        let conv6b = net.conv_dw("conv6b", conv6a, 1024, 1);

        let conv7 = net.conv_dw("conv7", conv6b, 256, 1);
        let conv8 = net.decode("conv8", conv7, conv5b, 128); // 1/32
        let conv9 = net.decode("conv9", conv8, conv4b, 64); // 1/16
        let conv10 = net.decode("conv10", conv9, conv3, 32); // 1/8
        let conv11 = net.decode("conv11", conv10, conv2, 16); // 1/4

        let mut sum = net.predict("conv12", conv7, 16);
        for (name, features, factor) in
            [("conv13", conv8, 8), ("conv14", conv9, 4), ("conv15", conv10, 2), ("conv16", conv11, 1)]
        {
            let flow = net.predict(name, features, factor);
            sum = net.net.sum(&format!("{name}.sum"), sum, flow);
        }
        let flow2 = builder.scale("flow2", sum, 1.0 / 5.0);
        let pixels = builder.scale("flow2.pixels", flow2, self.div_flow);
        builder.finish(pixels, Filter::Bilinear, Grid::HalfPixel, &[flow2])
    }
}

/// The networks of this file.
pub(crate) const NETWORKS: &[&dyn Entry] = &[
    &Row {
        name: "lightflow",
        aliases: &[],
        config: || LightFlowConfig::of_width(1.0),
        settings: LightFlowConfig::SETTINGS,
        description: "LightFlow, depthwise separable",
    },
    &Row {
        name: "lightflow-0.75",
        aliases: &[],
        config: || LightFlowConfig::of_width(0.75),
        settings: LightFlowConfig::SETTINGS,
        description: "LightFlow with 3/4 of the channels",
    },
    &Row {
        name: "lightflow-0.5",
        aliases: &[],
        config: || LightFlowConfig::of_width(0.5),
        settings: LightFlowConfig::SETTINGS,
        description: "LightFlow with half of the channels",
    },
];

impl Definition for LightFlowConfig {
    fn define(&self) -> Network {
        Network {
            graph: self.build(),
            stride: 64,
            fit: Fit::STRETCH,
            // The reference crops, to sizes that its own decoder cannot take (KITTI's), and weighs batches by their sizes.
            protocol: Protocol { fit: Fit::STRETCH, batch: None },
            layout: CheckpointLayout::Oihw,
            pyramid_unit: PyramidUnit::Pixels(self.div_flow),
            levels: Vec::new(),
            paper: "Zhu et al., Towards High Performance Video Object Detection for Mobiles, 2018",
            test_gains: &[],
        }
    }
}

struct LightFlow<'a> {
    net: &'a mut Builder,
    width: f64,
}

impl LightFlow<'_> {
    /// Depthwise 3x3 and pointwise convolution, each with batch norm and leaky ReLU.
    fn conv_dw(&mut self, name: &str, x: NodeId, out: usize, stride: usize) -> NodeId {
        self.block(name, x, (out as f64 * self.width) as usize, stride)
    }

    /// The features below, enlarged, and those of the encoder.
    fn decode(&mut self, name: &str, below: NodeId, skip: NodeId, out: usize) -> NodeId {
        let up = self.net.resize(&format!("{name}.up"), below, 2, Filter::Nearest, Grid::HalfPixel);
        let joined = self.net.concat(&format!("{name}.input"), &[up, skip]);
        self.conv_dw(name, joined, out, 1)
    }

    /// A flow, enlarged to 1/4 size. The leaky ReLU compresses what is negative: the original does so too.
    fn predict(&mut self, name: &str, x: NodeId, factor: usize) -> NodeId {
        let flow = self.block(name, x, 2, 1);
        if factor == 1 {
            return flow;
        }
        self.net.resize(&format!("{name}.up"), flow, factor, Filter::Nearest, Grid::HalfPixel)
    }

    fn block(&mut self, name: &str, x: NodeId, out: usize, stride: usize) -> NodeId {
        let x =
            self.net.conv((format!("{name}.depthwise.conv"), format!("{name}.0")), x, k(3).stride(stride).no_bias());
        let x = self.net.batch_norm((format!("{name}.depthwise.norm"), format!("{name}.1")), x);
        let x = self.net.leaky(&format!("{name}.depthwise"), x);
        let x = self.net.conv((format!("{name}.conv"), format!("{name}.3")), x, k(1).out(out).no_bias());
        let x = self.net.batch_norm((format!("{name}.norm"), format!("{name}.4")), x);
        self.net.leaky(name, x)
    }
}
