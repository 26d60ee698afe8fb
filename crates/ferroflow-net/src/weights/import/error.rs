//! Why a foreign checkpoint cannot be read, by cause.

use std::io;
use std::path::{Path, PathBuf};

use super::Format;

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The operating system refused to read the file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No reader knows these bytes.
    #[error(
        "{}: not a checkpoint of a known format (PyTorch .pth/.pt/.tar, TensorFlow .index, MindSpore .ckpt, safetensors)",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a kind that is often taken for a checkpoint.
    #[error("{}: this is {what}", path.display())]
    NotWeights {
        /// The file.
        path: PathBuf,
        /// What the file is, and where to get the weights.
        what: String,
    },
    /// The file holds no weights under this key.
    #[error("{}: no weights under the key `{key}`; there are {}", path.display(), list(.entries))]
    NoEntry {
        /// The file.
        path: PathBuf,
        /// The key that was asked for.
        key: String,
        /// The keys under which there are tensors.
        entries: Vec<String>,
    },
    /// The file breaks the rules of its format: it is truncated, overwritten or forged.
    #[error("damaged {format} file: {reason}; fetch it again")]
    Damaged {
        /// The format it claims to have.
        format: Format,
        /// The rule that it breaks.
        reason: String,
    },
    /// The file is well formed, but uses a feature that no checkpoint of a flow network uses.
    #[error("unsupported {format} file: {reason}")]
    Unsupported {
        /// Its format.
        format: Format,
        /// The feature.
        reason: String,
    },
    /// A tensor claims more values than its file can hold.
    #[error("damaged {format} file: tensor `{name}` claims the shape {shape:?}, more than the file can hold")]
    TooLarge {
        /// Its format.
        format: Format,
        /// The tensor.
        name: String,
        /// The shape that it claims.
        shape: Vec<usize>,
    },
    /// The pickle names code outside the libraries that checkpoints are made of.
    #[error(
        "the pickle names `{name}`, which no checkpoint of weights needs; nothing was executed. \
         If you trust its author, load the file in its framework and save the state_dict alone"
    )]
    ForeignCode {
        /// The callable or class.
        name: String,
    },
    /// The file holds no weights.
    #[error("the {format} file holds no floating-point tensors")]
    Empty {
        /// Its format.
        format: Format,
    },
}

/// The keys, or that there are none.
fn list(entries: &[String]) -> String {
    if entries.is_empty() { "none: its tensors stand by themselves".into() } else { entries.join(", ") }
}

impl ImportError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }

    pub(super) fn damaged(format: Format, reason: impl Into<String>) -> Self {
        Self::Damaged { format, reason: reason.into() }
    }

    pub(super) fn unsupported(format: Format, reason: impl Into<String>) -> Self {
        Self::Unsupported { format, reason: reason.into() }
    }
}
