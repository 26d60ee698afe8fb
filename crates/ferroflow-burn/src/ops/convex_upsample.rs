//! Convex upsampling of a flow.

use burn::tensor::{Tensor, activation::softmax};

/// Coarse pixels that a fine one is mixed of, 3 x 3.
const NEIGHBOURS: usize = 9;

/// `[N, 2, h, w]`, logits `[N, 9 * factor * factor, h, w]` -> `[N, 2, factor * h, factor * w]`.
pub(crate) fn convex_upsample(flow: Tensor<4>, logits: Tensor<4>, factor: usize) -> Tensor<4> {
    #[cfg(feature = "cube")]
    if super::gpu::has_kernels(&flow) {
        return super::gpu::convex_upsample(flow, logits, factor);
    }
    let [n, channels, h, w] = flow.dims();
    let weights = softmax(logits.reshape([n, NEIGHBOURS, factor * factor, h * w]), 1);
    let padded = flow.pad((1, 1, 1, 1), 0.0);
    let weighed = (0..NEIGHBOURS).map(|k| {
        let neighbour = padded.clone().narrow(2, k / 3, h).narrow(3, k % 3, w);
        neighbour.reshape([n, channels, 1, h * w]).mul(weights.clone().narrow(1, k, 1))
    });
    let mixed = weighed.reduce(Tensor::add).expect("nine neighbours");
    let mixed = mixed.reshape([n, channels, factor, factor, h, w]).permute([0, 1, 4, 2, 5, 3]);
    mixed.reshape([n, channels, factor * h, factor * w])
}
