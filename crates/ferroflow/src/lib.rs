//! Dense optical flow with neural networks, in Rust: where every pixel of one image went in the next.
//!
//! ```no_run
//! use ferroflow::{Error, Estimator, core::io};
//!
//! fn main() -> Result<(), Error> {
//!     let (first, second) = (io::read_frame("frame1.png")?, io::read_frame("frame2.png")?);
//!     let flow = Estimator::builtin()?.estimate(&first, &second)?;
//!     let (u, v) = flow.get(100, 50);
//!     println!("the pixel at (100, 50) moved {u:.2} px to the right and {v:.2} px down");
//!     Ok(())
//! }
//! ```
//!
//! [`Estimator::builtin`] uses `rill`, the small network whose weights are part of the library, [`Estimator::open`] uses the
//! weights of a file, and [`Estimator::dis`] estimates without any learning. An estimator is made once and estimates any number
//! of pairs of any size, from any thread.
//!
//! The root has what most programs need. Each module is a whole crate: [`core`] has files, metrics and pictures of flow, [`net`]
//! networks and weights, [`data`] frames and data sets, [`infer`] estimation and evaluation, [`train`] training. The programs in
//! `examples/` estimate a pair and a video, define a network, and train on data of their own.
//!
//! # Features
//!
//! * `rill` (on by default): the weights for [`Estimator::builtin`], 1.4 MB.
//! * `mpi`: `train::peers::Mpi`, the processes that MPI starts, which train together; needs an MPI library and libclang.
//! * `onnx`: `onnx_run` runs exported ONNX files in another runtime (rten), `onnx_check` compares their flow with ours.

pub use ferroflow_core as core;
pub use ferroflow_cpu as cpu;
pub use ferroflow_data as data;
pub use ferroflow_infer as infer;
pub use ferroflow_kernels as kernels;
pub use ferroflow_net as net;
pub use ferroflow_train as train;

mod error;
#[cfg(feature = "onnx")]
pub mod onnx_check;
#[cfg(feature = "onnx")]
pub mod onnx_run;

pub use error::Error;
pub use ferroflow_core::{FlowField, Frame, FrameView, Mask, Size};
pub use ferroflow_cpu::{Cpu, CpuOptions};
pub use ferroflow_infer::{Bidirectional, Estimator};
pub use ferroflow_net::{Model, Weights, device::Device};
pub use ferroflow_train::{Recipe, Run};

/// README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
