//! Convolution and transposed convolution: prepared once per layer and size, run per frame.
//!
//! [`ConvPlan::new`] picks the algorithm by shape, packs or transforms the weights for it, and knows its working
//! memory; [`ConvPlan::run`] then only computes. Bias, activation and residual are applied as results are written.
//!
//! Imports go one way, each file using those before it: `layer`, `problem` and `engine` (what there is to compute, and what
//! an algorithm offers); the algorithms `direct`, `few`, `winograd`, `bf16` and `reference`; `gradient` (those of weights);
//! `select`, which knows them all; `plan` and `training` on top.

pub(crate) mod bf16;
pub(crate) mod direct;
mod engine;
mod few;
mod gradient;
mod layer;
mod plan;
mod problem;
mod reference;
mod select;
pub mod training;
mod winograd;

#[cfg(test)]
mod tests;

pub use layer::{Activation, ConvKind, ConvShape, Layer, Options};
pub use plan::ConvPlan;
