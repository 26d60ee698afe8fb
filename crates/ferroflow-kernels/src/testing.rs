//! What the tests of every kernel share: random values, and comparison with a formula per element.

use crate::{Blocks, BlocksMut, Buffer, Extent, LANES, Update, layout::to_blocks};

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

    /// The same values in other blocks.
    pub fn copy(&self) -> Self {
        Self { channels: self.channels, extent: self.extent, buffers: self.buffers.clone() }
    }

    pub fn write(&mut self, f: impl FnOnce(&mut BlocksMut<'_, '_>)) {
        let mut planes: Vec<&mut [f32]> = self.buffers.iter_mut().map(|b| &mut b[..]).collect();
        f(&mut BlocksMut { extent: self.extent, planes: &mut planes });
    }

    pub fn at(&self, c: usize, n: usize, y: usize, x: usize) -> f32 {
        self.buffers[c / LANES][((n * self.extent.h + y) * self.extent.w + x) * LANES + c % LANES]
    }

    /// Sum of the products with a value of the same shape, in double precision.
    pub fn dot(&self, other: &Self) -> f64 {
        let pairs = self.buffers.iter().flat_map(|b| b.iter()).zip(other.buffers.iter().flat_map(|b| b.iter()));
        pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
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

/// The result of `f` on pools of one and of two threads, which must agree bit for bit.
pub(crate) fn on_any_threads(f: impl Fn() -> Vec<Value> + Send + Sync) -> Vec<Value> {
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&f);
    let (one, two): (Vec<Value>, Vec<Value>) = (on(1), on(2));
    assert_eq!(one.len(), two.len());
    for (a, b) in one.iter().zip(&two) {
        for (a, b) in a.buffers.iter().zip(&b.buffers) {
            assert!(a.iter().zip(b.iter()).all(|(a, b)| a.to_bits() == b.to_bits()), "depends on the threads");
        }
    }
    one
}

/// A gradient over blocks of NaN and added to random values, whatever the threads: checks that the two differ by those
/// values, and returns the first.
pub(crate) fn both_updates(
    channels: usize,
    extent: Extent,
    run: impl Fn(Update, &mut BlocksMut<'_, '_>) + Sync,
) -> Value {
    let before = Random::new(40).value(channels, extent);
    let results = on_any_threads(|| {
        let (mut fresh, mut added) = (Value::zeroed(channels, extent), before.copy());
        fresh.write(|d| run(Update::Overwrite, d));
        added.write(|d| run(Update::Add, d));
        vec![fresh, added]
    });
    let [fresh, added] = results.try_into().unwrap_or_else(|_| panic!("two"));
    // Adding to what was there first rounds differently.
    added.assert_close(1e-5, |c, n, y, x| before.at(c, n, y, x) + fresh.at(c, n, y, x));
    fresh
}
