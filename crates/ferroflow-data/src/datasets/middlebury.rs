//! Middlebury flow (Baker et al., IJCV 2011): `other-data/SEQUENCE/frame10.png`, `frame11.png` and
//! `other-gt-flow/SEQUENCE/flow10.flo`; `eval-data` has no ground truth. Also all three files in one folder a sequence.

use super::{
    Access, Dataset, Request, Split,
    listing::{Folder, Listing},
};
use crate::DataError;

pub(super) const MIDDLEBURY: Dataset = Dataset {
    name: "middlebury",
    title: "Middlebury optical flow",
    path: "the folder that holds other-data and other-gt-flow",
    words: &["train", "test"],
    marks: &["other-data", "eval-data", "*/flow10.flo"],
    inner: &[],
    access: Access::Listed(list),
};

fn list(request: &Request) -> Result<Listing, DataError> {
    let train = request.split() != Some(Split::Test);
    let apart = request.root.join(if train { "other-data" } else { "eval-data" });
    let together = train && !apart.is_dir();
    let (images, truths) = if together {
        (request.root.clone(), request.root.clone())
    } else {
        (apart, request.root.join("other-gt-flow"))
    };
    let mut listing = Listing::new(match (train, together) {
        (true, true) => "one folder a sequence",
        (true, false) => "other-data, other-gt-flow",
        (false, _) => "eval-data, no ground truth",
    });
    listing.expected = train.then_some(8);
    let mut without = Vec::new();
    for sequence in Folder::read(&images)?.folders() {
        let frames = Folder::read(images.join(sequence))?;
        let truth = Folder::read_or_empty(truths.join(sequence))?;
        // Four of the public sequences never had ground truth.
        if train && !truth.has("flow10.flo") {
            without.push(sequence.to_string());
            continue;
        }
        let pair = ["frame10.png", "frame11.png"].map(|name| frames.find(name));
        listing.add(sequence.into(), pair, train.then(|| truth.find("flow10.flo")), [None, None]);
    }
    if !without.is_empty() {
        listing.notes.push(format!("without ground truth, left out: {}", without.join(", ")));
    }
    Ok(listing)
}
