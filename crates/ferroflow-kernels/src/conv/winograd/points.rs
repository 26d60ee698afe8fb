//! Interpolation points, and the matrices they give.
//!
//! Winograd's F(m, r) computes m outputs of an r-tap filter as `A^T [(G g) . (B^T d)]` with n = m + r - 1 products: two
//! polynomials evaluated at n points, multiplied there, interpolated (Toom-Cook, transposed). The points are 0, pairs
//! +-p, and infinity; how many pairs there are decides their values. F(4, 3) with 3/4 and 3/2 has half the mean error of
//! the usual 1 and 2 and a fifth of the largest.

/// A set of interpolation points, in this order: 0 if there, +p and -p of each pair, infinity if there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points {
    /// Pairs +-p: 1, 2 or 3, see [`pairs`]; none for the single point 0, whose transforms do nothing.
    pub pairs: usize,
    /// Whether 0 is one.
    pub zero: bool,
    /// Whether infinity is one.
    pub infinity: bool,
}

/// The positive point of each of `count` pairs.
pub const fn pairs(count: usize) -> [f64; 3] {
    match count {
        1 => [1.0, 0.0, 0.0],
        2 => [0.75, 1.5, 0.0],
        _ => [1.0, 2.0, 0.5],
    }
}

impl Points {
    /// The set of `n` points (3 to 8, or 1) that contains 0.
    pub fn new(n: usize) -> Self {
        Self { pairs: (n - 1) / 2, zero: true, infinity: n.is_multiple_of(2) }
    }

    /// The set with one point less, whose matrices are otherwise the same: what a filter shorter by one tap needs for as
    /// many outputs.
    pub fn reduced(self) -> Self {
        if self.infinity { Self { infinity: false, ..self } } else { Self { zero: false, ..self } }
    }

    /// How many.
    pub fn len(self) -> usize {
        2 * self.pairs + usize::from(self.zero) + usize::from(self.infinity)
    }

    /// The index in `of` of this set's first point, `of` being this set or one it is the reduction of.
    pub fn first_in(self, of: Self) -> usize {
        usize::from(of.zero && !self.zero)
    }

    fn finite(self) -> Vec<f64> {
        let mut all = if self.zero { vec![0.0] } else { vec![] };
        for p in &pairs(self.pairs)[..self.pairs] {
            all.extend([*p, -p]);
        }
        all
    }

    /// `G` of a filter of `taps`: one row per point, `p^k / prod (p - q)`.
    pub fn filter(self, taps: usize) -> Vec<Vec<f64>> {
        let finite = self.finite();
        let mut rows: Vec<Vec<f64>> = finite
            .iter()
            .map(|&p| {
                let norm: f64 = finite.iter().filter(|&&q| q != p).map(|q| p - q).product();
                (0..taps).map(|k| p.powi(k as i32) / norm).collect()
            })
            .collect();
        if self.infinity {
            rows.push((0..taps).map(|k| f64::from(u8::from(k + 1 == taps))).collect());
        }
        rows
    }

    /// `B^T`: one row per point, the coefficients of `prod (x - q)` over the other finite points.
    #[cfg(test)]
    pub fn input(self) -> Vec<Vec<f64>> {
        let finite = self.finite();
        let product = |skip: Option<f64>| {
            let mut poly = vec![1.0];
            for &q in finite.iter().filter(|&&q| Some(q) != skip) {
                let mut next = vec![0.0; poly.len() + 1];
                for (k, &c) in poly.iter().enumerate() {
                    next[k + 1] += c;
                    next[k] -= q * c;
                }
                poly = next;
            }
            poly.resize(self.len(), 0.0);
            poly
        };
        let mut rows: Vec<_> = finite.iter().map(|&p| product(Some(p))).collect();
        if self.infinity {
            rows.push(product(None));
        }
        rows
    }

    /// `A^T`: `outputs` rows of the points' powers.
    #[cfg(test)]
    pub fn output(self, outputs: usize) -> Vec<Vec<f64>> {
        (0..outputs)
            .map(|j| {
                let mut row: Vec<f64> = self.finite().iter().map(|p| p.powi(j as i32)).collect();
                if self.infinity {
                    row.push(f64::from(u8::from(j + 1 == outputs)));
                }
                row
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(matrix: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
        matrix.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }

    #[test]
    fn the_algorithm_is_a_correlation() {
        assert_eq!(Points::new(1).filter(1), [[1.0]]);
        for n in 3..=8 {
            for points in [Points::new(n), Points::new(n).reduced()] {
                for taps in 1..=5.min(points.len() - 1) {
                    let outputs = points.len() + 1 - taps;
                    let d: Vec<f64> = (0..points.len()).map(|i| ((i * i + 3) % 7) as f64 - 3.0).collect();
                    let g: Vec<f64> = (0..taps).map(|i| ((i * 5 + 1) % 4) as f64 - 1.5).collect();
                    let (u, v) = (apply(&points.filter(taps), &g), apply(&points.input(), &d));
                    let products: Vec<f64> = u.iter().zip(&v).map(|(u, v)| u * v).collect();
                    for (j, y) in apply(&points.output(outputs), &products).into_iter().enumerate() {
                        let direct: f64 = (0..taps).map(|k| g[k] * d[j + k]).sum();
                        assert!((y - direct).abs() < 1e-10, "{points:?} {taps} taps, output {j}: {y}, not {direct}");
                    }
                }
            }
        }
    }
}
