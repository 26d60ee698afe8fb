//! From patches to pixels (the paper's section 2.2): each pixel takes the mean motion of the patches that cover it, weighted
//! by how well each one explains that pixel.

use ferroflow_kernels::simd::{self, Kernel, Simd};
use rayon::prelude::*;

use super::patches::{Grid, Match, PIXELS, moved_patch, patch_at};
use super::pyramid::{Flow, Plane};
use super::{PATCH, isa};

/// Rows of pixels a thread takes at a time; each band also visits the patches that reach into it.
const BAND: usize = 48;

/// Spreads the matches of `grid` over all pixels of `flow`.
pub(super) fn densify(first: &Plane, second: &Plane, grid: Grid, matches: &[Match], flow: &mut Flow) {
    let width = first.size.width;
    flow.resize(first.size);
    let bands = flow.u.par_chunks_mut(BAND * width).zip(flow.v.par_chunks_mut(BAND * width));
    bands.enumerate().for_each_init(Vec::new, |weight, (band, (u, v))| {
        weight.clear();
        weight.resize(u.len(), 0.0);
        u.fill(0.0);
        v.fill(0.0);
        simd::run(isa(), Band { first, second, grid, matches, top: band * BAND, u, v, weight });
    });
}

/// Rows `top..` of the dense flow.
struct Band<'a> {
    first: &'a Plane,
    second: &'a Plane,
    grid: Grid,
    matches: &'a [Match],
    top: usize,
    u: &'a mut [f32],
    v: &'a mut [f32],
    weight: &'a mut [f32],
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { first, second, grid, matches, top, u, v, weight } = self;
        let width = first.size.width;
        let bottom = top + u.len() / width;
        for (row, matches) in matches.chunks_exact(grid.columns).enumerate() {
            let patch_y = grid.y(row);
            let ys = patch_y.max(top)..(patch_y + PATCH).min(bottom);
            if ys.is_empty() {
                continue;
            }
            for (column, found) in matches.iter().enumerate() {
                let x = grid.x(column);
                let (here, there) = (patch_at(first, x, patch_y), moved_patch(second, x, patch_y, found.u, found.v));
                let mut weights = [0.0; PIXELS];
                for i in 0..PIXELS {
                    weights[i] = 1.0 / (there[i] - here[i]).abs().max(1.0);
                }
                for y in ys.clone() {
                    let at = (y - top) * width + x;
                    let weights = &weights[(y - patch_y) * PATCH..][..PATCH];
                    let (u, v, weight) = (&mut u[at..][..PATCH], &mut v[at..][..PATCH], &mut weight[at..][..PATCH]);
                    for i in 0..PATCH {
                        u[i] += weights[i] * found.u;
                        v[i] += weights[i] * found.v;
                        weight[i] += weights[i];
                    }
                }
            }
        }
        for ((u, v), w) in u.iter_mut().zip(v).zip(weight) {
            *u /= *w;
            *v /= *w;
        }
    }
}
