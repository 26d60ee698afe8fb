//! One function per operation of the graph, on tensors `[N, C, H, W]`.

mod attention;
#[cfg(feature = "cube")]
mod census;
mod convex_upsample;
mod convolution;
mod correlation;
mod extension;
#[cfg(feature = "cube")]
mod gpu;
mod lookup;
mod pointwise;
mod pool;
mod resize;
mod statistics;
mod warp;

pub(crate) use attention::{attention, coordinates};
#[cfg(feature = "cube")]
pub(crate) use census::census;
pub(crate) use convex_upsample::convex_upsample;
pub(crate) use convolution::{conv, deconv, in_precision};
pub(crate) use extension::{adam, correlation, leaky};
#[cfg(feature = "cube")]
pub(crate) use gpu::has_kernels;
pub(crate) use lookup::lookup;
pub(crate) use pointwise::{affine, channel_norm, channel_scale, channels, lerp, smooth};
pub(crate) use pool::average_pool;
pub(crate) use resize::{resize, to_output};
pub(crate) use statistics::{channel_mean, instance_norm, layer_norm, moments, standardise};
pub(crate) use warp::{warp, warped_correlation};

use burn::tensor::{Tensor, TensorData};

/// One value per channel, `[1, C, 1, 1]`, of the type and on the device of `like`.
fn per_channel(values: &[f32], like: &Tensor<4>) -> Tensor<4> {
    along(1, values.to_vec(), like)
}

/// Values along one dimension, of length 1 in the others.
fn along<E: burn::tensor::Element>(dim: usize, values: Vec<E>, like: &Tensor<4>) -> Tensor<4> {
    let mut shape = [1; 4];
    shape[dim] = values.len();
    Tensor::from_data(TensorData::new(values, shape), (&like.device(), like.dtype()))
}
