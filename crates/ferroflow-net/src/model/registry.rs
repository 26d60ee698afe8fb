//! The table of names.

use std::collections::BTreeMap;

use super::{CheckpointLayout, Fit, Model, ModelError, PyramidUnit};
use crate::graph::{Extent, Graph};
use crate::settings::{self, OptionHelp, Setting};
use crate::zoo::{FlowNet2Config, Member};

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
}

const fn flownet2(name: &'static str, member: Member, batch_norm: bool, description: &'static str) -> Network {
    Network { name, aliases: &[], family: Family::FlowNet2 { member, batch_norm }, description }
}

/// Every network, in the order in which they are listed.
pub(super) const NETWORKS: &[Network] = &[
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
    pub fn settings(&self) -> Vec<OptionHelp> {
        match self {
            Self::FlowNet2 { .. } => settings::describe(FlowNet2Config::SETTINGS),
        }
    }

    fn build(&self, name: &'static str, options: &BTreeMap<String, String>) -> Result<Parts, ModelError> {
        match *self {
            Self::FlowNet2 { member, batch_norm } => {
                let config = FlowNet2Config { batch_norm, ..FlowNet2Config::nvidia() };
                let config = configured(name, FlowNet2Config::SETTINGS, config, options)?;
                let unit = match member {
                    Member::FlowNet2 => 1.0,
                    Member::Sd => config.sd_scale,
                    _ => 20.0,
                };
                let (fit, evaluation_fit) = match options.get("variant").map(String::as_str) {
                    Some("ascend") => (Fit::Pad, Fit::Pad),
                    Some("caffe" | "ptlflow") => (Fit::Resize, Fit::Resize),
                    _ => (Fit::Resize, Fit::Crop),
                };
                Ok(Parts {
                    graph: config.build(member),
                    stride: 64,
                    fit,
                    evaluation_fit,
                    layout: CheckpointLayout::Oihw,
                    pyramid_unit: PyramidUnit::Pixels(unit),
                    paper: "Ilg et al., FlowNet 2.0: Evolution of Optical Flow Estimation with Deep Networks, CVPR 2017",
                })
            }
        }
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
