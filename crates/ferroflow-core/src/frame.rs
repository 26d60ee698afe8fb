//! One image of a sequence.

use rayon::prelude::*;

use crate::{Size, SizeError, check_len};

/// An RGB image of 8 bits a channel, rows top to bottom, `[height, width, 3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Frame {
    /// A frame from interleaved RGB bytes, `[height, width, 3]`.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, SizeError> {
        check_len("RGB frame", width.saturating_mul(height).saturating_mul(3), rgb.len())?;
        Ok(Self { width, height, rgb })
    }

    /// A black frame.
    pub fn black(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![0; width * height * 3] }
    }

    /// A frame computed pixel by pixel from `f(x, y)`.
    pub fn from_fn(width: usize, height: usize, mut f: impl FnMut(usize, usize) -> [u8; 3]) -> Self {
        let mut rgb = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                rgb.extend_from_slice(&f(x, y));
            }
        }
        Self { width, height, rgb }
    }

    /// As [`Frame::from_fn`], rows in parallel.
    pub fn par_from_fn(width: usize, height: usize, f: impl Fn(usize, usize) -> [u8; 3] + Sync) -> Self {
        let mut rgb = vec![0; width * height * 3];
        rgb.par_chunks_exact_mut((width * 3).max(1)).enumerate().for_each(|(y, row)| {
            for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                *pixel = f(x, y);
            }
        });
        Self { width, height, rgb }
    }

    /// Height and width in pixels.
    pub fn size(&self) -> Size {
        Size { height: self.height, width: self.width }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The bytes, to change in place.
    pub fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }

    /// The three channels of one pixel.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }
}
