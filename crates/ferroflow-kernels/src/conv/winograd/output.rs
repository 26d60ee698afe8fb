//! The inverse transform: `A^T M A` of one output block, with bias, residual and activation, into the output.

use super::{points::Points, scheme::Place, transform};
use crate::{
    Extent, Isa, LANES,
    simd::{self, Kernel, Simd},
};

#[derive(Clone, Copy)]
pub struct OutputTransform<'a> {
    /// M at the first tile.
    pub m: *const f32,
    /// Floats from a tile of M to the next.
    pub tile_step: usize,
    pub places: &'a [Place],
    /// Added to the places.
    pub base: [isize; 2],
    /// Pixels between the outputs of a tile.
    pub step: usize,
    pub output: *mut f32,
    pub extent: Extent,
    pub residual: Option<*const f32>,
    /// Of this block.
    pub bias: *const f32,
    /// Of the negative side, ahead of the residual and behind it.
    pub slopes: [f32; 2],
}

/// The transform along rows and columns of the sets with `P` pairs, and infinity if `I` is 1, to `M` outputs.
struct Sized<'a, const PY: usize, const IY: usize, const MY: usize, const PX: usize, const IX: usize, const MX: usize>(
    OutputTransform<'a>,
);

/// 8 x 8 vectors.
#[repr(align(64))]
struct Window([f32; 64 * LANES]);

impl OutputTransform<'_> {
    /// Transforms on `isa`.
    ///
    /// # Safety
    /// `m` is valid for reads of `places.len()` tiles, `bias` of a vector, `output` and `residual` of all of `extent`, and
    /// no other thread touches the outputs of these tiles.
    pub unsafe fn run(self, isa: Isa, points: [Points; 2], m: [usize; 2]) {
        let [y, x] = [0, 1].map(|axis| (points[axis].pairs, usize::from(points[axis].infinity), m[axis]));
        macro_rules! pick {
            ($(($p:literal, $i:literal): $($m:literal)*),*) => {
                match (y, x) {
                    $($((($p, $i, $m), ($p, $i, $m)) => simd::run(isa, Sized::<$p, $i, $m, $p, $i, $m>(self)),)*)*
                    _ => self.run_line(isa, y, x),
                }
            };
        }
        // See `super::sizes`.
        pick!((1, 0): 2, (1, 1): 2 3, (2, 0): 4, (2, 1): 3 4 5, (3, 0): 6, (3, 1): 5 6)
    }

    /// The same of kernels of one row or one column; of 2 to 5 taps there are 5 to 2 outputs of 6 points, 7 to 4 of 8.
    fn run_line(self, isa: Isa, y: (usize, usize, usize), x: (usize, usize, usize)) {
        macro_rules! pick {
            ($($p:literal: $($m:literal)*),*) => {
                match (y, x) {
                    $($(((0, 0, 1), ($p, 1, $m)) => simd::run(isa, Sized::<0, 0, 1, $p, 1, $m>(self)),)*)*
                    $($((($p, 1, $m), (0, 0, 1)) => simd::run(isa, Sized::<$p, 1, $m, 0, 0, 1>(self)),)*)*
                    _ => unreachable!("F of {y:?} and {x:?}"),
                }
            };
        }
        pick!(2: 2 3 4 5, 3: 4 5 6 7)
    }
}

impl<const PY: usize, const IY: usize, const MY: usize, const PX: usize, const IX: usize, const MX: usize> Kernel
    for Sized<'_, PY, IY, MY, PX, IX, MX>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (rows, side) = (2 * PY + 1 + IY, 2 * PX + 1 + IX);
        let OutputTransform {
            m,
            tile_step,
            places,
            base,
            step,
            output,
            extent: Extent { h, w, .. },
            residual,
            bias,
            slopes,
        } = self.0;
        let mut half = Window([0.0; 64 * LANES]);
        for (t, place) in places.iter().enumerate() {
            let [y, x] = [place.output[0] + base[0], place.output[1] + base[1]];
            // SAFETY: M, bias, output and residual by `OutputTransform::run`'s contract; rows and columns are checked.
            unsafe {
                let bias = S::load(bias);
                let [before, slope] = slopes.map(|slope| S::splat(slope));
                let m = m.add(t * tile_step);
                for j in (0..side).take(if const { PY == 0 } { 0 } else { side }) {
                    let mut d = [S::zero(); 8];
                    for (i, d) in d.iter_mut().enumerate().take(rows) {
                        *d = S::load(m.add((i * side + j) * LANES));
                    }
                    let d = transform::output::<S, PY, IY, MY>(&d);
                    for (i, &d) in d.iter().enumerate().take(MY) {
                        S::store(half.0.as_mut_ptr().add((i * 8 + j) * LANES), d);
                    }
                }
                // Of a kernel of one row, the transform along rows does nothing.
                let (first, row_pitch) = if const { PY == 0 } { (m, 0) } else { (half.0.as_ptr(), 8 * LANES) };
                for i in 0..MY {
                    let row = y + (i * step) as isize;
                    if row < 0 || row as usize >= h {
                        continue;
                    }
                    let row = (place.image * h + row as usize) * w;
                    let mut d = [S::zero(); 8];
                    for (j, d) in d.iter_mut().enumerate().take(side) {
                        *d = S::load(first.add(i * row_pitch + j * LANES));
                    }
                    let d = transform::output::<S, PX, IX, MX>(&d);
                    for (j, &d) in d.iter().enumerate().take(MX) {
                        let column = x + (j * step) as isize;
                        if column >= 0 && (column as usize) < w {
                            let at = (row + column as usize) * LANES;
                            let mut v = S::add(d, bias);
                            if let Some(residual) = residual {
                                v = S::add(S::max(v, S::mul(v, before)), S::load(residual.add(at)));
                            }
                            S::store(output.add(at), S::max(v, S::mul(v, slope)));
                        }
                    }
                }
            }
        }
    }
}
