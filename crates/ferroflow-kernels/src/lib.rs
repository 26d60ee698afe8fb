//! CPU kernels of optical-flow networks, on plain slices.
//!
//! Activations live in one layout, blocks of 16 channels: `[C / 16][N][H][W][16]`, 16 channels of one pixel being one
//! cache line. A value is a list of blocks that need not be adjacent, so a concatenation is a longer list.

// The one crate that may use `unsafe`: each block has its argument, each kernel a safe reference that tests compare.
#![allow(unsafe_code)]
// Loops over registers index arrays: an iterator with a closure would not compile to the same straight code.
#![allow(clippy::needless_range_loop)]
// What the workspace allows elsewhere: a kernel with more values than this takes a struct.
#![warn(clippy::too_many_arguments)]

pub mod activation;
pub mod attention;
pub mod batch_norm;
pub mod bf16;
mod buffer;
pub mod conv;
pub mod convex_upsample;
pub mod correlation;
pub mod depthwise;
mod disjoint;
pub mod elementwise;
mod everyone;
pub mod gemm;
pub mod layout;
pub mod lookup;
mod machine;
pub mod norm;
pub mod pack;
pub mod pixelwise;
pub mod pool;
pub mod resize;
mod rows;
pub mod simd;
pub mod team;
#[cfg(test)]
mod testing;
pub mod warp;

pub use bf16::{Bf16, Bf16Error};
pub use buffer::{Buffer, Part, Scratch, lend};
pub use everyone::Everyone;
pub use layout::{Blocks, BlocksMut, Extent, LANES, LaneMap, Update, lane_map};
pub use simd::Isa;
