//! FlyingThings3D (Mayer et al., CVPR 2016), the full set:
//! `frames_{clean,final}pass/{TRAIN,TEST}/{A,B,C}/NNNN/{left,right}/NNNN.png` (or `.webp`) and
//! `optical_flow/.../{into_future,into_past}/{left,right}/OpticalFlowInto{Future,Past}_NNNN_{L,R}.pfm`.
//!
//! Without words, the clean pass, both cameras and the flow into the future are read. Samples that `all_unused_files.txt` names
//! (its authors found them too hard) are left out if the list lies beside the frames.

use std::collections::HashSet;

use ferroflow_core::io::read_text;

use super::{
    Access, Dataset, Request, Split,
    listing::{Folder, Listing},
};
use crate::DataError;

pub(super) const THINGS: Dataset = Dataset {
    name: "things",
    title: "FlyingThings3D",
    path: "the folder that holds frames_cleanpass or frames_finalpass, and optical_flow",
    words: &["train", "test", "clean", "final", "left", "right", "future", "past"],
    marks: &["frames_cleanpass", "frames_finalpass"],
    inner: &[],
    access: Access::Listed(list),
};

/// Points that pass the camera have displacements without meaning; a component of this or more is unknown, as others
/// who train on this set have it.
pub(super) const LARGEST: f32 = 1000.0;

/// Pairs of one camera and direction: 2239 sequences of 10 frames, 437 for testing.
const PAIRS: [usize; 2] = [2239 * 9, 437 * 9];

fn list(request: &Request) -> Result<Listing, DataError> {
    let train = request.split() != Some(Split::Test);
    let part = if train { "TRAIN" } else { "TEST" };
    let passes = request.among(&["clean", "final"], &["clean"]);
    let cameras = request.among(&["left", "right"], &["left", "right"]);
    let directions = request.among(&["future", "past"], &["future"]);
    let converted = request.root.join("optical_flow_flo_format");
    let (truths, extension) =
        if converted.is_dir() { (converted, ".flo") } else { (request.root.join("optical_flow"), ".pfm") };
    let mut listing = Listing::new(format!(
        "{part}, {} pass, {} camera, into the {}, {extension}",
        passes.join("+"),
        cameras.join("+"),
        directions.join("+")
    ));
    listing.largest = Some(LARGEST);
    let mut unused = 0;
    for pass in &passes {
        let frames_root = request.root.join(format!("frames_{pass}pass"));
        let list = frames_root.join("all_unused_files.txt");
        let text = if list.is_file() { read_text(&list)? } else { String::new() };
        let skip: HashSet<&str> = text.lines().map(str::trim).collect();
        for letter in ["A", "B", "C"] {
            let scenes = Folder::read_or_empty(frames_root.join(part).join(letter))?;
            for scene in scenes.folders() {
                for camera in &cameras {
                    let place = format!("{part}/{letter}/{scene}");
                    let frames = Folder::read_or_empty(frames_root.join(&place).join(camera))?;
                    let frames = frames.frames();
                    for direction in &directions {
                        let forward = *direction == "future";
                        let (into, name) = if forward { ("into_future", "Future") } else { ("into_past", "Past") };
                        let truth = Folder::read_or_empty(truths.join(&place).join(into).join(camera))?;
                        let side = if *camera == "left" { "L" } else { "R" };
                        let truth = truth.numbered(&format!("OpticalFlowInto{name}_"), &format!("_{side}{extension}"));
                        for (k, next) in frames.neighbours(Some(&truth), forward) {
                            if skip.contains(format!("{place}/{camera}/{k:04}.png").as_str()) {
                                unused += 1;
                                continue;
                            }
                            let id = format!("{place}/{pass}/{camera}/{direction}/{k:04}");
                            listing.add(id, [frames.find(k), frames.find(next)], Some(truth.find(k)), [None, None]);
                        }
                    }
                }
            }
        }
    }
    let all = PAIRS[usize::from(!train)] * passes.len() * cameras.len() * directions.len();
    listing.expected = Some(all.saturating_sub(unused));
    if unused > 0 {
        listing.notes.push(format!("{unused} pairs left out by all_unused_files.txt"));
    }
    Ok(listing)
}
