//! The losses of a pass over whole frames: what each of them counts, and what it reads.

use std::ops::Range;

use ferroflow_core::{Size, sampling::Window};
use ferroflow_net::{
    PyramidUnit,
    peers::{Alone, Peers},
    training::Values,
};
use rayon::prelude::*;

use super::{
    Terms, UnsupervisedError,
    census::census,
    check_finite,
    direction::{Direction, Target, valid},
    expect,
    levels::{Levels, level_size},
    options::{OcclusionEstimation, UnsupervisedOptions},
    photometric::photometric,
    smoothness::{frames_at, smoothness},
    ssim::ssim,
};
use crate::{data::Surround, loss::add_term};

/// Frames as the losses read them: RGB of 0 to 1.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    options: &'a UnsupervisedOptions,
    size: Size,
    pairs: usize,
    /// `[N, 3, H, W]` each.
    frames: [Vec<f32>; 2],
    /// The same at the size of the flow that is to be smooth; empty where none is.
    small: [Vec<f32>; 2],
    /// What the frames of each pair were cut out of, where flow may leave them.
    surrounds: Vec<Surround>,
    occlusion: Option<&'a [f32]>,
    peers: &'a dyn Peers,
}

impl<'a> Scene<'a> {
    /// First and second frames of N pairs, `[N, 3, H, W]` each, RGB 0..=255, as they were before colours were augmented.
    ///
    /// # Errors
    /// If the options make no sense, or the frames are not of their size.
    pub fn new(options: &'a UnsupervisedOptions, size: Size, frames: [&[f32]; 2]) -> Result<Self, UnsupervisedError> {
        options.check()?;
        let pixels = size.pixels().max(1);
        let pairs = frames[0].len() / (3 * pixels);
        for frames in frames {
            expect("a batch of frames", 3 * pairs * pixels, frames.len())?;
        }
        let frames = frames.map(unit);
        let mut small = [Vec::new(), Vec::new()];
        if [options.weight_smooth1, options.weight_smooth2].into_iter().any(UnsupervisedOptions::on) {
            let sizes: Vec<Size> = (1..=options.smoothness_at_level).map(|level| level_size(size, level)).collect();
            small = frames.each_ref().map(|frames| frames_at(frames, size, &sizes, options.resize_grid.into()));
        }
        Ok(Self { options, size, pairs, frames, small, surrounds: Vec::new(), occlusion: None, peers: &Alone })
    }

    /// As a part of a batch, whose other parts the peers have: what the losses are means over is counted over all of them, so that the
    /// losses of all parts add up to that of the batch. All parts have equally many pairs.
    pub fn among(self, peers: &'a dyn Peers) -> Self {
        Self { peers, ..self }
    }

    /// With what the frames of each pair were cut out of, for `full_size_warp`.
    ///
    /// # Errors
    /// If these are not of their size, do not contain the frames, or are of another number of pairs.
    pub fn within(self, surrounds: &[Surround]) -> Result<Self, UnsupervisedError> {
        if surrounds.len() != self.pairs {
            return Err(UnsupervisedError::Batch { flows: 2 * surrounds.len(), pairs: self.pairs });
        }
        for Surround { size, frames, at } in surrounds {
            for (frame, at) in frames.iter().zip(at) {
                expect("a picture around a frame", 3 * size.pixels(), frame.len())?;
                if at.0 + self.size.width > size.width || at.1 + self.size.height > size.height {
                    return Err(UnsupervisedError::Surround { frames: self.size, at: *at, surround: *size });
                }
            }
        }
        let surrounds =
            surrounds.iter().map(|s| Surround { frames: s.frames.each_ref().map(|f| unit(f)), ..*s }).collect();
        Ok(Self { surrounds, ..self })
    }

    /// With where the first frames show what the second ones do not, `[N, H, W]`, 1 where occluded; for `use_gt_occlusions`.
    ///
    /// # Errors
    /// If it is not of that size.
    pub fn occluded(self, occlusion: &'a [f32]) -> Result<Self, UnsupervisedError> {
        expect("the occlusion mask", self.pairs * self.size.pixels(), occlusion.len())?;
        Ok(Self { occlusion: Some(occlusion), ..self })
    }

    /// The losses that compare the frames with each other along the flow, and smoothness: `photo`, `ssim`, `census`, `smooth1`,
    /// `smooth2`. The flow is `[2N, 2, H/k, W/k]` in the network's `unit`, of all pairs forward, then of all backward; `step` counts
    /// from 0.
    ///
    /// # Errors
    /// If flow and frames do not fit each other, or something is missing that the options ask for.
    pub fn judge(&self, step: u64, flow: &Values, unit: PyramidUnit) -> Result<Terms, UnsupervisedError> {
        let options = self.options;
        let mut levels = Levels::new(flow, unit, self.size, options.resize_grid.into())?;
        if levels.items != 2 * self.pairs {
            return Err(UnsupervisedError::Batch { flows: levels.items, pairs: self.pairs });
        }
        let missing = |what| UnsupervisedError::Option { what };
        let truly_occluded = if options.use_gt_occlusions {
            Some(self.occlusion.ok_or(missing("use_gt_occlusions needs data with occlusion masks"))?)
        } else {
            None
        };
        if options.full_size_warp && self.surrounds.is_empty() {
            return Err(missing(
                "full_size_warp needs an augmentation that cuts frames out: crop, uflow or uflow-geometric",
            ));
        }
        let directions = if options.only_forward || truly_occluded.is_some() { 1 } else { 2 };
        let on = UnsupervisedOptions::on;
        let mut terms = Vec::new();
        if [options.weight_photo, options.weight_ssim, options.weight_census].into_iter().any(on) {
            for direction in 0..directions {
                self.compare(step, &mut levels, direction, truly_occluded, &mut terms);
            }
        }
        let at = options.smoothness_at_level;
        let small = self.small.each_ref().map(|frames| &frames[..]);
        for (order, name, weight) in [(1, "smooth1", options.weight_smooth1), (2, "smooth2", options.weight_smooth2)] {
            if on(weight) {
                let (items, weight) = (directions * self.pairs, weight / self.peers.size() as f64);
                add_term(&mut terms, name, smoothness(order, small, levels.level_mut(at), items, weight, options));
            }
        }
        if let Some((_, value)) = terms.first_mut() {
            *value = check_finite(*value, &[flow]);
        }
        Ok(Terms::new(terms, levels.gradient(), std::slice::from_ref(flow)))
    }

    /// The flows of a direction, 0 forward and 1 backward.
    fn range(&self, direction: usize) -> Range<usize> {
        let values = self.pairs * 2 * self.size.pixels();
        direction * values..(direction + 1) * values
    }

    /// What the flows of a direction point into.
    fn targets(&self, direction: usize) -> Vec<Target<'_>> {
        let to = 1 - direction;
        if self.surrounds.is_empty() {
            return Target::whole(&self.frames[to], self.size);
        }
        let around = self.surrounds.iter().map(|surround| Target {
            planes: &surround.frames[to],
            size: surround.size,
            window: Window { left: surround.at[to].0, top: surround.at[to].1, size: self.size },
        });
        around.collect()
    }

    /// Adds the terms of a direction, and the gradient of its flows of level 0, and of the flows back where these decide what counts.
    fn compare(
        &self,
        step: u64,
        levels: &mut Levels,
        direction: usize,
        truly_occluded: Option<&[f32]>,
        terms: &mut Vec<(&'static str, f64)>,
    ) {
        let options = self.options;
        let occlusion = options.occlusion(step);
        let (size, pixels) = (self.size, self.size.pixels());
        let level = levels.level_mut(0);
        let mut gradient = std::mem::take(&mut level.gradient);
        let flow = &level.flow[self.range(direction)];
        let back = &level.flow[self.range(1 - direction)];
        let targets = self.targets(direction);

        // Where flow ends inside the picture that it points into, and where an estimate of occlusion can say anything: flow back is
        // known inside the frame only.
        let mut inside = vec![0.0; self.pairs * pixels];
        let mut judged = vec![1.0; if self.surrounds.is_empty() { 0 } else { inside.len() }];
        let mut mask = vec![0.0; self.pairs * pixels];
        inside
            .par_chunks_exact_mut(pixels)
            .zip(flow.par_chunks_exact(2 * pixels))
            .zip(&targets)
            .for_each(|((inside, flow), to)| valid(flow, to.window, to.size, inside));
        let flows = flow.par_chunks_exact(2 * pixels);
        judged
            .par_chunks_exact_mut(pixels)
            .zip(flows)
            .for_each(|(judged, flow)| valid(flow, Window::whole(size), size, judged));
        (mask.par_chunks_exact_mut(pixels), flow.par_chunks_exact(2 * pixels), back.par_chunks_exact(2 * pixels))
            .into_par_iter()
            .enumerate()
            .for_each(|(n, (mask, flow, back))| {
                let part = n * pixels..(n + 1) * pixels;
                let estimate;
                let occluded = match truly_occluded {
                    Some(truth) => &truth[part.clone()],
                    None => {
                        let mut found = occlusion.estimate(flow, back, size);
                        if let Some(judged) = judged.get(part.clone()) {
                            found.iter_mut().zip(judged).for_each(|(occluded, judged)| *occluded *= judged);
                        }
                        estimate = found;
                        &estimate[..]
                    }
                };
                for ((mask, inside), occluded) in mask.iter_mut().zip(&inside[part]).zip(occluded) {
                    *mask = inside * (1.0 - occluded);
                }
            });

        let mut view = Direction::new(size, &self.frames[direction], &targets, flow, mask);
        view.peers = self.peers;
        let estimated = truly_occluded.is_none() && occlusion.estimation != OcclusionEstimation::None;
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

        view.flow_gradient(&slopes.warped, &mut gradient[self.range(direction)]);
        if !slopes.mask.is_empty() {
            let (forward, backward) = gradient.split_at_mut(self.pairs * 2 * pixels);
            let (d_flow, d_back) = if direction == 0 { (forward, backward) } else { (backward, forward) };
            let d_flows = d_flow.par_chunks_exact_mut(2 * pixels).zip(d_back.par_chunks_exact_mut(2 * pixels));
            let flows = flow.par_chunks_exact(2 * pixels).zip(back.par_chunks_exact(2 * pixels));
            d_flows.zip(flows).enumerate().for_each(|(n, ((d_flow, d_back), (flow, back)))| {
                let part = n * pixels..(n + 1) * pixels;
                let d_mask = slopes.mask[part.clone()].iter().zip(&inside[part.clone()]);
                let mut d_occluded: Vec<f32> = d_mask.map(|(d, inside)| -d * inside).collect();
                if let Some(judged) = judged.get(part) {
                    d_occluded.iter_mut().zip(judged).for_each(|(d, judged)| *d *= judged);
                }
                occlusion.gradient(flow, back, size, &d_occluded, [d_flow, d_back]);
            });
        }
        levels.level_mut(0).gradient = gradient;
    }
}

/// From 0..=255 to 0 to 1.
fn unit(values: &[f32]) -> Vec<f32> {
    values.par_iter().with_min_len(1 << 14).map(|v| v * (1.0 / 255.0)).collect()
}
