//! Average pooling.

use ferroflow_net::graph::Shape;

use super::{Real, Tensor};

/// Mean of each window of `size` x `size` pixels.
pub(super) fn average_pool<T: Real>(x: &Tensor<T>, size: usize, shape: Shape) -> Tensor<T> {
    let [n, channels, h, w] = shape;
    let (width, area) = (x.shape[3], T::of((size * size) as f64));
    let mut data = Vec::with_capacity(shape.iter().product());
    for (image, c) in (0..n).flat_map(|n| (0..channels).map(move |c| (n, c))) {
        let plane = x.plane(image, c);
        for (row, column) in (0..h).flat_map(|row| (0..w).map(move |column| (row, column))) {
            let mut sum = T::default();
            for y in 0..size {
                plane[(row * size + y) * width + column * size..][..size].iter().for_each(|&v| sum += v);
            }
            data.push(sum / area);
        }
    }
    Tensor { shape, data }
}

/// Every pixel's share of its window's gradient; 0 for those outside all windows.
pub(super) fn gradient<T: Real>(shape: Shape, d: &Tensor<T>, size: usize) -> Tensor<T> {
    let [_, channels, h, w] = shape;
    let area = T::of((size * size) as f64);
    let mut result = Tensor::zeros(shape);
    for (i, to) in result.data.chunks_exact_mut(h * w).enumerate() {
        let d_plane = d.plane(i / channels, i % channels);
        for (at, to) in to.iter_mut().enumerate() {
            let (row, column) = (at / w / size, at % w / size);
            if row < d.shape[2] && column < d.shape[3] {
                *to = d_plane[row * d.shape[3] + column] / area;
            }
        }
    }
    result
}
