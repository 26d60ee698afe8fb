//! Weights: foreign checkpoints in, safetensors with provenance out.

pub mod import;
pub mod names;
