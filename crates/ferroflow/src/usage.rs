//! Wrong usage that only shows once arguments are looked at together: exit code 2, as for the parser's own errors.

use std::{fmt, io};

/// The command line asks for something that cannot be; the text says what to type instead.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Returns early with a [`UsageError`].
macro_rules! usage {
    ($($text:tt)*) => { return Err($crate::usage::UsageError(format!($($text)*)).into()) };
}
pub(crate) use usage;

/// Whether writing failed because the other end of a pipe was closed.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}
