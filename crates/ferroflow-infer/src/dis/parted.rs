//! Rows parted into even and odd columns, the layout of the red-black solver.
//!
//! The right neighbour of the k-th even column is the k-th odd one, whose right neighbour is the next even one; the pixels
//! above and below lie in the same half of their rows. So one colour of a chessboard is one half of each row, and all its
//! neighbours are contiguous too.

/// How one row of `width` pixels is stored: even columns and a slot, then a slot and odd columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Parted {
    pub(super) width: usize,
}

impl Parted {
    /// Even columns.
    pub(super) fn evens(self) -> usize {
        self.width.div_ceil(2)
    }

    /// Odd columns.
    pub(super) fn odds(self) -> usize {
        self.width / 2
    }

    /// Floats of one half: even column `2k` is float `k`, odd column `2k + 1` is float `k + 1` of the second half.
    pub(super) fn half(self) -> usize {
        self.evens() + 1
    }

    /// Floats of one row.
    pub(super) fn len(self) -> usize {
        2 * self.half()
    }

    /// `N` parted rows that lie one after the other.
    #[inline(always)]
    pub(super) fn split<const N: usize>(self, rows: &[f32]) -> [&[f32]; N] {
        std::array::from_fn(|i| &rows[i * self.len()..][..self.len()])
    }

    /// `N` parted rows that lie one after the other.
    #[inline(always)]
    pub(super) fn split_mut<const N: usize>(self, rows: &mut [f32]) -> [&mut [f32]; N] {
        let mut rows = rows.chunks_exact_mut(self.len());
        std::array::from_fn(|_| rows.next().unwrap_or_default())
    }

    /// Parts `row` into `out`; the free slots repeat the pixel beside them.
    #[inline(always)]
    pub(super) fn part(self, row: &[f32], out: &mut [f32]) {
        let (even, odd) = out.split_at_mut(self.half());
        let pairs = row.chunks_exact(2);
        let rest = pairs.remainder();
        for ((pair, e), o) in pairs.zip(even.iter_mut()).zip(&mut odd[1..]) {
            *e = pair[0];
            *o = pair[1];
        }
        if let [last] = rest {
            even[self.odds()] = *last;
        }
        self.repeat_edges(out);
    }

    /// Sets the free slots to the pixel beside them.
    #[inline(always)]
    pub(super) fn repeat_edges(self, row: &mut [f32]) {
        let (evens, odds) = (self.evens(), self.odds());
        let (even, odd) = row.split_at_mut(self.half());
        odd[0] = even[0];
        if evens == odds {
            even[evens] = odd[odds];
        } else {
            even[evens] = even[evens - 1];
            odd[odds + 1] = even[evens - 1];
        }
    }

    /// Undoes [`Parted::part`].
    #[inline(always)]
    pub(super) fn join(self, parted: &[f32], row: &mut [f32]) {
        let (even, odd) = parted.split_at(self.half());
        let mut pairs = row.chunks_exact_mut(2);
        for ((pair, e), o) in pairs.by_ref().zip(even).zip(&odd[1..]) {
            pair[0] = *e;
            pair[1] = *o;
        }
        if let [last] = pairs.into_remainder() {
            *last = even[self.odds()];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_undoes_parting() {
        for width in 1..20 {
            let parted = Parted { width };
            let row: Vec<f32> = (0..width).map(|x| x as f32).collect();
            let (mut stored, mut back) = (vec![f32::NAN; parted.len()], vec![0.0; width]);
            parted.part(&row, &mut stored);
            assert!(stored.iter().all(|v| v.is_finite()), "a slot of width {width} was left unset");
            parted.join(&stored, &mut back);
            assert_eq!(back, row);
        }
    }
}
