//! PWC-Net: feature pyramids, the second one warped level by level, a cost volume, a densely connected estimator.
//!
//! Sun et al., PWC-Net, CVPR 2018, figure 3; code: NVlabs/PWC-Net `PWCNet.py` (`PWCDCNet`, `PWCDCNet_old`),
//! sniklaus/pytorch-pwc, ptlflow (`pwcnet`, `pwcnet_nodc`). Frames are BGR in 0..=1; flows are in units of 20 pixels.
//! 9,374,340 parameters, of which `deconv2` (66) is never read.

use crate::graph::{
    Builder, ConvSpec, Correlation, Filter, FlowOrder, Frame, Graph, Grid, Initialisation, Naming, NodeId, OnPixel,
    Warp, WarpBorder, k,
};
use crate::model::{CheckpointLayout, Definition, Entry, Fit, Network, Protocol, PyramidUnit, Row};
use crate::settings::Setting;

/// The paper, for all implementations.
pub(super) const PAPER: &str =
    "Sun et al., PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume, CVPR 2018";
/// Flows times this are pixels.
const DIV_FLOW: f32 = 20.0;
/// Channels of the pyramid, levels 1..=6 (stride 2^level).
pub(super) const PYRAMID: [usize; 6] = [16, 32, 64, 96, 128, 196];
/// Channels of the estimator's convolutions.
pub(super) const ESTIMATOR: [usize; 5] = [128, 128, 96, 64, 32];
/// Channels and dilation of the context network's convolutions, before its last.
pub(super) const CONTEXT: [(usize, usize); 6] = [(128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1)];
/// Displacements of up to 4 pixels of the level: 81 channels.
const CORRELATION: Correlation = Correlation { max_displacement: 4, stride: 1 };

/// What the PyTorch implementations of PWC-Net do differently.
#[derive(Clone, Debug, PartialEq)]
pub struct PwcNetConfig {
    /// `PWCDCNet_old`: two convolutions per pyramid level, and only the second of an estimator before its input.
    pub old: bool,
    /// The dilated context network refines the finest flow.
    pub context: bool,
    /// Frames enter as BGR.
    pub bgr: bool,
    /// A warped pixel counts where its neighbours inside the image weigh at least this.
    pub mask_threshold: f32,
    /// Grid of the final resize.
    pub output_grid: Grid,
    /// The checkpoint holds a `deconv2` that the network does not use.
    pub unused_deconv2: bool,
}

impl PwcNetConfig {
    /// NVlabs/PWC-Net `PWCDCNet`.
    pub fn nvlabs() -> Self {
        Self {
            old: false,
            context: true,
            bgr: true,
            mask_threshold: 0.9999,
            output_grid: Grid::HalfPixel,
            unused_deconv2: true,
        }
    }

    /// NVlabs/PWC-Net `PWCDCNet_old`.
    pub fn nvlabs_old() -> Self {
        Self { old: true, mask_threshold: 0.999, ..Self::nvlabs() }
    }

    /// sniklaus/pytorch-pwc, its parameters by NVlabs' names.
    pub fn sniklaus() -> Self {
        Self { mask_threshold: 0.999, unused_deconv2: false, ..Self::nvlabs() }
    }

    /// ptlflow 0.4 `pwcnet`.
    pub fn ptlflow() -> Self {
        Self { bgr: false, output_grid: Grid::AlignCorners, unused_deconv2: false, ..Self::nvlabs() }
    }

    /// ptlflow 0.4 `pwcnet_nodc`: no context network.
    pub fn ptlflow_nodc() -> Self {
        Self { context: false, bgr: true, ..Self::ptlflow() }
    }

    const CHANNEL_ORDER: Setting<Self> = Setting::choice(
        "channel-order",
        "order of the colours the network sees",
        &[("bgr", |c| c.bgr = true), ("rgb", |c| c.bgr = false)],
    );
    const OUTPUT_GRID: Setting<Self> = Setting::<Self>::choice(
        "upsample-grid",
        "grid of the final resize",
        &[
            ("half-pixel", |c| c.output_grid = Grid::HalfPixel),
            ("align-corners", |c| c.output_grid = Grid::AlignCorners),
            ("asymmetric", |c| c.output_grid = Grid::Asymmetric),
        ],
    )
    .interchangeable();
    const MASK_THRESHOLD: Setting<Self> = Setting::<Self>::number(
        "mask-threshold",
        "weight of the neighbours inside the image below which a warped pixel is zero",
        0.0..=1.0,
        |c| c.mask_threshold.into(),
        |c, v| c.mask_threshold = v as f32,
    )
    .interchangeable();

    pub(crate) const SETTINGS: &'static [Setting<Self>] = &[
        Setting::choice(
            "variant",
            "whose implementation, with all that it does differently",
            &[
                ("nvlabs", |c| *c = Self::nvlabs()),
                ("sniklaus", |c| *c = Self::sniklaus()),
                ("ptlflow", |c| *c = Self::ptlflow()),
            ],
        ),
        Self::CHANNEL_ORDER,
        Self::OUTPUT_GRID,
        Self::MASK_THRESHOLD,
    ];

    /// The options of `pwcnet-old` and `pwcnet-nodc`, which have one implementation each.
    pub(crate) const SETTINGS_FIXED: &'static [Setting<Self>] =
        &[Self::CHANNEL_ORDER, Self::OUTPUT_GRID, Self::MASK_THRESHOLD];

    /// The graph.
    pub fn build(&self) -> Graph {
        let mut net = Builder::new(Naming::Dotted).initialisation(Initialisation::KaimingNormal { slope: 0.0 });
        let frames = [net.frame(Frame::First), net.frame(Frame::Second)];
        let mut x = net.stack("frames", &frames);
        if self.bgr {
            x = net.channels("frames.bgr", x, &[2, 1, 0]);
        }
        x = net.scale("frames.unit", x, 1.0 / 255.0);
        let pyramid = self.pyramid(&mut net, x);

        let mut flows: Vec<NodeId> = Vec::new();
        let mut up: Option<(NodeId, NodeId)> = None;
        for level in (2..=6).rev() {
            let feat1 = net.part(&format!("feat1_{level}"), pyramid[level - 1], 0, 2);
            let feat2 = net.part(&format!("feat2_{level}"), pyramid[level - 1], 1, 2);
            let features = self.estimator(&mut net, level, feat1, feat2, up);
            let refines = self.context && level == 2;
            let name = if refines { "flow2_raw".to_string() } else { format!("flow{level}") };
            let mut flow = net.conv((name, format!("predict_flow{level}")), features, k(3).out(2));
            if level > 2 {
                let up_flow = net.deconv(format!("deconv{level}"), flow, 2, true);
                let up_feat = net.deconv(format!("upfeat{level}"), features, 2, true);
                up = Some((up_flow, up_feat));
            } else if self.unused_deconv2 {
                net.unused_deconv("deconv2", 2, 2);
            }
            if refines {
                let correction = context_network(&mut net, features);
                flow = net.sum("flow2", flow, correction);
            }
            flows.push(flow);
        }
        let finest = flows[flows.len() - 1];
        let pixels = net.scale("flow2.pixels", finest, DIV_FLOW);
        net.finish(pixels, Filter::Bilinear, self.output_grid, &flows)
    }

    /// Features of both frames at levels 1..=6.
    fn pyramid(&self, net: &mut Builder, mut x: NodeId) -> Vec<NodeId> {
        let mut levels = Vec::new();
        for (level, out) in (1..).zip(PYRAMID) {
            // The code swaps two names at level 6.
            let names: &[&str] = match (self.old, level) {
                (true, _) => &["a", "b"],
                (false, 6) => &["aa", "a", "b"],
                (false, _) => &["a", "aa", "b"],
            };
            for (i, name) in names.iter().enumerate() {
                let spec = k(3).stride(if i == 0 { 2 } else { 1 }).out(out);
                x = conv(net, &format!("conv{level}{name}"), x, spec);
            }
            levels.push(x);
        }
        levels
    }

    /// Warp, cost volume and the densely connected convolutions; returns all their features together.
    fn estimator(
        &self,
        net: &mut Builder,
        level: usize,
        feat1: NodeId,
        feat2: NodeId,
        up: Option<(NodeId, NodeId)>,
    ) -> NodeId {
        let second = match up {
            None => feat2,
            Some((flow, _)) => {
                let border = WarpBorder::ZerosMasked { threshold: self.mask_threshold };
                let scale = DIV_FLOW / (1 << level) as f32;
                net.warp(
                    &format!("warp{level}"),
                    feat2,
                    flow,
                    Warp { border, order: FlowOrder::Uv, scale, on_pixel: OnPixel::Right },
                )
            }
        };
        let corr = net.correlation(&format!("corr{level}"), feat1, second, CORRELATION);
        let cost = net.leaky(&format!("cost{level}"), corr);
        let mut x = match up {
            None => cost,
            Some((flow, features)) => net.concat(&format!("input{level}"), &[cost, feat1, flow, features]),
        };
        for (i, out) in ESTIMATOR.into_iter().enumerate() {
            let new = conv(net, &format!("conv{level}_{i}"), x, k(3).out(out));
            let joined = if self.old && i != 1 { [x, new] } else { [new, x] };
            x = net.concat(&format!("dense{level}_{i}"), &joined);
        }
        x
    }
}

/// The networks of this file.
pub(crate) const NETWORKS: &[&dyn Entry] = &[
    &Row {
        name: "pwcnet",
        aliases: &[],
        config: PwcNetConfig::nvlabs,
        settings: PwcNetConfig::SETTINGS,
        description: "PWC-Net with dense connections and a context network (NVlabs)",
    },
    &Row {
        name: "pwcnet-old",
        aliases: &[],
        config: PwcNetConfig::nvlabs_old,
        settings: PwcNetConfig::SETTINGS_FIXED,
        description: "NVlabs' first PWC-Net: two convolutions per pyramid level",
    },
    &Row {
        name: "pwcnet-nodc",
        aliases: &[],
        config: PwcNetConfig::ptlflow_nodc,
        settings: PwcNetConfig::SETTINGS_FIXED,
        description: "PWC-Net without context network (ptlflow)",
    },
];

impl Definition for PwcNetConfig {
    fn define(&self) -> Network {
        Network {
            graph: self.build(),
            stride: 64,
            fit: Fit::STRETCH,
            protocol: Protocol { fit: Fit::STRETCH, batch: None },
            layout: CheckpointLayout::Oihw,
            pyramid_unit: PyramidUnit::Pixels(DIV_FLOW),
            levels: Vec::new(),
            paper: PAPER,
            test_gains: &[
                ("conv2a.0.weight", 1.25),
                ("conv3a.0.weight", 1.25),
                ("conv4a.0.weight", 1.25),
                ("conv5a.0.weight", 1.25),
                ("conv6aa.0.weight", 1.25),
                ("predict_flow6.weight", 10.0),
            ],
        }
    }
}

/// Convolution and leaky ReLU, a PyTorch `Sequential`.
fn conv(net: &mut Builder, name: &str, x: NodeId, spec: ConvSpec) -> NodeId {
    net.conv_leaky((name, format!("{name}.0")), x, spec)
}

/// Dilated convolutions that see far: a correction of the finest flow.
fn context_network(net: &mut Builder, mut x: NodeId) -> NodeId {
    for (i, (out, dilation)) in (1..).zip(CONTEXT) {
        x = conv(net, &format!("dc_conv{i}"), x, k(3).dilation(dilation).out(out));
    }
    net.conv("dc_conv7", x, k(3).out(2))
}
