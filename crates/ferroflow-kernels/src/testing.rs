//! What the tests of every kernel share: random values, and comparison with a formula per element.

use crate::{Blocks, BlocksMut, Buffer, Extent, LANES, layout::to_blocks};

/// A small deterministic generator (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `range`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Uniform in -1..1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }

    pub fn value(&mut self, channels: usize, extent: Extent) -> Value {
        let planar = self.floats(extent.n * channels * extent.h * extent.w);
        Value { channels, extent, buffers: to_blocks(&planar, channels, extent) }
    }
}

/// A value that owns its blocks.
pub(crate) struct Value {
    pub channels: usize,
    pub extent: Extent,
    pub buffers: Vec<Buffer>,
}

impl Value {
    /// Blocks of NaN, so that a lane no kernel writes is seen.
    pub fn zeroed(channels: usize, extent: Extent) -> Self {
        let mut buffers = vec![Buffer::zeroed(extent.len()); channels.div_ceil(LANES)];
        buffers.iter_mut().for_each(|b| b.fill(f32::NAN));
        Self { channels, extent, buffers }
    }

    /// The blocks to read (the list of them is leaked: this is for tests).
    pub fn blocks(&self) -> Blocks<'_> {
        let planes: Vec<&[f32]> = self.buffers.iter().map(|b| &b[..]).collect();
        Blocks { extent: self.extent, planes: planes.leak() }
    }

    pub fn write(&mut self, f: impl FnOnce(&mut BlocksMut<'_, '_>)) {
        let mut planes: Vec<&mut [f32]> = self.buffers.iter_mut().map(|b| &mut b[..]).collect();
        f(&mut BlocksMut { extent: self.extent, planes: &mut planes });
    }

    pub fn at(&self, c: usize, n: usize, y: usize, x: usize) -> f32 {
        self.buffers[c / LANES][((n * self.extent.h + y) * self.extent.w + x) * LANES + c % LANES]
    }

    /// Every channel equals the formula within `tolerance`, relative to values above 1; every padding lane is 0.
    pub fn assert_close(&self, tolerance: f32, formula: impl Fn(usize, usize, usize, usize) -> f32) {
        for c in 0..self.buffers.len() * LANES {
            for n in 0..self.extent.n {
                for y in 0..self.extent.h {
                    for x in 0..self.extent.w {
                        let want = if c < self.channels { formula(c, n, y, x) } else { 0.0 };
                        let got = self.at(c, n, y, x);
                        assert!(
                            (got - want).abs() <= tolerance * want.abs().max(1.0),
                            "channel {c} of {}, image {n}, ({y}, {x}) of {:?}: {got} for {want}",
                            self.channels,
                            self.extent
                        );
                    }
                }
            }
        }
    }
}
