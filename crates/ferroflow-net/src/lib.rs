//! Optical-flow networks as graphs, and what reads them: weights and checkpoints, the ONNX writer, drawings, and the traits that
//! a device implements.

pub mod device;
pub mod dot;
pub mod graph;
pub mod graphdef;
mod model;
pub mod onnx;
pub mod peers;
mod settings;
pub mod svg;
pub mod training;
pub mod weights;
pub mod zoo;

pub use graph::{Graph, NodeId, Op, ParamId};
pub use model::{CheckpointLayout, Definition, Fit, Model, ModelError, Network, Protocol, PyramidUnit};
pub use settings::{OptionHelp, SettingError};
pub use weights::Weights;
