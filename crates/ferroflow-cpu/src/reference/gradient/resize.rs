//! Resizing: every output adds its gradient to the pixels that it was interpolated from.

use ferroflow_net::graph::{Filter, Grid, Shape};

use super::{Real, Tensor};
use crate::reference::resize::samples;

pub(super) fn adjoint<T: Real>(d: &Tensor<T>, shape: Shape, filter: Filter, grid: Grid) -> Tensor<T> {
    let [_, _, h, w] = shape;
    let [_, _, height, width] = d.shape;
    if (h, w) == (height, width) {
        return d.clone();
    }
    let rows = samples(h, height, filter, grid);
    let columns = samples(w, width, filter, grid);
    let mut result = Tensor::zeros(shape);
    for (to, d) in result.data.chunks_exact_mut(h * w).zip(d.data.chunks_exact(height * width)) {
        for (&(y0, y1, b), d) in rows.iter().zip(d.chunks_exact(width)) {
            for (&(x0, x1, a), &d) in columns.iter().zip(d) {
                for (y, b) in [(y0, 1.0 - b), (y1, b)] {
                    to[y * w + x0] += T::of(b * (1.0 - a)) * d;
                    to[y * w + x1] += T::of(b * a) * d;
                }
            }
        }
    }
    result
}
