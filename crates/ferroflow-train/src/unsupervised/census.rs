//! The census loss: the order of grey values in a patch, softly (Meister, Hur and Roth, AAAI 2018).
//!
//! The transform of a pixel p and a shift s is `t = d / sqrt(0.81 + d^2)`, with `d = grey(p + s) - grey(p)`; the distance of two
//! transforms is the sum over shifts of `e^2 / (0.1 + e^2)`, with e the difference of the two t. Shift -s at `p + s` says the
//! same as shift s at p, so half of the shifts are computed, each for two pixels.

use std::ops::Range;

use ferroflow_core::{Size, sampling::bands};
use rayon::prelude::*;

use super::{
    Distance,
    direction::{BAND, Direction, SHARE, Slopes, sum},
};

/// From RGB of 0 to 1 to grey of 0 to 255.
const GREY: [f32; 3] = [0.2989 * 255.0, 0.587 * 255.0, 0.114 * 255.0];
/// Squared grey values below this are no order.
const NO_ORDER: f32 = 0.81;
/// Squared differences of transforms above this are different.
const DIFFERENT: f32 = 0.1;

/// `weight` times the mean distance of the transforms, over pixels that count and have a whole patch; adds to `slopes`.
pub(super) fn census(view: &Direction, patch: usize, distance: Distance, weight: f64, slopes: &mut Slopes) -> f64 {
    let (pixels, radius) = (view.pixels(), patch / 2);
    let inner = |side: usize| radius..side.saturating_sub(radius).max(radius);
    let (rows, columns) = (inner(view.size.height), inner(view.size.width));
    let lines: Vec<f64> = view
        .mask
        .par_chunks_exact(view.size.width)
        .enumerate()
        .map(|(y, mask)| if rows.contains(&(y % view.size.height)) { sum(&mask[columns.clone()]) } else { 0.0 })
        .collect();
    let counted = view.of_all_ranks(lines.iter().sum::<f64>() + 1e-6 * view.mask.len() as f64);
    let scale = weight * SHARE / counted;
    let mut total = 0.0;
    for n in 0..view.pairs() {
        let (first, second) = (grey(view.item(view.frames, n)), grey(view.item(&view.warped, n)));
        let pair = Pair {
            first: &first,
            second: &second,
            size: view.size,
            radius,
            rows: rows.clone(),
            columns: columns.clone(),
        };
        let d_mask = if slopes.mask.is_empty() { &mut [][..] } else { &mut slopes.mask[n * pixels..][..pixels] };
        let (sum, d_distance) = pair.distances(view.item(&view.mask, n), distance, scale as f32, d_mask);
        total += sum;
        pair.gradient(&d_distance, &mut slopes.warped[n * 3 * pixels..][..3 * pixels]);
    }
    scale * total
}

fn grey(rgb: &[f32]) -> Vec<f32> {
    let pixels = rgb.len() / 3;
    let (r, (g, b)) = (&rgb[..pixels], rgb[pixels..].split_at(pixels));
    r.par_iter()
        .zip(g)
        .zip(b)
        .with_min_len(1 << 14)
        .map(|((r, g), b)| GREY[0] * r + GREY[1] * g + GREY[2] * b)
        .collect()
}

/// Two grey images.
struct Pair<'a> {
    first: &'a [f32],
    second: &'a [f32],
    size: Size,
    radius: usize,
    /// Of the pixels with a whole patch.
    rows: Range<usize>,
    columns: Range<usize>,
}

/// Two parts of rows, one a shift away from the other.
struct Shift {
    /// Row and first column of the one.
    at: (usize, usize),
    /// Of the other.
    to: (usize, usize),
    count: usize,
}

impl Pair<'_> {
    /// Half of the shifts of a row, as far as both ends lie in the image.
    fn shifts(&self, y: usize) -> impl Iterator<Item = Shift> {
        let (Size { height, width }, radius) = (self.size, self.radius);
        let below = (y..height.min(y + radius + 1)).flat_map(move |to| (0..=2 * radius).map(move |dx| (to, dx)));
        // To the right in the row itself, both ways in the rows below it.
        below.filter(move |&(to, dx)| to > y || dx > radius).filter_map(move |(to, dx)| {
            let (left, right) = (radius.saturating_sub(dx), dx.saturating_sub(radius));
            let count = width.checked_sub(left.max(right))?;
            (count > 0).then_some(Shift { at: (y, left), to: (to, right), count })
        })
    }

    fn part<'a>(&self, plane: &'a [f32], (y, x): (usize, usize), count: usize) -> &'a [f32] {
        &plane[y * self.size.width + x..][..count]
    }

    /// The sum of the costs of the distances, each by its mask, and `scale` times the derivative of that sum with respect to each
    /// distance; adds `scale` times that with respect to the mask to `d_mask`, unless that is empty.
    fn distances(&self, mask: &[f32], cost: Distance, scale: f32, d_mask: &mut [f32]) -> (f64, Vec<f32>) {
        let width = self.size.width;
        let mut d_distance = vec![0.0; mask.len()];
        let bands = bands(&mut d_distance, self.size, BAND).into_par_iter().zip(bands(d_mask, self.size, BAND));
        let sums: Vec<f64> = bands
            .enumerate()
            .map_init(
                || vec![0.0; width],
                |terms, (band, (mut d_distance, mut d_mask))| {
                    let d_distance = &mut *d_distance[0];
                    let rows = band * BAND..band * BAND + d_distance.len() / width;
                    let owned = rows.start.max(self.rows.start)..rows.end.min(self.rows.end);
                    for y in rows.start.saturating_sub(self.radius)..rows.end {
                        for shift in self.shifts(y) {
                            let ends = [shift.at, shift.to].map(|end| owned.contains(&end.0).then_some(end));
                            if ends == [None; 2] {
                                continue;
                            }
                            let terms = &mut terms[..shift.count];
                            self.terms(&shift, terms);
                            for (y, x) in ends.into_iter().flatten() {
                                let at = (y - rows.start) * width + x;
                                d_distance[at..at + shift.count].iter_mut().zip(&*terms).for_each(|(d, t)| *d += t);
                            }
                        }
                    }
                    let mut sum = 0.0;
                    for y in rows.clone() {
                        let line = (y - rows.start) * width..(y - rows.start + 1) * width;
                        let mask = &mask[y * width..][..width];
                        for (x, distance) in d_distance[line.clone()].iter_mut().enumerate() {
                            if !(self.rows.contains(&y) && self.columns.contains(&x)) {
                                *distance = 0.0;
                                continue;
                            }
                            let (value, slope) = cost.of(*distance);
                            sum += f64::from(value * mask[x]);
                            *distance = scale * slope * mask[x];
                            if let Some(d_mask) = d_mask.first_mut() {
                                d_mask[line.start + x] += scale * value;
                            }
                        }
                    }
                    sum
                },
            )
            .collect();
        (sums.iter().sum(), d_distance)
    }

    /// `e^2 / (0.1 + e^2)`: with A and B the roots of `0.81 + d^2` in the first and the second image, `e = (d A' - d' A) / (A A')`.
    fn terms(&self, shift: &Shift, out: &mut [f32]) {
        let part = |plane, at| self.part(plane, at, shift.count);
        let (from1, to1) = (part(self.first, shift.at), part(self.first, shift.to));
        let (from2, to2) = (part(self.second, shift.at), part(self.second, shift.to));
        let out = &mut out[..shift.count];
        for i in 0..shift.count {
            let (d1, d2) = (to1[i] - from1[i], to2[i] - from2[i]);
            let (s1, s2) = (NO_ORDER + d1 * d1, NO_ORDER + d2 * d2);
            let n = d1 * s2.sqrt() - d2 * s1.sqrt();
            out[i] = n * n / (DIFFERENT * s1 * s2 + n * n);
        }
    }

    /// Adds the gradient with respect to the colours of the second image to `d_colours` `[3, H, W]`.
    fn gradient(&self, d_distance: &[f32], d_colours: &mut [f32]) {
        let width = self.size.width;
        bands(d_colours, self.size, BAND).into_par_iter().enumerate().for_each_init(
            || (vec![0.0; width], vec![0.0; BAND * width]),
            |(slopes, d_grey), (band, mut d_colours)| {
                let d_grey = &mut d_grey[..d_colours[0].len()];
                d_grey.fill(0.0);
                let owned = band * BAND..band * BAND + d_grey.len() / width;
                for y in owned.start.saturating_sub(self.radius)..owned.end {
                    for shift in self.shifts(y) {
                        // One end has a distance that counts, and one is ours.
                        let rows = [shift.at.0, shift.to.0];
                        if !rows.iter().any(|y| self.rows.contains(y)) || !rows.iter().any(|y| owned.contains(y)) {
                            continue;
                        }
                        let slopes = &mut slopes[..shift.count];
                        self.slopes(&shift, d_distance, slopes);
                        for ((y, x), sign) in [(shift.at, 1.0), (shift.to, -1.0)] {
                            if owned.contains(&y) {
                                let at = (y - owned.start) * width + x;
                                d_grey[at..at + shift.count].iter_mut().zip(&*slopes).for_each(|(d, s)| *d += sign * s);
                            }
                        }
                    }
                }
                for (d_colour, grey) in d_colours.iter_mut().zip(GREY) {
                    d_colour.iter_mut().zip(&*d_grey).for_each(|(d, g)| *d += grey * g);
                }
            },
        );
    }

    /// Of the loss with respect to the second image's grey value at the beginning of a shift; at its end it is the opposite.
    fn slopes(&self, shift: &Shift, d_distance: &[f32], out: &mut [f32]) {
        let part = |plane, at| self.part(plane, at, shift.count);
        let (from1, to1) = (part(self.first, shift.at), part(self.first, shift.to));
        let (from2, to2) = (part(self.second, shift.at), part(self.second, shift.to));
        let (d_from, d_to) = (part(d_distance, shift.at), part(d_distance, shift.to));
        let out = &mut out[..shift.count];
        for i in 0..shift.count {
            let (d1, d2) = (to1[i] - from1[i], to2[i] - from2[i]);
            let (s1, s2) = (NO_ORDER + d1 * d1, NO_ORDER + d2 * d2);
            let root1 = s1.sqrt();
            let n = d1 * s2.sqrt() - d2 * root1;
            let below = DIFFERENT * s1 * s2 + n * n;
            // The term's slope in e, 0.2 e / (0.1 + e^2)^2, times that of t in the grey value, 0.81 / s2^(3/2).
            out[i] = (d_from[i] + d_to[i]) * (2.0 * DIFFERENT * NO_ORDER) * n * root1 * s1 / (below * below);
        }
    }
}
