//! Values of a plan: blocks that lie in shared buffers, and pixels that no kernel has touched yet.

use ferroflow_kernels::{Extent, LANES, LaneMap, Part, lane_map};

/// One block of 16 channels within a buffer of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plane {
    /// Index of the buffer: each has its own before memory is laid out.
    pub buffer: usize,
    /// First float.
    pub start: usize,
    /// Floats: those of the value's extent, a quarter where the block is to be read doubled (nearest neighbour), or
    /// fewer per pixel where only a first layer reads it.
    pub len: usize,
}

impl Plane {
    /// The same where all buffers lie in one, each from its place in `starts` on.
    pub fn within(self, starts: &[usize]) -> Self {
        Self { buffer: 0, start: starts[self.buffer] + self.start, ..self }
    }

    /// As kernels lend it.
    pub fn part(&self) -> Part {
        Part { buffer: self.buffer, start: self.start, len: self.len }
    }
}

/// A value: a list of planes, and which channel each of their lanes holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub extent: Extent,
    pub planes: Vec<Plane>,
    pub lanes: LaneMap,
}

impl Value {
    /// Whether channel `c` is lane `c`, as every kernel but convolution wants it.
    pub fn is_dense(&self, channels: usize) -> bool {
        self.lanes == lane_map(&[channels])
    }

    /// Whether block `i` has half the rows and columns and is to be read doubled.
    pub fn is_doubled(&self, block: usize) -> bool {
        4 * self.planes[block].len == self.extent.len()
    }

    /// The lane that holds a channel.
    pub fn lane_of(&self, channel: u32) -> Option<usize> {
        self.lanes.iter().position(|&l| l == Some(channel))
    }

    /// Plane `i` with its 16 lanes.
    pub fn blocks(&self) -> impl Iterator<Item = (Plane, &[Option<u32>])> {
        self.planes.iter().copied().zip(self.lanes.chunks(LANES))
    }

    /// Images `index * count ..` of every plane, `count` of them.
    pub fn part(&self, index: usize, count: usize) -> Self {
        let extent = Extent { n: count, ..self.extent };
        let len = extent.len();
        let planes = self.planes.iter().map(|p| Plane { start: p.start + index * len, len, ..*p }).collect();
        Self { extent, planes, lanes: self.lanes.clone() }
    }

    /// Values joined along channels, which are renumbered.
    pub fn concat(parts: &[(&Value, usize)]) -> Self {
        let mut whole = Self { extent: parts[0].0.extent, planes: Vec::new(), lanes: Vec::new() };
        let mut before = 0;
        for (part, channels) in parts {
            whole.planes.extend(&part.planes);
            whole.lanes.extend(part.lanes.iter().map(|l| l.map(|c| c + before)));
            before += *channels as u32;
        }
        whole
    }
}

/// A channel of a value that is still an affine function of the frames: `scale * frame[channel] + offset`, minus a
/// multiple of a mean that is only known when the plan runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pixel {
    /// 0 or 1.
    pub frame: usize,
    /// 0, 1, 2.
    pub channel: usize,
    pub scale: f32,
    pub offset: f32,
    /// `factor * mean`, with the lane of the mean in a value of one pixel per image.
    pub mean: Option<(Plane, usize, f32)>,
}

impl Pixel {
    pub fn raw(frame: usize, channel: usize) -> Self {
        Self { frame, channel, scale: 1.0, offset: 0.0, mean: None }
    }

    pub fn affine(&self, scale: f32, offset: f32) -> Self {
        Self {
            scale: self.scale * scale,
            offset: self.offset * scale + offset,
            mean: self.mean.map(|(plane, lane, factor)| (plane, lane, factor * scale)),
            ..self.clone()
        }
    }
}

/// What a node of the graph has become.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Computed by a step.
    Blocks(Value),
    /// A function of the frames or a field, written to blocks when a kernel wants them.
    Deferred,
}

/// One number for each lane: those of the channels, and 0 for the padding of the last block.
pub(super) fn per_lane(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut lanes: Vec<f32> = values.collect();
    lanes.resize(lanes.len().next_multiple_of(LANES), 0.0);
    lanes
}
