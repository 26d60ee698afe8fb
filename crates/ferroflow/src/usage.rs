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

/// The error and its causes on one line. A cause that the text before already ends with is not said twice.
pub fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_named_once() {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let wrapped = anyhow::Error::from(missing()).context("a.flo: entity not found").context("reading");
        assert_eq!(explain(&wrapped), "reading: a.flo: entity not found");
        assert_eq!(explain(&missing().into()), "entity not found");
    }
}
