//! What the losses of one direction read, and what they say.

use ferroflow_core::{
    Size,
    sampling::{Outside, Window, sample_gradient_within, sample_within},
};
use ferroflow_net::peers::{Alone, Peers};
use rayon::prelude::*;

/// Every loss is a mean over the two directions, also where only one counts.
pub(super) const SHARE: f64 = 0.5;

/// Rows that one task takes.
pub(super) const BAND: usize = 16;

/// A picture that flow points into.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// `[3, H, W]`, RGB of 0 to 1.
    pub planes: &'a [f32],
    /// Of the picture.
    pub size: Size,
    /// The part of it that the flow covers.
    pub window: Window,
}

impl<'a> Target<'a> {
    /// The pictures of a batch `[N, 3, H, W]`, each covered by its flow.
    pub fn whole(batch: &'a [f32], size: Size) -> Vec<Self> {
        let pictures = batch.chunks_exact(3 * size.pixels());
        pictures.map(|planes| Self { planes, size, window: Window::whole(size) }).collect()
    }
}

/// Where a flow `[2, h, w]` of a window of a picture of size `of` ends between pixel centres of that: 1 there, 0 elsewhere, into
/// `valid` `[h, w]`.
pub(super) fn valid(flow: &[f32], window: Window, of: Size, valid: &mut [f32]) {
    let Window { left, top, size } = window;
    let (u, v) = flow.split_at(size.height * size.width);
    let (last_x, last_y) = (of.width as f32 - 1.0, of.height as f32 - 1.0);
    for (i, valid) in valid.iter_mut().enumerate() {
        let (x, y) = ((left + i % size.width) as f32 + u[i], (top + i / size.width) as f32 + v[i]);
        *valid = f32::from(u8::from(x >= 0.0 && x <= last_x && y >= 0.0 && y <= last_y));
    }
}

/// A batch of frames, the other frames brought back to them along the flow, and the pixels that count.
pub(super) struct Direction<'a> {
    pub size: Size,
    /// The frames that the flow starts in, `[N, 3, H, W]`, RGB of 0 to 1.
    pub frames: &'a [f32],
    /// What the flow of each pair points into.
    pub targets: &'a [Target<'a>],
    /// `[N, 2, H, W]`, (u, v) in pixels.
    pub flow: &'a [f32],
    /// The other frames sampled along the flow, `[N, 3, H, W]`.
    pub warped: Vec<f32>,
    /// How much a pixel counts, `[N, H, W]`.
    pub mask: Vec<f32>,
    /// The ranks that have the other pairs of the batch.
    pub peers: &'a dyn Peers,
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
    pub fn new(size: Size, frames: &'a [f32], targets: &'a [Target<'a>], flow: &'a [f32], mask: Vec<f32>) -> Self {
        let pixels = size.height * size.width;
        let mut warped = vec![0.0; frames.len()];
        (warped.par_chunks_exact_mut(3 * pixels), targets, flow.par_chunks_exact(2 * pixels))
            .into_par_iter()
            .for_each(|(warped, to, flow)| sample_within(to.planes, to.size, flow, to.window, Outside::Zero, warped));
        Self { size, frames, targets, flow, warped, mask, peers: &Alone }
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
            self.targets,
            self.flow.par_chunks_exact(2 * pixels),
            d_warped.par_chunks_exact(3 * pixels),
        )
            .into_par_iter()
            .for_each(|(d_flow, to, flow, d_warped)| {
                sample_gradient_within(to.planes, to.size, flow, to.window, Outside::Zero, d_warped, d_flow);
            });
    }

    /// The sum of the mask, over the pairs of all ranks.
    pub fn mask_sum(&self) -> f64 {
        let rows: Vec<f64> = self.mask.par_chunks(self.size.width).map(sum).collect();
        self.of_all_ranks(rows.iter().sum())
    }

    /// The sum over all ranks.
    pub fn of_all_ranks(&self, own: f64) -> f64 {
        self.peers.total(&[own])[0]
    }
}

/// In double precision.
pub(super) fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum()
}
