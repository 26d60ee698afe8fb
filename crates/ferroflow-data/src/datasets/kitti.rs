//! KITTI 2012 (Geiger et al., CVPR 2012) and 2015 (Menze and Geiger, CVPR 2015): `{training,testing}/IMAGES/NNNNNN_10.png`
//! and `_11.png`, with `flow_occ` (every pixel measured) or `flow_noc` (those seen in both frames) beside them. What only the first of
//! them knows is occluded. `obj_map`, if it is there, tells objects from the background.

use std::path::PathBuf;

use super::{
    Access, Dataset, Request, Split,
    listing::{Folder, Found, Listing},
};
use crate::DataError;

const fn year(name: &'static str, title: &'static str, marks: &'static [&'static str]) -> Dataset {
    Dataset {
        name,
        title,
        path: "the folder that holds training and testing",
        words: &["train", "test"],
        marks,
        inner: &[],
        access: Access::Listed(list),
    }
}

// Colour comes first: the 2012 set has grey images too. A folder may also be the training part itself.
const IMAGES_2012: &[&str] =
    &["training/colored_0", "training/image_0", "testing/colored_0", "testing/image_0", "colored_0", "image_0"];
const IMAGES_2015: &[&str] = &["training/image_2", "testing/image_2", "image_2"];

pub(super) const KITTI12: Dataset = year("kitti12", "KITTI 2012", IMAGES_2012);
pub(super) const KITTI12_NOC: Dataset = year("kitti12-noc", "KITTI 2012, pixels not occluded", IMAGES_2012);
pub(super) const KITTI15: Dataset = year("kitti15", "KITTI 2015", IMAGES_2015);
pub(super) const KITTI15_NOC: Dataset = year("kitti15-noc", "KITTI 2015, pixels not occluded", IMAGES_2015);

fn list(request: &Request) -> Result<Listing, DataError> {
    let train = request.split() != Some(Split::Test);
    let is_2012 = request.dataset.name.starts_with("kitti12");
    let names: &[&str] = if is_2012 { &["colored_0", "image_0"] } else { &["image_2"] };
    let part = request.root.join(if train { "training" } else { "testing" });
    let base = if train && !part.is_dir() { request.root.clone() } else { part };
    let name = names.iter().find(|name| base.join(name).is_dir()).unwrap_or(&names[0]);
    let truth = if request.dataset.name.ends_with("-noc") { "flow_noc" } else { "flow_occ" };
    let mut listing = Listing::new(if train {
        format!("training, {name}, {truth}")
    } else {
        format!("testing, {name}, no ground truth")
    });
    listing.expected = Some(if !is_2012 {
        200
    } else if train {
        194
    } else {
        195
    });
    let images = Folder::read(base.join(name))?;
    let flows = Folder::read_or_empty(base.join(truth))?;
    let visible =
        Folder::read_or_empty(if train && truth == "flow_occ" { base.join("flow_noc") } else { PathBuf::new() })?;
    let objects = Folder::read_or_empty(if train { base.join("obj_map") } else { PathBuf::new() })?;
    // Multi-view archives hold frames 00 to 20 of each scene; the benchmark is 10 and 11.
    for scene in images.stems(&["_10.png"]) {
        let [first, second] = [10, 11].map(|frame| images.find(&format!("{scene}_{frame}.png")));
        let flow = format!("{scene}_10.png");
        let truth = train.then(|| flows.find(&flow));
        if let Some(pair) = listing.add(scene.into(), [first, second], truth, [None, None]) {
            let there = |folder: &Folder| match folder.find(&flow) {
                Found::There(path) => Some(path),
                Found::Missing(_) => None,
            };
            (pair.visible, pair.objects) = (there(&visible), there(&objects));
        }
    }
    Ok(listing)
}
