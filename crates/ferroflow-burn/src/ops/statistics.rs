//! Means, variances and what is normalised by them.

use burn::tensor::Tensor;
use ferroflow_net::graph::MomentsOver;

/// Mean per image and channel over the pixels of all inputs, `[N, C, 1, 1]`.
pub(crate) fn channel_mean(inputs: Vec<Tensor<4>>) -> Tensor<4> {
    let count = inputs.len();
    let means = inputs.into_iter().map(|x| x.mean_dims(&[2, 3]));
    means.reduce(Tensor::add).expect("shape inference refuses no input").div_scalar(count as f32)
}

/// Mean and biased variance of each image of `a` and `b`, averaged over the two, or over the batch as well:
/// `[N, 2, 1, 1]`.
pub(crate) fn moments(a: Tensor<4>, b: Tensor<4>, over: MomentsOver) -> Tensor<4> {
    let batch = a.dims()[0];
    let of_images = |x: Tensor<4>| {
        let mean = x.clone().mean_dims(&[1, 2, 3]);
        let centred = x.sub(mean.clone());
        Tensor::cat(vec![mean, centred.clone().mul(centred).mean_dims(&[1, 2, 3])], 1)
    };
    let moments = of_images(a).add(of_images(b)).mul_scalar(0.5);
    match over {
        MomentsOver::Pair => moments,
        MomentsOver::Batch => moments.mean_dim(0).repeat_dim(0, batch),
    }
}

/// `(x - mean) / sqrt(variance + epsilon)`
pub(crate) fn standardise(x: Tensor<4>, moments: Tensor<4>, epsilon: f32) -> Tensor<4> {
    let mean = moments.clone().narrow(1, 0, 1);
    let deviation = moments.narrow(1, 1, 1).add_scalar(epsilon).sqrt();
    x.sub(mean).div(deviation)
}

/// Each channel of each image less its mean and divided by its standard deviation.
pub(crate) fn instance_norm(x: Tensor<4>, epsilon: f32) -> Tensor<4> {
    normalised(x, &[2, 3], epsilon)
}

/// Each pixel less the mean of its channels and divided by their standard deviation, times `scale` plus `shift`, `[C]`.
pub(crate) fn layer_norm(x: Tensor<4>, scale: Tensor<1>, shift: Tensor<1>, epsilon: f32) -> Tensor<4> {
    let channels = x.dims()[1];
    let [scale, shift] = [scale, shift].map(|v| v.reshape([1, channels, 1, 1]));
    normalised(x, &[1], epsilon).mul(scale).add(shift)
}

/// A value less its mean over `dims`, divided by its standard deviation over them.
fn normalised(x: Tensor<4>, dims: &[usize], epsilon: f32) -> Tensor<4> {
    let centred = x.clone().sub(x.mean_dims(dims));
    let variance = centred.clone().mul(centred.clone()).mean_dims(dims);
    centred.div(variance.add_scalar(epsilon).sqrt())
}
