//! Operations on each pixel alone, and those that only move channels or images.

use ferroflow_net::graph::Shape;

use super::{Real, Tensor};

pub(super) fn leaky<T: Real>(x: &Tensor<T>, d: &Tensor<T>, slope: f32) -> Tensor<T> {
    let slope = T::of(f64::from(slope));
    let data = x.data.iter().zip(&d.data).map(|(&x, &d)| if x > T::default() { d } else { slope * d }).collect();
    Tensor { shape: x.shape, data }
}

pub(super) fn concat<T: Real>(inputs: &[&Tensor<T>], d: &Tensor<T>, wanted: &[bool]) -> Vec<Option<Tensor<T>>> {
    let total = d.shape[1];
    let mut first = 0;
    let mut gradients = Vec::new();
    for (x, wanted) in inputs.iter().zip(wanted) {
        let picked: Vec<u32> = (first..first + x.shape[1]).map(|c| c as u32).collect();
        gradients.push(wanted.then(|| crate::reference::pointwise::channels(d, &picked)));
        first += x.shape[1];
    }
    debug_assert_eq!(first, total);
    gradients
}

pub(super) fn stack<T: Real>(inputs: &[&Tensor<T>], d: &Tensor<T>, wanted: &[bool]) -> Vec<Option<Tensor<T>>> {
    let mut rest = d.data.as_slice();
    let mut gradients = Vec::new();
    for (x, wanted) in inputs.iter().zip(wanted) {
        let (own, after) = rest.split_at(x.data.len());
        gradients.push(wanted.then(|| Tensor { shape: x.shape, data: own.to_vec() }));
        rest = after;
    }
    gradients
}

pub(super) fn part<T: Real>(shape: Shape, d: &Tensor<T>, index: usize) -> Tensor<T> {
    let mut result = Tensor::zeros(shape);
    result.data[index * d.data.len()..][..d.data.len()].copy_from_slice(&d.data);
    result
}

pub(super) fn channels<T: Real>(shape: Shape, d: &Tensor<T>, picked: &[u32]) -> Tensor<T> {
    let [n, channels, h, w] = shape;
    let mut result = Tensor::zeros(shape);
    for image in 0..n {
        for (from, &to) in picked.iter().enumerate() {
            let plane = &mut result.data[(image * channels + to as usize) * h * w..][..h * w];
            plane.iter_mut().zip(d.plane(image, from)).for_each(|(to, &d)| *to += d);
        }
    }
    result
}

/// The gradient of `b` in `a - b`; `b` may hold one value per channel.
pub(super) fn subtrahend<T: Real>(shape: Shape, d: &Tensor<T>) -> Tensor<T> {
    let each = d.data.len() / shape.iter().product::<usize>();
    let negative = |d: &[T]| d.iter().fold(T::default(), |sum, &v| sum - v);
    Tensor { shape, data: d.data.chunks_exact(each).map(negative).collect() }
}

/// `x / norm`, and 0 where the floor holds (so at the zero vector).
pub(super) fn channel_norm<T: Real>(x: &Tensor<T>, d: &Tensor<T>, floor: f32) -> Tensor<T> {
    let [n, channels, h, w] = x.shape;
    let floor = T::of(f64::from(floor));
    let mut result = Tensor::zeros(x.shape);
    for image in 0..n {
        let squares: Vec<T> = (0..h * w)
            .map(|i| (0..channels).map(|c| x.plane(image, c)[i]).fold(T::default(), |sum, v| sum + v * v))
            .collect();
        for c in 0..channels {
            let to = &mut result.data[(image * channels + c) * h * w..][..h * w];
            for (i, to) in to.iter_mut().enumerate() {
                if squares[i] > floor {
                    *to = d.plane(image, 0)[i] * x.plane(image, c)[i] / squares[i].sqrt();
                }
            }
        }
    }
    result
}
