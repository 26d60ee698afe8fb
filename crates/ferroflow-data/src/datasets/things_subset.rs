//! The subset of FlyingThings3D that FlowNet2 and DispNet train on:
//! `{train,val}/image_{clean,final}/{left,right}/NNNNNNN.png`, `{train,val}/flow/{left,right}/{into_future,into_past}/`
//! of the same names (`.flo`), and `flow_occlusions/` like `flow/`.
//!
//! Frames count through all sequences, with gaps; what has both frames and a flow is a pair.

use super::{
    Access, Dataset, Request, Split,
    listing::{Folder, Found, Listing},
    things::LARGEST,
};
use crate::DataError;

pub(super) const THINGS_SUBSET: Dataset = Dataset {
    name: "things-subset",
    title: "FlyingThings3D subset",
    path: "the folder that holds train and val",
    words: &["train", "val", "test", "clean", "final", "left", "right", "future", "past"],
    marks: &["train/image_clean", "train/image_final", "val/image_clean", "val/image_final"],
    inner: &["FlyingThings3D_subset"],
    access: Access::Listed(list),
};

fn list(request: &Request) -> Result<Listing, DataError> {
    // The set calls val what others call test.
    let part = if matches!(request.split(), None | Some(Split::Train)) { "train" } else { "val" };
    let passes = request.among(&["clean", "final"], &["clean"]);
    let cameras = request.among(&["left", "right"], &["left", "right"]);
    let directions = request.among(&["future", "past"], &["future"]);
    let mut listing = Listing::new(format!(
        "{part}, {} pass, {} camera, into the {}",
        passes.join("+"),
        cameras.join("+"),
        directions.join("+")
    ));
    listing.largest = Some(LARGEST);
    let base = request.root.join(part);
    let mut alone = 0;
    for pass in &passes {
        for camera in &cameras {
            let frames = Folder::read_or_empty(base.join(format!("image_{pass}")).join(camera))?;
            let frames = frames.numbered("", ".png");
            for direction in &directions {
                let forward = *direction == "future";
                let place = format!("{camera}/into_{direction}");
                let flows = Folder::read_or_empty(base.join("flow").join(&place))?;
                let flows = flows.numbered("", ".flo");
                let masks = Folder::read_or_empty(base.join("flow_occlusions").join(&place))?;
                for &k in &flows.numbers {
                    let next = if forward { k.checked_add(1) } else { k.checked_sub(1) };
                    let Some(next) = next.filter(|n| frames.numbers.contains(n)) else {
                        alone += 1;
                        continue;
                    };
                    let mask = Some(masks.find(&format!("{k:07}.png"))).filter(|m| matches!(m, Found::There(_)));
                    let id = format!("{pass}/{camera}/{direction}/{k:07}");
                    listing.add(id, [frames.find(k), frames.find(next)], Some(flows.find(k)), [mask, None]);
                }
            }
        }
    }
    if alone > 0 {
        listing.notes.push(format!("{alone} flows lead to a frame that is not in the set (ends of sequences)"));
    }
    Ok(listing)
}
