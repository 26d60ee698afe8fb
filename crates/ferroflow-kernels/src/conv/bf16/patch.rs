//! The input of a strip in bf16, with zeros where the windows leave the image.

use super::order::{Layout, Pitch};
use crate::{
    Extent, LANES,
    bf16::{DEPTH, round},
    simd::{Kernel, Simd},
};

/// What a strip's windows span.
#[derive(Clone, Copy)]
pub struct Span {
    pub image: Extent,
    pub n: usize,
    /// First row and column; negative above and left of the image.
    pub top: isize,
    pub left: isize,
    /// Pixels of the image from one to the next of the copy, both ways.
    pub every: usize,
    pub rows: usize,
}

/// Copies a group of channels. Rows of the copy are always full: a step may read past its window, into what weights of
/// zero take, which must be finite.
pub struct Copy<'a> {
    pub span: Span,
    pub layout: &'a Layout,
    pub pitch: Pitch,
    /// The group's one or two blocks.
    pub planes: [Option<&'a [f32]>; 2],
    /// From the group's place on.
    pub patch: &'a mut [u16],
}

impl Kernel for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { span, layout, pitch, planes, patch } = self;
        let Layout { source, pixel, .. } = *layout;
        // Columns of the patch: zeros, then the image's, then zeros.
        let until = |x: usize| (x as isize - span.left).max(0) as usize;
        let [begin, end] = [0, span.image.w].map(|x| until(x).div_ceil(span.every).min(pitch.row));
        for row in 0..span.rows {
            let to = &mut patch[row * pitch.row * pixel..][..pitch.row * pixel];
            let y = span.top + (row * span.every) as isize;
            if !(0..span.image.h as isize).contains(&y) || begin == end {
                to.fill(0);
                continue;
            }
            to[..begin * pixel].fill(0);
            to[end * pixel..].fill(0);
            let to = &mut to[begin * pixel..end * pixel];
            let x = (span.left + (begin * span.every) as isize) as usize;
            let first = ((span.n * span.image.h + y as usize) * span.image.w + x) * source;
            let len = ((end - begin - 1) * span.every + 1) * source;
            let [a, b] = planes.map(|plane| plane.map_or(&[][..], |plane| &plane[first..][..len]));
            if pixel == source && span.every == 1 {
                to.iter_mut().zip(a).for_each(|(to, &x)| *to = round(x));
                continue;
            }
            let (mut a, mut b) = (a.chunks(span.every * source), b.chunks(span.every * source));
            for to in to.chunks_exact_mut(pixel) {
                let (first, second) = to.split_at_mut(source);
                copy(a.next(), first);
                copy(b.next(), second);
            }
        }
        if pixel != DEPTH {
            patch[span.rows * pitch.row * pixel..][..DEPTH].fill(0);
        }
    }
}

/// As many numbers as `to` takes; zeros from no block.
#[inline(always)]
fn copy(from: Option<&[f32]>, to: &mut [u16]) {
    match (from, <&mut [u16; LANES]>::try_from(&mut *to)) {
        (Some(from), Ok(to)) => to.iter_mut().zip(&from[..LANES]).for_each(|(to, &x)| *to = round(x)),
        (Some(from), Err(_)) => to.iter_mut().zip(from).for_each(|(to, &x)| *to = round(x)),
        (None, _) => to.fill(0),
    }
}
