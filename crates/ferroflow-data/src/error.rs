//! The error of data sets, by cause.

use std::path::{Path, PathBuf};

use ferroflow_core::{
    Size,
    io::{IoError, OutputError},
};

use crate::sequence::SequenceError;

/// Errors of data sets, shards and augmentation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An image, mask or flow could not be read or written.
    #[error(transparent)]
    File(#[from] IoError),
    /// A folder of frames or a video could not be read.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// Files cannot be written as asked.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A folder to be filled holds files that were made with other settings.
    #[error("{path} says that this folder was made with {found}, not {wanted}; choose another folder or remove it")]
    OtherSettings {
        /// The file that records the settings.
        path: PathBuf,
        /// The settings that it records.
        found: String,
        /// The settings that were asked for.
        wanted: String,
    },
    /// A crop is larger than the frame.
    #[error("{id} is {size}, too small for a crop of {crop}; choose a smaller crop")]
    Crop {
        /// The sample.
        id: String,
        /// Size of the frame.
        size: Size,
        /// Size of the crop.
        crop: Size,
    },
    /// An index lies past the end of the data set.
    #[error("{name} has {len} samples, so there is no sample {index}")]
    Index {
        /// The data set.
        name: String,
        /// Its length.
        len: usize,
        /// The index asked for.
        index: usize,
    },
    /// The spelling of a data set is wrong.
    #[error("'{spec}' names no data set: {reason}")]
    Spec {
        /// The text that was given.
        spec: String,
        /// What is wrong with it, and what is right.
        reason: String,
    },
    /// A split does not fit its data set.
    #[error("split by {by}: {reason}")]
    Split {
        /// The words that ask for it.
        by: String,
        /// What is wrong with it, and what is right.
        reason: String,
    },
    /// The folder does not have the layout of this data set.
    #[error("{} is not laid out as {dataset} ({wants} is expected there){remedy}", path.display())]
    Layout {
        /// The folder given.
        path: PathBuf,
        /// The data set.
        dataset: &'static str,
        /// What a folder of this data set holds.
        wants: String,
        /// Where such a folder is, if one is near.
        remedy: String,
    },
    /// The data set has no pairs.
    #[error("{spec} has no pairs: {reason}")]
    NoPairs {
        /// The data set as spelled.
        spec: String,
        /// What was looked for, where, and what is there instead.
        reason: String,
    },
    /// Files of a data set are missing.
    #[error(
        "{name}: {count} files are missing, the first is {}; fetch them again, or leave out the frames they belong to",
        first.display()
    )]
    Missing {
        /// The data set.
        name: String,
        /// Number of missing files.
        count: usize,
        /// One of them.
        first: PathBuf,
    },
    /// The parts of a sample differ in size.
    #[error("{id}: the {part} is {found}, frame 1 is {expected} (height x width)")]
    Sizes {
        /// The sample.
        id: String,
        /// Which part differs.
        part: &'static str,
        /// Size of frame 1.
        expected: Size,
        /// Size of the part.
        found: Size,
    },
    /// A pair has no occlusion mask.
    #[error("it is not known which pixels of {0} are occluded: leave out skip_occluded")]
    NoOcclusion(String),
    /// A table, list or index beside the data is damaged, or the data is of a kind that is not read.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl DataError {
    /// An input/output error with the path of its file.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    /// A file whose contents are at fault.
    pub(crate) fn content(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Content { path: path.as_ref().to_owned(), reason: reason.into() }
    }
}
