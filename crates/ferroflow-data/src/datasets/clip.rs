//! Videos for training without ground truth: `clip:PATH[@train|val,gap=N,max=N]`.

use std::num::NonZeroUsize;

use super::{Access, Dataset, Request, Split};
use crate::{
    DataError, Source,
    clip::{Clips, Options, Part, open_clips},
};

pub(super) const CLIP: Dataset = Dataset {
    name: "clip",
    title: "videos for training without ground truth",
    path: "a video, an animation, a folder of frames, or a folder of these",
    words: &["train", "val", "gap=", "max="],
    marks: &[],
    inner: &[],
    access: Access::Opened(|request| Ok(Box::new(open(request)?) as Box<dyn Source>)),
};

/// Opens the clips that are asked for.
pub(crate) fn open(request: &Request) -> Result<Clips, DataError> {
    let number = |key: &str| -> Result<Option<NonZeroUsize>, DataError> {
        let Some(text) = request.value(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| request.wrong(format!("{key}={text} is no whole number above 0")))
    };
    let part = match request.split() {
        Some(Split::Train) => Part::Train,
        Some(Split::Val) => Part::Val,
        Some(Split::Test) | None => Part::All,
    };
    let options = Options { gap: number("gap")?.unwrap_or(NonZeroUsize::MIN), part, max: number("max")? };
    open_clips(&request.root, &options)
}
