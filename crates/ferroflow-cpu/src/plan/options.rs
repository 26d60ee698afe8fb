//! Options of the inference plan, and why a graph cannot be planned.

use ferroflow_kernels::{Bf16, Isa};
use ferroflow_net::{NodeId, graph::ShapeError};

/// Options of the inference plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Use no Winograd convolution: slower, and the last digits differ.
    pub exact: bool,
    /// Allows convolutions of numbers rounded to bf16, summed in f32, where that is expected to be faster; `None`
    /// computes in f32. Flows are always f32.
    pub bf16: Option<Bf16>,
    /// Measures every step of every run ([`super::Plan::profile`]).
    pub profile: bool,
    /// Nodes whose values [`super::Plan::value`] returns; they are neither fused away nor overwritten.
    pub keep: Vec<NodeId>,
    /// For a plan of one pair: nodes of frame 1 and of frame 2 that are the same function of their frame
    /// ([`ByFrame::twins`](ferroflow_net::graph::ByFrame::twins)). With them a run takes what the run before it computed of a frame
    /// that it sees again; the flow is the same to the last bit.
    pub twins: Vec<[NodeId; 2]>,
}

impl Default for Options {
    fn default() -> Self {
        Self { isa: Isa::detect(), exact: false, bf16: None, profile: false, keep: Vec::new(), twins: Vec::new() }
    }
}

/// Why a graph cannot be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The frames do not suit the network.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A weight is missing or has another size than the graph says.
    #[error("parameter `{name}` needs {expected} values and has {got}: these are weights of another network")]
    Weights {
        /// Name of the parameter.
        name: String,
        /// Number of values that the graph needs.
        expected: usize,
        /// Number of values given.
        got: usize,
    },
    /// The graph has no output.
    #[error("the graph has no flow: finish it with an output node")]
    NoFlow,
    /// No kernel computes the operation with these settings.
    #[error("node `{node}` cannot run on the CPU: {reason}")]
    Unsupported {
        /// Name of the node.
        node: String,
        /// What is missing.
        reason: &'static str,
    },
}
