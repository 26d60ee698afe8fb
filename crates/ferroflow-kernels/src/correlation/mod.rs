//! The cost volume: `mean over channels of f1(p) * f2(p + d)` for every displacement `d` of a square.
//!
//! Both features are first copied to rows of planes, `[row][channel][phase][x / stride]`, where `phase = x % stride`:
//! a vector is then 16 columns that lie `stride` apart, and a displacement is an offset in memory. One row of the
//! second feature serves several rows of the output, which keeps the arithmetic, not the loads, the limit.

mod gradient;

pub use gradient::CorrelationGradient;

use std::ops::Range;

use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Scratch,
    conv::Activation,
    machine::passes::{CORRELATION_CHANNELS, CORRELATION_ROWS},
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
    team,
};

/// A correlation of two features of one extent.
#[derive(Clone, Copy, Debug)]
pub struct Correlation {
    extent: Extent,
    channels: usize,
    /// Displacements to each side, in steps.
    radius: usize,
    stride: usize,
    activation: Activation,
    /// Floats from one phase of a row to the next.
    pitch: usize,
}

impl Correlation {
    /// Displacements `-max ..= max` by `stride` along both axes.
    pub fn new(
        extent: Extent,
        channels: usize,
        max_displacement: usize,
        stride: usize,
        activation: Activation,
    ) -> Self {
        assert!(stride > 0, "a correlation has a stride of at least 1");
        let radius = max_displacement / stride;
        // The working memory of both features and the sums; what is computed with later is less.
        let lines = stride.checked_add(1).and_then(|s| s.checked_mul(4 * LANES));
        let margins = extent.w.checked_add(max_displacement).and_then(|w| w.checked_add(lines?));
        let sums = (2 * radius + 1).checked_pow(2).and_then(|d| d.checked_mul(4 * 3 * 2 * LANES));
        let floats =
            margins.and_then(|m| [8, 2, extent.n, extent.h, channels].into_iter().try_fold(m, usize::checked_mul));
        let held = [sums, floats].iter().all(|bytes| bytes.is_some_and(|bytes| bytes <= isize::MAX as usize));
        assert!(held && extent.len() <= isize::MAX as usize, "a correlation of more than any memory holds");
        // An odd number of lines: rows of a power of two would all fall into the same sets of the cache.
        let lines = extent.w.div_ceil(stride).div_ceil(LANES) + (2 * radius).div_ceil(LANES);
        Self { extent, channels, radius, stride, activation, pitch: (lines | 1) * LANES }
    }

    /// What is applied to the means.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Displacements per axis.
    pub fn diameter(&self) -> usize {
        2 * self.radius + 1
    }

    /// Channels of the result.
    pub fn displacements(&self) -> usize {
        self.diameter() * self.diameter()
    }

    /// Multiply-adds times two.
    pub fn flop(&self) -> f64 {
        2.0 * (self.displacements() * self.channels) as f64 * (self.extent.len() / LANES) as f64
    }

    /// Floats of working memory that [`Self::run`] needs.
    pub fn work_len(&self) -> usize {
        2 * self.feature_len()
    }

    /// Floats per row of a feature's copy.
    fn row_len(&self) -> usize {
        self.channels * self.stride * self.pitch
    }

    fn feature_len(&self) -> usize {
        self.extent.n * self.extent.h * self.row_len()
    }

    /// Writes displacement `(dy, dx)` to channel `(dy + radius) * diameter + dx + radius`.
    pub fn run(
        &self,
        isa: Isa,
        features: [Blocks<'_>; 2],
        out: &mut BlocksMut<'_, '_>,
        work: &mut [f32],
        scratch: &Scratch,
    ) {
        assert!(features.iter().all(|f| f.extent == self.extent) && out.extent == self.extent, "extent");
        assert!(features.iter().all(|f| f.planes.len() == self.channels.div_ceil(LANES)), "blocks");
        assert!(features.iter().all(|f| f.planes.iter().all(|p| p.len() >= self.extent.len())), "blocks");
        assert_eq!(out.planes.len(), self.displacements().div_ceil(LANES), "blocks");
        let (first, second) = work[..self.work_len()].split_at_mut(self.feature_len());
        self.lay_out(isa, features[0], 0, first);
        self.lay_out(isa, features[1], self.radius, second);
        let rows = RowsMut::new(out);
        // Rows of one image that share rows of the second feature: `group` rows, `stride` apart.
        let group = if isa == Isa::Avx512 { 3 } else { 2 };
        let groups = (self.extent.h.div_ceil(self.stride)).div_ceil(group);
        let tasks = self.extent.n * self.stride * groups;
        let work = self.extent.w * group * (self.displacements() * self.channels / 8).max(1);
        for_ranges(tasks, work, |range| {
            let sums = LANES * self.displacements().next_multiple_of(LANES) * group;
            scratch.with(sums, |sums| {
                let features = [&*first, &*second];
                simd::run(isa, Sum { plan: self, features, rows: &rows, groups, range, sums });
            });
        });
    }

    /// Copies a feature to rows of planes, `margin` zeros before every phase and zeros to the end of it.
    fn lay_out(&self, isa: Isa, feature: Blocks<'_>, margin: usize, to: &mut [f32]) {
        team::for_chunks_mut(to, CORRELATION_ROWS * self.row_len(), |i, rows| {
            for (row, to) in (i * CORRELATION_ROWS..).zip(rows.chunks_mut(self.row_len())) {
                simd::run(isa, LayOut { plan: self, feature, row, margin, to });
            }
        });
    }
}

struct LayOut<'a> {
    plan: &'a Correlation,
    feature: Blocks<'a>,
    row: usize,
    margin: usize,
    to: &'a mut [f32],
}

impl Kernel for LayOut<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Correlation { channels, stride, pitch, .. } = *self.plan;
        let w = self.plan.extent.w;
        for (block, plane) in self.feature.planes.iter().enumerate() {
            let row = &plane[self.row * w * LANES..][..w * LANES];
            let filled = LANES.min(channels - block * LANES);
            for phase in 0..stride {
                let planes = &mut self.to[(block * LANES * stride + phase) * pitch..];
                let count = (w + stride - 1 - phase) / stride;
                for first in (0..count).step_by(LANES) {
                    let mut rows = [S::zero(); LANES];
                    for (i, v) in rows.iter_mut().enumerate().take(count - first) {
                        *v = S::read(&row[((first + i) * stride + phase) * LANES..]);
                    }
                    S::transpose(&mut rows);
                    for (lane, v) in rows.into_iter().enumerate().take(filled) {
                        let at = lane * stride * pitch + self.margin + first;
                        S::write(&mut planes[at..], v);
                    }
                }
                let end = self.margin + count.next_multiple_of(LANES);
                for lane in 0..filled {
                    let plane = &mut planes[lane * stride * pitch..][..pitch];
                    plane[..self.margin].fill(0.0);
                    plane[end..].fill(0.0);
                }
            }
        }
    }
}

struct Sum<'a, 'b> {
    plan: &'a Correlation,
    features: [&'a [f32]; 2],
    rows: &'a RowsMut<'b>,
    groups: usize,
    range: Range<usize>,
    sums: &'a mut [f32],
}

impl Kernel for Sum<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        // Accumulators: rows x displacements, as many as the registers hold beside the operands.
        // SAFETY: called through `simd::run`.
        unsafe {
            match (S::ISA, self.plan.diameter()) {
                (Isa::Avx512, 21) => self.rows::<S, 3, 7>(),
                (Isa::Avx512, _) => self.rows::<S, 3, 9>(),
                _ => self.rows::<S, 2, 3>(),
            }
        }
    }
}

impl Sum<'_, '_> {
    /// # Safety
    /// Only inside `simd::run` for `S`.
    #[inline(always)]
    unsafe fn rows<S: Simd, const ROWS: usize, const STEPS: usize>(mut self) {
        let stride = self.plan.stride;
        let Extent { h, w, .. } = self.plan.extent;
        for task in self.range.clone() {
            let (n, phase_y, group) = (task / (stride * self.groups), task / self.groups % stride, task % self.groups);
            let y = phase_y + group * ROWS * stride;
            if y >= h {
                continue;
            }
            for phase_x in 0..stride.min(w) {
                let count = (w + stride - 1 - phase_x) / stride;
                for x in (0..count).step_by(LANES) {
                    // SAFETY: the caller's.
                    unsafe {
                        self.sum::<S, ROWS, STEPS>(n, y, phase_x, x);
                        self.write::<S, ROWS>(n, y, phase_x, x, count);
                    }
                }
            }
        }
    }

    /// Sums of every displacement for `ROWS` rows from `y` and 16 columns from `x` of a phase, as
    /// `[displacement][row][16]`.
    ///
    /// # Safety
    /// Only inside `simd::run` for `S`.
    #[inline(always)]
    unsafe fn sum<S: Simd, const ROWS: usize, const STEPS: usize>(
        &mut self,
        n: usize,
        y: usize,
        phase: usize,
        x: usize,
    ) {
        let plan = self.plan;
        let Extent { h, .. } = plan.extent;
        let (row_len, channel_len) = (plan.row_len(), plan.stride * plan.pitch);
        let diameter = plan.diameter();
        let start = phase * plan.pitch + x;
        // Rows past the image repeat the last of the group that is inside; nothing of them is written.
        let first: [&[f32]; ROWS] = std::array::from_fn(|k| {
            let inside = (0..=k).rev().map(|k| y + k * plan.stride).find(|&y| y < h).unwrap_or(y);
            &self.features[0][(n * h + inside) * row_len + start..]
        });
        for j in 0..diameter + ROWS - 1 {
            // Row `y + (j - radius) * stride` is at displacement `j - k` of row `k` of the group.
            let row = (y + j * plan.stride).checked_sub(plan.radius * plan.stride).filter(|&row| row < h);
            let Some(row) = row else {
                for k in 0..ROWS {
                    let Some(dy) = j.checked_sub(k).filter(|&dy| dy < diameter) else { continue };
                    for dx in 0..diameter {
                        self.sums[((dy * diameter + dx) * ROWS + k) * LANES..][..LANES].fill(0.0);
                    }
                }
                continue;
            };
            let second = &self.features[1][(n * h + row) * row_len + start..];
            let whole = diameter / STEPS * STEPS;
            for channels in (0..plan.channels).step_by(CORRELATION_CHANNELS) {
                let count = CORRELATION_CHANNELS.min(plan.channels - channels);
                let last = (channels + count - 1) * channel_len;
                assert!(second.len() >= last + diameter - 1 + LANES);
                assert!(first.iter().all(|f| f.len() >= last + LANES));
                let mut products = Products::<ROWS> {
                    f1: first.map(|f| f[channels * channel_len..].as_ptr()),
                    f2: second[channels * channel_len..].as_ptr(),
                    channel_len,
                    count,
                    add: channels > 0,
                    j,
                    diameter,
                    sums: self.sums,
                };
                // SAFETY: the assertions cover the last vector of the last channel.
                unsafe {
                    for step in (0..whole).step_by(STEPS) {
                        products.run::<S, STEPS>(step);
                    }
                    for step in whole..diameter {
                        products.run::<S, 1>(step);
                    }
                }
            }
        }
    }

    /// Scales and activates the sums and turns them into pixels of 16 displacements.
    ///
    /// # Safety
    /// Only inside `simd::run` for `S`.
    #[inline(always)]
    unsafe fn write<S: Simd, const ROWS: usize>(&mut self, n: usize, y: usize, phase: usize, x: usize, count: usize) {
        let plan = self.plan;
        let displacements = plan.displacements();
        for k in 0..ROWS {
            let row = y + k * plan.stride;
            if row >= plan.extent.h {
                break;
            }
            for block in 0..displacements.div_ceil(LANES) {
                // SAFETY: each group of rows belongs to one task.
                let out = unsafe { self.rows.row(block, n, row) };
                let (scale, slope) = (S::splat(1.0 / plan.channels as f32), S::splat(plan.activation.slope()));
                let mut pixels = [S::zero(); LANES];
                for (i, v) in pixels.iter_mut().enumerate().take(displacements - block * LANES) {
                    let sum = &self.sums[((block * LANES + i) * ROWS + k) * LANES..][..LANES];
                    let mean = S::mul(S::read(sum), scale);
                    *v = S::max(mean, S::mul(mean, slope));
                }
                S::transpose(&mut pixels);
                for (i, v) in pixels.into_iter().enumerate().take(count - x) {
                    S::write(&mut out[((x + i) * plan.stride + phase) * LANES..], v);
                }
            }
        }
    }
}

/// Sums over some channels for one row of the second feature.
struct Products<'a, const ROWS: usize> {
    f1: [*const f32; ROWS],
    f2: *const f32,
    channel_len: usize,
    count: usize,
    /// Whether there are sums of earlier channels.
    add: bool,
    /// Displacement of row 0.
    j: usize,
    diameter: usize,
    sums: &'a mut [f32],
}

impl<const ROWS: usize> Products<'_, ROWS> {
    /// `STEPS` displacements along x from `step` on.
    ///
    /// # Safety
    /// Only inside `simd::run` for `S`; `f1` and `f2` must reach 16 floats past the last channel and displacement.
    #[inline(always)]
    unsafe fn run<S: Simd, const STEPS: usize>(&mut self, step: usize) {
        // SAFETY: the caller's.
        unsafe {
            // Loops of constant length over plain arrays: anything else keeps the sums out of the registers.
            let mut sum = [[S::zero(); STEPS]; ROWS];
            let (mut f1, mut f2) = (self.f1, self.f2.add(step));
            for _ in 0..self.count {
                let mut a = [S::zero(); ROWS];
                for k in 0..ROWS {
                    a[k] = S::load(f1[k]);
                    f1[k] = f1[k].wrapping_add(self.channel_len);
                }
                for i in 0..STEPS {
                    let b = S::load(f2.add(i));
                    for k in 0..ROWS {
                        sum[k][i] = S::fma(a[k], b, sum[k][i]);
                    }
                }
                f2 = f2.wrapping_add(self.channel_len);
            }
            for k in 0..ROWS {
                let Some(dy) = self.j.checked_sub(k).filter(|&dy| dy < self.diameter) else { continue };
                let to = self.sums[((dy * self.diameter + step) * ROWS + k) * LANES..].as_mut_ptr();
                debug_assert!(self.sums.len() >= ((dy * self.diameter + step + STEPS - 1) * ROWS + k + 1) * LANES);
                for i in 0..STEPS {
                    let to = to.add(i * ROWS * LANES);
                    let value = if self.add { S::add(S::load(to), sum[k][i]) } else { sum[k][i] };
                    S::store(to, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, Value};

    #[test]
    fn every_displacement_is_the_mean_product() {
        let mut random = Random::new(8);
        // channels, max displacement, stride, size
        let cases = [
            (5, 4, 1, (1, 1)),
            (35, 4, 1, (7, 18)),
            (130, 4, 1, (5, 3)),
            (16, 20, 2, (9, 37)),
            (70, 20, 2, (3, 5)),
            (3, 2, 1, (8, 33)),
            (4, 5, 2, (6, 7)),
            (4, 6, 3, (11, 40)),
        ];
        for (channels, max, stride, (h, w)) in cases {
            let extent = Extent { n: 2, h, w };
            let (a, b) = (random.value(channels, extent), random.value(channels, extent));
            for activation in [Activation::Linear, Activation::LeakyRelu(0.1)] {
                let plan = Correlation::new(extent, channels, max, stride, activation);
                let diameter = plan.diameter() as i64;
                for isa in Isa::available() {
                    let mut work = random.floats(plan.work_len());
                    let mut out = Value::zeroed(plan.displacements(), extent);
                    out.write(|out| plan.run(isa, [a.blocks(), b.blocks()], out, &mut work, &Scratch::new()));
                    out.assert_close(2e-6, |d, n, y, x| {
                        let (dy, dx) = (d as i64 / diameter - diameter / 2, d as i64 % diameter - diameter / 2);
                        let (y2, x2) = (y as i64 + dy * stride as i64, x as i64 + dx * stride as i64);
                        if !(0..h as i64).contains(&y2) || !(0..w as i64).contains(&x2) {
                            return 0.0;
                        }
                        let product = |c| f64::from(a.at(c, n, y, x)) * f64::from(b.at(c, n, y2 as usize, x2 as usize));
                        let mean = ((0..channels).map(product).sum::<f64>() / channels as f64) as f32;
                        mean.max(activation.slope() * mean)
                    });
                }
            }
        }
    }
}
