//! The one activation layout: planes of 16 interleaved channels.

use crate::Buffer;

/// Channels per block: one 64-byte cache line, one AVX-512 vector, two of AVX2, four of NEON.
pub const LANES: usize = 16;

/// Pixels of a block whose bytes are as many as one object may have.
const MOST_PIXELS: usize = isize::MAX as usize / (4 * LANES);

/// What one block spans: `[n][h][w][16]` floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Images.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Extent {
    /// Floats in one block.
    ///
    /// # Panics
    /// If no memory could hold that many: products of sides are safe to compute once this has been asked for.
    pub fn len(self) -> usize {
        let Self { n, h, w } = self;
        // Also where another side is 0, so that the product of any sides is bounded.
        let most = n.max(1).checked_mul(h.max(1)).and_then(|p| p.checked_mul(w.max(1)));
        assert!(most.is_some_and(|pixels| pixels <= MOST_PIXELS), "{self:?} is more than any memory holds");
        n * h * w * LANES
    }

    /// Whether there is no pixel.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A value to read: one slice of `extent.len()` floats per block of 16 channels.
#[derive(Clone, Copy)]
pub struct Blocks<'a> {
    /// Images, rows, columns of every block.
    pub extent: Extent,
    /// The blocks; those of a concatenation come from several buffers.
    pub planes: &'a [&'a [f32]],
}

/// A value to write.
pub struct BlocksMut<'a, 'b> {
    /// Images, rows, columns of every block.
    pub extent: Extent,
    /// The blocks. Kernels write every lane: those past the last channel become 0.
    pub planes: &'a mut [&'b mut [f32]],
}

/// What becomes of the values that an output held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// They are replaced, whatever they were.
    Overwrite,
    /// The result is added to them: the gradient of a value that several operations read.
    Add,
}

/// Which channel each lane of a value's blocks holds; `None` for the padding after the last channel of a part.
pub type LaneMap = Vec<Option<u32>>;

/// The lane map of a concatenation of parts with these channel counts, each part padded to whole blocks.
pub fn lane_map(parts: &[usize]) -> LaneMap {
    let mut map = Vec::new();
    let mut channel = 0;
    for &count in parts {
        for lane in 0..count.next_multiple_of(LANES) {
            map.push((lane < count).then(|| (channel + lane) as u32));
        }
        channel += count;
    }
    map
}

/// Checks a lane map against a layer's channels where a plan is made: kernels trust it, also to keep their threads apart.
///
/// # Panics
/// If a lane names a channel that the layer does not have, or two lanes name one.
pub(crate) fn check_lanes(lanes: &[Option<u32>], channels: usize) {
    let mut named = vec![false; channels.min(lanes.len())];
    for channel in lanes.iter().flatten().map(|&channel| channel as usize) {
        assert!(channel < channels, "a lane names channel {channel}, and the layer has {channels}");
        if channel >= named.len() {
            named.resize(channel + 1, false);
        }
        assert!(!std::mem::replace(&mut named[channel], true), "two lanes name channel {channel}");
    }
}

/// Packs planar `[n][c][h][w]` values into blocks (padding lanes 0): one vector of `extent.len()` floats per block.
pub fn to_blocks(planar: &[f32], channels: usize, extent: Extent) -> Vec<Buffer> {
    let pixels = extent.h * extent.w;
    (0..channels.div_ceil(LANES))
        .map(|block| {
            let mut buffer = Buffer::zeroed(extent.len());
            for n in 0..extent.n {
                for lane in 0..LANES.min(channels - block * LANES) {
                    let plane = &planar[(n * channels + block * LANES + lane) * pixels..][..pixels];
                    for (pixel, &value) in plane.iter().enumerate() {
                        buffer[(n * pixels + pixel) * LANES + lane] = value;
                    }
                }
            }
            buffer
        })
        .collect()
}

/// The reverse of [`to_blocks`]: planar `[n][channels][h][w]`.
pub fn from_blocks(blocks: Blocks<'_>, channels: usize) -> Vec<f32> {
    let Extent { n: images, h, w } = blocks.extent;
    let pixels = h * w;
    let mut planar = vec![0.0; images * channels * pixels];
    for n in 0..images {
        for c in 0..channels {
            let plane = &blocks.planes[c / LANES][n * pixels * LANES..];
            for pixel in 0..pixels {
                planar[(n * channels + c) * pixels + pixel] = plane[pixel * LANES + c % LANES];
            }
        }
    }
    planar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_wrap_are_refused() {
        assert_eq!(Extent { n: 2, h: 3, w: 5 }.len(), 480);
        assert!(Extent { n: 0, h: 3, w: 5 }.is_empty());
        for (n, h, w) in [(1 << 60, 1, 1), (1, 1 << 32, 1 << 32), (0, 1 << 40, 1 << 40), (1, 1, MOST_PIXELS + 1)] {
            let len = std::panic::catch_unwind(|| Extent { n, h, w }.len());
            assert!(len.is_err(), "{n} {h} {w}: {len:?}");
        }
    }

    #[test]
    fn lanes_name_channels_of_the_layer_once() {
        check_lanes(&lane_map(&[3, 20]), 23);
        check_lanes(&[Some(4), None, Some(0)], 5);
        for lanes in [&[Some(23)][..], &[Some(u32::MAX)], &[Some(1), None, Some(1)]] {
            assert!(std::panic::catch_unwind(|| check_lanes(lanes, 23)).is_err(), "{lanes:?}");
        }
    }
}
