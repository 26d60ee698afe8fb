//! The subset of FlyingThings3D that FlowNet2 and DispNet train on:
//! `{train,val}/image_{clean,final}/{left,right}/NNNNNNN.png` (or `.webp`), `{train,val}/flow/{left,right}/{into_future,into_past}/`
//! of the same names (`.flo`), and `flow_occlusions/` like `flow/`.
//!
//! Frames are numbered through all videos without a break, although frames that its authors found too hard are left out. So frame
//! k + 1 may belong to another video than frame k, and the flow of k then leads to a frame that is not there. The flow of the other
//! direction shows it: the first frame of a video has no flow into the past, and the last has none into the future. Hence two
//! frames are a pair if the first has a flow and the second has a flow back. Without the flows back, a frame that has no flow
//! although the next frame is there begins or ends a video; as nothing says which, the flow that leads to it is left out.

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
    let (mut alone, mut apart, mut unsure) = (0, 0, 0);
    for pass in &passes {
        for camera in &cameras {
            let frames = Folder::read_or_empty(base.join(format!("image_{pass}")).join(camera))?;
            let frames = frames.frames();
            for direction in &directions {
                let forward = *direction == "future";
                let place = format!("{camera}/into_{direction}");
                let flows = Folder::read_or_empty(base.join("flow").join(&place))?;
                let flows = flows.numbered("", ".flo");
                let masks = Folder::read_or_empty(base.join("flow_occlusions").join(&place))?;
                let other = if forward { "past" } else { "future" };
                let back = base.join("flow").join(format!("{camera}/into_{other}"));
                let there_is_back = back.is_dir();
                let back = Folder::read_or_empty(back)?;
                let back = back.numbered("", ".flo");
                let after = |k: u32| if forward { k.checked_add(1) } else { k.checked_sub(1) };
                let has = |frame: Option<u32>| frame.is_some_and(|k| frames.numbers.contains(&k));
                for &k in &flows.numbers {
                    let Some(next) = after(k).filter(|&n| has(Some(n))) else {
                        alone += 1;
                        continue;
                    };
                    let another = if there_is_back {
                        !back.numbers.contains(&next)
                    } else {
                        !flows.numbers.contains(&next) && has(after(next))
                    };
                    if another {
                        *(if there_is_back { &mut apart } else { &mut unsure }) += 1;
                        continue;
                    }
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
    if apart > 0 {
        listing.notes.push(format!("{apart} flows lead to a frame of another video (the second has no flow back)"));
    }
    if unsure > 0 {
        listing.notes.push(format!(
            "{unsure} flows left out that may lead to a frame of another video; with both of into_future and into_past it can be told"
        ));
    }
    Ok(listing)
}
