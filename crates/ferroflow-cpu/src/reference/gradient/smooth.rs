//! Activations that are not lines.

use ferroflow_net::graph::Smooth;

use super::{Real, Tensor};
use crate::reference::smooth::slope;

pub(super) fn gradient<T: Real>(x: &Tensor<T>, d: &Tensor<T>, curve: Smooth) -> Tensor<T> {
    let data = x.data.iter().zip(&d.data).map(|(x, d)| T::of(d.f64() * slope(x.f64(), curve))).collect();
    Tensor { shape: x.shape, data }
}
