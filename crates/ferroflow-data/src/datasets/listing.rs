//! Files that belong together, and the folders they are found in.

use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::DataError;

/// The files of one pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairFiles {
    /// Name of the pair, unique within the data set.
    pub id: String,
    /// Frame 1.
    pub first: PathBuf,
    /// Frame 2.
    pub second: PathBuf,
    /// Ground truth, if any.
    pub truth: Option<PathBuf>,
    /// Mask of the pixels of frame 1 that frame 2 does not show.
    pub occlusion: Option<PathBuf>,
    /// Ground truth of those pixels alone that frame 2 shows too: the others that have one are occluded.
    pub visible: Option<PathBuf>,
    /// Mask of the pixels whose ground truth must not be used.
    pub invalid: Option<PathBuf>,
    /// Map of the moving objects of frame 1: 0 is the background, every other value an object.
    pub objects: Option<PathBuf>,
}

/// The files of a data set that were found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Name of the layout.
    pub variant: String,
    /// The complete pairs, in order.
    pub pairs: Vec<PairFiles>,
    /// Number of pairs in the published data set, if known.
    pub expected: Option<usize>,
    /// Files that are missing.
    pub missing: Vec<PathBuf>,
    /// Further notes for the user.
    pub notes: Vec<String>,
    /// How the pairs were split, with the hash of the split, if they were.
    pub split: Vec<String>,
    /// Lists beside the data that were read.
    pub lists: Vec<PathBuf>,
    /// Ground truth with a component beyond this is unknown, px.
    pub largest: Option<f32>,
    /// Whether the ground truth is stored upside down.
    pub flipped: bool,
}

impl Listing {
    /// An empty list of that layout.
    pub(crate) fn new(variant: impl Into<String>) -> Self {
        Self { variant: variant.into(), ..Self::default() }
    }

    /// Adds a pair if every one of its files is there, and gives it; else notes what is missing.
    pub(crate) fn add(
        &mut self,
        id: String,
        frames: [Found; 2],
        truth: Option<Found>,
        masks: [Option<Found>; 2],
    ) -> Option<&mut PairFiles> {
        let before = self.missing.len();
        let mut take = |found: Found| match found {
            Found::There(path) => path,
            Found::Missing(path) => {
                self.missing.push(path.clone());
                path
            }
        };
        let [first, second] = frames.map(&mut take);
        let truth = truth.map(&mut take);
        let [occlusion, invalid] = masks.map(|mask| mask.map(&mut take));
        if self.missing.len() > before {
            return None;
        }
        self.pairs.push(PairFiles { id, first, second, truth, occlusion, visible: None, invalid, objects: None });
        self.pairs.last_mut()
    }
}

/// A path that was looked for.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    There(PathBuf),
    Missing(PathBuf),
}

/// Names in a folder, sorted; hidden ones left out.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    files: BTreeSet<String>,
    folders: BTreeSet<String>,
}

impl Folder {
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, DataError> {
        let path = path.into();
        let (mut files, mut folders) = (BTreeSet::new(), BTreeSet::new());
        for entry in fs::read_dir(&path).map_err(|e| DataError::io(&path, e))? {
            let entry = entry.map_err(|e| DataError::io(&path, e))?;
            // No data set has names beyond ASCII.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type().map_err(|e| DataError::io(entry.path(), e))?;
            let is_folder = if kind.is_symlink() { entry.path().is_dir() } else { kind.is_dir() };
            if !name.starts_with('.') {
                if is_folder {
                    folders.insert(name)
                } else {
                    files.insert(name)
                };
            }
        }
        Ok(Self { path, files, folders })
    }

    /// The folder, or an empty one if there is none.
    pub fn read_or_empty(path: impl Into<PathBuf>) -> Result<Self, DataError> {
        let path = path.into();
        if path.is_dir() {
            return Self::read(path);
        }
        Ok(Self { path, files: BTreeSet::new(), folders: BTreeSet::new() })
    }

    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.folders.iter().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.files.contains(name)
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.folders.is_empty()
    }

    pub fn find(&self, name: &str) -> Found {
        let path = self.path.join(name);
        if self.has(name) { Found::There(path) } else { Found::Missing(path) }
    }

    /// What remains of the names that end with one of `suffixes`, in order.
    pub fn stems<'a, 's>(&'a self, suffixes: &'s [&'s str]) -> impl Iterator<Item = &'a str> + use<'a, 's> {
        self.files().filter_map(|name| suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)))
    }

    /// The numbered frames, `{number}.png` or, as newer releases have them, `{number}.webp`.
    pub fn frames(&self) -> Numbered<'_> {
        let png = self.numbered("", ".png");
        if png.numbers.is_empty() { self.numbered("", ".webp") } else { png }
    }

    /// The files named `{prefix}{number}{suffix}`.
    pub fn numbered(&self, prefix: &str, suffix: &str) -> Numbered<'_> {
        let digits = |name: &str| {
            let number = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
            Some((number.len(), number.parse::<u32>().ok()?))
        };
        let found: Vec<_> = self.files().filter_map(digits).collect();
        let width = found.first().map_or(4, |&(width, _)| width);
        let numbers = found.into_iter().filter(|&(w, _)| w == width).map(|(_, number)| number).collect();
        Numbered { folder: self, prefix: prefix.into(), suffix: suffix.into(), width, numbers }
    }
}

/// The numbered files of a folder.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<'a> {
    folder: &'a Folder,
    prefix: String,
    suffix: String,
    width: usize,
    pub numbers: BTreeSet<u32>,
}

impl Numbered<'_> {
    pub fn find(&self, number: u32) -> Found {
        let Self { prefix, suffix, width, .. } = self;
        self.folder.find(&format!("{prefix}{number:0width$}{suffix}"))
    }

    /// Each number with its neighbour: the next one if `forward`, else the one before. Numbers that only `truth` has
    /// count too, so that a missing frame is noticed; the end of the sequence has no neighbour.
    pub fn neighbours(&self, truth: Option<&Self>, forward: bool) -> Vec<(u32, u32)> {
        let (Some(&low), Some(&high)) = (self.numbers.first(), self.numbers.last()) else { return Vec::new() };
        let mut all = self.numbers.clone();
        all.extend(truth.iter().flat_map(|t| &t.numbers).filter(|&&n| low < n && n < high));
        let end = if forward { high } else { low };
        all.into_iter().filter(|&n| n != end).map(|n| (n, if forward { n + 1 } else { n - 1 })).collect()
    }
}
