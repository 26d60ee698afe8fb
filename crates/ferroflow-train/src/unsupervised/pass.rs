//! The losses of a pass over whole frames: what each of them counts, and what it reads.

use std::ops::Range;

use ferroflow_core::Size;
use ferroflow_net::{PyramidUnit, training::Values};
use rayon::prelude::*;

use super::{
    Terms, UnsupervisedError,
    census::census,
    check_finite,
    direction::{Direction, valid},
    expect,
    levels::Levels,
    options::{OcclusionEstimation, UnsupervisedOptions},
    photometric::photometric,
    smoothness::{frames_at, smoothness},
    ssim::ssim,
};
use crate::loss::add_term;

/// What [`photometric_terms`] judges.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// Size of the frames.
    pub size: Size,
    /// The first and the second frames of N pairs, `[N, 3, H, W]` each, RGB 0..=255, as they were before colours were augmented.
    pub frames: [&'a [f32]; 2],
    /// The network's flows, finest first: `[2N, 2, H/k, W/k]`, of all pairs forward, then of all backward. Only the finest counts.
    pub flows: &'a [Values],
    /// The unit of the flows.
    pub unit: PyramidUnit,
    /// Where the first frames show what the second ones do not, `[N, H, W]`, 1 where occluded; for `use_gt_occlusions`.
    pub occlusion: Option<&'a [f32]>,
}

/// The losses that compare the frames with each other along the flow, and smoothness: `photo`, `ssim`, `census`, `smooth1`, `smooth2`.
/// `step` counts from 0.
///
/// # Errors
/// If the flows, the frames and the mask do not fit each other, or the options make no sense.
pub fn photometric_terms(
    options: &UnsupervisedOptions,
    step: u64,
    pass: &Pass<'_>,
) -> Result<Terms, UnsupervisedError> {
    options.check()?;
    let finest = pass.flows.first().ok_or(UnsupervisedError::NoFlow)?;
    let mut levels = Levels::new(finest, pass.unit, pass.size, options.resize_grid.into())?;
    let pairs = levels.items / 2;
    if levels.items != 2 * pairs {
        return Err(UnsupervisedError::Batch { flows: levels.items, pairs });
    }
    let pixels = pairs * pass.size.height * pass.size.width;
    for frames in pass.frames {
        expect("a batch of frames", 3 * pixels, frames.len())?;
    }
    let truly_occluded = if options.use_gt_occlusions {
        let needs = UnsupervisedError::Option { what: "use_gt_occlusions needs data with occlusion masks" };
        Some(pass.occlusion.ok_or(needs)?)
    } else {
        None
    };
    if let Some(mask) = truly_occluded {
        expect("the occlusion mask", pixels, mask.len())?;
    }
    let directions = if options.only_forward || truly_occluded.is_some() { 1 } else { 2 };
    let frames = pass.frames.map(|frames| {
        let unit: Vec<f32> = frames.par_iter().with_min_len(1 << 14).map(|v| v * (1.0 / 255.0)).collect();
        unit
    });
    let on = UnsupervisedOptions::on;

    let mut terms = Vec::new();
    if [options.weight_photo, options.weight_ssim, options.weight_census].into_iter().any(on) {
        let comparison = Comparison { options, step, pairs, frames: &frames, truly_occluded };
        for direction in 0..directions {
            comparison.judge(&mut levels, direction, &mut terms);
        }
    }
    if [options.weight_smooth1, options.weight_smooth2].into_iter().any(on) {
        let at = options.smoothness_at_level;
        let sizes: Vec<Size> = (1..=at).map(|level| levels.level(level).size).collect();
        let small = frames.each_ref().map(|frames| frames_at(frames, pass.size, &sizes, options.resize_grid.into()));
        let small = small.each_ref().map(|frames| &frames[..]);
        for (order, name, weight) in [(1, "smooth1", options.weight_smooth1), (2, "smooth2", options.weight_smooth2)] {
            if on(weight) {
                let items = directions * pairs;
                add_term(&mut terms, name, smoothness(order, small, levels.level_mut(at), items, weight, options));
            }
        }
    }
    if let Some((_, value)) = terms.first_mut() {
        *value = check_finite(*value, &[finest]);
    }
    Ok(Terms::new(terms, levels.gradient(), pass.flows))
}

/// Frames compared along the flow of level 0.
struct Comparison<'a> {
    options: &'a UnsupervisedOptions,
    step: u64,
    pairs: usize,
    /// RGB of 0 to 1.
    frames: &'a [Vec<f32>; 2],
    truly_occluded: Option<&'a [f32]>,
}

impl Comparison<'_> {
    /// The flows of a direction, 0 forward and 1 backward.
    fn range(&self, direction: usize, pixels: usize) -> Range<usize> {
        let values = self.pairs * 2 * pixels;
        direction * values..(direction + 1) * values
    }

    /// Adds the terms of a direction, and the gradient of its flows, and of the flows back where these decide what counts.
    fn judge(&self, levels: &mut Levels, direction: usize, terms: &mut Vec<(&'static str, f64)>) {
        let options = self.options;
        let occlusion = options.occlusion(self.step);
        let level = levels.level_mut(0);
        let (size, pixels) = (level.size, level.size.height * level.size.width);
        let mut gradient = std::mem::take(&mut level.gradient);
        let flow = &level.flow[self.range(direction, pixels)];
        let back = &level.flow[self.range(1 - direction, pixels)];

        let mut inside = vec![0.0; self.pairs * pixels];
        let mut mask = vec![0.0; self.pairs * pixels];
        (
            mask.par_chunks_exact_mut(pixels),
            inside.par_chunks_exact_mut(pixels),
            flow.par_chunks_exact(2 * pixels),
            back.par_chunks_exact(2 * pixels),
        )
            .into_par_iter()
            .enumerate()
            .for_each(|(n, (mask, inside, flow, back))| {
                valid(flow, size, inside);
                let estimate;
                let occluded = match self.truly_occluded {
                    Some(truth) => &truth[n * pixels..][..pixels],
                    None => {
                        estimate = occlusion.estimate(flow, back, size);
                        &estimate[..]
                    }
                };
                for ((mask, inside), occluded) in mask.iter_mut().zip(inside).zip(occluded) {
                    *mask = *inside * (1.0 - occluded);
                }
            });

        let view = Direction::new(size, &self.frames[direction], &self.frames[1 - direction], flow, mask);
        let estimated = self.truly_occluded.is_none() && occlusion.estimation != OcclusionEstimation::None;
        let mut slopes = view.slopes(estimated && !options.stop_gradient_mask);
        if UnsupervisedOptions::on(options.weight_photo) {
            add_term(terms, "photo", photometric(&view, options.distance_photo, options.weight_photo, &mut slopes));
        }
        if UnsupervisedOptions::on(options.weight_ssim) {
            add_term(terms, "ssim", ssim(&view, options.weight_ssim, &mut slopes));
        }
        if UnsupervisedOptions::on(options.weight_census) {
            let (patch, distance) = (options.census_patch, options.distance_census);
            add_term(terms, "census", census(&view, patch, distance, options.weight_census, &mut slopes));
        }

        view.flow_gradient(&slopes.warped, &mut gradient[self.range(direction, pixels)]);
        if !slopes.mask.is_empty() {
            let (forward, backward) = gradient.split_at_mut(self.pairs * 2 * pixels);
            let (d_flow, d_back) = if direction == 0 { (forward, backward) } else { (backward, forward) };
            let d_flows = d_flow.par_chunks_exact_mut(2 * pixels).zip(d_back.par_chunks_exact_mut(2 * pixels));
            let flows = flow.par_chunks_exact(2 * pixels).zip(back.par_chunks_exact(2 * pixels));
            d_flows.zip(flows).enumerate().for_each(|(n, ((d_flow, d_back), (flow, back)))| {
                let pixels = n * pixels..(n + 1) * pixels;
                let d_mask = slopes.mask[pixels.clone()].iter().zip(&inside[pixels]);
                let d_occluded: Vec<f32> = d_mask.map(|(d, inside)| -d * inside).collect();
                occlusion.gradient(flow, back, size, &d_occluded, [d_flow, d_back]);
            });
        }
        levels.level_mut(0).gradient = gradient;
    }
}
