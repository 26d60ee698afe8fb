//! Backward warping: bilinear sampling at `p + flow(p)`, and its gradients.

mod gradient;

pub use gradient::{AtInteger, WarpGradient};

use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
};

/// What lies outside the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Border {
    /// The sampling point is clamped to the image.
    Replicate,
    /// Each of the four neighbours that lies outside counts 0.
    Zeros,
    /// As `Zeros`, and 0 where the neighbours inside weigh less than this together.
    ZerosMasked(f32),
    /// Neighbours clamped, weights from `x - floor(clamp(x))`: extrapolates left of and above the image.
    Extrapolate,
    /// 0 when the point lies outside `[0, W) x [0, H)`, else the right and lower neighbours clamped.
    Caffe,
}

/// How a flow's two values name the axes, and their unit: the point is `(y, x) + (dy, dx)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axes {
    /// Lane of the flow that moves along x.
    pub x_lane: usize,
    /// Lane of the flow that moves along y.
    pub y_lane: usize,
    /// Pixels per unit of flow (negative where the flow is to be subtracted).
    pub scale: f32,
}

/// The four neighbours of a sampling point: pixels of the image and their weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Corners {
    pub at: [u32; 4],
    pub weight: [f32; 4],
}

/// One coordinate: two neighbours and the weights of both.
struct Along {
    low: usize,
    high: usize,
    weights: [f32; 2],
}

impl Border {
    /// Neighbours along one axis of length `size`.
    #[inline(always)]
    fn along(self, at: f32, size: usize) -> Along {
        // Far outside is outside: keeps the conversions to integers exact. NaN stays NaN and reads pixel 0.
        let at = at.clamp(-1e6, 1e6);
        let last = (size - 1) as i32;
        let (low, fraction) = match self {
            Border::Replicate => {
                let inside = at.clamp(0.0, last as f32);
                (inside as i32, inside - inside.floor())
            }
            Border::Extrapolate => {
                let low = at.clamp(0.0, last as f32).floor();
                (low as i32, at - low)
            }
            Border::Zeros | Border::ZerosMasked(_) | Border::Caffe => (at.floor() as i32, at - at.floor()),
        };
        let mut weights = [1.0 - fraction, fraction];
        match self {
            Border::Zeros | Border::ZerosMasked(_) => {
                for (weight, at) in weights.iter_mut().zip([low, low + 1]) {
                    if at < 0 || at > last {
                        *weight = 0.0;
                    }
                }
            }
            Border::Caffe if low < 0 || low > last => weights = [0.0; 2],
            _ => {}
        }
        Along { low: low.clamp(0, last) as usize, high: (low + 1).clamp(0, last) as usize, weights }
    }

    /// The four neighbours of `(y, x)`.
    #[inline(always)]
    pub(crate) fn corners(self, y: f32, x: f32, h: usize, w: usize) -> Corners {
        let (rows, columns) = (self.along(y, h), self.along(x, w));
        let at = [
            rows.low * w + columns.low,
            rows.low * w + columns.high,
            rows.high * w + columns.low,
            rows.high * w + columns.high,
        ];
        let mut weight = [
            rows.weights[0] * columns.weights[0],
            rows.weights[0] * columns.weights[1],
            rows.weights[1] * columns.weights[0],
            rows.weights[1] * columns.weights[1],
        ];
        if let Border::ZerosMasked(threshold) = self
            && weight.iter().sum::<f32>() < threshold
        {
            weight = [0.0; 4];
        }
        Corners { at: at.map(|a| a as u32), weight }
    }
}

/// Pixels are numbered by 32 bits, coordinates are whole `i32`.
fn check(extent: Extent, axes: Axes) {
    let pixels = extent.len() / LANES / extent.n.max(1);
    assert!(
        pixels <= u32::MAX as usize && extent.h.max(extent.w) < i32::MAX as usize,
        "{extent:?} is too large to warp"
    );
    assert!(axes.x_lane.max(axes.y_lane) < LANES, "lanes of the flow");
}

/// The image sampled at `p + flow(p)`; the flow is the first block of its value.
pub fn warp(isa: Isa, image: Blocks<'_>, flow: Blocks<'_>, axes: Axes, border: Border, out: &mut BlocksMut<'_, '_>) {
    assert_eq!((image.extent, flow.extent), (out.extent, out.extent), "extent");
    assert_eq!(image.planes.len(), out.planes.len(), "blocks");
    check(image.extent, axes);
    assert!(image.planes.iter().chain(flow.planes).all(|p| p.len() >= image.extent.len()), "blocks");
    let rows = RowsMut::new(out);
    let blocks = image.planes.len();
    let Extent { n, h, w } = image.extent;
    for_ranges(n * h, w * LANES * blocks, |range| {
        simd::run(isa, Rows { image, flow: flow.planes[0], axes, border, rows: &rows, range });
    });
}

struct Rows<'a, 'b> {
    image: Blocks<'a>,
    flow: &'a [f32],
    axes: Axes,
    border: Border,
    rows: &'a RowsMut<'b>,
    range: std::ops::Range<usize>,
}

impl Kernel for Rows<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        // Points of a short run of pixels at a time, kept on the stack.
        const RUN: usize = 64;
        let Extent { h, w, .. } = self.image.extent;
        let mut corners = [Corners::default(); RUN];
        for i in self.range {
            let (n, y) = (i / h, i % h);
            for first in (0..w).step_by(RUN) {
                let count = RUN.min(w - first);
                let flow = &self.flow[(i * w + first) * LANES..][..count * LANES];
                for (x, (pixel, corners)) in flow.chunks_exact(LANES).zip(&mut corners).enumerate() {
                    let (dy, dx) = (pixel[self.axes.y_lane], pixel[self.axes.x_lane]);
                    let (y, x) = (y as f32 + dy * self.axes.scale, (first + x) as f32 + dx * self.axes.scale);
                    *corners = self.border.corners(y, x, h, w);
                }
                for (block, plane) in self.image.planes.iter().enumerate() {
                    let image = &plane[n * h * w * LANES..][..h * w * LANES];
                    // SAFETY: each `i` is one row, and the ranges of the threads do not overlap.
                    let out = unsafe { self.rows.row(block, n, y) };
                    let out = &mut out[first * LANES..][..count * LANES];
                    for (out, c) in out.chunks_exact_mut(LANES).zip(&corners) {
                        // SAFETY: every corner is a pixel of the image.
                        unsafe {
                            let load = |k: usize| {
                                debug_assert!((c.at[k] as usize) < h * w);
                                S::load(image.as_ptr().add(c.at[k] as usize * LANES))
                            };
                            let v = S::mul(load(0), S::splat(c.weight[0]));
                            let v = S::fma(load(1), S::splat(c.weight[1]), v);
                            let v = S::fma(load(2), S::splat(c.weight[2]), v);
                            let v = S::fma(load(3), S::splat(c.weight[3]), v);
                            S::write(out, v);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, Value};

    /// The formulas of `WarpBorder`, one neighbour at a time.
    pub(super) fn sample(image: &Value, c: usize, n: usize, y: f32, x: f32, border: Border) -> f32 {
        let (h, w) = (image.extent.h as i64, image.extent.w as i64);
        let clamped = |y: i64, x: i64| image.at(c, n, y.clamp(0, h - 1) as usize, x.clamp(0, w - 1) as usize);
        let inside = |y: i64, x: i64| (0..h).contains(&y) && (0..w).contains(&x);
        let (fy, fx) = (y.floor(), x.floor());
        let (iy, ix) = (fy as i64, fx as i64);
        let mix = |a: f32, b: f32, read: &dyn Fn(i64, i64) -> f32| {
            let top = read(0, 0) * (1.0 - a) + read(0, 1) * a;
            let bottom = read(1, 0) * (1.0 - a) + read(1, 1) * a;
            top * (1.0 - b) + bottom * b
        };
        match border {
            Border::Replicate => mix(x - fx, y - fy, &|j, i| clamped(iy + j, ix + i)),
            Border::Zeros => {
                mix(x - fx, y - fy, &|j, i| if inside(iy + j, ix + i) { clamped(iy + j, ix + i) } else { 0.0 })
            }
            Border::ZerosMasked(threshold) => {
                let weight = mix(x - fx, y - fy, &|j, i| f32::from(u8::from(inside(iy + j, ix + i))));
                if weight < threshold { 0.0 } else { sample(image, c, n, y, x, Border::Zeros) }
            }
            Border::Extrapolate => {
                let (cy, cx) = (y.clamp(0.0, (h - 1) as f32).floor(), x.clamp(0.0, (w - 1) as f32).floor());
                mix(x - cx, y - cy, &|j, i| clamped(cy as i64 + j, cx as i64 + i))
            }
            Border::Caffe if !inside(iy, ix) => 0.0,
            Border::Caffe => mix(x - fx, y - fy, &|j, i| clamped(iy + j, ix + i)),
        }
    }

    #[test]
    fn every_border_follows_its_formula() {
        let mut random = Random::new(4);
        let borders =
            [Border::Replicate, Border::Zeros, Border::ZerosMasked(0.9999), Border::Extrapolate, Border::Caffe];
        for (channels, extent) in
            [(3, Extent { n: 2, h: 1, w: 1 }), (20, Extent { n: 2, h: 9, w: 13 }), (33, Extent { n: 1, h: 5, w: 70 })]
        {
            let image = random.value(channels, extent);
            let flow = random.value(2, extent);
            for border in borders {
                for axes in [Axes { x_lane: 0, y_lane: 1, scale: 12.0 }, Axes { x_lane: 1, y_lane: 0, scale: -0.5 }] {
                    for isa in Isa::available() {
                        let mut out = Value::zeroed(channels, extent);
                        out.write(|out| warp(isa, image.blocks(), flow.blocks(), axes, border, out));
                        // Extrapolation multiplies by up to the distance to the image.
                        out.assert_close(2e-5, |c, n, y, x| {
                            let dy = flow.at(axes.y_lane, n, y, x) * axes.scale;
                            let dx = flow.at(axes.x_lane, n, y, x) * axes.scale;
                            sample(&image, c, n, y as f32 + dy, x as f32 + dx, border)
                        });
                    }
                }
            }
        }
    }

    #[test]
    fn wild_flow_reads_no_foreign_memory() {
        let extent = Extent { n: 1, h: 2, w: 4 };
        let image = Random::new(5).value(3, extent);
        let mut flow = Random::new(6).value(2, extent);
        for (pixel, v) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, f32::MAX].into_iter().enumerate() {
            flow.buffers[0][pixel * LANES..][..2].fill(v);
        }
        for border in [Border::Replicate, Border::Zeros, Border::ZerosMasked(0.9), Border::Caffe] {
            let mut out = Value::zeroed(3, extent);
            let axes = Axes { x_lane: 0, y_lane: 1, scale: 1.0 };
            out.write(|out| warp(Isa::detect(), image.blocks(), flow.blocks(), axes, border, out));
            assert!(out.at(0, 0, 0, 1).is_finite());
        }
    }
}
