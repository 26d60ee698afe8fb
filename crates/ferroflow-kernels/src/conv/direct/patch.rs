//! The input of a strip, copied with zeros where the windows leave the image.

use super::runs::Pitch;
use crate::{Extent, LANES, simd::Simd};

/// What a strip's windows span.
pub struct Patch<'a> {
    pub image: Extent,
    pub n: usize,
    /// First row and column; negative above and left of the image.
    pub top: isize,
    pub left: isize,
    pub rows: usize,
    pub columns: usize,
    pub pitch: Pitch,
    /// Lanes in use of each block, and whether only those are copied, side by side.
    pub used: &'a [usize],
    pub packed: Option<usize>,
    /// Floats from pixel to pixel of the input.
    pub source: usize,
}

impl Patch<'_> {
    /// The first pixel's place in the input blocks if no window leaves the image.
    pub fn in_place(&self) -> Option<usize> {
        let (top, left) = (usize::try_from(self.top).ok()?, usize::try_from(self.left).ok()?);
        let inside = top + self.rows <= self.image.h && left + self.columns <= self.image.w;
        let same = self.packed.is_none_or(|pixel| pixel == self.source);
        (inside && same).then_some(((self.n * self.image.h + top) * self.image.w + left) * self.source)
    }

    /// Copies the span.
    #[inline(always)]
    pub fn copy<S: Simd>(&self, input: &[&[f32]], patch: &mut [f32]) {
        // Columns of the patch: zeros, then the image's, then zeros.
        let begin = (-self.left).clamp(0, self.columns as isize) as usize;
        let end = (self.image.w as isize - self.left).clamp(begin as isize, self.columns as isize) as usize;
        for row in 0..self.rows {
            let y = self.top + row as isize;
            let inside = (0..self.image.h as isize).contains(&y) && begin < end;
            let (begin, end) = if inside { (begin, end) } else { (self.columns, self.columns) };
            let from = if inside {
                ((self.n * self.image.h + y as usize) * self.image.w + (self.left + begin as isize) as usize)
                    * self.source
            } else {
                0
            };
            let count = end - begin;
            match self.packed {
                None => {
                    for (plane, input) in input.iter().enumerate().filter(|(p, _)| self.used[*p] > 0) {
                        let at = plane * self.pitch.patch_plane + row * self.pitch.patch * LANES;
                        let to = &mut patch[at..][..self.columns * LANES];
                        to[..begin * LANES].fill(0.0);
                        to[begin * LANES..end * LANES].copy_from_slice(&input[from..][..count * LANES]);
                        to[end * LANES..].fill(0.0);
                    }
                }
                Some(pixel) if pixel == self.source => {
                    let to = &mut patch[row * self.pitch.patch * pixel..][..self.columns * pixel];
                    to[..begin * pixel].fill(0.0);
                    to[begin * pixel..end * pixel].copy_from_slice(&input[0][from..][..count * pixel]);
                    to[end * pixel..].fill(0.0);
                }
                Some(pixel) => {
                    let to = &mut patch[row * self.pitch.patch * pixel..][..self.columns * pixel + LANES];
                    to[..begin * pixel].fill(0.0);
                    // Whole vectors: the surplus of each is overwritten by the next.
                    for x in 0..count {
                        let mut at = (begin + x) * pixel;
                        for (input, &used) in input.iter().zip(self.used).filter(|(_, used)| **used > 0) {
                            let (from, to) = (&input[from + x * LANES..][..LANES], &mut to[at..][..LANES]);
                            S::write(to, S::read(from));
                            at += used;
                        }
                    }
                    to[end * pixel..].fill(0.0);
                }
            }
        }
    }
}
