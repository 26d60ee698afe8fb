//! Finds the folder of a data set when the path given is a level off.

use std::{
    collections::{BTreeMap, VecDeque},
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

/// Names of a folder that a message shows.
const SHOWN: usize = 8;

impl Dataset {
    /// What is at a path at which no pair was found: names, kinds of files below, and the data set where it is near.
    pub(crate) fn survey(&self, path: &Path) -> String {
        if path.is_file() {
            return format!("{} is a file", path.display());
        }
        if !path.is_dir() {
            // A preset, say, is no place.
            return "nothing is listed there".into();
        }
        let mut names: Vec<String> = fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.'))
            .take(ENTRIES)
            .collect();
        names.sort();
        if names.is_empty() {
            return format!("{} is empty", path.display());
        }
        let more = if names.len() > SHOWN { ", ..." } else { "" };
        names.truncate(SHOWN);
        let mut text = format!("{} holds {}{more}", path.display(), names.join(", "));
        let kinds: Vec<String> = kinds(path).into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        if !kinds.is_empty() {
            text += &format!("; files there and below: {}", kinds.join(", "));
        }
        if let Some(found) = self.nearby(path).filter(|_| !self.marks.is_empty()) {
            text += &format!("; {}:{} may be meant", self.name, found.display());
        }
        text
    }
}

/// Extensions of the files below a folder with their numbers, the most frequent first; of the first [`FOLDERS`] folders and
/// [`ENTRIES`] entries of each.
fn kinds(folder: &Path) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut queue = VecDeque::from([folder.to_path_buf()]);
    let mut left = FOLDERS;
    while let Some(folder) = queue.pop_front().filter(|_| left > 0) {
        left -= 1;
        for entry in fs::read_dir(folder).into_iter().flatten().flatten().take(ENTRIES) {
            let path = entry.path();
            match entry.file_type() {
                // Links are not followed, so no circle is walked.
                Ok(kind) if kind.is_dir() => queue.push_back(path),
                Ok(_) if !entry.file_name().to_string_lossy().starts_with('.') => {
                    let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy()));
                    *counts.entry(extension.unwrap_or("without extension".into())).or_default() += 1;
                }
                _ => {}
            }
        }
    }
    let mut kinds: Vec<_> = counts.into_iter().collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.1));
    kinds.truncate(SHOWN);
    kinds
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
