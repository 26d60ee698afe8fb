//! RAFT's lookup in the products of all pairs of pixels (Teed & Deng 2020, section 3.2), and its gradients.
//!
//! The volume of all products is never there: at 448x1024 it would take 205 MB, and of each pixel's 9,548 products an iteration
//! reads 400. Averaging the volume over windows of the second map is averaging that map, so the levels are maps, a third more
//! memory together. On each of them a pixel needs the products with a square of whole pixels, between which all offsets are
//! interpolated with the same fractions.

mod gradient;

pub use gradient::LookupGradient;

use std::ops::Range;

use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Scratch,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
    team,
};

/// Largest offset: a row of neighbours then fits a vector.
const MOST_RADIUS: usize = 7;
/// Neighbours of the largest window.
const MOST_NEIGHBOURS: usize = (2 * MOST_RADIUS + 2) * (2 * MOST_RADIUS + 2);
/// Products beyond which a window's are not written, but which vectors at its end may reach.
const SLACK: usize = 3 * LANES;

/// The lookup of levels of one feature map around where a flow points, for every pixel of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    extent: Extent,
    channels: usize,
    radius: usize,
    levels: usize,
    /// Lanes of u and v in the flow's first block.
    lanes: [usize; 2],
}

impl Lookup {
    /// Offsets of `-radius ..= radius` along both axes on each of `levels` levels.
    ///
    /// # Panics
    /// If there is no level, or the radius is above 7.
    pub fn new(extent: Extent, channels: usize, radius: usize, levels: usize, lanes: [usize; 2]) -> Self {
        assert!(radius <= MOST_RADIUS && (1..=16).contains(&levels), "radius and levels");
        assert!(lanes.iter().all(|&lane| lane < LANES), "lanes");
        let products = extent.len().checked_mul(levels * MOST_NEIGHBOURS);
        assert!(products.is_some() && extent.len().checked_mul(channels).is_some(), "more than any memory holds");
        Self { extent, channels, radius, levels, lanes }
    }

    fn side(&self) -> usize {
        2 * self.radius + 1
    }

    /// Channels of the result.
    pub fn looked_up(&self) -> usize {
        self.levels * self.side() * self.side()
    }

    /// Multiply-adds times two.
    pub fn flop(&self) -> f64 {
        2.0 * (self.levels * (self.side() + 1).pow(2) * self.channels) as f64 * (self.extent.len() / LANES) as f64
    }

    fn level(&self, level: usize) -> Extent {
        let Extent { n, h, w } = self.extent;
        Extent { n, h: h >> level, w: w >> level }
    }

    /// Floats of one block of all levels but the first.
    fn coarse_len(&self) -> usize {
        (1..self.levels).map(|level| self.level(level).len()).sum()
    }

    fn check(&self, features: [Blocks<'_>; 2], flow: Blocks<'_>) {
        let blocks = self.channels.div_ceil(LANES);
        let len = self.extent.len();
        for feature in features {
            assert_eq!((feature.extent, feature.planes.len()), (self.extent, blocks), "features");
            assert!(feature.planes.iter().all(|plane| plane.len() >= len), "features");
        }
        assert!(flow.extent == self.extent && flow.planes.first().is_some_and(|plane| plane.len() >= len), "flow");
    }

    /// Channel `(level * side + i) * side + j` of a pixel is its product with the second map at offset `(i, j)`, columns first,
    /// divided by the root of the number of channels.
    pub fn run(
        &self,
        isa: Isa,
        features: [Blocks<'_>; 2],
        flow: Blocks<'_>,
        out: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        self.check(features, flow);
        assert_eq!((out.extent, out.planes.len()), (self.extent, self.looked_up().div_ceil(LANES)), "output");
        let Extent { n, h, w } = self.extent;
        let rows = RowsMut::new(out);
        self.with_levels(isa, features[1], scratch, |levels| {
            let work = w * self.levels * (self.side() + 1).pow(2) * self.channels / 8;
            for_ranges(n * h, work, |range| {
                scratch.with(self.products_len() + self.values_len(), |work| {
                    simd::run(isa, Look { lookup: self, first: features[0], flow, levels, rows: &rows, range, work });
                });
            });
        });
    }

    /// Calls `f` with the blocks of each level of the second map.
    fn with_levels(&self, isa: Isa, second: Blocks<'_>, scratch: &Scratch, f: impl FnOnce(&[Vec<&[f32]>])) {
        let coarse_len = self.coarse_len();
        scratch.with_shared(second.planes.len() * coarse_len, |work| {
            let mut levels = vec![second.planes.to_vec()];
            let mut rest = &mut work[..second.planes.len() * coarse_len];
            for level in 1..self.levels {
                let (from, to) = (self.level(level - 1), self.level(level));
                let mut blocks = Vec::with_capacity(second.planes.len());
                for finer in &levels[level - 1] {
                    let (block, others) = rest.split_at_mut(to.len());
                    rest = others;
                    team::for_chunks_mut(block, (to.w * LANES).max(1), |row, line| {
                        let (image, y) = (row / to.h, row % to.h);
                        let lines = &finer[(image * from.h + 2 * y) * from.w * LANES..][..2 * from.w * LANES];
                        simd::run(isa, Halve { lines, line });
                    });
                    blocks.push(&*block);
                }
                levels.push(blocks);
            }
            f(&levels);
        });
    }

    /// Floats for the products of one window, each as the sums of 16 lanes and as one number.
    fn products_len(&self) -> usize {
        let neighbours = (self.side() + 1).pow(2).next_multiple_of(LANES);
        neighbours * LANES + neighbours + SLACK
    }

    /// Floats of a pixel's values, and what vectors at the end reach.
    fn values_len(&self) -> usize {
        self.looked_up().next_multiple_of(LANES) + LANES
    }

    /// What pixel `at` of all images looks at on a level, by where the flow points.
    #[inline(always)]
    fn window(&self, flow: Blocks<'_>, at: usize, level: usize) -> Window {
        let Extent { h, w, .. } = self.extent;
        let pixel = &flow.planes[0][at * LANES..][..LANES];
        let scale = 1.0 / (1u32 << level) as f32;
        let place = [((at % w) as f32, self.lanes[0]), ((at / w % h) as f32, self.lanes[1])].map(|(p, lane)| {
            // What lies so far outside that it could not be a number of a pixel is outside all the same.
            ((p + pixel[lane]) * scale).clamp(-1e9, 1e9)
        });
        let Extent { h, w, .. } = self.level(level);
        let first = place.map(|v| v.floor() as isize - self.radius as isize);
        let wide = self.side() as isize + 1;
        let inside = |first: isize, size: usize| {
            let (from, to) = (first.clamp(0, size as isize), (first + wide).clamp(0, size as isize));
            (from - first).clamp(0, wide) as usize..(to - first).clamp(0, wide) as usize
        };
        let (columns, rows) = (inside(first[0], w), inside(first[1], h));
        let nothing = columns.is_empty() || rows.is_empty();
        Window {
            image: at / (self.extent.h * self.extent.w) * h * w,
            width: w,
            first,
            columns: if nothing { 0..0 } else { columns },
            rows: if nothing { 0..0 } else { rows },
            fraction: place.map(|v| v - v.floor()),
        }
    }
}

/// The neighbours between which the offsets of a pixel lie on one level.
struct Window {
    /// The first pixel of its image.
    image: usize,
    /// Columns of the level.
    width: usize,
    /// Column and row of the first neighbour, which may lie outside.
    first: [isize; 2],
    /// The window's columns and rows that lie inside the level; both are empty where no neighbour does.
    columns: Range<usize>,
    rows: Range<usize>,
    /// How far behind a neighbour each offset lies, along x and y.
    fraction: [f32; 2],
}

impl Window {
    /// The pixel of the level, of all images, in a row that is inside, at the first column that is.
    #[inline(always)]
    fn at(&self, row: usize) -> usize {
        let y = (self.first[1] + row as isize) as usize;
        self.image + y * self.width + (self.first[0] + self.columns.start as isize) as usize
    }

    /// The weights of the four neighbours of an offset: upper left, upper right, lower left, lower right.
    #[inline(always)]
    fn weights(&self) -> [f32; 4] {
        let [a, b] = self.fraction;
        [(1.0 - a) * (1.0 - b), a * (1.0 - b), (1.0 - a) * b, a * b]
    }
}

/// A row of a level from two of the finer one.
struct Halve<'a> {
    lines: &'a [f32],
    line: &'a mut [f32],
}

impl Kernel for Halve<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (upper, lower) = self.lines.split_at(self.lines.len() / 2);
        let quarter = S::splat(0.25);
        for (x, to) in self.line.chunks_exact_mut(LANES).enumerate() {
            let [left, right] = [2 * x * LANES, (2 * x + 1) * LANES];
            let above = S::add(S::read(&upper[left..]), S::read(&upper[right..]));
            let below = S::add(S::read(&lower[left..]), S::read(&lower[right..]));
            S::write(to, S::mul(S::add(above, below), quarter));
        }
    }
}

/// Products of a pixel with the neighbours of a window, the column outer: `[x][y]`.
struct Products<'a> {
    /// Sixteen sums for each product.
    sums: &'a mut [f32],
    products: &'a mut [f32],
}

impl<'a> Products<'a> {
    #[inline(always)]
    fn new(lookup: &Lookup, work: &'a mut [f32]) -> Self {
        let neighbours = (lookup.side() + 1).pow(2).next_multiple_of(LANES);
        let (sums, products) = work.split_at_mut(neighbours * LANES);
        Self { sums, products: &mut products[..neighbours + SLACK] }
    }

    /// The products of pixel `at` of the first map on one level, divided by the root of the number of channels.
    #[inline(always)]
    fn compute<S: Simd>(&mut self, lookup: &Lookup, first: Blocks<'_>, at: usize, level: &[&[f32]], window: &Window) {
        let wide = lookup.side() + 1;
        let neighbours = wide * wide;
        if window.columns.len() < wide || window.rows.len() < wide {
            self.sums[..neighbours * LANES].fill(0.0);
        }
        for row in window.rows.clone() {
            let mut column = window.columns.start;
            let mut pixel = window.at(row);
            let mut left = window.columns.len();
            // As many sums as the registers hold beside the operands, and as the windows of radius 4 and 3 have.
            macro_rules! steps {
                ($count:literal) => {
                    while left >= $count {
                        let sums = sums::<S, $count>(first, at, level, pixel);
                        for i in 0..$count {
                            S::write(&mut self.sums[((column + i) * wide + row) * LANES..], sums[i]);
                        }
                        (column, pixel, left) = (column + $count, pixel + $count, left - $count);
                    }
                };
            }
            if S::ISA == Isa::Avx512 {
                steps!(10);
                steps!(8);
            }
            steps!(5);
            steps!(4);
            steps!(1);
        }
        let scale = S::splat(1.0 / (lookup.channels as f32).sqrt());
        let groups = self.sums[..neighbours.next_multiple_of(LANES) * LANES].chunks_exact(LANES * LANES);
        for (group, to) in groups.zip(self.products.chunks_exact_mut(LANES)) {
            let mut rows = [S::zero(); LANES];
            for i in 0..LANES {
                rows[i] = S::read(&group[i * LANES..]);
            }
            S::transpose(&mut rows);
            let mut sum = rows[0];
            for i in 1..LANES {
                sum = S::add(sum, rows[i]);
            }
            S::write(to, S::mul(sum, scale));
        }
    }
}

/// Sums, lane by lane, of the products of a pixel with `N` neighbouring ones of a level.
#[inline(always)]
fn sums<S: Simd, const N: usize>(first: Blocks<'_>, at: usize, level: &[&[f32]], pixel: usize) -> [S::V; N] {
    let mut sums = [S::zero(); N];
    for (first, level) in first.planes.iter().zip(level) {
        let a = S::read(&first[at * LANES..]);
        let neighbours = &level[pixel * LANES..][..N * LANES];
        for i in 0..N {
            sums[i] = S::fma(a, S::read(&neighbours[i * LANES..]), sums[i]);
        }
    }
    sums
}

/// Some rows of the result.
struct Look<'a, 'b> {
    lookup: &'a Lookup,
    first: Blocks<'a>,
    flow: Blocks<'a>,
    levels: &'a [Vec<&'a [f32]>],
    rows: &'a RowsMut<'b>,
    range: Range<usize>,
    work: &'a mut [f32],
}

impl Kernel for Look<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { lookup, first, flow, levels, rows, range, work } = self;
        let (side, Extent { h, w, .. }) = (lookup.side(), lookup.extent);
        let wide = side + 1;
        let (products, values) =
            work[..lookup.products_len() + lookup.values_len()].split_at_mut(lookup.products_len());
        // What no product is written to takes part in vectors whose lanes there are not used.
        products.fill(0.0);
        let mut products = Products::new(lookup, products);
        for row in range {
            for x in 0..w {
                let at = row * w + x;
                for (l, level) in levels.iter().enumerate() {
                    let window = lookup.window(flow, at, l);
                    products.compute::<S>(lookup, first, at, level, &window);
                    let [a, b] = window.fraction.map(|v| S::splat(v));
                    // A vector for the offsets along y; what it has too many is written over by the next.
                    for i in 0..side {
                        let near = &products.products[i * wide..];
                        let far = &products.products[(i + 1) * wide..];
                        let mix = |from, to, t| S::fma(S::sub(to, from), t, from);
                        let upper = mix(S::read(near), S::read(far), a);
                        let lower = mix(S::read(&near[1..]), S::read(&far[1..]), a);
                        S::write(&mut values[(l * side + i) * side..], mix(upper, lower, b));
                    }
                }
                values[lookup.looked_up()..].fill(0.0);
                for (block, values) in values.chunks_exact(LANES).take(lookup.looked_up().div_ceil(LANES)).enumerate() {
                    // SAFETY: each row belongs to one task.
                    let out = unsafe { rows.row(block, row / h, row % h) };
                    S::write(&mut out[x * LANES..], S::read(values));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, Value, on_any_threads};

    /// Channels, radius, levels, extent: windows of both networks and others, levels without a pixel, whole and part vectors.
    pub(super) const CASES: [(usize, usize, usize, Extent); 7] = [
        (5, 4, 4, Extent { n: 1, h: 1, w: 1 }),
        (20, 3, 4, Extent { n: 2, h: 5, w: 7 }),
        (16, 4, 4, Extent { n: 1, h: 16, w: 17 }),
        (35, 4, 2, Extent { n: 2, h: 13, w: 22 }),
        (3, 0, 1, Extent { n: 1, h: 4, w: 3 }),
        (18, 7, 3, Extent { n: 1, h: 9, w: 20 }),
        (40, 1, 5, Extent { n: 1, h: 19, w: 8 }),
    ];

    /// Flows of up to `reach` pixels, some of them whole.
    pub(super) fn flow(random: &mut Random, extent: Extent, reach: f32) -> Value {
        let mut flow = random.value(7, extent);
        for v in flow.buffers.iter_mut().flat_map(|b| b.iter_mut()) {
            *v *= reach;
            if (*v * 8.0) as i32 % 4 == 0 {
                *v = v.round();
            }
        }
        flow
    }

    /// `<f1(p), level(y, x)> / sqrt(C)` in double precision, 0 outside.
    pub(super) fn product(maps: [&Value; 2], channels: usize, l: usize, [n, y, x]: [usize; 3], q: [i64; 2]) -> f64 {
        let Extent { h, w, .. } = maps[1].extent;
        let inside = |at: i64, size: usize| (0..(size >> l) as i64).contains(&at);
        if !inside(q[0], h) || !inside(q[1], w) {
            return 0.0;
        }
        let size = 1usize << l;
        let mean = |c: usize| {
            let pixels = (0..size * size).map(|i| (q[0] as usize * size + i / size, q[1] as usize * size + i % size));
            pixels.map(|(y, x)| f64::from(maps[1].at(c, n, y, x))).sum::<f64>() / (size * size) as f64
        };
        (0..channels).map(|c| f64::from(maps[0].at(c, n, y, x)) * mean(c)).sum::<f64>() / (channels as f64).sqrt()
    }

    #[test]
    fn offsets_are_interpolated_between_products() {
        let mut random = Random::new(71);
        for (channels, radius, levels, extent) in CASES {
            let maps = [random.value(channels, extent), random.value(channels, extent)];
            for reach in [0.0, 3.0, 30.0, 1e12] {
                let flow = flow(&mut random, extent, reach);
                let lookup = Lookup::new(extent, channels, radius, levels, [6, 3]);
                let side = lookup.side();
                for isa in Isa::available() {
                    let results = on_any_threads(|| {
                        let mut out = Value::zeroed(lookup.looked_up(), extent);
                        let features = [maps[0].blocks(), maps[1].blocks()];
                        out.write(|out| lookup.run(isa, features, flow.blocks(), out, &Scratch::new()));
                        vec![out]
                    });
                    results[0].assert_close(1e-4, |channel, n, y, x| {
                        let (l, i, j) = (channel / (side * side), channel / side % side, channel % side);
                        // The place in single precision, as everywhere: at a whole pixel it must not be one beside it.
                        let place =
                            |p: usize, lane: usize| f64::from((p as f32 + flow.at(lane, n, y, x)) / (1 << l) as f32);
                        let (px, py) = (place(x, 6) + i as f64 - radius as f64, place(y, 3) + j as f64 - radius as f64);
                        if px.abs().max(py.abs()) > 1e6 {
                            return 0.0;
                        }
                        let (a, b) = (px - px.floor(), py - py.floor());
                        let at = |dy: i64, dx: i64| {
                            let q = [py.floor() as i64 + dy, px.floor() as i64 + dx];
                            product([&maps[0], &maps[1]], channels, l, [n, y, x], q)
                        };
                        let upper = at(0, 0) * (1.0 - a) + at(0, 1) * a;
                        let lower = at(1, 0) * (1.0 - a) + at(1, 1) * a;
                        (upper * (1.0 - b) + lower * b) as f32
                    });
                }
            }
        }
    }
}
