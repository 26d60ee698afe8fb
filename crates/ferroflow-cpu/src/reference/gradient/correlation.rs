//! The cost volume.

use ferroflow_net::graph::Correlation;
use rayon::prelude::*;

use super::{Real, Tensor};

/// The gradient with respect to one map, given the other: `sum_d d_output[d](q) * other(p + sign * d) / C`, where `q` is the pixel of
/// the first map (`p` itself for sign 1, `p - d` for sign -1).
pub(super) fn gradient<T: Real>(other: &Tensor<T>, d_output: &Tensor<T>, c: Correlation, sign: isize) -> Tensor<T> {
    let [_, channels, h, w] = other.shape;
    let (diameter, reach) = (c.diameter(), (c.max_displacement / c.stride * c.stride) as isize);
    let count = T::of(channels as f64);
    let mut result = Tensor::zeros(other.shape);
    result.data.par_chunks_mut(h * w).enumerate().for_each(|(i, plane)| {
        let (n, channel) = (i / channels, i % channels);
        let other = other.plane(n, channel);
        for d in 0..diameter * diameter {
            let dy = sign * ((d / diameter * c.stride) as isize - reach);
            let dx = sign * ((d % diameter * c.stride) as isize - reach);
            let g = d_output.plane(n, d);
            for (at, to) in plane.iter_mut().enumerate() {
                let (y, x) = ((at / w) as isize + dy, (at % w) as isize + dx);
                if (0..h as isize).contains(&y) && (0..w as isize).contains(&x) {
                    let partner = y as usize * w + x as usize;
                    *to += g[if sign > 0 { at } else { partner }] * other[partner];
                }
            }
        }
        plane.iter_mut().for_each(|v| *v = *v / count);
    });
    result
}
