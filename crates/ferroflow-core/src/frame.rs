//! One image of a sequence.

use rayon::prelude::*;

use crate::{Size, SizeError, check_len};

/// An RGB image of 8 bits a channel, rows top to bottom, `[height, width, 3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    size: Size,
    rgb: Vec<u8>,
}

impl Frame {
    /// A frame from interleaved RGB bytes, `[height, width, 3]`.
    pub fn new(size: Size, rgb: Vec<u8>) -> Result<Self, SizeError> {
        check_len("RGB frame", size.height.saturating_mul(size.width).saturating_mul(3), rgb.len())?;
        Ok(Self { size, rgb })
    }

    /// A black frame.
    pub fn black(size: Size) -> Self {
        Self { size, rgb: vec![0; size.pixels() * 3] }
    }

    /// A frame computed pixel by pixel from `f(x, y)`.
    pub fn from_fn(size: Size, mut f: impl FnMut(usize, usize) -> [u8; 3]) -> Self {
        let mut rgb = Vec::with_capacity(size.pixels() * 3);
        for y in 0..size.height {
            for x in 0..size.width {
                rgb.extend_from_slice(&f(x, y));
            }
        }
        Self { size, rgb }
    }

    /// As [`Frame::from_fn`], but computes rows in parallel.
    pub fn par_from_fn(size: Size, f: impl Fn(usize, usize) -> [u8; 3] + Sync) -> Self {
        let mut rgb = vec![0; size.pixels() * 3];
        rgb.par_chunks_exact_mut((size.width * 3).max(1)).enumerate().for_each(|(y, row)| {
            for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                *pixel = f(x, y);
            }
        });
        Self { size, rgb }
    }

    /// Height and width in pixels.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.size.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.size.height
    }

    /// The bytes, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The bytes, to change in place.
    pub fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }

    /// The bytes, `[height, width, 3]`, without a copy.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// The three channels of one pixel.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.size.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }
}
