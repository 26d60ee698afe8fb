//! How to plan, and why a graph cannot be planned.

use ferroflow_kernels::{Bf16, Isa};
use ferroflow_net::{NodeId, graph::ShapeError};

/// How to plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Only sums of products of the given numbers: no Winograd.
    pub exact: bool,
    /// Allows convolutions of numbers rounded to bf16, summed in f32, where that is expected to be faster; `None`
    /// computes in f32. Flows are always f32.
    pub bf16: Option<Bf16>,
    /// Measures every step of every run ([`super::Plan::profile`]).
    pub profile: bool,
    /// Nodes whose values [`super::Plan::value`] shall give; they are neither fused away nor overwritten.
    pub keep: Vec<NodeId>,
}

impl Default for Options {
    fn default() -> Self {
        Self { isa: Isa::detect(), exact: false, bf16: None, profile: false, keep: Vec::new() }
    }
}

/// A graph that cannot be planned.
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
        /// Values the graph asks for.
        expected: usize,
        /// Values there are.
        got: usize,
    },
    /// The graph has no output.
    #[error("the graph has no flow: finish it with an output node")]
    NoFlow,
    /// An operation with settings that no kernel has.
    #[error("node `{node}` cannot run on the CPU: {reason}")]
    Unsupported {
        /// Name of the node.
        node: String,
        /// What is not there.
        reason: &'static str,
    },
}
