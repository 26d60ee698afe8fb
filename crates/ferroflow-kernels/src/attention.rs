//! Attention of every pixel to all pixels of another value, `softmax(q k^T / sqrt(channels)) v`, and its gradients.
//!
//! Weights exist for some rows of pixels at a time. What is summed over channels or pixels is a matrix product on the register
//! tile: of rows of pixels, as their blocks hold them, and a value whose pixels and channels have changed places.

use std::ops::Range;

use crate::{
    Blocks, BlocksMut, Buffer, Isa, LANES, Scratch, Update,
    disjoint::Disjoint,
    gemm,
    simd::{self, Kernel, Simd},
    team,
};

/// Pixels whose weights are held at a time: a few register tiles, so that what they are multiplied with is read once for all.
const ROWS: usize = 56;

/// What the weights are computed from.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Channels of queries and keys.
    pub channels: usize,
    /// The pixels that attend.
    pub queries: Blocks<'a>,
    /// What they compare themselves with.
    pub keys: Blocks<'a>,
    /// What they sum.
    pub values: Blocks<'a>,
}

/// A value with pixels and channels exchanged: `[image][16 pixels][channel block][channel][16]`, zeros past the last pixel.
struct Turned {
    floats: Buffer,
    /// Floats of an image, and of 16 pixels.
    image: usize,
    group: usize,
}

impl Turned {
    fn new(isa: Isa, x: Blocks<'_>) -> Self {
        let pixels = x.extent.h * x.extent.w;
        let (groups, blocks) = (pixels.div_ceil(LANES), x.planes.len());
        let group = blocks * LANES * LANES;
        let mut floats = Buffer::zeroed(x.extent.n * groups * group);
        let to = Disjoint::new(&mut floats);
        team::for_each(x.extent.n * groups, |i| {
            let (n, first) = (i / groups, i % groups * LANES);
            // SAFETY: every group is written by one task.
            let to = unsafe { to.piece(i * group, group) };
            for (plane, to) in x.planes.iter().zip(to.chunks_exact_mut(LANES * LANES)) {
                let count = LANES.min(pixels - first);
                let from = &plane[(n * pixels + first) * LANES..][..count * LANES];
                simd::run(isa, Turn { from, to });
            }
        });
        Self { floats, image: groups * group, group }
    }

    fn group(&self, n: usize, group: usize) -> &[f32] {
        &self.floats[n * self.image + group * self.group..][..self.group]
    }
}

struct Turn<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for Turn<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut rows = [S::zero(); LANES];
        for (row, pixel) in rows.iter_mut().zip(self.from.chunks_exact(LANES)) {
            *row = S::read(pixel);
        }
        S::transpose(&mut rows);
        for (to, row) in self.to.chunks_exact_mut(LANES).zip(rows) {
            S::write(to, row);
        }
    }
}

impl Attention<'_> {
    fn check(&self) {
        let Self { channels, queries, keys, values } = self;
        assert_eq!((queries.extent, queries.extent), (keys.extent, values.extent), "extent");
        assert_eq!(
            (queries.planes.len(), queries.planes.len()),
            (keys.planes.len(), channels.div_ceil(LANES)),
            "blocks"
        );
        for value in [queries, keys, values] {
            assert!(value.planes.iter().all(|plane| plane.len() >= value.extent.len()), "a block");
        }
    }

    fn pixels(&self) -> usize {
        self.queries.extent.h * self.queries.extent.w
    }

    fn scale(&self) -> f32 {
        1.0 / (self.channels as f32).sqrt()
    }

    /// Runs `f(image, rows of pixels)` over all of them.
    fn for_rows(&self, f: impl Fn(usize, Range<usize>) + Sync + Send) {
        let pixels = self.pixels();
        let parts = pixels.div_ceil(ROWS);
        team::for_each(self.queries.extent.n * parts, |i| {
            let part = i % parts;
            f(i / parts, part * pixels / parts..(part + 1) * pixels / parts);
        });
    }

    /// Floats of the weights of some rows.
    fn weights_len(&self) -> usize {
        self.pixels().div_ceil(LANES) * ROWS * LANES
    }

    /// The sum of the values, each weighed by how well its key fits the query.
    pub fn run(&self, isa: Isa, out: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        self.check();
        assert_eq!((self.values.extent, self.values.planes.len()), (out.extent, out.planes.len()), "extent");
        let keys = Turned::new(isa, self.keys);
        let outputs = Disjoint::blocks(out);
        self.for_rows(|n, rows| {
            scratch.with(self.weights_len(), |weights| {
                let weights = &mut weights[..self.weights_len()];
                let pass = Pass { attention: self, n, rows };
                simd::run(isa, Forward { pass, keys: &keys, weights, outputs: &outputs });
            });
        });
    }

    /// The gradient of the queries (0), the keys (1) or the values (2), from that of the result.
    pub fn gradient(
        &self,
        isa: Isa,
        g: Blocks<'_>,
        which: usize,
        update: Update,
        d: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        self.check();
        assert_eq!((self.values.extent, self.values.planes.len()), (g.extent, g.planes.len()), "extent");
        let of = [self.queries, self.keys, self.values][which];
        assert_eq!((of.extent, of.planes.len()), (d.extent, d.planes.len()), "extent");
        let [keys, values] = [self.keys, self.values].map(|x| Turned::new(isa, x));
        let groups = self.pixels().div_ceil(LANES) * LANES;
        // Of each query: the logarithm of the sum of its exponentials, and the mean of the gradients of its weights.
        let mut sums = Buffer::zeroed(2 * self.queries.extent.n * groups);
        let outputs = Disjoint::blocks(d);
        {
            let shared = Disjoint::new(&mut sums);
            let target = (which == 0).then_some(&outputs[..]);
            self.for_rows(|n, rows| {
                scratch.with(2 * self.weights_len(), |weights| {
                    let (weights, slopes) = weights.split_at_mut(self.weights_len());
                    let slopes = &mut slopes[..self.weights_len()];
                    // SAFETY: every query belongs to one task.
                    let sums = [0, 1].map(|k| unsafe {
                        let images = self.queries.extent.n;
                        shared.piece((k * images + n) * groups + rows.start, rows.len())
                    });
                    let pass = Pass { attention: self, n, rows };
                    let turned = [&keys, &values];
                    simd::run(isa, OfQueries { pass, turned, g, weights, slopes, sums, target, update });
                });
            });
        }
        if which == 0 {
            return;
        }
        let [queries, gradients] = [self.queries, g].map(|x| Turned::new(isa, x));
        let (lens, images) = (self.weights_len(), self.queries.extent.n);
        self.for_rows(|n, rows| {
            scratch.with(2 * lens, |weights| {
                let (weights, slopes) = weights.split_at_mut(lens);
                let sums = [0, 1].map(|k| &sums[(k * images + n) * groups..][..groups]);
                let pass = Pass { attention: self, n, rows };
                let turned = [&queries, &gradients];
                let slopes = &mut slopes[..lens];
                simd::run(isa, OfKeys { pass, turned, g, which, weights, slopes, sums, outputs: &outputs, update });
            });
        });
    }
}

/// Some rows of pixels of an image.
#[derive(Clone)]
struct Pass<'a> {
    attention: &'a Attention<'a>,
    n: usize,
    rows: Range<usize>,
}

impl Pass<'_> {
    fn groups(&self) -> usize {
        self.attention.pixels().div_ceil(LANES)
    }

    /// `products[group][row][16]`: of each row of pixels of `x` and each pixel of `turned`, the sum over channels.
    #[inline(always)]
    fn products<S: Simd>(&self, x: Blocks<'_>, turned: &Turned, products: &mut [f32]) {
        let first = self.n * self.attention.pixels() + self.rows.start;
        for group in 0..self.groups() {
            let with = turned.group(self.n, group);
            for (row, count) in gemm::groups(self.rows.len(), S::TILE) {
                gemm::rows!(count, S::TILE, T => {
                    let mut tile = gemm::zero::<S, T, 1>();
                    for (plane, with) in x.planes.iter().zip(with.chunks_exact(LANES * LANES)) {
                        let rows = &plane[(first + row) * LANES..][..T * LANES];
                        // SAFETY: `T` rows and 16 vectors are there.
                        unsafe { gemm::accumulate::<S, T, 1, LANES>(&mut tile, rows.as_ptr(), with.as_ptr(), LANES) };
                    }
                    for (to, [sum]) in products[(group * ROWS + row) * LANES..].chunks_exact_mut(LANES).zip(tile) {
                        S::write(to, sum);
                    }
                });
            }
        }
    }

    /// The sum over all pixels of `x`, each times its weight, of each row; given to `write(block, pixel of the image, sum)`.
    #[inline(always)]
    fn mixed<S: Simd>(&self, weights: &[f32], x: Blocks<'_>, mut write: impl FnMut(usize, usize, S::V)) {
        let pixels = self.attention.pixels();
        for (block, plane) in x.planes.iter().enumerate() {
            let plane = &plane[self.n * pixels * LANES..][..pixels * LANES];
            for (row, count) in gemm::groups(self.rows.len(), S::TILE) {
                gemm::rows!(count, S::TILE, T => {
                    let mut tile = gemm::zero::<S, T, 1>();
                    for (group, values) in plane.chunks(LANES * LANES).enumerate() {
                        let weights = &weights[(group * ROWS + row) * LANES..][..T * LANES];
                        // SAFETY: `T` rows of 16 weights are there, and as many vectors as asked for.
                        unsafe {
                            let depth = values.len() / LANES;
                            gemm::accumulate::<S, T, 1, LANES>(&mut tile, weights.as_ptr(), values.as_ptr(), depth);
                        }
                    }
                    for (t, [sum]) in tile.into_iter().enumerate() {
                        write(block, self.rows.start + row + t, sum);
                    }
                });
            }
        }
    }

    /// Writes or adds the pixels of an output.
    ///
    /// # Safety
    /// The contract of [`Disjoint`]: these rows are this task's.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, outputs: &[Disjoint<'_>], update: Update, block: usize, pixel: usize, v: S::V) {
        let at = (self.n * self.attention.pixels() + pixel) * LANES;
        // SAFETY: the caller's.
        let to = unsafe { outputs[block].piece(at, LANES) };
        S::write(to, if update == Update::Add { S::add(S::read(to), v) } else { v });
    }

    /// Products to weights, in place: the softmax of each row. Gives each row's logarithm of the sum of exponentials.
    #[inline(always)]
    fn softmax<S: Simd>(&self, weights: &mut [f32], mut sums: impl FnMut(usize, f32)) {
        let (groups, scale) = (self.groups(), S::splat(self.attention.scale()));
        let past = groups * LANES - self.attention.pixels();
        // Far below every product, for the lanes past the last pixel.
        let mask: [f32; LANES] = std::array::from_fn(|lane| if lane < LANES - past { 0.0 } else { -1e30 });
        for row in 0..self.rows.len() {
            let place = |group: usize| (group * ROWS + row) * LANES;
            let last = &mut weights[place(groups - 1)..];
            S::write(last, S::add(S::read(last), S::read(&mask)));
            let mut most = S::splat(f32::NEG_INFINITY);
            for group in 0..groups {
                most = S::max(most, S::read(&weights[place(group)..]));
            }
            let mut lanes = [0.0; LANES];
            S::write(&mut lanes, most);
            let most = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = S::zero();
            for group in 0..groups {
                let at = &mut weights[place(group)..];
                let e = simd::exp::<S>(S::mul(S::sub(S::read(at), S::splat(most)), scale));
                sum = S::add(sum, e);
                S::write(at, e);
            }
            let total = S::sum(sum);
            let share = S::splat(1.0 / total);
            for group in 0..groups {
                let at = &mut weights[place(group)..];
                S::write(at, S::mul(S::read(at), share));
            }
            sums(row, most * self.attention.scale() + total.ln());
        }
    }
}

struct Forward<'a> {
    pass: Pass<'a>,
    keys: &'a Turned,
    weights: &'a mut [f32],
    outputs: &'a [Disjoint<'a>],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { pass, keys, weights, outputs } = self;
        pass.products::<S>(pass.attention.queries, keys, weights);
        pass.softmax::<S>(weights, |_, _| {});
        pass.mixed::<S>(weights, pass.attention.values, |block, pixel, v| {
            // SAFETY: every pixel belongs to one task.
            unsafe { pass.write::<S>(outputs, Update::Overwrite, block, pixel, v) };
        });
    }
}

/// For some queries: what their gradients and those of keys and values share, and their own where a target is given.
struct OfQueries<'a> {
    pass: Pass<'a>,
    /// Keys and values.
    turned: [&'a Turned; 2],
    g: Blocks<'a>,
    weights: &'a mut [f32],
    slopes: &'a mut [f32],
    sums: [&'a mut [f32]; 2],
    target: Option<&'a [Disjoint<'a>]>,
    update: Update,
}

impl Kernel for OfQueries<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { pass, turned: [keys, values], g, weights, slopes, sums: [logarithms, means], target, update } = self;
        pass.products::<S>(pass.attention.queries, keys, weights);
        pass.softmax::<S>(weights, |row, logarithm| logarithms[row] = logarithm);
        pass.products::<S>(g, values, slopes);
        let scale = S::splat(pass.attention.scale());
        for (row, mean) in means.iter_mut().enumerate() {
            let place = |group: usize| (group * ROWS + row) * LANES;
            let mut sum = S::zero();
            for group in 0..pass.groups() {
                sum = S::fma(S::read(&weights[place(group)..]), S::read(&slopes[place(group)..]), sum);
            }
            *mean = S::sum(sum);
            for group in 0..pass.groups() {
                let at = place(group);
                let centred = S::sub(S::read(&slopes[at..]), S::splat(*mean));
                S::write(&mut slopes[at..], S::mul(S::mul(S::read(&weights[at..]), centred), scale));
            }
        }
        if let Some(outputs) = target {
            pass.mixed::<S>(slopes, pass.attention.keys, |block, pixel, v| {
                // SAFETY: every pixel belongs to one task.
                unsafe { pass.write::<S>(outputs, update, block, pixel, v) };
            });
        }
    }
}

/// The gradients of some keys or of their values.
struct OfKeys<'a> {
    pass: Pass<'a>,
    /// Queries and the result's gradient.
    turned: [&'a Turned; 2],
    g: Blocks<'a>,
    which: usize,
    weights: &'a mut [f32],
    slopes: &'a mut [f32],
    /// Of all queries.
    sums: [&'a [f32]; 2],
    outputs: &'a [Disjoint<'a>],
    update: Update,
}

impl Kernel for OfKeys<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { pass, turned: [queries, gradients], g, which, weights, slopes, sums, outputs, update } = self;
        let [logarithms, means] = sums;
        let scale = S::splat(pass.attention.scale());
        pass.products::<S>(pass.attention.keys, queries, weights);
        for group in 0..pass.groups() {
            let logarithm = S::read(&logarithms[group * LANES..]);
            for row in 0..pass.rows.len() {
                let at = &mut weights[(group * ROWS + row) * LANES..];
                // Rounding may take the exponent above 0.
                let exponent = S::min(S::sub(S::mul(S::read(at), scale), logarithm), S::zero());
                S::write(at, simd::exp::<S>(exponent));
            }
        }
        let source = if which == 2 {
            g
        } else {
            pass.products::<S>(pass.attention.values, gradients, slopes);
            for group in 0..pass.groups() {
                let mean = S::read(&means[group * LANES..]);
                for row in 0..pass.rows.len() {
                    let at = (group * ROWS + row) * LANES;
                    let centred = S::sub(S::read(&slopes[at..]), mean);
                    let slope = S::mul(S::mul(S::read(&weights[at..]), centred), scale);
                    S::write(&mut weights[at..], slope);
                }
            }
            pass.attention.queries
        };
        pass.mixed::<S>(weights, source, |block, pixel, v| {
            // SAFETY: every pixel belongs to one task.
            unsafe { pass.write::<S>(outputs, update, block, pixel, v) };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Extent,
        testing::{Random, Value, both_updates},
    };

    /// A value as `[image][pixel][channel]`.
    fn plain(x: &Value) -> Vec<Vec<Vec<f64>>> {
        let Extent { n, h, w } = x.extent;
        let pixel = |n: usize, i: usize| (0..x.channels).map(|c| f64::from(x.at(c, n, i / w, i % w))).collect();
        (0..n).map(|n| (0..h * w).map(|i| pixel(n, i)).collect()).collect()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn attention_and_its_gradients_follow_the_formulas() {
        let mut random = Random::new(83);
        let cases = [
            (3, 2, Extent { n: 2, h: 1, w: 1 }),
            (16, 16, Extent { n: 1, h: 4, w: 4 }),
            (35, 2, Extent { n: 2, h: 5, w: 7 }),
            (20, 40, Extent { n: 1, h: 11, w: 13 }),
        ];
        for (channels, value_channels, extent) in cases {
            let [q, k] = [(); 2].map(|()| random.value(channels, extent));
            let [v, g] = [(); 2].map(|()| random.value(value_channels, extent));
            let pixels = extent.h * extent.w;
            let scale = 1.0 / (channels as f64).sqrt();
            let [qs, ks, vs, gs] = [&q, &k, &v, &g].map(plain);
            let weights: Vec<Vec<Vec<f64>>> = (0..extent.n)
                .map(|n| {
                    let row = |query: &Vec<f64>| {
                        let e: Vec<f64> = ks[n].iter().map(|key| (scale * dot(query, key)).exp()).collect();
                        let sum: f64 = e.iter().sum();
                        e.into_iter().map(|e| e / sum).collect()
                    };
                    qs[n].iter().map(row).collect()
                })
                .collect();
            // The gradient of each product of a query and a key.
            let slopes: Vec<Vec<Vec<f64>>> = (0..extent.n)
                .map(|n| {
                    let row = |i: usize| {
                        let of: Vec<f64> = vs[n].iter().map(|value| dot(&gs[n][i], value)).collect();
                        let mean = dot(&of, &weights[n][i]);
                        (0..pixels).map(|j| weights[n][i][j] * (of[j] - mean) * scale).collect()
                    };
                    (0..pixels).map(row).collect()
                })
                .collect();
            let scratch = Scratch::new();
            let attention = Attention { channels, queries: q.blocks(), keys: k.blocks(), values: v.blocks() };
            for isa in Isa::available() {
                let mut out = Value::zeroed(value_channels, extent);
                out.write(|out| attention.run(isa, out, &scratch));
                out.assert_close(2e-5, |c, n, y, x| {
                    let i = y * extent.w + x;
                    (0..pixels).map(|j| weights[n][i][j] * vs[n][j][c]).sum::<f64>() as f32
                });
                for which in 0..3 {
                    let count = if which == 2 { value_channels } else { channels };
                    let d = both_updates(count, extent, |update, d| {
                        attention.gradient(isa, g.blocks(), which, update, d, &scratch);
                    });
                    d.assert_close(5e-5, |c, n, y, x| {
                        let i = y * extent.w + x;
                        let sum = |term: &dyn Fn(usize) -> f64| (0..pixels).map(term).sum::<f64>() as f32;
                        match which {
                            0 => sum(&|j| slopes[n][i][j] * ks[n][j][c]),
                            1 => sum(&|j| slopes[n][j][i] * qs[n][j][c]),
                            _ => sum(&|j| weights[n][j][i] * gs[n][j][c]),
                        }
                    });
                }
            }
        }
    }
}
