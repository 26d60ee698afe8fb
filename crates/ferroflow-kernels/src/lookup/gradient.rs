//! Gradients of the lookup to both maps and to the flow.
//!
//! The gradient of every product of a window comes first. The first map then gathers what lies in its windows; the second one is
//! scattered to, block by block, so that threads share no sum.

use std::ops::Range;

use super::{Lookup, Pair, Products, SLACK, Window};
use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Scratch, Update,
    disjoint::Disjoint,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
    team,
};

/// Blocks of the first map's gradient that are summed at once.
const BLOCKS: usize = 4;

/// What a [`Lookup`] was given, and the gradient of its result.
#[derive(Clone, Copy)]
pub struct LookupGradient<'a> {
    /// The lookup.
    pub lookup: &'a Lookup,
    /// The first and the second map.
    pub features: [Blocks<'a>; 2],
    /// Where to look.
    pub flow: Blocks<'a>,
    /// The gradient of what was looked up.
    pub g: Blocks<'a>,
}

impl LookupGradient<'_> {
    fn check(&self) {
        self.lookup.check(self.features, self.flow);
        let (blocks, len) = (self.lookup.looked_up().div_ceil(LANES), self.lookup.extent.len());
        assert!(self.g.extent == self.lookup.extent && self.g.planes.len() == blocks, "gradient");
        assert!(self.g.planes.iter().all(|plane| plane.len() >= len), "gradient");
    }

    fn rows(&self) -> usize {
        self.lookup.extent.n * self.lookup.extent.h
    }

    /// What the channels of a row cost, for the sharing among threads.
    fn row_work(&self) -> usize {
        let Lookup { extent, channels, levels, .. } = *self.lookup;
        extent.w * levels * (self.lookup.side() + 1).pow(2) * channels / 8
    }

    /// The gradient to the first map.
    pub fn first(self, isa: Isa, update: Update, d: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        self.check();
        assert_eq!((d.extent, d.planes.len()), (self.lookup.extent, self.features[0].planes.len()), "first map");
        let rows = RowsMut::new(d);
        self.lookup.with_levels(isa, self.features[1], scratch, |levels| {
            for_ranges(self.rows(), self.row_work(), |range| {
                scratch.with(self.lookup.values_len() + self.lookup.spread_len(), |work| {
                    simd::run(isa, First { of: self, levels, update, rows: &rows, range, work });
                });
            });
        });
    }

    /// The gradient to the second map.
    pub fn second(self, isa: Isa, update: Update, d: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        self.check();
        let lookup = self.lookup;
        assert_eq!((d.extent, d.planes.len()), (lookup.extent, self.features[1].planes.len()), "second map");
        let Extent { n, h, w } = lookup.extent;
        let of_pixel = lookup.levels * lookup.spread_len();
        scratch.with_shared(n * h * w * of_pixel, |spread| {
            let spread = &mut spread[..n * h * w * of_pixel];
            let shared = Disjoint::new(spread);
            for_ranges(n * h, self.row_work() / 8, |range| {
                scratch.with(lookup.values_len(), |values| {
                    simd::run(isa, SpreadRows { of: self, shared, range, values });
                });
            });
            let (blocks, image) = (Disjoint::blocks(d), h * w * LANES);
            team::for_each(blocks.len() * n, |task| {
                let (block, n) = (task / n, task % n);
                // SAFETY: each image of a block belongs to one task.
                let to = unsafe { blocks[block].piece(n * image, image) };
                scratch.with(lookup.coarse_len() / lookup.extent.n.max(1), |coarse| {
                    simd::run(isa, Second { of: self, spread, block, image: n, update, to, coarse });
                });
            });
        });
    }

    /// The gradient to the flow, in the lanes of u and v; the others become 0. Where the flow points at a pixel, its slope is that
    /// to the right and down.
    pub fn flow(self, isa: Isa, update: Update, d: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        self.check();
        assert_eq!(d.extent, self.lookup.extent, "flow");
        if update == Update::Overwrite {
            d.planes.iter_mut().skip(1).for_each(|plane| plane.fill(0.0));
        }
        let rows = RowsMut::new(d);
        self.lookup.with_levels(isa, self.features[1], scratch, |levels| {
            for_ranges(self.rows(), self.row_work(), |range| {
                let len = self.lookup.values_len() + self.lookup.sums_len() + self.lookup.record_len();
                scratch.with(len, |work| {
                    simd::run(isa, Place { of: self, levels, update, rows: &rows, range, work });
                });
            });
        });
    }

    /// The gradient of all that pixel `at` looked up.
    #[inline(always)]
    fn load<S: Simd>(&self, at: usize, values: &mut [f32]) {
        for (plane, to) in self.g.planes.iter().zip(values.chunks_exact_mut(LANES)) {
            S::write(to, S::read(&plane[at * LANES..]));
        }
    }
}

impl Lookup {
    /// Floats of the gradients of the products of one window, and what vectors at its end reach.
    fn spread_len(&self) -> usize {
        (self.side() + 1).pow(2) + SLACK
    }

    /// 1 for the lanes of as many offsets as there are along an axis.
    #[inline(always)]
    fn mask<S: Simd>(&self) -> S::V {
        S::read(&std::array::from_fn::<f32, LANES, _>(|i| if i < self.side() { 1.0 } else { 0.0 }))
    }

    /// The gradients of the products of a window, the column outer, each over the root of the number of channels.
    #[inline(always)]
    fn spread<S: Simd>(&self, values: &[f32], level: usize, window: &Window, to: &mut [f32]) {
        let (side, wide) = (self.side(), self.side() + 1);
        let root = 1.0 / (self.channels as f32).sqrt();
        let mask = self.mask::<S>();
        to[..self.spread_len()].fill(0.0);
        let [upper_left, upper_right, lower_left, lower_right] = window.weights();
        for i in 0..side {
            let g = S::mul(S::read(&values[(level * side + i) * side..]), mask);
            for (column, row, weight) in
                [(i, 0, upper_left), (i + 1, 0, upper_right), (i, 1, lower_left), (i + 1, 1, lower_right)]
            {
                let to = &mut to[column * wide + row..];
                S::write(to, S::fma(g, S::splat(weight * root), S::read(to)));
            }
        }
    }
}

/// Some rows of the gradient to the first map.
struct First<'a, 'b> {
    of: LookupGradient<'a>,
    levels: &'a [Vec<&'a [f32]>],
    update: Update,
    rows: &'a RowsMut<'b>,
    range: Range<usize>,
    work: &'a mut [f32],
}

impl Kernel for First<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { of, levels, update, rows, range, work } = self;
        let (lookup, blocks) = (of.lookup, of.features[0].planes.len());
        let Extent { h, w, .. } = lookup.extent;
        let (values, spread) = work[..lookup.values_len() + lookup.spread_len()].split_at_mut(lookup.values_len());
        values.fill(0.0);
        for row in range {
            // SAFETY: each row belongs to one task.
            let mut out: Vec<&mut [f32]> =
                (0..blocks).map(|block| unsafe { rows.row(block, row / h, row % h) }).collect();
            for x in 0..w {
                let at = row * w + x;
                of.load::<S>(at, values);
                for (l, level) in levels.iter().enumerate() {
                    let window = lookup.window(of.flow, at, l);
                    lookup.spread::<S>(values, l, &window, spread);
                    let fresh = l == 0 && update == Update::Overwrite;
                    for (i, out) in out.chunks_mut(BLOCKS).enumerate() {
                        let level = &level[i * BLOCKS..][..out.len()];
                        match out.len() {
                            BLOCKS => gather::<S, BLOCKS>(lookup, spread, level, &window, fresh, x, out),
                            _ => (0..out.len()).for_each(|b| {
                                gather::<S, 1>(lookup, spread, &level[b..][..1], &window, fresh, x, &mut out[b..][..1]);
                            }),
                        }
                    }
                }
            }
        }
    }
}

/// Adds to column `x` of `B` blocks what a window holds of them.
#[inline(always)]
fn gather<S: Simd, const B: usize>(
    lookup: &Lookup,
    spread: &[f32],
    level: &[&[f32]],
    window: &Window,
    fresh: bool,
    x: usize,
    out: &mut [&mut [f32]],
) {
    let wide = lookup.side() + 1;
    let mut sums = [S::zero(); B];
    if !fresh {
        for b in 0..B {
            sums[b] = S::read(&out[b][x * LANES..]);
        }
    }
    for row in window.rows.clone() {
        let first = window.at(row);
        for (i, column) in window.columns.clone().enumerate() {
            let g = S::splat(spread[column * wide + row]);
            for b in 0..B {
                sums[b] = S::fma(g, S::read(&level[b][(first + i) * LANES..]), sums[b]);
            }
        }
    }
    for b in 0..B {
        S::write(&mut out[b][x * LANES..], sums[b]);
    }
}

/// The gradients of the products of all windows of some rows.
struct SpreadRows<'a> {
    of: LookupGradient<'a>,
    shared: Disjoint<'a>,
    range: Range<usize>,
    values: &'a mut [f32],
}

impl Kernel for SpreadRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { of, shared, range, values } = self;
        let (lookup, w) = (of.lookup, of.lookup.extent.w);
        let of_pixel = lookup.levels * lookup.spread_len();
        let values = &mut values[..lookup.values_len()];
        values.fill(0.0);
        for at in range.start * w..range.end * w {
            of.load::<S>(at, values);
            // SAFETY: each row, so each pixel, belongs to one task.
            let to = unsafe { shared.piece(at * of_pixel, of_pixel) };
            for (l, to) in to.chunks_exact_mut(lookup.spread_len()).enumerate() {
                lookup.spread::<S>(values, l, &lookup.window(of.flow, at, l), to);
            }
        }
    }
}

/// The gradient to one block of one image of the second map.
struct Second<'a> {
    of: LookupGradient<'a>,
    spread: &'a [f32],
    block: usize,
    image: usize,
    update: Update,
    to: &'a mut [f32],
    /// The coarser levels, one behind the other.
    coarse: &'a mut [f32],
}

impl Kernel for Second<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { of, spread, block, image, update, to, coarse } = self;
        let lookup = of.lookup;
        let (wide, pixels) = (lookup.side() + 1, lookup.extent.h * lookup.extent.w);
        let first = &of.features[0].planes[block][image * pixels * LANES..][..pixels * LANES];
        if update == Update::Overwrite {
            to.fill(0.0);
        }
        let coarse_len = lookup.coarse_len() / lookup.extent.n;
        let coarse = &mut coarse[..coarse_len];
        coarse.fill(0.0);
        let size = |level: usize| lookup.level(level).len() / lookup.extent.n;
        let mut start = 0;
        for level in 0..lookup.levels {
            let target = if level == 0 { &mut *to } else { &mut coarse[start..][..size(level)] };
            start += if level == 0 { 0 } else { size(level) };
            for (pixel, first) in first.chunks_exact(LANES).enumerate() {
                let at = image * pixels + pixel;
                let mut window = lookup.window(of.flow, at, level);
                window.image = 0;
                let spread = &spread[(at * lookup.levels + level) * lookup.spread_len()..][..wide * wide];
                let first = S::read(first);
                for row in window.rows.clone() {
                    let line = &mut target[window.at(row) * LANES..][..window.columns.len() * LANES];
                    for (column, to) in window.columns.clone().zip(line.chunks_exact_mut(LANES)) {
                        S::write(to, S::fma(first, S::splat(spread[column * wide + row]), S::read(to)));
                    }
                }
            }
        }
        // Each level is a quarter of the sums of the finer one.
        let quarter = S::splat(0.25);
        for level in (1..lookup.levels).rev() {
            start -= size(level);
            let (before, from) = coarse.split_at_mut(start);
            let from = &from[..size(level)];
            let finer = match level {
                1 => &mut *to,
                _ => &mut before[start - size(level - 1)..],
            };
            let (width, wider) = (lookup.level(level).w, lookup.level(level - 1).w);
            for (i, from) in from.chunks_exact(LANES).enumerate() {
                let part = S::mul(S::read(from), quarter);
                let at = 2 * (i / width) * wider + 2 * (i % width);
                for at in [at, at + 1, at + wider, at + wider + 1] {
                    let to = &mut finer[at * LANES..];
                    S::write(to, S::add(S::read(to), part));
                }
            }
        }
    }
}

/// Some rows of the gradient to the flow.
struct Place<'a, 'b> {
    of: LookupGradient<'a>,
    levels: &'a [Vec<&'a [f32]>],
    update: Update,
    rows: &'a RowsMut<'b>,
    range: Range<usize>,
    work: &'a mut [f32],
}

impl Kernel for Place<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { of, levels, update, rows, range, work } = self;
        let lookup = of.lookup;
        let (side, wide, Extent { h, w, .. }) = (lookup.side(), lookup.side() + 1, lookup.extent);
        work.fill(0.0);
        let (values, work) = work.split_at_mut(lookup.values_len());
        let (sums, record) = work.split_at_mut(lookup.sums_len());
        let record = &mut record[..lookup.record_len()];
        let mut products = Products::new(sums);
        let mask = lookup.mask::<S>();
        for row in range {
            // SAFETY: each row belongs to one task.
            let out = unsafe { rows.row(0, row / h, row % h) };
            for (x, out) in out.chunks_exact_mut(LANES).enumerate() {
                let at = row * w + x;
                of.load::<S>(at, values);
                let mut slope = [0.0; 2];
                for (l, level) in levels.iter().enumerate() {
                    let window = lookup.window(of.flow, at, l);
                    let pair = Pair { first: of.features[0], at, level };
                    products.compute::<S>(lookup, pair, &window, [0..wide, 0..wide], record);
                    let [a, b] = window.fraction.map(|v| S::splat(v));
                    let mut sums = [S::zero(); 2];
                    for i in 0..side {
                        let g = S::mul(S::read(&values[(l * side + i) * side..]), mask);
                        let near = &record[i * wide..];
                        let far = &record[(i + 1) * wide..];
                        let [upper_left, lower_left] = [S::read(near), S::read(&near[1..])];
                        let [upper_right, lower_right] = [S::read(far), S::read(&far[1..])];
                        let mix = |from, to, t| S::fma(S::sub(to, from), t, from);
                        let along_x = mix(S::sub(upper_right, upper_left), S::sub(lower_right, lower_left), b);
                        let along_y = mix(S::sub(lower_left, upper_left), S::sub(lower_right, upper_right), a);
                        sums = [S::fma(g, along_x, sums[0]), S::fma(g, along_y, sums[1])];
                    }
                    for c in 0..2 {
                        slope[c] += S::sum(sums[c]) / (1u32 << l) as f32;
                    }
                }
                if update == Update::Overwrite {
                    out.fill(0.0);
                }
                for c in 0..2 {
                    out[lookup.lanes[c]] += slope[c];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CASES, flow, product};
    use super::*;
    use crate::testing::{Random, Value, both_updates};

    /// The gradient of every offset to the maps is that of an interpolation, which is linear in each map: the two identities of an
    /// adjoint. The gradient to the flow, against differences of the products.
    #[test]
    fn gradients_are_adjoints_and_slopes() {
        let mut random = Random::new(72);
        for (channels, radius, levels, extent) in CASES {
            let maps = [random.value(channels, extent), random.value(channels, extent)];
            for reach in [0.0, 3.0, 30.0] {
                let flow = flow(&mut random, extent, reach);
                let lookup = Lookup::new(extent, channels, radius, levels, [6, 3]);
                let g = random.value(lookup.looked_up(), extent);
                let side = lookup.side();
                for isa in Isa::available() {
                    let scratch = Scratch::new();
                    let features = [maps[0].blocks(), maps[1].blocks()];
                    let of = LookupGradient { lookup: &lookup, features, flow: flow.blocks(), g: g.blocks() };
                    let first = both_updates(channels, extent, |update, d| of.first(isa, update, d, &Scratch::new()));
                    let second = both_updates(channels, extent, |update, d| of.second(isa, update, d, &Scratch::new()));
                    // With another map in the place of each: `<g, lookup(other)> = <d, other>`.
                    for (which, d) in [(0, &first), (1, &second)] {
                        let other = random.value(channels, extent);
                        let mut out = Value::zeroed(lookup.looked_up(), extent);
                        let features =
                            if which == 0 { [other.blocks(), features[1]] } else { [features[0], other.blocks()] };
                        out.write(|out| lookup.run(isa, features, flow.blocks(), out, &scratch));
                        let (forward, backward) = (out.dot(&g), d.dot(&other));
                        let size = (out.dot(&out) * g.dot(&g)).sqrt().max(1.0);
                        assert!((forward - backward).abs() < 1e-5 * size, "map {which}: {forward} {backward}");
                    }
                    let slopes = both_updates(7, extent, |update, d| of.flow(isa, update, d, &Scratch::new()));
                    slopes.assert_close(1e-3, |lane, n, y, x| {
                        let Some(axis) = [6, 3].iter().position(|&l| l == lane) else { return 0.0 };
                        let mut sum = 0.0;
                        for channel in 0..lookup.looked_up() {
                            let (l, i, j) = (channel / (side * side), channel / side % side, channel % side);
                            let place = |p: usize, lane: usize| {
                                f64::from((p as f32 + flow.at(lane, n, y, x)) / (1 << l) as f32)
                            };
                            let (px, py) = (place(x, 6), place(y, 3));
                            let (a, b) = (px - px.floor(), py - py.floor());
                            let at = |dy: i64, dx: i64| {
                                let q = [
                                    py.floor() as i64 + j as i64 - radius as i64 + dy,
                                    px.floor() as i64 + i as i64 - radius as i64 + dx,
                                ];
                                product([&maps[0], &maps[1]], channels, l, [n, y, x], q)
                            };
                            let slope = match axis {
                                0 => (at(0, 1) - at(0, 0)) * (1.0 - b) + (at(1, 1) - at(1, 0)) * b,
                                _ => (at(1, 0) - at(0, 0)) * (1.0 - a) + (at(1, 1) - at(0, 1)) * a,
                            };
                            sum += f64::from(g.at(channel, n, y, x)) * slope / f64::from(1 << l);
                        }
                        sum as f32
                    });
                }
            }
        }
    }
}
