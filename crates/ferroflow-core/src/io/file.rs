//! Whole files in and out: bounded reads, writes that leave the old file or the new one and never half of either.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
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

/// Writes a file so that an interruption leaves what was there before: a temporary beside it, then a rename.
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
    let path = path.as_ref();
    replace(path, contents).map_err(|cause| IoError::Io { action: "write", path: path.into(), cause })
}

fn replace(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(existing) if existing.is_dir() => return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory")),
        Ok(existing) if !existing.is_file() => {
            let mut out = io::BufWriter::new(fs::OpenOptions::new().write(true).open(path)?);
            contents(&mut out)?;
            return out.flush();
        }
        _ => {}
    }
    // A symbolic link stays one: the file it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".ferroflow-");
    // Temporary files are private by default; a result has the permissions that any new file would have.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(directory)?;
    {
        let mut out = io::BufWriter::new(temporary.as_file_mut());
        contents(&mut out)?;
        out.flush()?;
    }
    temporary.persist(&target).map_err(|e| e.error)?;
    Ok(())
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
    fn results_are_as_readable_as_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (ours, plain) = (dir.path().join("ours"), dir.path().join("plain"));
        write_bytes(&ours, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ours), mode(&plain));
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
