//! Average pooling.

use burn::tensor::Tensor;

/// Mean of each window of `size` x `size` pixels; what is left over at the right and the bottom is not read.
pub(crate) fn average_pool(x: Tensor<4>, size: usize) -> Tensor<4> {
    let [n, channels, h, w] = x.dims();
    let (rows, columns) = (h / size, w / size);
    let whole = x.narrow(2, 0, rows * size).narrow(3, 0, columns * size);
    let means = whole.reshape([n * channels * rows, size, columns, size]).mean_dims(&[1, 3]);
    means.reshape([n, channels, rows, columns])
}
