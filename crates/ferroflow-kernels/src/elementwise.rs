//! Operations on each element: affine, activation, sum and difference, choice of channels; and their gradients.

use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Update,
    activation::gradient_in_place,
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
        let (scale, offset, slope) = (S::read(self.scale), S::read(self.offset), S::splat(self.slope));
        for (x, out) in self.x.chunks_exact(LANES).zip(self.out.chunks_exact_mut(LANES)) {
            let y = S::fma(S::read(x), scale, offset);
            S::write(out, S::max(y, S::mul(y, slope)));
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
        // SAFETY: every chunk has 16 floats, and `b` either as many chunks or one.
        unsafe {
            let (factor, slope) = (S::splat(self.factor), S::splat(self.slope));
            for (i, (a, out)) in self.a.chunks_exact(LANES).zip(self.out.chunks_exact_mut(LANES)).enumerate() {
                let y = S::fma(S::load(self.b.as_ptr().add(i * step)), factor, S::read(a));
                S::write(out, S::max(y, S::mul(y, slope)));
            }
        }
    }
}

/// What [`Ternary`] computes of three values of one extent.
#[derive(Clone, Copy)]
enum Form {
    /// `a * b`
    Product,
    /// `a + c * (b - a)`
    Lerp,
    /// `a - a * b`
    Rest,
    /// `a * (c - b)`
    TimesDifference,
}

/// `a * b`
pub fn product(isa: Isa, a: Blocks<'_>, b: Blocks<'_>, out: &mut BlocksMut<'_, '_>) {
    ternary(isa, Form::Product, [a, b, b], Update::Overwrite, out);
}

/// The gradient of one factor of a product: `g` times the other factor.
pub fn product_gradient(isa: Isa, g: Blocks<'_>, other: Blocks<'_>, update: Update, d: &mut BlocksMut<'_, '_>) {
    ternary(isa, Form::Product, [g, other, other], update, d);
}

/// `a + t * (b - a)`
pub fn lerp(isa: Isa, [a, b, t]: [Blocks<'_>; 3], out: &mut BlocksMut<'_, '_>) {
    ternary(isa, Form::Lerp, [a, b, t], Update::Overwrite, out);
}

/// The gradient of one of `[a, b, t]`, by its number.
pub fn lerp_gradient(
    isa: Isa,
    [a, b, t]: [Blocks<'_>; 3],
    g: Blocks<'_>,
    which: usize,
    update: Update,
    d: &mut BlocksMut<'_, '_>,
) {
    match which {
        0 => ternary(isa, Form::Rest, [g, t, t], update, d),
        1 => ternary(isa, Form::Product, [g, t, t], update, d),
        _ => ternary(isa, Form::TimesDifference, [g, a, b], update, d),
    }
}

fn ternary(isa: Isa, form: Form, values: [Blocks<'_>; 3], update: Update, out: &mut BlocksMut<'_, '_>) {
    for value in &values {
        assert_eq!((value.extent, value.planes.len()), (out.extent, out.planes.len()), "extent");
    }
    let image = out.extent.h * out.extent.w * LANES;
    for_pixels(out, |block, n, first, out| {
        let values = values.map(|value| &value.planes[block][n * image + first * LANES..][..out.len()]);
        simd::run(isa, Ternary { form, values, update, out });
    });
}

struct Ternary<'a> {
    form: Form,
    values: [&'a [f32]; 3],
    update: Update,
    out: &'a mut [f32],
}

impl Kernel for Ternary<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        match self.form {
            Form::Product => self.each::<S>(|a, b, _| S::mul(a, b)),
            Form::Lerp => self.each::<S>(|a, b, t| S::fma(t, S::sub(b, a), a)),
            Form::Rest => self.each::<S>(|a, b, _| S::sub(a, S::mul(a, b))),
            Form::TimesDifference => self.each::<S>(|a, b, c| S::mul(a, S::sub(c, b))),
        }
    }
}

impl Ternary<'_> {
    #[inline(always)]
    fn each<S: Simd>(self, f: impl Fn(S::V, S::V, S::V) -> S::V) {
        let [a, b, c] = self.values.map(|value| value.chunks_exact(LANES));
        for (((a, b), c), out) in a.zip(b).zip(c).zip(self.out.chunks_exact_mut(LANES)) {
            let value = f(S::read(a), S::read(b), S::read(c));
            S::write(out, if self.update == Update::Add { S::add(S::read(out), value) } else { value });
        }
    }
}

/// Column and row of each pixel in lanes 0 and 1, less what is taken off each.
pub fn coordinates(less: [f32; 2], out: &mut BlocksMut<'_, '_>) {
    let width = out.extent.w;
    for_pixels(out, |_, _, first, out| {
        out.fill(0.0);
        for (i, pixel) in (first..).zip(out.chunks_exact_mut(LANES)) {
            pixel[0] = (i % width) as f32 - less[0];
            pixel[1] = (i / width) as f32 - less[1];
        }
    });
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

/// Gradient through an activation, in place, by its output `y`: `d *= slope` wherever that of a leaky ReLU is not positive.
///
/// # Panics
/// For GELU, whose slope its output does not tell.
pub fn activation_gradient(isa: Isa, y: Blocks<'_>, activation: Activation, d: &mut BlocksMut<'_, '_>) {
    match activation {
        Activation::Linear => return,
        Activation::Smooth(curve) => return gradient_in_place(isa, curve, y, d),
        Activation::LeakyRelu(_) => {}
        Activation::AroundSum { .. } => unreachable!("two activations have no gradient of their own"),
    }
    assert_eq!((y.extent, y.planes.len()), (d.extent, d.planes.len()), "extent");
    let image = y.extent.h * y.extent.w * LANES;
    for_pixels(d, |block, n, first, d| {
        let y = &y.planes[block][n * image + first * LANES..][..d.len()];
        simd::run(isa, ActivationGradient { y, slope: activation.slope(), d });
    });
}

struct ActivationGradient<'a> {
    y: &'a [f32],
    slope: f32,
    d: &'a mut [f32],
}

impl Kernel for ActivationGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let slope = S::splat(self.slope);
        for (d, y) in self.d.chunks_exact_mut(LANES).zip(self.y.chunks_exact(LANES)) {
            let g = S::read(d);
            S::write(d, S::where_positive(S::read(y), g, S::mul(g, slope)));
        }
    }
}

/// `factor * g`, the gradient of a sum, a difference, a copy. `g` may also have one pixel per image, which then serves
/// all.
pub fn accumulate(isa: Isa, g: Blocks<'_>, factor: f32, update: Update, d: &mut BlocksMut<'_, '_>) {
    scale(isa, g, |_, _| [factor; LANES], update, d);
}

/// `scale * g`, the gradient of [`affine`] (before its activation), with one factor per lane.
pub fn affine_gradient(isa: Isa, g: Blocks<'_>, scale: &[f32], update: Update, d: &mut BlocksMut<'_, '_>) {
    assert!(scale.len() >= LANES * g.planes.len(), "factors");
    self::scale(isa, g, |block, _| std::array::from_fn(|lane| scale[block * LANES + lane]), update, d);
}

/// `factors(block, image) * g`
pub(crate) fn scale(
    isa: Isa,
    g: Blocks<'_>,
    factors: impl Fn(usize, usize) -> [f32; LANES] + Sync + Send,
    update: Update,
    d: &mut BlocksMut<'_, '_>,
) {
    assert_eq!(g.planes.len(), d.planes.len(), "blocks");
    let single = g.extent != d.extent;
    assert!(!single || g.extent == Extent { n: d.extent.n, h: 1, w: 1 }, "extent");
    let image = d.extent.h * d.extent.w * LANES;
    for_pixels(d, |block, n, first, d| {
        let g = if single {
            &g.planes[block][n * LANES..][..LANES]
        } else {
            &g.planes[block][n * image + first * LANES..][..d.len()]
        };
        simd::run(isa, Scale { g, factors: factors(block, n), update, d });
    });
}

struct Scale<'a> {
    g: &'a [f32],
    factors: [f32; LANES],
    update: Update,
    d: &'a mut [f32],
}

impl Kernel for Scale<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let step = if self.g.len() == self.d.len() { LANES } else { 0 };
        // SAFETY: every chunk has 16 floats, and `g` either as many chunks or one.
        unsafe {
            let factors = S::read(&self.factors);
            for (i, d) in self.d.chunks_exact_mut(LANES).enumerate() {
                let g = S::mul(S::load(self.g.as_ptr().add(i * step)), factors);
                let sum = if self.update == Update::Add { S::add(S::read(d), g) } else { g };
                S::write(d, sum);
            }
        }
    }
}

/// Images `from .. from + images` of `g` to the images of `d` from `to` on: the gradient of joining and splitting
/// batches. Other images of `d` keep what they hold.
pub fn accumulate_images(
    isa: Isa,
    g: Blocks<'_>,
    from: usize,
    images: usize,
    to: usize,
    update: Update,
    d: &mut BlocksMut<'_, '_>,
) {
    assert_eq!((g.extent.h, g.extent.w, g.planes.len()), (d.extent.h, d.extent.w, d.planes.len()), "extent");
    let extent = Extent { n: images, ..g.extent };
    let (len, image) = (extent.len(), g.extent.h * g.extent.w * LANES);
    let g: Vec<&[f32]> = g.planes.iter().map(|plane| &plane[from * image..][..len]).collect();
    let mut planes: Vec<&mut [f32]> = d.planes.iter_mut().map(|plane| &mut plane[to * image..][..len]).collect();
    accumulate(isa, Blocks { extent, planes: &g }, 1.0, update, &mut BlocksMut { extent, planes: &mut planes });
}

/// The gradient of [`channels`]: each lane of `d` receives every lane of `g` that was read from it.
pub fn channels_gradient(g: Blocks<'_>, lanes: &[Option<u32>], update: Update, d: &mut BlocksMut<'_, '_>) {
    assert_eq!((g.extent.n, g.extent.h, g.extent.w), (d.extent.n, d.extent.h, d.extent.w), "extent");
    assert_eq!(lanes.len(), LANES * g.planes.len(), "lanes");
    let image = g.extent.h * g.extent.w * LANES;
    for_pixels(d, |block, n, first, d| {
        if update == Update::Overwrite {
            d.fill(0.0);
        }
        for (from, to) in lanes.iter().enumerate() {
            let Some(to) = to.map(|to| to as usize).filter(|to| to / LANES == block) else { continue };
            let g = &g.planes[from / LANES][n * image + first * LANES..][..d.len()];
            for (d, g) in d.chunks_exact_mut(LANES).zip(g.chunks_exact(LANES)) {
                d[to % LANES] += g[from % LANES];
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, Value, both_updates};

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

    #[test]
    fn gradients_follow_their_formulas() {
        let mut random = Random::new(2);
        for (count, extent) in
            [(3, Extent { n: 2, h: 1, w: 1 }), (3, Extent { n: 2, h: 5, w: 7 }), (35, Extent { n: 3, h: 33, w: 41 })]
        {
            let (y, g) = (random.value(count, extent), random.value(count, extent));
            let one = random.value(count, Extent { n: extent.n, h: 1, w: 1 });
            let lanes = count.next_multiple_of(LANES);
            let mut factors = random.floats(lanes);
            factors[count..].fill(0.0);
            for isa in Isa::available() {
                let mut d = g.copy();
                d.write(|d| activation_gradient(isa, y.blocks(), Activation::LeakyRelu(0.1), d));
                d.assert_close(1e-6, |c, n, i, j| g.at(c, n, i, j) * if y.at(c, n, i, j) > 0.0 { 1.0 } else { 0.1 });
                d.write(|d| activation_gradient(isa, y.blocks(), Activation::Linear, d));

                let d = both_updates(count, extent, |update, d| accumulate(isa, g.blocks(), -0.5, update, d));
                d.assert_close(1e-6, |c, n, y, x| -0.5 * g.at(c, n, y, x));
                let d = both_updates(count, extent, |update, d| accumulate(isa, one.blocks(), 2.0, update, d));
                d.assert_close(1e-6, |c, n, _, _| 2.0 * one.at(c, n, 0, 0));
                let d = both_updates(count, extent, |update, d| affine_gradient(isa, g.blocks(), &factors, update, d));
                d.assert_close(1e-6, |c, n, y, x| factors[c] * g.at(c, n, y, x));

                let mut d = one.copy();
                let pixels = random.value(count, Extent { n: 4 * extent.n, h: 1, w: 1 });
                d.write(|d| accumulate_images(isa, pixels.blocks(), 3, extent.n - 1, 1, Update::Add, d));
                d.assert_close(1e-6, |c, n, _, _| {
                    one.at(c, n, 0, 0) + if n > 0 { pixels.at(c, 2 + n, 0, 0) } else { 0.0 }
                });
            }
        }
    }

    #[test]
    fn coordinates_are_columns_and_rows() {
        for extent in [Extent { n: 2, h: 5, w: 7 }, Extent { n: 1, h: 70, w: 99 }] {
            let mut out = Value::zeroed(2, extent);
            out.write(|out| coordinates([3.5, -1.0], out));
            out.assert_close(0.0, |c, _, y, x| if c == 0 { x as f32 - 3.5 } else { y as f32 + 1.0 });
        }
    }

    #[test]
    fn products_and_mixtures_follow_their_formulas() {
        let mut random = Random::new(4);
        for (count, extent) in [(3, Extent { n: 2, h: 5, w: 7 }), (35, Extent { n: 1, h: 33, w: 41 })] {
            let [a, b, t, g] = [(); 4].map(|()| random.value(count, extent));
            let at = |c: usize, n: usize, y: usize, x: usize| [&a, &b, &t, &g].map(|v| v.at(c, n, y, x));
            for isa in Isa::available() {
                let mut out = Value::zeroed(count, extent);
                out.write(|out| product(isa, a.blocks(), b.blocks(), out));
                out.assert_close(1e-6, |c, n, y, x| a.at(c, n, y, x) * b.at(c, n, y, x));
                out.write(|out| lerp(isa, [a.blocks(), b.blocks(), t.blocks()], out));
                out.assert_close(1e-6, |c, n, y, x| {
                    let [a, b, t, _] = at(c, n, y, x);
                    (1.0 - t) * a + t * b
                });
                let d =
                    both_updates(count, extent, |update, d| product_gradient(isa, g.blocks(), b.blocks(), update, d));
                d.assert_close(1e-6, |c, n, y, x| g.at(c, n, y, x) * b.at(c, n, y, x));
                for which in 0..3 {
                    let values = [a.blocks(), b.blocks(), t.blocks()];
                    let d = both_updates(count, extent, |update, d| {
                        lerp_gradient(isa, values, g.blocks(), which, update, d);
                    });
                    d.assert_close(1e-6, |c, n, y, x| {
                        let [a, b, t, g] = at(c, n, y, x);
                        g * [1.0 - t, t, b - a][which]
                    });
                }
            }
        }
    }

    #[test]
    fn choosing_channels_is_adjoint_to_spreading_them() {
        let mut random = Random::new(3);
        let extent = Extent { n: 2, h: 9, w: 33 };
        let (x, g) = (random.value(19, extent), random.value(35, extent));
        // Some lanes are read twice, some not at all.
        let map: Vec<_> = (0..48).map(|lane| (lane < 35).then(|| random.below(19) as u32)).collect();
        let mut chosen = Value::zeroed(35, extent);
        chosen.write(|out| channels(x.blocks(), &map, out));
        let d = both_updates(19, extent, |update, d| channels_gradient(g.blocks(), &map, update, d));
        assert!((chosen.dot(&g) - x.dot(&d)).abs() < 1e-3);
        d.assert_close(1e-6, |c, n, y, x| {
            (0..35).filter(|&lane| map[lane] == Some(c as u32)).map(|lane| g.at(lane, n, y, x)).sum()
        });
    }
}
