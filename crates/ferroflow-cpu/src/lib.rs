//! Runs the graph of a network on the CPU.

pub mod reference;
