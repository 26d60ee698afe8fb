//! Only one process trains in a folder: it holds an advisory lock of the operating system on `RUN/lock`, which the system
//! releases however the process ends.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    process,
};

use crate::folder::FolderError;

/// The right to write into the folder of a run.
#[derive(Debug)]
pub(crate) struct Lock {
    // Held for what closing it does.
    _file: File,
}

impl Lock {
    /// Where it is in a folder; the file holds the number of the process.
    pub fn path(root: &Path) -> PathBuf {
        root.join("lock")
    }

    /// Takes the lock of an existing folder.
    ///
    /// # Errors
    /// If another process has it, or the file cannot be written.
    pub fn take(root: &Path) -> Result<Self, FolderError> {
        let path = Self::path(root);
        let fail = |source| FolderError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FolderError::Running { folder: root.into(), process: holder(&path) });
            }
            // Some network file systems have no locks: better to train than to refuse.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", process::id()))
            .map_err(fail)?;
        Ok(Self { _file: file })
    }

    /// Fails if a process is at work in the folder; takes nothing and leaves no file.
    pub fn is_free(root: &Path) -> Result<(), FolderError> {
        let path = Self::path(root);
        match File::open(&path).map(|file| file.try_lock_shared()) {
            Ok(Err(TryLockError::WouldBlock)) => {
                Err(FolderError::Running { folder: root.into(), process: holder(&path) })
            }
            _ => Ok(()),
        }
    }
}

/// The number in a lock's file.
fn holder(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let number = text.trim();
    if number.is_empty() { "another process".into() } else { format!("process {number}") }
}
