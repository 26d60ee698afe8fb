//! Runs and differentiates the graph of a network on Burn's tensors. The program does not use this crate yet.
//!
//! [`Burn`] is a [`Device`](ferroflow_net::device::Device), so the code that estimates and trains on the CPU does so on it. It uses
//! [`Network`], which gives flow, and [`Training`], which is the [`Trainer`](ferroflow_net::training::Trainer) of a training loop.
//! Both interpret the graph node by node with Burn's own operations. Where those are slow, keep too much memory or have another
//! gradient at a kink, an operation has its own gradient (see `ops::extension`), which is made of Burn's operations too and so runs
//! wherever they do.
//!
//! On a CPU `ferroflow-cpu` is several times faster; `Device::flex()` serves to compare Burn's other devices with.
//!
//! # What has been run
//!
//! On `Device::flex()`, against the plain interpreter: every operation, the flow of every network that is no stack, and in
//! double precision the gradients of LightFlow, PWC-Net, UFlow and FlowNet2-CS. With the features `vulkan` and `wgpu` the
//! crate is compiled by CI; `tests/gpu.rs` says whether it computes right on a GPU at hand.

mod device;
mod interpret;
mod network;
mod ops;
mod training;

pub use burn;
pub use device::Burn;
pub use network::{Network, NetworkError};
pub use training::Training;
