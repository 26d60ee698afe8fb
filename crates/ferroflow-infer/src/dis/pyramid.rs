//! Grey image pyramids and the planes they are made of.
//!
//! A level halves the one before it exactly: pixel `(x, y)` is the mean of the four pixels `(2x, 2y)..=(2x+1, 2y+1)`, and
//! the last row and column of an odd size count twice, so that motion scales by exactly two from level to level.

use ferroflow_core::{FrameView, Size};
use rayon::prelude::*;

use super::PATCH;

/// Pixels that every plane repeats around itself, so that a patch reaching outside the image needs no special case.
pub(super) const BORDER: usize = PATCH;

/// Grey weights of red, green and blue, in 1/65536 (ITU-R BT.601).
const GREY: [u32; 3] = [19595, 38470, 7471];

/// Rows a thread takes at least, so that small levels are not torn apart.
const BAND: usize = 16;

/// One channel `[height, width]` inside a border of [`BORDER`] + 1 repeated pixels.
#[derive(Debug, Default)]
pub(super) struct Plane {
    pub(super) size: Size,
    data: Vec<f32>,
}

impl Plane {
    /// Columns from one padded row to the next.
    pub(super) fn stride(&self) -> usize {
        self.size.width + 2 * BORDER + 1
    }

    /// Every padded row, border rows included: pixel `(x, y)` is at `(y + BORDER) * stride() + x + BORDER`.
    pub(super) fn padded(&self) -> &[f32] {
        &self.data
    }

    /// Row `y` without its border.
    pub(super) fn row(&self, y: usize) -> &[f32] {
        &self.data[(y + BORDER) * self.stride() + BORDER..][..self.size.width]
    }

    /// Sets the size, then every row by `fill(y, row)`, then the border.
    fn fill(&mut self, size: Size, fill: impl Fn(usize, &mut [f32]) + Sync) {
        self.size = size;
        let Size { height, width } = size;
        let stride = self.stride();
        self.data.resize(stride * (height + 2 * BORDER + 1), 0.0);
        let rows = &mut self.data[BORDER * stride..][..height * stride];
        rows.par_chunks_mut(stride).with_min_len(BAND).enumerate().for_each(|(y, row)| {
            fill(y, &mut row[BORDER..BORDER + width]);
            let (left, right) = (row[BORDER], row[BORDER + width - 1]);
            row[..BORDER].fill(left);
            row[BORDER + width..].fill(right);
        });
        for y in 0..BORDER {
            self.data.copy_within(BORDER * stride..(BORDER + 1) * stride, y * stride);
        }
        let last = (BORDER + height - 1) * stride;
        for y in BORDER + height..=2 * BORDER + height {
            self.data.copy_within(last..last + stride, y * stride);
        }
    }
}

/// The levels of one frame that a preset uses: `levels[scale]` is the frame reduced by `2^scale`; level 0 stays empty.
#[derive(Debug, Default)]
pub(super) struct Pyramid {
    pub(super) levels: Vec<Plane>,
}

impl Pyramid {
    /// Levels 1 to `coarsest` of `frame`, each at least one patch wide and high.
    pub(super) fn build(&mut self, frame: FrameView<'_>, coarsest: usize) {
        self.levels.resize_with(coarsest + 1, Plane::default);
        halve_frame(frame, &mut self.levels[1]);
        for scale in 2..=coarsest {
            let (fine, coarse) = self.levels.split_at_mut(scale);
            halve(&fine[scale - 1], &mut coarse[0]);
        }
    }
}

/// Size of a level from the size of the one below.
fn halved(size: Size) -> Size {
    size.map(|side| side.div_ceil(2).max(PATCH))
}

/// The frame in grey, reduced by two.
fn halve_frame(frame: FrameView<'_>, out: &mut Plane) {
    let Size { height, width } = frame.size();
    let rgb = |y: usize| frame.row(y.min(height - 1));
    let grey = |p: &[u8]| p.iter().zip(GREY).map(|(&c, weight)| u32::from(c) * weight).sum::<u32>();
    const SCALE: f32 = 1.0 / (4.0 * 65536.0);
    out.fill(halved(frame.size()), |y, row| {
        let (top, bottom) = (rgb(2 * y), rgb(2 * y + 1));
        let pairs = top.chunks_exact(6).zip(bottom.chunks_exact(6));
        for (o, (a, b)) in row.iter_mut().zip(pairs) {
            *o = (grey(&a[..3]) + grey(&a[3..]) + grey(&b[..3]) + grey(&b[3..])) as f32 * SCALE;
        }
        let whole = width / 2;
        if whole < row.len() {
            // Half a pair at the right of an odd width, and what a frame smaller than a patch lacks.
            let last = (width - 1) * 3;
            let edge = 2 * (grey(&top[last..]) + grey(&bottom[last..]));
            row[whole..].fill(edge as f32 * SCALE);
        }
    });
}

/// `fine` reduced by two.
fn halve(fine: &Plane, out: &mut Plane) {
    let stride = fine.stride();
    out.fill(halved(fine.size), |y, row| {
        let top = &fine.padded()[(2 * y + BORDER) * stride + BORDER..];
        let bottom = &top[stride..];
        let pairs = top.chunks_exact(2).zip(bottom.chunks_exact(2));
        for (o, (a, b)) in row.iter_mut().zip(pairs) {
            *o = 0.25 * (a[0] + a[1] + b[0] + b[1]);
        }
    });
}

/// Horizontal and vertical derivative of a level per pixel, by Sobel's filter.
#[derive(Debug, Default)]
pub(super) struct Gradient {
    pub(super) x: Plane,
    pub(super) y: Plane,
}

impl Gradient {
    /// The derivatives of `image`.
    pub(super) fn compute(&mut self, image: &Plane) {
        let stride = image.stride();
        let around = |y: usize| {
            let rows = &image.padded()[(y + BORDER - 1) * stride + BORDER - 1..];
            let width = image.size.width + 2;
            (&rows[..width], &rows[stride..][..width], &rows[2 * stride..][..width])
        };
        self.x.fill(image.size, |y, row| {
            let (a, b, c) = around(y);
            let column = |x: usize| a[x] + 2.0 * b[x] + c[x];
            for (x, o) in row.iter_mut().enumerate() {
                *o = 0.125 * (column(x + 2) - column(x));
            }
        });
        self.y.fill(image.size, |y, row| {
            let (a, _, c) = around(y);
            for (x, o) in row.iter_mut().enumerate() {
                let smooth = |r: &[f32]| r[x] + 2.0 * r[x + 1] + r[x + 2];
                *o = 0.125 * (smooth(c) - smooth(a));
            }
        });
    }
}

/// Dense flow of one level in pixels of that level, `[height, width]`.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) size: Size,
    pub(super) u: Vec<f32>,
    pub(super) v: Vec<f32>,
}

impl Flow {
    /// Sets the size; the values are whatever they were.
    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        self.u.resize(size.pixels(), 0.0);
        self.v.resize(size.pixels(), 0.0);
    }

    /// No motion anywhere.
    pub(super) fn reset(&mut self, size: Size) {
        self.resize(size);
        self.u.fill(0.0);
        self.v.fill(0.0);
    }

    /// The flow of the next finer level, of `size`, by bilinear interpolation: twice as long on twice the pixels.
    pub(super) fn upsample(&self, out: &mut Flow, size: Size) {
        out.resize(size);
        let Size { height, width } = self.size;
        for (from, to) in [(&self.u, &mut out.u), (&self.v, &mut out.v)] {
            to.par_chunks_mut(size.width).with_min_len(BAND).enumerate().for_each_init(
                || vec![0.0; width + 2],
                |blend, (y, row)| {
                    // Pixel y lies a quarter before or after the centre of the coarse pixel y / 2.
                    let near = (y / 2).min(height - 1);
                    let far = if y % 2 == 0 { near.saturating_sub(1) } else { (near + 1).min(height - 1) };
                    let (near, far) = (&from[near * width..], &from[far * width..]);
                    for (b, (n, f)) in blend[1..=width].iter_mut().zip(near.iter().zip(far)) {
                        *b = 1.5 * n + 0.5 * f;
                    }
                    blend[0] = blend[1];
                    blend[width + 1] = blend[width];
                    let columns = row.len() / 2 * 2;
                    let (pairs, rest) = row.split_at_mut(columns);
                    for (pair, b) in pairs.chunks_exact_mut(2).zip(blend.windows(3)) {
                        pair[0] = 0.75 * b[1] + 0.25 * b[0];
                        pair[1] = 0.75 * b[1] + 0.25 * b[2];
                    }
                    if let Some(last) = rest.first_mut() {
                        *last = 0.75 * blend[columns / 2 + 1] + 0.25 * blend[columns / 2];
                    }
                },
            );
        }
    }
}
