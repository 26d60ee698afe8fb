//! Gradients of a warp to its image and to its flow.
//!
//! Bilinear sampling has a corner wherever a coordinate is an integer, and references differ in what they call its
//! derivative there: see [`AtInteger`]. It matters, because a flow of zero lies on integers everywhere.

use super::{Along, Axes, Border};
use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Scratch, Update,
    rows::{RowsMut, for_pieces},
    simd::{self, Kernel, Simd},
    team,
};

/// Derivative along an axis whose coordinate is an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtInteger {
    /// The right-hand one: the neighbours are `floor` and `floor + 1` (NVIDIA's kernels, `grid_sample`, Caffe).
    Right,
    /// 0: the neighbours are `floor` and `ceil` (UFlow).
    Zero,
    /// 0, but the left-hand one at the last pixel: `floor` is at most that before the last, and the fraction is clamped
    /// to 0..=1 (`dense_image_warp`, so tfoptflow). For [`Border::Replicate`].
    ZeroButLast,
}

/// Four neighbours: their pixels, their weights, and the derivatives of the weights along both axes.
#[derive(Clone, Copy, Default)]
struct Slopes {
    at: [u32; 4],
    weight: [f32; 4],
    dx: [f32; 4],
    dy: [f32; 4],
}

impl Border {
    /// Neighbours along one axis of length `size` and the derivatives of their weights.
    #[inline(always)]
    fn slopes_along(self, at: f32, size: usize, rule: AtInteger) -> (Along, [f32; 2]) {
        let mut along = self.along(at, size);
        let last = (size - 1) as f32;
        let integer = at == at.floor();
        if rule == AtInteger::ZeroButLast && self == Border::Replicate && at == last && size > 1 {
            along = Along { low: size - 2, high: size - 1, weights: [0.0, 1.0] };
            return (along, [-1.0, 1.0]);
        }
        if integer && rule != AtInteger::Right {
            return (along, [0.0; 2]);
        }
        let inside = |at: f32| at >= 0.0 && at <= last;
        let slopes = match self {
            Border::Replicate if !inside(at) => [0.0; 2],
            Border::Caffe if !inside(at.floor()) => [0.0; 2],
            Border::Zeros | Border::ZerosMasked(_) => {
                let low = at.floor();
                [if inside(low) { -1.0 } else { 0.0 }, if inside(low + 1.0) { 1.0 } else { 0.0 }]
            }
            _ => [-1.0, 1.0],
        };
        (along, slopes)
    }

    #[inline(always)]
    fn slopes(self, y: f32, x: f32, h: usize, w: usize, rule: AtInteger) -> Slopes {
        let ((rows, down), (columns, right)) = (self.slopes_along(y, h, rule), self.slopes_along(x, w, rule));
        let at = |row: usize, column: usize| (row * w + column) as u32;
        let each = |row: [f32; 2], column: [f32; 2]| {
            [row[0] * column[0], row[0] * column[1], row[1] * column[0], row[1] * column[1]]
        };
        let mut all = Slopes {
            at: [
                at(rows.low, columns.low),
                at(rows.low, columns.high),
                at(rows.high, columns.low),
                at(rows.high, columns.high),
            ],
            weight: each(rows.weights, columns.weights),
            dx: each(rows.weights, right),
            dy: each(down, columns.weights),
        };
        // The mask is a constant: what it lets through keeps its derivative.
        if let Border::ZerosMasked(threshold) = self
            && all.weight.iter().sum::<f32>() < threshold
        {
            (all.weight, all.dx, all.dy) = ([0.0; 4], [0.0; 4], [0.0; 4]);
        }
        all
    }
}

/// Floats that keep one pixel's neighbours: four pixels (as bits) and four weights.
const KEPT: usize = 8;

/// What [`super::warp`] was given, and the gradient of its result.
#[derive(Clone, Copy)]
pub struct WarpGradient<'a> {
    /// The image that was sampled.
    pub image: Blocks<'a>,
    /// The flow that it was sampled along.
    pub flow: Blocks<'a>,
    /// Where in the flow its components are.
    pub axes: Axes,
    /// What lies outside the image.
    pub border: Border,
    /// The derivative where a coordinate is an integer.
    pub at_integer: AtInteger,
    /// The gradient of the result.
    pub g: Blocks<'a>,
}

impl WarpGradient<'_> {
    /// The gradients to the image and to the flow, where wanted. The flow's is written to the lanes that `axes` names.
    pub fn run(
        self,
        isa: Isa,
        d_image: Option<(Update, &mut BlocksMut<'_, '_>)>,
        d_flow: Option<(Update, &mut BlocksMut<'_, '_>)>,
        scratch: &Scratch,
    ) {
        let Self { image, flow, axes, g, .. } = self;
        let extent = image.extent;
        assert_eq!((flow.extent, g.extent, g.planes.len()), (extent, extent, image.planes.len()), "extent");
        assert!(image.planes.iter().chain(g.planes).chain(flow.planes).all(|p| p.len() >= extent.len()), "blocks");
        super::check(extent, axes);
        if extent.is_empty() {
            return;
        }
        let Extent { n, h, w } = extent;
        let (update, rows) = match d_flow {
            Some((update, d)) => {
                assert_eq!(d.extent, extent, "extent");
                (update, Some(RowsMut::new(d)))
            }
            None => (Update::Overwrite, None),
        };
        scratch.with_shared(n * h * w * KEPT, |kept| {
            let kept = &mut kept[..n * h * w * KEPT];
            let few = (4096 / (w * image.planes.len())).max(1);
            team::for_chunks_mut(kept, few * w * KEPT, |i, kept| {
                for (row, kept) in (i * few..).zip(kept.chunks_mut(w * KEPT)) {
                    // SAFETY: each row is visited once.
                    let d = rows.as_ref().map(|rows| unsafe { rows.row(0, row / h, row % h) });
                    simd::run(isa, Row { warp: self, row, kept, update, d });
                }
            });
            let Some((update, d)) = d_image else { return };
            assert_eq!((d.extent, d.planes.len()), (extent, image.planes.len()), "extent");
            // Neighbours of any row may meet: a thread takes a whole image of one block, in the order of its pixels.
            for_pieces(d, h * w, |block, n, _, d| {
                if update == Update::Overwrite {
                    d.fill(0.0);
                }
                let g = &g.planes[block][n * h * w * LANES..][..h * w * LANES];
                simd::run(isa, Scatter { g, kept: &kept[n * h * w * KEPT..][..h * w * KEPT], d });
            });
        });
    }
}

struct Row<'a> {
    warp: WarpGradient<'a>,
    row: usize,
    kept: &'a mut [f32],
    update: Update,
    /// The flow's gradient.
    d: Option<&'a mut [f32]>,
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self) {
        // As in the forward pass, a short run of pixels at a time.
        const RUN: usize = 64;
        let WarpGradient { image, flow, axes: Axes { x_lane, y_lane, scale }, border, at_integer, g } = self.warp;
        let Extent { h, w, .. } = image.extent;
        let y = self.row % h;
        let mut slopes = [Slopes::default(); RUN];
        for first in (0..w).step_by(RUN) {
            let count = RUN.min(w - first);
            let pixels = (self.row * w + first) * LANES..(self.row * w + first + count) * LANES;
            let kept = self.kept[first * KEPT..].chunks_exact_mut(KEPT);
            let flow = flow.planes[0][pixels.clone()].chunks_exact(LANES);
            for (x, ((flow, slopes), kept)) in flow.zip(&mut slopes).zip(kept).enumerate() {
                let (y, x) = (y as f32 + flow[y_lane] * scale, (first + x) as f32 + flow[x_lane] * scale);
                *slopes = border.slopes(y, x, h, w, at_integer);
                kept[..4].copy_from_slice(&slopes.at.map(f32::from_bits));
                kept[4..].copy_from_slice(&slopes.weight);
            }
            let Some(d) = &mut self.d else { continue };
            // SAFETY: every neighbour is a pixel of the image.
            unsafe {
                let mut sums = [[S::zero(); 2]; RUN];
                for (plane, g) in image.planes.iter().zip(g.planes) {
                    let image = &plane[self.row / h * h * w * LANES..][..h * w * LANES];
                    for ((g, s), sums) in g[pixels.clone()].chunks_exact(LANES).zip(&slopes).zip(&mut sums) {
                        let (mut right, mut down) = (S::zero(), S::zero());
                        for k in 0..4 {
                            debug_assert!((s.at[k] as usize) < h * w);
                            let v = S::load(image.as_ptr().add(s.at[k] as usize * LANES));
                            right = S::fma(v, S::splat(s.dx[k]), right);
                            down = S::fma(v, S::splat(s.dy[k]), down);
                        }
                        let g = S::read(g);
                        sums[0] = S::fma(g, right, sums[0]);
                        sums[1] = S::fma(g, down, sums[1]);
                    }
                }
                let d = d[first * LANES..][..count * LANES].chunks_exact_mut(LANES);
                for (d, sums) in d.zip(&sums) {
                    if self.update == Update::Overwrite {
                        d.fill(0.0);
                    }
                    d[x_lane] += scale * S::sum(sums[0]);
                    d[y_lane] += scale * S::sum(sums[1]);
                }
            }
        }
    }
}

/// Adds one image of one block of `g` to the neighbours of its pixels.
struct Scatter<'a> {
    g: &'a [f32],
    kept: &'a [f32],
    d: &'a mut [f32],
}

impl Kernel for Scatter<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let pixels = self.d.len() / LANES;
        for (g, kept) in self.g.chunks_exact(LANES).zip(self.kept.chunks_exact(KEPT)) {
            // SAFETY: `Row` kept pixels of the image.
            unsafe {
                let g = S::read(g);
                for k in 0..4 {
                    let at = kept[k].to_bits() as usize;
                    debug_assert!(at < pixels);
                    let to = self.d.as_mut_ptr().add(at * LANES);
                    S::store(to, S::fma(g, S::splat(kept[4 + k]), S::load(to)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        testing::{Random, Value, both_updates},
        warp::{tests::sample, warp},
    };

    const BORDERS: [Border; 5] =
        [Border::Replicate, Border::Zeros, Border::ZerosMasked(0.9999), Border::Extrapolate, Border::Caffe];

    #[test]
    fn gradients_are_the_slopes() {
        let mut random = Random::new(36);
        for (channels, extent) in
            [(3, Extent { n: 2, h: 1, w: 1 }), (20, Extent { n: 2, h: 9, w: 13 }), (33, Extent { n: 1, h: 5, w: 70 })]
        {
            let (image, flow, g) =
                (random.value(channels, extent), random.value(2, extent), random.value(channels, extent));
            for border in BORDERS {
                for axes in [Axes { x_lane: 0, y_lane: 1, scale: 12.0 }, Axes { x_lane: 1, y_lane: 0, scale: -0.5 }] {
                    for isa in Isa::available() {
                        let scratch = Scratch::new();
                        let run = |d_image: Option<(Update, &mut BlocksMut<'_, '_>)>,
                                   d_flow: Option<(Update, &mut BlocksMut<'_, '_>)>| {
                            let (image, flow, g) = (image.blocks(), flow.blocks(), g.blocks());
                            let at_integer = AtInteger::Right;
                            WarpGradient { image, flow, axes, border, at_integer, g }
                                .run(isa, d_image, d_flow, &scratch);
                        };
                        let d_image = both_updates(channels, extent, |update, d| run(Some((update, d)), None));
                        let d_flow = both_updates(2, extent, |update, d| run(None, Some((update, d))));
                        let mut together = [Value::zeroed(channels, extent), Value::zeroed(2, extent)];
                        let [a, b] = &mut together;
                        a.write(|a| b.write(|b| run(Some((Update::Overwrite, a)), Some((Update::Overwrite, b)))));
                        together[0].assert_close(0.0, |c, n, y, x| d_image.at(c, n, y, x));
                        together[1].assert_close(0.0, |c, n, y, x| d_flow.at(c, n, y, x));

                        // The image's: the sum over what an image of a single 1 would give.
                        for _ in 0..10 {
                            let (c, n) = (random.below(channels), random.below(extent.n));
                            let pixel = (n * extent.h + random.below(extent.h)) * extent.w + random.below(extent.w);
                            let at = pixel * LANES + c % LANES;
                            let mut unit = image.copy();
                            unit.buffers.iter_mut().for_each(|b| b.fill(0.0));
                            unit.buffers[c / LANES][at] = 1.0;
                            let mut out = Value::zeroed(channels, extent);
                            out.write(|out| warp(isa, unit.blocks(), flow.blocks(), axes, border, out));
                            let (want, got) = (out.dot(&g), f64::from(d_image.buffers[c / LANES][at]));
                            assert!((want - got).abs() < 1e-5 * want.abs().max(10.0), "{border:?} {got} for {want}");
                        }

                        // The flow's: differences, away from the corners of the surface and from the mask's edge.
                        const STEP: f32 = 1.0 / 64.0;
                        for i in 0..extent.len() / LANES {
                            let (n, y, x) = (i / (extent.h * extent.w), i / extent.w % extent.h, i % extent.w);
                            let to = [axes.y_lane, axes.x_lane].map(|lane| flow.at(lane, n, y, x) * axes.scale);
                            let (py, px) = (y as f32 + to[0], x as f32 + to[1]);
                            let near = |at: f32| (at - at.round()).abs() < 2.0 * STEP;
                            if near(py) || near(px) {
                                continue;
                            }
                            let along = |dy: f32, dx: f32| -> f64 {
                                let at = |sign: f32, c| sample(&image, c, n, py + sign * dy, px + sign * dx, border);
                                let slope = |c| f64::from(at(1.0, c) - at(-1.0, c)) / f64::from(2.0 * STEP);
                                (0..channels).map(|c| slope(c) * f64::from(g.at(c, n, y, x))).sum()
                            };
                            for (lane, want) in [(axes.y_lane, along(STEP, 0.0)), (axes.x_lane, along(0.0, STEP))] {
                                let (want, got) = (want as f32 * axes.scale, d_flow.at(lane, n, y, x));
                                // The differences are of numbers up to 100 (extrapolated) in single precision.
                                let tolerance = if border == Border::Extrapolate { 1e-1 } else { 5e-3 };
                                assert!((got - want).abs() < tolerance, "{border:?} {got} for {want} at {py} {px}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn integer_coordinates_follow_their_rule() {
        let extent = Extent { n: 1, h: 1, w: 4 };
        let image = Random::new(37).value(1, extent);
        let at = |x: usize| image.at(0, 0, 0, x);
        let ones = {
            let mut ones = image.copy();
            ones.buffers[0].chunks_exact_mut(LANES).for_each(|pixel| pixel[0] = 1.0);
            ones
        };
        let mut flow = Value::zeroed(2, extent);
        flow.buffers[0].fill(0.0);
        let slopes = |border: Border, at_integer: AtInteger| {
            let (mut d, axes) = (Value::zeroed(2, extent), Axes { x_lane: 0, y_lane: 1, scale: 1.0 });
            d.write(|d| {
                let (image, flow, g, d) = (image.blocks(), flow.blocks(), ones.blocks(), Some((Update::Overwrite, d)));
                WarpGradient { image, flow, axes, border, at_integer, g }.run(Isa::detect(), None, d, &Scratch::new());
            });
            [0, 1, 2, 3].map(|x| d.at(0, 0, 0, x))
        };
        let right = [at(1) - at(0), at(2) - at(1), at(3) - at(2)];
        for border in BORDERS {
            let last = if matches!(border, Border::Zeros | Border::ZerosMasked(_)) { -at(3) } else { 0.0 };
            let got = slopes(border, AtInteger::Right);
            for (got, want) in got.into_iter().zip([right[0], right[1], right[2], last]) {
                assert!((got - want).abs() < 1e-6, "{border:?}: {got} for {want}");
            }
        }
        assert_eq!(slopes(Border::Zeros, AtInteger::Zero), [0.0; 4]);
        let clamped = slopes(Border::Replicate, AtInteger::ZeroButLast);
        assert_eq!(clamped[..3], [0.0; 3]);
        assert!((clamped[3] - right[2]).abs() < 1e-6);
    }

    #[test]
    fn wild_flow_writes_no_foreign_memory() {
        let extent = Extent { n: 1, h: 2, w: 4 };
        let (image, mut flow) = (Random::new(5).value(3, extent), Random::new(6).value(2, extent));
        for (pixel, v) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, f32::MAX].into_iter().enumerate() {
            flow.buffers[0][pixel * LANES..][..2].fill(v);
        }
        for border in BORDERS {
            let (mut a, mut b) = (Value::zeroed(3, extent), Value::zeroed(2, extent));
            let axes = Axes { x_lane: 0, y_lane: 1, scale: 1.0 };
            a.write(|a| {
                b.write(|b| {
                    let (image, flow, g) = (image.blocks(), flow.blocks(), image.blocks());
                    let (a, b) = (Some((Update::Overwrite, a)), Some((Update::Overwrite, b)));
                    WarpGradient { image, flow, axes, border, at_integer: AtInteger::Right, g }.run(
                        Isa::detect(),
                        a,
                        b,
                        &Scratch::new(),
                    );
                });
            });
            assert!(b.at(0, 0, 1, 3).is_finite());
        }
    }
}
