//! Data for optical flow: readers of the public data sets, shards, augmentation, an endless synthetic data set, and the
//! loader that feeds training.

pub mod augment;
pub mod datasets;
mod error;
pub mod math;
pub mod random;
mod sample;
pub mod sequence;
mod spec;
pub mod synth;

pub use error::DataError;
pub use sample::{Sample, Source};
pub use spec::Spec;
