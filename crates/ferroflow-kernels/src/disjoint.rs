//! An output that several threads write at once.

use std::marker::PhantomData;

use crate::BlocksMut;

/// Values that the tasks of a parallel region share, each writing places of its own.
///
/// # Safety of what is done with it
/// This is the one contract of all shared outputs, to which every `unsafe` block that reaches into one answers. From when a
/// region's tasks begin until all of them have ended ([`crate::team::for_each`] returns then),
/// * what one task writes, no other task reads or writes;
/// * no reference to a place ([`Disjoint::piece`]) is alive while the same place is reached by another one or by a pointer;
/// * places lie inside the values: pieces are checked always, pointers ([`Disjoint::at`]) in debug builds, where they begin.
///
/// After that the places may be shared out anew. The values stay borrowed for `'a`, so that nobody else reaches them.
pub(crate) struct Disjoint<'a, T = f32> {
    first: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: tasks on other threads reach the values by the contract above only, each its own: as if every task had been sent
// exclusive references to its places.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above; a shared `Disjoint` gives nothing that a copy of it does not.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<T> Clone for Disjoint<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Borrows all of `values`.
    pub fn new(values: &'a mut [T]) -> Self {
        Self { first: values.as_mut_ptr(), len: values.len(), lifetime: PhantomData }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where value `at` lies, or the end. Only what is done with the pointer is unsafe.
    #[inline(always)]
    pub fn at(&self, at: usize) -> *mut T {
        debug_assert!(at <= self.len, "{at} of {}", self.len);
        self.first.wrapping_add(at)
    }

    /// `len` values from `start` on.
    ///
    /// # Safety
    /// The type's contract.
    ///
    /// # Panics
    /// If they do not lie inside the values.
    #[inline(always)]
    pub unsafe fn piece(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "piece");
        // SAFETY: it lies inside the values, which are borrowed for `'a`; the caller keeps the pieces apart.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(start), len) }
    }
}

impl<'a> Disjoint<'a> {
    /// Every block of `out`.
    ///
    /// # Panics
    /// If one is shorter than the extent.
    pub fn blocks(out: &'a mut BlocksMut<'_, '_>) -> Vec<Self> {
        let len = out.extent.len();
        let block = |plane: &'a mut &mut [f32]| {
            assert!(plane.len() >= len, "output block");
            Self::new(plane)
        };
        out.planes.iter_mut().map(block).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Disjoint;
    use crate::team;

    #[test]
    fn tasks_write_places_of_their_own() {
        let mut values = vec![0usize; 1000];
        let shared = Disjoint::new(&mut values);
        team::for_each(100, |task| {
            // SAFETY: every task has its own nine values as a piece, and the one after them as a place.
            unsafe {
                shared.piece(task * 10, 9).iter_mut().enumerate().for_each(|(i, v)| *v = task * 10 + i);
                *shared.at(task * 10 + 9) = task * 10 + 9;
            }
        });
        assert!(values.iter().enumerate().all(|(i, v)| i == *v));
    }

    #[test]
    #[should_panic(expected = "piece")]
    fn a_piece_lies_inside() {
        let mut values = [0.0; 4];
        // SAFETY: the only one.
        unsafe { Disjoint::new(&mut values).piece(3, 2) };
    }
}
