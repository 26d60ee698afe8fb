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

/// Sums that a unit holds in registers.
#[cube]
fn cleared(#[comptime] count: usize) -> Array<f32> {
    let mut sums = Array::<f32>::new(count);
    #[unroll]
    for k in 0..count {
        sums[k] = 0.0;
    }
    sums
}

fn dims(tensor: &CubeTensor) -> [usize; 4] {
    tensor.meta.shape().dims()
}

#[cfg(test)]
mod tests {
    use burn::backend::{Cube, CubeDevice, ops::FloatTensorOps};
    use burn::tensor::TensorData;
    use cubecl::{device::WgpuDeviceKind, future::block_on};
    use ferroflow_net::graph::{Correlation, FlowOrder, OnPixel, Warp, WarpBorder};

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

    /// The borders that a map can be warped by.
    const BORDERS: [WarpBorder; 5] = [
        WarpBorder::Replicate,
        WarpBorder::Zeros,
        WarpBorder::ZerosMasked { threshold: 0.9999 },
        WarpBorder::Extrapolate,
        WarpBorder::Caffe,
    ];

    /// A kernel that warps while it correlates gives what the warp and the correlation give, over random shapes. In WGSL, because Mesa's
    /// driver for processors crashes on shared memory in CubeCL's SPIR-V.
    #[cfg(feature = "wgpu")]
    #[test]
    fn a_map_may_be_warped_while_it_is_correlated() {
        use cubecl::wgpu::{WgpuDevice, WgpuServer, WgslCompiler};
        let Ok(device) = CubeDevice::vulkan(WgpuDeviceKind::DefaultDevice) else {
            println!("skipped: there is no Vulkan device");
            return;
        };
        let wgsl = CubeDevice::Wgpu(WgpuDevice::new(WgpuDeviceKind::DefaultDevice));
        let client = Client::load::<WgpuServer<WgslCompiler>>(cubecl::RuntimeId::strip(wgsl.to_id()));
        let upload = |values: Vec<f32>, shape: [usize; 4]| {
            let handle = client.create_from_slice(f32::as_bytes(&values));
            CubeTensor::new_contiguous(client.clone(), device.clone(), Shape::from(shape), handle, DType::F32)
        };
        let mut found = 0;
        for case in 0..24 {
            let pick = |i: u64, from: usize, to: usize| {
                from + ((noise(100 * case + i, 1)[0] + 1.0) / 2.0 * (to - from) as f32) as usize
            };
            let (n, channels, h, w) = (pick(0, 1, 4), pick(1, 1, 36), pick(2, 1, 40), pick(3, 1, 40));
            let c = Correlation { max_displacement: pick(4, 0, 7), stride: pick(5, 1, 4) };
            let border = BORDERS[pick(6, 0, BORDERS.len())];
            let order = [FlowOrder::Uv, FlowOrder::Vu, FlowOrder::NegatedVu][pick(7, 0, 3)];
            let rule = Warp { border, order, scale: 2.5, on_pixel: OnPixel::Right };
            let Some(block) = warped_correlation::block(&client, c) else { continue };
            let features = |seed| upload(noise(seed, n * channels * h * w), [n, channels, h, w]);
            let (f1, image) = (features(1), features(2));
            let flow = upload(noise(3, n * 2 * h * w).into_iter().map(|v| 4.0 * v).collect(), [n, 2, h, w]);
            let apart = read(correlation(f1.clone(), warp(image.clone(), flow.clone(), rule), c));
            let at_once = read(warped_correlation::tiled([f1, image, flow], c, rule, block));
            assert_eq!(apart.len(), at_once.len());
            let worst = apart.iter().zip(&at_once).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{n} {channels} {h} {w}, {c:?}, {rule:?}: {worst}");
            found += 1;
        }
        assert!(found > 12, "{found} of 24 cases fit");
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
        for border in BORDERS {
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
