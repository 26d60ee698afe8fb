//! Depthwise 3x3 convolution, alone and fused with the 1x1 convolution that follows it ([`SeparablePlan`]), and of other sizes
//! ([`LargeDepthwisePlan`]).
//!
//! Every channel has its own 3x3 filter, so a block of 16 channels is filtered as one vector: nine multiply-adds per
//! output against nine or more loads. It runs at the speed of the cache, which is why the fused form matters.

mod gradient;
mod large;
mod products;
mod row;
mod separable;
#[cfg(test)]
mod tests;
pub mod training;

use std::ops::Range;

pub use self::{
    large::{LargeDepthwise, LargeDepthwisePlan},
    separable::{Frames, Pointwise, SeparablePlan},
};
use crate::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, LaneMap,
    conv::Activation,
    layout::check_lanes,
    rows::for_pieces,
    simd::{self, Kernel, Simd},
};

/// A depthwise layer and the size it runs at.
#[derive(Clone, Copy)]
pub struct Depthwise<'a> {
    /// Of the input, after any doubling.
    pub input: Extent,
    /// Which channel each lane of the input blocks holds ([`crate::lane_map`]).
    pub lanes: &'a [Option<u32>],
    /// Step between outputs, 1 or 2.
    pub stride: usize,
    /// Zeros above, left, below, right.
    pub padding: [usize; 4],
    /// `[channels, 3, 3]`, PyTorch's order.
    pub weight: &'a [f32],
    /// `[channels]`
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
    /// Blocks that hold half the rows and columns and are read doubled (nearest neighbour); empty for none. They have
    /// `n * h / 2 * w / 2` pixels, and `h` and `w` are even.
    pub doubled: &'a [bool],
    /// Floats from pixel to pixel of the input: 16, or fewer for one block of a first layer without padding lanes, which
    /// then must be followed by 16 floats of any value.
    pub pixel: usize,
}

impl Depthwise<'_> {
    /// The output's extent.
    pub fn output(&self) -> Extent {
        let [top, left, bottom, right] = self.padding;
        let out = |size: usize, before: usize, after: usize| {
            let room = size.checked_add(before)?.checked_add(after)?.checked_sub(3)?;
            room.checked_div(self.stride).map(|last| last + 1)
        };
        match (out(self.input.h, top, bottom), out(self.input.w, left, right)) {
            (Some(h), Some(w)) => Extent { n: self.input.n, h, w },
            _ => panic!("no 3x3 filter fits into {:?} with padding {:?}", self.input, self.padding),
        }
    }
}

/// The filters of all blocks, and where their inputs are.
struct Filters {
    isa: Isa,
    input: Extent,
    output: Extent,
    stride: usize,
    before: [usize; 2],
    /// `[block][bias, then 9 taps][16]`
    weights: Buffer,
    activation: Activation,
    doubled: Vec<bool>,
    pixel: usize,
    /// A row of the input outside the image.
    zeros: Buffer,
}

impl Filters {
    fn new(layer: &Depthwise<'_>, isa: Isa) -> Self {
        assert!(matches!(layer.stride, 1 | 2), "a depthwise layer has stride 1 or 2");
        // Nothing that follows wraps.
        layer.input.len();
        layer.output().len();
        check_lanes(layer.lanes, layer.weight.len() / 9);
        let blocks = layer.lanes.len().div_ceil(LANES);
        let mut doubled = layer.doubled.to_vec();
        doubled.resize(blocks, false);
        let even = layer.input.h.is_multiple_of(2) && layer.input.w.is_multiple_of(2);
        assert!(even || !doubled.contains(&true), "a doubled input has even sizes");
        assert!(layer.pixel == LANES || (blocks == 1 && layer.pixel < LANES), "a first layer has one block");
        let mut weights = Buffer::zeroed(blocks * 10 * LANES);
        for (lane, channel) in layer.lanes.iter().enumerate() {
            let Some(channel) = *channel else { continue };
            let (to, channel) = (lane / LANES * 10 * LANES + lane % LANES, channel as usize);
            weights[to] = layer.bias.map_or(0.0, |b| b[channel]);
            for tap in 0..9 {
                weights[to + (1 + tap) * LANES] = layer.weight[channel * 9 + tap];
            }
        }
        Self {
            isa,
            input: layer.input,
            output: layer.output(),
            stride: layer.stride,
            before: [layer.padding[0], layer.padding[1]],
            weights,
            activation: layer.activation,
            doubled,
            pixel: layer.pixel,
            zeros: Buffer::zeroed((layer.input.w + 1) * LANES),
        }
    }

    fn blocks(&self) -> usize {
        self.doubled.len()
    }

    /// One block of one image.
    fn image<'a>(&self, input: Blocks<'a>, block: usize, n: usize) -> &'a [f32] {
        let half = usize::from(self.doubled[block]);
        &input.planes[block][n * (self.input.h >> half) * (self.input.w >> half) * self.pixel..]
    }

    /// The rows of the input that some rows of the output are computed from.
    fn rows_read(&self, rows: &Range<usize>) -> Range<usize> {
        let begin = (rows.start * self.stride).saturating_sub(self.before[0]);
        let end = ((rows.end.max(1) - 1) * self.stride + 3).saturating_sub(self.before[0]).min(self.input.h);
        begin.min(end)..end
    }

    fn check(&self, input: Blocks<'_>) {
        assert_eq!(input.extent, self.input, "input extent");
        assert_eq!(input.planes.len(), self.blocks(), "input blocks");
        for (plane, &doubled) in input.planes.iter().zip(&self.doubled) {
            let pixels = self.input.len() / LANES / if doubled { 4 } else { 1 };
            let reserve = if self.pixel < LANES { LANES } else { 0 };
            assert!(plane.len() >= pixels * self.pixel + reserve, "input block");
        }
    }
}

/// A depthwise layer ready to run. Its output has the lanes of its input.
pub struct DepthwisePlan {
    filters: Filters,
    lanes: LaneMap,
}

impl DepthwisePlan {
    /// Packs the weights.
    ///
    /// # Panics
    /// If the input's pixels are narrower than 16 floats.
    pub fn new(layer: &Depthwise<'_>, isa: Isa) -> Self {
        assert_eq!(layer.pixel, LANES, "a narrow input is for a separable layer");
        Self { filters: Filters::new(layer, isa), lanes: layer.lanes.to_vec() }
    }

    /// Extent of the output.
    pub fn output(&self) -> Extent {
        self.filters.output
    }

    /// Computes the layer.
    ///
    /// # Panics
    /// If a value does not have the extent and the number of blocks that the layer was prepared for.
    pub fn run(&self, input: Blocks<'_>, output: &mut BlocksMut<'_, '_>) {
        // Rows of one task: 64 KB of output or more.
        let rows = 1024usize.div_ceil(self.filters.output.w.max(1)).min(self.filters.output.h);
        self.filters.check(input);
        let extent = self.filters.output;
        assert_eq!(output.extent, extent, "output extent");
        assert_eq!(output.planes.len(), self.filters.blocks(), "output blocks");
        for_pieces(output, rows * extent.w, |block, n, first, to| {
            let (filters, plane) = (&self.filters, self.filters.image(input, block, n));
            let first = first / extent.w;
            let (rows, columns) = (first..first + to.len() / (extent.w * LANES), 0..extent.w);
            simd::run(filters.isa, Band { filters, plane, begin: 0, block, rows, columns, to });
        });
    }
}

/// Some rows and columns of one block of one image, written without gaps.
struct Band<'a> {
    filters: &'a Filters,
    /// The block of the image, from row `begin` on.
    plane: &'a [f32],
    begin: usize,
    block: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    to: &'a mut [f32],
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let f = self.filters;
        let half = usize::from(f.doubled[self.block]);
        let width = f.input.w >> half;
        for (row, y) in self.rows.clone().enumerate() {
            let rows = [0, 1, 2].map(|ky| match (y * f.stride + ky).checked_sub(f.before[0]) {
                Some(at) if at < f.input.h => self.plane[((at >> half) - self.begin) * width * f.pixel..].as_ptr(),
                _ => f.zeros.as_ptr(),
            });
            let to = &mut self.to[row * self.columns.len() * LANES..][..self.columns.len() * LANES];
            let row = row::Row {
                rows,
                half,
                pixel: f.pixel,
                width: f.input.w,
                before: f.before[1],
                weights: f.weights[self.block * 10 * LANES..][..10 * LANES].as_ptr(),
                activation: f.activation,
                columns: self.columns.clone(),
                to,
            };
            // SAFETY: inside a kernel; the three rows hold `width >> half` pixels (`Filters::check`, `zeros`), and 16
            // floats can be read from the last.
            unsafe {
                match f.stride {
                    1 => row.run::<S, 1>(),
                    _ => row.run::<S, 2>(),
                }
            }
        }
    }
}
