//! The photometric loss: colours that differ.

use ferroflow_core::sampling::bands;
use rayon::prelude::*;

use super::{
    Distance,
    direction::{BAND, Direction, SHARE, Slopes},
};

/// `weight` times the mean, over pixels that count, of the distances of all three colours; adds to `slopes`.
pub(super) fn photometric(view: &Direction, distance: Distance, weight: f64, slopes: &mut Slopes) -> f64 {
    let pixels = view.pixels();
    let counted = view.mask_sum() + 1e-16;
    let scale = weight * SHARE / counted;
    // The distance at each pixel, where the mask wants it.
    let mut costs = vec![0.0; slopes.mask.len()];
    let sums: Vec<f64> = bands(&mut slopes.warped, view.size, BAND)
        .into_par_iter()
        .zip(bands(&mut costs, view.size, BAND))
        .enumerate()
        .map(|(band, (mut d_warped, mut costs))| {
            let first = band * BAND * view.size.width;
            let mut sum = 0.0;
            for (plane, d_warped) in d_warped.iter_mut().enumerate() {
                let part = |of, plane| part(of, plane * pixels + first, d_warped.len());
                let (frame, warped, mask) =
                    (part(view.frames, plane), part(&view.warped, plane), part(&view.mask, plane / 3));
                for (i, d) in d_warped.iter_mut().enumerate() {
                    let (cost, slope) = distance.of(frame[i] - warped[i]);
                    sum += f64::from(mask[i] * cost);
                    *d -= scale as f32 * mask[i] * slope;
                    if let Some(costs) = costs.get_mut(plane / 3) {
                        costs[i] += cost;
                    }
                }
            }
            sum
        })
        .collect();
    let total: f64 = sums.iter().sum();
    // (Whether slopes of the mask are wanted is the same on all ranks.)
    let mean = if slopes.mask.is_empty() { 0.0 } else { view.of_all_ranks(total) / counted };
    for (d, cost) in slopes.mask.iter_mut().zip(costs) {
        *d += (scale * (f64::from(cost) - mean)) as f32;
    }
    scale * total
}

fn part(values: &[f32], from: usize, count: usize) -> &[f32] {
    &values[from..from + count]
}
