//! What can go wrong with data, by cause.

use std::path::{Path, PathBuf};

/// Errors of data sets, shards and augmentation.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A frame, flow or mask file could not be read or written.
    #[error(transparent)]
    File(#[from] ferroflow_core::io::IoError),
    /// A folder to be filled holds something made with other settings.
    #[error("{path} says that this folder was made with {found}, not {wanted}; choose another folder or remove it")]
    OtherSettings {
        /// The file that records the settings.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A crop larger than the frame it is to be cut from.
    #[error("{id} is {}x{}, too small for a crop of {}x{}; choose a smaller crop", size.0, size.1, crop.0, crop.1)]
    Crop {
        /// The sample.
        id: String,
        /// Its width and height.
        size: (usize, usize),
        /// Width and height of the crop.
        crop: (usize, usize),
    },
    /// An index past the end.
    #[error("{name} has {len} samples, so there is no sample {index}")]
    Index {
        /// The data set.
        name: String,
        /// Its length.
        len: usize,
        /// The index asked for.
        index: usize,
    },
}

impl DataError {
    /// An input/output error with the file it happened to.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }
}
