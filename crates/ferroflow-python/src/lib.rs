//! The extension module `ferroflow._native`, of which the Python package in `python/` is made. The package's documentation is that of
//! the items here.

// `cargo test --lib` builds a program of the unit tests of every crate; here that would have to be linked with Python.
#![cfg(not(test))]

mod arrays;
mod error;
mod estimator;
mod flow;
mod opencv;
mod process;
mod synth;
mod train;
mod video;
mod weights;

use pyo3::prelude::*;

/// Runs the command line ``args``, whose first element is the program's name, and returns its exit code.
#[pyfunction]
fn main(py: Python<'_>, args: Vec<std::ffi::OsString>) -> PyResult<u8> {
    process::computed(py, || ferroflow_cli::main(args))
}

/// Dense optical flow: what ``ferroflow`` is made of.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::{
        error::{DataError, DeviceError, Error, EstimateError, FileError, NetworkError, TrainError, WeightsError},
        estimator::{_address, Bidirectional, Estimator, devices},
        flow::{colorize, consistency, metrics, read_flow, read_image, warp, write_flow, write_image},
        main,
        opencv::calc_optical_flow,
        synth::{Samples, Synth},
        train::{recipes, resume, train},
        video::{Flows, VideoFrames, read_video},
        weights::{Weights, export_onnx, import_weights, load_weights, models},
    };
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
