//! Means, variances and values normalised by them, with sums in double precision for values of either precision.

use ferroflow_net::graph::MomentsOver;

use super::{Real, Tensor};
use crate::reference::statistics::for_pixels;

/// Mean and biased variance per channel over the batch, and how many values each is of.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
    pub count: usize,
    pub epsilon: f64,
}

impl BatchStatistics {
    fn deviation(&self, c: usize) -> f64 {
        (self.variance[c] + self.epsilon).sqrt()
    }
}

/// Values of one channel over the batch.
fn channel<T: Real>(x: &Tensor<T>, c: usize) -> impl Iterator<Item = f64> {
    (0..x.shape[0]).flat_map(move |n| x.plane(n, c)).map(|v| v.f64())
}

fn map_channels<T: Real>(shape: [usize; 4], f: impl Fn(usize, usize) -> T) -> Tensor<T> {
    let [_, channels, h, w] = shape;
    let len = shape.iter().product();
    Tensor { shape, data: (0..len).map(|i| f(i, i / (h * w) % channels)).collect() }
}

/// Batch norm with the statistics of the batch.
pub fn batch_norm<T: Real>(x: &Tensor<T>, scale: &[f32], shift: &[f32], epsilon: f32) -> (Tensor<T>, BatchStatistics) {
    let [n, channels, h, w] = x.shape;
    let count = n * h * w;
    let mean: Vec<f64> = (0..channels).map(|c| channel(x, c).sum::<f64>() / count as f64).collect();
    let variance = |c: usize| channel(x, c).map(|v| (v - mean[c]).powi(2)).sum::<f64>() / count as f64;
    let variance = (0..channels).map(variance).collect();
    let s = BatchStatistics { mean, variance, count, epsilon: f64::from(epsilon) };
    let y = map_channels(x.shape, |i, c| {
        let normalised = (x.data[i].f64() - s.mean[c]) / s.deviation(c);
        T::of(normalised * f64::from(scale[c]) + f64::from(shift[c]))
    });
    (y, s)
}

/// `[d_scale, d_shift]`
pub(super) fn batch_norm_parameters<T: Real>(x: &Tensor<T>, d: &Tensor<T>, s: &BatchStatistics) -> [Vec<T>; 2] {
    let channels = 0..x.shape[1];
    let scale = |c| channel(x, c).zip(channel(d, c)).map(|(x, d)| d * (x - s.mean[c]) / s.deviation(c)).sum::<f64>();
    let shift = |c| channel(d, c).sum::<f64>();
    [channels.clone().map(scale).map(T::of).collect(), channels.map(shift).map(T::of).collect()]
}

pub(super) fn batch_norm_gradient<T: Real>(
    x: &Tensor<T>,
    d: &Tensor<T>,
    scale: &[f32],
    s: &BatchStatistics,
) -> Tensor<T> {
    let [d_scale, d_shift] = batch_norm_parameters(x, d, s).map(|v| v.iter().map(|v| v.f64()).collect::<Vec<f64>>());
    let count = s.count as f64;
    map_channels(x.shape, |i, c| {
        let normalised = (x.data[i].f64() - s.mean[c]) / s.deviation(c);
        let centred = d.data[i].f64() - (d_shift[c] + normalised * d_scale[c]) / count;
        T::of(f64::from(scale[c]) / s.deviation(c) * centred)
    })
}

/// The gradient of one input of a channel mean over `inputs`.
pub(super) fn mean<T: Real>(inputs: &[&Tensor<T>], x: &Tensor<T>, d: &Tensor<T>) -> Tensor<T> {
    let [_, _, h, w] = x.shape;
    let count = T::of((inputs.len() * h * w) as f64);
    Tensor { shape: x.shape, data: (0..x.data.len()).map(|i| d.data[i / (h * w)] / count).collect() }
}

/// The gradient of one of the two inputs.
pub(super) fn moments<T: Real>(x: &Tensor<T>, d: &Tensor<T>, over: MomentsOver) -> Tensor<T> {
    let n = x.shape[0];
    let each = x.data.len() / n;
    let mut d: Vec<[f64; 2]> = d.data.chunks_exact(2).map(|d| [d[0].f64(), d[1].f64()]).collect();
    if over == MomentsOver::Batch {
        let average = |k: usize| d.iter().map(|d| d[k]).sum::<f64>() / n as f64;
        d = vec![[average(0), average(1)]; n];
    }
    let mut result = Tensor::zeros(x.shape);
    for (image, (to, x)) in result.data.chunks_exact_mut(each).zip(x.data.chunks_exact(each)).enumerate() {
        let mean = x.iter().map(|v| v.f64()).sum::<f64>() / each as f64;
        for (to, x) in to.iter_mut().zip(x) {
            let [d_mean, d_variance] = d[image];
            *to = T::of((d_mean + 2.0 * d_variance * (x.f64() - mean)) / (2 * each) as f64);
        }
    }
    result
}

/// The gradients of the values and of the moments.
pub(super) fn standardise<T: Real>(
    x: &Tensor<T>,
    moments: &Tensor<T>,
    d: &Tensor<T>,
    epsilon: f32,
) -> (Tensor<T>, Tensor<T>) {
    let each = x.data.len() / x.shape[0];
    let (mut d_x, mut d_moments) = (d.clone(), Tensor::zeros(moments.shape));
    for (image, d_x) in d_x.data.chunks_exact_mut(each).enumerate() {
        let [mean, variance] = [0, 1].map(|k| moments.data[2 * image + k].f64());
        let deviation = (variance + f64::from(epsilon)).sqrt();
        let (mut sum, mut product) = (0.0, 0.0);
        for (d, x) in d_x.iter_mut().zip(&x.data[image * each..]) {
            sum += d.f64();
            product += d.f64() * (x.f64() - mean);
            *d = T::of(d.f64() / deviation);
        }
        d_moments.data[2 * image] = T::of(-sum / deviation);
        d_moments.data[2 * image + 1] = T::of(-product / (2.0 * deviation.powi(3)));
    }
    (d_x, d_moments)
}

/// The gradient of an instance norm.
pub(super) fn instance_norm<T: Real>(x: &Tensor<T>, d: &Tensor<T>, epsilon: f32) -> Tensor<T> {
    let [_, _, h, w] = x.shape;
    let planes = x.data.chunks_exact(h * w).zip(d.data.chunks_exact(h * w));
    let values = |plane: &[T]| plane.iter().map(|v| v.f64()).collect::<Vec<f64>>();
    let data = planes.flat_map(|(x, d)| normalised(&values(x), &values(d), epsilon));
    Tensor { shape: x.shape, data: data.map(T::of).collect() }
}

/// The gradient of what a layer norm multiplies by its factors.
pub(super) fn normalise_pixels<T: Real>(x: &Tensor<T>, d: &Tensor<T>, epsilon: f32) -> Tensor<T> {
    let mut out = x.clone();
    for_pixels(x, |places| {
        let of = |tensor: &Tensor<T>| places.iter().map(|&i| tensor.data[i].f64()).collect::<Vec<f64>>();
        let values = normalised(&of(x), &of(d), epsilon);
        places.iter().zip(values).for_each(|(&i, v)| out.data[i] = T::of(v));
    });
    out
}

/// The gradient of values less their mean and divided by their standard deviation.
fn normalised(x: &[f64], d: &[f64], epsilon: f32) -> Vec<f64> {
    let count = x.len() as f64;
    let mean = x.iter().sum::<f64>() / count;
    let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    let square = variance + f64::from(epsilon);
    let (d_mean, slope) =
        (d.iter().sum::<f64>() / count, x.iter().zip(d).map(|(x, d)| d * (x - mean)).sum::<f64>() / count);
    x.iter().zip(d).map(|(x, d)| (d - d_mean - (x - mean) * slope / square) / square.sqrt()).collect()
}
