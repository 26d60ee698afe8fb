//! RAFT's lookup in the products of all pairs of pixels (Teed & Deng 2020, section 3.2), and its gradients.
//!
//! The volume of all products is never there: at 448x1024 it would take 205 MB, and of each pixel's 9,548 products an iteration
//! reads 400. Averaging the volume over windows of the second map is averaging that map, so the levels are maps, a third more
//! memory together. On each of them a pixel needs the products with a square of whole pixels, between which all offsets are
//! interpolated with the same fractions.
//!
//! From one iteration to the next a flow moves by little, most often less than a pixel, and on coarse levels less still. A lookup
//! therefore hands its products on to the next ([`Known`]), which computes those alone that its squares did not have.

mod gradient;

pub use gradient::LookupGradient;

use std::ops::Range;

use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Scratch,
    disjoint::Disjoint,
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
/// Rows and columns of the largest map. So far beyond it as [`OUTSIDE`] numbers of pixels are exact in single precision.
const MOST_SIDE: usize = 1 << 22;
/// Further outside than any window reaches.
const OUTSIDE: f32 = (2 * MOST_SIDE) as f32;

/// What lookups in the same maps hand on from one to the next: [`Lookup::known_len`] floats.
pub struct Known<'a> {
    /// Products, and the coarse levels of the second map.
    pub values: &'a mut [f32],
    /// Whether they are those of an earlier lookup; otherwise this is the first.
    pub again: bool,
}

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
        assert!(extent.h <= MOST_SIDE && extent.w <= MOST_SIDE, "size");
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

    /// Floats that lookups hand on ([`Known`]).
    pub fn known_len(&self) -> usize {
        let Extent { n, h, w } = self.extent;
        n * h * w * self.levels * self.record_len() + self.channels.div_ceil(LANES) * self.coarse_len()
    }

    /// Floats of a pixel's products on one level, of what vectors at their end reach, and of where the window began.
    fn record_len(&self) -> usize {
        (self.side() * (self.side() + 1) + LANES + 3).next_multiple_of(LANES)
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
        self.with_levels(isa, features[1], scratch, |levels| {
            self.look(isa, [features[0], flow], levels, None, out, scratch)
        });
    }

    /// The same to the last bit, with what is known from an earlier lookup in the same maps.
    pub fn run_knowing(
        &self,
        isa: Isa,
        features: [Blocks<'_>; 2],
        flow: Blocks<'_>,
        known: Known<'_>,
        out: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        self.check(features, flow);
        let Known { values, again } = known;
        assert!(values.len() >= self.known_len(), "known products");
        let (coarse, products) = values.split_at_mut(features[1].planes.len() * self.coarse_len());
        let levels = self.levels(isa, features[1], coarse, again);
        let known = Some((Disjoint::new(products), again));
        self.look(isa, [features[0], flow], &levels, known, out, scratch);
    }

    fn look(
        &self,
        isa: Isa,
        [first, flow]: [Blocks<'_>; 2],
        levels: &[Vec<&[f32]>],
        known: Option<(Disjoint<'_>, bool)>,
        out: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        assert_eq!((out.extent, out.planes.len()), (self.extent, self.looked_up().div_ceil(LANES)), "output");
        let Extent { n, h, w } = self.extent;
        let rows = RowsMut::new(out);
        let work = w * self.levels * (self.side() + 1).pow(2) * self.channels / 8;
        for_ranges(n * h, work, |range| {
            scratch.with(self.sums_len() + self.levels * self.record_len() + self.values_len(), |work| {
                simd::run(isa, Look { lookup: self, first, flow, levels, known, rows: &rows, range, work });
            });
        });
    }

    /// Calls `f` with the blocks of each level of the second map.
    fn with_levels(&self, isa: Isa, second: Blocks<'_>, scratch: &Scratch, f: impl FnOnce(&[Vec<&[f32]>])) {
        scratch.with_shared(second.planes.len() * self.coarse_len(), |work| {
            f(&self.levels(isa, second, work, false));
        });
    }

    /// The blocks of each level of the second map, the coarse ones in `work`, where they may be already.
    fn levels<'a>(&self, isa: Isa, second: Blocks<'a>, work: &'a mut [f32], known: bool) -> Vec<Vec<&'a [f32]>> {
        let mut levels = vec![second.planes.to_vec()];
        let mut rest = work;
        for level in 1..self.levels {
            let (from, to) = (self.level(level - 1), self.level(level));
            let mut blocks = Vec::with_capacity(second.planes.len());
            for finer in &levels[level - 1] {
                let (block, others) = rest.split_at_mut(to.len());
                rest = others;
                if !known {
                    team::for_chunks_mut(block, (to.w * LANES).max(1), |row, line| {
                        let (image, y) = (row / to.h, row % to.h);
                        let lines = &finer[(image * from.h + 2 * y) * from.w * LANES..][..2 * from.w * LANES];
                        simd::run(isa, Halve { lines, line });
                    });
                }
                blocks.push(&*block);
            }
            levels.push(blocks);
        }
        levels
    }

    /// Floats for the sums of the products of one window, 16 lanes each.
    fn sums_len(&self) -> usize {
        (self.side() + 1).pow(2).next_multiple_of(LANES) * LANES
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
        let place = [((at % w) as f32, self.lanes[0]), ((at / w % h) as f32, self.lanes[1])]
            .map(|(p, lane)| ((p + pixel[lane]) * scale).clamp(-OUTSIDE, OUTSIDE));
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

/// What products of pixel `at` of the first map are made of, on one level.
#[derive(Clone, Copy)]
struct Pair<'a> {
    first: Blocks<'a>,
    at: usize,
    level: &'a [&'a [f32]],
}

impl Pair<'_> {
    /// Sums, lane by lane, of the products with the pixels of the level from `pixel` on, `step` apart.
    #[inline(always)]
    fn sums<S: Simd, const N: usize>(&self, pixel: usize, step: usize) -> [S::V; N] {
        let mut sums = [S::zero(); N];
        for (first, level) in self.first.planes.iter().zip(self.level) {
            let a = S::read(&first[self.at * LANES..]);
            let neighbours = &level[pixel * LANES..][..((N - 1) * step + 1) * LANES];
            for i in 0..N {
                sums[i] = S::fma(a, S::read(&neighbours[i * step * LANES..]), sums[i]);
            }
        }
        sums
    }
}

/// Pixels of a level in a row or a column, and which products of a window they are for.
struct Line {
    pixel: usize,
    step: usize,
    len: usize,
    place: usize,
    place_step: usize,
}

/// Computes products of a window, the column outer: `[x][y]`.
struct Products<'a> {
    /// Sixteen sums for each, one behind the other.
    sums: &'a mut [f32],
    /// Which of the window's each is.
    places: [u16; MOST_NEIGHBOURS],
    count: usize,
}

impl<'a> Products<'a> {
    /// `sums` may hold anything that is a number.
    fn new(sums: &'a mut [f32]) -> Self {
        Self { sums, places: [0; MOST_NEIGHBOURS], count: 0 }
    }

    /// Those of some columns and rows of a window, divided by the root of the number of channels.
    #[inline(always)]
    fn compute<S: Simd>(
        &mut self,
        lookup: &Lookup,
        pair: Pair<'_>,
        window: &Window,
        [columns, rows]: [Range<usize>; 2],
        to: &mut [f32],
    ) {
        let wide = lookup.side() + 1;
        let inside = |part: &Range<usize>, all: &Range<usize>| part.start.max(all.start)..part.end.min(all.end);
        let (within, below) = (inside(&columns, &window.columns), inside(&rows, &window.rows));
        if within.len() < columns.len() || below.len() < rows.len() {
            columns.for_each(|column| to[column * wide..][rows.clone()].fill(0.0));
        }
        if within.is_empty() || below.is_empty() {
            return;
        }
        self.count = 0;
        let pixel = |column: usize, row: usize| window.at(row) + column - window.columns.start;
        if within.len() >= below.len() {
            for row in below {
                let (pixel, place) = (pixel(within.start, row), within.start * wide + row);
                self.line::<S, 1>(pair, Line { pixel, step: 1, len: within.len(), place, place_step: wide });
            }
        } else {
            for column in within {
                let (pixel, place) = (pixel(column, below.start), column * wide + below.start);
                self.line::<S, 0>(pair, Line { pixel, step: window.width, len: below.len(), place, place_step: 1 });
            }
        }
        let scale = S::splat(1.0 / (lookup.channels as f32).sqrt());
        let groups = self.sums.chunks_exact(LANES * LANES);
        for (group, places) in groups.zip(self.places[..self.count].chunks(LANES)) {
            let mut rows = [S::zero(); LANES];
            for i in 0..LANES {
                rows[i] = S::read(&group[i * LANES..]);
            }
            S::transpose(&mut rows);
            let mut sum = rows[0];
            for i in 1..LANES {
                sum = S::add(sum, rows[i]);
            }
            let mut products = [0.0; LANES];
            S::write(&mut products, S::mul(sum, scale));
            for (&place, product) in places.iter().zip(products) {
                to[usize::from(place)] = product;
            }
        }
    }

    /// The sums of a line, whose step is `STEP` unless that is 0.
    #[inline(always)]
    fn line<S: Simd, const STEP: usize>(&mut self, pair: Pair<'_>, line: Line) {
        let step = if STEP == 0 { line.step } else { STEP };
        let mut done = 0;
        // As many sums as the registers hold beside the operands, and as the windows of radius 4 and 3 have.
        macro_rules! steps {
            ($count:literal) => {
                while line.len - done >= $count {
                    let sums = pair.sums::<S, $count>(line.pixel + done * step, step);
                    for i in 0..$count {
                        S::write(&mut self.sums[(self.count + i) * LANES..], sums[i]);
                        self.places[self.count + i] = (line.place + (done + i) * line.place_step) as u16;
                    }
                    (self.count, done) = (self.count + $count, done + $count);
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

    /// Brings what is known of a pixel on one level (`record`) to a window: keeps what that has in common with the one before, and
    /// computes the others. Without one `before` it computes all.
    #[inline(always)]
    fn update<S: Simd>(&mut self, lookup: &Lookup, pair: Pair<'_>, window: &Window, before: bool, record: &mut [f32]) {
        let wide = lookup.side() + 1;
        let (products, begin) = record.split_at_mut(record.len() - 2);
        let now = window.first.map(|first| first as f32);
        let moved = [0, 1].map(|axis| if before { (now[axis] - begin[axis]) as isize } else { wide as isize });
        begin.copy_from_slice(&now);
        if moved == [0; 2] {
            return;
        }
        if moved.iter().any(|by| by.unsigned_abs() >= wide) {
            return self.compute::<S>(lookup, pair, window, [0..wide, 0..wide], products);
        }
        // What this leaves of other products is computed next.
        let by = moved[0] * wide as isize + moved[1];
        let (from, to) = if by > 0 { (by as usize, 0) } else { (0, by.unsigned_abs()) };
        products.copy_within(from..wide * wide - to, to);
        let entered = |by: isize| if by > 0 { wide - by as usize..wide } else { 0..by.unsigned_abs() };
        let stayed = if moved[0] > 0 { 0..wide - moved[0] as usize } else { moved[0].unsigned_abs()..wide };
        self.compute::<S>(lookup, pair, window, [entered(moved[0]), 0..wide], products);
        self.compute::<S>(lookup, pair, window, [stayed, entered(moved[1])], products);
    }
}

/// Some rows of the result.
struct Look<'a, 'b> {
    lookup: &'a Lookup,
    first: Blocks<'a>,
    flow: Blocks<'a>,
    levels: &'a [Vec<&'a [f32]>],
    /// The records of all pixels, level by level, and whether there are any yet.
    known: Option<(Disjoint<'a>, bool)>,
    rows: &'a RowsMut<'b>,
    range: Range<usize>,
    work: &'a mut [f32],
}

impl Kernel for Look<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { lookup, first, flow, levels, known, rows, range, work } = self;
        let (side, Extent { h, w, .. }) = (lookup.side(), lookup.extent);
        let (wide, of_pixel) = (side + 1, lookup.levels * lookup.record_len());
        let (sums, work) = work.split_at_mut(lookup.sums_len());
        let (own, values) = work[..of_pixel + lookup.values_len()].split_at_mut(of_pixel);
        // What no product is written to takes part in vectors whose lanes there are not used.
        sums.fill(0.0);
        own.fill(0.0);
        let mut products = Products::new(sums);
        for row in range {
            for x in 0..w {
                let at = row * w + x;
                let (records, before) = match known {
                    // SAFETY: each row, so each pixel, belongs to one task.
                    Some((known, before)) => (unsafe { known.piece(at * of_pixel, of_pixel) }, before),
                    None => (&mut *own, false),
                };
                for (l, (level, record)) in levels.iter().zip(records.chunks_exact_mut(lookup.record_len())).enumerate()
                {
                    let window = lookup.window(flow, at, l);
                    products.update::<S>(lookup, Pair { first, at, level }, &window, before, record);
                    let [a, b] = window.fraction.map(|v| S::splat(v));
                    // A vector for the offsets along y; what it has too many is written over by the next.
                    for i in 0..side {
                        let near = &record[i * wide..];
                        let far = &record[(i + 1) * wide..];
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

    #[test]
    fn what_is_known_changes_nothing() {
        let mut random = Random::new(73);
        for (channels, radius, levels, extent) in CASES {
            let maps = [random.value(channels, extent), random.value(channels, extent)];
            let features = [maps[0].blocks(), maps[1].blocks()];
            let lookup = Lookup::new(extent, channels, radius, levels, [6, 3]);
            // Steps of parts of a pixel, of some pixels, and out of the map and back.
            let steps: Vec<Value> =
                [2.0, 0.0, 0.7, 3.0, 30.0, 1e12].map(|reach| flow(&mut random, extent, reach)).into();
            for isa in Isa::available() {
                let (mut values, scratch) = (vec![f32::NAN; lookup.known_len()], Scratch::new());
                let mut place = Value::zeroed(7, extent);
                for (i, step) in steps.iter().chain(&steps[..3]).enumerate() {
                    for (place, step) in place.buffers.iter_mut().zip(&step.buffers) {
                        place.iter_mut().zip(step.iter()).for_each(|(place, step)| {
                            // Once far out, to where the step points.
                            *place = if place.abs() < 1e6 { *place + step } else { *step };
                        });
                    }
                    let [mut anew, mut knowing] = [(); 2].map(|()| Value::zeroed(lookup.looked_up(), extent));
                    anew.write(|out| lookup.run(isa, features, place.blocks(), out, &scratch));
                    let known = Known { values: &mut values, again: i > 0 };
                    knowing.write(|out| lookup.run_knowing(isa, features, place.blocks(), known, out, &scratch));
                    for (a, b) in anew.buffers.iter().zip(&knowing.buffers) {
                        assert!(a[..] == b[..], "step {i} on {}", isa.name());
                    }
                }
            }
        }
    }
}
