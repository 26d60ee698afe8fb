//! Backward warping with every border rule.

use ferroflow_net::graph::{FlowOrder, Warp, WarpBorder};
use rayon::prelude::*;

use super::{Real, Tensor};

/// `image` sampled at `p + flow(p)`, bilinear.
pub(super) fn warp<T: Real>(image: &Tensor<T>, flow: &Tensor<T>, warp: Warp) -> Tensor<T> {
    let [n, channels, h, w] = image.shape;
    let mut out = Tensor::zeros(image.shape);
    for (n, planes) in (0..n).zip(out.data.chunks_exact_mut(channels * h * w)) {
        let taps: Vec<[(usize, T); 4]> = (0..h * w)
            .map(|i| {
                let (x, y) = position(flow, n, i, warp);
                corners(x, y, h, w, warp.border).taps()
            })
            .collect();
        planes.par_chunks_mut(h * w).enumerate().for_each(|(c, plane)| {
            let source = image.plane(n, c);
            for (out, taps) in plane.iter_mut().zip(&taps) {
                *out = taps.iter().fold(T::default(), |sum, &(at, weight)| sum + source[at] * weight);
            }
        });
    }
    out
}

/// Where pixel `i` of image `n` samples: column and row.
pub(super) fn position<T: Real>(flow: &Tensor<T>, n: usize, i: usize, warp: Warp) -> (T, T) {
    let (w, scale) = (flow.shape[3], T::of(f64::from(warp.scale)));
    let (x, y) = (T::of((i % w) as f64), T::of((i / w) as f64));
    let (a, b) = (flow.plane(n, 0)[i] * scale, flow.plane(n, 1)[i] * scale);
    match warp.order {
        FlowOrder::Uv => (x + a, y + b),
        FlowOrder::Vu => (x + b, y + a),
        FlowOrder::NegatedVu => (x - b, y - a),
    }
}

/// The four neighbours of a sampling point: upper left, upper right, lower left, lower right.
pub(super) struct Corners<T> {
    /// The pixel read, and whether it counts.
    at: [(usize, bool); 4],
    /// Fractions beyond the left and upper neighbours.
    a: T,
    b: T,
}

impl<T: Real> Corners<T> {
    /// Pixels and their weights. A flow that is not finite weighs nothing where it is not inside, and NaN elsewhere: it
    /// shows in the result.
    pub(super) fn taps(&self) -> [(usize, T); 4] {
        let one = T::of(1.0);
        let (a, b) = ([one - self.a, self.a], [one - self.b, self.b]);
        self.weighted(|i| a[i % 2] * b[i / 2])
    }

    /// Pixels and the derivatives of their weights along x.
    pub(super) fn slopes_x(&self) -> [(usize, T); 4] {
        let one = T::of(1.0);
        let (a, b) = ([T::of(-1.0), one], [one - self.b, self.b]);
        self.weighted(|i| a[i % 2] * b[i / 2])
    }

    /// Pixels and the derivatives of their weights along y.
    pub(super) fn slopes_y(&self) -> [(usize, T); 4] {
        let one = T::of(1.0);
        let (a, b) = ([one - self.a, self.a], [T::of(-1.0), one]);
        self.weighted(|i| a[i % 2] * b[i / 2])
    }

    fn weighted(&self, weight: impl Fn(usize) -> T) -> [(usize, T); 4] {
        std::array::from_fn(|i| {
            let (at, counts) = self.at[i];
            (at, if counts { weight(i) } else { T::default() })
        })
    }
}

pub(super) fn corners<T: Real>(x: T, y: T, h: usize, w: usize, border: WarpBorder) -> Corners<T> {
    let one = T::of(1.0);
    let last = |size: usize| T::of((size - 1) as f64);
    let inside = |v: T, size: usize| v >= T::default() && v <= last(size);
    let index = |v: T, size: usize| v.clamp(T::default(), last(size)).f64() as usize;

    // Left and upper neighbour before clamping, and the fractions beyond it.
    let (mut x0, mut y0) = (x.floor(), y.floor());
    if border == WarpBorder::Extrapolate {
        (x0, y0) = (x.clamp(T::default(), last(w)).floor(), y.clamp(T::default(), last(h)).floor());
    }
    let (x1, y1) = (x0 + one, y0 + one);
    let points = [(x0, y0), (x1, y0), (x0, y1), (x1, y1)];
    let mut corners = Corners { at: points.map(|(x, y)| (index(y, h) * w + index(x, w), true)), a: x - x0, b: y - y0 };
    match border {
        WarpBorder::Replicate | WarpBorder::Extrapolate => {}
        WarpBorder::Zeros | WarpBorder::ZerosMasked { .. } => {
            for ((_, counts), (x, y)) in corners.at.iter_mut().zip(points) {
                *counts = inside(x, w) && inside(y, h);
            }
            if let WarpBorder::ZerosMasked { threshold } = border {
                let weight = corners.taps().iter().fold(T::default(), |sum, tap| sum + tap.1);
                if weight < T::of(f64::from(threshold)) {
                    corners.at.iter_mut().for_each(|(_, counts)| *counts = false);
                }
            }
        }
        WarpBorder::Caffe => {
            let (width, height) = (T::of(w as f64), T::of(h as f64));
            if !(x >= T::default() && x < width && y >= T::default() && y < height) {
                corners.at.iter_mut().for_each(|(_, counts)| *counts = false);
            }
        }
    }
    corners
}
