//! Spring (Mehl et al., CVPR 2023): `{train,test}/NNNN/frame_{left,right}/frame_{left,right}_NNNN.png` and
//! `flow_{FW,BW}_{left,right}/flow_{FW,BW}_{left,right}_NNNN.flo5`.
//!
//! Its ground truth has twice the frames' resolution and is in pixels of the frames; see [`ferroflow_core::io::FlowFormat::Flo5`].

use super::{
    Access, Dataset, Request, Split,
    listing::{Folder, Listing},
};
use crate::DataError;

pub(super) const SPRING: Dataset = Dataset {
    name: "spring",
    title: "Spring",
    path: "the folder that holds train and test",
    words: &["train", "test", "left", "right", "future", "past"],
    marks: &["train/*/frame_left", "test/*/frame_left"],
    inner: &["spring"],
    access: Access::Listed(list),
};

/// Pairs of one camera and direction: 5000 frames in 37 scenes, 1000 in 10 for testing.
const PAIRS: [usize; 2] = [5000 - 37, 1000 - 10];

fn list(request: &Request) -> Result<Listing, DataError> {
    let train = request.split() != Some(Split::Test);
    let part = if train { "train" } else { "test" };
    let cameras = request.among(&["left", "right"], &["left"]);
    let directions = request.among(&["future", "past"], &["future"]);
    let mut listing = Listing::new(format!("{part}, {} camera, into the {}", cameras.join("+"), directions.join("+")));
    listing.expected = Some(PAIRS[usize::from(!train)] * cameras.len() * directions.len());
    let base = request.root.join(part);
    for scene in Folder::read(&base)?.folders() {
        for camera in &cameras {
            let frames = Folder::read_or_empty(base.join(scene).join(format!("frame_{camera}")))?;
            let frames = frames.numbered(&format!("frame_{camera}_"), ".png");
            for direction in &directions {
                let forward = *direction == "future";
                let name = format!("flow_{}_{camera}", if forward { "FW" } else { "BW" });
                let folder = Folder::read_or_empty(base.join(scene).join(&name))?;
                let truth = folder.numbered(&format!("{name}_"), ".flo5");
                for (k, next) in frames.neighbours(train.then_some(&truth), forward) {
                    let id = format!("{scene}/{camera}/{direction}/{k:04}");
                    listing.add(id, [frames.find(k), frames.find(next)], train.then(|| truth.find(k)), [None, None]);
                }
            }
        }
    }
    Ok(listing)
}
