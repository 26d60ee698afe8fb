//! The structural dissimilarity of windows of 3x3 pixels, each pixel by its mask (Gordon et al., ICCV 2019).

use ferroflow_core::{Size, sampling::bands};
use rayon::prelude::*;

use super::direction::{Direction, SHARE, Slopes, sum};

/// The side of a window.
const SIDE: usize = 3;
/// What a pixel weighs that does not count.
const LEAST: f32 = 0.01;
/// Keeps the similarity of windows without structure finite.
const C2: f32 = 9e-6;
const TAPS: f32 = (SIDE * SIDE) as f32;

/// `weight` times the mean dissimilarity of all three colours, over windows by the mean of their mask; adds to `slopes`.
pub(super) fn ssim(view: &Direction, weight: f64, slopes: &mut Slopes) -> f64 {
    let (size, pixels) = (view.size, view.pixels());
    if size.height < SIDE || size.width < SIDE {
        return 0.0;
    }
    let windows = Size { height: size.height + 1 - SIDE, width: size.width + 1 - SIDE };
    let shares: Vec<Vec<f32>> = (0..view.pairs()).map(|n| mean3(view.item(&view.mask, n), size, windows)).collect();
    let counted = view.of_all_ranks(shares.iter().map(|share| sum(share)).sum()) + 1e-16;
    let scale = weight * SHARE / counted;
    let mut total = 0.0;
    let mut errors = Vec::new();
    for (n, share) in shares.iter().enumerate() {
        let item = Item {
            size,
            windows,
            frame: view.item(view.frames, n),
            warped: view.item(&view.warped, n),
            weights: &view.item(&view.mask, n).iter().map(|m| m + LEAST).collect::<Vec<_>>(),
            share,
        };
        let found = item.compare(scale as f32);
        let d_mask = if slopes.mask.is_empty() { &mut [][..] } else { &mut slopes.mask[n * pixels..][..pixels] };
        item.gradient(&found.planes, &mut slopes.warped[n * 3 * pixels..][..3 * pixels], d_mask);
        total += found.sum;
        errors.push(found.errors);
    }
    // The mask also decides how much each window counts.
    let mean = if slopes.mask.is_empty() { 0.0 } else { view.of_all_ranks(total) / counted };
    for (d_mask, errors) in slopes.mask.chunks_exact_mut(pixels).zip(errors) {
        for (y, errors) in errors.chunks_exact(windows.width).enumerate() {
            for (x, error) in errors.iter().enumerate() {
                let d = (scale * (f64::from(*error) - mean)) as f32 / TAPS;
                for row in 0..SIDE {
                    d_mask[(y + row) * size.width + x..][..SIDE].iter_mut().for_each(|m| *m += d);
                }
            }
        }
    }
    scale * total
}

/// Means of windows.
fn mean3(plane: &[f32], size: Size, windows: Size) -> Vec<f32> {
    let mut means = vec![0.0; windows.height * windows.width];
    means.par_chunks_exact_mut(windows.width).enumerate().for_each(|(y, means)| {
        for (row, column) in taps() {
            let line = &plane[(y + row) * size.width + column..][..windows.width];
            means.iter_mut().zip(line).for_each(|(mean, value)| *mean += value / TAPS);
        }
    });
    means
}

fn taps() -> impl Iterator<Item = (usize, usize)> {
    (0..SIDE * SIDE).map(|tap| (tap / SIDE, tap % SIDE))
}

/// One pair of the batch.
struct Item<'a> {
    size: Size,
    windows: Size,
    frame: &'a [f32],
    warped: &'a [f32],
    weights: &'a [f32],
    /// The mean mask of each window.
    share: &'a [f32],
}

struct Found {
    /// Of the errors of all colours, each by its share.
    sum: f64,
    /// Of all colours, in each window.
    errors: Vec<f32>,
    /// For each colour five planes of windows: the mean of the warped frame, and of the frame; what the loss gains with each of the
    /// variances, and with the covariance, by the window's weight; and what it gains with these as the weight rises.
    planes: Vec<f32>,
}

const PLANES: usize = 5;

/// Sums over the pixels of the windows of one row.
struct Moments {
    weight: Vec<f32>,
    xx: Vec<f32>,
    yy: Vec<f32>,
    xy: Vec<f32>,
}

impl Item<'_> {
    /// A row of a colour of the warped frame and of the frame.
    fn rows(&self, colour: usize, y: usize) -> [&[f32]; 2] {
        let from = (colour * self.size.height + y) * self.size.width;
        [self.warped, self.frame].map(|plane| &plane[from..from + self.size.width])
    }

    fn compare(&self, scale: f32) -> Found {
        let across = self.windows.width;
        let mut planes = vec![0.0; 3 * PLANES * self.windows.height * across];
        let mut errors = vec![0.0; self.windows.height * across];
        let rows = bands(&mut planes, self.windows, 1).into_par_iter().zip(errors.par_chunks_exact_mut(across));
        let sums: Vec<f64> = rows
            .enumerate()
            .map(|(y, (mut planes, errors))| {
                let mut weight = vec![0.0; across];
                for (row, column) in taps() {
                    let weights = &self.weights[(y + row) * self.size.width + column..];
                    weight.iter_mut().zip(weights).for_each(|(sum, w)| *sum += w);
                }
                let mut moments =
                    Moments { weight, xx: vec![0.0; across], yy: vec![0.0; across], xy: vec![0.0; across] };
                let mut sum = 0.0;
                for (colour, planes) in planes.chunks_exact_mut(PLANES).enumerate() {
                    let [mx, my, gains @ ..] = planes else { unreachable!("five planes") };
                    self.moments(colour, y, &mut moments, mx, my);
                    sum += self.errors(y, &moments, scale, errors, gains);
                }
                sum
            })
            .collect();
        Found { sum: sums.iter().sum(), errors, planes }
    }

    /// The means of the windows of row `y`, and their moments about these.
    fn moments(&self, colour: usize, y: usize, moments: &mut Moments, mx: &mut [f32], my: &mut [f32]) {
        let across = self.windows.width;
        let Moments { weight, xx, yy, xy } = moments;
        let part = |(row, column): (usize, usize)| {
            let [warped, frame] = self.rows(colour, y + row).map(|line| &line[column..column + across]);
            (warped, frame, &self.weights[(y + row) * self.size.width + column..][..across])
        };
        for (x, y, w) in taps().map(part) {
            for i in 0..across {
                mx[i] += w[i] * x[i];
                my[i] += w[i] * y[i];
            }
        }
        for i in 0..across {
            mx[i] /= weight[i];
            my[i] /= weight[i];
        }
        for sums in [&mut *xx, &mut *yy, &mut *xy] {
            sums.fill(0.0);
        }
        for (x, y, w) in taps().map(part) {
            for i in 0..across {
                let (dx, dy) = (x[i] - mx[i], y[i] - my[i]);
                xx[i] += w[i] * dx * dx;
                yy[i] += w[i] * dy * dy;
                xy[i] += w[i] * dx * dy;
            }
        }
    }

    /// Adds the errors of a colour to those of the others; their sum by the share of each window.
    fn errors(&self, y: usize, moments: &Moments, scale: f32, errors: &mut [f32], gains: &mut [&mut [f32]]) -> f64 {
        let [variance, covariance, own] = gains else { unreachable!("five planes") };
        let share = &self.share[y * self.windows.width..][..self.windows.width];
        let mut sum = 0.0;
        for i in 0..share.len() {
            let per = 1.0 / moments.weight[i];
            let (variances, sxy) = ((moments.xx[i] + moments.yy[i]) * per, moments.xy[i] * per);
            let (n, d) = (2.0 * sxy + C2, variances + C2);
            let error = 0.5 * (1.0 - n / d);
            let inside = (0.0..=1.0).contains(&error);
            let error = error.clamp(0.0, 1.0);
            errors[i] += error;
            sum += f64::from(error * share[i]);
            // Of the loss with respect to the similarity n / d.
            let slope = if inside { -0.5 * scale * share[i] } else { 0.0 };
            let (by_variance, by_covariance) = (-slope * n / (d * d), 2.0 * slope / d);
            variance[i] = by_variance * per;
            covariance[i] = by_covariance * per;
            own[i] = (by_variance * variances + by_covariance * sxy) * per;
        }
        sum
    }

    /// From the planes of windows back to their pixels.
    fn gradient(&self, planes: &[f32], d_warped: &mut [f32], d_mask: &mut [f32]) {
        let (count, across) = (self.windows.height * self.windows.width, self.windows.width);
        let rows = bands(d_warped, self.size, 1).into_par_iter().zip(bands(d_mask, self.size, 1));
        rows.enumerate().for_each(|(y, (mut d_warped, mut d_mask))| {
            let mut slope = vec![0.0; self.size.width];
            for (colour, d_warped) in d_warped.iter_mut().enumerate() {
                slope.fill(0.0);
                for (row, column) in taps() {
                    let Some(window) = y.checked_sub(row).filter(|&w| w < self.windows.height) else { continue };
                    let part = |plane: usize| &planes[(colour * PLANES + plane) * count + window * across..][..across];
                    let [mx, my, variance, covariance, own] = [0, 1, 2, 3, 4].map(part);
                    let [x, frame] = self.rows(colour, y).map(|line| &line[column..column + across]);
                    for (i, slope) in slope[column..column + across].iter_mut().enumerate() {
                        *slope += 2.0 * variance[i] * (x[i] - mx[i]) + covariance[i] * (frame[i] - my[i]);
                    }
                    if let Some(d_mask) = d_mask.first_mut() {
                        for (i, d) in d_mask[column..column + across].iter_mut().enumerate() {
                            let (dx, dy) = (x[i] - mx[i], frame[i] - my[i]);
                            *d += variance[i] * (dx * dx + dy * dy) + covariance[i] * dx * dy - own[i];
                        }
                    }
                }
                let weights = &self.weights[y * self.size.width..];
                d_warped.iter_mut().zip(&slope).zip(weights).for_each(|((d, slope), weight)| *d += weight * slope);
            }
        });
    }
}
