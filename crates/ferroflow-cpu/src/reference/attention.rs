//! Attention of every pixel to all pixels, and the places of pixels.

use ferroflow_net::graph::Shape;
use rayon::prelude::*;

use super::{Real, Tensor};

/// An image as `[pixel][channel]`.
fn pixels<T: Real>(x: &Tensor<T>, n: usize) -> Vec<Vec<T>> {
    let [_, channels, h, w] = x.shape;
    (0..h * w).map(|i| (0..channels).map(|c| x.plane(n, c)[i]).collect()).collect()
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).fold(T::default(), |sum, (&a, &b)| sum + a * b)
}

fn scale<T: Real>(channels: usize) -> T {
    T::of(1.0 / (channels as f64).sqrt())
}

/// For each query its weights of all keys.
fn weights<T: Real>(queries: &[Vec<T>], keys: &[Vec<T>]) -> Vec<Vec<T>> {
    let scale: T = scale(queries[0].len());
    let of = |query: &Vec<T>| {
        let logits: Vec<T> = keys.iter().map(|key| scale * dot(query, key)).collect();
        let largest = logits.iter().fold(logits[0], |a, &b| if a > b { a } else { b });
        let exponentials: Vec<T> = logits.into_iter().map(|l| (l - largest).exp()).collect();
        let sum = exponentials.iter().fold(T::default(), |sum, &e| sum + e);
        exponentials.into_iter().map(|e| e / sum).collect()
    };
    queries.par_iter().map(of).collect()
}

/// The sum over `rows` of each channel, each row times its weight.
fn mixed<T: Real>(rows: &[Vec<T>], weight: impl Fn(usize) -> T) -> Vec<T> {
    let mut sums = vec![T::default(); rows[0].len()];
    for (j, row) in rows.iter().enumerate() {
        let weight = weight(j);
        sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += weight * v);
    }
    sums
}

/// A value from what `of` says of each image and pixel.
fn built<T: Real>(shape: Shape, of: impl Fn(usize) -> Vec<Vec<T>>) -> Tensor<T> {
    let [n, channels, h, w] = shape;
    let mut out = Tensor::zeros(shape);
    for (image, planes) in out.data.chunks_exact_mut(channels * h * w).enumerate().take(n) {
        let rows = of(image);
        for (c, plane) in planes.chunks_exact_mut(h * w).enumerate() {
            plane.iter_mut().zip(&rows).for_each(|(to, row)| *to = row[c]);
        }
    }
    out
}

/// Of queries, keys and values.
pub(super) fn attention<T: Real>([q, k, v]: [&Tensor<T>; 3]) -> Tensor<T> {
    built(v.shape, |n| {
        let (weights, values) = (weights(&pixels(q, n), &pixels(k, n)), pixels(v, n));
        weights.par_iter().map(|weights| mixed(&values, |j| weights[j])).collect()
    })
}

/// The gradients of queries, keys and values: with weights w and `p_ij = d_i . v_j` the product of query i and key j receives
/// `w_ij (p_ij - sum_k w_ik p_ik)`.
pub(super) fn gradients<T: Real>([q, k, v]: [&Tensor<T>; 3], d: &Tensor<T>) -> [Tensor<T>; 3] {
    let images: Vec<[Vec<Vec<T>>; 3]> = (0..q.shape[0])
        .map(|n| {
            let [queries, keys, values, slopes] = [q, k, v, d].map(|x| pixels(x, n));
            let weights = weights(&queries, &keys);
            let scale: T = scale(queries[0].len());
            let of_products = |(weights, d): (&Vec<T>, &Vec<T>)| -> Vec<T> {
                let products: Vec<T> = values.iter().map(|value| dot(d, value)).collect();
                let mean = dot(weights, &products);
                weights.iter().zip(products).map(|(&w, p)| w * (p - mean) * scale).collect()
            };
            let of_products: Vec<Vec<T>> = weights.iter().zip(&slopes).map(of_products).collect();
            let each = 0..queries.len();
            [
                each.clone().map(|i| mixed(&keys, |j| of_products[i][j])).collect(),
                each.clone().map(|j| mixed(&queries, |i| of_products[i][j])).collect(),
                each.map(|j| mixed(&slopes, |i| weights[i][j])).collect(),
            ]
        })
        .collect();
    [(0, q), (1, k), (2, v)].map(|(which, x)| built(x.shape, |n| images[n][which].clone()))
}

/// Column and row of each pixel, from 0 or from the middle.
pub(super) fn coordinates<T: Real>(shape: Shape, centred: bool) -> Tensor<T> {
    let [_, _, h, w] = shape;
    let middle = |size: usize| if centred { size as f64 / 2.0 } else { 0.0 };
    built(shape, |_| {
        let place = |i: usize| vec![T::of((i % w) as f64 - middle(w)), T::of((i / w) as f64 - middle(h))];
        (0..h * w).map(place).collect()
    })
}
