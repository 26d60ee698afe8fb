//! Runs the graph of a network on the CPU.

pub mod plan;
pub mod reference;

pub use ferroflow_kernels::{Bf16, Bf16Error, Isa};
pub use plan::training::{self, TrainingPlan};
pub use plan::{Options, Pixels, Plan, PlanError, Profile};
