//! Finds the folder of a data set when the path given is a level off.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Dataset;
use crate::DataError;

/// How far up, how far down, and through how many folders the right one is looked for.
const UP: usize = 2;
const DOWN: usize = 3;
const FOLDERS: usize = 2000;

/// A name shows itself among the first entries of a folder; those of FlyingChairs have 68,616.
const ENTRIES: usize = 500;

impl Dataset {
    /// The folder with the data: `path`, or the one an archive has inside.
    pub(crate) fn locate(&self, path: &Path) -> Result<PathBuf, DataError> {
        if self.marks.is_empty() {
            return Ok(path.into());
        }
        let inside = self.inner.iter().map(|inner| path.join(inner));
        if let Some(root) = std::iter::once(path.to_path_buf()).chain(inside).find(|root| self.fits(root)) {
            return Ok(root);
        }
        let remedy = match self.nearby(path) {
            Some(found) => format!("; it seems to be {}:{}", self.name, found.display()),
            None if !path.exists() => "; there is no such folder".to_string(),
            None => String::new(),
        };
        let wants = self.marks.join(" or ");
        Err(DataError::Layout { path: path.into(), dataset: self.title, wants, remedy })
    }

    fn fits(&self, root: &Path) -> bool {
        self.marks.iter().any(|mark| shows(root, mark))
    }

    fn nearby(&self, path: &Path) -> Option<PathBuf> {
        if let Some(above) = path.ancestors().skip(1).take(UP).find(|p| !p.as_os_str().is_empty() && self.fits(p)) {
            return Some(above.into());
        }
        let start = path.ancestors().take(UP).find(|p| p.is_dir())?;
        let mut level = vec![start.to_path_buf()];
        let mut left = FOLDERS;
        for _ in 0..DOWN {
            let mut next: Vec<PathBuf> = level.iter().flat_map(|folder| subfolders(folder)).take(left).collect();
            next.sort();
            if let Some(found) = next.iter().find(|folder| self.fits(folder)) {
                return Some(found.clone());
            }
            left -= next.len();
            level = next;
        }
        None
    }
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| !t.is_file())).map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

/// Whether `root` holds `mark`, a path whose parts may begin with `*`.
fn shows(root: &Path, mark: &str) -> bool {
    let (part, rest) = mark.split_once('/').map_or((mark, None), |(part, rest)| (part, Some(rest)));
    let go_on = |path: &Path| rest.map_or_else(|| path.exists(), |rest| shows(path, rest));
    match part.strip_prefix('*') {
        None => go_on(&root.join(part)),
        Some(end) => fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .take(ENTRIES)
            .any(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(end)) && go_on(&entry.path())),
    }
}
