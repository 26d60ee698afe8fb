//! A network as a static graph, which is written once and read by every executor, exporter and table.
//!
//! Values are `[N, C, H, W]`. The graph takes the two frames as RGB 0..=255 and ends in flow in pixels of the output
//! image, so an executor needs to know nothing else about a network.

mod both;
mod builder;
mod by_frame;
mod cost;
mod initialisation;
mod op;
mod shape;

pub use both::BothDirections;
pub use builder::{Builder, ConvSpec, Label, Naming, k, kr};
pub use by_frame::ByFrame;
pub use cost::Cost;
pub use ferroflow_core::{Size, geometry::Grid};
pub use initialisation::Initialisation;
pub use op::{
    BatchNorm, Conv, Correlation, Deconv, Filter, FlowOrder, Frame, LayerNorm, Lookup, MomentsOver, OnPixel, Op,
    Padding, Smooth, Warp, WarpBorder,
};
pub use shape::{Shape, ShapeError, Sizes};

/// Index of a node within its graph; nodes only refer to earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// Index of a parameter within its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub u32);

/// What a parameter is for; decides its layout, its initialisation and whether weight decay applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParamRole {
    /// `[out, in / groups, kh, kw]`
    ConvWeight,
    /// `[in, out, kh, kw]`
    DeconvWeight,
    /// `[out]`
    Bias,
    /// Factor of a norm (gamma) or of a layer scale, `[C]`
    NormScale,
    /// Summand of a norm (beta), `[C]`
    NormShift,
    /// Batch norm's running mean, `[C]`; not trained
    NormMean,
    /// Batch norm's running variance, `[C]`; not trained
    NormVariance,
}

impl ParamRole {
    /// Whether gradient descent changes it. It does not change running statistics, which usual counts of parameters leave out.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::NormMean | Self::NormVariance)
    }
}

/// A parameter. Its name is the reference checkpoint's, its layout always PyTorch's.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Name in the reference checkpoint.
    pub name: String,
    /// Dimensions, in PyTorch's order whatever the reference framework.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: ParamRole,
    /// False for parameters that a checkpoint holds but the forward pass never reads (PWC-Net's `deconv2`).
    pub used: bool,
    /// Factor on the usual first weights ([`crate::Weights::random`]).
    pub gain: f32,
}

impl Param {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds no value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One operation applied to earlier values.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Its arguments, in the order the operation documents.
    pub inputs: Vec<NodeId>,
    /// The paper's name of this value (`conv3_1`, `flownets_1.predict_flow2`), for profiles and tests; unique.
    pub name: String,
}

/// One correction of the flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Iteration {
    /// The flow before it, `[N, 2, h, w]`.
    pub before: NodeId,
    /// The flow after it.
    pub after: NodeId,
    /// What else is read after the last iteration: the state by which RAFT upsamples its flow.
    pub state: Vec<NodeId>,
}

/// A whole network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The nodes, in execution order.
    pub nodes: Vec<Node>,
    /// Every parameter of the reference checkpoint, in its order.
    pub params: Vec<Param>,
    /// The flow, `[N, 2, Ho, Wo]`, u then v, pixels of the output image. Always an [`Op::ToOutput`].
    pub flow: Option<NodeId>,
    /// The [`Op::Zeros`] `[N, 2, h, w]` in whose place a caller may give a flow to start from, in pixels of that size
    /// ([`Executor::start_from`](crate::device::Executor::start_from)).
    pub initial: Option<NodeId>,
    /// The corrections of the flow by a recurrent network, in order. What follows the last reads of them only its own.
    pub iterations: Vec<Iteration>,
    /// Values that training losses read, by name, coarse to fine (`flow6` .. `flow2`), in the network's own units.
    pub pyramid: Vec<NodeId>,
    /// How first weights are drawn.
    pub initialisation: Initialisation,
}

impl Graph {
    /// The node behind an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The parameter behind an id.
    pub fn param(&self, id: ParamId) -> &Param {
        &self.params[id.0 as usize]
    }

    /// The value with this name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|n| n.name == name).map(|i| NodeId(i as u32))
    }

    /// Number of trained values, which papers call the parameter count.
    pub fn parameter_count(&self) -> usize {
        self.params.iter().filter(|p| p.role.is_trained()).map(Param::len).sum()
    }
}
