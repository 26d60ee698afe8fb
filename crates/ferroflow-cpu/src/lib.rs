//! Runs and trains the graph of a network on the CPU.

mod device;
pub mod plan;
pub mod reference;

pub use device::{Cpu, CpuOptions};
pub use ferroflow_kernels::{Bf16, Bf16Error, Isa};
pub use plan::training::{self, TrainingPlan};
pub use plan::{Options, Pixels, Plan, PlanError};
