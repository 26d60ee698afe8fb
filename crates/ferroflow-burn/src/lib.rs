//! The graph of a network on Burn's tensors: any device that Burn knows runs and differentiates any network.
//!
//! [`Burn`] is a [`Device`](ferroflow_net::device::Device) of ours: what estimates and trains on the CPU does so on it. Below
//! it [`Network`] gives flow, and [`Training`] is the [`Trainer`](ferroflow_net::training::Trainer) that a training
//! loop asks for. Both interpret the graph node by node with Burn's own operations. Where those are slow, remember too
//! much or differ at a kink, an operation has its own gradient (see `ops::extension`), itself made of Burn's operations,
//! so that it runs wherever they do.
//!
//! On a CPU `ferroflow-cpu` is several times faster; here `Device::flex()` is what the others are compared with.
//!
//! # What has been run
//!
//! On `Device::flex()`, against the plain interpreter: every operation, the flow of every network that is no stack, and in
//! double precision the gradients of LightFlow, PWC-Net, UFlow and FlowNet2-CS. With the features `vulkan` and `wgpu` the
//! crate has been neither compiled nor run; `tests/gpu.rs` is what to run then.

mod device;
mod interpret;
mod network;
mod ops;
mod training;

pub use burn;
pub use device::Burn;
pub use network::{Network, NetworkError};
pub use training::Training;
