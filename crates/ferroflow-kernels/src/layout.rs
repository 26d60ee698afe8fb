//! The one activation layout: planes of 16 interleaved channels.

use crate::Buffer;

/// Channels per block: one 64-byte cache line, one AVX-512 vector, two of AVX2, four of NEON.
pub const LANES: usize = 16;

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
    pub fn len(self) -> usize {
        self.n * self.h * self.w * LANES
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
