//! The input transform: `V = B^T d B` of one channel block and phase, for the tiles of a chunk.

use super::{points::Points, scheme::Place, transform};
use crate::{
    Extent, Isa, LANES,
    simd::{self, Kernel, Simd},
};

#[derive(Clone, Copy)]
pub struct InputTransform<'a> {
    /// The channel block.
    pub plane: &'a [f32],
    pub extent: Extent,
    /// Floats per pixel, and how many pixels a vector begins with. What follows them in a vector goes unused.
    pub pixel: usize,
    pub merged: usize,
    /// Pixels between the values of a tile.
    pub step: usize,
    /// Added to the places.
    pub base: [isize; 2],
    pub places: &'a [Place],
    /// V at this channel block's first tile, less the points' offsets.
    pub v: *mut f32,
    /// Floats from `v` to each point of the phase, row by row.
    pub points: &'a [usize],
}

/// The transform for one pair of point sets: pairs along rows and columns; along each, whether 0 and infinity are there.
struct Sized<'a, const PY: usize, const ZY: usize, const IY: usize, const PX: usize, const ZX: usize, const IX: usize>(
    InputTransform<'a>,
);

/// 8 x 8 vectors.
#[repr(align(64))]
struct Window([f32; 64 * LANES]);

impl InputTransform<'_> {
    /// Transforms on `isa`.
    ///
    /// # Safety
    /// `v` is valid for writes of `places.len()` lines at each of `points`, and no other thread touches these.
    pub unsafe fn run(self, isa: Isa, points: [Points; 2]) {
        let [y, x] = points;
        macro_rules! pick {
            ($($p:literal)*) => {
                match ((y.pairs, y.zero, y.infinity), (x.pairs, x.zero, x.infinity)) {
                    $(
                        (($p, true, true), ($p, true, true)) => simd::run(isa, Sized::<$p, 1, 1, $p, 1, 1>(self)),
                        (($p, true, true), ($p, true, false)) => simd::run(isa, Sized::<$p, 1, 1, $p, 1, 0>(self)),
                        (($p, true, false), ($p, true, true)) => simd::run(isa, Sized::<$p, 1, 0, $p, 1, 1>(self)),
                        (($p, true, false), ($p, true, false)) => simd::run(isa, Sized::<$p, 1, 0, $p, 1, 0>(self)),
                        (($p, true, false), ($p, false, false)) => simd::run(isa, Sized::<$p, 1, 0, $p, 0, 0>(self)),
                        (($p, false, false), ($p, true, false)) => simd::run(isa, Sized::<$p, 0, 0, $p, 1, 0>(self)),
                        (($p, false, false), ($p, false, false)) => simd::run(isa, Sized::<$p, 0, 0, $p, 0, 0>(self)),
                    )*
                    // Kernels of one row or one column.
                    ((0, ..), (2, true, true)) => simd::run(isa, Sized::<0, 1, 0, 2, 1, 1>(self)),
                    ((0, ..), (3, true, true)) => simd::run(isa, Sized::<0, 1, 0, 3, 1, 1>(self)),
                    ((2, true, true), (0, ..)) => simd::run(isa, Sized::<2, 1, 1, 0, 1, 0>(self)),
                    ((3, true, true), (0, ..)) => simd::run(isa, Sized::<3, 1, 1, 0, 1, 0>(self)),
                    _ => unreachable!("a set and its reduction"),
                }
            };
        }
        pick!(1 2 3)
    }

    /// The image part of a window of `rows` x `columns` at (`y`, `x`), zeros elsewhere.
    #[inline(always)]
    unsafe fn patch<S: Simd>(
        &self,
        image: *const f32,
        at: [isize; 2],
        rows: usize,
        columns: usize,
        patch: &mut Window,
    ) {
        let Extent { h, w, .. } = self.extent;
        let inside = |start: isize, i: usize, size: usize| {
            start.checked_add_unsigned(i).filter(|&p| p >= 0 && (p as usize) < size)
        };
        for i in 0..rows {
            let row = inside(at[0], i * self.step, h);
            for j in 0..columns {
                // SAFETY: the row and column are inside the image; the window has 8 x 8 vectors, of which `merged` pixels
                // fill one at most.
                unsafe {
                    let to = patch.0.as_mut_ptr().add((i * 8 + j) * LANES);
                    S::store(to, S::zero());
                    for pixel in 0..self.merged {
                        if let (Some(y), Some(x)) = (row, inside(at[1], j * self.step + pixel, w)) {
                            let from = image.add((y as usize * w + x as usize) * self.pixel);
                            if self.pixel == LANES {
                                S::store(to, S::load(from));
                            } else {
                                to.add(pixel * self.pixel).copy_from_nonoverlapping(from, self.pixel);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl<const PY: usize, const ZY: usize, const IY: usize, const PX: usize, const ZX: usize, const IX: usize> Kernel
    for Sized<'_, PY, ZY, IY, PX, ZX, IX>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (rows, columns) = (2 * PY + ZY + IY, 2 * PX + ZX + IX);
        let InputTransform { plane, extent: Extent { h, w, .. }, pixel, merged, step, base, places, v, points } =
            self.0;
        let mut patch = Window([0.0; 64 * LANES]);
        let mut half = Window([0.0; 64 * LANES]);
        for (t, place) in places.iter().enumerate() {
            let [y, x] = [place.input[0] + base[0], place.input[1] + base[1]];
            let first = place.image * h * w * pixel;
            let last = [y + (step * (rows - 1)) as isize, x + (step * (columns - 1) + merged - 1) as isize];
            let inside = y >= 0 && x >= 0 && last[0] < h as isize && last[1] < w as isize && {
                // A narrow pixel's vector reaches past it.
                let vector = last[0] as usize * w + last[1] as usize + 1 - merged;
                first + vector * pixel + LANES <= plane.len()
            };
            // SAFETY: `plane` holds all images (asserted by `ConvPlan::run`); an inside window and its last vector lie in
            // the plane, others are copied; `v` and `points` by `InputTransform::run`'s contract.
            unsafe {
                let image = plane.as_ptr().add(first);
                let (source, row_step, column_step) = if inside {
                    (image.add((y as usize * w + x as usize) * pixel), step * w * pixel, step * pixel)
                } else {
                    self.0.patch::<S>(image, [y, x], rows, columns, &mut patch);
                    (patch.0.as_ptr(), 8 * LANES, LANES)
                };
                // Of a kernel of one row or column, the other transform does nothing.
                if const { PX == 0 } {
                    let mut d = [S::zero(); 8];
                    for (i, d) in d.iter_mut().enumerate().take(rows) {
                        *d = S::load(source.add(i * row_step));
                    }
                    let d = transform::input::<S, PY, ZY, IY>(&d);
                    for (i, &d) in d.iter().enumerate().take(rows) {
                        S::store(v.add(points.get_unchecked(i) + t * LANES), d);
                    }
                    continue;
                }
                for j in (0..columns).take(if const { PY == 0 } { 0 } else { columns }) {
                    let mut d = [S::zero(); 8];
                    for (i, d) in d.iter_mut().enumerate().take(rows) {
                        *d = S::load(source.add(i * row_step + j * column_step));
                    }
                    let d = transform::input::<S, PY, ZY, IY>(&d);
                    for (i, &d) in d.iter().enumerate().take(rows) {
                        S::store(half.0.as_mut_ptr().add((i * 8 + j) * LANES), d);
                    }
                }
                let (row, row_pitch, pitch) =
                    if const { PY == 0 } { (source, 0, column_step) } else { (half.0.as_ptr(), 8 * LANES, LANES) };
                for i in 0..rows {
                    let mut d = [S::zero(); 8];
                    for (j, d) in d.iter_mut().enumerate().take(columns) {
                        *d = S::load(row.add(i * row_pitch + j * pitch));
                    }
                    let d = transform::input::<S, PX, ZX, IX>(&d);
                    for (j, &d) in d.iter().enumerate().take(columns) {
                        S::store(v.add(points.get_unchecked(i * columns + j) + t * LANES), d);
                    }
                }
            }
        }
    }
}
