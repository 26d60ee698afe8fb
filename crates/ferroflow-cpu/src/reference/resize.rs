//! Resizing.

use ferroflow_net::graph::{Filter, Grid};

use super::{Real, Tensor};

/// `[N, C, H, W]` -> `[N, C, height, width]`; values are not scaled, nothing is antialiased.
pub fn resize<T: Real>(x: &Tensor<T>, height: usize, width: usize, filter: Filter, grid: Grid) -> Tensor<T> {
    let [n, c, h, w] = x.shape;
    if (h, w) == (height, width) {
        return x.clone();
    }
    let rows = samples(h, height, filter, grid);
    let columns = samples(w, width, filter, grid);
    let mut data = Vec::with_capacity(n * c * height * width);
    for plane in x.data.chunks_exact(h * w) {
        for &(y0, y1, b) in &rows {
            let (top, bottom) = (&plane[y0 * w..][..w], &plane[y1 * w..][..w]);
            data.extend(columns.iter().map(|&(x0, x1, a)| {
                let (a, b) = (T::of(a), T::of(b));
                let upper = top[x0] + (top[x1] - top[x0]) * a;
                let lower = bottom[x0] + (bottom[x1] - bottom[x0]) * a;
                upper + (lower - upper) * b
            }));
        }
    }
    Tensor { shape: [n, c, height, width], data }
}

/// For each output along one axis: the two inputs it lies between and how far it is from the first.
pub(super) fn samples(inputs: usize, outputs: usize, filter: Filter, grid: Grid) -> Vec<(usize, usize, f64)> {
    (0..outputs)
        .map(|i| {
            if filter == Filter::Nearest {
                let nearest = i * inputs / outputs;
                return (nearest, nearest, 0.0);
            }
            let source = grid.source(i, inputs, outputs).clamp(0.0, (inputs - 1) as f64);
            let first = source as usize;
            (first, (first + 1).min(inputs - 1), source - first as f64)
        })
        .collect()
}
