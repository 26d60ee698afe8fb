//! Estimates flow: the [`Estimator`] for networks and for Dense Inverse Search, and its evaluation on data sets.

pub mod card;
pub mod dis;
mod estimator;
pub mod evaluate;
pub mod motion;
pub mod offline;
pub mod open;
pub mod report;
pub mod submit;
mod timing;

pub use estimator::{Bidirectional, EstimateError, Estimator, NetworkOptions, Upsampling, memory_estimate};
pub use open::OpenError;
pub use timing::Timing;
