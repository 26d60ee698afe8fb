//! The session that every command gets: the files that it plans, and standard output.

use std::{
    ffi::OsString,
    fmt::Display,
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use ferroflow::core::io::Outputs;
use serde::Serialize;

/// One run of the program.
pub struct Session {
    /// The files that are written, planned before any work.
    pub files: Outputs,
    /// Where results are printed.
    pub out: Printer,
    /// The command line as a shell takes it, for pages that say how they were made.
    pub command: String,
}

impl Session {
    /// With `keep`, no file of an earlier run is replaced. `args` are those of the program, its name first.
    pub fn new(keep: bool, args: &[OsString]) -> Self {
        let words = args.iter().skip(1).map(|word| quoted(&word.to_string_lossy()));
        let command = std::iter::once("ferroflow".into()).chain(words).collect::<Vec<String>>().join(" ");
        Self { files: Outputs::new(keep), out: Printer::default(), command }
    }

    /// Says what was written: as a line of JSON, or else as a line of text, which `--quiet` leaves out.
    ///
    /// # Errors
    /// If `report` is no JSON.
    pub fn wrote(&mut self, json: bool, report: &impl Serialize, text: impl Display) -> anyhow::Result<()> {
        if json {
            writeln!(self.out, "{}", serde_json::to_string(report)?)?;
        } else if !is_quiet() {
            writeln!(self.out, "{text}")?;
        }
        Ok(())
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Standard output that fails at the end, not in the middle of the work: the files that were asked for are written all the
/// same. After a failure nothing more is printed.
#[derive(Default)]
pub struct Printer {
    failed: Option<io::Error>,
}

impl Printer {
    /// Says whether everything could be printed. A reader that stops early (`ferroflow ... | head`) is no failure.
    ///
    /// # Errors
    /// If standard output could not be written, as on a full device.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        match self.failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }
}

impl Write for Printer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.is_none() {
            self.failed = io::stdout().write_all(bytes).err();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failed.is_none() {
            self.failed = io::stdout().flush().err();
        }
        Ok(())
    }
}

/// Whether `--quiet` was given. Notes come from threads and libraries too, which know no session.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Turns notes, progress and the lines about files that were written on or off.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether only results and errors are wanted.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Says something on standard error, where anybody listens, unless `--quiet` was given.
macro_rules! note {
    ($($text:tt)*) => {
        if !$crate::session::is_quiet() {
            $crate::session::complain!($($text)*);
        }
    };
}
pub(crate) use note;

/// Says on standard error what even `--quiet` does not hide.
macro_rules! complain {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
pub(crate) use complain;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        let args = ["/opt/ferroflow", "eval", "pairs:a b.tsv", "--csv", "it's.csv", ""].map(OsString::from);
        assert_eq!(Session::new(false, &args).command, r"ferroflow eval 'pairs:a b.tsv' --csv 'it'\''s.csv' ''");
    }
}
