//! The files that a run writes, planned before any work is done.
//!
//! No file is written twice, no input is written over, and names that come with the data (the ids of pairs) stay in their
//! folder. Whoever writes files plans them here first.

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs,
    path::{Component, Path, PathBuf},
};

use super::{
    IoError,
    file::{Replacement, folder_of, target_of},
};

/// Why files cannot be written as asked, found before anything is written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// Two results have the same path.
    #[error("{}: {first} and {second} would be the same file; give them other names or folders", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// What is to be in it.
        first: String,
        /// What is to be in it too.
        second: String,
    },
    /// A result would replace an input.
    #[error(
        "{}: {what} would be written over the input {}; choose another place for it", path.display(), input.display()
    )]
    Input {
        /// The file.
        path: PathBuf,
        /// The same file as it was given.
        input: PathBuf,
        /// What is to be in it.
        what: String,
    },
    /// A picture would lie among the frames that it is made from.
    #[error(
        "{}: {what} would lie among the frames of {}, to be read as one of them the next time; choose another folder",
        path.display(), folder.display()
    )]
    AmongFrames {
        /// The file.
        path: PathBuf,
        /// The folder that is read.
        folder: PathBuf,
        /// What is to be in it.
        what: String,
    },
    /// A file would lie inside of another file.
    #[error("{}: {first} would have to be a file and a folder, for {second}; give them other names", path.display())]
    Inside {
        /// The file.
        path: PathBuf,
        /// What is to be in it.
        first: String,
        /// What is to be below it.
        second: String,
    },
    /// The path names no file.
    #[error("{} names no file to write {what} to", path.display())]
    NoFile {
        /// The path as it was given.
        path: PathBuf,
        /// What is to be in it.
        what: String,
    },
    /// There is a file of an earlier run, and none may be replaced.
    #[error("{} is there already, and --no-clobber replaces nothing", .0.display())]
    Exists(PathBuf),
    /// The folder holds files that this command does not make.
    #[error(
        "{} holds other things ({}); choose an empty folder, or one that this command has made before", folder.display(),
        listed(found)
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// The names of these files, sorted.
        found: Vec<String>,
    },
    /// The operating system refuses to write there.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl OutputError {
    /// Whether the command line is wrong, not the state of the disk.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Exists(_) | Self::Io(_))
    }
}

/// The first few names, and how many more there are.
fn listed(found: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = found.len().saturating_sub(SHOWN);
    let shown = found[..found.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The files of a run.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Whether files of an earlier run stay.
    keep: bool,
    inputs: Vec<PathBuf>,
    /// Folders whose every file of a certain kind is read.
    frames: Vec<(PathBuf, fn(&Path) -> bool)>,
    /// The inputs as the system knows them. Only looked up once something planned is there already.
    identities: OnceCell<HashMap<Identity, PathBuf>>,
    planned: HashMap<PathBuf, Planned>,
    /// Folders as planned files name them, and as they are.
    folders: HashMap<PathBuf, PathBuf>,
    /// Planned but not prepared.
    pending: Vec<PathBuf>,
    prepared: HashSet<PathBuf>,
}

/// What is known of a place.
#[derive(Debug)]
enum Planned {
    File(String),
    /// The folder of this file.
    Folder(String),
}

impl Outputs {
    /// A plan without files. With `keep`, a file that exists already is an error; otherwise it is replaced.
    pub fn new(keep: bool) -> Self {
        Self { keep, ..Self::default() }
    }

    /// Notes a file that is read, so that it is not written over.
    pub fn reads(&mut self, input: impl Into<PathBuf>) {
        self.inputs.push(input.into());
        self.identities.take();
    }

    /// Notes files that are read, so that they are not written over.
    pub fn reads_all(&mut self, inputs: impl IntoIterator<Item = impl Into<PathBuf>>) {
        inputs.into_iter().for_each(|input| self.reads(input));
    }

    /// Notes that all files of a folder for which `are_frames` is true are read, by this run and by the next.
    pub fn reads_folder(&mut self, folder: impl Into<PathBuf>, are_frames: fn(&Path) -> bool) {
        self.frames.push((folder.into(), are_frames));
    }

    /// Plans a file; messages say that `what` is to be in it.
    ///
    /// # Errors
    /// If the place is taken by an input, by another planned file (also if the names differ only in case), by a folder, or,
    /// where nothing may be replaced, by anything.
    pub fn plan(&mut self, path: impl AsRef<Path>, what: impl Into<String>) -> Result<(), OutputError> {
        let (path, what) = (path.as_ref(), what.into());
        let Some(place) = self.free(path, &what)? else { return Ok(()) };
        for folder in place.ancestors().skip(1).filter(|f| !f.as_os_str().is_empty()) {
            if let Some(Planned::Folder(_)) = self.planned.get(folder) {
                break;
            }
            self.planned.insert(folder.into(), Planned::Folder(what.clone()));
        }
        self.planned.insert(place, Planned::File(what));
        self.pending.push(path.into());
        Ok(())
    }

    /// As [`Self::plan`], without remembering the file, for the frames of a stream that may never end and whose names differ.
    pub fn check(&mut self, path: impl AsRef<Path>, what: &str) -> Result<(), OutputError> {
        self.free(path.as_ref(), what)?;
        self.pending.push(path.as_ref().into());
        Ok(())
    }

    /// Plans `folder/name.extension`, or `folder/name~2.extension` and so on if another result of this run has that path.
    /// `name` is relative, as [`safe_path`] gives it. Returns the path, whose folder exists then.
    pub fn plan_named(
        &mut self,
        folder: &Path,
        name: &Path,
        extension: &str,
        what: &str,
    ) -> Result<PathBuf, OutputError> {
        let mut name = name.to_path_buf();
        for number in 1..=u32::MAX {
            let mut file = name.clone().into_os_string();
            if number > 1 {
                file.push(format!("~{number}"));
            }
            if !extension.is_empty() {
                file.push(format!(".{extension}"));
            }
            let path = folder.join(file);
            match self.plan(&path, what) {
                Err(OutputError::Twice { .. }) => {}
                // Below a file there is no place, whatever the number: beside it there is.
                Err(OutputError::Inside { .. }) => name = safe_name(&name.to_string_lossy()).into(),
                other => {
                    other?;
                    self.prepare()?;
                    return Ok(path);
                }
            }
        }
        Err(OutputError::NoFile { path: folder.into(), what: what.into() })
    }

    /// Makes the folders of the planned files, and checks before the work that files can be written there.
    ///
    /// # Errors
    /// If a folder cannot be made or written to.
    pub fn prepare(&mut self) -> Result<(), OutputError> {
        for path in std::mem::take(&mut self.pending) {
            let target = target_of(&path).unwrap_or_else(|_| path.clone());
            let folder = folder_of(&target);
            let fail = |cause| IoError::Io { action: "write", path: path.clone(), cause };
            if !self.prepared.contains(folder) {
                fs::create_dir_all(folder).map_err(fail)?;
                // The only way to know is to try.
                tempfile::Builder::new().prefix(Replacement::PREFIX).tempfile_in(folder).map_err(fail)?;
                self.prepared.insert(folder.into());
            }
            if target.is_file() {
                fs::OpenOptions::new().write(true).open(&target).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// The place of a file, if it is free; `None` for what is no ordinary file (a pipe, `/dev/stdout`).
    fn free(&mut self, path: &Path, what: &str) -> Result<Option<PathBuf>, OutputError> {
        let what = || what.to_string();
        let named = !path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if path.file_name().is_none() || !named {
            return Err(OutputError::NoFile { path: path.into(), what: what() });
        }
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => return Err(OutputError::NoFile { path: path.into(), what: what() }),
            Ok(there) if !there.is_file() => return Ok(None),
            Ok(_) => {
                if let Some(input) = identity(path).and_then(|id| self.identities().get(&id).cloned()) {
                    return Err(OutputError::Input { path: path.into(), input, what: what() });
                }
            }
            Err(_) => {}
        }
        let target = target_of(path).map_err(|cause| IoError::Io { action: "write", path: path.into(), cause })?;
        let folder = self.folder(folder_of(&target));
        for (frames, are_frames) in &self.frames {
            if are_frames(&target) && fs::canonicalize(frames).is_ok_and(|frames| frames == folder) {
                return Err(OutputError::AmongFrames { path: path.into(), folder: frames.clone(), what: what() });
            }
        }
        let place = folded(&folder.join(target.file_name().unwrap_or_default()));
        match self.planned.get(&place) {
            Some(Planned::File(first)) => {
                return Err(OutputError::Twice { path: path.into(), first: first.clone(), second: what() });
            }
            Some(Planned::Folder(inside)) => {
                return Err(OutputError::Inside { path: path.into(), first: what(), second: inside.clone() });
            }
            None => {}
        }
        for folder in place.ancestors().skip(1) {
            match self.planned.get(folder) {
                Some(Planned::File(first)) => {
                    return Err(OutputError::Inside { path: folder.into(), first: first.clone(), second: what() });
                }
                Some(Planned::Folder(_)) => break,
                None => {}
            }
        }
        if self.keep && fs::symlink_metadata(path).is_ok() {
            return Err(OutputError::Exists(path.into()));
        }
        Ok(Some(place))
    }

    /// A folder as it is: absolute, links followed as far as it exists.
    fn folder(&mut self, folder: &Path) -> PathBuf {
        let real = self.folders.entry(folder.into());
        real.or_insert_with(|| {
            let mut existing = folder.to_path_buf();
            let mut rest: Vec<OsString> = Vec::new();
            let mut real = loop {
                if let Ok(real) = fs::canonicalize(&existing) {
                    break real;
                }
                match existing.components().next_back() {
                    Some(Component::Normal(name)) => rest.push(name.to_owned()),
                    // Of what is not there, `..` is the folder above by name.
                    Some(Component::ParentDir) => rest.push("..".into()),
                    Some(Component::CurDir) => {}
                    _ => break std::env::current_dir().unwrap_or_default(),
                }
                existing = folder_of(&existing).to_path_buf();
                if existing == Path::new(".") {
                    break fs::canonicalize(".").unwrap_or_default();
                }
            };
            for name in rest.into_iter().rev() {
                if name == ".." {
                    real.pop();
                } else {
                    real.push(name);
                }
            }
            real
        })
        .clone()
    }

    fn identities(&self) -> &HashMap<Identity, PathBuf> {
        self.identities
            .get_or_init(|| self.inputs.iter().filter_map(|input| Some((identity(input)?, input.clone()))).collect())
    }
}

/// Checks that a folder to be filled is absent, is empty, or holds only files that this command makes, for which `ours` is
/// true. Hidden files do not count.
///
/// # Errors
/// If it holds something else, or cannot be listed.
pub fn only_holds(folder: &Path, ours: impl Fn(&str) -> bool) -> Result<(), OutputError> {
    let fail = |cause| IoError::Io { action: "list", path: folder.into(), cause };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(fail)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !ours(&name) {
            found.push(name);
        }
    }
    found.sort();
    if found.is_empty() { Ok(()) } else { Err(OutputError::Foreign { folder: folder.into(), found }) }
}

/// What the system knows a file by, whatever its names.
#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    fs::canonicalize(path).ok()
}

/// As a file system sees it for which case does not count.
fn folded(path: &Path) -> PathBuf {
    match path.to_str() {
        Some(text) => text.to_lowercase().into(),
        None => path.as_os_str().to_ascii_lowercase().into(),
    }
}

/// Longest part of a made name, bytes: most file systems take 255, and an extension and a number are to fit too.
const LONGEST: usize = 200;

/// The relative path for the file of an id: its parts between `/` become folders, each made safe by [`safe_name`].
///
/// `ambush_1/clean/0001` stays as it is; `../../etc/x` becomes `_/_/etc/x`, `/etc/x` becomes `etc/x`.
pub fn safe_path(id: &str) -> PathBuf {
    let path: PathBuf = id.split('/').filter(|part| !part.is_empty()).map(safe_name).collect();
    if path.as_os_str().is_empty() { "_".into() } else { path }
}

/// A name that can be one part of a path on every system, for any text: without separators, and neither the name of another
/// folder nor one that a system reserves. Ordinary names stay as they are.
pub fn safe_name(text: &str) -> String {
    const RESERVED: [&str; 4] = ["con", "prn", "aux", "nul"];
    let allowed = |c: char| !c.is_control() && !r#"/\:*?"<>|"#.contains(c);
    let mut name: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    // `..`, hidden files, and what Windows cuts off.
    if name.starts_with('.') {
        name = format!("_{}", name.trim_start_matches('.'));
    }
    if name.ends_with(['.', ' ']) {
        name = format!("{}_", name.trim_end_matches(['.', ' ']));
    }
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let numbered =
        |device: &str| stem.strip_prefix(device).is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()));
    if name.is_empty() || RESERVED.contains(&stem.as_str()) || numbered("com") || numbered("lpt") {
        name.insert(0, '_');
    }
    if name.len() > LONGEST {
        name.truncate(name.floor_char_boundary(LONGEST));
    }
    name
}

/// `folder/name` with `suffix` appended, whatever dots the name has.
pub fn with_suffix(folder: &Path, name: impl AsRef<OsStr>, suffix: &str) -> PathBuf {
    let mut file = name.as_ref().to_owned();
    file.push(suffix);
    folder.join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }

    #[test]
    fn nothing_is_written_twice_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        touch(&at("there/x"));
        for (first, second) in [
            ("a.png", "a.png"),
            ("a.png", "./a.png"),
            ("a.png", "new/../a.png"),
            ("a.png", "A.PNG"),
            ("there/é.flo", "there/../there/É.flo"),
            ("a", "a/b.flo"),
            ("a/b.flo", "a"),
        ] {
            let mut outputs = Outputs::default();
            outputs.plan(at(first), "the first").unwrap();
            let error = outputs.plan(at(second), "the second").unwrap_err();
            let text = error.to_string();
            assert!(error.is_usage() && text.contains("the first") && text.contains("the second"), "{text}");
        }
        let mut outputs = Outputs::default();
        for name in ["x.png", "x.backward.png", "y/x.png"] {
            outputs.plan(at(name), name).unwrap();
        }
        assert!(!at("y").exists());
        outputs.prepare().unwrap();
        assert_eq!(fs::read_dir(at("y")).unwrap().count(), 0);
    }

    #[test]
    fn an_input_is_known_by_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        touch(&at("in/frame.png"));
        fs::hard_link(at("in/frame.png"), at("hard.png")).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("in/frame.png", at("soft.png")).unwrap();
            std::os::unix::fs::symlink("in", at("folder")).unwrap();
        }
        let mut outputs = Outputs::default();
        outputs.reads(at("in/frame.png"));
        for name in ["in/frame.png", "in/../in/frame.png", "hard.png", "soft.png", "folder/frame.png"] {
            if cfg!(unix) || name.starts_with("in") {
                let error = outputs.plan(at(name), "a picture").unwrap_err().to_string();
                assert!(error.contains("over the input") && error.contains("frame.png"), "{name}: {error}");
            }
        }
        outputs.plan(at("in/frame.flo"), "a flow").unwrap();
        outputs.reads_folder(at("in"), |path| path.extension().is_some_and(|e| e == "jpg"));
        outputs.plan(at("in/frame.pfm"), "a flow").unwrap();
        let error = outputs.plan(at("in/new.jpg"), "a picture").unwrap_err().to_string();
        assert!(error.contains("among the frames"), "{error}");
    }

    #[test]
    fn places_are_tried_before_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        touch(&at("file"));
        let mut outputs = Outputs::default();
        assert!(matches!(outputs.plan(dir.path(), "x"), Err(OutputError::NoFile { .. })));
        assert!(matches!(outputs.plan(at("new/"), "x"), Err(OutputError::NoFile { .. })));
        outputs.plan(at("file/below"), "x").unwrap();
        let error = outputs.prepare().unwrap_err();
        assert!(!error.is_usage() && error.to_string().contains("below"), "{error}");
        let mut outputs = Outputs::default();
        outputs.plan(at("file"), "replaced").unwrap();
        outputs.prepare().unwrap();
        let mut keeping = Outputs::new(true);
        assert!(matches!(keeping.plan(at("file"), "x"), Err(OutputError::Exists(_))));
        keeping.plan(at("other"), "x").unwrap();
    }

    #[test]
    fn names_from_outside_stay_in_their_folder() {
        for (id, path) in [
            ("ambush_1/clean/0001", "ambush_1/clean/0001"),
            ("frame.0001.png", "frame.0001.png"),
            ("../../escaped", "_/_/escaped"),
            ("/ABSOLUTE/elsewhere", "ABSOLUTE/elsewhere"),
            ("..\\x", "__x"),
            ("C:\\x", "C__x"),
            ("a//./b", "a/_/b"),
            ("", "_"),
            ("/", "_"),
            ("..", "_"),
            ("nul.flo", "_nul.flo"),
            ("line\nend\0", "line_end_"),
            ("dots...", "dots_"),
        ] {
            assert_eq!(safe_path(id), Path::new(path), "{id:?}");
        }
        assert_eq!(safe_name(&"é".repeat(300)).len(), LONGEST);
        let dir = tempfile::tempdir().unwrap();
        let mut outputs = Outputs::default();
        let mut seen = HashSet::new();
        for id in ["a", "A", "../a", "_/a", "a.flo/b", "/a", "."] {
            let path = outputs.plan_named(dir.path(), &safe_path(id), "flo", id).unwrap();
            assert!(path.starts_with(dir.path()) && !path.to_string_lossy().contains(".."), "{}", path.display());
            fs::write(&path, id).unwrap();
            assert!(seen.insert(path));
        }
    }

    #[test]
    fn what_is_somebody_elses_is_named() {
        let dir = tempfile::tempdir().unwrap();
        only_holds(&dir.path().join("absent"), |_| false).unwrap();
        for name in [".hidden", "ours-1", "b.txt", "a.txt"] {
            touch(&dir.path().join(name));
        }
        let error = only_holds(dir.path(), |name| name.starts_with("ours")).unwrap_err().to_string();
        assert!(error.contains("(a.txt, b.txt)"), "{error}");
    }
}
