//! The linear system of one fixed-point iteration, row by row: two equations for each pixel,
//!
//! ```text
//! a11 u + a12 v = b1 + sum of link * u over the four neighbours
//! a12 u + a22 v = b2 + sum of link * v over the four neighbours
//! ```
//!
//! from the Euler-Lagrange equations of the energy in `variational`. Every row here is parted into its even and odd columns.

use super::linearise::DERIVATIVES;
use super::parted::Parted;

/// Weight of the smoothness term.
const ALPHA: f32 = 20.0;
/// Weight of brightness constancy.
const DELTA: f32 = 5.0;
/// Weight of gradient constancy.
const GAMMA: f32 = 10.0;
/// Where the norm turns from a parabola into a cone.
const EPSILON: f32 = 0.01;
/// Keeps the division by a derivative's length, and the system's diagonal, away from zero.
const ZETA: f32 = 0.1;
/// Over-relaxation.
const OMEGA: f32 = 1.6;

/// Rows of coefficients of one row of pixels: the links to the pixels on the right, below and above, OMEGA / a11, OMEGA / a22,
/// a12, b1, b2.
pub(super) const COEFFICIENTS: usize = 8;
/// Which of them is the link to the pixel below.
pub(super) const DOWN: usize = 1;
/// Which of them is the link to the pixel above.
pub(super) const UP: usize = 2;

/// u and v of some pixels of a row.
#[derive(Clone, Copy)]
pub(super) struct Motion<'a> {
    u: &'a [f32],
    v: &'a [f32],
}

impl<'a> Motion<'a> {
    /// A row `[2, parted]`.
    #[inline(always)]
    pub(super) fn new(parted: Parted, row: &'a [f32]) -> Self {
        let [u, v] = parted.split(row);
        Self { u, v }
    }

    #[inline(always)]
    fn part(self, from: usize, count: usize) -> Self {
        Self { u: &self.u[from..][..count], v: &self.v[from..][..count] }
    }
}

/// Where one colour of a row lies, and the neighbours of its pixels: first float of itself, of what is on its left and on its
/// right, and how many.
#[derive(Clone, Copy)]
struct Colour {
    own: usize,
    left: usize,
    right: usize,
    count: usize,
}

impl Colour {
    #[inline(always)]
    fn new(parted: Parted, even: bool) -> Self {
        let half = parted.half();
        if even {
            Self { own: 0, left: half, right: half + 1, count: parted.evens() }
        } else {
            Self { own: half + 1, left: 0, right: 1, count: parted.odds() }
        }
    }
}

/// Writes the coefficients of one row into `out` `[COEFFICIENTS, parted]`, whose links up are already there. `start` is the flow
/// that the images were linearised around, `here` and `below` the flow of the last iteration in this row and the next.
#[inline(always)]
pub(super) fn assemble(
    parted: Parted,
    derivatives: &[f32],
    start: Motion,
    here: Motion,
    below: Option<Motion>,
    out: &mut [f32],
) {
    let [right, down, up, a11, a22, a12, b1, b2] = parted.split_mut::<COEFFICIENTS>(out);
    data_term(parted, derivatives, start, here, a11, a22, a12, b1, b2);

    right.fill(0.0);
    for even in [true, false] {
        let Colour { own, right: beside, count, .. } = Colour::new(parted, even);
        let below = below.unwrap_or(here).part(own, count);
        smoothness(&mut right[own..][..count], here.part(own, count), here.part(beside, count), below);
    }
    if below.is_some() {
        down.copy_from_slice(right);
    } else {
        down.fill(0.0);
    }
    // The last column has nothing on its right.
    let last = Colour::new(parted, parted.width % 2 == 1);
    right[last.own + last.count - 1] = 0.0;

    for even in [true, false] {
        let Colour { own, left, count, .. } = Colour::new(parted, even);
        let (right, left) = (&right[own..][..count], &right[left..][..count]);
        let (up, down) = (&up[own..][..count], &down[own..][..count]);
        let (a11, a22) = (&mut a11[own..][..count], &mut a22[own..][..count]);
        for i in 0..count {
            let links = (left[i] + right[i]) + (up[i] + down[i]);
            a11[i] = OMEGA / (a11[i] + links);
            a22[i] = OMEGA / (a22[i] + links);
        }
    }
}

/// Links of the pixels `here` to their right and below.
#[inline(always)]
fn smoothness(out: &mut [f32], here: Motion, right: Motion, below: Motion) {
    let count = out.len();
    let (here, right, below) = (here.part(0, count), right.part(0, count), below.part(0, count));
    for (i, link) in out.iter_mut().enumerate() {
        let (ux, uy) = (right.u[i] - here.u[i], below.u[i] - here.u[i]);
        let (vx, vy) = (right.v[i] - here.v[i], below.v[i] - here.v[i]);
        *link = 0.5 * ALPHA / (ux * ux + uy * uy + vx * vx + vy * vy + EPSILON * EPSILON).sqrt();
    }
}

/// What brightness and gradient constancy ask of each pixel alone.
#[inline(always)]
fn data_term(
    parted: Parted,
    derivatives: &[f32],
    start: Motion,
    here: Motion,
    a11: &mut [f32],
    a22: &mut [f32],
    a12: &mut [f32],
    b1: &mut [f32],
    b2: &mut [f32],
) {
    let count = parted.len();
    let [x, xx, xy, y, yy, z, xz, yz] = parted.split::<DERIVATIVES>(derivatives);
    let (start, here) = (start.part(0, count), here.part(0, count));
    let (a11, a22, a12) = (&mut a11[..count], &mut a22[..count], &mut a12[..count]);
    let (b1, b2) = (&mut b1[..count], &mut b2[..count]);
    const FLOOR: f32 = ZETA * ZETA;
    for i in 0..count {
        let (du, dv) = (here.u[i] - start.u[i], here.v[i] - start.v[i]);
        let (x, y, z) = (x[i], y[i], z[i]);
        let length = 1.0 / (x * x + y * y + FLOOR);
        let residual = z + x * du + y * dv;
        let w = 0.5 * DELTA * length / (residual * residual * length + EPSILON * EPSILON).sqrt();
        let (mut d11, mut d12, mut d22) = (w * x * x + FLOOR, w * x * y, w * y * y + FLOOR);
        let (mut e1, mut e2) = (-w * x * z, -w * y * z);

        let (xx, xy, yy, xz, yz) = (xx[i], xy[i], yy[i], xz[i], yz[i]);
        let (length_x, length_y) = (1.0 / (xx * xx + xy * xy + FLOOR), 1.0 / (yy * yy + xy * xy + FLOOR));
        let (residual_x, residual_y) = (xz + xx * du + xy * dv, yz + xy * du + yy * dv);
        let squares = residual_x * residual_x * length_x + residual_y * residual_y * length_y;
        let w = 0.5 * GAMMA / (squares + EPSILON * EPSILON).sqrt();
        let (wx, wy) = (w * length_x, w * length_y);
        d11 += wx * xx * xx + wy * xy * xy;
        d12 += wx * xx * xy + wy * xy * yy;
        d22 += wx * xy * xy + wy * yy * yy;
        e1 -= wx * xx * xz + wy * xy * yz;
        e2 -= wx * xy * xz + wy * yy * yz;

        // The equations are for the increment to `start`; its share goes to the right-hand side.
        (a11[i], a12[i], a22[i]) = (d11, d12, d22);
        b1[i] = e1 + d11 * start.u[i] + d12 * start.v[i];
        b2[i] = e2 + d12 * start.u[i] + d22 * start.v[i];
    }
}

/// One over-relaxed sweep over one colour of row `here` `[2, parted]`.
#[inline(always)]
pub(super) fn relax(parted: Parted, even: bool, coefficients: &[f32], above: Motion, here: &mut [f32], below: Motion) {
    let Colour { own, left, count, .. } = Colour::new(parted, even);
    let [links, down, up, c11, c22, a12, b1, b2] = parted.split::<COEFFICIENTS>(coefficients);
    let half = parted.half();
    let [u, v] = parted.split_mut(here);
    let (u_even, u_odd) = u.split_at_mut(half);
    let (v_even, v_odd) = v.split_at_mut(half);
    let (u, v, other) = if even {
        (u_even, v_even, Motion { u: u_odd, v: v_odd })
    } else {
        (&mut u_odd[1..], &mut v_odd[1..], Motion { u: u_even, v: v_even })
    };
    let neighbours = Neighbours {
        left: other.part(0, count),
        right: other.part(1, count),
        above: above.part(own, count),
        below: below.part(own, count),
        to_left: &links[left..][..count],
        to_right: &links[own..][..count],
        up: &up[own..][..count],
        down: &down[own..][..count],
    };
    let [c11, c22, a12, b1, b2] = [c11, c22, a12, b1, b2].map(|row| &row[own..][..count]);
    solve(&mut u[..count], &mut v[..count], neighbours, c11, c22, a12, b1, b2);
}

/// The pixels around those of one colour, and the links to them.
#[derive(Clone, Copy)]
struct Neighbours<'a> {
    left: Motion<'a>,
    right: Motion<'a>,
    above: Motion<'a>,
    below: Motion<'a>,
    to_left: &'a [f32],
    to_right: &'a [f32],
    up: &'a [f32],
    down: &'a [f32],
}

/// The inner loop: u and v are arguments of their own so that the compiler knows them apart from all that is read.
#[inline(always)]
fn solve(
    u: &mut [f32],
    v: &mut [f32],
    near: Neighbours,
    c11: &[f32],
    c22: &[f32],
    a12: &[f32],
    b1: &[f32],
    b2: &[f32],
) {
    let n = u.len();
    let v = &mut v[..n];
    let (left, right) = (near.left.part(0, n), near.right.part(0, n));
    let (above, below) = (near.above.part(0, n), near.below.part(0, n));
    let (to_left, to_right) = (&near.to_left[..n], &near.to_right[..n]);
    let (up, down) = (&near.up[..n], &near.down[..n]);
    let (c11, c22, a12, b1, b2) = (&c11[..n], &c22[..n], &a12[..n], &b1[..n], &b2[..n]);
    for i in 0..n {
        let su = (to_left[i] * left.u[i] + to_right[i] * right.u[i]) + (up[i] * above.u[i] + down[i] * below.u[i]);
        let sv = (to_left[i] * left.v[i] + to_right[i] * right.v[i]) + (up[i] * above.v[i] + down[i] * below.v[i]);
        u[i] = (1.0 - OMEGA) * u[i] + c11[i] * (su + b1[i] - a12[i] * v[i]);
        v[i] = (1.0 - OMEGA) * v[i] + c22[i] * (sv + b2[i] - a12[i] * u[i]);
    }
}
