//! Operations on each pixel alone, and those that only move channels.

use ferroflow_net::graph::Shape;

use super::{Real, Tensor};

fn map<T: Real>(x: &Tensor<T>, f: impl Fn(T) -> T) -> Tensor<T> {
    Tensor { shape: x.shape, data: x.data.iter().map(|&v| f(v)).collect() }
}

pub(super) fn leaky<T: Real>(x: &Tensor<T>, slope: f32) -> Tensor<T> {
    let slope = T::of(f64::from(slope));
    map(x, |v| if v > T::default() { v } else { slope * v })
}

pub(super) fn affine<T: Real>(x: &Tensor<T>, scale: &[f32], offset: &[f32]) -> Tensor<T> {
    let [_, channels, h, w] = x.shape;
    let pick = |v: &[f32], c: usize| T::of(f64::from(if v.len() == 1 { v[0] } else { v[c] }));
    let mut out = x.clone();
    for (i, plane) in out.data.chunks_exact_mut(h * w).enumerate() {
        let (scale, offset) = (pick(scale, i % channels), pick(offset, i % channels));
        plane.iter_mut().for_each(|v| *v = scale * *v + offset);
    }
    out
}

pub(super) fn add<T: Real>(a: &Tensor<T>, b: &Tensor<T>) -> Tensor<T> {
    Tensor { shape: a.shape, data: a.data.iter().zip(&b.data).map(|(&a, &b)| a + b).collect() }
}

pub(super) fn multiply<T: Real>(a: &Tensor<T>, b: &Tensor<T>) -> Tensor<T> {
    Tensor { shape: a.shape, data: a.data.iter().zip(&b.data).map(|(&a, &b)| a * b).collect() }
}

/// `a + t * (b - a)`
pub(super) fn lerp<T: Real>(a: &Tensor<T>, b: &Tensor<T>, t: &Tensor<T>) -> Tensor<T> {
    add(a, &multiply(t, &subtract(b, a)))
}

/// `b` may hold one value per channel.
pub(super) fn subtract<T: Real>(a: &Tensor<T>, b: &Tensor<T>) -> Tensor<T> {
    let each = a.data.len() / b.data.len();
    Tensor { shape: a.shape, data: a.data.iter().enumerate().map(|(i, &a)| a - b.data[i / each]).collect() }
}

pub(super) fn concat<T: Real>(inputs: &[&Tensor<T>], shape: Shape) -> Tensor<T> {
    let mut data = Vec::with_capacity(shape.iter().product());
    for n in 0..shape[0] {
        for x in inputs {
            let len = x.data.len() / shape[0];
            data.extend_from_slice(&x.data[n * len..][..len]);
        }
    }
    Tensor { shape, data }
}

pub(super) fn channels<T: Real>(x: &Tensor<T>, picked: &[u32]) -> Tensor<T> {
    let [n, _, h, w] = x.shape;
    let planes = (0..n).flat_map(|n| picked.iter().map(move |&c| (n, c as usize)));
    let data = planes.flat_map(|(n, c)| x.plane(n, c).iter().copied()).collect();
    Tensor { shape: [n, picked.len(), h, w], data }
}

/// `sqrt(max(sum of squares, floor))`
pub(super) fn channel_norm<T: Real>(x: &Tensor<T>, floor: f32) -> Tensor<T> {
    let [n, channels, h, w] = x.shape;
    let floor = T::of(f64::from(floor));
    let mut out = Tensor::zeros([n, 1, h, w]);
    for (image, norm) in out.data.chunks_exact_mut(h * w).enumerate() {
        for c in 0..channels {
            norm.iter_mut().zip(x.plane(image, c)).for_each(|(sum, &v)| *sum += v * v);
        }
        norm.iter_mut().for_each(|v| *v = (if *v > floor { *v } else { floor }).sqrt());
    }
    out
}
