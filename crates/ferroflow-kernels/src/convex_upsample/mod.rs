//! Convex upsampling of a flow (RAFT: Teed & Deng 2020, section 3.3): every fine pixel is a mixture of the nine coarse
//! ones around it, with weights that a network predicts; and its gradients.
//!
//! The weights of neighbouring fine pixels are neighbouring channels, so a softmax runs across blocks. Sixteen coarse
//! pixels at a time are transposed: one vector then holds one channel of all of them, and everything between is vertical.

mod gradient;

pub use gradient::ConvexUpsampleGradient;

use std::ops::Range;

use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Scratch,
    disjoint::Disjoint,
    rows::for_ranges,
    simd::{self, Kernel, Simd},
};

/// Coarse pixels that a fine one is mixed of: 3 x 3, row by row, zeros outside the image.
const NEIGHBOURS: usize = 9;

/// The upsampling of a flow to `factor` times the size.
///
/// The logits of the weights are `9 * factor * factor` channels, channel `(k * factor + dy) * factor + dx` that of
/// neighbour `k` for the fine pixel `(dy, dx)` of the coarse one, as in RAFT's `upsample_flow`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvexUpsample {
    /// Extent of the flow and of the logits.
    pub from: Extent,
    /// How many times larger the result is.
    pub factor: usize,
    /// Lanes of u and v in the flow's first block.
    pub lanes: [usize; 2],
    /// What u and v are multiplied by.
    pub scale: [f32; 2],
}

impl ConvexUpsample {
    /// Extent of the result.
    pub fn to(&self) -> Extent {
        Extent { n: self.from.n, h: self.factor * self.from.h, w: self.factor * self.from.w }
    }

    /// Channels of the logits.
    pub fn logits(&self) -> usize {
        NEIGHBOURS * self.factor * self.factor
    }

    /// The flow in lanes 0 and 1 of a block.
    pub fn run(&self, isa: Isa, flow: Blocks<'_>, logits: Blocks<'_>, out: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        assert_eq!((out.extent, out.planes.len()), (self.to(), 1), "output");
        let len = out.extent.len();
        self.write(isa, flow, logits, Form::Blocks, &mut out.planes[0][..len], scratch);
    }

    /// The flow as planar `[n][2][h][w]`.
    pub fn run_flow(&self, isa: Isa, flow: Blocks<'_>, logits: Blocks<'_>, out: &mut [f32], scratch: &Scratch) {
        let Extent { n, h, w } = self.to();
        assert_eq!(out.len(), n * 2 * h * w, "output");
        self.write(isa, flow, logits, Form::Planar, out, scratch);
    }

    fn check(&self, flow: Blocks<'_>, logits: Blocks<'_>) {
        assert!(self.factor > 0 && self.lanes.iter().all(|&lane| lane < LANES), "factor and lanes");
        assert_eq!((flow.extent, logits.extent), (self.from, self.from), "extent");
        assert_eq!(logits.planes.len(), self.logits().div_ceil(LANES), "blocks of logits");
        let long = |plane: &&[f32]| plane.len() >= self.from.len();
        assert!(flow.planes.first().is_some_and(long) && logits.planes.iter().all(long), "blocks");
    }

    fn write(&self, isa: Isa, flow: Blocks<'_>, logits: Blocks<'_>, form: Form, out: &mut [f32], scratch: &Scratch) {
        self.check(flow, logits);
        let Extent { n, h, w } = self.from;
        let out = Disjoint::new(out);
        // Sixteen of each component for every column of a fine row.
        let work = Lines::len(w) + Gathered::len(logits) + 2 * self.factor * LANES;
        for_ranges(n * h, w * LANES * (logits.planes.len() + 1), |range| {
            scratch.with(work, |work| {
                simd::run(isa, Forward { upsample: self, flow: flow.planes[0], logits, range, work, form, out });
            });
        });
    }
}

/// How a flow is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Blocks,
    Planar,
}

/// Some rows of the coarse flow.
struct Forward<'a> {
    upsample: &'a ConvexUpsample,
    flow: &'a [f32],
    logits: Blocks<'a>,
    range: Range<usize>,
    work: &'a mut [f32],
    form: Form,
    out: Disjoint<'a>,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let ConvexUpsample { from: Extent { h, w, .. }, factor, scale, .. } = *self.upsample;
        let wide = factor * w;
        let (lines, work) = self.work.split_at_mut(Lines::len(w));
        let (gathered, work) = work.split_at_mut(Gathered::len(self.logits));
        let fine = &mut work[..2 * factor * LANES];
        let (mut lines, mut logits) = (Lines::new(lines, w), Gathered::new(gathered));
        for row in self.range {
            lines.hold(self.upsample, self.flow, row);
            // Both forms keep the fine rows of a coarse one together.
            let (image, y) = (row / h, row % h);
            let piece = factor * wide;
            // SAFETY: each `row` is visited once, and its pieces belong to it alone.
            let mut to = unsafe {
                match self.form {
                    Form::Blocks => [self.out.piece(row * piece * LANES, piece * LANES), &mut []],
                    Form::Planar => [0, 1].map(|c| self.out.piece((image * 2 + c) * h * piece + y * piece, piece)),
                }
            };
            for first in (0..w).step_by(LANES) {
                let count = LANES.min(w - first);
                logits.load::<S>(self.logits, row * w + first, count);
                for dy in 0..factor {
                    for dx in 0..factor {
                        let (weights, sum) = logits.exponentials::<S>(factor * factor, dy * factor + dx);
                        let mut mixed = [S::zero(); 2];
                        for (k, weight) in weights.into_iter().enumerate() {
                            for (c, mixed) in mixed.iter_mut().enumerate() {
                                *mixed = S::fma(weight, lines.neighbour::<S>(k, c, first), *mixed);
                            }
                        }
                        let share = S::div(S::splat(1.0), sum);
                        let u = S::mul(S::mul(mixed[0], share), S::splat(scale[0]));
                        let v = S::mul(S::mul(mixed[1], share), S::splat(scale[1]));
                        match self.form {
                            Form::Blocks => {
                                let mut pixels = [S::zero(); LANES];
                                (pixels[0], pixels[1]) = (u, v);
                                S::transpose(&mut pixels);
                                let start = dy * wide + first * factor + dx;
                                let to = to[0][start * LANES..].chunks_mut(LANES).step_by(factor);
                                for (to, pixel) in to.zip(pixels).take(count) {
                                    S::write(to, pixel);
                                }
                            }
                            Form::Planar => {
                                for (c, v) in [u, v].into_iter().enumerate() {
                                    S::write(&mut fine[(c * factor + dx) * LANES..], v);
                                }
                            }
                        }
                    }
                    if self.form == Form::Planar {
                        for (fine, to) in fine.chunks_exact(factor * LANES).zip(&mut to) {
                            let to = &mut to[dy * wide + first * factor..][..count * factor];
                            match factor {
                                2 => interleave::<2>(fine, to),
                                4 => interleave::<4>(fine, to),
                                8 => interleave::<8>(fine, to),
                                _ => interleave_any(fine, to),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Sixteen values for each of `F` columns, into their places along a row.
#[inline(always)]
fn interleave<const F: usize>(columns: &[f32], row: &mut [f32]) {
    let columns: [&[f32]; F] = std::array::from_fn(|dx| &columns[dx * LANES..][..LANES]);
    for (x, to) in row.chunks_exact_mut(F).enumerate().take(LANES) {
        to.iter_mut().zip(columns).for_each(|(to, column)| *to = column[x]);
    }
}

/// The same for any number of columns.
#[inline(always)]
fn interleave_any(columns: &[f32], row: &mut [f32]) {
    let factor = columns.len() / LANES;
    for (x, to) in row.chunks_exact_mut(factor).enumerate() {
        to.iter_mut().zip(columns.chunks_exact(LANES)).for_each(|(to, column)| *to = column[x]);
    }
}

/// Rows of the flow around the one that is being upsampled, u and v apart, one zero before each and zeros behind.
struct Lines<'a> {
    /// A line of zeros for the rows outside the image, then three rows of two lines.
    values: &'a mut [f32],
    /// Floats of a line.
    line: usize,
    /// The row that each slot holds.
    held: [usize; 3],
    /// Where the line of each neighbouring row and component begins.
    starts: [[usize; 2]; 3],
}

impl<'a> Lines<'a> {
    /// Floats of a line: the vectors that begin up to two values behind each sixteenth one.
    fn line(width: usize) -> usize {
        width.next_multiple_of(LANES) + LANES
    }

    fn len(width: usize) -> usize {
        7 * Self::line(width)
    }

    #[inline(always)]
    fn new(values: &'a mut [f32], width: usize) -> Self {
        let line = Self::line(width);
        values[..line].fill(0.0);
        Self { values, line, held: [usize::MAX; 3], starts: [[0; 2]; 3] }
    }

    /// Turns to row `row` of all images: reads what its neighbours need and is not held yet.
    #[inline(always)]
    fn hold(&mut self, upsample: &ConvexUpsample, flow: &[f32], row: usize) {
        let ConvexUpsample { from: Extent { h, w, .. }, lanes, .. } = *upsample;
        for (i, starts) in self.starts.iter_mut().enumerate() {
            // Rows above and below those of the image are zeros.
            if !(1..=h).contains(&(row % h + i)) {
                *starts = [0; 2];
                continue;
            }
            let row = row + i - 1;
            let slot = row % 3;
            *starts = [0, 1].map(|c| (1 + 2 * slot + c) * self.line);
            if self.held[slot] == row {
                continue;
            }
            self.held[slot] = row;
            for (start, lane) in starts.iter().zip(lanes) {
                let line = &mut self.values[*start..][..self.line];
                line[0] = 0.0;
                line[w + 1..].fill(0.0);
                let pixels = flow[row * w * LANES..][..w * LANES].chunks_exact(LANES);
                line[1..].iter_mut().zip(pixels).for_each(|(to, pixel)| *to = pixel[lane]);
            }
        }
    }

    /// Component `c` of neighbour `k` of sixteen pixels.
    #[inline(always)]
    fn neighbour<S: Simd>(&self, k: usize, c: usize, first: usize) -> S::V {
        S::read(&self.values[self.starts[k / 3][c] + first + k % 3..])
    }
}

/// The channels of sixteen coarse pixels, a vector each.
struct Gathered<'a> {
    values: &'a mut [f32],
}

impl<'a> Gathered<'a> {
    fn len(logits: Blocks<'_>) -> usize {
        logits.planes.len() * LANES * LANES
    }

    #[inline(always)]
    fn new(values: &'a mut [f32]) -> Self {
        Self { values }
    }

    /// Reads `count` pixels from pixel `first` of all images on; the others are zeros.
    #[inline(always)]
    fn load<S: Simd>(&mut self, logits: Blocks<'_>, first: usize, count: usize) {
        for (plane, to) in logits.planes.iter().zip(self.values.chunks_exact_mut(LANES * LANES)) {
            let pixels = plane[first * LANES..][..count * LANES].chunks_exact(LANES);
            let mut rows = [S::zero(); LANES];
            // Loops: a closure is not compiled for the instruction set that the function is.
            for (row, pixel) in rows.iter_mut().zip(pixels) {
                *row = S::read(pixel);
            }
            S::transpose(&mut rows);
            for (to, row) in to.chunks_exact_mut(LANES).zip(rows) {
                S::write(to, row);
            }
        }
    }

    /// The softmax of fine pixel `s` of `count` before its division: the exponentials of all logits less the largest, and
    /// their sum.
    #[inline(always)]
    fn exponentials<S: Simd>(&self, count: usize, s: usize) -> ([S::V; NEIGHBOURS], S::V) {
        let mut logits = [S::zero(); NEIGHBOURS];
        for k in 0..NEIGHBOURS {
            logits[k] = S::read(&self.values[(k * count + s) * LANES..]);
        }
        let mut largest = logits[0];
        for k in 1..NEIGHBOURS {
            largest = S::max(largest, logits[k]);
        }
        let mut sum = S::zero();
        for logit in &mut logits {
            *logit = simd::exp::<S>(S::sub(*logit, largest));
            sum = S::add(sum, *logit);
        }
        (logits, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, Value, on_any_threads};

    /// Sizes below, at and above a vector of pixels; factors whose channels fill blocks, and those that do not.
    pub(super) const CASES: [(usize, Extent); 8] = [
        (2, Extent { n: 1, h: 1, w: 1 }),
        (2, Extent { n: 2, h: 5, w: 7 }),
        (2, Extent { n: 1, h: 9, w: 16 }),
        (2, Extent { n: 2, h: 37, w: 45 }),
        (3, Extent { n: 2, h: 4, w: 19 }),
        (4, Extent { n: 1, h: 6, w: 33 }),
        (5, Extent { n: 1, h: 2, w: 3 }),
        (8, Extent { n: 2, h: 3, w: 18 }),
    ];

    /// Logits of -8..8: weights from nearly 0 to nearly 1.
    pub(super) fn logits(random: &mut Random, upsample: &ConvexUpsample) -> Value {
        let mut logits = random.value(upsample.logits(), upsample.from);
        logits.buffers.iter_mut().flat_map(|b| b.iter_mut()).for_each(|v| *v *= 8.0);
        logits
    }

    /// The nine weights of a fine pixel and the flows they weigh, in double precision from the formula.
    pub(super) fn mixture(
        upsample: &ConvexUpsample,
        flow: &Value,
        logits: &Value,
        [n, y, x]: [usize; 3],
    ) -> [(f64, [f64; 2]); 9] {
        let (f, Extent { h, w, .. }) = (upsample.factor, upsample.from);
        let logit = |k: usize| f64::from(logits.at((k * f + y % f) * f + x % f, n, y / f, x / f));
        let largest = (0..9).map(logit).fold(f64::MIN, f64::max);
        let sum: f64 = (0..9).map(|k| (logit(k) - largest).exp()).sum();
        std::array::from_fn(|k| {
            let (ny, nx) = ((y / f + k / 3).wrapping_sub(1), (x / f + k % 3).wrapping_sub(1));
            let at = |c: usize| if ny < h && nx < w { f64::from(flow.at(upsample.lanes[c], n, ny, nx)) } else { 0.0 };
            ((logit(k) - largest).exp() / sum, [at(0), at(1)])
        })
    }

    #[test]
    fn fine_pixels_are_convex_combinations_of_coarse_ones() {
        let mut random = Random::new(51);
        for (factor, from) in CASES {
            for (lanes, scale) in [([0, 1], [1.0, 1.0]), ([6, 3], [factor as f32, -0.5])] {
                let upsample = ConvexUpsample { from, factor, lanes, scale };
                let (flow, logits) = (random.value(7, from), logits(&mut random, &upsample));
                let to = upsample.to();
                let want = |c: usize, n: usize, y: usize, x: usize| -> f32 {
                    let mixture = mixture(&upsample, &flow, &logits, [n, y, x]);
                    let sum: f64 = mixture.iter().map(|(weight, flow)| weight * flow[c]).sum();
                    (sum * f64::from(scale[c])) as f32
                };
                for isa in Isa::available() {
                    let results = on_any_threads(|| {
                        let scratch = Scratch::new();
                        let mut out = Value::zeroed(2, to);
                        out.write(|out| upsample.run(isa, flow.blocks(), logits.blocks(), out, &scratch));
                        vec![out]
                    });
                    results[0].assert_close(1e-6, want);
                    let (scratch, mut planar) = (Scratch::new(), vec![f32::NAN; 2 * to.n * to.h * to.w]);
                    upsample.run_flow(isa, flow.blocks(), logits.blocks(), &mut planar, &scratch);
                    for (i, got) in planar.iter().enumerate() {
                        let (n, c, y, x) = (i / (2 * to.h * to.w), i / (to.h * to.w) % 2, i / to.w % to.h, i % to.w);
                        assert_eq!(*got, results[0].at(c, n, y, x), "{upsample:?}, {n} {c} {y} {x}");
                    }
                }
            }
        }
    }

    #[test]
    fn extreme_logits_choose_one_neighbour() {
        let from = Extent { n: 1, h: 3, w: 5 };
        let upsample = ConvexUpsample { from, factor: 2, lanes: [0, 1], scale: [1.0; 2] };
        let flow = Random::new(52).value(2, from);
        for (low, high) in [(-1e30, 1e30), (f32::NEG_INFINITY, 0.0), (0.0, 3e38)] {
            for k in [0, 4, 5] {
                let mut logits = Value::zeroed(36, from);
                logits.buffers.iter_mut().for_each(|b| b.fill(low));
                for pixel in 0..from.h * from.w {
                    for s in 0..4 {
                        let channel = k * 4 + s;
                        logits.buffers[channel / LANES][pixel * LANES + channel % LANES] = high;
                    }
                }
                for isa in Isa::available() {
                    let mut out = Value::zeroed(2, upsample.to());
                    out.write(|out| upsample.run(isa, flow.blocks(), logits.blocks(), out, &Scratch::new()));
                    // The others weigh as little as the exponential gets.
                    out.assert_close(1e-36, |c, n, y, x| {
                        let (y, x) = ((y / 2 + k / 3).wrapping_sub(1), (x / 2 + k % 3).wrapping_sub(1));
                        if y < from.h && x < from.w { flow.at(c, n, y, x) } else { 0.0 }
                    });
                }
            }
        }
    }
}
