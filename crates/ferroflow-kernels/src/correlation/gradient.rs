//! Gradients of the cost volume.
//!
//! `d1(p) = 1 / C * sum over d of g[d](p) * f2(p + d)` and `d2(q) = 1 / C * sum over d of g[d](q - d) * f1(q - d)`.
//! Here channels lie in the lanes: a vector of a feature, as it is, times one number of `g`. That is laid out as the
//! forward pass lays out features, so that the numbers of neighbouring pixels are neighbours.

use std::ops::Range;

use super::Correlation;
use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Scratch, Update,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
};

/// Most pixels of a tile.
const PIXELS: usize = 8;
/// Most blocks of a tile.
const BLOCKS: usize = 3;
/// Displacements along x that share the vectors they read: a divisor of 9 and of 21.
const STEPS: usize = 3;

impl Correlation {
    /// Floats of working memory that [`CorrelationGradient::run`] needs.
    pub fn gradient_work_len(&self) -> usize {
        // The last tile may read past the last row, for pixels that are not there.
        self.of_gradient().feature_len() + PIXELS
    }

    /// Treats `g` as a feature, of as many channels as there are displacements.
    fn of_gradient(&self) -> Self {
        Self { channels: self.displacements(), ..*self }
    }
}

/// What a [`Correlation`] was given, and the gradient of its result.
#[derive(Clone, Copy)]
pub struct CorrelationGradient<'a> {
    /// The correlation.
    pub plan: &'a Correlation,
    /// The first and the second feature.
    pub features: [Blocks<'a>; 2],
    /// The gradient of the cost volume before its activation ([`crate::elementwise::activation_gradient`] carries it
    /// there).
    pub g: Blocks<'a>,
}

impl CorrelationGradient<'_> {
    /// The gradients to the first and the second feature, where wanted.
    pub fn run(
        self,
        isa: Isa,
        first: Option<(Update, &mut BlocksMut<'_, '_>)>,
        second: Option<(Update, &mut BlocksMut<'_, '_>)>,
        work: &mut [f32],
        scratch: &Scratch,
    ) {
        let Self { plan, features, g } = self;
        assert!(features.iter().all(|f| f.extent == plan.extent) && g.extent == plan.extent, "extent");
        assert_eq!(g.planes.len(), plan.displacements().div_ceil(LANES), "blocks");
        if plan.extent.is_empty() {
            return;
        }
        let laid = &mut work[..plan.gradient_work_len()];
        let of_gradient = plan.of_gradient();
        of_gradient.lay_out(isa, g, plan.radius, &mut laid[..of_gradient.feature_len()]);
        if let Some(wanted) = first {
            self.spread(isa, laid, false, wanted, scratch);
        }
        if let Some(wanted) = second {
            self.spread(isa, laid, true, wanted, scratch);
        }
    }

    /// The gradient to one feature: the first, or the second where `mirrored`.
    fn spread(
        self,
        isa: Isa,
        laid: &[f32],
        mirrored: bool,
        (update, d): (Update, &mut BlocksMut<'_, '_>),
        scratch: &Scratch,
    ) {
        let Self { plan, features: [first, second], .. } = self;
        let feature = if mirrored { first } else { second };
        assert_eq!(d.extent, plan.extent, "extent");
        assert_eq!(
            (feature.planes.len(), d.planes.len()),
            (plan.channels.div_ceil(LANES), feature.planes.len()),
            "blocks"
        );
        assert!(feature.planes.iter().all(|p| p.len() >= plan.extent.len()), "blocks");
        let rows = RowsMut::new(d);
        let work = plan.extent.w * plan.channels * (plan.displacements() / 8).max(1);
        for_ranges(plan.extent.n * plan.extent.h, work, |range| {
            scratch.with(BLOCKS * (PIXELS + 2 * plan.radius) * LANES, |window| {
                simd::run(isa, Spread { plan, feature, laid, mirrored, update, rows: &rows, range, window });
            });
        });
    }
}

struct Spread<'a, 'b> {
    plan: &'a Correlation,
    feature: Blocks<'a>,
    laid: &'a [f32],
    /// Whether displacements lead from the feature to the gradient.
    mirrored: bool,
    update: Update,
    rows: &'a RowsMut<'b>,
    range: Range<usize>,
    window: &'a mut [f32],
}

impl Kernel for Spread<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self) {
        let blocks = self.feature.planes.len();
        let most = if S::ISA == Isa::Avx512 { BLOCKS } else { 1 };
        let groups = blocks.div_ceil(most);
        for row in self.range.clone() {
            for k in 0..groups {
                let (first, end) = (k * blocks / groups, (k + 1) * blocks / groups);
                // Sums: pixels x blocks, as many as the registers hold beside the operands.
                // SAFETY: called through `simd::run`.
                unsafe {
                    match (S::ISA, end - first) {
                        (Isa::Avx512, 3) => self.row::<S, PIXELS, 3>(row, first),
                        (Isa::Avx512, 2) => self.row::<S, PIXELS, 2>(row, first),
                        (Isa::Avx512, _) => self.row::<S, PIXELS, 1>(row, first),
                        _ => self.row::<S, 6, 1>(row, first),
                    }
                }
            }
        }
    }
}

impl Spread<'_, '_> {
    /// One row of the gradient, `B` blocks from `block` on.
    ///
    /// # Safety
    /// Only inside `simd::run` for `S`.
    #[inline(always)]
    unsafe fn row<S: Simd, const P: usize, const B: usize>(&mut self, row: usize, block: usize) {
        let Correlation { stride, .. } = *self.plan;
        let Extent { h, w, .. } = self.plan.extent;
        // SAFETY: each row of the gradient belongs to one task.
        unsafe {
            let scale = S::splat(1.0 / self.plan.channels as f32);
            let out: [&mut [f32]; B] = std::array::from_fn(|b| self.rows.row(block + b, row / h, row % h));
            for phase in 0..stride.min(w) {
                let count = (w + stride - 1 - phase) / stride;
                for x in (0..count).step_by(P) {
                    let sums = self.tile::<S, P, B>(row, block, phase, x);
                    for p in 0..P.min(count - x) {
                        for b in 0..B {
                            let d = out[b][((x + p) * stride + phase) * LANES..][..LANES].as_mut_ptr();
                            let before = if self.update == Update::Add { S::load(d) } else { S::zero() };
                            S::store(d, S::fma(sums[p][b], scale, before));
                        }
                    }
                }
            }
        }
    }

    /// Sums over all displacements for `P` columns from `x` of a phase.
    ///
    /// # Safety
    /// Only inside `simd::run` for `S`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const P: usize, const B: usize>(
        &mut self,
        row: usize,
        block: usize,
        phase: usize,
        x: usize,
    ) -> [[S::V; B]; P] {
        let Correlation { radius, stride, pitch, .. } = *self.plan;
        let Extent { h, w, .. } = self.plan.extent;
        let diameter = self.plan.diameter();
        let (row_len, plane) = (self.plan.of_gradient().row_len(), stride * pitch);
        let wide = P + 2 * radius;
        // The first column of the feature under this tile, and whether all of them lie in the image.
        let left = (x * stride + phase) as isize - (radius * stride) as isize;
        let inside = left >= 0 && left as usize + (wide - 1) * stride < w;
        // SAFETY: see at the pointers.
        unsafe {
            let mut sums = [[S::zero(); B]; P];
            for dy in 0..diameter {
                let down = if self.mirrored { diameter - 1 - dy } else { dy };
                let other = (row % h + down * stride).checked_sub(radius * stride).filter(|&y| y < h);
                let Some(other) = other.map(|y| row / h * h + y) else { continue };
                let mut f = [std::ptr::null(); B];
                for b in 0..B {
                    let from = &self.feature.planes[block + b][other * w * LANES..][..w * LANES];
                    if inside {
                        // Reaches `wide` columns, `stride` apart, as `inside` says.
                        f[b] = from[left as usize * LANES..].as_ptr();
                        continue;
                    }
                    let window = &mut self.window[b * wide * LANES..][..wide * LANES];
                    for (i, to) in window.chunks_exact_mut(LANES).enumerate() {
                        let at = left + (i * stride) as isize;
                        match usize::try_from(at).ok().filter(|&x| x < w) {
                            Some(x) => to.copy_from_slice(&from[x * LANES..][..LANES]),
                            None => to.fill(0.0),
                        }
                    }
                    f[b] = window.as_ptr();
                }
                let next = if inside { stride * LANES } else { LANES };
                // Column `i` of the window meets displacement `i - p` of pixel `p`, counted from the other end where
                // mirrored; there `g` is that of the window's pixel.
                let (from_row, from_dx, from_x, step) = if self.mirrored {
                    (other, diameter - 1, x, 1 - plane as isize)
                } else {
                    (row, 0, x + radius, plane as isize)
                };
                let at = from_row * row_len + (dy * diameter + from_dx) * plane + phase * pitch + from_x;
                let far = at as isize + (diameter - 1) as isize * step;
                assert!(far >= 0 && self.laid.len() >= at.max(far as usize) + P, "working memory");
                let mut g = self.laid.as_ptr().add(at);
                let mut left = diameter;
                while left >= STEPS {
                    steps::<S, P, B, STEPS>(&mut sums, g, step, f, next);
                    g = g.wrapping_offset(STEPS as isize * step);
                    f = f.map(|f| f.wrapping_add(STEPS * next));
                    left -= STEPS;
                }
                for _ in 0..left {
                    steps::<S, P, B, 1>(&mut sums, g, step, f, next);
                    g = g.wrapping_offset(step);
                    f = f.map(|f| f.wrapping_add(next));
                }
            }
            sums
        }
    }
}

/// Adds `N` displacements: `sums[p] += g[n * step + p] * f[(n + p) * next ..]`.
///
/// # Safety
/// All that is named must be readable.
#[inline(always)]
unsafe fn steps<S: Simd, const P: usize, const B: usize, const N: usize>(
    sums: &mut [[S::V; B]; P],
    g: *const f32,
    step: isize,
    f: [*const f32; B],
    next: usize,
) {
    // Loops of constant length over plain arrays: anything else keeps the sums out of the registers.
    // SAFETY: the caller's.
    unsafe {
        for i in 0..P + N - 1 {
            let mut v = [S::zero(); B];
            for b in 0..B {
                v[b] = S::load(f[b].add(i * next));
            }
            for n in 0..N {
                if i >= n && i - n < P {
                    let g = S::splat(*g.offset(n as isize * step + (i - n) as isize));
                    for b in 0..B {
                        sums[i - n][b] = S::fma(g, v[b], sums[i - n][b]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conv::Activation,
        testing::{Random, Value, both_updates},
    };

    #[test]
    fn gradients_are_the_sums_over_displacements() {
        let mut random = Random::new(31);
        // channels, max displacement, stride, size
        let cases = [
            (5, 4, 1, (1, 1)),
            (35, 4, 1, (7, 18)),
            (70, 4, 1, (5, 33)),
            (16, 20, 2, (9, 53)),
            (50, 20, 2, (3, 5)),
            (3, 2, 1, (8, 33)),
            (4, 5, 2, (6, 7)),
            (4, 6, 3, (11, 40)),
        ];
        for (channels, max, stride, (h, w)) in cases {
            let extent = Extent { n: 2, h, w };
            let plan = Correlation::new(extent, channels, max, stride, Activation::Linear);
            let features = [random.value(channels, extent), random.value(channels, extent)];
            let g = random.value(plan.displacements(), extent);
            let diameter = plan.diameter() as i64;
            // The second feature is read at `sign * d`, with the gradient of the pixel that lies there.
            let formula = |other: &Value, sign: i64, c: usize, n: usize, y: usize, x: usize| {
                let mut sum = 0.0;
                for d in 0..plan.displacements() {
                    let (dy, dx) = (d as i64 / diameter - diameter / 2, d as i64 % diameter - diameter / 2);
                    let (y2, x2) = (y as i64 + sign * dy * stride as i64, x as i64 + sign * dx * stride as i64);
                    if (0..h as i64).contains(&y2) && (0..w as i64).contains(&x2) {
                        let (y2, x2) = (y2 as usize, x2 as usize);
                        let g = if sign > 0 { g.at(d, n, y, x) } else { g.at(d, n, y2, x2) };
                        sum += f64::from(g) * f64::from(other.at(c, n, y2, x2));
                    }
                }
                (sum / channels as f64) as f32
            };
            for isa in Isa::available() {
                let scratch = Scratch::new();
                let blocks = [features[0].blocks(), features[1].blocks()];
                let run = |which: usize, update: Update, d: &mut BlocksMut<'_, '_>| {
                    let mut work = Random::new(32).floats(plan.gradient_work_len());
                    let mut wanted = [Some((update, d)), None];
                    wanted.rotate_right(which);
                    let [first, second] = wanted;
                    CorrelationGradient { plan: &plan, features: blocks, g: g.blocks() }
                        .run(isa, first, second, &mut work, &scratch);
                };
                let first = both_updates(channels, extent, |update, d| run(0, update, d));
                first.assert_close(5e-6, |c, n, y, x| formula(&features[1], 1, c, n, y, x));
                let second = both_updates(channels, extent, |update, d| run(1, update, d));
                second.assert_close(5e-6, |c, n, y, x| formula(&features[0], -1, c, n, y, x));

                // Both at once, and the identity of the adjoint with each feature.
                let (mut out, mut both) =
                    (Value::zeroed(plan.displacements(), extent), Value::zeroed(channels, extent));
                let mut work = random.floats(plan.work_len());
                out.write(|out| plan.run(isa, blocks, out, &mut work, &scratch));
                let mut again = first.copy();
                let mut work = random.floats(plan.gradient_work_len());
                both.write(|a| {
                    again.write(|b| {
                        let (a, b) = (Some((Update::Overwrite, a)), Some((Update::Overwrite, b)));
                        CorrelationGradient { plan: &plan, features: blocks, g: g.blocks() }
                            .run(isa, a, b, &mut work, &scratch);
                    });
                });
                let forward = out.dot(&g);
                for (feature, gradient) in [(0, &both), (1, &again)] {
                    let backward = features[feature].dot(gradient);
                    assert!((forward - backward).abs() < 1e-4 * forward.abs().max(1.0), "{forward} {backward}");
                }
            }
        }
    }
}
