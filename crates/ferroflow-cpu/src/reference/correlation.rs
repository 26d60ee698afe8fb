//! The cost volume.

use ferroflow_net::graph::Correlation;
use rayon::prelude::*;

use super::{Real, Tensor};

/// Mean over channels of `f1(p) * f2(p + d)`; d row by row, zero outside.
pub(super) fn correlation<T: Real>(f1: &Tensor<T>, f2: &Tensor<T>, c: Correlation) -> Tensor<T> {
    let [n, channels, h, w] = f1.shape;
    let (diameter, reach) = (c.diameter(), (c.max_displacement / c.stride * c.stride) as isize);
    let mut out = Tensor::zeros([n, diameter * diameter, h, w]);
    out.data.par_chunks_mut(h * w).enumerate().for_each(|(i, plane)| {
        let (image, d) = (i / (diameter * diameter), i % (diameter * diameter));
        let dy = (d / diameter * c.stride) as isize - reach;
        let dx = (d % diameter * c.stride) as isize - reach;
        // Columns whose partner lies inside.
        let from = (-dx).clamp(0, w as isize) as usize;
        let to = (w as isize - dx).clamp(from as isize, w as isize) as usize;
        for channel in 0..channels {
            let (a, b) = (f1.plane(image, channel), f2.plane(image, channel));
            for y in 0..h {
                let partner = y as isize + dy;
                if !(0..h as isize).contains(&partner) || from == to {
                    continue;
                }
                let a = &a[y * w..][from..to];
                let b = &b[partner as usize * w..][(from as isize + dx) as usize..][..to - from];
                for ((out, &a), &b) in plane[y * w..][from..to].iter_mut().zip(a).zip(b) {
                    *out += a * b;
                }
            }
        }
        let count = T::of(channels as f64);
        plane.iter_mut().for_each(|v| *v = *v / count);
    });
    out
}
