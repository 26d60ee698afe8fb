//! Flow that is smooth where the frame is.

use ferroflow_core::{
    Size,
    geometry::Grid,
    sampling::{Window, resize},
};
use rayon::prelude::*;

use super::{
    direction::SHARE,
    distance::robust_l1,
    levels::Level,
    options::{EdgeWeighting, UnsupervisedOptions},
};

/// Frames `[N, 3, H, W]` brought to one of `sizes` after the other.
pub(super) fn frames_at(frames: &[f32], size: Size, sizes: &[Size], grid: Grid) -> Vec<f32> {
    let mut now = (frames.to_vec(), size);
    for &to in sizes {
        let (from, of) = &now;
        let mut out = vec![0.0; from.len() / (of.height * of.width) * to.height * to.width];
        let planes = out.par_chunks_exact_mut(to.height * to.width).zip(from.par_chunks_exact(of.height * of.width));
        planes.for_each(|(out, plane)| resize(plane, *of, Window::whole(*of), to, grid, 1.0, out));
        now = (out, to);
    }
    now.0
}

/// `weight` times the mean size of the flow's derivatives of this `order`, 1 or 2, less where the frame that it starts in changes;
/// `frames` are of the level's size, and the first `items` flows of the level count, to whose gradient it adds.
pub(super) fn smoothness(
    order: usize,
    frames: [&[f32]; 2],
    level: &mut Level,
    items: usize,
    weight: f64,
    options: &UnsupervisedOptions,
) -> f64 {
    let Size { height, width } = level.size;
    let pixels = height * width;
    let pairs = frames[0].len() / (3 * pixels);
    let along_rows = Axis { step: 1, rows: height, columns: width.saturating_sub(order) };
    let down = Axis { step: width, rows: height.saturating_sub(order), columns: width };
    let scale = |axis: &Axis| {
        let values = pairs * 2 * axis.rows * axis.columns;
        if values == 0 { 0.0 } else { weight * 0.5 * SHARE / values as f64 }
    };
    let constant = options.smoothness_edge_constant as f32;
    let Level { flow, gradient, .. } = level;
    let flows = flow.par_chunks_exact(2 * pixels).zip(gradient.par_chunks_exact_mut(2 * pixels));
    let sums: Vec<f64> = flows
        .take(items)
        .enumerate()
        .map(|(n, (flow, d_flow))| {
            let frame = &frames[n / pairs][n % pairs * 3 * pixels..][..3 * pixels];
            let axis = |axis: &Axis, d_flow: &mut [f32]| {
                let scale = scale(axis);
                let along = Along { axis, order, width, pixels, scale: scale as f32 };
                scale
                    * match options.smoothness_edge_weighting {
                        EdgeWeighting::Exponential => {
                            along.image(frame, flow, d_flow, |change| (constant * change).abs())
                        }
                        EdgeWeighting::Gaussian => {
                            along.image(frame, flow, d_flow, |change| (constant * change).powi(2))
                        }
                    }
            };
            axis(&along_rows, d_flow) + axis(&down, d_flow)
        })
        .collect();
    sums.iter().sum()
}

/// A direction of derivatives.
struct Axis {
    /// From a pixel to the next.
    step: usize,
    /// Where there is a derivative.
    rows: usize,
    columns: usize,
}

struct Along<'a> {
    axis: &'a Axis,
    order: usize,
    width: usize,
    pixels: usize,
    scale: f32,
}

impl Along<'_> {
    /// The sum over one image; adds `scale` times its gradient.
    fn image(&self, frame: &[f32], flow: &[f32], d_flow: &mut [f32], size: impl Fn(f32) -> f32) -> f64 {
        let Self { axis, order, width, pixels, scale } = *self;
        let mut sum = 0.0;
        for y in 0..axis.rows {
            for i in y * width..y * width + axis.columns {
                let change = |colour: usize| {
                    let at = colour * pixels + i;
                    size(frame[at + order * axis.step] - frame[at])
                };
                let smooth = (-(change(0) + change(1) + change(2)) / 3.0).exp();
                for at in [i, pixels + i] {
                    let next = at + axis.step;
                    if order == 1 {
                        let (value, slope) = robust_l1(flow[next] - flow[at]);
                        sum += f64::from(smooth * value);
                        let d = scale * smooth * slope;
                        d_flow[next] += d;
                        d_flow[at] -= d;
                    } else {
                        let last = next + axis.step;
                        let (value, slope) = robust_l1(flow[last] - 2.0 * flow[next] + flow[at]);
                        sum += f64::from(smooth * value);
                        let d = scale * smooth * slope;
                        d_flow[last] += d;
                        d_flow[next] -= 2.0 * d;
                        d_flow[at] += d;
                    }
                }
            }
        }
        sum
    }
}
