//! Dense optical flow with neural networks, in Rust.
//!
//! This crate gathers the others under one name; the `ferroflow` program is built on nothing else.
//!
//! ```no_run
//! use ferroflow::{core::io, infer::{Estimator, dis::Preset}};
//!
//! let (first, second) = (io::read_frame("frame1.png")?, io::read_frame("frame2.png")?);
//! let flow = Estimator::dis(Preset::Medium).estimate(&first, &second)?;
//! let (u, v) = flow.get(100, 50);
//! println!("the pixel at (100, 50) moved {u:.2} to the right and {v:.2} down");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use ferroflow_core as core;
pub use ferroflow_cpu as cpu;
pub use ferroflow_data as data;
pub use ferroflow_infer as infer;
pub use ferroflow_kernels as kernels;
pub use ferroflow_net as net;
pub use ferroflow_train as train;
