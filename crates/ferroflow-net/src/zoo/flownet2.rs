//! The FlowNet2 family: S, C and SD alone, the stacks CS and CSS, and FlowNet2, which fuses CSS with SD.
//!
//! Ilg et al., FlowNet 2.0, CVPR 2017, figure 2. One definition; [`FlowNet2Config`] holds what the implementations do
//! differently: NVIDIA/flownet2-pytorch, the MindSpore port, Ascend's ONNX export, ptlflow and the Caffe original.
//! Frames are RGB 0..=255; C, S and SD predict in units of 20 pixels, fusion in pixels. FlowNet2: 162,518,834 parameters.

use super::flownet::{FlowNet, Flows};
use super::flownet_c::flownet_c;
use super::flownet_s::flownet_s;
use super::flownet_sd::flownet_sd;
use super::fusion::fusion;
use crate::graph::{
    Builder, Filter, FlowOrder, Frame, Graph, Grid, Initialisation, Naming, NodeId, OnPixel, Warp, WarpBorder,
};
use crate::model::{CheckpointLayout, Definition, Entry, Fit, Network, Protocol, PyramidUnit, Row};
use crate::settings::Setting;

/// Flows of C and S times this are pixels.
const DIV_FLOW: f32 = 20.0;

/// A member of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// FlowNetS alone.
    S,
    /// FlowNetC alone.
    C,
    /// FlowNetSD alone.
    Sd,
    /// C, then S, which refines C's flow.
    Cs,
    /// C, S, S.
    Css,
    /// CSS and SD, fused.
    FlowNet2,
}

/// What is subtracted from the frames before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mean {
    /// One mean per sample and channel, over both frames.
    BothFrames,
    /// The mean of each channel of each frame.
    PerFrame,
    /// The averages of the Caffe training set, for all frames.
    Caffe,
}

/// Caffe's averages of the first and the second frame, RGB in 0..=1 (learned in training, stored in its files as BGR).
const CAFFE_MEANS: [[f32; 3]; 2] = [[0.450141, 0.432060, 0.411451], [0.448553, 0.431021, 0.410602]];

/// What the implementations of FlowNet2 do differently.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowNet2Config {
    /// Which network of the family.
    pub member: Member,
    /// Batch norm after every convolution of the contracting parts.
    pub batch_norm: bool,
    /// What is subtracted from the frames.
    pub mean: Mean,
    /// What the frames are divided by (`rgb_max`).
    pub rgb_max: f32,
    /// How first weights are drawn.
    pub initialisation: Initialisation,
    /// Grid of every bilinear x4 upsampling inside.
    pub upsample_grid: Grid,
    /// Grid of the final resize to the output.
    pub output_grid: Grid,
    /// The x4 upsampling after the third network and after SD.
    pub fusion_upsample: Filter,
    /// The final x4 of CSS.
    pub css_output: Filter,
    /// What the warp reads outside the second frame.
    pub warp_border: WarpBorder,
    /// Smallest sum of squares in the brightness error.
    pub norm_floor: f32,
    /// Factor from the prediction of SD alone to pixels.
    pub sd_scale: f32,
    /// Factor from SD's prediction inside FlowNet2 to pixels.
    pub fusion_sd_scale: f32,
    /// How frames of another size are made to fit.
    pub fit: Fit,
    /// How the implementation measured its published errors.
    pub protocol: Protocol,
}

impl FlowNet2Config {
    /// NVIDIA/flownet2-pytorch with torch 0.4 or later.
    pub fn nvidia() -> Self {
        Self {
            member: Member::FlowNet2,
            batch_norm: false,
            mean: Mean::BothFrames,
            rgb_max: 255.0,
            initialisation: Initialisation::XavierUniform { bias: 1.0 },
            upsample_grid: Grid::HalfPixel,
            output_grid: Grid::HalfPixel,
            fusion_upsample: Filter::Nearest,
            css_output: Filter::Nearest,
            warp_border: WarpBorder::Replicate,
            norm_floor: 0.0,
            sd_scale: 20.0,
            fusion_sd_scale: 1.0 / 20.0,
            fit: Fit::STRETCH,
            protocol: Protocol { fit: Fit::Crop, batch: Some(8) },
        }
    }

    /// NVIDIA's configuration of one member of the family.
    pub fn of(member: Member, batch_norm: bool) -> Self {
        Self { member, batch_norm, ..Self::nvidia() }
    }

    /// mindspore-ai/models research/cv/flownet2.
    pub fn mindspore() -> Self {
        Self { upsample_grid: Grid::Asymmetric, output_grid: Grid::Asymmetric, norm_floor: 1e-7, ..Self::nvidia() }
    }

    /// Ascend/ModelZoo-PyTorch Flownet2_for_Pytorch: NVIDIA's code patched for ONNX.
    pub fn ascend() -> Self {
        Self {
            warp_border: WarpBorder::Extrapolate,
            fit: Fit::ZEROS,
            protocol: Protocol { fit: Fit::ZEROS, batch: None },
            ..Self::nvidia()
        }
    }

    /// ptlflow 0.4.
    pub fn ptlflow() -> Self {
        Self {
            mean: Mean::PerFrame,
            fusion_upsample: Filter::Bilinear,
            css_output: Filter::Bilinear,
            warp_border: WarpBorder::ZerosMasked { threshold: 0.9999 },
            sd_scale: 1.0 / 20.0,
            fusion_sd_scale: 1.0 / 8000.0,
            protocol: Protocol { fit: Fit::STRETCH, batch: None },
            ..Self::nvidia()
        }
    }

    /// lmb-freiburg/flownet2, the deploy networks in Caffe.
    pub fn caffe() -> Self {
        Self {
            mean: Mean::Caffe,
            // Its `msra` filler.
            initialisation: Initialisation::KaimingNormal { slope: 0.0 },
            upsample_grid: Grid::AlignCorners,
            css_output: Filter::Bilinear,
            warp_border: WarpBorder::Caffe,
            sd_scale: 1.0 / 20.0,
            protocol: Protocol { fit: Fit::STRETCH, batch: None },
            ..Self::nvidia()
        }
    }

    pub(crate) const SETTINGS: &'static [Setting<Self>] = &[
        Setting::choice(
            "variant",
            "whose implementation, with all that it does differently",
            &[
                ("nvidia", |c| *c = c.variant(Self::nvidia())),
                ("mindspore", |c| *c = c.variant(Self::mindspore())),
                ("ascend", |c| *c = c.variant(Self::ascend())),
                ("ptlflow", |c| *c = c.variant(Self::ptlflow())),
                ("caffe", |c| *c = c.variant(Self::caffe())),
            ],
        ),
        Setting::choice(
            "batch-norm",
            "batch norm after every convolution of the contracting parts",
            &[("off", |c| c.batch_norm = false), ("on", |c| c.batch_norm = true)],
        ),
        Setting::number(
            "rgb-max",
            "what the frames, 0..=255, are divided by",
            1.0..=65535.0,
            |c| c.rgb_max.into(),
            |c, v| c.rgb_max = v as f32,
        ),
        Setting::choice(
            "mean",
            "what is taken off the frames",
            &[
                ("both-frames", |c| c.mean = Mean::BothFrames),
                ("per-frame", |c| c.mean = Mean::PerFrame),
                ("caffe", |c| c.mean = Mean::Caffe),
            ],
        ),
        Setting::<Self>::choice(
            "upsample-grid",
            "grid of every bilinear upsampling",
            &[
                ("half-pixel", |c| c.set_grid(Grid::HalfPixel)),
                ("align-corners", |c| c.set_grid(Grid::AlignCorners)),
                ("asymmetric", |c| c.set_grid(Grid::Asymmetric)),
            ],
        )
        .interchangeable(),
        Setting::<Self>::choice(
            "upsample-filter",
            "x4 upsampling after the third network and after SD",
            &[("nearest", |c| c.set_filter(Filter::Nearest)), ("bilinear", |c| c.set_filter(Filter::Bilinear))],
        )
        .interchangeable(),
        Setting::<Self>::choice(
            "warp-border",
            "what the warp reads outside the second frame",
            &[
                ("replicate", |c| c.warp_border = WarpBorder::Replicate),
                ("zeros", |c| c.warp_border = WarpBorder::Zeros),
                ("zeros-masked", |c| c.warp_border = WarpBorder::ZerosMasked { threshold: 0.9999 }),
                ("extrapolate", |c| c.warp_border = WarpBorder::Extrapolate),
                ("caffe", |c| c.warp_border = WarpBorder::Caffe),
            ],
        )
        .interchangeable(),
        Setting::<Self>::number(
            "norm-floor",
            "smallest sum of squares in the brightness error",
            0.0..=1.0,
            |c| c.norm_floor.into(),
            |c, v| {
                c.norm_floor = v as f32;
            },
        )
        .interchangeable(),
        Setting::number(
            "sd-scale",
            "SD's prediction times this is pixels",
            1e-6..=1e3,
            |c| c.sd_scale.into(),
            |c, v| {
                c.sd_scale = v as f32;
                c.fusion_sd_scale = v as f32;
            },
        ),
    ];

    /// Another implementation of the same network.
    fn variant(&self, other: Self) -> Self {
        Self { member: self.member, batch_norm: self.batch_norm, ..other }
    }

    fn set_grid(&mut self, grid: Grid) {
        self.upsample_grid = grid;
        self.output_grid = grid;
    }

    fn set_filter(&mut self, filter: Filter) {
        self.fusion_upsample = filter;
        self.css_output = filter;
    }

    /// The graph.
    pub fn build(&self) -> Graph {
        let mut builder = Builder::new(Naming::Dotted).initialisation(self.initialisation);
        let (x1, x2) = self.normalised_frames(&mut builder);
        let mut net = FlowNet { net: &mut builder, batch_norm: self.batch_norm };
        let (flow, filter, pyramid) = match self.member {
            Member::S => {
                let x6 = net.net.concat("x6", &[x1, x2]);
                let flows = net.network("", |net| flownet_s(net, x6));
                (net.net.scale("flow2.pixels", flows[4], DIV_FLOW), Filter::Bilinear, flows.to_vec())
            }
            Member::C => {
                let flows = net.network("", |net| flownet_c(net, x1, x2));
                (net.net.scale("flow2.pixels", flows[4], DIV_FLOW), Filter::Bilinear, flows.to_vec())
            }
            Member::Sd => {
                let x6 = net.net.concat("x6", &[x1, x2]);
                let flows = net.network("", |net| flownet_sd(net, x6));
                (net.net.scale("flow2.pixels", flows[4], self.sd_scale), Filter::Bilinear, flows.to_vec())
            }
            Member::Cs => {
                let flows = self.stack_cs(&mut net, x1, x2);
                (net.net.scale("flownets_1.pixels", flows[4], DIV_FLOW), Filter::Bilinear, flows.to_vec())
            }
            Member::Css => {
                let flows = self.stack_css(&mut net, x1, x2);
                (net.net.scale("flownets_2.pixels", flows[4], DIV_FLOW), self.css_output, flows.to_vec())
            }
            Member::FlowNet2 => {
                let flows = self.flownet2(&mut net, x1, x2);
                (flows[2], Filter::Bilinear, flows.to_vec())
            }
        };
        builder.finish(flow, filter, self.output_grid, &pyramid)
    }

    /// `(frame - mean) / rgb_max`
    fn normalised_frames(&self, net: &mut Builder) -> (NodeId, NodeId) {
        let frames = [net.frame(Frame::First), net.frame(Frame::Second)];
        let scale = 1.0 / self.rgb_max;
        let mut x = frames;
        match self.mean {
            Mean::BothFrames => {
                let mean = net.channel_mean("mean", &frames);
                x = [1, 2].map(|i| net.difference(&format!("frame{i}.centred"), frames[i - 1], mean));
            }
            Mean::PerFrame => {
                let means = [1, 2].map(|i| net.channel_mean(&format!("mean{i}"), &[frames[i - 1]]));
                x = [1, 2].map(|i| net.difference(&format!("frame{i}.centred"), frames[i - 1], means[i - 1]));
            }
            Mean::Caffe => {}
        }
        let offset = |i: usize| match self.mean {
            Mean::Caffe => CAFFE_MEANS[i - 1].iter().map(|m| -m).collect(),
            _ => vec![0.0],
        };
        let [x1, x2] = [1, 2].map(|i| net.affine(&format!("x{i}"), x[i - 1], &[scale], &offset(i)));
        (x1, x2)
    }

    fn stack_cs(&self, net: &mut FlowNet<'_>, x1: NodeId, x2: NodeId) -> Flows {
        let flows = net.network("flownetc.", |net| flownet_c(net, x1, x2));
        let input = self.stack_input(net.net, "flownetc", flows, x1, x2);
        net.network("flownets_1.", |net| flownet_s(net, input))
    }

    fn stack_css(&self, net: &mut FlowNet<'_>, x1: NodeId, x2: NodeId) -> Flows {
        let flows = self.stack_cs(net, x1, x2);
        let input = self.stack_input(net.net, "flownets_1", flows, x1, x2);
        net.network("flownets_2.", |net| flownet_s(net, input))
    }

    /// What the next network of a stack sees: both frames, the second warped, the flow, the brightness error: 12 channels.
    fn stack_input(&self, net: &mut Builder, before: &str, flows: Flows, x1: NodeId, x2: NodeId) -> NodeId {
        let pixels = net.scale(&format!("{before}.pixels"), flows[4], DIV_FLOW);
        let flow = net.resize(&format!("{before}.flow"), pixels, 4, Filter::Bilinear, self.upsample_grid);
        let (warped, error) = self.brightness_error(net, before, x1, x2, flow);
        let flow = net.scale(&format!("{before}.input"), flow, 1.0 / DIV_FLOW);
        net.concat(&format!("{before}.stack"), &[x1, x2, warped, flow, error])
    }

    /// The second frame warped to the first, and how far it is from it.
    fn brightness_error(&self, net: &mut Builder, of: &str, x1: NodeId, x2: NodeId, flow: NodeId) -> (NodeId, NodeId) {
        let warp = Warp { border: self.warp_border, order: FlowOrder::Uv, scale: 1.0, on_pixel: OnPixel::Right };
        let warped = net.warp(&format!("{of}.warped"), x2, flow, warp);
        let difference = net.difference(&format!("{of}.difference"), x1, warped);
        (warped, net.channel_norm(&format!("{of}.error"), difference, self.norm_floor))
    }

    /// Figure 2: large displacements from C, S, S; small ones from SD; both fused at full size.
    fn flownet2(&self, net: &mut FlowNet<'_>, x1: NodeId, x2: NodeId) -> [NodeId; 3] {
        let css = self.stack_css(net, x1, x2);
        let x6 = net.net.concat("x6", &[x1, x2]);
        let sd = net.network("flownets_d.", |net| flownet_sd(net, x6));
        let candidates = [("flownets_d", sd, self.fusion_sd_scale), ("flownets_2", css, DIV_FLOW)];
        let [(sd_flow, sd_norm, sd_error), (css_flow, css_norm, css_error)] = candidates.map(|(name, flows, scale)| {
            let pixels = net.net.scale(&format!("{name}.pixels"), flows[4], scale);
            let flow = net.net.resize(&format!("{name}.flow"), pixels, 4, self.fusion_upsample, self.upsample_grid);
            let norm = net.net.channel_norm(&format!("{name}.norm"), flow, self.norm_floor);
            let (_, error) = self.brightness_error(net.net, name, x1, x2, flow);
            (flow, norm, error)
        });
        let input = net.net.concat("fusion.input", &[x1, sd_flow, css_flow, sd_norm, css_norm, sd_error, css_error]); // 11
        net.network("flownetfusion.", |net| fusion(net, input))
    }
}

/// A row of the family.
const fn row(name: &'static str, config: fn() -> FlowNet2Config, description: &'static str) -> Row<FlowNet2Config> {
    Row { name, aliases: &[], config, settings: FlowNet2Config::SETTINGS, description }
}

/// The networks of this file.
pub(crate) const NETWORKS: &[&dyn Entry] = &[
    &row("flownet2", || FlowNet2Config::of(Member::FlowNet2, false), "C, S, S and SD, fused"),
    &row("flownet2-s", || FlowNet2Config::of(Member::S, false), "FlowNetS alone"),
    &row("flownet2-c", || FlowNet2Config::of(Member::C, false), "FlowNetC alone"),
    &row("flownet2-sd", || FlowNet2Config::of(Member::Sd, false), "FlowNetSD alone, for small displacements"),
    &row("flownet2-cs", || FlowNet2Config::of(Member::Cs, false), "C, then S"),
    &row("flownet2-css", || FlowNet2Config::of(Member::Css, false), "C, then S twice"),
    &row("flownet2-bn", || FlowNet2Config::of(Member::FlowNet2, true), "C, S, S and SD, fused, with batch norm"),
    &row("flownet2-s-bn", || FlowNet2Config::of(Member::S, true), "FlowNetS alone, with batch norm"),
    &row("flownet2-c-bn", || FlowNet2Config::of(Member::C, true), "FlowNetC alone, with batch norm"),
    &row("flownet2-sd-bn", || FlowNet2Config::of(Member::Sd, true), "FlowNetSD alone, with batch norm"),
    &row("flownet2-cs-bn", || FlowNet2Config::of(Member::Cs, true), "C, then S, with batch norm"),
    &row("flownet2-css-bn", || FlowNet2Config::of(Member::Css, true), "C, then S twice, with batch norm"),
];

impl Definition for FlowNet2Config {
    fn define(&self) -> Network {
        let unit = match self.member {
            Member::FlowNet2 => 1.0,
            Member::Sd => self.sd_scale,
            Member::S | Member::C | Member::Cs | Member::Css => DIV_FLOW,
        };
        Network {
            graph: self.build(),
            stride: 64,
            fit: self.fit,
            protocol: self.protocol,
            layout: CheckpointLayout::Oihw,
            pyramid_unit: PyramidUnit::Pixels(unit),
            levels: Vec::new(),
            paper: "Ilg et al., FlowNet 2.0: Evolution of Optical Flow Estimation with Deep Networks, CVPR 2017",
            test_gains: match self.member {
                Member::C => &[("conv3.0.weight", 4.0), ("conv_redir.0.weight", 0.25)],
                Member::S | Member::Sd | Member::Cs | Member::Css | Member::FlowNet2 => &[
                    ("flownetc.conv3.0.weight", 4.0),
                    ("flownetc.conv_redir.0.weight", 0.25),
                    // What follows divides this output by 20.
                    ("flownets_d.predict_flow2.weight", 300.0),
                    ("flownets_d.predict_flow2.bias", 300.0),
                ],
            },
        }
    }
}
