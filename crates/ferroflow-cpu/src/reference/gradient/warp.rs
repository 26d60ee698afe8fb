//! Backward warping.

use ferroflow_net::graph::{FlowOrder, OnPixel, Warp};

use super::{Real, Tensor};
use crate::reference::warp::{corners, position};

/// The gradients with respect to the image and to the flow.
pub(super) fn gradients<T: Real>(
    image: &Tensor<T>,
    flow: &Tensor<T>,
    d: &Tensor<T>,
    warp: Warp,
) -> (Tensor<T>, Tensor<T>) {
    let [n, channels, h, w] = image.shape;
    let (mut d_image, mut d_flow) = (Tensor::zeros(image.shape), Tensor::zeros(flow.shape));
    let scale = T::of(f64::from(warp.scale));
    for n in 0..n {
        for i in 0..h * w {
            let (x, y) = position(flow, n, i, warp);
            let taps = corners(x, y, h, w, warp.border).taps();
            let (before_x, keep_x) = side(x, w, warp.on_pixel);
            let (before_y, keep_y) = side(y, h, warp.on_pixel);
            let slopes_x = corners(before_x, y, h, w, warp.border).slopes_x();
            let slopes_y = corners(x, before_y, h, w, warp.border).slopes_y();
            let (mut along_x, mut along_y) = (T::default(), T::default());
            for c in 0..channels {
                let d = d.plane(n, c)[i];
                let source = image.plane(n, c);
                let to = &mut d_image.data[(n * channels + c) * h * w..][..h * w];
                taps.iter().for_each(|&(at, weight)| to[at] += weight * d);
                let product = |sum: T, &(at, slope): &(usize, T)| sum + slope * source[at] * d;
                along_x = slopes_x.iter().fold(along_x, product);
                along_y = slopes_y.iter().fold(along_y, product);
            }
            let (along_x, along_y) = (along_x * keep_x * scale, along_y * keep_y * scale);
            let zero = T::default();
            let (first, second) = match warp.order {
                FlowOrder::Uv => (along_x, along_y),
                FlowOrder::Vu => (along_y, along_x),
                FlowOrder::NegatedVu => (zero - along_y, zero - along_x),
            };
            d_flow.data[2 * n * h * w + i] = first;
            d_flow.data[(2 * n + 1) * h * w + i] = second;
        }
    }
    (d_image, d_flow)
}

/// The point whose neighbours give the derivative at coordinate `v`, and 0 where the derivative is 0 by rule.
fn side<T: Real>(v: T, size: usize, rule: OnPixel) -> (T, T) {
    let (zero, one) = (T::default(), T::of(1.0));
    let last = T::of((size - 1) as f64);
    let whole = v.floor() == v;
    match rule {
        OnPixel::Right => (v, one),
        OnPixel::ZeroButLast if v == last => (v - T::of(0.5), one),
        OnPixel::Zero | OnPixel::ZeroButLast => (v, if whole { zero } else { one }),
    }
}
