//! The register tile of every matrix product: `T` rows (pixels or Winograd tiles) x `N` vectors of 16 outputs.
//!
//! Weights are vectors, the rows' values are broadcast. [`accumulate`] is the inner loop; callers keep the tile in
//! registers over as many segments (channel blocks, kernel taps) as they have, then store it:
//!
//! ```ignore
//! rows!(rows, S::TILE, T => {
//!     let mut tile = gemm::zero::<S, T, 2>();
//!     for (a, w, depth) in segments {
//!         gemm::accumulate::<S, T, 2, LANES>(&mut tile, a, w, depth);
//!     }
//!     // ... epilogue over tile[row][vector]
//! });
//! ```
//!
//! The tile that reaches the arithmetic limit is `S::TILE x S::PANEL`. A last odd vector of outputs takes `N = 1`, where
//! one broadcast per product still keeps 14 rows within 15 % of it. Rows are split evenly ([`groups`]): 32 rows are
//! 11 + 11 + 10, not 14 + 14 + 4.

use std::time::Instant;

use crate::{
    LANES,
    simd::{self, Isa, Kernel, Simd},
};

/// Rows and vectors of the largest tile.
pub fn register_tile(isa: Isa) -> (usize, usize) {
    struct Size;
    impl Kernel for Size {
        type Output = (usize, usize);
        #[inline(always)]
        fn run<S: Simd>(self) -> Self::Output {
            (S::TILE, S::PANEL)
        }
    }
    simd::run(isa, Size)
}

/// A tile of zeros.
#[inline(always)]
pub fn zero<S: Simd, const T: usize, const N: usize>() -> [[S::V; N]; T] {
    [[S::zero(); N]; T]
}

/// `tile[t][n] += sum over k < depth of a[t * STEP + k] * w[(k * N + n) * 16 ..][..16]`.
///
/// `STEP` is the distance in floats between rows (16 from pixel to pixel of a block, 32 at stride 2). It is a constant so
/// that the rows' addresses are displacements.
///
/// # Safety
/// `a` valid for reads of `(T - 1) * STEP + depth` floats, `w` of `depth * N * 16`.
#[inline(always)]
pub unsafe fn accumulate<S: Simd, const T: usize, const N: usize, const STEP: usize>(
    tile: &mut [[S::V; N]; T],
    a: *const f32,
    w: *const f32,
    depth: usize,
) {
    for k in 0..depth {
        // SAFETY: `k < depth`, the caller's bounds.
        unsafe { step::<S, T, N, STEP>(tile, a.add(k), w.add(k * N * LANES)) }
    }
}

/// One `k` of [`accumulate`].
///
/// # Safety
/// As for [`accumulate`] with `depth` 1.
#[inline(always)]
pub unsafe fn step<S: Simd, const T: usize, const N: usize, const STEP: usize>(
    tile: &mut [[S::V; N]; T],
    a: *const f32,
    w: *const f32,
) {
    // SAFETY: the caller's bounds.
    unsafe {
        let mut weights = [S::zero(); N];
        for (n, weight) in weights.iter_mut().enumerate() {
            *weight = S::load(w.add(n * LANES));
        }
        for (t, row) in tile.iter_mut().enumerate() {
            let value = S::splat(*a.add(t * STEP));
            for (sum, &weight) in row.iter_mut().zip(&weights) {
                *sum = S::fma(value, weight, *sum);
            }
        }
    }
}

/// Splits `rows` evenly into the fewest groups of at most `tile`: `(first row, rows)` of each.
#[inline(always)]
pub fn groups(rows: usize, tile: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(tile).max(1);
    (0..count).map(move |group| {
        let first = rows * group / count;
        (first, rows * (group + 1) / count - first)
    })
}

/// f32 operations per second that one thread reaches at this moment in the first-level cache: the yardstick beside every
/// measurement. Takes about a millisecond.
pub fn peak(isa: Isa) -> f64 {
    const DEPTH: usize = 128;
    let source = vec![0.5; (14 + 2 * LANES) * DEPTH];
    let best = (0..5).map(|_| {
        let start = Instant::now();
        let flop = simd::run(isa, Peak::<DEPTH>(std::hint::black_box(&source)));
        flop / start.elapsed().as_secs_f64()
    });
    best.fold(0.0, f64::max)
}

/// One tile times a panel, over and over; returns operations.
struct Peak<'a, const DEPTH: usize>(&'a [f32]);

impl<const DEPTH: usize> Kernel for Peak<'_, DEPTH> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        macro_rules! tile {
            ($t:literal, $n:literal) => {{
                // SAFETY: 14 rows of `DEPTH` values and `DEPTH` x 2 vectors of weights are there.
                unsafe {
                    for _ in 0..500 {
                        let mut tile = zero::<S, $t, $n>();
                        accumulate::<S, $t, $n, DEPTH>(
                            &mut tile,
                            self.0.as_ptr(),
                            self.0.as_ptr().add(14 * DEPTH),
                            DEPTH,
                        );
                        for sum in tile.as_flattened() {
                            let mut lanes = [0.0f32; LANES];
                            S::write(&mut lanes, *sum);
                            std::hint::black_box(&lanes);
                        }
                    }
                }
                500.0 * (DEPTH * 2 * $t * $n * LANES) as f64
            }};
        }
        match (S::TILE, S::PANEL) {
            (14.., 2..) => tile!(14, 2),
            (6.., _) => tile!(6, 1),
            _ => tile!(4, 1),
        }
    }
}

/// Runs an expression with the run-time number of rows (1 to the instruction set's `TILE`, at most 14) as the constant `T`.
macro_rules! rows {
    ($rows:expr, $tile:expr, $T:ident => $body:expr) => {
        $crate::gemm::rows!(@ $rows, $tile, $T, $body, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@ $rows:expr, $tile:expr, $T:ident, $body:expr, $($n:literal)*) => {
        match $rows {
            // Constant guards: taller tiles are not even compiled.
            $($n if const { $n <= $tile } => {
                const $T: usize = $n;
                $body
            })*
            rows => unreachable!("{rows} rows in one tile"),
        }
    };
}
pub(crate) use rows;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::run;

    struct Product<'a> {
        a: &'a [f32],
        w: &'a [f32],
        rows: usize,
        depth: usize,
        out: &'a mut [f32],
    }

    impl Kernel for Product<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self) {
            for (first, rows) in groups(self.rows, S::TILE) {
                rows!(rows, S::TILE, T => {
                    // SAFETY: `a` has `rows` x `LANES` floats, `w` `depth` x 2 vectors, `out` `rows` x 2 vectors.
                    unsafe {
                        let mut tile = zero::<S, T, 2>();
                        accumulate::<S, T, 2, LANES>(&mut tile, self.a.as_ptr().add(first * LANES), self.w.as_ptr(), self.depth);
                        for (t, row) in tile.iter().enumerate() {
                            for (n, &sum) in row.iter().enumerate() {
                                S::store(self.out.as_mut_ptr().add(((first + t) * 2 + n) * LANES), sum);
                            }
                        }
                    }
                });
            }
        }
    }

    #[test]
    fn every_tile_height_is_the_product() {
        for isa in Isa::available() {
            for rows in 1..=33 {
                let depth = 1 + rows % LANES;
                let a: Vec<f32> = (0..rows * LANES).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
                let w: Vec<f32> = (0..depth * 2 * LANES).map(|i| (i * 5 % 11) as f32 - 5.0).collect();
                let mut out = vec![f32::NAN; rows * 2 * LANES];
                run(isa, Product { a: &a, w: &w, rows, depth, out: &mut out });
                for row in 0..rows {
                    for o in 0..2 * LANES {
                        let sum: f32 = (0..depth).map(|k| a[row * LANES + k] * w[k * 2 * LANES + o]).sum();
                        assert_eq!(out[row * 2 * LANES + o], sum, "{isa:?} {rows} rows, row {row}, output {o}");
                    }
                }
            }
        }
    }

    #[test]
    fn groups_are_even_and_cover() {
        assert_eq!(groups(32, 14).map(|g| g.1).max(), Some(11));
        for rows in 1..100 {
            for tile in [4, 6, 14] {
                let mut next = 0;
                for (first, len) in groups(rows, tile) {
                    assert_eq!(first, next);
                    assert!((1..=tile).contains(&len));
                    next += len;
                }
                assert_eq!(next, rows);
            }
        }
    }
}
