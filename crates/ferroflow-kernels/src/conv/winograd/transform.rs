//! The one-dimensional transforms as straight-line code: `B^T d` and `A^T m` of every point set.
//!
//! The rows of +p and -p share their even and odd parts, so a pair costs one polynomial in x^2 each and two additions:
//! 24 multiply-adds take 8 values to 8 points, 20 take 8 points to 6 outputs. Indices and coefficients are constants
//! once inlined; a loop left over would cost a factor of five.

use super::points::pairs;
use crate::simd::Simd;

/// `powers(count)[i][j]` is p^j of pair i.
const fn powers(count: usize) -> [[f32; 8]; 3] {
    let p = pairs(count);
    let mut table = [[0.0; 8]; 3];
    let mut i = 0;
    while i < 3 {
        let mut power = 1.0;
        let mut j = 0;
        while j < 8 {
            table[i][j] = power as f32;
            power *= p[i];
            j += 1;
        }
        i += 1;
    }
    table
}

const POWERS: [[[f32; 8]; 3]; 4] = [powers(1), powers(1), powers(2), powers(3)];

/// `x[at] * product of (s^2 - r)` over up to three roots r, s being the step from a value to the next.
#[inline(always)]
fn even<S: Simd>(x: &[S::V; 8], at: usize, roots: &[f64]) -> S::V {
    let c = |v: f64| S::splat(v as f32);
    match *roots {
        [] => x[at],
        [a] => S::fma(x[at], c(-a), x[at + 2]),
        [a, b] => S::fma(x[at], c(a * b), S::fma(x[at + 2], c(-a - b), x[at + 4])),
        [a, b, d, ..] => {
            let high = S::fma(x[at + 4], c(-a - b - d), x[at + 6]);
            S::fma(x[at], c(-a * b * d), S::fma(x[at + 2], c(a * b + a * d + b * d), high))
        }
    }
}

/// `B^T x` of the set with `P` pairs, 0 if `Z` is 1, infinity if `I` is 1: the first `2 P + Z + I` values.
#[inline(always)]
pub fn input<S: Simd, const P: usize, const Z: usize, const I: usize>(x: &[S::V; 8]) -> [S::V; 8] {
    let mut out = [S::zero(); 8];
    let p = pairs(P);
    let r = [p[0] * p[0], p[1] * p[1], p[2] * p[2]];
    if const { Z == 1 } {
        out[0] = even::<S>(x, 0, &r[..P]);
    }
    macro_rules! pair {
        ($i:literal, $others:expr) => {
            if const { $i < P } {
                let (e, o) = (
                    even::<S>(x, Z + 1, &$others[..P.saturating_sub(1)]),
                    even::<S>(x, Z, &$others[..P.saturating_sub(1)]),
                );
                if p[$i] == 1.0 {
                    out[Z + 2 * $i] = S::add(e, o);
                    out[Z + 2 * $i + 1] = S::sub(e, o);
                } else {
                    out[Z + 2 * $i] = S::fma(o, S::splat(p[$i] as f32), e);
                    out[Z + 2 * $i + 1] = S::fma(o, S::splat(-p[$i] as f32), e);
                }
            }
        };
    }
    pair!(0, [r[1], r[2]]);
    pair!(1, [r[0], r[2]]);
    pair!(2, [r[0], r[1]]);
    if const { I == 1 } {
        out[2 * P + Z] = even::<S>(x, Z, &r[..P]);
    }
    out
}

/// `A^T x` to the first `M` values, of the set with `P` pairs, 0, and infinity if `I` is 1; of 0 alone, `x` itself.
#[inline(always)]
pub fn output<S: Simd, const P: usize, const I: usize, const M: usize>(x: &[S::V; 8]) -> [S::V; 8] {
    let mut out = [S::zero(); 8];
    let (mut sum, mut difference) = ([S::zero(); 3], [S::zero(); 3]);
    macro_rules! each {
            ($body:ident: $($i:literal)*) => { $($body!($i);)* };
        }
    macro_rules! pair {
        ($i:literal) => {
            if const { $i < P } {
                sum[$i] = S::add(x[1 + 2 * $i], x[2 + 2 * $i]);
                difference[$i] = S::sub(x[1 + 2 * $i], x[2 + 2 * $i]);
            }
        };
    }
    each!(pair: 0 1 2);
    macro_rules! row {
        ($j:literal) => {
            if const { P == 0 && $j == 0 } {
                out[0] = x[0];
            } else if const { $j < M } {
                let part = if $j % 2 == 0 { &sum } else { &difference };
                // p = 1 comes first: no multiplication.
                let first = if POWERS[P][0][$j] == 1.0 { part[0] } else { S::mul(part[0], S::splat(POWERS[P][0][$j])) };
                let mut y = if $j == 0 { S::add(first, x[0]) } else { first };
                if const { P > 1 } {
                    y = if $j == 0 { S::add(y, part[1]) } else { S::fma(part[1], S::splat(POWERS[P][1][$j]), y) };
                }
                if const { P > 2 } {
                    y = if $j == 0 { S::add(y, part[2]) } else { S::fma(part[2], S::splat(POWERS[P][2][$j]), y) };
                }
                out[$j] = if I == 1 && $j + 1 == M { S::add(y, x[2 * P + 1]) } else { y };
            }
        };
    }
    each!(row: 0 1 2 3 4 5 6 7);
    out
}

/// `A x`, the transpose of [`output`]: the polynomial with the first `M` values as coefficients, at the points of the set
/// with `P` pairs, 0, and infinity if `I` is 1.
#[inline(always)]
pub fn evaluate<S: Simd, const P: usize, const I: usize, const M: usize>(x: &[S::V; 8]) -> [S::V; 8] {
    let mut out = [S::zero(); 8];
    out[0] = x[0];
    macro_rules! term {
        ($i:literal, $j:literal, $sum:expr) => {
            if const { $j < M } {
                $sum = if POWERS[P][$i][$j] == 1.0 {
                    S::add($sum, x[$j])
                } else {
                    S::fma(x[$j], S::splat(POWERS[P][$i][$j]), $sum)
                };
            }
        };
    }
    macro_rules! pair {
        ($i:literal) => {
            if const { $i < P } {
                let mut even = x[0];
                term!($i, 2, even);
                term!($i, 4, even);
                term!($i, 6, even);
                let mut odd = S::mul(x[1], S::splat(POWERS[P][$i][1]));
                term!($i, 3, odd);
                term!($i, 5, odd);
                out[1 + 2 * $i] = S::add(even, odd);
                out[2 + 2 * $i] = S::sub(even, odd);
            }
        };
    }
    pair!(0);
    pair!(1);
    pair!(2);
    if const { I == 1 } {
        out[2 * P + 1] = x[M - 1];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        LANES,
        conv::winograd::points::Points,
        simd::{Isa, Kernel, run},
    };

    struct Once<const P: usize, const Z: usize, const I: usize, const M: usize>;

    impl<const P: usize, const Z: usize, const I: usize, const M: usize> Kernel for Once<P, Z, I, M> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self) {
            let points = Points { pairs: P, zero: Z == 1, infinity: I == 1 };
            let values: Vec<f64> = (0..8).map(|i| ((i * i * 5 + 3 * i) % 11) as f64 - 5.0).collect();
            let check = |matrix: Vec<Vec<f64>>, got: &[S::V; 8]| {
                for (row, &got) in matrix.iter().zip(got) {
                    let expected: f64 = row.iter().zip(&values).map(|(a, b)| a * b).sum();
                    let mut lanes = [0.0f32; LANES];
                    S::write(&mut lanes, got);
                    assert!(
                        lanes.iter().all(|&l| (f64::from(l) - expected).abs() < 1e-3),
                        "{points:?}: {lanes:?}, {expected}"
                    );
                }
            };
            let x: [S::V; 8] = std::array::from_fn(|i| S::splat(values[i] as f32));
            check(points.input(), &input::<S, P, Z, I>(&x));
            if const { Z == 1 } {
                check(points.output(M), &output::<S, P, I, M>(&x));
                let transposed = |matrix: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
                    (0..points.len()).map(|point| matrix.iter().map(|row| row[point]).collect()).collect()
                };
                check(transposed(points.output(M)), &evaluate::<S, P, I, M>(&x));
            }
        }
    }

    #[test]
    fn straight_line_code_is_the_matrices() {
        for isa in Isa::available() {
            run(isa, Once::<0, 1, 0, 1>);
            run(isa, Once::<1, 1, 0, 2>);
            run(isa, Once::<1, 1, 1, 3>);
            run(isa, Once::<1, 0, 0, 2>);
            run(isa, Once::<2, 1, 0, 4>);
            run(isa, Once::<2, 1, 1, 5>);
            run(isa, Once::<2, 0, 0, 4>);
            run(isa, Once::<3, 1, 0, 6>);
            run(isa, Once::<3, 1, 1, 7>);
            run(isa, Once::<3, 0, 0, 5>);
        }
    }
}
