//! The supervised loss of UFlow's code, for comparison: the flow at the size of the frames against the truth.

use ferroflow_core::{
    Size,
    sampling::{Window, resize, resize_adjoint},
};
use ferroflow_net::{PyramidUnit, training::Values};
use rayon::prelude::*;

use super::{
    Terms, UnsupervisedError, check_finite, distance::robust_l1, levels::Levels, options::UnsupervisedOptions,
};
use crate::loss::Truth;

/// `weight` times the mean over known pixels of `robust_l1(du) + robust_l1(dv)`, in pixels. `flows` are the network's, finest first,
/// of N pairs, or of N pairs forward and then backward, of which only the forward flow counts, for frames of `size`; where the truth
/// is of another size, the flow is resized to it.
///
/// # Errors
/// If the flows do not fit the frames, or the options make no sense.
pub fn supervised(
    options: &UnsupervisedOptions,
    weight: f64,
    flows: &[Values],
    unit: PyramidUnit,
    size: Size,
    truth: &Truth,
) -> Result<Terms, UnsupervisedError> {
    options.check()?;
    let finest = flows.first().ok_or(UnsupervisedError::NoFlow)?;
    let grid = options.resize_grid.into();
    let mut levels = Levels::new(finest, unit, size, grid)?;
    let [pairs, _, height, width] = truth.flow.shape;
    if ![pairs, 2 * pairs].contains(&levels.items) {
        return Err(UnsupervisedError::Batch { flows: levels.items, pairs });
    }
    let of = Size { height, width };
    let known = truth.known.iter().filter(|known| **known).count() as f64 + 1e-16;
    let scale = weight / known;
    let level = levels.level_mut(0);
    let (from, pixels, true_pixels) = (level.size, level.size.height * level.size.width, height * width);
    let planes = level.gradient.par_chunks_exact_mut(pixels).zip(level.flow.par_chunks_exact(pixels));
    let sums: Vec<f64> = planes
        .zip(truth.flow.data.par_chunks_exact(true_pixels))
        .enumerate()
        .map(|(plane, ((d_flow, flow), truth_of))| {
            let ratio =
                if plane % 2 == 0 { width as f32 / from.width as f32 } else { height as f32 / from.height as f32 };
            let mut ours = vec![0.0; true_pixels];
            resize(flow, from, Window::whole(from), of, grid, ratio, &mut ours);
            let mut sum = 0.0;
            let known = &truth.known[plane / 2 * true_pixels..];
            for ((ours, theirs), known) in ours.iter_mut().zip(truth_of).zip(known) {
                let (cost, slope) = if *known { robust_l1(*ours - theirs) } else { (0.0, 0.0) };
                sum += f64::from(cost);
                *ours = scale as f32 * slope;
            }
            resize_adjoint(&ours, from, Window::whole(from), of, grid, ratio, d_flow);
            sum
        })
        .collect();
    let value = check_finite(scale * sums.iter().sum::<f64>(), &[finest]);
    Ok(Terms::new(vec![("supervision", value)], levels.gradient(), flows))
}
