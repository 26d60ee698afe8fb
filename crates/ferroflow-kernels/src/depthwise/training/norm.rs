//! Batch norm and the LeakyReLU after it: `z = (x - mean) * scale + shift` per lane, where `scale`
//! holds the parameter divided by the standard deviation. Given statistics are constants: then `dx = scale * dz`.
//!
//! Sums run in f32 over about a thousand values, then in f64; those of `x` are taken about a value of the channel, so
//! that a mean far from 0 costs no digits of the variance. Pieces are added in their order, whoever computed them.

use super::{aligned, put};
use crate::{
    Buffer, Everyone, LANES, LaneMap,
    simd::{Kernel, Simd},
};

/// Of one block's lanes over some points: sums of `x - origin` and of its square.
#[derive(Clone)]
pub struct Moments {
    pub count: usize,
    pub origin: [f32; LANES],
    pub sum: [f64; LANES],
    pub squares: [f64; LANES],
}

impl Moments {
    pub fn new() -> Self {
        Self { count: 0, origin: [0.0; LANES], sum: [0.0; LANES], squares: [0.0; LANES] }
    }

    /// Adds some points, of which the first ever sets the origin.
    ///
    /// # Safety
    /// In a [`Kernel`].
    #[inline(always)]
    pub unsafe fn add<S: Simd>(&mut self, points: &[f32]) {
        if self.count == 0 {
            self.origin.copy_from_slice(&points[..LANES]);
        }
        // SAFETY: every chunk has 16 floats, `run` too.
        unsafe {
            let origin = S::load(self.origin.as_ptr());
            // Four chains each, because an addition takes four cycles.
            let mut sums = [[S::zero(); 2]; 4];
            let mut fours = points.chunks_exact(4 * LANES);
            for four in &mut fours {
                for i in 0..4 {
                    let x = S::sub(S::load(four.as_ptr().add(i * LANES)), origin);
                    sums[i] = add::<S>(sums[i], x, x);
                }
            }
            for point in fours.remainder().chunks_exact(LANES) {
                let x = S::sub(S::load(point.as_ptr()), origin);
                sums[0] = add::<S>(sums[0], x, x);
            }
            let mut run = [[0.0; LANES]; 2];
            for i in 0..2 {
                let all = S::add(S::add(sums[0][i], sums[1][i]), S::add(sums[2][i], sums[3][i]));
                S::store(run[i].as_mut_ptr(), all);
            }
            self.add_sums(points.len() / LANES, &run);
        }
    }

    /// Adds the sums of `count` points.
    #[inline(always)]
    pub fn add_sums(&mut self, count: usize, run: &[[f32; LANES]; 2]) {
        self.count += count;
        for lane in 0..LANES {
            self.sum[lane] += f64::from(run[0][lane]);
            self.squares[lane] += f64::from(run[1][lane]);
        }
    }
}

/// Adds a value and its product with another.
#[inline(always)]
fn add<S: Simd>(sums: [S::V; 2], x: S::V, other: S::V) -> [S::V; 2] {
    [S::add(sums[0], x), S::fma(x, other, sums[1])]
}

/// Vectors per block in [`Norm::constants`].
pub const CONSTANTS: usize = 5;

/// A batch norm and its LeakyReLU, over the lanes of some blocks.
pub struct Norm {
    lanes: LaneMap,
    epsilon: f64,
    pub slope: f32,
    /// Values of a channel that decided its statistics; 0 if they were given.
    count: usize,
    /// Per lane: what the mean in `constants` lacks, and 1 / standard deviation.
    rest: Vec<f64>,
    inverse: Vec<f64>,
    /// Per block: mean, scale, shift, and the two constants of the gradient (see [`Constants`]).
    pub constants: Buffer,
    /// Per channel: mean, unbiased variance of the batch.
    statistics: [Vec<f32>; 2],
    /// Who has a part of the batch.
    pub everyone: Everyone,
}

impl Norm {
    pub fn new(lanes: LaneMap, epsilon: f32, slope: f32) -> Self {
        let channels = lanes.iter().flatten().count();
        Self {
            epsilon: f64::from(epsilon),
            slope,
            count: 0,
            rest: vec![0.0; lanes.len()],
            inverse: vec![0.0; lanes.len()],
            constants: Buffer::zeroed(lanes.len() * CONSTANTS),
            statistics: [vec![0.0; channels], vec![0.0; channels]],
            everyone: Everyone::default(),
            lanes,
        }
    }

    /// The constants of a block.
    pub fn block(&self, block: usize) -> &[f32] {
        &self.constants[block * CONSTANTS * LANES..][..CONSTANTS * LANES]
    }

    /// Mean and unbiased variance of the batch, per channel, unless others were given.
    pub fn statistics(&self) -> Option<[&[f32]; 2]> {
        (self.count > 0).then_some(self.statistics.each_ref().map(|s| &s[..]))
    }

    /// Sets mean and scale from given statistics, and the shift.
    pub fn fix(&mut self, scale: &[f32], shift: &[f32], [mean, variance]: [&[f32]; 2]) {
        self.count = 0;
        for at in 0..self.lanes.len() {
            let Some(channel) = self.lanes[at].map(|c| c as usize) else { continue };
            let statistics = [mean, variance].map(|s| f64::from(s[channel]));
            self.set(at, statistics, scale[channel], shift[channel]);
        }
    }

    /// Sets mean and scale from the moments of every piece of a block, and the shift.
    pub fn settle<'a, P: Iterator<Item = &'a Moments>>(
        &mut self,
        scale: &[f32],
        shift: &[f32],
        pieces: impl Fn(usize) -> P,
    ) {
        let mut own = 0.0f64;
        let joined = |at: usize| {
            let (block, lane) = (at / LANES, at % LANES);
            let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
            for piece in pieces(block).filter(|piece| piece.count > 0) {
                // Chan's formula for joining two sets.
                let n = piece.count as f64;
                let offset = piece.sum[lane] / n;
                let distance = f64::from(piece.origin[lane]) + offset - mean;
                squares +=
                    piece.squares[lane] - piece.sum[lane] * offset + distance * distance * count * n / (count + n);
                mean += distance * n / (count + n);
                count += n;
            }
            own = count;
            [mean, squares.max(0.0)]
        };
        let lanes = (0..self.lanes.len()).map(joined).collect();
        let (all, lanes) = self.everyone.join(own as usize, lanes);
        let count = all as f64;
        self.count = all;
        for (at, [mean, squares]) in lanes.into_iter().enumerate() {
            let Some(channel) = self.lanes[at].map(|c| c as usize) else { continue };
            self.statistics[0][channel] = mean as f32;
            self.statistics[1][channel] = (squares / (count - 1.0).max(1.0)) as f32;
            self.set(at, [mean, squares / count.max(1.0)], scale[channel], shift[channel]);
        }
    }

    /// Sets what a lane needs in the forward pass.
    fn set(&mut self, at: usize, [mean, variance]: [f64; 2], scale: f32, shift: f32) {
        let inverse = 1.0 / (variance + self.epsilon).sqrt();
        let rest = mean - f64::from(mean as f32);
        (self.rest[at], self.inverse[at]) = (rest, inverse);
        let constants = &mut self.constants[at / LANES * CONSTANTS * LANES..][..CONSTANTS * LANES];
        let scale = f64::from(scale) * inverse;
        constants[at % LANES] = mean as f32;
        constants[LANES + at % LANES] = scale as f32;
        constants[2 * LANES + at % LANES] = (f64::from(shift) - rest * scale) as f32;
    }

    /// From the sums of `dz` and of `dz * (x - mean)`, piece by piece: adds the gradients of the parameters, those that
    /// are not empty, and sets the constants of `dx = scale * dz + (x - mean) * by_x + always`.
    pub fn differentiate<'a, P: Iterator<Item = &'a Moments>>(
        &mut self,
        d_scale: &mut [f32],
        d_shift: &mut [f32],
        pieces: impl Fn(usize) -> P,
    ) {
        // Given statistics do not depend on `x`.
        let given = self.count == 0;
        let share = if given { 0.0 } else { 1.0 / self.count as f64 };
        let mut sums = vec![0.0; 2 * self.lanes.len()];
        for (at, sums) in sums.chunks_exact_mut(2).enumerate() {
            let Some(channel) = self.lanes[at].map(|c| c as usize) else { continue };
            for piece in pieces(at / LANES) {
                sums[0] += piece.sum[at % LANES];
                sums[1] += piece.squares[at % LANES];
            }
            sums[1] -= self.rest[at] * sums[0];
            for (sum, value) in [(&mut *d_shift, sums[0]), (&mut *d_scale, sums[1] * self.inverse[at])] {
                if let Some(sum) = sum.get_mut(channel) {
                    *sum += value as f32;
                }
            }
        }
        let sums = if given { sums } else { self.everyone.total(sums) };
        for (at, sums) in sums.chunks_exact(2).enumerate() {
            let (lane, rest, inverse) = (at % LANES, self.rest[at], self.inverse[at]);
            let constants = &mut self.constants[at / LANES * CONSTANTS * LANES..][..CONSTANTS * LANES];
            let scale = f64::from(constants[LANES + lane]);
            let by_x = -scale * inverse * inverse * sums[1] * share;
            constants[3 * LANES + lane] = by_x as f32;
            constants[4 * LANES + lane] = (-scale * sums[0] * share - by_x * rest) as f32;
        }
    }
}

/// A block's constants in registers.
#[derive(Clone, Copy)]
pub struct Constants<S: Simd> {
    mean: S::V,
    scale: S::V,
    shift: S::V,
    by_x: S::V,
    always: S::V,
    slope: S::V,
}

/// # Safety of the methods
/// In a [`Kernel`].
impl<S: Simd> Constants<S> {
    /// `block` as [`Norm::block`] returned it.
    #[inline(always)]
    pub unsafe fn load(block: &[f32], slope: f32) -> Self {
        let block = block[..CONSTANTS * LANES].as_ptr();
        // SAFETY: a block has `CONSTANTS` vectors.
        unsafe {
            Self {
                mean: S::load(block),
                scale: S::load(block.add(LANES)),
                shift: S::load(block.add(2 * LANES)),
                by_x: S::load(block.add(3 * LANES)),
                always: S::load(block.add(4 * LANES)),
                slope: S::splat(slope),
            }
        }
    }

    /// `LeakyReLU(norm(x))`
    #[inline(always)]
    pub fn activate(&self, x: S::V) -> S::V {
        let z = S::fma(S::sub(x, self.mean), self.scale, self.shift);
        S::max(z, S::mul(z, self.slope))
    }

    /// `x - mean`
    #[inline(always)]
    pub fn centre(&self, x: S::V) -> S::V {
        S::sub(x, self.mean)
    }

    /// `dz` from the centred `x` and the activation's gradient.
    #[inline(always)]
    pub fn d_activation(&self, centred: S::V, gradient: S::V) -> S::V {
        S::mul(gradient, derivative::<S>(S::fma(centred, self.scale, self.shift), self.slope))
    }

    /// `dx` from the centred `x` and `dz`.
    #[inline(always)]
    pub fn d_norm(&self, centred: S::V, dz: S::V) -> S::V {
        S::fma(dz, self.scale, S::fma(centred, self.by_x, self.always))
    }
}

/// Derivative of LeakyReLU at `x`: 1 above 0, `slope` elsewhere. `x` may be the activation itself.
#[inline(always)]
pub fn derivative<S: Simd>(x: S::V, slope: S::V) -> S::V {
    // Every positive normal number times the largest one is above 1.
    S::min(S::max(S::mul(x, S::splat(f32::MAX)), slope), S::splat(1.0))
}

/// Floats asked for ahead of use: what the processor itself fetches ends with the page, every 64 vectors.
pub const AHEAD: usize = 24 * LANES;

/// `to = LeakyReLU(norm(x))`
pub struct Activate<'a> {
    pub x: &'a [f32],
    /// As [`Norm::block`] returned it.
    pub constants: &'a [f32],
    pub slope: f32,
    pub to: &'a mut [f32],
    /// Write past the caches.
    pub stream: bool,
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: inside a kernel; every chunk has 16 floats.
        unsafe {
            let norm = Constants::<S>::load(self.constants, self.slope);
            let stream = self.stream && aligned(self.to);
            for (x, to) in self.x.chunks_exact(LANES).zip(self.to.chunks_exact_mut(LANES)) {
                S::prefetch_near(x.as_ptr().wrapping_add(AHEAD));
                put::<S>(to.as_mut_ptr(), norm.activate(S::load(x.as_ptr())), stream);
            }
            if stream {
                S::fence();
            }
        }
    }
}

/// Sums of `dz` and of `dz * (x - mean)`, where `gradient` is that of the activation.
pub struct GradientSums<'a> {
    pub x: &'a [f32],
    pub gradient: &'a [f32],
    /// As [`Norm::block`] returned it.
    pub constants: &'a [f32],
    pub slope: f32,
}

impl Kernel for GradientSums<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Simd>(self) -> Moments {
        const RUN: usize = 1024 * LANES;
        let mut moments = Moments::new();
        for (x, gradient) in self.x.chunks(RUN).zip(self.gradient.chunks(RUN)) {
            // SAFETY: inside a kernel; both have whole vectors, `run` too.
            unsafe {
                let norm = Constants::<S>::load(self.constants, self.slope);
                let mut sums = [[S::zero(); 2]; 2];
                let points = x.len() / LANES;
                for pair in 0..points / 2 {
                    for i in 0..2 {
                        sums[i] = Self::add::<S>(&norm, sums[i], x.as_ptr(), gradient.as_ptr(), 2 * pair + i);
                    }
                }
                if points % 2 == 1 {
                    sums[0] = Self::add::<S>(&norm, sums[0], x.as_ptr(), gradient.as_ptr(), points - 1);
                }
                let mut run = [[0.0; LANES]; 2];
                for i in 0..2 {
                    S::store(run[i].as_mut_ptr(), S::add(sums[0][i], sums[1][i]));
                }
                moments.add_sums(points, &run);
            }
        }
        moments
    }
}

impl GradientSums<'_> {
    /// Adds a point's.
    ///
    /// # Safety
    /// In a [`Kernel`]; `x` and `gradient` have this point.
    #[inline(always)]
    unsafe fn add<S: Simd>(
        norm: &Constants<S>,
        sums: [S::V; 2],
        x: *const f32,
        gradient: *const f32,
        point: usize,
    ) -> [S::V; 2] {
        // SAFETY: the caller's.
        unsafe {
            let (x, gradient) = (x.add(point * LANES), gradient.add(point * LANES));
            S::prefetch_near(x.wrapping_add(AHEAD));
            S::prefetch_near(gradient.wrapping_add(AHEAD));
            let centred = norm.centre(S::load(x));
            add::<S>(sums, norm.d_activation(centred, S::load(gradient)), centred)
        }
    }
}
