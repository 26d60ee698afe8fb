//! MPI Sintel (Butler et al., ECCV 2012): `training/{clean,final,albedo,flow,occlusions,invalid}/SCENE/frame_NNNN.*`
//! and `test/{clean,final}/SCENE/`; the flow of frame `k` leads to frame `k + 1`.
//!
//! Every pixel is scored, as the benchmark's users do; the word `invalid` leaves out those its masks exclude.

use super::{
    Access, Dataset, Request, Split,
    listing::{Folder, Listing},
};
use crate::DataError;

const fn pass(name: &'static str, title: &'static str, words: &'static [&'static str]) -> Dataset {
    Dataset {
        name,
        title,
        path: "the folder that holds training and test",
        words,
        marks: &["training/clean", "training/final", "training/albedo", "test/clean", "test/final"],
        inner: &[],
        access: Access::Listed(list),
    }
}

pub(super) const CLEAN: Dataset = pass("sintel-clean", "MPI Sintel, clean pass", &["train", "test", "invalid"]);
pub(super) const FINAL: Dataset = pass("sintel-final", "MPI Sintel, final pass", &["train", "test", "invalid"]);
pub(super) const ALBEDO: Dataset = pass("sintel-albedo", "MPI Sintel, albedo pass", &["train", "invalid"]);

fn list(request: &Request) -> Result<Listing, DataError> {
    let pass = request.dataset.name.trim_start_matches("sintel-");
    let train = request.split() != Some(Split::Test);
    let base = request.root.join(if train { "training" } else { "test" });
    let mut listing =
        Listing::new(format!("{pass} pass, {}", if train { "training" } else { "test, no ground truth" }));
    listing.expected = Some(if train { 1041 } else { 552 });
    let mut no_occlusion = 0;
    for scene in Folder::read(base.join(pass))?.folders() {
        let frames = Folder::read(base.join(pass).join(scene))?;
        let frames = frames.numbered("frame_", ".png");
        let beside = |what: &str| Folder::read_or_empty(base.join(what).join(scene));
        let (flows, occlusions, invalids) = (beside("flow")?, beside("occlusions")?, beside("invalid")?);
        let flows = flows.numbered("frame_", ".flo");
        for (k, next) in frames.neighbours(train.then_some(&flows), true) {
            let mask = format!("frame_{k:04}.png");
            let occlusion = (train && !occlusions.is_empty()).then(|| occlusions.find(&mask));
            no_occlusion += usize::from(train && occlusion.is_none());
            let invalid = (train && request.has("invalid")).then(|| invalids.find(&mask));
            let id = format!("{scene}/{pass}/{k:04}");
            listing.add(id, [frames.find(k), frames.find(next)], train.then(|| flows.find(k)), [occlusion, invalid]);
        }
    }
    if no_occlusion > 0 {
        listing.notes.push(format!("{no_occlusion} pairs have no mask of occlusions (training/occlusions)"));
    }
    Ok(listing)
}
