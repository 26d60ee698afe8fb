//! The depthwise separable block in training: depthwise 3x3, batch norm, LeakyReLU, 1x1, batch norm, LeakyReLU as one
//! operator. Either norm takes the statistics of the batch or given ones, which are constants to the gradient.
//!
//! Seven operators in a row pass over an activation 14 times forward and 24 times backward; this block does with 6 and
//! 10, and saves only the two convolutions' results `d` and `p`. What lies between is computed again, in chunks of points
//! that stay in the second-level cache from the first norm to the matrix products and the sums.
//!
//! Chunks, strips and the order of their sums follow from the shape alone: results do not depend on the number of
//! threads.

mod backward;
mod filters;
mod forward;
mod norm;
mod product;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use self::{norm::Norm, product::Side};
use crate::{Blocks, Buffer, Everyone, Extent, Isa, LANES, lane_map, layout::check_lanes, simd::Simd};

/// The block's parameters, in PyTorch's order.
#[derive(Clone, Copy)]
pub struct SeparableWeights<'a> {
    /// `[channels, 1, 3, 3]`
    pub depthwise: &'a [f32],
    /// `[channels]`
    pub scale1: &'a [f32],
    /// `[channels]`
    pub shift1: &'a [f32],
    /// `[out, channels]`
    pub pointwise: &'a [f32],
    /// `[out]`
    pub scale2: &'a [f32],
    /// `[out]`
    pub shift2: &'a [f32],
    /// Mean and variance per channel by which each norm normalises; `None` for those of the batch.
    pub statistics: [Option<[&'a [f32]; 2]>; 2],
}

/// The gradients of the parameters among [`SeparableWeights`], to be added to; empty where not wanted.
#[derive(Default)]
pub struct SeparableGradients<'a> {
    /// `[channels, 1, 3, 3]`
    pub depthwise: &'a mut [f32],
    /// `[channels]`
    pub scale1: &'a mut [f32],
    /// `[channels]`
    pub shift1: &'a mut [f32],
    /// `[out, channels]`
    pub pointwise: &'a mut [f32],
    /// `[out]`
    pub scale2: &'a mut [f32],
    /// `[out]`
    pub shift2: &'a mut [f32],
}

/// A block at one size, with what `forward` saves for `backward`.
pub struct SeparableTraining {
    isa: Isa,
    input: Extent,
    output: Extent,
    stride: usize,
    /// Floats from pixel to pixel of the input.
    pixel: usize,
    sides: [Side; 2],
    norms: [Norm; 2],
    /// Results of the depthwise and of the 1x1 convolution.
    saved: [Planes; 2],
    /// A row of the input outside the image.
    zeros: Buffer,
}

impl SeparableTraining {
    /// For inputs of this extent, batch included; padding 1, stride 1 or 2.
    ///
    /// `lanes` says which channel each lane of the input blocks holds ([`lane_map`]); lanes of `None` hold zeros. Fewer
    /// than 16 lanes are one block without padding, `[n][h][w][lanes]`, followed by 16 floats of any value: the frames of
    /// a first layer, which then has no gradient of its input. `epsilons` and `slopes` are those of the two norms and of
    /// the two LeakyReLUs, 0 <= slope <= 1.
    pub fn new(
        input: Extent,
        lanes: &[Option<u32>],
        out_channels: usize,
        stride: usize,
        epsilons: [f32; 2],
        slopes: [f32; 2],
        isa: Isa,
    ) -> Self {
        assert!(matches!(stride, 1 | 2), "a depthwise layer has stride 1 or 2");
        input.len();
        check_lanes(lanes, lanes.iter().flatten().count());
        let sides = [Side::new(lanes), Side::new(&lane_map(&[out_channels]))];
        let output = Extent { n: input.n, h: input.h.div_ceil(stride), w: input.w.div_ceil(stride) };
        Self {
            isa,
            input,
            output,
            stride,
            pixel: lanes.len().min(LANES),
            norms: [0, 1].map(|i| Norm::new(sides[i].lanes.clone(), epsilons[i], slopes[i])),
            saved: [0, 1].map(|i| Planes::new(sides[i].blocks(), output.len())),
            sides,
            zeros: Buffer::zeroed((input.w.max(output.w) + 2) * LANES),
        }
    }

    /// From now on everyone has a part of the batch whose statistics the norms take.
    pub fn share(&mut self, everyone: &Everyone) {
        self.norms.iter_mut().for_each(|norm| norm.everyone = everyone.clone());
    }

    /// Extent of the output.
    pub fn output(&self) -> Extent {
        self.output
    }

    /// Blocks of the output.
    pub fn output_blocks(&self) -> usize {
        self.sides[1].blocks()
    }

    /// Bytes kept from `forward` to `backward`, beside the caller's input.
    pub fn saved_bytes(&self) -> usize {
        self.saved.iter().map(|planes| 4 * planes.buffer.len()).sum()
    }

    /// What is kept from `forward` to `backward`, to be exchanged for other memory of at least as many floats meanwhile.
    pub fn saved_mut(&mut self) -> [&mut Buffer; 2] {
        self.saved.each_mut().map(|planes| &mut planes.buffer)
    }

    /// Mean and unbiased variance of the batch at both norms after `forward`, per channel, to move the running
    /// statistics; `None` for a norm whose statistics were given. The variance of a single value is 0.
    pub fn statistics(&self) -> [Option<[&[f32]; 2]>; 2] {
        self.norms.each_ref().map(Norm::statistics)
    }

    fn points(&self) -> usize {
        self.output.n * self.output.h * self.output.w
    }

    fn check(&self, weights: &SeparableWeights<'_>, input: Blocks<'_>) {
        let (channels, out) = (self.sides[0].channels, self.sides[1].channels);
        assert_eq!(weights.depthwise.len(), channels * 9, "depthwise weights");
        assert_eq!(weights.pointwise.len(), channels * out, "1x1 weights");
        assert!([weights.scale1, weights.shift1].iter().all(|w| w.len() == channels), "first norm's parameters");
        assert!([weights.scale2, weights.shift2].iter().all(|w| w.len() == out), "second norm's parameters");
        for (given, norm) in weights.statistics.iter().zip([channels, out]) {
            assert!(given.iter().flatten().all(|s| s.len() == norm), "given statistics");
        }
        assert_eq!(input.extent, self.input, "input extent");
        assert_eq!(input.planes.len(), self.sides[0].blocks(), "input blocks");
        let reserve = if self.pixel < LANES { LANES } else { 0 };
        let len = self.input.len() / LANES * self.pixel + reserve;
        assert!(input.planes.iter().all(|p| p.len() >= len), "input block");
    }
}

/// Blocks of the same length in one buffer.
struct Planes {
    /// At least as long as they are.
    buffer: Buffer,
    blocks: usize,
    /// Floats of a block, and from block to block.
    len: usize,
    pitch: usize,
}

impl Planes {
    fn new(blocks: usize, len: usize) -> Self {
        let pitch = pitch(len);
        Self { buffer: Buffer::zeroed(blocks * pitch), blocks, len, pitch }
    }

    fn block(&self, block: usize) -> &[f32] {
        &self.buffer[block * self.pitch..][..self.len]
    }
}

/// Floats from block to block: planes an odd number of lines apart do not share cache sets.
fn pitch(len: usize) -> usize {
    ((len / LANES) | 1) * LANES
}

/// Whether a value of this many floats is written past the caches: it would not be in them when it is read, and the
/// lines need not be read before they are written.
fn streams(floats: usize) -> bool {
    const MOST_CACHED: usize = 2 << 20;
    floats > MOST_CACHED
}

/// Writes a vector; `stream` only where `to` is aligned.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn put<S: Simd>(to: *mut f32, v: S::V, stream: bool) {
    // SAFETY: the caller's.
    unsafe { if stream { S::stream(to, v) } else { S::store(to, v) } }
}

/// Whether vectors can be streamed to here.
fn aligned(to: &[f32]) -> bool {
    to.as_ptr().addr().is_multiple_of(4 * LANES)
}

/// How the points of a block are cut for the matrix products.
#[derive(Clone, Copy)]
struct Chunks {
    count: usize,
    /// Chunks are summed in this many groups, which divides `count`.
    groups: usize,
    /// Points of the largest.
    longest: usize,
}

impl Chunks {
    /// For `points` of which `bytes` each pass through the cache.
    fn new(points: usize, bytes: usize, most_groups: usize) -> Self {
        /// What a chunk may hold: a part of the second-level cache.
        const CHUNK_BYTES: usize = 256 << 10;
        /// Fewer points than this would read the weights too often.
        const FEWEST: usize = 256;
        let length = (CHUNK_BYTES / bytes).max(FEWEST);
        let count = points.div_ceil(length).max(1);
        let groups = count.min(most_groups.max(1));
        let count = count.next_multiple_of(groups);
        Self { count, groups, longest: points.div_ceil(count) }
    }
}
