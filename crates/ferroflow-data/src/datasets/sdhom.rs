//! ChairsSDHom (Ilg et al., CVPR 2017): `{train,test}/{t0,t1}/NAME.png` and `{train,test}/flow/NAME.pfm`.
//!
//! A `.pfm` file is stored from the bottom up and read so. Conversions to `.flo` are read too; those that are upside down need the
//! word `flipped`.

use std::collections::BTreeSet;

use super::{
    Access, Dataset, Request, Split,
    listing::{Folder, Found, Listing},
};
use crate::DataError;

pub(super) const SDHOM: Dataset = Dataset {
    name: "sdhom",
    title: "ChairsSDHom",
    path: "the folder that holds train and test",
    words: &["train", "test", "flipped"],
    marks: &["train/t0", "test/t0"],
    inner: &["data"],
    access: Access::Listed(list),
};

fn list(request: &Request) -> Result<Listing, DataError> {
    let train = request.split() != Some(Split::Test);
    let base = request.root.join(if train { "train" } else { "test" });
    let (first, second) = (Folder::read(base.join("t0"))?, Folder::read_or_empty(base.join("t1"))?);
    let flows = Folder::read_or_empty(base.join("flow"))?;
    let extension = if flows.stems(&[".pfm"]).next().is_none() && !flows.is_empty() { ".flo" } else { ".pfm" };
    let mut listing = Listing::new(format!("{}, {extension}", if train { "train" } else { "test" }));
    listing.expected = Some(if train { 20_965 } else { 703 });
    listing.flipped = request.has("flipped");
    let stems: BTreeSet<&str> =
        first.stems(&[".png"]).chain(second.stems(&[".png"])).chain(flows.stems(&[extension])).collect();
    for stem in stems {
        let image = format!("{stem}.png");
        let truth: Found = flows.find(&format!("{stem}{extension}"));
        listing.add(stem.into(), [first.find(&image), second.find(&image)], Some(truth), [None, None]);
    }
    Ok(listing)
}
