//! Backward warping with every border rule.

use ferroflow_net::graph::{FlowOrder, Warp, WarpBorder};
use rayon::prelude::*;

use super::{Real, Tensor};

/// Up to four pixels and their weights.
type Taps<T> = [(usize, T); 4];

/// `image` sampled at `p + flow(p)`, bilinear.
pub(super) fn warp<T: Real>(image: &Tensor<T>, flow: &Tensor<T>, warp: Warp) -> Tensor<T> {
    let [n, channels, h, w] = image.shape;
    let scale = T::of(f64::from(warp.scale));
    let mut out = Tensor::zeros(image.shape);
    for (n, planes) in (0..n).zip(out.data.chunks_exact_mut(channels * h * w)) {
        let (c0, c1) = (flow.plane(n, 0), flow.plane(n, 1));
        let taps: Vec<Taps<T>> = (0..h * w)
            .map(|i| {
                let (x, y) = (T::of((i % w) as f64), T::of((i / w) as f64));
                let (a, b) = (c0[i] * scale, c1[i] * scale);
                let (x, y) = match warp.order {
                    FlowOrder::Uv => (x + a, y + b),
                    FlowOrder::Vu => (x + b, y + a),
                    FlowOrder::NegatedVu => (x - b, y - a),
                };
                taps(x, y, h, w, warp.border)
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

fn taps<T: Real>(x: T, y: T, h: usize, w: usize, border: WarpBorder) -> Taps<T> {
    let one = T::of(1.0);
    let last = |size: usize| T::of((size - 1) as f64);
    let inside = |v: T, size: usize| v >= T::default() && v <= last(size);
    let index = |v: T, size: usize| v.clamp(T::default(), last(size)).f64() as usize;

    // Left and upper neighbour before clamping, and the fractions beyond it.
    let (mut x0, mut y0) = (x.floor(), y.floor());
    if border == WarpBorder::Extrapolate {
        (x0, y0) = (x.clamp(T::default(), last(w)).floor(), y.clamp(T::default(), last(h)).floor());
    }
    let (a, b) = (x - x0, y - y0);
    let (x1, y1) = (x0 + one, y0 + one);
    let mut taps = [(x0, y0, (one - a) * (one - b)), (x1, y0, a * (one - b)), (x0, y1, (one - a) * b), (x1, y1, a * b)];
    match border {
        WarpBorder::Replicate | WarpBorder::Extrapolate => {}
        WarpBorder::Zeros | WarpBorder::ZerosMasked { .. } => {
            let mut inside_weight = T::default();
            for (x, y, weight) in &mut taps {
                if !(inside(*x, w) && inside(*y, h)) {
                    *weight = T::default();
                }
                inside_weight += *weight;
            }
            if let WarpBorder::ZerosMasked { threshold } = border
                && inside_weight < T::of(f64::from(threshold))
            {
                taps.iter_mut().for_each(|tap| tap.2 = T::default());
            }
        }
        WarpBorder::Caffe => {
            let (width, height) = (T::of(w as f64), T::of(h as f64));
            if !(x >= T::default() && x < width && y >= T::default() && y < height) {
                taps.iter_mut().for_each(|tap| tap.2 = T::default());
            }
        }
    }
    // A flow that is not finite weighs nothing where it is not inside, and NaN elsewhere: it shows in the result.
    taps.map(|(x, y, weight)| (index(y, h) * w + index(x, w), weight))
}
