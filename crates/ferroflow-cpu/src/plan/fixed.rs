//! The layers of the inference plan, whose weights are fixed, so that the operations after a layer are folded into them.

use std::{collections::HashMap, sync::Arc};

use ferroflow_kernels::{
    Extent, LaneMap,
    activation::Smooth,
    conv::{ConvPlan, ConvShape},
};
use ferroflow_net::ParamId;

/// What makes two convolutions the same prepared layer.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct LayerKey {
    pub weight: ParamId,
    /// The bits of the factor and the summand of each output channel, which iterations of a network have in common.
    pub maps: [Vec<u64>; 2],
    pub shape: ConvShape,
    pub input: Extent,
    pub lanes: LaneMap,
    /// The bits of the slope, and what else is applied.
    pub activation: (u32, Option<Smooth>),
}

/// The weights, and the layers prepared with them.
pub(super) struct FixedLayers<'a, W> {
    weights: &'a [W],
    /// Prepared layers that several nodes may run.
    pub prepared: HashMap<LayerKey, Arc<ConvPlan>>,
    /// Bytes of all prepared weights.
    pub bytes: usize,
}

impl<'a, W: AsRef<[f32]>> FixedLayers<'a, W> {
    pub fn new(weights: &'a [W]) -> Self {
        Self { weights, prepared: HashMap::new(), bytes: 0 }
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
