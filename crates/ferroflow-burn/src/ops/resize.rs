//! Resizing: the samples of each axis are picked and mixed, in one kernel on GPUs.
//!
//! Burn's own `interpolate` lacks the asymmetric grid, and its bilinear backward pass panics on GPUs.

use burn::tensor::{Int, Tensor, TensorData};
use ferroflow_net::graph::{Filter, Grid, Size, Sizes};

use super::{affine, along};

/// `[N, C, H, W]` -> `[N, C, to.height, to.width]`; values are not scaled.
pub(crate) fn resize(x: Tensor<4>, to: Size, filter: Filter, grid: Grid) -> Tensor<4> {
    #[cfg(feature = "cube")]
    if filter == Filter::Bilinear && super::gpu::has_kernels(&x) {
        let [_, _, height, width] = x.dims();
        return if [height, width] == [to.height, to.width] { x } else { super::gpu::resize(x, to, grid) };
    }
    let x = resize_axis(x, 2, to.height, filter, grid);
    resize_axis(x, 3, to.width, filter, grid)
}

/// A flow in pixels of the network's input as one in pixels of the output.
pub(crate) fn to_output(flow: Tensor<4>, sizes: &Sizes, filter: Filter, grid: Grid) -> Tensor<4> {
    let resized = resize(flow, sizes.output, filter, grid);
    if sizes.input == sizes.output {
        return resized;
    }
    let ratio = |to: usize, from: usize| (to as f64 / from as f64) as f32;
    let (input, output) = (sizes.input, sizes.output);
    affine(resized, &[ratio(output.width, input.width), ratio(output.height, input.height)], &[0.0])
}

fn resize_axis(x: Tensor<4>, dim: usize, outputs: usize, filter: Filter, grid: Grid) -> Tensor<4> {
    let inputs = x.dims()[dim];
    if inputs == outputs {
        return x;
    }
    let device = x.device();
    let pick = |indices: Vec<i32>| {
        let indices: Tensor<1, Int> = Tensor::from_data(TensorData::new(indices, [outputs]), &device);
        x.clone().select(dim, indices)
    };
    if filter == Filter::Nearest {
        return pick((0..outputs).map(|i| (i * inputs / outputs) as i32).collect());
    }
    let last = (inputs - 1) as f64;
    let sources: Vec<f64> = (0..outputs).map(|i| grid.source(i, inputs, outputs).clamp(0.0, last)).collect();
    let lower = pick(sources.iter().map(|s| *s as i32).collect());
    let upper = pick(sources.iter().map(|s| (*s + 1.0).min(last) as i32).collect());
    let fraction = along(dim, sources.iter().map(|s| s.fract()).collect(), &x);
    lower.clone().add(upper.sub(lower).mul(fraction))
}
