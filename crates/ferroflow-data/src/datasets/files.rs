//! Reads the pairs of a listing.

use std::path::PathBuf;

use ferroflow_core::{
    FlowField, Mask,
    io::{read_flow, read_frame, read_mask},
};

use super::listing::{Listing, PairFiles};
use crate::{DataError, Sample, Source};

/// A data set whose pairs are files.
#[derive(Clone, Debug)]
pub struct FilePairs {
    name: String,
    listing: Listing,
}

impl FilePairs {
    /// The data set of a complete listing.
    ///
    /// # Errors
    /// If files are missing, because training or scores on a part of a data set must not pass for the whole.
    pub fn new(name: String, listing: Listing) -> Result<Self, DataError> {
        match listing.missing.first() {
            Some(first) => Err(DataError::Missing { name, count: listing.missing.len(), first: first.clone() }),
            None => Ok(Self { name, listing }),
        }
    }

    /// The files of every pair.
    pub fn pairs(&self) -> &[PairFiles] {
        &self.listing.pairs
    }
}

impl Source for FilePairs {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn len(&self) -> Option<usize> {
        Some(self.listing.pairs.len())
    }

    fn files(&self) -> Vec<PathBuf> {
        let pairs = self.listing.pairs.iter();
        let files = pairs.flat_map(|p| {
            [&p.truth, &p.occlusion, &p.visible, &p.invalid, &p.objects]
                .into_iter()
                .flatten()
                .chain([&p.first, &p.second])
        });
        files.chain(&self.listing.lists).cloned().collect()
    }

    fn remarks(&self) -> Vec<String> {
        self.listing.split.clone()
    }

    fn known_by(&self, index: usize) -> Vec<PathBuf> {
        let pair = self.listing.pairs.get(index);
        pair.map_or_else(Vec::new, |pair| std::iter::once(&pair.first).chain(&pair.truth).cloned().collect())
    }

    fn foreground(&self, index: usize) -> Result<Option<Mask>, DataError> {
        let Some(path) = self.listing.pairs.get(index).and_then(|pair| pair.objects.as_ref()) else { return Ok(None) };
        let map = read_frame(path)?;
        Ok(Some(Mask::from_fn(map.size(), |x, y| map.pixel(x, y) != [0; 3])))
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let pairs = &self.listing.pairs;
        let files =
            pairs.get(index).ok_or_else(|| DataError::Index { name: self.name.clone(), len: pairs.len(), index })?;
        read_pair(files, self.listing.largest, self.listing.flipped)
    }
}

/// Reads the files of one pair; ground truth with a component beyond `largest` px is unknown, and its rows are turned
/// round if `flipped`.
pub(crate) fn read_pair(files: &PairFiles, largest: Option<f32>, flipped: bool) -> Result<Sample, DataError> {
    let first = read_frame(&files.first)?;
    let expected = first.size();
    let same = |part, found| {
        if found == expected { Ok(()) } else { Err(DataError::Sizes { id: files.id.clone(), part, expected, found }) }
    };
    let mask = |part, path: &Option<_>| {
        let Some(path) = path else { return Ok(None) };
        let mask = read_mask(path)?;
        same(part, mask.size())?;
        Ok::<_, DataError>(Some(mask))
    };
    let second = read_frame(&files.second)?;
    same("second frame", second.size())?;
    let mut flow = files.truth.as_deref().map(read_flow).transpose()?;
    if let Some(truth) = &flow {
        same("ground truth", truth.size())?;
    }
    if flipped {
        flow = flow.map(|f| FlowField::sparse_from_fn(f.size(), |x, y| f.known(x, f.height() - 1 - y)));
    }
    if let Some(largest) = largest {
        flow = flow.map(|f| only_where(f, |u, v, _| u.abs() < largest && v.abs() < largest));
    }
    if let Some(invalid) = mask("mask of invalid pixels", &files.invalid)? {
        flow = flow.map(|f| only_where(f, |_, _, at| !invalid.data()[at]));
    }
    let mut occlusion = mask("mask of occlusions", &files.occlusion)?;
    if let (Some(path), Some(truth)) = (&files.visible, &flow) {
        let visible = read_flow(path)?;
        same("ground truth of visible pixels", visible.size())?;
        occlusion = Some(Mask::from_fn(expected, |x, y| truth.is_valid(x, y) && !visible.is_valid(x, y)));
    }
    Ok(Sample { first, second, flow, occlusion, original: None, surround: None, id: files.id.clone() })
}

/// Declares unknown what `keep(u, v, index)` rejects.
fn only_where(flow: FlowField, keep: impl Fn(f32, f32, usize) -> bool) -> FlowField {
    let size = flow.size();
    let at = |x, y| y * size.width + x;
    let valid = Mask::from_fn(size, |x, y| flow.known(x, y).is_some_and(|(u, v)| keep(u, v, at(x, y))));
    if valid.data().iter().all(|&known| known) {
        return flow;
    }
    FlowField::sparse_from_fn(size, |x, y| valid.get(x, y).then(|| flow.get(x, y)))
}
