//! Gradients of convex upsampling to its flow and to its logits. The weights are computed again, once for both: keeping them
//! would cost as much memory as the logits, and more time than nine exponentials.

use std::ops::Range;

use super::{ConvexUpsample, Gathered, Lines, NEIGHBOURS};
use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Scratch, Update,
    disjoint::Disjoint,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
};

/// What a [`ConvexUpsample`] was given, and the gradient of its result.
#[derive(Clone, Copy)]
pub struct ConvexUpsampleGradient<'a> {
    /// The upsampling.
    pub upsample: &'a ConvexUpsample,
    /// The coarse flow.
    pub flow: Blocks<'a>,
    /// The logits of the weights.
    pub logits: Blocks<'a>,
    /// The gradient of the fine flow.
    pub g: Blocks<'a>,
}

impl ConvexUpsampleGradient<'_> {
    /// The gradients to the flow and to the logits, where wanted. The flow's is written to the lanes that the flow was read
    /// from.
    pub fn run(
        self,
        isa: Isa,
        d_flow: Option<(Update, &mut BlocksMut<'_, '_>)>,
        d_logits: Option<(Update, &mut BlocksMut<'_, '_>)>,
        scratch: &Scratch,
    ) {
        let Self { upsample, flow, logits, g } = self;
        upsample.check(flow, logits);
        assert_eq!((g.extent, g.planes.len()), (upsample.to(), 1), "gradient");
        assert!(g.planes[0].len() >= g.extent.len(), "gradient");
        if d_flow.is_none() && d_logits.is_none() {
            return;
        }
        let Extent { n, h, w } = upsample.from;
        let d_logits = d_logits.map(|(update, d)| {
            assert_eq!((d.extent, d.planes.len()), (upsample.from, logits.planes.len()), "extent");
            (update, RowsMut::new(d))
        });
        let (line, work) = (Lines::line(w), Lines::len(w) + Gathered::len(logits));
        let shares = if d_flow.is_some() { SHARES * line } else { 0 };
        let read = w * LANES * (logits.planes.len() + upsample.factor * upsample.factor);
        scratch.with_shared(n * h * shares, |kept| {
            let kept = &mut kept[..n * h * shares];
            let shared = Disjoint::new(&mut *kept);
            for_ranges(n * h, 2 * read, |range| {
                scratch.with(work, |work| {
                    simd::run(isa, Weigh { gradient: self, range, work, d: d_logits.as_ref(), shares: shared });
                });
            });
            if let Some((update, d)) = d_flow {
                assert_eq!(d.extent, upsample.from, "extent");
                let (d, kept) = (&RowsMut::new(d), &*kept);
                for_ranges(n * h, (SHARES + LANES) * w, |range| {
                    simd::run(isa, ToFlow { upsample, kept, line, range, update, d });
                });
            }
        });
    }
}

/// What a coarse pixel hands to each of its neighbours: of u, then of v.
const SHARES: usize = 2 * NEIGHBOURS;

/// The gradient that reaches fine pixels `s` of sixteen coarse ones, times the scale; 0 beyond `count`.
#[inline(always)]
fn reaching<S: Simd>(
    upsample: &ConvexUpsample,
    g: &[f32],
    row: usize,
    first: usize,
    count: usize,
    s: usize,
) -> [S::V; 2] {
    let ConvexUpsample { from, factor, scale, .. } = *upsample;
    let start = ((row * factor + s / factor) * from.w + first) * factor + s % factor;
    let mut values = [[0.0f32; LANES]; 2];
    for (x, pixel) in g[start * LANES..].chunks(factor * LANES).enumerate().take(count) {
        (values[0][x], values[1][x]) = (pixel[0], pixel[1]);
    }
    let u = S::mul(S::read(&values[0]), S::splat(scale[0]));
    [u, S::mul(S::read(&values[1]), S::splat(scale[1]))]
}

/// Computes softmax's weights w of some rows once more, for both gradients.
///
/// The logits' is `w * (p - sum w p)`, where `p = sum_c g_c flow_c` for every neighbour. For the flow's, every coarse pixel
/// keeps `sum_s w_k g_c` over its fine pixels s: `[row][c][k][line]`, one zero before each line and zeros behind.
struct Weigh<'a, 'b> {
    gradient: ConvexUpsampleGradient<'a>,
    range: Range<usize>,
    work: &'a mut [f32],
    /// The logits' gradient, if it is wanted.
    d: Option<&'a (Update, RowsMut<'b>)>,
    /// Empty if the flow's is not wanted.
    shares: Disjoint<'a>,
}

impl Kernel for Weigh<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { gradient: ConvexUpsampleGradient { upsample, flow, logits, g }, range, work, d, shares } = self;
        let ConvexUpsample { from: Extent { h, w, .. }, factor, .. } = *upsample;
        let (count_s, channels) = (factor * factor, upsample.logits());
        let (lines, gathered) = work.split_at_mut(Lines::len(w));
        let gathered = &mut gathered[..Gathered::len(logits)];
        let (mut lines, mut gathered) = (Lines::new(lines, w), Gathered::new(gathered));
        let line = Lines::line(w);
        for row in range {
            if d.is_some() {
                lines.hold(upsample, flow.planes[0], row);
            }
            let shares: &mut [f32] = if shares.len() == 0 {
                &mut []
            } else {
                // SAFETY: each row is visited once.
                unsafe { shares.piece(row * SHARES * line, SHARES * line) }
            };
            for line in shares.chunks_exact_mut(line) {
                line[0] = 0.0;
                line[w + 1..].fill(0.0);
            }
            for first in (0..w).step_by(LANES) {
                let count = LANES.min(w - first);
                // SAFETY: every slice below is of 16 floats.
                unsafe {
                    gathered.load::<S>(logits, row * w + first, count);
                    let mut sums = [[S::zero(); NEIGHBOURS]; 2];
                    for s in 0..count_s {
                        let (mut weights, sum) = gathered.exponentials::<S>(count_s, s);
                        let g = reaching::<S>(upsample, g.planes[0], row, first, count, s);
                        let share = S::div(S::splat(1.0), sum);
                        for weight in &mut weights {
                            *weight = S::mul(*weight, share);
                        }
                        for c in 0..2 {
                            for k in 0..NEIGHBOURS {
                                sums[c][k] = S::fma(weights[k], g[c], sums[c][k]);
                            }
                        }
                        if d.is_none() {
                            continue;
                        }
                        let (mut products, mut mean) = ([S::zero(); NEIGHBOURS], S::zero());
                        for k in 0..NEIGHBOURS {
                            let u = S::mul(g[0], lines.neighbour::<S>(k, 0, first));
                            products[k] = S::fma(g[1], lines.neighbour::<S>(k, 1, first), u);
                            mean = S::fma(weights[k], products[k], mean);
                        }
                        for k in 0..NEIGHBOURS {
                            let d = S::mul(weights[k], S::sub(products[k], mean));
                            // The logits of this fine pixel are not read again.
                            S::write(&mut gathered.values[(k * count_s + s) * LANES..], d);
                        }
                    }
                    for (line, sum) in shares.chunks_exact_mut(line).zip(sums.into_iter().flatten()) {
                        S::write(&mut line[1 + first..], sum);
                    }
                    let Some((update, d)) = d else { continue };
                    // What lies in the padding of the logits is no gradient.
                    gathered.values[channels * LANES..].fill(0.0);
                    for (block, from) in gathered.values.chunks_exact(LANES * LANES).enumerate() {
                        let mut rows = [S::zero(); LANES];
                        for (row, v) in rows.iter_mut().zip(from.chunks_exact(LANES)) {
                            *row = S::read(v);
                        }
                        S::transpose(&mut rows);
                        // Each row is visited once.
                        let d = &mut d.row(block, row / h, row % h)[first * LANES..][..count * LANES];
                        put::<S>(d, rows, *update);
                    }
                }
            }
        }
    }
}

/// Every coarse pixel of some rows gathers what its neighbours hand it.
struct ToFlow<'a, 'b> {
    upsample: &'a ConvexUpsample,
    kept: &'a [f32],
    line: usize,
    range: Range<usize>,
    update: Update,
    d: &'a RowsMut<'b>,
}

impl Kernel for ToFlow<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let ConvexUpsample { from: Extent { h, w, .. }, lanes, .. } = *self.upsample;
        for row in self.range {
            // SAFETY: each row is visited once.
            let d = unsafe { self.d.row(0, row / h, row % h) };
            for (first, d) in (0..w).step_by(LANES).zip(d.chunks_mut(LANES * LANES)) {
                let mut rows = [S::zero(); LANES];
                for (c, lane) in lanes.into_iter().enumerate() {
                    let mut sum = S::zero();
                    for k in 0..NEIGHBOURS {
                        // The pixel whose neighbour `k` this one is.
                        if !(1..=h).contains(&(row % h + 2 - k / 3)) {
                            continue;
                        }
                        let line = (row + 1 - k / 3) * SHARES + c * NEIGHBOURS + k;
                        let at = line * self.line + first + 2 - k % 3;
                        sum = S::add(sum, S::read(&self.kept[at..]));
                    }
                    rows[lane] = S::add(rows[lane], sum);
                }
                S::transpose(&mut rows);
                put::<S>(d, rows, self.update);
            }
        }
    }
}

/// Writes or adds as many pixels as `d` takes.
#[inline(always)]
fn put<S: Simd>(d: &mut [f32], pixels: [S::V; LANES], update: Update) {
    for (d, pixel) in d.chunks_exact_mut(LANES).zip(pixels) {
        let sum = if update == Update::Add { S::add(S::read(d), pixel) } else { pixel };
        S::write(d, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        convex_upsample::tests::{CASES, logits, mixture},
        testing::{Random, Value, both_updates},
    };

    /// Both gradients from the formula, one fine pixel at a time, in double precision.
    fn formula(upsample: &ConvexUpsample, flow: &Value, logits: &Value, g: &Value) -> [Vec<f64>; 2] {
        let (f, from, to) = (upsample.factor, upsample.from, upsample.to());
        let pixels = from.n * from.h * from.w;
        let (mut d_flow, mut d_logits) = (vec![0.0; 2 * pixels], vec![0.0; upsample.logits() * pixels]);
        for (n, y, x) in (0..to.n).flat_map(|n| (0..to.h).flat_map(move |y| (0..to.w).map(move |x| (n, y, x)))) {
            let g = [0, 1].map(|c| f64::from(g.at(c, n, y, x)) * f64::from(upsample.scale[c]));
            let mixture = mixture(upsample, flow, logits, [n, y, x]);
            let product = |flow: [f64; 2]| g[0] * flow[0] + g[1] * flow[1];
            let mean: f64 = mixture.iter().map(|(weight, flow)| weight * product(*flow)).sum();
            for (k, (weight, flow)) in mixture.into_iter().enumerate() {
                let channel = (k * f + y % f) * f + x % f;
                d_logits[channel * pixels + (n * from.h + y / f) * from.w + x / f] = weight * (product(flow) - mean);
                let (ny, nx) = ((y / f + k / 3).wrapping_sub(1), (x / f + k % 3).wrapping_sub(1));
                if ny < from.h && nx < from.w {
                    for c in 0..2 {
                        d_flow[c * pixels + (n * from.h + ny) * from.w + nx] += weight * g[c];
                    }
                }
            }
        }
        [d_flow, d_logits]
    }

    #[test]
    fn gradients_follow_their_formula() {
        let mut random = Random::new(53);
        for (factor, from) in CASES {
            for (lanes, scale) in [([0, 1], [1.0, 1.0]), ([6, 3], [factor as f32, -0.5])] {
                let upsample = ConvexUpsample { from, factor, lanes, scale };
                let (flow, logits) = (random.value(7, from), logits(&mut random, &upsample));
                let g = random.value(2, upsample.to());
                let [want_flow, want_logits] = formula(&upsample, &flow, &logits, &g);
                let at = |n: usize, y: usize, x: usize| (n * from.h + y) * from.w + x;
                let pixels = from.n * from.h * from.w;
                for isa in Isa::available() {
                    let scratch = Scratch::new();
                    let run = |d_flow: Option<(Update, &mut BlocksMut<'_, '_>)>,
                               d_logits: Option<(Update, &mut BlocksMut<'_, '_>)>| {
                        let (flow, logits, g) = (flow.blocks(), logits.blocks(), g.blocks());
                        ConvexUpsampleGradient { upsample: &upsample, flow, logits, g }
                            .run(isa, d_flow, d_logits, &scratch);
                    };
                    let d_flow = both_updates(7, from, |update, d| run(Some((update, d)), None));
                    // Sums of up to 9 * 64 terms, each of up to 8.
                    d_flow.assert_close(2e-5, |lane, n, y, x| {
                        let c = lanes.iter().position(|&l| l == lane);
                        c.map_or(0.0, |c| want_flow[c * pixels + at(n, y, x)] as f32)
                    });
                    let d_logits = both_updates(upsample.logits(), from, |update, d| run(None, Some((update, d))));
                    d_logits.assert_close(1e-5, |c, n, y, x| want_logits[c * pixels + at(n, y, x)] as f32);
                    let mut both = [Value::zeroed(7, from), Value::zeroed(upsample.logits(), from)];
                    let [a, b] = &mut both;
                    a.write(|a| b.write(|b| run(Some((Update::Overwrite, a)), Some((Update::Overwrite, b)))));
                    both[0].assert_close(0.0, |c, n, y, x| d_flow.at(c, n, y, x));
                    both[1].assert_close(0.0, |c, n, y, x| d_logits.at(c, n, y, x));
                }
            }
        }
    }
}
