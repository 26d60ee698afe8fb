//! FlyingChairs (Dosovitskiy et al., ICCV 2015): `NNNNN_img1.ppm`, `NNNNN_img2.ppm`, `NNNNN_flow.flo` in one folder; also
//! the names of its authors' samples, and those of FlyingChairs2 and FlyingChairsOcc.
//!
//! The split is a list of 22,872 lines, 1 for training and 2 for validation, in the order of the pairs. It is published
//! separately and is used if it lies in the folder or the one above.

use std::{collections::BTreeSet, path::PathBuf};

use super::{
    Access, Dataset, Request, Split,
    listing::{Folder, Found, Listing},
};
use crate::{
    DataError,
    split::{Assignment, read_sides},
};

pub(super) const CHAIRS: Dataset = Dataset {
    name: "chairs",
    title: "FlyingChairs",
    path: "the folder with the .ppm and .flo files",
    words: &["train", "val", "test"],
    marks: &["*_img1.ppm", "*_flow.flo", "*-img0.ppm", "*-gt.flo", "*-img_0.png"],
    inner: &["data"],
    access: Access::Listed(list),
};

/// What follows the number in the names of frame 1, frame 2, the flow and the mask of occlusions.
struct Naming {
    title: &'static str,
    frames: [&'static str; 2],
    flow: &'static str,
    occlusion: Option<&'static str>,
}

const NAMINGS: [Naming; 3] = [
    Naming { title: "FlyingChairs_release", frames: ["_img1.ppm", "_img2.ppm"], flow: "_flow.flo", occlusion: None },
    Naming { title: "sample names", frames: ["-img0.ppm", "-img1.ppm"], flow: "-gt.flo", occlusion: None },
    Naming {
        title: "FlyingChairs2 or FlyingChairsOcc",
        frames: ["-img_0.png", "-img_1.png"],
        flow: "-flow_01.flo",
        occlusion: Some("-occ_01.png"),
    },
];

const LISTS: [&str; 4] = [
    "FlyingChairs_train_val.txt",
    "chairs_train_val.txt",
    "chairs_split.txt",
    "FlyingChairs_release_test_train_split.list",
];
/// What can be done without the list.
const WITHOUT: &str =
    "without it name one (split=FILE), hold out a share (holdout=0.03,train), or leave out the @ for all pairs";
const PAIRS: usize = 22_872;
const TRAINING: usize = 22_232;
/// The first pairs that the published list holds out.
const HELD_OUT: [usize; 5] = [50, 64, 80, 131, 158];

fn list(request: &Request) -> Result<Listing, DataError> {
    let folder = Folder::read(&request.root)?;
    let naming = NAMINGS.iter().find(|n| folder.stems(&[n.frames[0], n.flow]).next().is_some()).unwrap_or(&NAMINGS[0]);
    let [first, second] = naming.frames;
    let stems: BTreeSet<&str> = folder.stems(&[first, second, naming.flow]).collect();
    let split = split_list(request)?;
    let mut listing = Listing::new(naming.title);
    let training = match (request.split(), &split) {
        (None, _) => None,
        (Some(part), Some(_)) => Some(part == Split::Train),
        (Some(_), None) => {
            let reason = format!("a split needs its list, {} of {PAIRS} lines, beside the data: {WITHOUT}", LISTS[0]);
            return Err(request.wrong(reason));
        }
    };
    let by_number = naming.title == NAMINGS[0].title;
    if let Some((path, lines)) = &split {
        let fits = if by_number { stems.len() <= lines.len() } else { stems.len() == lines.len() };
        if training.is_some() && !fits {
            let reason = format!(
                "{} lines do not split {} pairs; this is the list of another data set",
                lines.len(),
                stems.len()
            );
            return Err(DataError::content(path, reason));
        }
    }
    for (position, stem) in stems.into_iter().enumerate() {
        // The number in the name keeps a part of the data set on its side of the split.
        let line = if by_number { stem.parse::<usize>().map_or(position, |n| n.wrapping_sub(1)) } else { position };
        if let (Some(training), Some((path, lines))) = (training, &split) {
            let Some(&of_training) = lines.get(line) else {
                return Err(DataError::content(path, format!("there is no line for {stem}")));
            };
            if of_training != training {
                continue;
            }
        }
        let found = |suffix: &str| folder.find(&format!("{stem}{suffix}"));
        let occlusion = naming.occlusion.map(&found).filter(|mask| matches!(mask, Found::There(_)));
        listing.add(stem.into(), [found(first), found(second)], Some(found(naming.flow)), [occlusion, None]);
    }
    if by_number {
        listing.expected = Some(match training {
            None => PAIRS,
            Some(true) => TRAINING,
            Some(false) => PAIRS - TRAINING,
        });
    }
    match split {
        Some((path, training)) => {
            let by = path.display().to_string();
            if training.len() == PAIRS && !is_published(&training) {
                listing.notes.push(format!(
                    "{by} is not the published list, which holds out {} pairs, {HELD_OUT:?} and so on",
                    PAIRS - TRAINING
                ));
            }
            match request.split() {
                Some(_) => listing.split = vec![Assignment { training }.remark(&by)],
                None => listing.notes.push(format!("split list: {by}")),
            }
            listing.lists.push(path);
        }
        None => listing.notes.push(format!("no split list ({}) beside the data: {WITHOUT}", LISTS[0])),
    }
    Ok(listing)
}

/// Whether a list of all pairs is the published one, as far as its count and its first lines tell.
fn is_published(training: &[bool]) -> bool {
    let held_out = || training.iter().enumerate().filter(|(_, training)| !**training).map(|(line, _)| line + 1);
    held_out().count() == PAIRS - TRAINING && held_out().take(HELD_OUT.len()).eq(HELD_OUT)
}

/// Where the list is, and for each of its lines whether it says training.
fn split_list(request: &Request) -> Result<Option<(PathBuf, Vec<bool>)>, DataError> {
    let folders = request.root.ancestors().take(2);
    let mut places = folders.flat_map(|folder| LISTS.map(|name| folder.join(name)));
    let Some(path) = places.find(|path| path.is_file()) else { return Ok(None) };
    let lines = read_sides(&path)?;
    Ok(Some((path, lines)))
}
