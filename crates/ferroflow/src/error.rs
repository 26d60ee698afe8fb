//! One error for everything that the library does.

use ferroflow_core::{
    ParseSizeError, SizeError,
    io::{FormatError, IoError, OutputError},
    metrics::MetricError,
};
use ferroflow_cpu::{Bf16Error, PlanError, plan::RunError, reference::ReferenceError};
use ferroflow_data::{DataError, sequence::SequenceError};
use ferroflow_infer::{
    EstimateError, OpenError, dis::DisError, evaluate::EvaluateError, offline::OfflineError, submit::SubmitError,
};
use ferroflow_net::{
    ModelError,
    device::DeviceError,
    graph::ShapeError,
    graphdef::GraphDefError,
    onnx::OnnxError,
    weights::{ConvertError, WeightsError, export::ExportError, import::ImportError, store::StoreError},
};
use ferroflow_train::{RecipeError, TrainError, plot::PlotError};

/// Any error of the library, by the part that reports it, so that a program that calls several parts can pass all of them on
/// with `?`.
///
/// Every function returns an error of its own, which says more; this enum holds it unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[error(transparent)]
#[allow(missing_docs)]
pub enum Error {
    // Frames, flow and their files.
    Io(#[from] IoError),
    Format(#[from] FormatError),
    Output(#[from] OutputError),
    Size(#[from] SizeError),
    ParseSize(#[from] ParseSizeError),
    Metric(#[from] MetricError),
    // Networks and weights.
    Model(#[from] ModelError),
    Shape(#[from] ShapeError),
    Weights(#[from] WeightsError),
    Store(#[from] StoreError),
    Import(#[from] ImportError),
    Convert(#[from] ConvertError),
    Export(#[from] ExportError),
    Onnx(#[from] OnnxError),
    GraphDef(#[from] GraphDefError),
    // Executors.
    Plan(#[from] PlanError),
    Run(#[from] RunError),
    Reference(#[from] ReferenceError),
    Bf16(#[from] Bf16Error),
    Training(#[from] DeviceError),
    // Data.
    Data(#[from] DataError),
    Sequence(#[from] SequenceError),
    // Estimation and evaluation.
    Open(#[from] OpenError),
    Estimate(#[from] EstimateError),
    Dis(#[from] DisError),
    Evaluate(#[from] EvaluateError),
    Submit(#[from] SubmitError),
    Offline(#[from] OfflineError),
    #[cfg(feature = "onnx")]
    OnnxCheck(#[from] crate::onnx_check::CheckError),
    #[cfg(feature = "onnx")]
    OnnxRun(#[from] crate::onnx_run::RunError),
    // Training.
    Recipe(#[from] RecipeError),
    Train(#[from] TrainError),
    Plot(#[from] PlotError),
}
