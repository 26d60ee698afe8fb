//! Runs and differentiates the graph of a network on Burn's tensors: the program's GPUs.
//!
//! [`Burn`] is a [`Device`](ferroflow_net::device::Device), so the code that estimates and trains on the CPU does so on it. It uses
//! [`Network`], which gives flow, and [`Training`], which is the [`Trainer`](ferroflow_net::training::Trainer) of a training loop.
//! Both interpret the graph node by node with Burn's own operations. Where those are slow, keep too much memory or have another
//! gradient at a kink, an operation has its own gradient (see `ops::extension`), which is made of Burn's operations too and so runs
//! wherever they do; on GPUs it is a kernel of ours (`kernels`), and so are the warp and the bilinear resize (`ops::gpu`).
//!
//! On a CPU `ferroflow-cpu` is several times faster; `Device::flex()` serves to compare Burn's other devices with.
//!
//! # What has been run
//!
//! On `Device::flex()`, against the plain interpreter: every operation, the flow of every network that is no stack, and in
//! double precision the gradients of LightFlow, PWC-Net, UFlow and FlowNet2-CS. With the feature `vulkan`, under Mesa's driver for
//! processors, every operation and the small networks, forward and backward (`tests/gpu.rs`). No GPU has been at hand yet, so
//! NCCL (`nccl.rs`) has been compiled and linked, never run, and the correlation that warps in shared memory is proved in WGSL alone.

mod all_reduce;
mod device;
mod fuse;
#[cfg(feature = "cube")]
mod hardware;
mod interpret;
#[cfg(feature = "cube")]
mod kernels;
#[cfg(feature = "cuda")]
mod nccl;
mod network;
mod ops;
mod training;

pub use burn;
pub use device::{Burn, Precision};
#[cfg(feature = "cube")]
pub use hardware::{Gpu, HardwareError, Interface};
pub use network::{Network, NetworkError};
pub use training::Training;
