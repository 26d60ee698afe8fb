//! Data for optical flow: readers of public data sets and of videos, shards, augmentation, an endless synthetic data set, and the
//! loader that training reads from.

pub mod augment;
pub mod card;
mod check;
pub mod clip;
mod cropped;
pub mod datasets;
mod error;
mod info;
pub mod loader;
pub mod math;
pub mod random;
mod sample;
pub mod sequence;
pub mod shards;
mod spec;
mod split;
pub mod synth;
pub mod tfrecord;
pub mod video;

pub use check::{Report, check, check_thoroughly};
pub use cropped::Cropped;
pub use error::DataError;
pub use info::{FlowStatistics, Info, info};
pub use loader::{Capacity, Loader, Order};
pub use sample::{Sample, Source, Surround};
pub use spec::Spec;
pub use split::Assignment;
