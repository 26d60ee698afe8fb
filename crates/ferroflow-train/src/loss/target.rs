//! Brings the truth to the size and unit of a level.

use std::borrow::Cow;

use ferroflow_core::Size;
use ferroflow_net::{PyramidUnit, graph::Shape, training::Values};
use rayon::prelude::*;

use super::LossError;

/// The true flow of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// `[N, 2, H, W]`, u then v, in pixels of the frames; 0 where unknown.
    pub flow: Values,
    /// `[N, H, W]`, true where the flow is known.
    pub known: Vec<bool>,
}

/// How the truth is made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Mean of the known pixels of each block (average pooling, NVIDIA, LightFlow, ClementPinard).
    Area,
    /// Caffe's `Downsample`: a triangle filter as wide as the ratio of sizes, with corner pixels on corner pixels. A pixel is unknown
    /// if most of its weight falls on unknown pixels.
    Triangle,
    /// The top left pixel of each block (tfoptflow: TensorFlow's asymmetric bilinear resize by a whole factor).
    TopLeft,
    /// The sum of the largest positive and the largest negative value of each block (LightFlow, sparse truth). Unknown pixels are 0
    /// and count too.
    Extremes,
}

/// The truth at the size and in the unit of a level.
#[derive(Clone, Debug, PartialEq)]
pub struct Target<'a> {
    /// Shape of `flow`.
    pub shape: Shape,
    /// `[N, 2, h, w]`, in the level's unit.
    pub flow: Cow<'a, [f32]>,
    /// `[N, h, w]`
    pub known: Cow<'a, [bool]>,
    /// Factor from lengths at this level to pixels of the frames.
    pub unit: f32,
}

impl Truth {
    /// The truth from flow in pixels, `[N, 2, H, W]`, and where it is known, `[N, H, W]`. Flow that is not finite counts as unknown.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn new(mut flow: Values, mut known: Vec<bool>) -> Self {
        let [n, _, h, w] = flow.shape;
        assert_eq!((n * h * w, 2 * n * h * w), (known.len(), flow.data.len()), "a batch of flows and their masks");
        for (known, flow) in known.chunks_exact_mut(h * w).zip(flow.data.chunks_exact_mut(2 * h * w)) {
            let (u, v) = flow.split_at_mut(h * w);
            for ((known, u), v) in known.iter_mut().zip(u).zip(v) {
                *known &= u.is_finite() && v.is_finite();
                if !*known {
                    (*u, *v) = (0.0, 0.0);
                }
            }
        }
        Self { flow, known }
    }

    /// The truth without flow of this length or longer, which counts as unknown.
    pub(super) fn shorter_than(&self, longest: f32) -> Cow<'_, Self> {
        let [_, _, h, w] = self.flow.shape;
        let long = |u: f32, v: f32| u.hypot(v) >= longest;
        let each = self.flow.data.chunks_exact(2 * h * w).map(|flow| flow.split_at(h * w));
        let is_long: Vec<bool> = each.flat_map(|(u, v)| u.iter().zip(v).map(|(&u, &v)| long(u, v))).collect();
        if !is_long.contains(&true) {
            return Cow::Borrowed(self);
        }
        let known = self.known.iter().zip(is_long).map(|(&known, long)| known && !long).collect();
        Cow::Owned(Self { flow: self.flow.clone(), known })
    }

    /// The truth of a level of `size`.
    ///
    /// # Errors
    /// If that size does not divide the truth's.
    pub fn at(&self, size: Size, how: Reduction, unit: PyramidUnit) -> Result<Target<'_>, LossError> {
        let [n, _, height, width] = self.flow.shape;
        let Size { height: h, width: w } = size;
        if h == 0 || w == 0 || height % h != 0 || width % w != 0 {
            return Err(LossError::Size { level: [n, h, w], truth: [n, height, width] });
        }
        let (unit, swapped) = match unit {
            PyramidUnit::Pixels(pixels) => (pixels, false),
            PyramidUnit::LevelPixels { row_first } => ((height / h) as f32, row_first),
        };
        if [h, w] == [height, width] && unit == 1.0 && !swapped {
            let (flow, known) = (Cow::Borrowed(&self.flow.data[..]), Cow::Borrowed(&self.known[..]));
            return Ok(Target { shape: self.flow.shape, flow, known, unit });
        }
        let (mut flow, mut known) = (vec![0.0; n * 2 * h * w], vec![false; n * h * w]);
        let from = Size { height, width };
        (
            flow.par_chunks_exact_mut(2 * h * w),
            known.par_chunks_exact_mut(h * w),
            self.flow.data.par_chunks_exact(2 * height * width),
            self.known.par_chunks_exact(height * width),
        )
            .into_par_iter()
            .for_each(|(flow, known, true_flow, true_known)| {
                let (first, second) = flow.split_at_mut(h * w);
                let (u, v) = if swapped { (second, first) } else { (first, second) };
                reduce(how, from, size, true_flow, true_known, u, v, known);
                u.iter_mut().chain(v).for_each(|value| *value /= unit);
            });
        Ok(Target { shape: [n, 2, h, w], flow: flow.into(), known: known.into(), unit })
    }
}

/// One image: `flow` `[2, H, W]` to `u` and `v` `[h, w]`.
fn reduce(
    how: Reduction,
    from: Size,
    to: Size,
    flow: &[f32],
    known: &[bool],
    u: &mut [f32],
    v: &mut [f32],
    reduced: &mut [bool],
) {
    let (rows, columns) = (from.height / to.height, from.width / to.width);
    let (true_u, true_v) = flow.split_at(from.height * from.width);
    if how == Reduction::Triangle {
        return triangle(from, to, [true_u, true_v], known, u, v, reduced);
    }
    for (y, x) in (0..to.height).flat_map(|y| (0..to.width).map(move |x| (y, x))) {
        let at = y * to.width + x;
        let corner = y * rows * from.width + x * columns;
        let block = || (0..rows).flat_map(move |r| (0..columns).map(move |c| corner + r * from.width + c));
        (u[at], v[at], reduced[at]) = match how {
            Reduction::TopLeft => (true_u[corner], true_v[corner], known[corner]),
            Reduction::Area | Reduction::Triangle => {
                let (mut sum_u, mut sum_v, mut count) = (0.0f64, 0.0f64, 0);
                for i in block().filter(|&i| known[i]) {
                    sum_u += f64::from(true_u[i]);
                    sum_v += f64::from(true_v[i]);
                    count += 1;
                }
                let mean = |sum: f64| if count > 0 { (sum / f64::from(count)) as f32 } else { 0.0 };
                (mean(sum_u), mean(sum_v), count > 0)
            }
            Reduction::Extremes => {
                let extremes = |plane: &[f32]| {
                    let (low, high) =
                        block().fold((0.0f32, 0.0f32), |(low, high), i| (low.min(plane[i]), high.max(plane[i])));
                    low + high
                };
                (extremes(true_u), extremes(true_v), true)
            }
        };
    }
}

fn triangle(
    from: Size,
    to: Size,
    [true_u, true_v]: [&[f32]; 2],
    known: &[bool],
    u: &mut [f32],
    v: &mut [f32],
    reduced: &mut [bool],
) {
    let rows: Vec<_> = (0..to.height).map(|y| taps(from.height, to.height, y)).collect();
    let columns: Vec<_> = (0..to.width).map(|x| taps(from.width, to.width, x)).collect();
    for (at, (rows, columns)) in rows.iter().flat_map(|r| columns.iter().map(move |c| (r, c))).enumerate() {
        let (mut sum_u, mut sum_v, mut sum, mut unknown) = (0.0, 0.0, 0.0, 0.0);
        for &(row, a) in rows {
            for &(column, b) in columns {
                let (i, weight) = (row * from.width + column, a * b);
                if known[i] {
                    sum_u += weight * f64::from(true_u[i]);
                    sum_v += weight * f64::from(true_v[i]);
                    sum += weight;
                } else {
                    unknown += weight;
                }
            }
        }
        // As in Caffe, the share is taken of the weight that is known.
        if sum > 0.0 && unknown / sum <= 0.5 {
            (u[at], v[at], reduced[at]) = ((sum_u / sum) as f32, (sum_v / sum) as f32, true);
        }
    }
}

/// The inputs under the triangle of output `at` along one axis, and their weights.
fn taps(inputs: usize, outputs: usize, at: usize) -> Vec<(usize, f64)> {
    // With one output the ratio has no meaning; all inputs lie under one triangle from the first.
    let scale = ((inputs - 1) as f64 / (outputs.max(2) - 1) as f64).max(1.0);
    let centre = at as f64 * scale;
    let (nearest, radius) = (centre.round() as usize, scale.ceil() as usize);
    (nearest.saturating_sub(radius)..=(nearest + radius).min(inputs - 1))
        .map(|i| (i, (1.0 - (i as f64 - centre).abs() / scale).max(0.0)))
        .filter(|&(_, weight)| weight > 0.0)
        .collect()
}
