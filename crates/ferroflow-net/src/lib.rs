//! The graph of an optical-flow network, and everything that reads it.

pub mod graph;
pub mod weights;

pub use graph::{Graph, NodeId, Op, ParamId};
