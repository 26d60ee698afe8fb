//! Bilinear sampling of planes along a flow, its gradients, and splatting, its reverse.
//!
//! Planes are `[C, H, W]`, rows of `f32`; a flow is `[2, H, W]`, u then v, in pixels. Each call handles one image. The second
//! neighbour of a place is its ceiling, not the pixel after its floor: at whole coordinates it is the pixel itself, so the value is
//! the same and the derivative there is 0 (UFlow). Sums have a fixed order, whatever the number of threads.

mod resize;
mod splat;

use rayon::prelude::*;

use crate::Size;

pub use resize::{Window, resize, resize_adjoint};
pub use splat::{splat, splat_gradient, splat_size};

/// The value of a sample beyond the outer pixel centres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Zeros: a neighbour outside contributes nothing.
    Zero,
    /// The value of the nearest pixel of the border.
    Repeat,
}

/// The two neighbours of a place along one axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    at: [usize; 2],
    /// 0 where the neighbour does not exist.
    weight: [f32; 2],
    /// Derivatives of the weights with respect to the place.
    slope: [f32; 2],
}

impl Axis {
    /// A place that is no number lies outside.
    #[inline(always)]
    fn at(place: f32, side: usize, outside: Outside) -> Self {
        let last = side as i32 - 1;
        // Beyond these all is outside; `max` and `min` take the limit for NaN.
        let held = match outside {
            Outside::Zero => place.max(-1.0).min(side as f32),
            Outside::Repeat => place.max(0.0).min(last as f32),
        };
        let toward_zero = held as i32;
        let low = toward_zero - i32::from(toward_zero as f32 > held);
        let fraction = held - low as f32;
        let high = low + i32::from(fraction > 0.0);
        let exists = |at: i32| f32::from(u8::from((0..=last).contains(&at)));
        let (first, second) = (exists(low), exists(high));
        let moves = f32::from(u8::from(held == place));
        Self {
            at: [low.clamp(0, last) as usize, high.clamp(0, last) as usize],
            weight: [first * (1.0 - fraction), second * fraction],
            slope: [-first * moves, second * moves],
        }
    }
}

/// The four neighbours of a place.
#[derive(Clone, Copy, Debug)]
struct Corners {
    x: Axis,
    /// In rows.
    y: Axis,
    width: usize,
}

impl Corners {
    #[inline(always)]
    fn at(x: f32, y: f32, size: Size, outside: Outside) -> Self {
        Self { x: Axis::at(x, size.width, outside), y: Axis::at(y, size.height, outside), width: size.width }
    }

    #[inline(always)]
    fn sum(&self, plane: &[f32], rows: [f32; 2], columns: [f32; 2]) -> f32 {
        let [left, right] = self.x.at;
        let [top, bottom] = self.y.at.map(|y| y * self.width);
        let across = |row: usize| columns[0] * plane[row + left] + columns[1] * plane[row + right];
        rows[0] * across(top) + rows[1] * across(bottom)
    }

    #[inline(always)]
    fn value(&self, plane: &[f32]) -> f32 {
        self.sum(plane, self.y.weight, self.x.weight)
    }

    /// Derivatives of the value with respect to x and y.
    #[inline(always)]
    fn slopes(&self, plane: &[f32]) -> (f32, f32) {
        (self.sum(plane, self.y.weight, self.x.slope), self.sum(plane, self.y.slope, self.x.weight))
    }

    /// Adds `value` to the four neighbours, by weight.
    #[inline(always)]
    fn add(&self, plane: &mut [f32], value: f32) {
        for (y, row) in self.y.at.into_iter().zip(self.y.weight) {
            for (x, column) in self.x.at.into_iter().zip(self.x.weight) {
                plane[y * self.width + x] += value * row * column;
            }
        }
    }
}

/// The four pixels around a place, by their index in a plane, with their weights, first those of the row above; `None` for a place
/// that does not lie between pixel centres.
#[inline]
pub(crate) fn between(x: f32, y: f32, size: Size) -> Option<[(usize, f32); 4]> {
    let within = |at: f32, side: usize| side > 0 && (0.0..=(side - 1) as f32).contains(&at);
    (within(x, size.width) && within(y, size.height)).then(|| {
        let corners = Corners::at(x, y, size, Outside::Zero);
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(row, column)| {
            let at = corners.y.at[row] * size.width + corners.x.at[column];
            (at, corners.y.weight[row] * corners.x.weight[column])
        })
    })
}

/// Rows that one task of a parallel pass takes.
const BAND: usize = 16;

/// Bands of rows of every plane: those of one band together, so that planes that share work are written by one task.
pub fn bands(planes: &mut [f32], size: Size, rows: usize) -> Vec<Vec<&mut [f32]>> {
    let mut bands: Vec<Vec<&mut [f32]>> = (0..size.height.div_ceil(rows)).map(|_| Vec::new()).collect();
    for plane in planes.chunks_exact_mut((size.height * size.width).max(1)) {
        for (band, part) in bands.iter_mut().zip(plane.chunks_mut(rows * size.width)) {
            band.push(part);
        }
    }
    bands
}

/// A flow with its window of the planes that it points into.
#[derive(Clone, Copy)]
struct Flow<'a> {
    u: &'a [f32],
    v: &'a [f32],
    window: Window,
    /// Size of the planes.
    of: Size,
}

impl<'a> Flow<'a> {
    fn new(flow: &'a [f32], size: Size) -> Self {
        Self::within(flow, Window::whole(size), size)
    }

    fn within(flow: &'a [f32], window: Window, of: Size) -> Self {
        assert_eq!(flow.len(), 2 * window.size.height * window.size.width, "a flow [2, H, W] of {}", window.size);
        let (u, v) = flow.split_at(window.size.height * window.size.width);
        Self { u, v, window, of }
    }

    #[inline(always)]
    fn corners(&self, x: usize, y: usize, outside: Outside) -> Corners {
        let i = y * self.window.size.width + x;
        let (left, top) = ((x + self.window.left) as f32, (y + self.window.top) as f32);
        Corners::at(left + self.u[i], top + self.v[i], self.of, outside)
    }
}

/// `planes` `[C, H, W]` sampled at `p + flow(p)`, into `out` `[C, H, W]`.
///
/// # Panics
/// If the lengths do not fit the size.
pub fn sample(planes: &[f32], flow: &[f32], size: Size, outside: Outside, out: &mut [f32]) {
    sample_within(planes, size, flow, Window::whole(size), outside, out);
}

/// `planes` `[C, H, W]` of size `of` sampled at `p + flow(p)` for every p of a window of them, which is all that the flow `[2, h, w]`
/// covers; into `out` `[C, h, w]`. Flow may leave the window.
///
/// # Panics
/// If the lengths do not fit the sizes.
pub fn sample_within(planes: &[f32], of: Size, flow: &[f32], window: Window, outside: Outside, out: &mut [f32]) {
    let size = window.size;
    let (pixels, samples) = (of.height * of.width, size.height * size.width);
    assert_eq!(planes.len() * samples, out.len() * pixels, "planes and samples");
    let flow = Flow::within(flow, window, of);
    bands(out, size, BAND).into_par_iter().enumerate().for_each(|(band, mut rows)| {
        let first = band * BAND;
        for i in 0..rows.first().map_or(0, |r| r.len()) {
            let corners = flow.corners(i % size.width, first + i / size.width, outside);
            for (out, plane) in rows.iter_mut().zip(planes.chunks_exact(pixels)) {
                out[i] = corners.value(plane);
            }
        }
    });
}

/// Adds the gradient of [`sample`] with respect to the flow to `d_flow` `[2, H, W]`, for the gradient `d_out` `[C, H, W]` of its samples.
///
/// # Panics
/// If the lengths do not fit the size.
pub fn sample_gradient(planes: &[f32], flow: &[f32], size: Size, outside: Outside, d_out: &[f32], d_flow: &mut [f32]) {
    sample_gradient_within(planes, size, flow, Window::whole(size), outside, d_out, d_flow);
}

/// Adds the gradient of [`sample_within`] with respect to the flow to `d_flow` `[2, h, w]`, for the gradient `d_out` `[C, h, w]` of its
/// samples.
///
/// # Panics
/// If the lengths do not fit the sizes.
pub fn sample_gradient_within(
    planes: &[f32],
    of: Size,
    flow: &[f32],
    window: Window,
    outside: Outside,
    d_out: &[f32],
    d_flow: &mut [f32],
) {
    let size = window.size;
    let (pixels, samples) = (of.height * of.width, size.height * size.width);
    assert_eq!(
        (planes.len() * samples, flow.len()),
        (d_out.len() * pixels, d_flow.len()),
        "planes, flow and their gradients"
    );
    let flow = Flow::within(flow, window, of);
    bands(d_flow, size, BAND).into_par_iter().enumerate().for_each(|(band, rows)| {
        let Ok([du, dv]) = <[&mut [f32]; 2]>::try_from(rows) else { unreachable!("a flow has two planes") };
        let first = band * BAND;
        for i in 0..du.len() {
            let corners = flow.corners(i % size.width, first + i / size.width, outside);
            let at = first * size.width + i;
            for (plane, d_out) in planes.chunks_exact(pixels).zip(d_out.chunks_exact(samples)) {
                let (x, y) = corners.slopes(plane);
                du[i] += d_out[at] * x;
                dv[i] += d_out[at] * y;
            }
        }
    });
}

/// Adds the gradient of [`sample`] with respect to the planes to `d_planes` `[C, H, W]`.
///
/// # Panics
/// If the lengths do not fit the size.
pub fn sample_adjoint(d_out: &[f32], flow: &[f32], size: Size, outside: Outside, d_planes: &mut [f32]) {
    assert_eq!(d_out.len(), d_planes.len(), "samples and planes");
    let flow = Flow::new(flow, size);
    let pixels = (size.height * size.width).max(1);
    (d_planes.par_chunks_exact_mut(pixels), d_out.par_chunks_exact(pixels)).into_par_iter().for_each(
        |(d_plane, d_out)| {
            for (i, &d) in d_out.iter().enumerate() {
                flow.corners(i % size.width, i / size.width, outside).add(d_plane, d);
            }
        },
    );
}

#[cfg(test)]
mod tests;
