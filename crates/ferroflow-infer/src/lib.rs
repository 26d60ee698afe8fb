//! See the crate description.

pub mod dis;
