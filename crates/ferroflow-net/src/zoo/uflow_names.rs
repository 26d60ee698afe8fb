//! The names of UFlow's parameters in Google's checkpoints and in the MindSpore port's.

use crate::graph::{Builder, Naming};
use crate::model::CheckpointLayout;

/// Whose names the parameters have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UFlowNames {
    /// The object graph of a TensorFlow checkpoint; levels count from 0 at 1/2.
    Google,
    /// `TrainOneStepCell`'s flat names.
    MindSpore,
}

impl UFlowNames {
    pub(super) fn naming(self) -> Naming {
        match self {
            Self::Google => Naming::Kernel,
            Self::MindSpore => Naming::Dotted,
        }
    }

    /// How the values of a convolution are ordered there.
    pub(crate) fn layout(self) -> CheckpointLayout {
        match self {
            Self::Google => CheckpointLayout::Hwio,
            Self::MindSpore => CheckpointLayout::Oihw,
        }
    }

    /// Convolution `i` of a pyramid level, the `number`th of all.
    pub(super) fn feature(self, level: usize, i: usize, number: usize) -> String {
        match self {
            Self::Google => format!("feature_model/_convs/{}/{i}", level - 1),
            Self::MindSpore => format!("_teacher_feature_model._conv{number}"),
        }
    }

    /// Convolution `i` of a level's decoder.
    pub(super) fn dense(self, level: usize, i: usize, shared: bool) -> String {
        match self {
            Self::Google if shared => format!("flow_model/_flow_layers/{i}/layer_with_weights-0"),
            Self::Google => format!("flow_model/_flow_layers/{}/{i}/layer_with_weights-0", level - 1),
            Self::MindSpore => format!("_teacher_flow_model._flow_layers.{}.0", (level - 2) * 6 + i),
        }
    }

    /// The last convolution of a level's decoder.
    pub(super) fn flow(self, level: usize, shared: bool) -> String {
        match self {
            Self::Google if shared => "flow_model/_flow_layers/5".into(),
            Self::Google => format!("flow_model/_flow_layers/{}/5", level - 1),
            Self::MindSpore => format!("_teacher_flow_model._flow_layers.{}", (level - 2) * 6 + 5),
        }
    }

    /// The transposed convolution of a level's context.
    pub(super) fn context_up(self, level: usize) -> String {
        match self {
            Self::Google => format!("flow_model/_context_up_layers/{}", level - 1),
            Self::MindSpore => format!("_teacher_flow_model._context_up_layers.{}", level - 2),
        }
    }

    /// Convolution `i` of the refinement.
    pub(super) fn refinement(self, i: usize) -> String {
        match self {
            Self::Google => format!("flow_model/_refine_model/layer_with_weights-{i}"),
            Self::MindSpore => format!("_teacher_flow_model._refine_model.{}", 2 * i),
        }
    }

    /// The convolution that stands in for a level's cost volume (the port has none).
    pub(super) fn surrogate(self, level: usize) -> String {
        format!("flow_model/_cost_volume_surrogate_convs/{}", level - 1)
    }

    /// The convolution before the shared decoder (the port has none).
    pub(super) fn shared_1x1(self, level: usize) -> String {
        format!("flow_model/_1x1_shared_decoder/{}", level - 1)
    }

    /// Brings the parameters into the checkpoint's order.
    pub(super) fn sort(self, net: &mut Builder) {
        match self {
            Self::Google => net.sort_params(0, str::to_string),
            Self::MindSpore => net.sort_params(0, |name| {
                let groups = ["_conv", "_refine_model.", "_flow_layers.", "_context_up_layers."];
                let name = name.split_once("_model.").map_or(name, |(_, rest)| rest);
                groups.iter().enumerate().find_map(|(group, prefix)| {
                    let number = name.strip_prefix(prefix)?;
                    let digits = number.split('.').next().unwrap_or(number);
                    Some((group, digits.parse::<usize>().ok()))
                })
            }),
        }
    }
}
