//! Packed shards as a data set; see [`crate::shards`].

use super::{Access, Dataset, Request};
use crate::{DataError, Source, shards::Shards};

pub(super) const SHARDS: Dataset = Dataset {
    name: "shards",
    title: "packed shards",
    path: "a folder of .tar files",
    words: &[],
    marks: &[],
    inner: &[],
    access: Access::Opened(open),
};

fn open(request: &Request) -> Result<Box<dyn Source>, DataError> {
    Ok(Box::new(Shards::open(&request.root)?))
}
