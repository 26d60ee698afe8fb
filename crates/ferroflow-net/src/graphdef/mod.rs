//! Writes a network as a frozen TensorFlow graph (`.pb`), as the PWC-Net of Ascend's model zoo freezes itself: one input with both
//! frames, weights as constants, operators that TensorFlow 1 has already.
//!
//! The graph takes [`INPUT`], `[1, 2, H, W, 3]`, RGB / 255, and gives [`OUTPUT`], `[1, H, W, 2]`, u then v, pixels. TensorFlow keeps
//! channels last, so every value is `[N, H, W, C]` there.

mod emit;
mod lower;
mod proto;

use std::io::{self, Write};

use prost::Message;

use crate::graph::{Graph, ShapeError, Size, Sizes};
use crate::weights::Weights;

/// Name of the input.
pub const INPUT: &str = "x_tnsr";

/// Name of the output.
pub const OUTPUT: &str = "output";

/// Why a network cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphDefError {
    /// An operation has no counterpart here.
    #[error(
        "a frozen TensorFlow graph is for tfoptflow's PWC-Nets (pwcnet-lg-6-2, pwcnet-sm, ...); this network has {0}: export it as ONNX"
    )]
    Unsupported(String),
    /// The size does not fit the network.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The file could not be written.
    #[error("cannot write the graph: {0}")]
    Io(#[from] io::Error),
}

/// Writes `graph` with `weights` for frames of one size as a binary `GraphDef`.
///
/// # Errors
/// If the network has an operation that is not written, does not take the size, or the file cannot be written.
pub fn export(graph: &Graph, weights: &Weights, size: Size, out: &mut impl Write) -> Result<(), GraphDefError> {
    let shapes = graph.shapes(&Sizes::new(1, size.height, size.width))?;
    let node = lower::lower(graph, weights, &shapes, size)?;
    // 27 is TensorFlow 1.12, the first with LeakyRelu.
    let graph = proto::GraphDef { node, versions: Some(proto::Versions { producer: 27 }) };
    out.write_all(&graph.encode_to_vec())?;
    Ok(())
}

#[cfg(test)]
mod tests;
