//! Finds out whether a path holds one video, one folder of frames, or several of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    DataError,
    sequence::{Frames, Reading, SequenceError, animation, folder, image_files, natural_order, video},
};

/// Extensions of the files that count as videos in a folder; a video that is named by itself may have any extension.
pub const VIDEO_EXTENSIONS: [&str; 18] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "y4m", "mpg", "mpeg", "ts", "m2ts", "mts", "wmv", "flv", "ogv", "3gp",
    "vob", "mxf",
];

/// A video, an animation or a folder of frames.
#[derive(Clone, Debug)]
pub struct Clip {
    /// The file or folder.
    pub path: PathBuf,
    /// Its file's or folder's name.
    pub name: String,
}

impl Clip {
    fn new(path: PathBuf) -> Self {
        let named = path.canonicalize().ok();
        let name = path.file_name().or_else(|| named.as_ref()?.file_name());
        let name = name.unwrap_or_default().to_string_lossy().into_owned();
        Self { path, name }
    }

    /// Its frames in order.
    ///
    /// # Errors
    /// As [`video`] and [`folder`].
    pub fn frames(&self, reading: &Reading) -> Result<Frames, SequenceError> {
        if self.path.is_dir() { folder(&self.path, reading) } else { video(&self.path, reading) }
    }

    /// The files it reads.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn files(&self) -> Result<Vec<PathBuf>, SequenceError> {
        if self.path.is_dir() { image_files(&self.path) } else { Ok(vec![self.path.clone()]) }
    }
}

/// The clips of a path, in natural order of their names: the path itself if it is a file or holds frames; the videos in it; else
/// the folders of frames in it.
///
/// # Errors
/// If a folder holds none of these or cannot be listed.
pub fn clips(path: &Path) -> Result<Vec<Clip>, DataError> {
    if !path.is_dir() {
        return Ok(vec![Clip::new(path.into())]);
    }
    let images = image_files(path)?;
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| DataError::io(path, e))? {
        entries.push(entry.map_err(|e| DataError::io(path, e))?.path());
    }
    entries.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    entries.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
    // A folder of pictures that move is a folder of videos.
    let moving = match images.first() {
        Some(first) => animation(first)?.is_some(),
        None => false,
    };
    let is_video = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        path.is_file() && (VIDEO_EXTENSIONS.contains(&extension.as_str()) || moving && images.contains(path))
    };
    let mut found: Vec<PathBuf> = entries.iter().filter(|path| is_video(path)).cloned().collect();
    if found.is_empty() && !images.is_empty() {
        found.push(path.into());
    }
    if found.is_empty() {
        for entry in entries.into_iter().filter(|path| path.is_dir()) {
            if !image_files(&entry)?.is_empty() {
                found.push(entry);
            }
        }
    }
    if found.is_empty() {
        let reason = "this folder holds no frames (images), no videos, and no folders of frames";
        return Err(DataError::content(path, reason));
    }
    Ok(found.into_iter().map(Clip::new).collect())
}
