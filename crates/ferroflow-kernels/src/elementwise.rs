//! Operations on each element: affine, activation, sum and difference, choice of channels.

use crate::{
    Blocks, BlocksMut, Isa, LANES,
    conv::Activation,
    rows::for_pixels,
    simd::{self, Kernel, Simd},
};

/// `activation(scale * x + offset)`, with one factor and summand per lane (`16 * blocks` of each; 0 in padding lanes).
pub fn affine(
    isa: Isa,
    x: Blocks<'_>,
    scale: &[f32],
    offset: &[f32],
    activation: Activation,
    out: &mut BlocksMut<'_, '_>,
) {
    assert_eq!(x.extent, out.extent, "extent");
    assert_eq!(x.planes.len(), out.planes.len(), "blocks");
    assert!(scale.len() >= LANES * x.planes.len() && offset.len() >= LANES * x.planes.len(), "factors");
    let image = x.extent.h * x.extent.w * LANES;
    for_pixels(out, |block, n, first, out| {
        let x = &x.planes[block][n * image + first * LANES..][..out.len()];
        let lanes = block * LANES..(block + 1) * LANES;
        simd::run(
            isa,
            Affine { x, scale: &scale[lanes.clone()], offset: &offset[lanes], slope: activation.slope(), out },
        );
    });
}

struct Affine<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    offset: &'a [f32],
    slope: f32,
    out: &'a mut [f32],
}

impl Kernel for Affine<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: called through `simd::run`; every chunk and both factors have 16 floats.
        unsafe {
            let (scale, offset, slope) =
                (S::load(self.scale.as_ptr()), S::load(self.offset.as_ptr()), S::splat(self.slope));
            for (x, out) in self.x.chunks_exact(LANES).zip(self.out.chunks_exact_mut(LANES)) {
                let y = S::fma(S::load(x.as_ptr()), scale, offset);
                S::store(out.as_mut_ptr(), S::max(y, S::mul(y, slope)));
            }
        }
    }
}

/// `activation(a + factor * b)`; `b` may also have one pixel per image, which then serves all.
pub fn combine(
    isa: Isa,
    a: Blocks<'_>,
    factor: f32,
    b: Blocks<'_>,
    activation: Activation,
    out: &mut BlocksMut<'_, '_>,
) {
    assert_eq!(a.extent, out.extent, "extent");
    assert_eq!((a.planes.len(), b.planes.len()), (out.planes.len(), out.planes.len()), "blocks");
    let single = a.extent != b.extent;
    assert!(!single || (b.extent.n, b.extent.h, b.extent.w) == (a.extent.n, 1, 1), "extent");
    let image = a.extent.h * a.extent.w * LANES;
    for_pixels(out, |block, n, first, out| {
        let a = &a.planes[block][n * image + first * LANES..][..out.len()];
        let b = if single {
            &b.planes[block][n * LANES..][..LANES]
        } else {
            &b.planes[block][n * image + first * LANES..][..out.len()]
        };
        simd::run(isa, Combine { a, factor, b, slope: activation.slope(), out });
    });
}

struct Combine<'a> {
    a: &'a [f32],
    factor: f32,
    b: &'a [f32],
    slope: f32,
    out: &'a mut [f32],
}

impl Kernel for Combine<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let step = if self.b.len() == self.out.len() { LANES } else { 0 };
        // SAFETY: called through `simd::run`; every chunk has 16 floats, and `b` either as many chunks or one.
        unsafe {
            let (factor, slope) = (S::splat(self.factor), S::splat(self.slope));
            for (i, (a, out)) in self.a.chunks_exact(LANES).zip(self.out.chunks_exact_mut(LANES)).enumerate() {
                let y = S::fma(S::load(self.b.as_ptr().add(i * step)), factor, S::load(a.as_ptr()));
                S::store(out.as_mut_ptr(), S::max(y, S::mul(y, slope)));
            }
        }
    }
}

/// Lane `l` of the output is lane `lanes[l]` of the input (`16 * block + lane`), or 0.
pub fn channels(x: Blocks<'_>, lanes: &[Option<u32>], out: &mut BlocksMut<'_, '_>) {
    assert_eq!((x.extent.n, x.extent.h, x.extent.w), (out.extent.n, out.extent.h, out.extent.w), "extent");
    assert_eq!(lanes.len(), LANES * out.planes.len(), "lanes");
    let image = x.extent.h * x.extent.w * LANES;
    for_pixels(out, |block, n, first, out| {
        out.fill(0.0);
        let start = n * image + first * LANES;
        for (to, from) in lanes[block * LANES..][..LANES].iter().enumerate() {
            let &Some(from) = from else { continue };
            let (plane, lane) = (x.planes[from as usize / LANES], from as usize % LANES);
            let plane = &plane[start..][..out.len()];
            for (out, x) in out.chunks_exact_mut(LANES).zip(plane.chunks_exact(LANES)) {
                out[to] = x[lane];
            }
        }
    });
}

/// Copies `x` to the images of `out` from `first` on.
pub fn copy_images(x: Blocks<'_>, first: usize, out: &mut BlocksMut<'_, '_>) {
    assert_eq!((x.extent.h, x.extent.w, x.planes.len()), (out.extent.h, out.extent.w, out.planes.len()), "extent");
    let (start, len) = (first * x.extent.h * x.extent.w * LANES, x.extent.len());
    for (from, to) in x.planes.iter().zip(out.planes.iter_mut()) {
        to[start..][..len].copy_from_slice(&from[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Extent,
        testing::{Random, Value},
    };

    #[test]
    fn elementwise_operations_follow_their_formulas() {
        let mut random = Random::new(1);
        for (channels_in, extent) in [(3, Extent { n: 2, h: 5, w: 7 }), (35, Extent { n: 1, h: 33, w: 41 })] {
            let (a, b) = (random.value(channels_in, extent), random.value(channels_in, extent));
            let one = random.value(channels_in, Extent { n: extent.n, h: 1, w: 1 });
            let lanes = channels_in.next_multiple_of(LANES);
            let mut factors = [random.floats(lanes), random.floats(lanes)];
            for f in &mut factors {
                f[channels_in..].fill(0.0);
            }
            for isa in Isa::available() {
                let leaky = Activation::LeakyRelu(0.1);
                let act = |x: f32| if x > 0.0 { x } else { 0.1 * x };
                let mut out = Value::zeroed(channels_in, extent);
                out.write(|out| affine(isa, a.blocks(), &factors[0], &factors[1], leaky, out));
                out.assert_close(1e-6, |c, n, y, x| act(a.at(c, n, y, x) * factors[0][c] + factors[1][c]));
                out.write(|out| combine(isa, a.blocks(), -1.0, b.blocks(), Activation::Linear, out));
                out.assert_close(1e-6, |c, n, y, x| a.at(c, n, y, x) - b.at(c, n, y, x));
                out.write(|out| combine(isa, a.blocks(), 2.0, one.blocks(), leaky, out));
                out.assert_close(1e-6, |c, n, y, x| act(a.at(c, n, y, x) + 2.0 * one.at(c, n, 0, 0)));
            }
            let mut reversed = Value::zeroed(channels_in, extent);
            let map: Vec<_> = (0..lanes).map(|l| (l < channels_in).then(|| (channels_in - 1 - l) as u32)).collect();
            reversed.write(|out| channels(a.blocks(), &map, out));
            reversed.assert_close(0.0, |c, n, y, x| a.at(channels_in - 1 - c, n, y, x));
        }
    }
}
