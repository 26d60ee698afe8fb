//! The session that every command gets: the files that it plans, and standard output.

use std::io::{self, Write};

use ferroflow::core::io::Outputs;

/// One run of the program.
pub struct Session {
    /// The files that are written, planned before any work.
    pub files: Outputs,
    /// Where results are printed.
    pub out: Printer,
}

impl Session {
    /// With `keep`, no file of an earlier run is replaced.
    pub fn new(keep: bool) -> Self {
        Self { files: Outputs::new(keep), out: Printer::default() }
    }
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

/// Says something on standard error, where anybody listens.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
pub(crate) use note;
