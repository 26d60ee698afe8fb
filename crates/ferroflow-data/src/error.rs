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
