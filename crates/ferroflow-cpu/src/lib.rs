//! Runs the graph of a network on the CPU.

pub mod plan;

pub use plan::{Options, Pixels, Plan, PlanError, Profile};
