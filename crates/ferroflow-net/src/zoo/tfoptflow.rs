//! PWC-Net as philferriere/tfoptflow trained it in TensorFlow, with or without dense connections and with the context network
//! at the finest level or at every level.
//!
//! Sun et al., PWC-Net, CVPR 2018; code: tfoptflow `model_pwcnet.py`, also Ascend/ModelZoo-TensorFlow PWCNet. Frames are
//! RGB in 0..=1; flows are in pixels of their level. TensorFlow's `same` padding puts the one zero of a stride-2
//! convolution below and to the right, and the warp reads channel 0 as rows, subtracted: the learned upsampling swaps and
//! negates. Parameters: small 4,705,064; dense 9,374,274; residual 6,774,064; large (both) 14,079,050.

use super::pwcnet::{CONTEXT, ESTIMATOR, PAPER, PYRAMID};
use crate::graph::{
    Builder, Correlation, Filter, FlowOrder, Frame, Graph, Grid, Initialisation, Naming, NodeId, OnPixel, Padding,
    Warp, WarpBorder, k,
};
use crate::model::{CheckpointLayout, Definition, Entry, Fit, Network, Protocol, PyramidUnit, Row};
use crate::settings::{Setting, count};

/// Flows in a warp are multiplied by `20 / 2^level`, as in the original, although they are level pixels here.
const DIV_FLOW: f32 = 20.0;

/// The four variants, with the sizes of pyramid and cost volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TfOptFlowConfig {
    /// Every convolution of an estimator sees all before it (`use_dense_cx`).
    pub dense: bool,
    /// The context network refines every level (`use_res_cx`), not only the finest.
    pub residual: bool,
    /// Levels of the feature pyramid; the coarsest is where estimation begins (`pyr_lvls`).
    pub pyramid_levels: usize,
    /// The level of the finest flow, which is enlarged to full size (`flow_pred_lvl`).
    pub finest_level: usize,
    /// Largest displacement of the cost volumes, pixels of a level (`search_range`).
    pub search_range: usize,
}

impl TfOptFlowConfig {
    const fn of(dense: bool, residual: bool) -> Self {
        Self { dense, residual, pyramid_levels: 6, finest_level: 2, search_range: 4 }
    }

    /// `pwcnet-sm-6-2`
    pub const fn sm_6_2() -> Self {
        Self::of(false, false)
    }

    /// `pwcnet-lg-6-2`
    pub const fn lg_6_2() -> Self {
        Self::of(true, true)
    }

    /// `pwcnet-dense-6-2`
    pub const fn dense_6_2() -> Self {
        Self::of(true, false)
    }

    /// `pwcnet-res-6-2`
    pub const fn res_6_2() -> Self {
        Self::of(false, true)
    }

    pub(crate) const SETTINGS: &'static [Setting<Self>] = &[
        count!(
            "pyr-lvls",
            "levels of the feature pyramid; frames are multiples of 2 to this power",
            4.0..=6.0,
            pyramid_levels
        ),
        count!(
            "flow-pred-lvl",
            "level of the finest flow: 2 is a quarter of the frames' size",
            1.0..=4.0,
            finest_level
        ),
        count!("search-range", "largest displacement of the cost volumes, pixels of a level", 1.0..=10.0, search_range),
    ];

    /// The graph.
    pub fn build(&self) -> Graph {
        let mut net = Builder::new(Naming::Kernel).initialisation(Initialisation::KerasHeNormal {});
        let frames = [net.frame(Frame::First), net.frame(Frame::Second)];
        let x = net.stack("frames", &frames);
        let x = net.scale("frames.unit", x, 1.0 / 255.0);
        let pyramid = feature_pyramid(&mut net, x, self.pyramid_levels);

        let mut flows: Vec<NodeId> = Vec::new();
        let mut up: Option<(NodeId, NodeId)> = None;
        for level in (self.finest_level..=self.pyramid_levels).rev() {
            let c1 = net.part(&format!("c1_{level}"), pyramid[level - 1], 0, 2);
            let c2 = net.part(&format!("c2_{level}"), pyramid[level - 1], 1, 2);
            let features = self.predict_flow(&mut net, level, c1, c2, up);
            let refines = self.residual || level == self.finest_level;
            let name = if refines { format!("flow{level}_raw") } else { format!("flow{level}") };
            let mut flow = net.conv((name, format!("pwcnet/predict_flow/flow{level}")), features, k(3).out(2));
            if refines {
                let correction = refine_flow(&mut net, level, features);
                flow = net.sum(&format!("flow{level}"), flow, correction);
            }
            flows.push(flow);
            if level > self.finest_level {
                let mut upsample =
                    |name: String, x| net.deconv((name.clone(), format!("pwcnet/upsample/{name}")), x, 2, true);
                up = Some((upsample(format!("up_flow{level}"), flow), upsample(format!("up_feat{level}"), features)));
            }
        }
        let finest = flows[flows.len() - 1];
        let pixels = net.scale(&format!("flow{}.pixels", self.finest_level), finest, (1 << self.finest_level) as f32);
        net.finish(pixels, Filter::Bilinear, Grid::Asymmetric, &flows)
    }

    /// Warp, cost volume and estimator of one level; returns what the flow is predicted from.
    fn predict_flow(
        &self,
        net: &mut Builder,
        level: usize,
        c1: NodeId,
        c2: NodeId,
        up: Option<(NodeId, NodeId)>,
    ) -> NodeId {
        let second = match up {
            None => c2,
            Some((flow, _)) => {
                let scale = DIV_FLOW / (1 << level) as f32;
                let warp = Warp {
                    border: WarpBorder::Replicate,
                    order: FlowOrder::NegatedVu,
                    scale,
                    on_pixel: OnPixel::ZeroButLast,
                };
                net.warp(&format!("warp{level}"), c2, flow, warp)
            }
        };
        let correlation = Correlation { max_displacement: self.search_range, stride: 1 };
        let corr = net.correlation(&format!("corr{level}"), c1, second, correlation);
        let cost = net.leaky(&format!("cost{level}"), corr);
        let mut x = match up {
            None => cost,
            Some((flow, features)) => net.concat(&format!("input{level}"), &[cost, c1, flow, features]),
        };
        for (i, out) in ESTIMATOR.into_iter().enumerate() {
            let name = format!("conv{level}_{i}");
            let new = net.conv_leaky((name.clone(), format!("pwcnet/predict_flow/{name}")), x, k(3).out(out));
            x = if self.dense { net.concat(&format!("dense{level}_{i}"), &[new, x]) } else { new };
        }
        x
    }
}

/// The networks of this file.
pub(crate) const NETWORKS: &[&dyn Entry] = &[
    &Row {
        name: "pwcnet-sm",
        aliases: &["pwcnet-small", "pwcnet-sm-6-2"],
        config: TfOptFlowConfig::sm_6_2,
        settings: TfOptFlowConfig::SETTINGS,
        description: "tfoptflow's small PWC-Net: no dense connections",
    },
    &Row {
        name: "pwcnet-lg-6-2",
        aliases: &["pwcnet-lg", "pwcnet-large"],
        config: TfOptFlowConfig::lg_6_2,
        settings: TfOptFlowConfig::SETTINGS,
        description: "tfoptflow's large PWC-Net: dense, a context network at every level",
    },
    &Row {
        name: "pwcnet-dense",
        aliases: &["pwcnet-dense-6-2"],
        config: TfOptFlowConfig::dense_6_2,
        settings: TfOptFlowConfig::SETTINGS,
        description: "tfoptflow's PWC-Net with dense connections",
    },
    &Row {
        name: "pwcnet-res",
        aliases: &["pwcnet-res-6-2"],
        config: TfOptFlowConfig::res_6_2,
        settings: TfOptFlowConfig::SETTINGS,
        description: "tfoptflow's PWC-Net with a context network at every level",
    },
];

impl Definition for TfOptFlowConfig {
    fn define(&self) -> Network {
        Network {
            graph: self.build(),
            stride: 1 << self.pyramid_levels,
            fit: Fit::ZEROS,
            protocol: Protocol { fit: Fit::ZEROS, batch: None },
            layout: CheckpointLayout::Hwio,
            pyramid_unit: PyramidUnit::LevelPixels { row_first: false },
            levels: Vec::new(),
            paper: PAPER,
            test_gains: &[
                ("pwcnet/featpyr/conv2a/kernel", 1.25),
                ("pwcnet/featpyr/conv3a/kernel", 1.25),
                ("pwcnet/featpyr/conv4a/kernel", 1.25),
                ("pwcnet/featpyr/conv5a/kernel", 1.25),
                ("pwcnet/featpyr/conv6a/kernel", 1.25),
                ("pwcnet/predict_flow/flow6/kernel", 10.0),
            ],
        }
    }
}

/// Features of both frames at levels 1 to `count`.
fn feature_pyramid(net: &mut Builder, mut x: NodeId, count: usize) -> Vec<NodeId> {
    let mut levels = Vec::new();
    for (level, out) in (1..=count).zip(PYRAMID) {
        let halve = k(3).stride(2).padding(Padding::before_after(0, 1)).out(out);
        for (name, spec) in [("a", halve), ("aa", k(3).out(out)), ("b", k(3).out(out))] {
            let name = format!("conv{level}{name}");
            x = net.conv_leaky((name.clone(), format!("pwcnet/featpyr/{name}")), x, spec);
        }
        levels.push(x);
    }
    levels
}

/// The context network of one level: a correction of its flow.
fn refine_flow(net: &mut Builder, level: usize, mut x: NodeId) -> NodeId {
    for (i, (out, dilation)) in (1..).zip(CONTEXT) {
        let name = format!("dc_conv{level}{i}");
        x = net.conv_leaky((name.clone(), format!("pwcnet/ctxt/{name}")), x, k(3).dilation(dilation).out(out));
    }
    net.conv((format!("dc_conv{level}7"), format!("pwcnet/ctxt/dc_conv{level}7")), x, k(3).out(2))
}

#[cfg(test)]
mod tests {
    use crate::{Model, graph::Sizes};

    /// Options of tfoptflow beside its own 6-2 with a search range of 4.
    #[test]
    fn pyramids_and_cost_volumes_have_the_sizes_asked_for() {
        let model = Model::parse("pwcnet-sm", ["pyr-lvls=5", "flow-pred-lvl=3", "search-range=3"]).unwrap();
        let shapes = model.graph.shapes(&Sizes::new(1, 64, 96)).unwrap();
        assert_eq!((model.stride, model.graph.pyramid.len()), (32, 3));
        let finest = shapes[model.graph.pyramid[2].0 as usize];
        assert_eq!(finest, [1, 2, 8, 12]);
        let named = |name: &str| model.graph.params.iter().find(|p| p.name == name).map(|p| p.shape.clone());
        // 7 x 7 displacements where estimation begins; with the features of 64 channels, flow and its features at level 3.
        assert_eq!(named("pwcnet/predict_flow/conv5_0/kernel").unwrap()[1], 49);
        assert_eq!(named("pwcnet/predict_flow/conv3_0/kernel").unwrap()[1], 49 + 64 + 4);
        assert!(named("pwcnet/ctxt/dc_conv31/kernel").is_some() && named("pwcnet/featpyr/conv6a/kernel").is_none());
        assert!(Model::parse("pwcnet-lg-6-2", ["pyr-lvls=7"]).unwrap_err().to_string().contains("4..=6"));
        let plain = Model::parse("pwcnet-lg-6-2", ["pyr-lvls=6", "flow-pred-lvl=2", "search-range=4"]).unwrap();
        assert_eq!(plain.graph, Model::named("pwcnet-lg-6-2").unwrap().graph);
    }
}
