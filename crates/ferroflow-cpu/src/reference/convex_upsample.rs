//! Convex upsampling of a flow.

use ferroflow_net::graph::Shape;
use rayon::prelude::*;

use super::{Real, Tensor};

/// Every fine pixel as the mixture of the nine coarse ones around it that the softmax of its logits says.
pub(super) fn convex_upsample<T: Real>(flow: &Tensor<T>, logits: &Tensor<T>, factor: usize, shape: Shape) -> Tensor<T> {
    let [_, channels, height, width] = shape;
    let mut out = Tensor::zeros(shape);
    out.data.par_chunks_mut(height * width).enumerate().for_each(|(i, plane)| {
        let (n, c) = (i / channels, i % channels);
        let coarse = flow.plane(n, c);
        for (at, to) in plane.iter_mut().enumerate() {
            let pixel = Pixel { n, y: at / width, x: at % width };
            let weighed = pixel.neighbours(flow.shape, factor).into_iter().zip(pixel.weights(logits, factor));
            *to =
                weighed.fold(T::default(), |sum, (at, weight)| sum + at.map_or(T::default(), |at| coarse[at] * weight));
        }
    });
    out
}

/// A pixel of the result.
#[derive(Clone, Copy)]
pub(super) struct Pixel {
    pub n: usize,
    pub y: usize,
    pub x: usize,
}

impl Pixel {
    /// The nine coarse pixels around its own, row by row, as indices of a plane; `None` outside the image.
    pub(super) fn neighbours(self, [_, _, h, w]: Shape, factor: usize) -> [Option<usize>; 9] {
        std::array::from_fn(|k| {
            let y = (self.y / factor + k / 3).checked_sub(1).filter(|&y| y < h)?;
            let x = (self.x / factor + k % 3).checked_sub(1).filter(|&x| x < w)?;
            Some(y * w + x)
        })
    }

    /// Where its logit for neighbour `k` lies: the channel, and the index in its plane.
    pub(super) fn logit(self, k: usize, [_, _, _, w]: Shape, factor: usize) -> (usize, usize) {
        let Self { y, x, .. } = self;
        ((k * factor + y % factor) * factor + x % factor, y / factor * w + x / factor)
    }

    /// Softmax over its logits.
    pub(super) fn weights<T: Real>(self, logits: &Tensor<T>, factor: usize) -> [T; 9] {
        let logit: [T; 9] = std::array::from_fn(|k| {
            let (channel, at) = self.logit(k, logits.shape, factor);
            logits.plane(self.n, channel)[at]
        });
        let largest = logit.iter().fold(logit[0], |a, &b| if a > b { a } else { b });
        let exponentials = logit.map(|l| (l - largest).exp());
        let sum = exponentials.iter().fold(T::default(), |sum, &e| sum + e);
        exponentials.map(|e| e / sum)
    }
}
