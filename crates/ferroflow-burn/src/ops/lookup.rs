//! RAFT's lookup: the products of all pairs of pixels, level by level, and what lies in each pixel's window of them.

use burn::tensor::Tensor;
use ferroflow_net::graph::Lookup;

use super::{along, convolution};

/// `(f1, f2, flow)` -> `[N, levels * side * side, H, W]`; differentiable in all of them.
pub(crate) fn lookup([first, second]: [Tensor<4>; 2], flow: Tensor<4>, lookup: Lookup) -> Tensor<4> {
    let [n, channels, h, w] = first.dims();
    let pixels = first.div_scalar((channels as f64).sqrt()).reshape([n, channels, h * w]).swap_dims(1, 2);
    let grid = |size: usize| (0..size).map(|i| i as f32).collect::<Vec<f32>>();
    let places = [(3, w), (2, h)].map(|(dim, size)| along(dim, grid(size), &flow));
    let places = [0, 1].map(|c| flow.clone().narrow(1, c, 1).add(places[c].clone()).reshape([n, h * w, 1, 1]));
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
        let places = places.clone().map(|place| place.mul_scalar(0.5f32.powi(l as i32)));
        found.push(window(&pixels, &level, places, lookup).reshape([n, lookup.side() * lookup.side(), h, w]));
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
fn window(pixels: &Tensor<3>, level: &Tensor<4>, places: [Tensor<4>; 2], lookup: Lookup) -> Tensor<4> {
    let [n, channels, h, w] = level.dims();
    let (side, wide, count) = (lookup.side(), lookup.side() + 1, pixels.dims()[1]);
    let products = convolution::products(pixels.clone(), level.clone().reshape([n, channels, h * w]));
    let offsets: Vec<f32> = (0..wide).map(|i| i as f32 - lookup.radius as f32).collect();
    let [(a, columns), (b, rows)] = [(0, 3), (1, 2)].map(|(axis, dim)| {
        let place = places[axis].clone();
        let before = place.clone().detach().floor();
        (place.sub(before.clone()), before.add(along(dim, offsets.clone(), level)))
    });
    let inside = |at: &Tensor<4>, size: usize| {
        let inside = at.clone().greater_equal_scalar(0.0).bool_and(at.clone().lower_equal_scalar((size - 1) as f32));
        at.clone().zeros_like().mask_fill(inside, 1.0)
    };
    let index = |at: &Tensor<4>, size: usize| at.clone().clamp(0.0, (size - 1) as f32).int();
    // Clamped once more: what a flow that is not a number becomes as an integer differs from device to device.
    let index = index(&rows, h).mul_scalar(w as i64).add(index(&columns, w)).clamp(0, (h * w - 1) as i64);
    let taken = products.gather(2, index.reshape([n, count, wide * wide])).reshape([n, count, wide, wide]);
    let taken = taken.mul(inside(&rows, h)).mul(inside(&columns, w));
    let mix = |values: Tensor<4>, dim: usize, fraction: Tensor<4>| {
        let near = values.clone().narrow(dim, 0, side);
        let far = values.narrow(dim, 1, side);
        near.clone().add(far.sub(near).mul(fraction))
    };
    mix(mix(taken, 3, a), 2, b).permute([0, 3, 2, 1])
}
