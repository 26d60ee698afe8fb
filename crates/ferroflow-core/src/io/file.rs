//! Reading and writing whole files: reads are bounded, and a write leaves the old file or the new one, never a part.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{FormatError, IoError};
use crate::memory;

/// Largest file that is read into memory: 4 GiB.
const MAX_FILE: u64 = 4 << 30;

/// The bytes of a file.
pub fn read_bytes(path: impl AsRef<Path>) -> Result<Vec<u8>, IoError> {
    let path = path.as_ref();
    let fail = |cause| IoError::Io { action: "read", path: path.into(), cause };
    let file = fs::File::open(path).map_err(fail)?;
    let claimed = file.metadata().map_err(fail)?.len();
    let limits = |what: String| IoError::Format { path: path.into(), cause: FormatError::limits("file", what) };
    memory::check(claimed).map_err(|shortage| limits(format!("reading it, {shortage}")))?;
    let mut bytes = Vec::with_capacity(claimed.min(64 << 20) as usize);
    // One byte more than allowed tells a file at the limit from one beyond it, also where the length is not known
    // beforehand (a pipe).
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(limits(format!("more than {} GiB", MAX_FILE >> 30)));
    }
    Ok(bytes)
}

/// The text of a file: UTF-8, or UTF-16 with a byte-order mark, which is left out.
pub fn read_text(path: impl AsRef<Path>) -> Result<String, IoError> {
    let path = path.as_ref();
    let bytes = read_bytes(path)?;
    let utf_16 = |bytes: &[u8], order: fn([u8; 2]) -> u16| {
        let (units, rest) = bytes.as_chunks();
        let text: Result<String, _> = char::decode_utf16(units.iter().copied().map(order)).collect();
        text.ok().filter(|_| rest.is_empty())
    };
    let text = match &bytes[..] {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        _ => String::from_utf8(bytes).ok(),
    };
    text.ok_or_else(|| {
        let cause = FormatError::unsupported("text", "not UTF-8; save it as such");
        IoError::Format { path: path.into(), cause }
    })
}

/// Writes a temporary file beside `path` and renames it, so that an interruption leaves the earlier file.
pub fn write_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), IoError> {
    write_with(path, |out| out.write_all(bytes))
}

/// As [`write_bytes`], for contents made while writing.
///
/// What exists but is not an ordinary file (a pipe, `/dev/stdout`) is written to directly.
pub fn write_with(
    path: impl AsRef<Path>,
    contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), IoError> {
    write(path.as_ref(), contents, Replacement::finish)
}

/// As [`write_with`], but the contents are on the disk before the file gets its name, so that a power failure, too, leaves
/// the old file or the new one.
pub fn write_durably(
    path: impl AsRef<Path>,
    contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), IoError> {
    write(path.as_ref(), contents, Replacement::finish_durably)
}

fn write(
    path: &Path,
    contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    finish: fn(Replacement) -> io::Result<()>,
) -> Result<(), IoError> {
    let written = || {
        if fs::metadata(path).is_ok_and(|existing| !existing.is_file() && !existing.is_dir()) {
            let mut out = io::BufWriter::new(fs::OpenOptions::new().write(true).open(path)?);
            contents(&mut out)?;
            return out.flush();
        }
        let mut replacement = Replacement::begin(path)?;
        let mut out = io::BufWriter::new(replacement.file());
        contents(&mut out)?;
        out.flush()?;
        drop(out);
        finish(replacement)
    };
    written().map_err(|cause| IoError::Io { action: "write", path: path.into(), cause })
}

/// A file being written beside its place, which it then takes whole or not at all.
///
/// A new file has the mode that the umask leaves to it; one that is replaced keeps its mode. A symbolic link stays one: the
/// file it points to is replaced.
#[derive(Debug)]
pub struct Replacement {
    temporary: tempfile::NamedTempFile,
    target: PathBuf,
    /// What the file is to have in the end.
    permissions: fs::Permissions,
}

impl Replacement {
    /// What the names of temporaries begin with.
    pub const PREFIX: &str = ".ferroflow-";

    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// If its folder does not exist, no file can be made in it, or what is at `path` may not be written or is no ordinary file.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let target = target_of(path)?;
        let existing = match fs::metadata(&target) {
            Ok(existing) if existing.is_dir() => {
                return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
            }
            Ok(existing) if !existing.is_file() => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no ordinary file"));
            }
            // A rename asks only the folder: what may not be written must not be replaced either.
            Ok(existing) => {
                fs::OpenOptions::new().write(true).open(&target)?;
                Some(existing)
            }
            Err(_) => None,
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(Self::PREFIX);
        // Temporary files are private by default; a result has the permissions that any new file would have.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder.tempfile_in(folder_of(&target))?;
        let permissions = match existing {
            Some(existing) => existing.permissions(),
            None => temporary.as_file().metadata()?.permissions(),
        };
        Ok(Self { temporary, target, permissions })
    }

    /// The file to write to.
    pub fn file(&mut self) -> &mut fs::File {
        self.temporary.as_file_mut()
    }

    /// The path of the unfinished file, for libraries that write to a path or replace the file there.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the file its name, replacing what was there.
    pub fn finish(self) -> io::Result<()> {
        fs::set_permissions(self.temporary.path(), self.permissions)?;
        self.temporary.persist(&self.target).map_err(|e| e.error)?;
        Ok(())
    }

    /// As [`Self::finish`], once the contents are on the disk.
    pub fn finish_durably(self) -> io::Result<()> {
        // Opened anew: it may have been written through its path.
        fs::File::open(self.temporary.path())?.sync_all()?;
        let target = self.target.clone();
        self.finish()?;
        // The name is an entry of the folder. Where a folder cannot be synced, the file itself is safe all the same.
        if let Ok(folder) = fs::File::open(folder_of(&target)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// Where writing to `path` ends up: symbolic links are followed, also those that point to nothing yet.
pub(super) fn target_of(path: &Path) -> io::Result<PathBuf> {
    /// As many as Linux follows.
    const LINKS: usize = 40;
    let mut target = path.to_path_buf();
    for _ in 0..LINKS {
        match fs::read_link(&target) {
            Ok(to) => target = folder_of(&target).join(to),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("there are too many symbolic links"))
}

/// The folder of a file, `.` where its path names none.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flow.flo");
        write_bytes(&path, b"old").unwrap();
        let failed = write_with(&path, |out| {
            out.write_all(b"half of the n")?;
            Err(io::Error::other("interrupted"))
        });
        assert!(failed.unwrap_err().to_string().contains("flow.flo"));
        assert_eq!(read_bytes(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        write_bytes(&path, b"new").unwrap();
        assert_eq!(read_bytes(&path).unwrap(), b"new");
    }

    #[test]
    fn byte_order_marks_are_no_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.txt");
        for bytes in [&b"a\tb"[..], b"\xef\xbb\xbfa\tb", b"\xff\xfea\0\t\0b\0", b"\xfe\xff\0a\0\t\0b"] {
            write_bytes(&path, bytes).unwrap();
            assert_eq!(read_text(&path).unwrap(), "a\tb");
        }
        for bytes in [&b"\xe4"[..], b"\xff\xfea\0\t", b"\xff\xfe\0\xd8"] {
            write_bytes(&path, bytes).unwrap();
            assert!(read_text(&path).unwrap_err().to_string().contains("UTF-8"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn new_files_follow_the_umask_and_old_ones_keep_their_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (ours, plain) = (dir.path().join("ours"), dir.path().join("plain"));
        write_bytes(&ours, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ours), mode(&plain));
        for kept in [0o640, 0o604] {
            fs::set_permissions(&ours, PermissionsExt::from_mode(kept)).unwrap();
            write_durably(&ours, |out| out.write_all(b"y")).unwrap();
            assert_eq!((mode(&ours), read_bytes(&ours).unwrap()), (kept, b"y".to_vec()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_also_where_they_point_to_nothing_yet() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        for (link, to) in [("a", "elsewhere/file"), ("b", "a"), ("round", "round")] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        for text in [b"new", b"old"] {
            write_bytes(at("b"), text).unwrap();
            assert_eq!(read_bytes(at("elsewhere/file")).unwrap(), text);
            assert!(at("a").is_symlink() && at("b").is_symlink());
        }
        assert!(write_bytes(at("round"), b"x").is_err());
    }

    #[test]
    fn missing_files_and_directories_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = read_bytes(dir.path().join("absent.png")).unwrap_err();
        assert!(matches!(missing, IoError::Io { action: "read", .. }) && missing.to_string().contains("absent.png"));
        assert!(matches!(write_bytes(dir.path(), b"x"), Err(IoError::Io { action: "write", .. })));
        assert!(write_bytes(dir.path().join("no/such/folder.flo"), b"x").is_err());
    }
}
