//! Memory of the kernels: aligned, and on huge pages where it is large.

use std::{
    ops::{Deref, DerefMut},
    slice,
    sync::{Arc, Mutex, PoisonError},
};

use memmap2::{MmapMut, MmapRaw};

use crate::LANES;

/// From this size on a buffer is asked to lie on pages of this size: a network that walks through hundreds of megabytes
/// of weights otherwise waits for addresses to be translated.
const HUGE: usize = 2 << 20;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([f32; LANES]);

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
    pub fn zeroed(len: usize) -> Self {
        Self::zeroed_all(&[len]).swap_remove(0)
    }

    /// Buffers that lie next to each other, so that small ones get onto huge pages too. Their memory is freed when all
    /// of them are dropped.
    pub fn zeroed_all(lens: &[usize]) -> Vec<Self> {
        // Planes of one size would else begin at equal places of the caches.
        const APART: usize = 9 * LINE;
        let bytes = |len: usize| len.div_ceil(LANES) * LINE;
        let Some((map, mut next)) = pages(lens.iter().map(|&len| bytes(len) + APART).sum()) else {
            let lines = |len: usize| vec![Line([0.0; LANES]); len.div_ceil(LANES)];
            return lens.iter().map(|&len| Self(Memory::Lines(lines(len)))).collect();
        };
        let part = |&len: &usize| {
            let first = next;
            next += bytes(len) + APART;
            Self(Memory::Pages { map: Arc::clone(&map), first, lines: len.div_ceil(LANES) })
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

/// Zeros from the operating system, on huge pages if it can, and where the first page of them begins. `None` if that is
/// not worth while, or there is no such memory.
fn pages(bytes: usize) -> Option<(Arc<MmapRaw>, usize)> {
    if bytes < HUGE || !cfg!(target_os = "linux") {
        return None;
    }
    let map = MmapMut::map_anon(bytes + HUGE).ok()?;
    let first = Some(map.as_ptr().align_offset(HUGE)).filter(|&first| first <= HUGE)?;
    // Whole pages only: a last one of 2 MB for less would waste the rest. Without huge pages it still is memory.
    #[cfg(target_os = "linux")]
    let _ = map.advise_range(memmap2::Advice::HugePage, first, bytes / HUGE * HUGE);
    Some((Arc::new(map.into()), first))
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
        let (start, lines) = match &self.0 {
            Memory::Lines(lines) => (lines.as_ptr(), lines.len()),
            Memory::Pages { map, first, lines } => (map.as_ptr().wrapping_add(*first).cast(), *lines),
        };
        // SAFETY: `Line` is `repr(C)` around `[f32; LANES]` and as large, so the lines are that many floats in a row;
        // `zeroed_all` gave this part of the map, of zeros at first, to this buffer alone.
        unsafe { slice::from_raw_parts(start.cast(), lines * LANES) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let (start, lines) = match &mut self.0 {
            Memory::Lines(lines) => (lines.as_mut_ptr(), lines.len()),
            Memory::Pages { map, first, lines } => (map.as_mut_ptr().wrapping_add(*first).cast(), *lines),
        };
        // SAFETY: as in `deref`; the exclusive borrow of `self` covers the slice.
        unsafe { slice::from_raw_parts_mut(start.cast(), lines * LANES) }
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

    /// Runs `f` with at least `len` floats (their values are left over from earlier calls) that no other thread uses.
    /// Not to be nested.
    pub fn with<R>(&self, len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
        let last = self.per_thread.len() - 1;
        let mine = rayon::current_thread_index().map_or(last, |i| i.min(last));
        let mut buffer = self.per_thread[mine].lock().unwrap_or_else(PoisonError::into_inner);
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
            let lens = [5, 0, large, LANES, 3 * LANES + 1];
            let mut buffers = Buffer::zeroed_all(&lens);
            for (i, buffer) in buffers.iter_mut().enumerate() {
                assert!(buffer.iter().all(|&v| v == 0.0) && buffer.as_ptr().cast::<Line>().is_aligned());
                buffer.fill(i as f32);
            }
            let last = buffers.pop();
            for (i, (buffer, len)) in buffers.iter().chain(&last).zip(lens).enumerate() {
                assert!(buffer.len() == len.next_multiple_of(LANES) && buffer.iter().all(|&v| v == i as f32));
            }
        }
    }

    #[test]
    fn buffers_are_aligned_zeros_and_grow() {
        for len in [0, 1, 17, HUGE / 4 - 1, HUGE / 4 + 1, HUGE + 5] {
            let mut buffer = Buffer::zeroed(len);
            assert_eq!(buffer.len(), len.next_multiple_of(LANES));
            assert!(buffer.as_ptr().cast::<Line>().is_aligned() && buffer.iter().all(|&v| v == 0.0));
            buffer.iter_mut().enumerate().for_each(|(i, v)| *v = i as f32);
            let copy = buffer.clone();
            buffer.grow(3 * len);
            assert_eq!(buffer[..copy.len()], copy[..], "{len}");
            assert!(buffer[copy.len()..].iter().all(|&v| v == 0.0));
        }
    }
}
