//! Convex upsampling.

use super::{Real, Tensor};
use crate::reference::convex_upsample::Pixel;

/// The gradients with respect to the flow and to the logits: with weights w and `p_k = sum_c d_c flow_c(k)` for every neighbour k, the
/// flow's receives `w_k d_c` and the logits' `w_k (p_k - sum w p)`.
pub(super) fn gradients<T: Real>(
    flow: &Tensor<T>,
    logits: &Tensor<T>,
    d: &Tensor<T>,
    factor: usize,
) -> (Tensor<T>, Tensor<T>) {
    let [n, channels, height, width] = d.shape;
    let [_, _, h, w] = flow.shape;
    let (mut d_flow, mut d_logits) = (Tensor::zeros(flow.shape), Tensor::zeros(logits.shape));
    for (n, at) in (0..n).flat_map(|n| (0..height * width).map(move |at| (n, at))) {
        let pixel = Pixel { n, y: at / width, x: at % width };
        let weights = pixel.weights(logits, factor);
        let mut products = [T::default(); 9];
        for (k, coarse) in pixel.neighbours(flow.shape, factor).into_iter().enumerate() {
            let Some(coarse) = coarse else { continue };
            for c in 0..channels {
                let d = d.plane(n, c)[at];
                products[k] += d * flow.plane(n, c)[coarse];
                d_flow.data[(n * channels + c) * h * w + coarse] += d * weights[k];
            }
        }
        let mean = weights.iter().zip(&products).fold(T::default(), |sum, (&w, &p)| sum + w * p);
        for k in 0..9 {
            let (channel, coarse) = pixel.logit(k, logits.shape, factor);
            d_logits.data[(n * logits.shape[1] + channel) * h * w + coarse] = weights[k] * (products[k] - mean);
        }
    }
    (d_flow, d_logits)
}
