//! RAFT's lookup: level by level, the products of each pixel with those of a window, and what lies between them.

use burn::tensor::Tensor;
use ferroflow_net::graph::Lookup;

use super::{along, convolution, coordinates};

/// `(f1, f2, flow)` -> `[N, levels * side * side, H, W]`; differentiable in all of them.
pub(crate) fn lookup([first, second]: [Tensor<4>; 2], flow: Tensor<4>, lookup: Lookup) -> Tensor<4> {
    let [n, channels, h, w] = first.dims();
    let first = first.div_scalar((channels as f64).sqrt());
    let places = coordinates(flow.clone(), false).add(flow);
    let mut level = second;
    let mut found = Vec::with_capacity(lookup.levels);
    for l in 0..lookup.levels {
        if lookup.level_size(l, [h, w]).contains(&0) {
            found.push(Tensor::zeros([n, lookup.side() * lookup.side(), h, w], (&level.device(), level.dtype())));
            continue;
        }
        if l > 0 {
            level = halved(level);
        }
        let places = places.clone().mul_scalar(0.5f32.powi(l as i32));
        let window = window(first.clone(), level.clone(), places, lookup);
        found.push(window.reshape([n, lookup.side() * lookup.side(), h, w]));
    }
    Tensor::cat(found, 1)
}

/// Means of 2 x 2 pixels; a last odd row or column is left out.
fn halved(x: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let even = x.narrow(2, 0, h / 2 * 2).narrow(3, 0, w / 2 * 2);
    even.reshape([n, c, h / 2, 2, w / 2, 2]).mean_dim(5).mean_dim(3).reshape([n, c, h / 2, w / 2])
}

/// The products with one level, between the neighbours of where each pixel points: `[N, x, y, H W]`.
fn window(first: Tensor<4>, level: Tensor<4>, places: Tensor<4>, lookup: Lookup) -> Tensor<4> {
    let [n, _, h, w] = first.dims();
    let (side, wide) = (lookup.side(), lookup.side() + 1);
    let before = places.clone().detach().floor();
    let beyond = places.sub(before.clone()).reshape([n, 2, 1, h * w]);
    let corner = before.sub_scalar(lookup.radius as f32);
    let products = products(first, level, corner, wide).reshape([n, wide, wide, h * w]);
    let mix = |values: Tensor<4>, dim: usize, axis: usize| {
        let near = values.clone().narrow(dim, 0, side);
        let far = values.narrow(dim, 1, side);
        near.clone().add(far.sub(near).mul(beyond.clone().narrow(1, axis, 1)))
    };
    mix(mix(products, 2, 0), 1, 1).swap_dims(1, 2)
}

/// Of each pixel with those of a window of `wide` x `wide` pixels of the level, which begins at `corner`, whole numbers:
/// `[N, wide * wide, H, W]`, row by row, 0 outside.
fn products(first: Tensor<4>, level: Tensor<4>, corner: Tensor<4>, wide: usize) -> Tensor<4> {
    #[cfg(feature = "cube")]
    if super::gpu::has_kernels(&first) {
        return super::gpu::window_products(first, level, corner, wide);
    }
    let ([n, channels, h, w], [_, _, height, width]) = (first.dims(), level.dims());
    let pixels = first.reshape([n, channels, h * w]).swap_dims(1, 2);
    let all = convolution::products(pixels, level.reshape([n, channels, height * width]));
    let offsets: Vec<f32> = (0..wide).map(|i| i as f32).collect();
    let [columns, rows] = [(0, 3), (1, 2)].map(|(axis, dim)| {
        corner.clone().narrow(1, axis, 1).reshape([n, h * w, 1, 1]).add(along(dim, offsets.clone(), &corner))
    });
    let inside = |at: &Tensor<4>, size: usize| {
        let inside = at.clone().greater_equal_scalar(0.0).bool_and(at.clone().lower_equal_scalar((size - 1) as f32));
        at.clone().zeros_like().mask_fill(inside, 1.0)
    };
    let index = |at: &Tensor<4>, size: usize| at.clone().clamp(0.0, (size - 1) as f32).int();
    // Clamped once more: what a flow that is not a number becomes as an integer differs from device to device.
    let last = (height * width - 1) as i64;
    let index = index(&rows, height).mul_scalar(width as i64).add(index(&columns, width)).clamp(0, last);
    let taken = all.gather(2, index.reshape([n, h * w, wide * wide])).reshape([n, h * w, wide, wide]);
    let taken = taken.mul(inside(&rows, height)).mul(inside(&columns, width));
    taken.reshape([n, h * w, wide * wide]).swap_dims(1, 2).reshape([n, wide * wide, h, w])
}
