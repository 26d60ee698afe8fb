//! Memory of the kernels: aligned, and on huge pages where it is large.

use std::{
    ops::{Deref, DerefMut},
    slice,
    sync::{Arc, Mutex, PoisonError, TryLockError},
};

use memmap2::{MmapMut, MmapRaw};

use crate::machine::memory::HUGE;

/// Floats of a cache line.
const LINE_FLOATS: usize = 16;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([f32; LINE_FLOATS]);

/// Bytes of a line.
const LINE: usize = size_of::<Line>();

/// Floats aligned to cache lines.
pub struct Buffer(Memory);

enum Memory {
    Lines(Vec<Line>),
    /// A part of what the operating system gave, which no other buffer has: its first byte and its lines.
    Pages {
        map: Arc<MmapRaw>,
        first: usize,
        lines: usize,
    },
}

impl Buffer {
    /// `len` zeros (rounded up to whole lines).
    ///
    /// # Panics
    /// If no memory could hold them.
    pub fn zeroed(len: usize) -> Self {
        Self::zeroed_all(&[len]).swap_remove(0)
    }

    /// Buffers that lie next to each other, so that small ones get onto huge pages too. Their memory is freed when all
    /// of them are dropped.
    ///
    /// # Panics
    /// If no memory could hold them.
    pub fn zeroed_all(lens: &[usize]) -> Vec<Self> {
        // Planes of one size would else begin at equal places of the caches.
        const APART: usize = 9 * LINE;
        // Within what is allowed below, so that nothing wraps.
        let bytes = |len: usize| len.div_ceil(LINE_FLOATS) * LINE;
        let all = lens.iter().try_fold(0usize, |all, &len| {
            all.checked_add(len.div_ceil(LINE_FLOATS).checked_mul(LINE)?)?.checked_add(APART)
        });
        let all = all.filter(|&all| all <= isize::MAX as usize - HUGE);
        let Some(all) = all else { panic!("buffers of {lens:?} floats are more than any memory holds") };
        let Some((map, mut next)) = pages(all) else {
            let lines = |len: usize| vec![Line([0.0; LINE_FLOATS]); len.div_ceil(LINE_FLOATS)];
            return lens.iter().map(|&len| Self(Memory::Lines(lines(len)))).collect();
        };
        let part = |&len: &usize| {
            let first = next;
            next += bytes(len) + APART;
            Self(Memory::Pages { map: Arc::clone(&map), first, lines: len.div_ceil(LINE_FLOATS) })
        };
        lens.iter().map(part).collect()
    }

    /// Grows to at least `len` floats; what was there stays.
    pub fn grow(&mut self, len: usize) {
        if self.len() < len {
            let mut larger = Self::zeroed(len);
            larger[..self.len()].copy_from_slice(self);
            *self = larger;
        }
    }
}

/// A part of one of several buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Number of the buffer.
    pub buffer: usize,
    /// First float.
    pub start: usize,
    /// Floats.
    pub len: usize,
}

impl Part {
    fn overlaps(&self, other: &Self) -> bool {
        let apart = self.start + self.len <= other.start || other.start + other.len <= self.start;
        self.buffer == other.buffer && !apart
    }
}

/// Lends parts of buffers, some to be written and others to be read.
///
/// # Panics
/// If a part does not lie in its buffer, or one to be written overlaps another.
pub fn lend<'a>(buffers: &'a mut [Buffer], written: &[Part], read: &[Part]) -> (Vec<&'a mut [f32]>, Vec<&'a [f32]>) {
    for (i, part) in written.iter().enumerate() {
        let overlapping = written[i + 1..].iter().chain(read).find(|other| part.overlaps(other));
        assert!(overlapping.is_none(), "{part:?} overlaps {overlapping:?}");
    }
    let mut first = |part: &Part| {
        let (first, len) = buffers[part.buffer].place_mut();
        assert!(part.start <= len && part.len <= len - part.start, "{part:?} of {len} floats");
        first.wrapping_add(part.start)
    };
    // SAFETY: the parts lie in their buffers, which are borrowed for 'a; none that is written overlaps another.
    let written = written.iter().map(|part| unsafe { slice::from_raw_parts_mut(first(part), part.len) }).collect();
    // SAFETY: likewise.
    let read = read.iter().map(|part| unsafe { slice::from_raw_parts(first(part).cast_const(), part.len) }).collect();
    (written, read)
}

/// Zeros from the operating system, on huge pages if it can, and where the first page of them begins. `None` if that is
/// not worth while, or there is no such memory.
fn pages(bytes: usize) -> Option<(Arc<MmapRaw>, usize)> {
    if bytes < HUGE || !cfg!(target_os = "linux") || cfg!(miri) {
        return None;
    }
    let map = MmapMut::map_anon(bytes + HUGE).ok()?;
    let first = Some(map.as_ptr().align_offset(HUGE)).filter(|&first| first <= HUGE)?;
    // Whole pages only: a last one of 2 MB for less would waste the rest. Without huge pages it still is memory.
    #[cfg(target_os = "linux")]
    let _ = map.advise_range(memmap2::Advice::HugePage, first, bytes / HUGE * HUGE);
    Some((Arc::new(map.into()), first))
}

impl Buffer {
    /// The first float and how many there are.
    fn place(&self) -> (*const f32, usize) {
        match &self.0 {
            Memory::Lines(lines) => (lines.as_ptr().cast(), lines.len() * LINE_FLOATS),
            Memory::Pages { map, first, lines } => (map.as_ptr().wrapping_add(*first).cast(), lines * LINE_FLOATS),
        }
    }

    /// The same to write.
    fn place_mut(&mut self) -> (*mut f32, usize) {
        match &mut self.0 {
            Memory::Lines(lines) => (lines.as_mut_ptr().cast(), lines.len() * LINE_FLOATS),
            Memory::Pages { map, first, lines } => (map.as_mut_ptr().wrapping_add(*first).cast(), *lines * LINE_FLOATS),
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self(Memory::Lines(Vec::new()))
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let (first, len) = self.place();
        // SAFETY: `Line` is `repr(C)` around `[f32; LINE_FLOATS]` and as large, so the lines are that many floats in a row;
        // `zeroed_all` gave this part of the map, of zeros at first, to this buffer alone.
        unsafe { slice::from_raw_parts(first, len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let (first, len) = self.place_mut();
        // SAFETY: as in `deref`; the exclusive borrow of `self` covers the slice.
        unsafe { slice::from_raw_parts_mut(first, len) }
    }
}

/// Working memory of the kernels: one buffer per thread of the pool, kept from call to call.
pub struct Scratch {
    per_thread: Vec<Mutex<Buffer>>,
    shared: Mutex<Vec<Buffer>>,
}

impl Scratch {
    /// One empty buffer for each thread of the current rayon pool, and one for callers outside it.
    pub fn new() -> Self {
        Self {
            per_thread: (0..=rayon::current_num_threads()).map(|_| Mutex::default()).collect(),
            shared: Mutex::default(),
        }
    }

    /// Runs `f` with at least `len` floats (their values are left over from earlier calls) for `f` to share among threads.
    /// No lock is held meanwhile, so `f` may run parallel work that uses `self`.
    pub fn with_shared<R>(&self, len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
        let free = || self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = free().pop().unwrap_or_default();
        buffer.grow(len);
        let result = f(&mut buffer);
        free().push(buffer);
        result
    }

    /// Runs `f` with at least `len` floats (their values are left over from earlier calls) that no other thread uses. Where
    /// the thread's own are in use, by a call around this one or another thread from outside the pool, with shared ones.
    pub fn with<R>(&self, len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
        let last = self.per_thread.len() - 1;
        let mine = rayon::current_thread_index().map_or(last, |i| i.min(last));
        let mut buffer = match self.per_thread[mine].try_lock() {
            Ok(buffer) => buffer,
            // Whatever a panic left in it are floats.
            Err(TryLockError::Poisoned(left)) => left.into_inner(),
            Err(TryLockError::WouldBlock) => return self.with_shared(len, f),
        };
        buffer.grow(len);
        f(&mut buffer)
    }

    /// Bytes held at the moment.
    pub fn bytes(&self) -> usize {
        let own = self.per_thread.iter().map(|b| b.lock().unwrap_or_else(PoisonError::into_inner).len()).sum::<usize>();
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|b| b.len()).sum::<usize>();
        4 * (own + shared)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_one_piece_do_not_overlap() {
        for large in [0, HUGE / 4] {
            let lens = [5, 0, large, LINE_FLOATS, 3 * LINE_FLOATS + 1];
            let mut buffers = Buffer::zeroed_all(&lens);
            for (i, buffer) in buffers.iter_mut().enumerate() {
                assert!(buffer.iter().all(|&v| v == 0.0) && buffer.as_ptr().cast::<Line>().is_aligned());
                buffer.fill(i as f32);
            }
            let last = buffers.pop();
            for (i, (buffer, len)) in buffers.iter().chain(&last).zip(lens).enumerate() {
                assert!(buffer.len() == len.next_multiple_of(LINE_FLOATS) && buffer.iter().all(|&v| v == i as f32));
            }
        }
    }

    #[test]
    fn parts_are_lent_that_do_not_overlap() {
        let mut buffers = Buffer::zeroed_all(&[64, 32]);
        let part = |buffer, start, len| Part { buffer, start, len };
        let (mut written, read) =
            lend(&mut buffers, &[part(0, 16, 16), part(1, 0, 8)], &[part(0, 0, 16), part(0, 8, 8), part(0, 32, 32)]);
        written.iter_mut().for_each(|part| part.fill(1.0));
        assert!(read.iter().all(|part| part.iter().all(|&v| v == 0.0)));
        assert_eq!([&buffers[0], &buffers[1]].map(|b| b.iter().sum::<f32>()), [16.0, 8.0]);
        for (written, read) in [
            (vec![part(0, 0, 17), part(0, 16, 1)], vec![]),
            (vec![part(1, 4, 4)], vec![part(1, 7, 3)]),
            (vec![part(1, 30, 3)], vec![]),
            (vec![], vec![part(0, 65, 0)]),
        ] {
            let mut buffers = buffers.clone();
            let lent = std::panic::catch_unwind(move || lend(&mut buffers, &written, &read).0.len());
            assert!(lent.is_err());
        }
    }

    #[test]
    fn sizes_that_wrap_are_refused() {
        for lens in
            [&[(1 << 62) + (1 << 20)][..], &[usize::MAX], &[(1 << 62) - 16 * 9 * 2 + (1 << 20), 16], &[1 << 61; 9]]
        {
            let buffers = std::panic::catch_unwind(|| Buffer::zeroed_all(lens).len());
            assert!(buffers.is_err(), "{lens:?}");
        }
    }

    #[test]
    fn scratch_may_be_nested_and_outlives_a_panic() {
        let scratch = Scratch::new();
        scratch.with(16, |outer| {
            outer.fill(1.0);
            scratch.with(32, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|&v| v == 1.0));
        });
        let panic = std::panic::AssertUnwindSafe(|| scratch.with(16, |_| panic!("caught")));
        assert!(std::panic::catch_unwind(panic).is_err());
        assert_eq!(scratch.with(64, |floats| floats.len() % LINE_FLOATS), 0);
    }

    #[test]
    fn buffers_are_aligned_zeros_and_grow() {
        for len in [0, 1, 17, HUGE / 4 - 1, HUGE / 4 + 1, HUGE + 5] {
            let mut buffer = Buffer::zeroed(len);
            assert_eq!(buffer.len(), len.next_multiple_of(LINE_FLOATS));
            assert!(buffer.as_ptr().cast::<Line>().is_aligned() && buffer.iter().all(|&v| v == 0.0));
            buffer.iter_mut().enumerate().for_each(|(i, v)| *v = i as f32);
            let copy = buffer.clone();
            buffer.grow(3 * len);
            assert_eq!(buffer[..copy.len()], copy[..], "{len}");
            assert!(buffer[copy.len()..].iter().all(|&v| v == 0.0));
        }
    }
}
