//! Data sets, shards, augmentation and the synthetic generator.

pub mod sequence;
