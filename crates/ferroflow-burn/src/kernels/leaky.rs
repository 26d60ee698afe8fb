//! Leaky ReLU and its gradient, by the sign of its output.

use burn::tensor::{DType, Shape};
use burn_cubecl::{ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{cast_back, plain, units};

/// `x` where positive, `slope * x` elsewhere.
pub(crate) fn leaky(x: CubeTensor, slope: f32) -> CubeTensor {
    let dtype = x.dtype;
    let x = if x.dtype == DType::F32 && x.is_contiguous_buffer() { x } else { plain(x) };
    let output = laid_out_as(&x);
    let client = output.client.clone();
    let (count, dim) = units(&client, x.meta.num_elements());
    forward::launch(&client, count, dim, x.into_tensor_arg(), output.clone().into_tensor_arg(), slope);
    cast_back(output, dtype)
}

/// `gradient` where the output is positive, `slope * gradient` elsewhere.
pub(crate) fn leaky_backward(output: CubeTensor, gradient: CubeTensor, slope: f32) -> CubeTensor {
    let dtype = output.dtype;
    let same = output.meta.strides() == gradient.meta.strides();
    let (output, gradient) =
        if dtype == DType::F32 && same && output.is_contiguous_buffer() && gradient.is_contiguous_buffer() {
            (output, gradient)
        } else {
            (plain(output), plain(gradient))
        };
    let found = laid_out_as(&gradient);
    let client = found.client.clone();
    let (count, dim) = units(&client, found.meta.num_elements());
    backward::launch(
        &client,
        count,
        dim,
        output.into_tensor_arg(),
        gradient.into_tensor_arg(),
        found.clone().into_tensor_arg(),
        slope,
    );
    cast_back(found, dtype)
}

/// A convolution leaves its channels side by side in memory; so does what follows it, or the next would move them again.
fn laid_out_as(x: &CubeTensor) -> CubeTensor {
    let flat = Shape::from([x.meta.num_elements()]);
    let memory = empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), flat, DType::F32);
    CubeTensor::new(memory.client, memory.handle, (*x.meta).clone(), memory.device, DType::F32)
}

#[cube(launch)]
fn forward(x: &Tensor<f32>, output: &mut Tensor<f32>, slope: f32) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let value = x[ABSOLUTE_POS];
    output[ABSOLUTE_POS] = select(value > 0.0, value, value * slope);
}

#[cube(launch)]
fn backward(output: &Tensor<f32>, gradient: &Tensor<f32>, found: &mut Tensor<f32>, slope: f32) {
    if ABSOLUTE_POS >= found.len() {
        terminate!();
    }
    let value = gradient[ABSOLUTE_POS];
    found[ABSOLUTE_POS] = select(output[ABSOLUTE_POS] > 0.0, value, value * slope);
}
