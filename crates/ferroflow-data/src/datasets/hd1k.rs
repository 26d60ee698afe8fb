//! HD1K (Kondermann et al., CVPRW 2016): `hd1k_input/image_2/SSSSSS_NNNN.png` and `hd1k_flow_gt/flow_occ/` of the same
//! names, in KITTI's 16-bit PNG; `hd1k_challenge/image_2` has no ground truth.

use std::collections::BTreeSet;

use super::{
    Access, Dataset, Request, Split,
    listing::{Folder, Listing},
};
use crate::DataError;

pub(super) const HD1K: Dataset = Dataset {
    name: "hd1k",
    title: "HD1K",
    path: "the folder that holds hd1k_input and hd1k_flow_gt",
    words: &["train", "test"],
    marks: &["hd1k_input", "hd1k_challenge"],
    inner: &[],
    access: Access::Listed(list),
};

fn list(request: &Request) -> Result<Listing, DataError> {
    let train = request.split() != Some(Split::Test);
    let images = Folder::read(request.root.join(if train { "hd1k_input" } else { "hd1k_challenge" }).join("image_2"))?;
    let flows = Folder::read_or_empty(request.root.join("hd1k_flow_gt/flow_occ"))?;
    let mut listing = Listing::new(if train { "training" } else { "challenge, no ground truth" });
    // 1083 frames of 36 sequences; the last frame of each leads nowhere.
    listing.expected = train.then_some(1047);
    let sequences: BTreeSet<&str> = images.files().filter_map(|name| Some(name.split_once('_')?.0)).collect();
    for sequence in sequences {
        let prefix = format!("{sequence}_");
        let (frames, truth) = (images.numbered(&prefix, ".png"), flows.numbered(&prefix, ".png"));
        for (k, next) in frames.neighbours(train.then_some(&truth), true) {
            let id = format!("{sequence}_{k:04}");
            listing.add(id, [frames.find(k), frames.find(next)], train.then(|| truth.find(k)), [None, None]);
        }
    }
    Ok(listing)
}
