//! Attention of every pixel to all pixels, and the places of pixels.

use burn::tensor::{Tensor, activation::softmax};

use super::{along, convolution::products};

/// `[N, C, H, W]` twice and `[N, V, H, W]` -> `[N, V, H, W]`.
pub(crate) fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    let ([n, channels, h, w], values) = (q.dims(), v.dims()[1]);
    let flat = |x: Tensor<4>, channels: usize| -> Tensor<3> { x.reshape([n, channels, h * w]) };
    let queries = flat(q, channels).mul_scalar(1.0 / (channels as f64).sqrt()).swap_dims(1, 2);
    let weights = softmax(products(queries, flat(k, channels)), 2);
    products(flat(v, values), weights.swap_dims(1, 2)).reshape([n, values, h, w])
}

/// Column and row of each pixel, from 0 or from the middle, `[N, 2, H, W]`.
pub(crate) fn coordinates(like: Tensor<4>, centred: bool) -> Tensor<4> {
    let [n, _, h, w] = like.dims();
    let line = |size: usize| -> Vec<f32> {
        let middle = if centred { size as f32 / 2.0 } else { 0.0 };
        (0..size).map(|i| i as f32 - middle).collect()
    };
    let (columns, rows) = (along(3, line(w), &like), along(2, line(h), &like));
    let planes = vec![columns.expand([n, 1, h, w]), rows.expand([n, 1, h, w])];
    Tensor::cat(planes, 1)
}
