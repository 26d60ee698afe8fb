//! A folder of images as a sequence.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ferroflow_core::io::read_frame;

use super::{Frames, NamedFrame, SequenceError};

/// Names that count as images in a folder; their content decides the format.
pub const IMAGE_EXTENSIONS: [&str; 11] =
    ["png", "jpg", "jpeg", "ppm", "pgm", "pnm", "bmp", "tif", "tiff", "webp", "gif"];

/// The images of a folder in [`natural_order`] of their names, decoded as they are asked for.
///
/// # Errors
/// If the folder cannot be listed or holds no image.
pub fn folder(path: &Path) -> Result<Frames, SequenceError> {
    let files = image_files(path)?;
    if files.is_empty() {
        return Err(SequenceError::Empty { path: path.into() });
    }
    Ok(Box::new(files.into_iter().map(|file| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(NamedFrame { name, frame: Arc::new(read_frame(&file)?) })
    })))
}

/// The image files directly in a folder, in [`natural_order`] of their names: the same on every system.
///
/// # Errors
/// If the folder cannot be listed.
pub fn image_files(path: &Path) -> Result<Vec<PathBuf>, SequenceError> {
    let failed = |source| SequenceError::Io { path: path.into(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let extension = file.extension().map(|e| e.to_string_lossy().to_lowercase());
        if extension.is_some_and(|e| IMAGE_EXTENSIONS.contains(&e.as_str())) && file.is_file() {
            files.push(file);
        }
    }
    files.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
    Ok(files)
}

/// Runs of digits compare as numbers, everything else byte by byte, so `frame2` comes before `frame10`.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    while let (Some(&p), Some(&q)) = (x.first(), y.first()) {
        if p.is_ascii_digit() && q.is_ascii_digit() {
            let (n, rest_x) = digits(x);
            let (m, rest_y) = digits(y);
            match n.len().cmp(&m.len()).then(n.cmp(m)) {
                Ordering::Equal => (x, y) = (rest_x, rest_y),
                unequal => return unequal,
            }
        } else if p == q {
            (x, y) = (&x[1..], &y[1..]);
        } else {
            return p.cmp(&q);
        }
    }
    // Equal up to leading zeros and length: fall back to the plain order so that no two names are equal.
    x.len().cmp(&y.len()).then(a.cmp(b))
}

/// The number a text starts with, without leading zeros, and what follows.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let zeros = text[..end].iter().take_while(|&&c| c == b'0').count();
    (&text[zeros..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use ferroflow_core::{Frame, io::write_frame};

    use super::*;
    use crate::sequence::successive;

    #[test]
    fn numbers_sort_as_numbers() {
        let mut names = ["f10", "f2", "f02", "f1a", "f1", "e", "f100"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["e", "f1", "f1a", "f02", "f2", "f10", "f100"]);
    }

    #[test]
    fn successive_frames_of_a_folder_pair_up_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in [("f10.png", 3), ("f9.png", 2), ("f1.png", 1)] {
            write_frame(dir.path().join(name), &Frame::from_fn(4, 3, |_, _| [value; 3])).unwrap();
        }
        std::fs::write(dir.path().join("notes.txt"), "no image").unwrap();
        let pairs: Vec<_> = successive(folder(dir.path()).unwrap()).collect::<Result<_, _>>().unwrap();
        let seen: Vec<_> = pairs.iter().map(|p| (p.name.as_str(), p.first.rgb()[0], p.second.rgb()[0])).collect();
        assert_eq!(seen, [("f1", 1, 2), ("f9", 2, 3)]);
    }

    #[test]
    fn a_folder_without_images_says_what_it_wants() {
        let dir = tempfile::tempdir().unwrap();
        let error = folder(dir.path()).err().unwrap().to_string();
        assert!(error.contains("no image") && error.contains("png"), "{error}");
    }
}
