//! RAFT's lookup in the products of all pairs of pixels.

use ferroflow_net::graph::{Lookup, Shape};
use rayon::prelude::*;

use super::{Real, Tensor};

/// `<f1(p), level(q)> / sqrt(C)` for every level and every offset from where the flow points.
pub(super) fn lookup<T: Real>([f1, f2, flow]: [&Tensor<T>; 3], lookup: Lookup, shape: Shape) -> Tensor<T> {
    let [n, channels, h, w] = shape;
    let levels = levels(f2, lookup);
    let looked_up: Vec<Vec<T>> = (0..n * h * w)
        .into_par_iter()
        .map(|i| {
            let pixel = Pixel { n: i / (h * w), at: i % (h * w) };
            levels
                .iter()
                .enumerate()
                .flat_map(|(l, level)| pixel.window(flow, l, lookup).values(pixel, f1, level))
                .collect()
        })
        .collect();
    let mut out = Tensor::zeros(shape);
    for (i, values) in looked_up.into_iter().enumerate() {
        for (c, value) in values.into_iter().enumerate() {
            out.data[(i / (h * w) * channels + c) * h * w + i % (h * w)] = value;
        }
    }
    out
}

/// The second map and its halves.
pub(super) fn levels<T: Real>(f2: &Tensor<T>, lookup: Lookup) -> Vec<Tensor<T>> {
    let halved = |finer: &Tensor<T>| {
        let [n, c, h, w] = finer.shape;
        let mut half = Tensor::zeros([n, c, h / 2, w / 2]);
        for (i, to) in half.data.iter_mut().enumerate() {
            let (plane, y, x) = (i / (h / 2 * (w / 2)), i / (w / 2) % (h / 2), i % (w / 2));
            let at = (plane * h + 2 * y) * w + 2 * x;
            *to = (finer.data[at] + finer.data[at + 1] + finer.data[at + w] + finer.data[at + w + 1]) / T::of(4.0);
        }
        half
    };
    std::iter::successors(Some(f2.clone()), |finer| Some(halved(finer))).take(lookup.levels).collect()
}

/// A pixel of the first map.
#[derive(Clone, Copy)]
pub(super) struct Pixel {
    pub n: usize,
    /// Its index in a plane.
    pub at: usize,
}

impl Pixel {
    /// What it looks at on a level.
    pub(super) fn window<T: Real>(self, flow: &Tensor<T>, level: usize, lookup: Lookup) -> Window<T> {
        let w = flow.shape[3];
        let scale = T::of(0.5f64.powi(level as i32));
        let at = |c: usize, p: usize| (T::of(p as f64) + flow.plane(self.n, c)[self.at]) * scale;
        let (x, y) = (at(0, self.at % w), at(1, self.at / w));
        let first = |v: T| (v.floor().f64() as i64).saturating_sub(lookup.radius as i64);
        Window { left: first(x), top: first(y), a: x - x.floor(), b: y - y.floor(), side: lookup.side() }
    }
}

/// The `side + 1` neighbours along each axis between which `side` offsets are interpolated.
pub(super) struct Window<T> {
    left: i64,
    top: i64,
    /// How far behind a neighbour each offset lies, along x and y.
    pub a: T,
    pub b: T,
    side: usize,
}

impl<T: Real> Window<T> {
    /// The neighbours inside the level: row and column in the window, index in a plane.
    pub(super) fn inside(&self, [_, _, h, w]: Shape) -> impl Iterator<Item = (usize, usize, usize)> + use<T> {
        let (left, top, wide) = (self.left, self.top, self.side + 1);
        let at = move |first: i64, i: usize, size: usize| {
            first.checked_add(i as i64).and_then(|at| usize::try_from(at).ok()).filter(|&at| at < size)
        };
        (0..wide * wide)
            .filter_map(move |i| Some((i / wide, i % wide, at(top, i / wide, h)? * w + at(left, i % wide, w)?)))
    }

    /// The products with all neighbours, row by row; 0 outside.
    pub(super) fn products(&self, pixel: Pixel, f1: &Tensor<T>, level: &Tensor<T>) -> Vec<T> {
        let wide = self.side + 1;
        let channels = f1.shape[1];
        let mut products = vec![T::default(); wide * wide];
        for (row, column, at) in self.inside(level.shape) {
            let product = |c| f1.plane(pixel.n, c)[pixel.at] * level.plane(pixel.n, c)[at];
            let sum = (0..channels).fold(T::default(), |sum, c| sum + product(c));
            products[row * wide + column] = sum / T::of(channels as f64).sqrt();
        }
        products
    }

    /// Where offset `i` along x, `j` along y finds its four neighbours, with their weights.
    pub(super) fn taps(&self, i: usize, j: usize) -> [(usize, T); 4] {
        let (one, wide) = (T::of(1.0), self.side + 1);
        let at = j * wide + i;
        let (a, b) = (self.a, self.b);
        [(at, (one - a) * (one - b)), (at + 1, a * (one - b)), (at + wide, (one - a) * b), (at + wide + 1, a * b)]
    }

    /// The interpolated products, the offset along x outer.
    fn values(&self, pixel: Pixel, f1: &Tensor<T>, level: &Tensor<T>) -> Vec<T> {
        let products = self.products(pixel, f1, level);
        let value = |k: usize| {
            let taps = self.taps(k / self.side, k % self.side);
            taps.iter().fold(T::default(), |sum, &(at, weight)| sum + products[at] * weight)
        };
        (0..self.side * self.side).map(value).collect()
    }
}
