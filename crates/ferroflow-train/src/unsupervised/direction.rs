//! What the losses of one direction read, and what they say.

use ferroflow_core::{
    Size,
    sampling::{Outside, sample, sample_gradient},
};
use rayon::prelude::*;

/// Every loss is a mean over the two directions, also where only one counts.
pub(super) const SHARE: f64 = 0.5;

/// Rows that one task takes.
pub(super) const BAND: usize = 16;

/// A batch of frames, the other frames brought back to them along the flow, and the pixels that count.
pub(super) struct Direction<'a> {
    pub size: Size,
    /// The frames that the flow starts in, `[N, 3, H, W]`, RGB of 0 to 1.
    pub frames: &'a [f32],
    /// The frames that the flow points into.
    pub others: &'a [f32],
    /// `[N, 2, H, W]`, (u, v) in pixels.
    pub flow: &'a [f32],
    /// The other frames sampled along the flow, `[N, 3, H, W]`.
    pub warped: Vec<f32>,
    /// How much a pixel counts, `[N, H, W]`.
    pub mask: Vec<f32>,
}

/// Of the loss with respect to what it read.
pub(super) struct Slopes {
    /// `[N, 3, H, W]`
    pub warped: Vec<f32>,
    /// `[N, H, W]`; empty where the mask is no reason to change the flow.
    pub mask: Vec<f32>,
}

impl<'a> Direction<'a> {
    /// `mask` is `[N, H, W]`.
    pub fn new(size: Size, frames: &'a [f32], others: &'a [f32], flow: &'a [f32], mask: Vec<f32>) -> Self {
        let pixels = size.height * size.width;
        let mut warped = vec![0.0; others.len()];
        (
            warped.par_chunks_exact_mut(3 * pixels),
            others.par_chunks_exact(3 * pixels),
            flow.par_chunks_exact(2 * pixels),
        )
            .into_par_iter()
            .for_each(|(warped, other, flow)| sample(other, flow, size, Outside::Zero, warped));
        Self { size, frames, others, flow, warped, mask }
    }

    pub fn pixels(&self) -> usize {
        self.size.height * self.size.width
    }

    /// One image of a batch of planes, however many planes it has.
    pub fn item<'b>(&self, batch: &'b [f32], n: usize) -> &'b [f32] {
        let values = batch.len() / self.pairs();
        &batch[n * values..][..values]
    }

    /// Pairs in the batch.
    pub fn pairs(&self) -> usize {
        self.mask.len() / self.pixels()
    }

    /// Nothing yet; `mask` says whether its slopes are wanted.
    pub fn slopes(&self, mask: bool) -> Slopes {
        Slopes { warped: vec![0.0; self.warped.len()], mask: vec![0.0; if mask { self.mask.len() } else { 0 }] }
    }

    /// Adds the gradient with respect to the flow, through the places that frames are sampled at, to `d_flow` `[N, 2, H, W]`.
    pub fn flow_gradient(&self, d_warped: &[f32], d_flow: &mut [f32]) {
        let pixels = self.pixels();
        (
            d_flow.par_chunks_exact_mut(2 * pixels),
            self.others.par_chunks_exact(3 * pixels),
            self.flow.par_chunks_exact(2 * pixels),
            d_warped.par_chunks_exact(3 * pixels),
        )
            .into_par_iter()
            .for_each(|(d_flow, other, flow, d_warped)| {
                sample_gradient(other, flow, self.size, Outside::Zero, d_warped, d_flow);
            });
    }

    /// The sum of the mask.
    pub fn mask_sum(&self) -> f64 {
        let rows: Vec<f64> = self.mask.par_chunks(self.size.width).map(sum).collect();
        rows.iter().sum()
    }
}

/// In double precision.
pub(super) fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum()
}

/// Where a flow `[2, H, W]` ends between the pixel centres of the other frame: 1 there, 0 elsewhere, into `valid` `[H, W]`.
pub(super) fn valid(flow: &[f32], size: Size, valid: &mut [f32]) {
    let (u, v) = flow.split_at(size.height * size.width);
    let (last_x, last_y) = (size.width as f32 - 1.0, size.height as f32 - 1.0);
    for (i, valid) in valid.iter_mut().enumerate() {
        let (x, y) = ((i % size.width) as f32 + u[i], (i / size.width) as f32 + v[i]);
        *valid = f32::from(u8::from(x >= 0.0 && x <= last_x && y >= 0.0 && y <= last_y));
    }
}
