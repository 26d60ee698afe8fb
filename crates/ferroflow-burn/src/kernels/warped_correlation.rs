//! The cost volume of features and of others that are warped for it alone, so that the warped map need not be kept for the gradient.
//!
//! The map is written and read once, because a pixel of it is part of as many products as there are displacements, 81 in PWC-Net: sampled for
//! each of them it would be read four times as often.

use burn_cubecl::tensor::CubeTensor;
use ferroflow_net::graph::{Correlation, Warp};

use super::correlation::{correlation, correlation_backward};
use super::warp::{Scatter, warp, warp_flow_backward, warp_image_backward};

/// Mean over channels of `f1(p) * warped(p + d)`, as [`correlation`], where `warped` is `image` sampled at `p + flow(p)`, as [`warp`].
pub(crate) fn warped_correlation([f1, image, flow]: [CubeTensor; 3], c: Correlation, w: Warp) -> CubeTensor {
    correlation(f1, warp(image, flow, w), c)
}

/// The gradients with respect to the first features, to those that are warped, and to the flow. The map is warped again.
pub(crate) fn warped_correlation_backward(
    [f1, image, flow]: [CubeTensor; 3],
    gradient: CubeTensor,
    c: Correlation,
    w: Warp,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let scatter = Scatter::of(&image.client);
    let warped = warp(image.clone(), flow.clone(), w);
    let (to_f1, to_warped) = correlation_backward(f1, warped, gradient, c);
    let to_flow = warp_flow_backward(image, flow.clone(), to_warped.clone(), w);
    (to_f1, warp_image_backward(flow, to_warped, w, scatter), to_flow)
}
