//! RAFT's lookup.

use ferroflow_net::graph::Lookup;

use super::{Real, Tensor};
use crate::reference::lookup::{Pixel, levels};

/// The gradients with respect to both maps and to the flow. Where the flow points at a pixel, its slope is that to the right and
/// down, as `grid_sample` has it.
pub(super) fn gradients<T: Real>([f1, f2, flow]: [&Tensor<T>; 3], d: &Tensor<T>, lookup: Lookup) -> [Tensor<T>; 3] {
    let [n, channels, h, w] = f1.shape;
    let (side, wide, one) = (lookup.side(), lookup.side() + 1, T::of(1.0));
    let root = T::of(channels as f64).sqrt();
    let levels = levels(f2, lookup);
    let mut d_levels: Vec<Tensor<T>> = levels.iter().map(|level| Tensor::zeros(level.shape)).collect();
    let (mut d_first, mut d_flow) = (Tensor::zeros(f1.shape), Tensor::zeros(flow.shape));
    for pixel in (0..n * h * w).map(|i| Pixel { n: i / (h * w), at: i % (h * w) }) {
        for (l, (level, d_level)) in levels.iter().zip(&mut d_levels).enumerate() {
            let window = pixel.window(flow, l, lookup);
            let products = window.products(pixel, f1, level);
            // Of every neighbour's product, and of the window's place.
            let mut d_products = vec![T::default(); wide * wide];
            let mut d_place = [T::default(); 2];
            for k in 0..side * side {
                let g = d.plane(pixel.n, l * side * side + k)[pixel.at];
                let taps = window.taps(k / side, k % side);
                taps.iter().for_each(|&(at, weight)| d_products[at] += g * weight);
                let [upper_left, upper_right, lower_left, lower_right] = taps.map(|(at, _)| products[at]);
                let along_x = (upper_right - upper_left) * (one - window.b) + (lower_right - lower_left) * window.b;
                let along_y = (lower_left - upper_left) * (one - window.a) + (lower_right - upper_right) * window.a;
                d_place[0] += g * along_x;
                d_place[1] += g * along_y;
            }
            for (c, d) in d_place.into_iter().enumerate() {
                d_flow.data[(pixel.n * 2 + c) * h * w + pixel.at] += d * T::of(0.5f64.powi(l as i32));
            }
            let plane = level.shape[2] * level.shape[3];
            for (row, column, at) in window.inside(level.shape) {
                let g = d_products[row * wide + column] / root;
                for c in 0..channels {
                    let first = (pixel.n * channels + c) * h * w + pixel.at;
                    let second = (pixel.n * channels + c) * plane + at;
                    d_first.data[first] += g * level.data[second];
                    d_level.data[second] += g * f1.data[first];
                }
            }
        }
    }
    // Each level is a quarter of the sums of the finer one.
    for l in (1..d_levels.len()).rev() {
        let (finer, coarser) = d_levels.split_at_mut(l);
        let (finer, coarser) = (&mut finer[l - 1], &coarser[0]);
        let ([_, _, h, w], [_, _, half_h, half_w]) = (finer.shape, coarser.shape);
        for (i, &g) in coarser.data.iter().enumerate() {
            let (plane, y, x) = (i / (half_h * half_w), i / half_w % half_h, i % half_w);
            let at = (plane * h + 2 * y) * w + 2 * x;
            [at, at + 1, at + w, at + w + 1].into_iter().for_each(|at| finer.data[at] += g / T::of(4.0));
        }
    }
    [d_first, d_levels.swap_remove(0), d_flow]
}
