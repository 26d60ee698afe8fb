//! Kernels in CubeCL, for the operations that Burn's own make slow, large or wrong on a GPU.
//!
//! They compute in f32 on tensors without gaps, `[N, C, H, W]`, one unit for each value or for a few of them. No kernel adds to a
//! value that another unit adds to, except the range map, in whole numbers, and the warp's gradient to its image, where the device has atomic sums of f32.
//! `ops::gpu` and `ops::extension` make Burn's operations of them.

mod adam;
mod census;
mod convex_upsample;
mod correlation;
mod leaky;
mod range_map;
mod resize;
mod warp;
mod warped_correlation;
mod window;

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    kernel::into_contiguous,
    ops::numeric::{empty_device_contiguous_dtype, zeros_client},
    tensor::CubeTensor,
};
use cubecl::{calculate_cube_count_elemwise, prelude::*};

pub(crate) use adam::adam;
pub(crate) use census::{census, census_backward};
pub(crate) use convex_upsample::{convex_upsample, convex_upsample_backward};
pub(crate) use correlation::{correlation, correlation_backward};
pub(crate) use leaky::{leaky, leaky_backward};
pub(crate) use range_map::{range_map, range_map_backward};
pub(crate) use resize::{Axis, resize, resize_backward};
pub(crate) use warp::{ALONG, Scatter, warp, warp_flow_backward, warp_image_backward};
pub(crate) use warped_correlation::{warped_correlation, warped_correlation_backward};
pub(crate) use window::{window_products, window_products_backward};

/// How many units work on so many values.
fn units(client: &Client, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, count);
    (calculate_cube_count_elemwise(client, count, dim), dim)
}

/// Without gaps, in f32.
fn plain(tensor: CubeTensor) -> CubeTensor {
    let tensor = if tensor.dtype == DType::F32 { tensor } else { burn_cubecl::kernel::cast(tensor, DType::F32) };
    into_contiguous(tensor)
}

/// As the operation's input was.
fn cast_back(tensor: CubeTensor, dtype: DType) -> CubeTensor {
    if tensor.dtype == dtype { tensor } else { burn_cubecl::kernel::cast(tensor, dtype) }
}

/// Without values, beside another tensor.
fn empty(like: &CubeTensor, shape: [usize; 4]) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), Shape::from(shape), DType::F32)
}

fn zeros(like: &CubeTensor, shape: [usize; 4]) -> CubeTensor {
    zeros_client(like.client.clone(), like.device.clone(), Shape::from(shape), DType::F32)
}

fn dims(tensor: &CubeTensor) -> [usize; 4] {
    tensor.meta.shape().dims()
}

#[cfg(test)]
mod tests {
    use burn::backend::{Cube, CubeDevice, ops::FloatTensorOps};
    use burn::tensor::TensorData;
    use cubecl::{device::WgpuDeviceKind, future::block_on};
    use ferroflow_net::graph::{FlowOrder, OnPixel, Warp, WarpBorder};

    use super::*;

    /// SplitMix64, in -1..1.
    fn noise(seed: u64, len: usize) -> Vec<f32> {
        let mix = |i: usize| {
            let mut z = (seed << 32).wrapping_add(i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((z ^ (z >> 29)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(mix).collect()
    }

    fn read(tensor: CubeTensor) -> Vec<f32> {
        block_on(Cube::float_into_data(tensor)).unwrap().try_to_vec().unwrap()
    }

    /// A gradient by atomic sums is that in a fixed order, on a device that has both.
    #[test]
    fn both_ways_of_scattering_agree() {
        let Ok(device) = CubeDevice::vulkan(WgpuDeviceKind::DefaultDevice) else {
            println!("skipped: there is no Vulkan device");
            return;
        };
        let upload =
            |values: Vec<f32>, shape: [usize; 4]| Cube::float_from_data(TensorData::new(values, shape), &device);
        let (n, c, h, w) = (2, 3, 7, 9);
        let image = upload(noise(1, n * c * h * w), [n, c, h, w]);
        let flow = upload(noise(2, n * 2 * h * w).into_iter().map(|v| 4.0 * v).collect(), [n, 2, h, w]);
        let gradient = upload(noise(3, n * c * h * w), [n, c, h, w]);
        println!("this device has {:?}", Scatter::of(&image.client));
        let borders = [
            WarpBorder::Replicate,
            WarpBorder::Zeros,
            WarpBorder::ZerosMasked { threshold: 0.9999 },
            WarpBorder::Extrapolate,
            WarpBorder::Caffe,
        ];
        for border in borders {
            let rule = Warp { border, order: FlowOrder::Uv, scale: 1.0, on_pixel: OnPixel::Right };
            let by = |scatter| read(warp_image_backward(flow.clone(), gradient.clone(), rule, scatter));
            let to_flow = read(warp_flow_backward(image.clone(), flow.clone(), gradient.clone(), rule));
            let planes = by(Scatter::Planes);
            assert!(planes.iter().chain(&to_flow).any(|v| v.abs() > 0.5), "{border:?}");
            if Scatter::of(&image.client) == Scatter::Atomic {
                let atomic = by(Scatter::Atomic);
                let worst = planes.iter().zip(&atomic).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-5, "{border:?}: {worst}");
            }
        }
    }
}
