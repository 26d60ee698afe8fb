//! Resizing a part of a plane, and the gradient.

use rayon::prelude::*;

use crate::{
    Size,
    geometry::{
        Grid,
        resize::{Tap, taps},
    },
};

/// A rectangular part of a plane, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Its size.
    pub size: Size,
}

impl Window {
    /// The window that covers a whole plane.
    pub fn whole(size: Size) -> Self {
        Self { left: 0, top: 0, size }
    }

    fn check(&self, plane: usize, of: Size, resized: usize, to: Size) {
        assert_eq!((plane, resized), (of.height * of.width, to.height * to.width), "a plane of {of}, resized to {to}");
        let fits = self.left + self.size.width <= of.width && self.top + self.size.height <= of.height;
        assert!(fits && self.size.height * self.size.width > 0, "{self:?} is no part of a plane of {of}");
    }

    fn rows(&self, grid: Grid, to: Size) -> Vec<Tap> {
        shifted(taps(grid, self.size.height, to.height), self.top)
    }

    fn columns(&self, grid: Grid, to: Size) -> Vec<Tap> {
        shifted(taps(grid, self.size.width, to.width), self.left)
    }
}

fn shifted(mut taps: Vec<Tap>, by: usize) -> Vec<Tap> {
    for tap in &mut taps {
        tap.low += by;
        tap.high += by;
    }
    taps
}

/// Resizes the `window` of a plane `[H, W]` to `out` of size `to` and multiplies it by `scale`. It is bilinear, without
/// smoothing when it shrinks.
///
/// # Panics
/// If the lengths do not fit the sizes, or the window is empty or reaches beyond the plane.
pub fn resize(plane: &[f32], of: Size, window: Window, to: Size, grid: Grid, scale: f32, out: &mut [f32]) {
    window.check(plane.len(), of, out.len(), to);
    if out.is_empty() {
        return;
    }
    let (rows, columns) = (window.rows(grid, to), window.columns(grid, to));
    out.par_chunks_exact_mut(to.width).zip(rows).with_min_len(16).for_each_init(
        || vec![0.0; of.width],
        |mixed, (out, row)| {
            let line = |y: usize| &plane[y * of.width..][..of.width];
            for ((mixed, above), below) in mixed.iter_mut().zip(line(row.low)).zip(line(row.high)) {
                *mixed = scale * (above + (below - above) * row.weight);
            }
            for (out, tap) in out.iter_mut().zip(&columns) {
                let (left, right) = (mixed[tap.low], mixed[tap.high]);
                *out = left + (right - left) * tap.weight;
            }
        },
    );
}

/// Adds the gradient of [`resize`] with respect to its plane to `d_plane`, for the gradient `d_out` of its result.
///
/// # Panics
/// As [`resize`].
pub fn resize_adjoint(d_out: &[f32], of: Size, window: Window, to: Size, grid: Grid, scale: f32, d_plane: &mut [f32]) {
    window.check(d_plane.len(), of, d_out.len(), to);
    if d_out.is_empty() {
        return;
    }
    let (rows, columns) = (window.rows(grid, to), window.columns(grid, to));
    let mut mixed = vec![0.0; of.width];
    for (d_out, row) in d_out.chunks_exact(to.width).zip(rows) {
        mixed.fill(0.0);
        for (d, tap) in d_out.iter().zip(&columns) {
            mixed[tap.low] += d * (1.0 - tap.weight);
            mixed[tap.high] += d * tap.weight;
        }
        for (y, weight) in [(row.low, 1.0 - row.weight), (row.high, row.weight)] {
            for (d_plane, mixed) in d_plane[y * of.width..][..of.width].iter_mut().zip(&mixed) {
                *d_plane += scale * weight * mixed;
            }
        }
    }
}
