//! Means and variances, which are summed in double precision for values of either precision.

use ferroflow_net::graph::MomentsOver;

use super::{Real, Tensor};

/// Mean per image and channel over the pixels of all inputs.
pub(super) fn channel_mean<T: Real>(inputs: &[&Tensor<T>]) -> Tensor<T> {
    let [n, channels, h, w] = inputs[0].shape;
    let count = (inputs.len() * h * w) as f64;
    let sum =
        |i: usize| -> f64 { inputs.iter().flat_map(|x| x.plane(i / channels, i % channels)).map(|v| v.f64()).sum() };
    Tensor { shape: [n, channels, 1, 1], data: (0..n * channels).map(|i| T::of(sum(i) / count)).collect() }
}

/// `[mean, variance]` of each image of `a` and `b`, averaged over the two, or over the batch as well.
pub(super) fn moments<T: Real>(a: &Tensor<T>, b: &Tensor<T>, over: MomentsOver) -> Tensor<T> {
    let n = a.shape[0];
    let of_image = |x: &Tensor<T>, image: usize| {
        let len = x.data.len() / n;
        let values = &x.data[image * len..][..len];
        let mean = values.iter().map(|v| v.f64()).sum::<f64>() / len as f64;
        let variance = values.iter().map(|v| (v.f64() - mean).powi(2)).sum::<f64>() / len as f64;
        [mean, variance]
    };
    let mut moments: Vec<[f64; 2]> = (0..n)
        .map(|image| {
            let (a, b) = (of_image(a, image), of_image(b, image));
            [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0]
        })
        .collect();
    if over == MomentsOver::Batch {
        let average = |k: usize| moments.iter().map(|m| m[k]).sum::<f64>() / n as f64;
        moments = vec![[average(0), average(1)]; n];
    }
    Tensor { shape: [n, 2, 1, 1], data: moments.into_iter().flatten().map(T::of).collect() }
}

/// `(x - mean) / sqrt(variance + epsilon)`
pub(super) fn standardise<T: Real>(x: &Tensor<T>, moments: &Tensor<T>, epsilon: f32) -> Tensor<T> {
    let each = x.data.len() / x.shape[0];
    let mut out = x.clone();
    for (image, moments) in out.data.chunks_exact_mut(each).zip(moments.data.chunks_exact(2)) {
        let deviation = (moments[1] + T::of(f64::from(epsilon))).sqrt();
        image.iter_mut().for_each(|v| *v = (*v - moments[0]) / deviation);
    }
    out
}

/// `(x - mean) / sqrt(variance + epsilon) * scale + shift` per channel.
pub(super) fn batch_norm<T: Real>(
    x: &Tensor<T>,
    scale: &[f32],
    shift: &[f32],
    mean: &[f32],
    variance: &[f32],
    epsilon: f32,
) -> Tensor<T> {
    let [_, channels, h, w] = x.shape;
    let mut out = x.clone();
    for (i, plane) in out.data.chunks_exact_mut(h * w).enumerate() {
        let [scale, shift, mean, variance] = [scale, shift, mean, variance].map(|v| f64::from(v[i % channels]));
        let factor = T::of(scale / (variance + f64::from(epsilon)).sqrt());
        let (mean, shift) = (T::of(mean), T::of(shift));
        plane.iter_mut().for_each(|v| *v = (*v - mean) * factor + shift);
    }
    out
}

/// Each channel of each image less its mean and divided by its standard deviation.
pub(super) fn instance_norm<T: Real>(x: &Tensor<T>, epsilon: f32) -> Tensor<T> {
    let [_, _, h, w] = x.shape;
    let data = x.data.chunks_exact(h * w).flat_map(|plane| normalised(plane.iter().map(|v| v.f64()), epsilon));
    Tensor { shape: x.shape, data: data.map(T::of).collect() }
}

/// Each pixel less the mean of its channels and divided by their standard deviation.
pub(super) fn normalise_pixels<T: Real>(x: &Tensor<T>, epsilon: f32) -> Tensor<T> {
    let mut out = x.clone();
    for_pixels(x, |places| {
        let values = normalised(places.iter().map(|&i| x.data[i].f64()), epsilon);
        places.iter().zip(values).for_each(|(&i, v)| out.data[i] = T::of(v));
    });
    out
}

/// Calls `f` with the places of the channels of each pixel.
pub(super) fn for_pixels<T: Real>(x: &Tensor<T>, mut f: impl FnMut(&[usize])) {
    let [n, channels, h, w] = x.shape;
    for (image, pixel) in (0..n).flat_map(|n| (0..h * w).map(move |pixel| (n, pixel))) {
        let places: Vec<usize> = (0..channels).map(|c| (image * channels + c) * h * w + pixel).collect();
        f(&places);
    }
}

/// Values less their mean and divided by their standard deviation.
fn normalised(values: impl ExactSizeIterator<Item = f64> + Clone, epsilon: f32) -> Vec<f64> {
    let count = values.len() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.clone().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    let deviation = (variance + f64::from(epsilon)).sqrt();
    values.map(|v| (v - mean) / deviation).collect()
}
