//! The cost volume and its gradient, one displacement at a time.
//!
//! Differentiated by Burn it would keep a shifted copy of the features for each displacement; this keeps the features.

use burn::backend::{Backend, Slice, TensorMetadata, ops::PadMode, tensor::FloatTensor};
use ferroflow_net::graph::Correlation;

/// Mean over channels of `f1(p) * f2(p + d)`, `[N, D * D, H, W]`; d row by row, zero outside.
pub(super) fn forward<B: Backend>(f1: FloatTensor<B>, f2: FloatTensor<B>, c: Correlation) -> FloatTensor<B> {
    let window = Window::new::<B>(&f1, c);
    let f2 = window.pad::<B>(f2);
    let planes = window.displacements(c).map(|(dy, dx)| {
        let shifted = window.shifted::<B>(&f2, 0..window.channels, dy, dx);
        B::float_mean_dim(B::float_mul(f1.clone(), shifted), 1)
    });
    B::float_cat(planes.collect(), 1)
}

/// The gradients with respect to both inputs.
pub(super) fn backward<B: Backend>(
    f1: FloatTensor<B>,
    f2: FloatTensor<B>,
    gradient: FloatTensor<B>,
    c: Correlation,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let window = Window::new::<B>(&f1, c);
    let gradient = B::float_mul_scalar(gradient, (1.0 / window.channels as f64).into());
    let [f1, f2, gradient] = [f1, f2, gradient].map(|x| window.pad::<B>(x));
    let products = window.displacements(c).enumerate().map(|(i, (dy, dx))| {
        let product = |features, (gy, gx), (fy, fx)| {
            let gradient = window.shifted::<B>(&gradient, i..i + 1, gy, gx);
            B::float_mul(window.shifted::<B>(features, 0..window.channels, fy, fx), gradient)
        };
        // out(p) is made of f1(p) and f2(p + d), so f2(q) is part of out(q - d).
        (product(&f2, (0, 0), (dy, dx)), product(&f1, (-dy, -dx), (-dy, -dx)))
    });
    products
        .reduce(|(a1, a2), (b1, b2)| (B::float_add(a1, b1), B::float_add(a2, b2)))
        .expect("a cost volume has at least the displacement 0")
}

/// The part of a padded tensor that displacements move.
struct Window {
    channels: usize,
    height: usize,
    width: usize,
    /// Zeros on each side.
    reach: isize,
}

impl Window {
    fn new<B: Backend>(features: &FloatTensor<B>, c: Correlation) -> Self {
        let [_, channels, height, width] = features.shape().dims();
        Self { channels, height, width, reach: (c.max_displacement / c.stride * c.stride) as isize }
    }

    fn displacements(&self, c: Correlation) -> impl Iterator<Item = (isize, isize)> + use<> {
        let reach = self.reach;
        let axis = move || (-reach..=reach).step_by(c.stride);
        axis().flat_map(move |dy| axis().map(move |dx| (dy, dx)))
    }

    fn pad<B: Backend>(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let reach = self.reach as usize;
        B::float_pad(x, &[(0, 0), (0, 0), (reach, reach), (reach, reach)], PadMode::Constant(0.0))
    }

    /// These channels at `p + (dy, dx)` for every pixel p.
    fn shifted<B: Backend>(
        &self,
        padded: &FloatTensor<B>,
        channels: std::ops::Range<usize>,
        dy: isize,
        dx: isize,
    ) -> FloatTensor<B> {
        let batch = padded.shape()[0];
        let span = |from: isize, len: usize| Slice::new(from, Some(from + len as isize), 1);
        let slices = [
            span(0, batch),
            span(channels.start as isize, channels.len()),
            span(self.reach + dy, self.height),
            span(self.reach + dx, self.width),
        ];
        B::float_slice(padded.clone(), &slices)
    }
}
