//! The table of names.

use std::collections::BTreeMap;

use super::{CheckpointLayout, Fit, Model, ModelError, PyramidUnit};
use crate::graph::{Extent, Graph};
use crate::settings::{self, OptionHelp, Setting};
use crate::zoo::{FlowNet2Config, LightFlowConfig, Member, PwcNetConfig, RillConfig, TfOptFlowConfig, UFlowConfig};

/// A line of the table.
pub(super) struct Network {
    pub name: &'static str,
    aliases: &'static [&'static str],
    pub family: Family,
    description: &'static str,
}

/// Which definition a name stands for, and with what configuration.
pub(super) enum Family {
    FlowNet2 { member: Member, batch_norm: bool },
    PwcNet,
    PwcNetOld,
    PwcNetNoDc,
    TfOptFlow(TfOptFlowConfig),
    UFlow,
    UFlowMindSpore,
    LightFlow { width: f64 },
    Rill(RillConfig),
}

const fn flownet2(name: &'static str, member: Member, batch_norm: bool, description: &'static str) -> Network {
    Network { name, aliases: &[], family: Family::FlowNet2 { member, batch_norm }, description }
}

const fn network(name: &'static str, family: Family, description: &'static str) -> Network {
    Network { name, aliases: &[], family, description }
}

/// Every network, in the order in which they are listed.
pub(super) const NETWORKS: &[Network] = &[
    network("rill", Family::Rill(RillConfig::small()), "ours: recurrent, coarse to fine, small and fast"),
    network("rill-large", Family::Rill(RillConfig::large()), "ours: wider, with more iterations"),
    flownet2("flownet2", Member::FlowNet2, false, "C, S, S and SD, fused"),
    flownet2("flownet2-s", Member::S, false, "FlowNetS alone"),
    flownet2("flownet2-c", Member::C, false, "FlowNetC alone"),
    flownet2("flownet2-sd", Member::Sd, false, "FlowNetSD alone, for small displacements"),
    flownet2("flownet2-cs", Member::Cs, false, "C, then S"),
    flownet2("flownet2-css", Member::Css, false, "C, then S twice"),
    flownet2("flownet2-bn", Member::FlowNet2, true, "C, S, S and SD, fused, with batch norm"),
    flownet2("flownet2-s-bn", Member::S, true, "FlowNetS alone, with batch norm"),
    flownet2("flownet2-c-bn", Member::C, true, "FlowNetC alone, with batch norm"),
    flownet2("flownet2-sd-bn", Member::Sd, true, "FlowNetSD alone, with batch norm"),
    flownet2("flownet2-cs-bn", Member::Cs, true, "C, then S, with batch norm"),
    flownet2("flownet2-css-bn", Member::Css, true, "C, then S twice, with batch norm"),
    network("pwcnet", Family::PwcNet, "PWC-Net with dense connections and a context network (NVlabs)"),
    network("pwcnet-old", Family::PwcNetOld, "NVlabs' first PWC-Net: two convolutions per pyramid level"),
    network("pwcnet-nodc", Family::PwcNetNoDc, "PWC-Net without context network (ptlflow)"),
    Network {
        name: "pwcnet-sm",
        aliases: &["pwcnet-small", "pwcnet-sm-6-2"],
        family: Family::TfOptFlow(TfOptFlowConfig::sm_6_2()),
        description: "tfoptflow's small PWC-Net: no dense connections",
    },
    Network {
        name: "pwcnet-lg-6-2",
        aliases: &["pwcnet-lg", "pwcnet-large"],
        family: Family::TfOptFlow(TfOptFlowConfig::lg_6_2()),
        description: "tfoptflow's large PWC-Net: dense, a context network at every level",
    },
    Network {
        name: "pwcnet-dense",
        aliases: &["pwcnet-dense-6-2"],
        family: Family::TfOptFlow(TfOptFlowConfig::dense_6_2()),
        description: "tfoptflow's PWC-Net with dense connections",
    },
    Network {
        name: "pwcnet-res",
        aliases: &["pwcnet-res-6-2"],
        family: Family::TfOptFlow(TfOptFlowConfig::res_6_2()),
        description: "tfoptflow's PWC-Net with a context network at every level",
    },
    network("uflow", Family::UFlow, "UFlow (Google), learned without ground truth"),
    network("uflow-mindspore", Family::UFlowMindSpore, "the MindSpore port of UFlow"),
    network("lightflow", Family::LightFlow { width: 1.0 }, "LightFlow, depthwise separable"),
    network("lightflow-0.75", Family::LightFlow { width: 0.75 }, "LightFlow with 3/4 of the channels"),
    network("lightflow-0.5", Family::LightFlow { width: 0.5 }, "LightFlow with half of the channels"),
];

/// The line of this name or alias.
pub(super) fn find(name: &str) -> Result<&'static Network, ModelError> {
    NETWORKS
        .iter()
        .find(|n| n.name == name || n.aliases.contains(&name))
        .ok_or_else(|| ModelError::UnknownName { name: name.into(), known: NETWORKS.iter().map(|n| n.name).collect() })
}

/// The network of this name with these options.
pub(super) fn build(name: &str, options: &BTreeMap<String, String>) -> Result<Model, ModelError> {
    let network = find(name)?;
    let parts = network.family.build(network.name, options)?;
    Ok(Model {
        name: network.name,
        options: options.clone(),
        graph: parts.graph,
        stride: parts.stride,
        min_size: Extent { height: parts.stride, width: parts.stride },
        fit: parts.fit,
        evaluation_fit: parts.evaluation_fit,
        layout: parts.layout,
        pyramid_unit: parts.pyramid_unit,
        paper: parts.paper,
        description: network.description,
    })
}

/// What differs from family to family.
struct Parts {
    graph: Graph,
    stride: usize,
    fit: Fit,
    evaluation_fit: Fit,
    layout: CheckpointLayout,
    pyramid_unit: PyramidUnit,
    paper: &'static str,
}

impl Family {
    /// What can be chosen.
    pub fn settings(&self) -> Vec<OptionHelp> {
        match self {
            Self::FlowNet2 { .. } => settings::describe(FlowNet2Config::SETTINGS),
            Self::PwcNet => settings::describe(PwcNetConfig::SETTINGS),
            Self::PwcNetOld | Self::PwcNetNoDc => settings::describe(PwcNetConfig::SETTINGS_FIXED),
            Self::TfOptFlow(_) => Vec::new(),
            Self::UFlow => settings::describe(UFlowConfig::SETTINGS),
            Self::UFlowMindSpore => settings::describe(UFlowConfig::SETTINGS_MINDSPORE),
            Self::LightFlow { .. } => settings::describe(LightFlowConfig::SETTINGS),
            Self::Rill(_) => settings::describe(RillConfig::SETTINGS),
        }
    }

    fn build(&self, name: &'static str, options: &BTreeMap<String, String>) -> Result<Parts, ModelError> {
        Ok(match *self {
            Self::FlowNet2 { member, batch_norm } => {
                let config = FlowNet2Config { batch_norm, ..FlowNet2Config::nvidia() };
                let config = configured(name, FlowNet2Config::SETTINGS, config, options)?;
                let unit = match member {
                    Member::FlowNet2 => 1.0,
                    Member::Sd => config.sd_scale,
                    Member::S | Member::C | Member::Cs | Member::Css => 20.0,
                };
                let (fit, evaluation_fit) = match options.get("variant").map(String::as_str) {
                    Some("ascend") => (Fit::Pad, Fit::Pad),
                    Some("caffe" | "ptlflow") => (Fit::Resize, Fit::Resize),
                    _ => (Fit::Resize, Fit::Crop),
                };
                Parts {
                    graph: config.build(member),
                    stride: 64,
                    fit,
                    evaluation_fit,
                    layout: CheckpointLayout::Oihw,
                    pyramid_unit: PyramidUnit::Pixels(unit),
                    paper: "Ilg et al., FlowNet 2.0: Evolution of Optical Flow Estimation with Deep Networks, CVPR 2017",
                }
            }
            Self::PwcNet => pwcnet(configured(name, PwcNetConfig::SETTINGS, PwcNetConfig::nvlabs(), options)?),
            Self::PwcNetOld => {
                pwcnet(configured(name, PwcNetConfig::SETTINGS_FIXED, PwcNetConfig::nvlabs_old(), options)?)
            }
            Self::PwcNetNoDc => {
                pwcnet(configured(name, PwcNetConfig::SETTINGS_FIXED, PwcNetConfig::ptlflow_nodc(), options)?)
            }
            Self::TfOptFlow(config) => {
                let config = configured(name, &[], config, options)?;
                Parts {
                    graph: config.build(),
                    stride: 64,
                    fit: Fit::Pad,
                    evaluation_fit: Fit::Pad,
                    layout: CheckpointLayout::Hwio,
                    pyramid_unit: PyramidUnit::LevelPixels { row_first: false },
                    paper: PWCNET,
                }
            }
            Self::UFlow => uflow(configured(name, UFlowConfig::SETTINGS, UFlowConfig::google(), options)?),
            Self::UFlowMindSpore => {
                uflow(configured(name, UFlowConfig::SETTINGS_MINDSPORE, UFlowConfig::mindspore(), options)?)
            }
            Self::Rill(config) => {
                let config = configured(name, RillConfig::SETTINGS, config, options)?;
                Parts {
                    stride: 1 << config.pyramid.len(),
                    graph: config.build(),
                    fit: Fit::Resize,
                    evaluation_fit: Fit::Resize,
                    layout: CheckpointLayout::Oihw,
                    pyramid_unit: PyramidUnit::LevelPixels { row_first: false },
                    paper: "Ferroflow's own; recurrence as in Teed and Deng, RAFT, ECCV 2020, pyramid as in PWC-Net",
                }
            }
            Self::LightFlow { width } => {
                let config = configured(name, LightFlowConfig::SETTINGS, LightFlowConfig::of_width(width), options)?;
                Parts {
                    graph: config.build(),
                    stride: 64,
                    fit: Fit::Resize,
                    evaluation_fit: Fit::Crop,
                    layout: CheckpointLayout::Oihw,
                    pyramid_unit: PyramidUnit::Pixels(config.div_flow),
                    paper: "Zhu et al., Towards High Performance Video Object Detection for Mobiles, 2018",
                }
            }
        })
    }
}

const PWCNET: &str = "Sun et al., PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume, CVPR 2018";

fn pwcnet(config: PwcNetConfig) -> Parts {
    Parts {
        graph: config.build(),
        stride: 64,
        fit: Fit::Resize,
        evaluation_fit: Fit::Resize,
        layout: CheckpointLayout::Oihw,
        pyramid_unit: PyramidUnit::Pixels(20.0),
        paper: PWCNET,
    }
}

fn uflow(config: UFlowConfig) -> Parts {
    Parts {
        graph: config.build(),
        stride: 1 << config.levels,
        fit: Fit::Resize,
        evaluation_fit: Fit::Resize,
        layout: config.names.layout(),
        pyramid_unit: PyramidUnit::LevelPixels { row_first: true },
        paper: "Jonschkowski et al., What Matters in Unsupervised Optical Flow, ECCV 2020",
    }
}

fn configured<C>(
    name: &'static str,
    settings: &[Setting<C>],
    mut config: C,
    options: &BTreeMap<String, String>,
) -> Result<C, ModelError> {
    settings::apply(settings, &mut config, options).map_err(|source| ModelError::Option { name, source })?;
    Ok(config)
}
