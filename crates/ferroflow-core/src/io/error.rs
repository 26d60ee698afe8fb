//! What can go wrong with a file, by cause.

use std::path::PathBuf;

use crate::Size;

/// Why bytes could not be read as a format, or why values could not be written in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes break the format's own rules: cut short, damaged, or something else under this name.
    #[error("{format}: {what}; the file is damaged or cut short, fetch or make it again")]
    Malformed {
        /// The format being read.
        format: &'static str,
        /// Which rule is broken.
        what: String,
    },
    /// The file asks for more memory than a flow or frame may reasonably take.
    #[error("{format}: {what}; if the file is genuine, crop or split it first")]
    Limits {
        /// The format being read.
        format: &'static str,
        /// Which limit is exceeded.
        what: String,
    },
    /// Vectors that the format cannot hold.
    #[error(
        "{format}: {count} vectors reach beyond what the format holds ({holds}), the first at x {}, y {}; write another format, \
         or cut them to it (--clip)",
        first.0, first.1
    )]
    Range {
        /// The format being written.
        format: &'static str,
        /// Number of these vectors.
        count: usize,
        /// The range that the format holds.
        holds: &'static str,
        /// `(x, y)` of the first of them, row by row.
        first: (usize, usize),
    },
    /// A valid file, or a request, that this library does not handle. The text says what to use instead.
    #[error("{format}: {what}")]
    Unsupported {
        /// The format being read or written.
        format: &'static str,
        /// What is not handled, and what to do.
        what: String,
    },
}

impl FormatError {
    pub(crate) fn malformed(format: &'static str, what: impl Into<String>) -> Self {
        Self::Malformed { format, what: what.into() }
    }

    pub(crate) fn limits(format: &'static str, what: impl Into<String>) -> Self {
        Self::Limits { format, what: what.into() }
    }

    pub(crate) fn unsupported(format: &'static str, what: impl Into<String>) -> Self {
        Self::Unsupported { format, what: what.into() }
    }
}

/// Why a file could not be read or written. The text is complete: it names the file, the cause and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// The operating system refused.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The contents are at fault.
    #[error("{}: {cause}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with its contents.
        cause: FormatError,
    },
}

/// Largest side of an image or flow, in pixels; the same as in Middlebury's own reader.
pub const MAX_SIDE: usize = 99_999;

/// Checks the size that a header claims: from 1x1 to [`MAX_SIDE`] a side.
pub(crate) fn check_size(format: &'static str, height: i64, width: i64) -> Result<Size, FormatError> {
    if height < 1 || width < 1 {
        return Err(FormatError::malformed(format, format!("the header claims a size of {height}x{width}")));
    }
    if height > MAX_SIDE as i64 || width > MAX_SIDE as i64 {
        return Err(FormatError::limits(
            format,
            format!("the header claims {height}x{width}, more than {MAX_SIDE} on a side"),
        ));
    }
    Ok(Size { height: height as usize, width: width as usize })
}

/// Checks that exactly `expected` bytes of values follow a header, before anything is allocated for them.
pub(crate) fn check_body(format: &'static str, expected: u128, found: usize) -> Result<(), FormatError> {
    if found as u128 == expected {
        return Ok(());
    }
    Err(FormatError::malformed(format, format!("{expected} bytes of values should follow the header, {found} do")))
}
