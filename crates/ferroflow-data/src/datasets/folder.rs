//! A folder of images as successive pairs, without ground truth.

use super::{
    Access, Dataset, Request,
    listing::{Listing, PairFiles},
};
use crate::{
    DataError,
    sequence::{SequenceError, gaps, image_files},
};

pub(super) const FOLDER: Dataset = Dataset {
    name: "folder",
    title: "folder of frames",
    path: "a folder of images",
    words: &[],
    marks: &[],
    inner: &[],
    access: Access::Listed(list),
};

fn list(request: &Request) -> Result<Listing, DataError> {
    let files = image_files(&request.root)?;
    if files.is_empty() {
        return Err(SequenceError::Empty { path: request.root.clone() }.into());
    }
    let mut listing = Listing::new(format!("{} frames, no ground truth", files.len()));
    listing.notes.extend(gaps(&files).iter().map(ToString::to_string));
    listing.pairs = files
        .windows(2)
        .map(|pair| PairFiles {
            // With the extension: two files may differ in it alone.
            id: pair[0].file_name().unwrap_or_default().to_string_lossy().into_owned(),
            first: pair[0].clone(),
            second: pair[1].clone(),
            ..PairFiles::default()
        })
        .collect();
    Ok(listing)
}
