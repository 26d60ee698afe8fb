//! Inverse search (the paper's section 2.1): the motion of each patch of a grid, by Gauss-Newton steps on the sum of squared
//! differences, whose Hessian belongs to the first frame and so is computed once.

use ferroflow_core::Size;
use ferroflow_kernels::simd::{self, Kernel, Simd};
use rayon::prelude::*;

use super::pyramid::{BORDER, Flow, Gradient, Plane};
use super::{PATCH, isa};

/// Pixels of a patch.
pub(super) const PIXELS: usize = PATCH * PATCH;
/// Gauss-Newton steps of a patch and pass at most.
const STEPS: usize = 5;
/// A step shorter than this, in pixels of the level, is the last.
const SHORT_STEP: f32 = 0.05;
/// Added to the Hessian's diagonal, as if the texture had this variance more per pixel: patches without texture stay put.
const DAMPING: f32 = 10.0;
/// Stripes of grid rows that are searched at the same time, and the rows one has at least: vectors travel within a stripe.
/// Both belong to the method, not to the machine, which keeps the flow the same for every number of threads.
const STRIPES: usize = 8;
const STRIPE_ROWS: usize = 8;

/// The overlapping patches of one level: every `stride` pixels, the last of a row or column moved inwards so that it ends
/// where the image ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) columns: usize,
    pub(super) rows: usize,
    stride: usize,
    right: usize,
    bottom: usize,
}

impl Grid {
    /// The grid of a level, which is at least one patch wide and high.
    pub(super) fn new(size: Size, stride: usize) -> Self {
        let (right, bottom) = (size.width - PATCH, size.height - PATCH);
        Self { columns: 1 + right.div_ceil(stride), rows: 1 + bottom.div_ceil(stride), stride, right, bottom }
    }

    /// Left column of the patches of grid column `column`.
    pub(super) fn x(&self, column: usize) -> usize {
        (column * self.stride).min(self.right)
    }

    /// Top row of the patches of grid row `row`.
    pub(super) fn y(&self, row: usize) -> usize {
        (row * self.stride).min(self.bottom)
    }
}

/// Motion of one patch in pixels of the level, and how badly it fits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Match {
    pub(super) u: f32,
    pub(super) v: f32,
    cost: f32,
}

/// The patch at `(x, y)` of `image`.
#[inline(always)]
pub(super) fn patch_at(image: &Plane, x: usize, y: usize) -> [f32; PIXELS] {
    let mut patch = [0.0; PIXELS];
    let rows = image.padded()[(y + BORDER) * image.stride()..].chunks(image.stride());
    for (out, row) in patch.chunks_exact_mut(PATCH).zip(rows) {
        out.copy_from_slice(&row[x + BORDER..][..PATCH]);
    }
    patch
}

/// The patch at `(x, y)` moved by `(u, v)`, bilinear, held to positions where it still touches the image.
///
/// Written in two flat passes over arrays: that is the form which compiles to full vectors.
#[inline(always)]
pub(super) fn moved_patch(image: &Plane, x: usize, y: usize, u: f32, v: f32) -> [f32; PIXELS] {
    // Counted from the corner of the padded plane, so never negative.
    let place = |at: usize, motion: f32, size: usize| {
        let moved = (at as f32 + motion).max(1.0 - PATCH as f32).min(size as f32 - 1.0) + BORDER as f32;
        let whole = moved as usize;
        (whole, moved - whole as f32)
    };
    let (column, fx) = place(x, u, image.size.width);
    let (row, fy) = place(y, v, image.size.height);
    let (stride, start) = (image.stride(), row * image.stride() + column);
    let mut across = [0.0; PIXELS + PATCH];
    for (row, out) in across.chunks_exact_mut(PATCH).enumerate() {
        let pixels = &image.padded()[start + row * stride..][..PATCH + 1];
        for i in 0..PATCH {
            out[i] = pixels[i] + fx * (pixels[i + 1] - pixels[i]);
        }
    }
    let mut patch = [0.0; PIXELS];
    for i in 0..PIXELS {
        patch[i] = across[i] + fy * (across[i + PATCH] - across[i]);
    }
    patch
}

/// Floats that sums are kept in, apart from each other, so that their order is the same on every machine.
const LANES: usize = 16;

/// Sum of the lanes, by halves.
#[inline(always)]
fn sum(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// Sum of the products of two patches.
#[inline(always)]
fn dot(a: &[f32; PIXELS], b: &[f32; PIXELS]) -> f32 {
    let mut lanes = [0.0; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    sum(lanes)
}

/// A patch of the first frame with what the search needs of it.
struct Template {
    grey: [f32; PIXELS],
    /// Derivatives less their mean, since the cost ignores a change of brightness.
    dx: [f32; PIXELS],
    dy: [f32; PIXELS],
    /// Inverse of the damped Hessian: xx, xy, yy.
    inverse: [f32; 3],
}

impl Template {
    #[inline(always)]
    fn new(level: Level, x: usize, y: usize) -> Self {
        let centred = |plane: &Plane| {
            let mut patch = patch_at(plane, x, y);
            let mean = dot(&patch, &[1.0 / PIXELS as f32; PIXELS]);
            for value in &mut patch {
                *value -= mean;
            }
            patch
        };
        let (dx, dy) = (centred(&level.gradient.x), centred(&level.gradient.y));
        let damping = DAMPING * PIXELS as f32;
        let (xx, xy, yy) = (dot(&dx, &dx) + damping, dot(&dx, &dy), dot(&dy, &dy) + damping);
        let scale = 1.0 / (xx * yy - xy * xy);
        Self { grey: patch_at(level.first, x, y), dx, dy, inverse: [yy * scale, -xy * scale, xx * scale] }
    }

    /// How far `patch` is from this one but for brightness, and the Gauss-Newton step `(du, dv)` that brings it closer.
    #[inline(always)]
    fn compare(&self, patch: &[f32; PIXELS]) -> (f32, f32, f32) {
        let mut total = [0.0; LANES];
        let mut squares = [0.0; LANES];
        let mut along_x = [0.0; LANES];
        let mut along_y = [0.0; LANES];
        let gradient = self.dx.chunks_exact(LANES).zip(self.dy.chunks_exact(LANES));
        let pairs = patch.chunks_exact(LANES).zip(self.grey.chunks_exact(LANES));
        for ((there, here), (dx, dy)) in pairs.zip(gradient) {
            for i in 0..LANES {
                let difference = there[i] - here[i];
                total[i] += difference;
                squares[i] += difference * difference;
                along_x[i] += difference * dx[i];
                along_y[i] += difference * dy[i];
            }
        }
        let (total, bx, by) = (sum(total), sum(along_x), sum(along_y));
        let [xx, xy, yy] = self.inverse;
        (sum(squares) - total * total / PIXELS as f32, -(xx * bx + xy * by), -(xy * bx + yy * by))
    }
}

/// The two frames of one level.
#[derive(Clone, Copy)]
pub(super) struct Level<'a> {
    pub(super) first: &'a Plane,
    pub(super) gradient: &'a Gradient,
    pub(super) second: &'a Plane,
}

/// Finds the motion of every patch of `grid`, starting from `guess`, into `matches` `[grid.rows, grid.columns]`.
pub(super) fn search(level: Level, grid: Grid, guess: &Flow, matches: &mut Vec<Match>) {
    matches.resize(grid.rows * grid.columns, Match::default());
    let rows = grid.rows.div_ceil(STRIPES).max(STRIPE_ROWS);
    matches.par_chunks_mut(rows * grid.columns).enumerate().for_each(|(stripe, matches)| {
        simd::run(isa(), Stripe { level, grid, guess, top: stripe * rows, matches });
    });
}

/// Neighbouring grid rows, searched from the first patch to the last and back, each patch trying its neighbours' motion.
struct Stripe<'a> {
    level: Level<'a>,
    grid: Grid,
    guess: &'a Flow,
    top: usize,
    matches: &'a mut [Match],
}

impl Kernel for Stripe<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { level, grid, guess, top, matches } = self;
        let (count, columns) = (matches.len(), grid.columns);
        for forward in [true, false] {
            for step in 0..count {
                let at = if forward { step } else { count - 1 - step };
                let (x, y) = (grid.x(at % columns), grid.y(top + at / columns));
                let template = Template::new(level, x, y);
                let evaluate = |u: f32, v: f32| {
                    let (cost, du, dv) = template.compare(&moved_patch(level.second, x, y, u, v));
                    (Match { u, v, cost }, (du, dv))
                };

                // On the way back a patch stays as it is unless a neighbour knows better.
                let (mut start, mut step, mut better) = (matches[at], (0.0, 0.0), forward);
                if forward {
                    let centre = (y + PATCH / 2) * guess.size.width + x + PATCH / 2;
                    (start, step) = evaluate(guess.u[centre], guess.v[centre]);
                }
                let (beside, across) = if forward {
                    ((at % columns > 0).then(|| at - 1), at.checked_sub(columns))
                } else {
                    ((at % columns + 1 < columns).then_some(at + 1), (at + columns < count).then_some(at + columns))
                };
                for neighbour in [beside, across].into_iter().flatten() {
                    let (candidate, its_step) = evaluate(matches[neighbour].u, matches[neighbour].v);
                    if candidate.cost < start.cost {
                        (start, step, better) = (candidate, its_step, true);
                    }
                }
                if better {
                    start = descend(start, step, evaluate);
                }
                matches[at] = start;
            }
        }
    }
}

/// Follows Gauss-Newton steps while they improve the match. One that ends more than a patch away has lost its way.
#[inline(always)]
fn descend(start: Match, step: (f32, f32), evaluate: impl Fn(f32, f32) -> (Match, (f32, f32))) -> Match {
    let (mut best, mut step) = (start, step);
    for _ in 0..STEPS {
        let (found, next) = evaluate(best.u + step.0, best.v + step.1);
        if found.cost >= best.cost {
            break;
        }
        best = found;
        if step.0 * step.0 + step.1 * step.1 < SHORT_STEP * SHORT_STEP {
            break;
        }
        step = next;
    }
    let (far_u, far_v) = (best.u - start.u, best.v - start.v);
    if far_u * far_u + far_v * far_v <= PIXELS as f32 { best } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_cover_every_pixel() {
        for stride in 1..=PATCH {
            for size in PATCH..60 {
                let grid = Grid::new(Size { height: size + 3, width: size }, stride);
                let mut covered = vec![false; size];
                for column in 0..grid.columns {
                    covered[grid.x(column)..grid.x(column) + PATCH].fill(true);
                }
                assert!(covered.iter().all(|&c| c), "size {size}, stride {stride}");
                assert_eq!(grid.y(grid.rows - 1) + PATCH, size + 3);
            }
        }
    }
}
