//! A video file as successive pairs, without ground truth.
//!
//! Videos are read in order: the next pair decodes one frame, and any other pair starts again from the beginning.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::{Access, Dataset, Request};
use crate::{
    DataError, Sample, Source,
    sequence::{FramePair, Reading, SequenceError, successive, video},
};

pub(super) const VIDEO: Dataset = Dataset {
    name: "video",
    title: "video file",
    path: "a video file",
    words: &[],
    marks: &[],
    inner: &[],
    access: Access::Opened(open),
};

type Pairs = Box<dyn Iterator<Item = Result<FramePair, SequenceError>> + Send>;

struct Video {
    path: PathBuf,
    len: usize,
    /// The running decoder and the index of the pair it gives next.
    decoder: Mutex<Option<(usize, Pairs)>>,
}

fn open(request: &Request) -> Result<Box<dyn Source>, DataError> {
    let path = request.root.clone();
    // Containers often do not say how many frames they hold.
    let mut len = 0;
    for pair in successive(video(&path, &Reading::default())?) {
        pair?;
        len += 1;
    }
    Ok(Box::new(Video { path, len, decoder: Mutex::new(None) }))
}

impl Source for Video {
    fn name(&self) -> String {
        format!("video:{}", self.path.display())
    }

    fn len(&self) -> Option<usize> {
        Some(self.len)
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let past_end = || DataError::Index { name: self.name(), len: self.len, index };
        if index >= self.len {
            return Err(past_end());
        }
        // A decoder left behind by a panic elsewhere is still at a pair of known index.
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut next, mut pairs) = match decoder.take() {
            Some((next, pairs)) if next <= index => (next, pairs),
            _ => (0, Box::new(successive(video(&self.path, &Reading::default())?)) as Pairs),
        };
        loop {
            let pair = pairs.next().ok_or_else(past_end)??;
            next += 1;
            if next == index + 1 {
                *decoder = Some((next, pairs));
                let (first, second) = ((*pair.first).clone(), (*pair.second).clone());
                return Ok(Sample {
                    first,
                    second,
                    flow: None,
                    occlusion: None,
                    original: None,
                    surround: None,
                    id: pair.name,
                });
            }
        }
    }
}
