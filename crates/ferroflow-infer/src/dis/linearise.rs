//! The two images around a given flow, to first order: what the data term of the variational energy is made of.

use ferroflow_core::Size;
use ferroflow_kernels::simd::{self, Kernel, Simd};
use rayon::prelude::*;

use super::isa;
use super::parted::Parted;
use super::pyramid::{BORDER, Flow, Plane};

/// Derivatives of a row: of the mean image x, xx, xy, y, yy; the difference of the images z and its derivatives xz, yz.
pub(super) const DERIVATIVES: usize = 8;

/// Rows a thread takes at least.
const BAND: usize = 16;

/// The linearised images of one level.
#[derive(Debug, Default)]
pub(super) struct Linearised {
    /// Mean and difference of the images, with the second one warped back by the flow, `[height, 2, width]`.
    images: Vec<f32>,
    /// `[height, DERIVATIVES, parted]`
    derivatives: Vec<f32>,
}

impl Linearised {
    /// The derivatives of row `y`, in the order of [`DERIVATIVES`].
    pub(super) fn row(&self, parted: Parted, y: usize) -> &[f32] {
        let len = DERIVATIVES * parted.len();
        &self.derivatives[y * len..][..len]
    }

    /// Linearises the frames of one level around `flow`.
    pub(super) fn compute(&mut self, first: &Plane, second: &Plane, flow: &Flow) {
        let Size { height, width } = first.size;
        self.images.resize(height * 2 * width, 0.0);
        self.images.par_chunks_mut(2 * width).with_min_len(BAND).enumerate().for_each(|(y, row)| {
            let (mean, difference) = row.split_at_mut(width);
            let motion = flow.u[y * width..].iter().zip(&flow.v[y * width..]);
            let pixels = mean.iter_mut().zip(difference).zip(first.row(y)).zip(motion);
            for (x, (((mean, difference), first), (u, v))) in pixels.enumerate() {
                let warped = sample(second, x as f32 + u, y as f32 + v);
                *mean = 0.5 * (first + warped);
                *difference = warped - first;
            }
        });
        let parted = Parted { width };
        self.derivatives.resize(height * DERIVATIVES * parted.len(), 0.0);
        let images = &self.images;
        let rows = self.derivatives.par_chunks_mut(DERIVATIVES * parted.len()).with_min_len(BAND).enumerate();
        rows.for_each_init(
            || vec![0.0; 3 * width],
            |scratch, (y, out)| simd::run(isa(), DerivativeRow { parted, height, images, y, scratch, out }),
        );
    }
}

/// `image` at `(x, y)`, bilinear, its edge repeated outside.
#[inline]
fn sample(image: &Plane, x: f32, y: f32) -> f32 {
    let place = |at: f32, size: usize| {
        let at = at.max(0.0).min((size - 1) as f32);
        let whole = at as usize;
        (whole, at - whole as f32)
    };
    let ((column, fx), (row, fy)) = (place(x, image.size.width), place(y, image.size.height));
    let at = (row + BORDER) * image.stride() + column + BORDER;
    let (top, bottom) = (&image.padded()[at..at + 2], &image.padded()[at + image.stride()..][..2]);
    let above = top[0] + fx * (top[1] - top[0]);
    let below = bottom[0] + fx * (bottom[1] - bottom[0]);
    above + fy * (below - above)
}

/// One row of derivatives.
struct DerivativeRow<'a> {
    parted: Parted,
    height: usize,
    images: &'a [f32],
    y: usize,
    scratch: &'a mut [f32],
    out: &'a mut [f32],
}

impl Kernel for DerivativeRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { parted, height, images, y, scratch, out } = self;
        let width = parted.width;
        let mean = |y: usize| &images[2 * y * width..][..width];
        let difference = |y: usize| &images[(2 * y + 1) * width..][..width];
        // Rows above and below, the edge repeated.
        let above = |y: usize| y.saturating_sub(1);
        let below = |y: usize| (y + 1).min(height - 1);
        let (row, rest) = scratch.split_at_mut(width);
        let (upper, lower) = rest.split_at_mut(width);
        let [x, xx, xy, y1, yy, z, xz, yz] = parted.split_mut::<DERIVATIVES>(out);

        horizontal(mean(y), row);
        parted.part(row, x);
        horizontal(row, upper);
        parted.part(upper, xx);
        horizontal(mean(above(y)), upper);
        horizontal(mean(below(y)), lower);
        vertical(upper, lower, row);
        parted.part(row, xy);
        vertical(mean(above(y)), mean(below(y)), row);
        parted.part(row, y1);
        vertical(mean(above(above(y))), mean(below(above(y))), upper);
        vertical(mean(above(below(y))), mean(below(below(y))), lower);
        vertical(upper, lower, row);
        parted.part(row, yy);
        parted.part(difference(y), z);
        horizontal(difference(y), row);
        parted.part(row, xz);
        vertical(difference(above(y)), difference(below(y)), row);
        parted.part(row, yz);
    }
}

/// Central difference along a row, the edge repeated.
#[inline(always)]
fn horizontal(row: &[f32], out: &mut [f32]) {
    let last = row.len() - 1;
    out[0] = 0.5 * (row[last.min(1)] - row[0]);
    out[last] = 0.5 * (row[last] - row[last.saturating_sub(1)]);
    if last > 1 {
        for ((o, left), right) in out[1..last].iter_mut().zip(row).zip(&row[2..]) {
            *o = 0.5 * (right - left);
        }
    }
}

/// Central difference between the rows above and below.
#[inline(always)]
fn vertical(above: &[f32], below: &[f32], out: &mut [f32]) {
    for ((o, a), b) in out.iter_mut().zip(above).zip(below) {
        *o = 0.5 * (b - a);
    }
}
