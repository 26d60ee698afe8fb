//! Resizing of values and of flows: nearest and bilinear on every grid.

mod flow;
mod gradient;
mod sampling;

use std::sync::OnceLock;

use self::sampling::{Fourfold, Tap};
pub use self::{gradient::ResizeGradient, sampling::Sampling};
use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
};

/// A resize from one extent to another, its positions computed once.
#[derive(Clone, Debug)]
pub struct Resize {
    from: Extent,
    to: Extent,
    rows: Vec<Tap>,
    columns: Vec<Tap>,
    nearest: bool,
    /// For rows four times as wide; see [`flow`].
    fourfold: Option<Fourfold>,
    /// Made when first asked for.
    gradient: OnceLock<Box<ResizeGradient>>,
}

impl Resize {
    /// Any size to any size.
    pub fn new(from: Extent, to: Extent, sampling: Sampling) -> Self {
        assert_eq!(from.n, to.n, "images");
        let taps = |from: usize, to: usize| (0..to).map(|i| sampling.tap(i, from, to)).collect();
        Self {
            from,
            to,
            rows: taps(from.h, to.h),
            columns: taps(from.w, to.w),
            nearest: sampling == Sampling::Nearest,
            fourfold: if to.w == 4 * from.w { Fourfold::new(sampling) } else { None },
            gradient: OnceLock::new(),
        }
    }

    /// Its transposition.
    pub fn gradient(&self) -> &ResizeGradient {
        self.gradient.get_or_init(|| Box::new(ResizeGradient::new(self.from, self.to, &self.rows, &self.columns)))
    }

    /// Extent of the input.
    pub fn from(&self) -> Extent {
        self.from
    }

    /// Extent of the output.
    pub fn to(&self) -> Extent {
        self.to
    }

    /// Some pixels of row `y` of one lane, from column `first` on.
    #[inline(always)]
    pub(crate) fn lane_row(&self, x: Blocks<'_>, lane: usize, n: usize, y: usize, first: usize, to: &mut [f32]) {
        let Tap { low, high, weight } = self.rows[y];
        let Extent { h, w, .. } = self.from;
        let row = |y: usize| &x.planes[lane / LANES][(n * h + y) * w * LANES..][..w * LANES];
        let (top, bottom) = (row(low), row(high));
        let at = |row: &[f32], x: usize| row[x * LANES + lane % LANES];
        let columns = &self.columns[first..][..to.len()];
        if self.nearest {
            to.iter_mut().zip(columns).for_each(|(to, tap)| *to = at(top, tap.low));
            return;
        }
        // First down, for the few columns of the source that lie under these pixels, then along.
        const WIDE: usize = 130;
        let mut mixed = [0.0f32; WIDE];
        let (start, end) = (columns[0].low, columns[columns.len() - 1].high);
        let down = |x: usize| at(top, x) + (at(bottom, x) - at(top, x)) * weight;
        if end - start < WIDE {
            mixed.iter_mut().zip(start..=end).for_each(|(to, x)| *to = down(x));
            for (to, tap) in to.iter_mut().zip(columns) {
                let (a, b) = (mixed[tap.low - start], mixed[tap.high - start]);
                *to = a + (b - a) * tap.weight;
            }
        } else {
            for (to, tap) in to.iter_mut().zip(columns) {
                let (a, b) = (down(tap.low), down(tap.high));
                *to = a + (b - a) * tap.weight;
            }
        }
    }

    /// Resizes every channel; the results are multiplied by `scale`, one factor per lane.
    pub fn run(&self, isa: Isa, x: Blocks<'_>, scale: &[f32], out: &mut BlocksMut<'_, '_>) {
        assert_eq!((x.extent, out.extent), (self.from, self.to), "extent");
        assert_eq!(x.planes.len(), out.planes.len(), "blocks");
        assert!(scale.len() >= LANES * out.planes.len(), "factors");
        let blocks = out.planes.len();
        let rows = RowsMut::new(out);
        let Extent { n, h, w } = self.to;
        for_ranges(n * h * blocks, w * LANES, |range| {
            for i in range {
                let (block, n, y) = (i / (n * h), i / h % n, i % h);
                // SAFETY: each `i` is one row of one block.
                let out = unsafe { rows.row(block, n, y) };
                let scale = &scale[block * LANES..][..LANES];
                simd::run(isa, Row { resize: self, plane: x.planes[block], n, y, scale, out });
            }
        });
    }
}

struct Row<'a> {
    resize: &'a Resize,
    plane: &'a [f32],
    n: usize,
    y: usize,
    scale: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Extent { h, w, .. } = self.resize.from;
        let Tap { low, high, weight } = self.resize.rows[self.y];
        let row = |y: usize| &self.plane[(self.n * h + y) * w * LANES..][..w * LANES];
        let (top, bottom) = (row(low), row(high));
        let (scale, down) = (S::read(self.scale), S::splat(weight));
        for (out, tap) in self.out.chunks_exact_mut(LANES).zip(&self.resize.columns) {
            let right = S::splat(tap.weight);
            let mix = |row: &[f32]| {
                let a = S::read(&row[tap.low * LANES..]);
                let b = S::read(&row[tap.high * LANES..]);
                S::fma(S::sub(b, a), right, a)
            };
            let (a, b) = (mix(top), mix(bottom));
            S::write(out, S::mul(scale, S::fma(S::sub(b, a), down, a)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Scratch,
        testing::{Random, Value},
    };

    /// The definition, from the operation's documentation.
    fn sample(v: &Value, sampling: Sampling, to: Extent, c: usize, n: usize, y: usize, x: usize) -> f32 {
        let source = |at: usize, from: usize, to: usize| {
            let (at, inside, outside) = (at as f64, from as f64, to as f64);
            let s = match sampling {
                Sampling::Nearest => (at * inside / outside + 1e-9).floor(),
                Sampling::HalfPixel => (at + 0.5) * inside / outside - 0.5,
                Sampling::AlignCorners => at * (inside - 1.0) / (outside - 1.0).max(1.0),
                Sampling::Asymmetric => at * inside / outside,
            };
            s.clamp(0.0, inside - 1.0)
        };
        let (sy, sx) = (source(y, v.extent.h, to.h), source(x, v.extent.w, to.w));
        let mut sum = 0.0;
        for yy in 0..v.extent.h {
            for xx in 0..v.extent.w {
                let weight = (1.0 - (sy - yy as f64).abs()).max(0.0) * (1.0 - (sx - xx as f64).abs()).max(0.0);
                sum += weight * f64::from(v.at(c, n, yy, xx));
            }
        }
        sum as f32
    }

    #[test]
    fn every_grid_follows_its_formula() {
        let mut random = Random::new(3);
        let sizes = [(1, 1, 4, 4), (3, 5, 6, 10), (2, 7, 8, 28), (6, 9, 5, 4), (4, 4, 13, 7), (9, 23, 36, 92)];
        for (h, w, to_h, to_w) in sizes {
            for sampling in [Sampling::Nearest, Sampling::HalfPixel, Sampling::AlignCorners, Sampling::Asymmetric] {
                let (from, to) = (Extent { n: 2, h, w }, Extent { n: 2, h: to_h, w: to_w });
                let resize = Resize::new(from, to, sampling);
                let v = random.value(18, from);
                for isa in Isa::available() {
                    let mut out = Value::zeroed(18, to);
                    out.write(|out| resize.run(isa, v.blocks(), &[2.0; 32], out));
                    out.assert_close(2e-6, |c, n, y, x| 2.0 * sample(&v, sampling, to, c, n, y, x));
                }
                let flow = random.value(2, from);
                for isa in Isa::available() {
                    let mut out = vec![f32::NAN; 2 * to.n * to.h * to.w];
                    resize.run_flow(isa, flow.blocks(), [1.5, -1.0], &mut out, &Scratch::new());
                    for (i, got) in out.iter().enumerate() {
                        let (n, c, y, x) = (i / (2 * to.h * to.w), i / (to.h * to.w) % 2, i / to.w % to.h, i % to.w);
                        let want = [1.5, -1.0][c] * sample(&flow, sampling, to, c, n, y, x);
                        assert!((got - want).abs() < 2e-6, "{sampling:?} {from:?} {to:?}");
                    }
                }
            }
        }
    }
}
