//! A data set of which only the centre of each pair is seen.

use std::{path::PathBuf, sync::Arc};

use ferroflow_core::Size;

use crate::{
    DataError, Sample, Source,
    augment::{Augment, Center},
    random::Random,
};

/// The centres of the pairs of a source.
pub struct Cropped {
    source: Arc<dyn Source>,
    size: Size,
    only: Option<usize>,
}

impl Cropped {
    /// The centres, of this size. With `only`, pairs whose sides are not all multiples of that stay whole.
    pub fn new(source: Arc<dyn Source>, size: Size, only: Option<usize>) -> Self {
        Self { source, size, only }
    }
}

impl Source for Cropped {
    fn name(&self) -> String {
        self.source.name()
    }

    fn len(&self) -> Option<usize> {
        self.source.len()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.source.files()
    }

    fn remarks(&self) -> Vec<String> {
        self.source.remarks()
    }

    fn known_by(&self, index: usize) -> Vec<PathBuf> {
        self.source.known_by(index)
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let sample = self.source.get(index)?;
        let Size { height, width } = sample.first.size();
        if self.only.is_some_and(|side| !height.is_multiple_of(side) || !width.is_multiple_of(side)) {
            return Ok(sample);
        }
        Center(self.size).apply(sample, &mut Random::new(0, &[]), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_cut_unless_their_sides_are_odd() {
        let source: Arc<dyn Source> =
            Arc::from("synth:chairs@size=12x16,count=1".parse::<crate::Spec>().unwrap().open().unwrap());
        let size = |only| Cropped::new(source.clone(), Size::new(4, 8), only).get(0).unwrap().first.size();
        assert_eq!([None, Some(4), Some(8)].map(size), [Size::new(4, 8), Size::new(4, 8), Size::new(12, 16)]);
    }
}
