//! Writes a network as an ONNX file with standard operators only, from the same graph that every executor reads.
//!
//! The file takes two frames and gives the flow in pixels. `emit` contains what differs between ONNX's operator sets; `lower`
//! writes each operation of the graph in ONNX's operators. The operations without a counterpart (the cost volume, the warp and
//! convex upsampling) have files of their own.

mod convex_upsample;
mod correlation;
mod emit;
mod inputs;
mod int32;
mod lookup;
mod lower;
mod plan;
mod proto;
mod split;
mod warp;

use std::io::{self, Write};

use crate::graph::{Graph, ShapeError, Sizes};
use crate::weights::{Weights, store::Stored};

/// How to write a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Height and width that the file is for; with `None` it takes all that are multiples of the network's stride.
    pub size: Option<(usize, usize)>,
    /// Number of pairs in a batch; with `None` the file takes any number.
    pub batch: Option<usize>,
    /// Version of the operator set, 11 to 20.
    pub opset: i64,
    /// Precision of the convolutions and their weights.
    pub precision: Precision,
    /// What the file takes.
    pub inputs: Inputs,
    /// How much of the network the file holds.
    pub part: Part,
    /// How warps are written; with `None`, as `GridSample` if the operator set has it.
    pub warp: Option<WarpForm>,
    /// How cost volumes are written.
    pub correlation: CorrelationForm,
    /// How wide indices are.
    pub indices: Indices,
    /// Key-value pairs for the file's metadata, such as its provenance.
    pub metadata: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: None,
            batch: Some(1),
            opset: 17,
            precision: Precision::F32,
            inputs: Inputs::Images,
            part: Part::Whole,
            warp: None,
            correlation: CorrelationForm::MatMul,
            indices: Indices::Int64,
            metadata: Vec::new(),
        }
    }
}

/// Precision of the convolutions. Coordinates, resizes and norms are computed in `f32` in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// Single.
    F32,
    /// Half, for a file of half the size and runtimes that compute in it.
    F16,
}

/// What the file takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inputs {
    /// `frame1`, `frame2`: `[N, 3, H, W]`, RGB 0..=255.
    Images,
    /// `x1`, `x2`: `[N, 3, H, W]`, the values that the network makes of the frames before its first layer (for FlowNet2, the
    /// frames minus their mean, divided by 255).
    Normalised,
}

/// How much of a network a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// All of it: two frames in, flow out.
    #[default]
    Whole,
    /// What it makes of each frame alone: `frames`, `[2N, 3, H, W]`, all first frames and then all second ones, to `features_1`,
    /// `features_2`, ... at 1/2, 1/4, ...
    Features,
    /// Flow from `features1_1`, `features1_2`, ..., those of the first frames, and `features2_1`, ..., those of the second.
    Flow,
}

/// How a warp is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarpForm {
    /// `GridSample`, from operator set 16 on. A warp that it cannot express is gathered.
    GridSample,
    /// Four `Gather`s, for runtimes without `GridSample`.
    Gather,
}

/// How a cost volume is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorrelationForm {
    /// A product and a mean over channels for every displacement, with the plainest operators.
    Slices,
    /// A matrix product for every row of displacements, of which the diagonals are kept. It has a seventh of the nodes and is
    /// several times faster where there are many displacements (FlowNetC).
    MatMul,
}

/// How wide indices are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Indices {
    /// 64 bits, ONNX's usual.
    #[default]
    Int64,
    /// 32 bits wherever ONNX allows it, and no slice of a slice, for device compilers. It needs a fixed size and batch.
    Int32,
}

/// Why a network cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The operator set is out of range.
    #[error("operator set {0} is not supported; choose 11 to 20")]
    Opset(i64),
    /// `GridSample` was asked for, and this operator set has none.
    #[error("GridSample needs operator set 16 or later, not {0}; leave the choice of the warp out")]
    NoGridSample(i64),
    /// Indices of 32 bits in a file of an open size.
    #[error("indices of 32 bits need a fixed size and batch: sizes read at run time have 64")]
    OpenIndices,
    /// The size does not fit the network.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The network has no output.
    #[error("the graph has no flow")]
    NoFlow,
    /// The preprocessing of the frames cannot be separated from the network.
    #[error("this network has no inputs after normalisation: {0}; export it with images as inputs")]
    NoCut(String),
    /// The network does not fall into features and flow.
    #[error(
        "this network has no features of each frame alone that could be in a file of their own: {0}; export the whole"
    )]
    NoSplit(String),
    /// The file could not be written.
    #[error("cannot write the ONNX file: {0}")]
    Io(#[from] io::Error),
}

/// What a file says of its network and the origin of its weights, for [`Options::metadata`].
pub fn metadata(Stored { model, provenance, .. }: &Stored) -> Vec<(String, String)> {
    let own = |key: &str, value: &str| (key.to_string(), value.to_string());
    let mut metadata = vec![
        own("network", model.name),
        own("paper", model.paper),
        own("flow", "[N, 2, H, W]: u right, v down, pixels of frame 1"),
    ];
    metadata.extend(model.options.iter().map(|(key, value)| (format!("option {key}"), value.clone())));
    metadata.extend(provenance.source.iter().map(|source| own("weights", source)));
    metadata.extend(provenance.license.iter().map(|licence| own("licence of the weights", licence)));
    metadata
}

/// Writes `graph` with `weights` as a `ModelProto`.
///
/// Inputs are `frame1`, `frame2` or `x1`, `x2` ([`Inputs`]), the output is `flow`, `[N, 2, H, W]`, u then v, pixels; those of half a
/// network are named at [`Part`].
pub fn export(graph: &Graph, weights: &Weights, options: &Options, out: &mut impl Write) -> Result<(), OnnxError> {
    if !(11..=20).contains(&options.opset) {
        return Err(OnnxError::Opset(options.opset));
    }
    if options.warp == Some(WarpForm::GridSample) && options.opset < 16 {
        return Err(OnnxError::NoGridSample(options.opset));
    }
    if options.indices == Indices::Int32 && (options.size.is_none() || options.batch.is_none()) {
        return Err(OnnxError::OpenIndices);
    }
    let flow = graph.flow.ok_or(OnnxError::NoFlow)?;
    // Any size serves to tell how sizes relate; this one is a multiple of every network's stride.
    let (height, width) = options.size.unwrap_or((128, 192));
    let shapes = graph.shapes(&Sizes::new(options.batch.unwrap_or(1), height, width))?;
    let lowered = lower::lower(graph, weights, &shapes, options, flow)?;

    let words = options.metadata.iter().map(|(key, value)| proto::Property { key: key.clone(), value: value.clone() });
    let unit = proto::Property { key: "flow.unit".into(), value: "pixels of the input, u right, v down".into() };
    let head = proto::ModelHead {
        ir_version: match options.opset {
            11 => 6,
            12..=14 => 7,
            15..=18 => 8,
            _ => 9,
        },
        producer_name: "ferroflow".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: "Dense optical flow from frame 1 to frame 2.".into(),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: options.opset }],
        metadata_props: words.chain([unit]).collect(),
    };
    proto::write(&head, &lowered.graph, &lowered.tensors, out)?;
    Ok(())
}

#[cfg(test)]
mod tests;
