//! Pairs of images that are named one by one, in a list, by the numbers in a folder, or by the caller.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use ferroflow_core::io::{self, Orientation, outputs::safe_name};

use super::{FramePair, SequenceError};

/// The paths of two images, and the name of their results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairPaths {
    /// Name of the results, a relative path; it differs for each pair of a list.
    pub name: PathBuf,
    /// The frame whose pixels the flow describes.
    pub first: PathBuf,
    /// The frame they moved to.
    pub second: PathBuf,
}

impl PairPaths {
    /// A pair whose results have the name of the first image.
    pub fn new(first: PathBuf, second: PathBuf) -> Self {
        Self { name: stem(&first), first, second }
    }

    /// Reads both images.
    ///
    /// # Errors
    /// If one cannot be read or they differ in size.
    pub fn read(&self, orientation: Orientation) -> Result<FramePair, SequenceError> {
        let [first, second] = [&self.first, &self.second].map(|path| io::read_frame_as(path, orientation));
        let (first, second) = (first?, second?);
        let sizes = [first.size(), second.size()];
        if sizes[0] != sizes[1] {
            return Err(SequenceError::PairSizes { first: self.first.clone(), second: self.second.clone(), sizes });
        }
        let name = self.name.display().to_string();
        Ok(FramePair { name, first: Arc::new(first), second: Arc::new(second) })
    }
}

/// The name of a file without its extension, whatever dots are left.
fn stem(path: &Path) -> PathBuf {
    path.file_stem().unwrap_or_default().into()
}

/// The pairs of a folder in which every image is called `NAME1.ext` or `NAME2.ext` and has its partner; `None` for a folder that
/// holds a sequence. `files` are all its images.
pub fn numbered_pairs(files: &[PathBuf]) -> Option<Vec<PairPaths>> {
    let names: HashSet<&PathBuf> = files.iter().collect();
    let mut pairs = Vec::new();
    for file in files {
        let name = file.file_name()?.to_str()?;
        let (stem, extension) = name.rsplit_once('.')?;
        // The name may hold other dots (`0000.img1.png`): only the digit before the last one changes.
        let partner = |digit: char| {
            let path = file.with_file_name(format!("{}{digit}.{extension}", &stem[..stem.len() - 1]));
            names.contains(&path).then_some(path)
        };
        // A digit before the last one makes it a running number (`frame11`), not one of a pair.
        let of_pair =
            |digit: char| stem.strip_suffix(digit).is_some_and(|rest| !rest.ends_with(|c: char| c.is_ascii_digit()));
        if of_pair('1') {
            pairs.push(PairPaths { name: stem.into(), first: file.clone(), second: partner('2')? });
        } else if !of_pair('2') || partner('1').is_none() {
            return None;
        }
    }
    // Two files alone are as well a sequence of two: the same one pair.
    (pairs.len() > 1).then_some(pairs)
}

/// The images called `NAME1.ext` that have a partner `NAME2.ext` among these, as LightFlow's `inference.py` pairs them: other images
/// are left out, and `NAME` may end in a digit.
pub fn pairs_among(files: &[PathBuf]) -> Vec<PairPaths> {
    let names: HashSet<&PathBuf> = files.iter().collect();
    let pair = |file: &PathBuf| {
        let (stem, extension) = file.file_name()?.to_str()?.rsplit_once('.')?;
        let second = file.with_file_name(format!("{}2.{extension}", stem.strip_suffix('1')?));
        names.contains(&second).then(|| PairPaths { name: stem.into(), first: file.clone(), second })
    };
    files.iter().filter_map(pair).collect()
}

/// The pairs of a text file: two paths a line, relative to its own folder, with a tab or spaces between them. Each has a name of
/// its own.
///
/// # Errors
/// If the file cannot be read or a line names no two images.
pub fn listed_pairs(path: &Path) -> Result<Vec<PairPaths>, SequenceError> {
    let text = io::read_text(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> =
            if line.contains('\t') { line.split('\t').collect() } else { line.split_whitespace().collect() };
        let [first, second, ..] = fields[..] else {
            return Err(SequenceError::List { path: path.into(), line: number + 1 });
        };
        pairs.push(PairPaths::new(folder.join(first), folder.join(second)));
    }
    name_apart(&mut pairs);
    Ok(pairs)
}

/// Gives the pairs of a list names of their own: that of the first frame; where two would be equal, its path below the folder
/// that all first frames share; where these are equal too, both frames' names.
fn name_apart(pairs: &mut [PairPaths]) {
    let differ = |pairs: &[PairPaths]| {
        let mut seen = HashSet::new();
        pairs.iter().all(|pair| seen.insert(pair.name.as_os_str().to_ascii_lowercase()))
    };
    if differ(pairs) {
        return;
    }
    let folders = |pair: &PairPaths| -> Vec<String> {
        let folders = pair.first.parent().into_iter().flat_map(Path::components);
        folders.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let mut shared = pairs.first().map_or(Vec::new(), folders);
    for pair in pairs.iter() {
        let same = shared.iter().zip(folders(pair)).take_while(|(a, b)| *a == b).count();
        shared.truncate(same);
    }
    for pair in pairs.iter_mut() {
        let below: PathBuf = folders(pair)[shared.len()..].iter().map(|part| safe_name(part)).collect();
        pair.name = below.join(&pair.name);
    }
    if !differ(pairs) {
        for pair in pairs.iter_mut() {
            let mut name = std::mem::take(&mut pair.name).into_os_string();
            name.push("-");
            name.push(stem(&pair.second));
            pair.name = name.into();
        }
    }
}
