//! The data sets, one file each, which says where their files lie and which belong together.
//!
//! A data set is an entry of [`DATASETS`]. Those on disk give a [`Listing`] of files, in an order that is the same on
//! every system; [`FilePairs`] reads them. Layouts follow the original archives.

mod chairs;
pub(crate) mod clip;
mod files;
mod folder;
mod hd1k;
mod kitti;
mod listing;
mod locate;
mod middlebury;
mod pairs;
mod sdhom;
mod shards;
mod sintel;
mod spring;
mod synthetic;
#[cfg(test)]
pub(crate) mod tests;
mod tfrecord;
mod things;
mod things_subset;
mod video;

use std::path::PathBuf;

pub use files::FilePairs;
pub(crate) use files::read_pair;
pub use listing::{Listing, PairFiles};
pub use synthetic::check_memory;

use crate::{DataError, Source};

/// A kind of data set.
#[derive(Debug)]
pub struct Dataset {
    /// The `NAME` that selects it in `NAME:PATH`.
    pub name: &'static str,
    /// Full name and paper.
    pub title: &'static str,
    /// What `PATH` is, for messages.
    pub path: &'static str,
    /// Words accepted after the `@`; those ending with `=` take a value.
    pub words: &'static [&'static str],
    /// Names of which a folder of it holds at least one; a leading `*` stands for any beginning of a name. If empty, any path will do.
    pub(crate) marks: &'static [&'static str],
    /// Folders between the one an archive unpacks to and the data.
    pub(crate) inner: &'static [&'static str],
    pub(crate) access: Access,
}

/// How its samples are reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Files that belong together.
    Listed(fn(&Request) -> Result<Listing, DataError>),
    /// Samples that are not files of their own.
    Opened(fn(&Request) -> Result<Box<dyn Source>, DataError>),
}

/// What is asked of a data set.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub dataset: &'static Dataset,
    /// The folder that shows one of the marks, or the path as given.
    pub root: PathBuf,
    pub words: &'a [String],
}

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    Train,
    Val,
    Test,
}

impl Request<'_> {
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|w| w == word)
    }

    /// The value of `key=value`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().filter_map(|w| w.split_once('=')).find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The split asked for, the first if several.
    pub fn split(&self) -> Option<Split> {
        let named = |word: &str| match word {
            "train" => Some(Split::Train),
            "val" => Some(Split::Val),
            "test" => Some(Split::Test),
            _ => None,
        };
        self.words.iter().find_map(|w| named(w))
    }

    /// The words of `all` that are asked for, or `default` if there are none.
    pub fn among<'w>(&self, all: &[&'w str], default: &[&'w str]) -> Vec<&'w str> {
        let asked: Vec<_> = all.iter().copied().filter(|word| self.has(word)).collect();
        if asked.is_empty() { default.to_vec() } else { asked }
    }

    /// The error of a wrong spelling.
    pub fn wrong(&self, reason: impl Into<String>) -> DataError {
        let words = if self.words.is_empty() { String::new() } else { format!("@{}", self.words.join(",")) };
        let spec = format!("{}:{}{words}", self.dataset.name, self.root.display());
        DataError::Spec { spec, reason: reason.into() }
    }
}

/// Every data set.
pub static DATASETS: &[Dataset] = &[
    chairs::CHAIRS,
    sdhom::SDHOM,
    things::THINGS,
    things_subset::THINGS_SUBSET,
    sintel::CLEAN,
    sintel::FINAL,
    sintel::ALBEDO,
    kitti::KITTI12,
    kitti::KITTI12_NOC,
    kitti::KITTI15,
    kitti::KITTI15_NOC,
    hd1k::HD1K,
    middlebury::MIDDLEBURY,
    spring::SPRING,
    pairs::PAIRS,
    folder::FOLDER,
    video::VIDEO,
    clip::CLIP,
    shards::SHARDS,
    tfrecord::TFRECORD,
    synthetic::SYNTH,
];
