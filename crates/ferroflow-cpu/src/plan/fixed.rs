//! The layers of the inference plan, whose weights are fixed, so that the operations after a layer are folded into them.

use std::{collections::HashMap, sync::Arc};

use ferroflow_kernels::{
    Extent, LaneMap,
    activation::Smooth,
    conv::{ConvPlan, ConvShape},
};
use ferroflow_net::ParamId;

use super::value::Value;

/// What makes two convolutions the same prepared layer.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct LayerKey {
    pub weight: ParamId,
    pub bias: Option<ParamId>,
    /// The input channels of the weights that it reads, if not all.
    pub channels: Vec<u32>,
    /// Its outputs among those of the weights, if not all.
    pub picked: Option<Vec<u32>>,
    /// The bits of the factor and the summand of each output channel, which iterations of a network have in common.
    pub maps: [Vec<u64>; 2],
    /// The weight and the bias of the layer that it is multiplied with, and its maps.
    pub before: Option<(ParamId, Option<ParamId>, [Vec<u64>; 2])>,
    /// The weight and the bias of the layer whose outputs follow.
    pub beside: Option<(ParamId, Option<ParamId>)>,
    pub shape: ConvShape,
    pub input: Extent,
    pub lanes: LaneMap,
    /// The bits of the slopes, and what else is applied.
    pub activation: ([u32; 2], Option<Smooth>),
}

/// What a layer makes of a part of its input that many iterations have in common.
pub(super) struct Once {
    pub weight: ParamId,
    pub scale: Vec<f64>,
    pub input: Value,
    pub output: Value,
}

/// The weights, and the layers prepared with them.
pub(super) struct FixedLayers<'a, W> {
    weights: &'a [W],
    /// Prepared layers that several nodes may run.
    pub prepared: HashMap<LayerKey, Arc<ConvPlan>>,
    /// Partial sums that several nodes begin with.
    pub once: Vec<Once>,
    /// Bytes of all prepared weights.
    pub bytes: usize,
}

impl<'a, W: AsRef<[f32]>> FixedLayers<'a, W> {
    pub fn new(weights: &'a [W]) -> Self {
        Self { weights, prepared: HashMap::new(), once: Vec::new(), bytes: 0 }
    }

    /// Values of a parameter; `None` if there are no weights for it.
    pub fn get(&self, id: ParamId) -> Option<&'a [f32]> {
        self.weights.get(id.0 as usize).map(AsRef::as_ref)
    }

    /// Values of a parameter that has been checked.
    pub fn weight(&self, id: ParamId) -> &'a [f32] {
        self.weights[id.0 as usize].as_ref()
    }
}
