//! The frames of a video in memory: as they are while they are few, compressed without loss when there are more, and only part of
//! them, evenly spread, where even these do not fit.

use std::collections::BTreeMap;

use ferroflow_core::{
    Frame,
    io::{FormatError, frame},
};
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};

/// Frames by number.
pub(super) struct Store {
    pictures: BTreeMap<usize, Picture>,
    /// Bytes at most, and of those there are.
    budget: u64,
    bytes: u64,
    /// Frames of a block. A block is kept or dropped as a whole, so that its frames have their neighbours.
    block: usize,
    /// One block in this many is kept.
    stride: usize,
    compressed: bool,
}

enum Picture {
    Raw(Frame),
    Png(Vec<u8>),
}

impl Picture {
    fn bytes(&self) -> u64 {
        match self {
            Self::Raw(frame) => frame.rgb().len() as u64,
            Self::Png(bytes) => bytes.len() as u64,
        }
    }

    fn compress(&mut self) -> Result<(), FormatError> {
        if let Self::Raw(frame) = self {
            *self = Self::Png(frame::encode(frame, image::ImageFormat::Png)?);
        }
        Ok(())
    }
}

impl Store {
    /// Takes at most `budget` bytes; where not all fit, whole blocks are left out.
    pub fn new(budget: u64, block: usize) -> Self {
        Self { pictures: BTreeMap::new(), budget, bytes: 0, block, stride: 1, compressed: false }
    }

    /// Keeps the frame of a number, higher than all before, or not; `false` if there is no room for even one block.
    ///
    /// # Errors
    /// If it cannot be compressed.
    pub fn push(&mut self, number: usize, frame: &Frame) -> Result<bool, FormatError> {
        if !self.wants(number) {
            return Ok(true);
        }
        let mut picture = Picture::Raw(frame.clone());
        // Compressing all needs room for both at its end.
        if !self.compressed && self.bytes + picture.bytes() > self.budget / 2 {
            self.compressed = true;
            self.pictures.par_iter_mut().try_for_each(|(_, picture)| picture.compress())?;
            self.bytes = self.pictures.values().map(Picture::bytes).sum();
        }
        if self.compressed {
            picture.compress()?;
        }
        self.bytes += picture.bytes();
        self.pictures.insert(number, picture);
        while self.bytes > self.budget {
            if number < self.block {
                return Ok(false);
            }
            self.stride *= 2;
            let (block, stride) = (self.block, self.stride);
            self.retain(|number| (number / block).is_multiple_of(stride));
        }
        Ok(true)
    }

    fn wants(&self, number: usize) -> bool {
        (number / self.block).is_multiple_of(self.stride)
    }

    /// Drops the frames that are not `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(usize) -> bool) {
        self.pictures.retain(|&number, _| wanted(number));
        self.bytes = self.pictures.values().map(Picture::bytes).sum();
    }

    pub fn holds(&self, number: usize) -> bool {
        self.pictures.contains_key(&number)
    }

    /// How many blocks there were for each one that is kept.
    pub fn stride(&self) -> usize {
        self.stride
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The frame of a number, if it is kept.
    ///
    /// # Errors
    /// If it cannot be decompressed.
    pub fn get(&self, number: usize) -> Result<Option<Frame>, FormatError> {
        match self.pictures.get(&number) {
            Some(Picture::Raw(frame)) => Ok(Some(frame.clone())),
            Some(Picture::Png(bytes)) => frame::decode(bytes).map(Some),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use ferroflow_core::Size;

    use super::*;

    fn frame(number: usize) -> Frame {
        Frame::from_fn(Size::new(16, 32), |x, y| [(number + x * y) as u8, (x * 7) as u8, y as u8])
    }

    #[test]
    fn what_does_not_fit_is_thinned_by_blocks_and_the_rest_is_exact() {
        let size = frame(0).rgb().len() as u64;
        // All fits; all fits compressed; part fits.
        for (budget, compressed, thinned) in
            [(100 * size, false, false), (30 * size, true, false), (3 * size, true, true)]
        {
            let mut store = Store::new(budget, 3);
            for number in 0..40usize {
                assert!(store.push(number, &frame(number)).unwrap());
                assert!(store.bytes() <= budget);
            }
            assert_eq!((store.compressed, store.stride() > 1), (compressed, thinned), "{budget}");
            for number in 0..40usize {
                let kept = (number / 3).is_multiple_of(store.stride());
                assert_eq!(store.get(number).unwrap(), kept.then(|| frame(number)));
                assert_eq!(store.holds(number), kept);
            }
        }
        assert!(!Store::new(10, 3).push(0, &frame(0)).unwrap());
    }
}
