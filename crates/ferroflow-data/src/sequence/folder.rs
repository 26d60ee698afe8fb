//! A folder of images as a sequence.

use std::{
    cmp::Ordering,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ferroflow_core::io::read_frame_as;

use super::{Frames, NamedFrame, Reading, SequenceError};

/// Extensions of the files that count as images in a folder; their content decides the format.
pub const IMAGE_EXTENSIONS: [&str; 11] =
    ["png", "jpg", "jpeg", "ppm", "pgm", "pnm", "bmp", "tif", "tiff", "webp", "gif"];

/// The images of a folder in [`natural_order`] of their names, decoded as they are asked for. [`Reading::note`] is told of gaps
/// in their numbers.
///
/// # Errors
/// If the folder cannot be listed or holds no image.
pub fn folder(path: &Path, reading: &Reading) -> Result<Frames, SequenceError> {
    let files = image_files(path)?;
    if files.is_empty() {
        return Err(SequenceError::Empty { path: path.into() });
    }
    gaps(&files).iter().for_each(|gap| (reading.note)(&format!("{}: {gap}", path.display())));
    let orientation = reading.orientation;
    Ok(Box::new(files.into_iter().map(move |file| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(NamedFrame { name, frame: Arc::new(read_frame_as(&file, orientation)?) })
    })))
}

/// A gap between two neighbours in a folder, whose numbers are further apart than is usual there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Name of the last file before it.
    pub before: String,
    /// Name of the first file after it.
    pub after: String,
    /// Number of frames that are missing.
    pub missing: u64,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after, missing } = self;
        let frames = if *missing == 1 { "1 frame is".into() } else { format!("{missing} frames are") };
        write!(f, "{frames} missing between {before} and {after}, so the flow between them spans more time")
    }
}

/// The gaps among numbered files, in their order. The usual distance is one that at least half of the neighbours have, and more
/// than one pair of them unless it is 1. If there is no usual distance, as with times for names, there are no gaps.
pub fn gaps(files: &[PathBuf]) -> Vec<Gap> {
    let steps: Vec<(u64, &[PathBuf])> =
        files.windows(2).filter_map(|pair| Some((distance(&pair[0], &pair[1])?, pair))).collect();
    let mut distances: Vec<u64> = steps.iter().map(|&(distance, _)| distance).collect();
    distances.sort_unstable();
    // The smallest of those that come most often.
    let usual = distances.chunk_by(|a, b| a == b).rev().max_by_key(|equal| equal.len());
    let is_usual = |equal: &&[u64]| 2 * equal.len() >= steps.len() && (equal.len() > 1 || equal[0] == 1);
    let Some(usual) = usual.filter(is_usual).map(|equal| equal[0]) else { return Vec::new() };
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Times for names differ a little from frame to frame.
    let unusual = steps.iter().filter(|&&(distance, _)| 2 * u128::from(distance) >= 3 * u128::from(usual));
    unusual
        .map(|&(distance, pair)| Gap {
            before: name(&pair[0]),
            after: name(&pair[1]),
            missing: (distance / usual).saturating_sub(1).max(1),
        })
        .collect()
}

/// How far the numbers of two names are apart which are equal but for the last number in them.
fn distance(a: &Path, b: &Path) -> Option<u64> {
    let parts = |path: &Path| {
        let stem = path.file_stem()?.to_str()?.to_owned();
        let end = stem.rfind(|c: char| c.is_ascii_digit())? + 1;
        let start = stem[..end].trim_end_matches(|c: char| c.is_ascii_digit()).len();
        Some((stem[..start].to_owned(), stem[end..].to_owned(), stem[start..end].parse::<u64>().ok()?))
    };
    let ((before_a, after_a, a), (before_b, after_b, b)) = (parts(a)?, parts(b)?);
    (before_a == before_b && after_a == after_b).then(|| a.abs_diff(b)).filter(|&distance| distance > 0)
}

/// The image files directly in a folder, in [`natural_order`] of their names, which is the same on every system. Hidden files
/// are left out, such as the `._NAME` that macOS leaves beside a `NAME`.
///
/// # Errors
/// If the folder cannot be listed.
pub fn image_files(path: &Path) -> Result<Vec<PathBuf>, SequenceError> {
    let failed = |source| SequenceError::Io { path: path.into(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let extension = file.extension().map(|e| e.to_string_lossy().to_lowercase());
        if extension.is_some_and(|e| IMAGE_EXTENSIONS.contains(&e.as_str())) && file.is_file() {
            files.push(file);
        }
    }
    files.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
    Ok(files)
}

/// Compares names with runs of digits as numbers and everything else byte by byte, so that `frame2` comes before `frame10`.
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
    use ferroflow_core::{Frame, Size, io::write_frame};

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
            write_frame(dir.path().join(name), &Frame::from_fn(Size::new(3, 4), |_, _| [value; 3])).unwrap();
        }
        std::fs::write(dir.path().join("notes.txt"), "no image").unwrap();
        std::fs::write(dir.path().join("._f1.png"), "what macOS leaves").unwrap();
        let pairs: Vec<_> =
            successive(folder(dir.path(), &Reading::default()).unwrap()).collect::<Result<_, _>>().unwrap();
        let seen: Vec<_> = pairs.iter().map(|p| (p.name.as_str(), p.first.rgb()[0], p.second.rgb()[0])).collect();
        assert_eq!(seen, [("f1", 1, 2), ("f9", 2, 3)]);
    }

    #[test]
    fn a_folder_without_images_says_what_it_wants() {
        let dir = tempfile::tempdir().unwrap();
        let error = folder(dir.path(), &Reading::default()).err().unwrap().to_string();
        assert!(error.contains("no image") && error.contains("png"), "{error}");
    }

    #[test]
    fn a_gap_is_a_distance_beyond_the_usual_one() {
        let gaps = |names: &[&str]| {
            let files: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
            gaps(&files).into_iter().map(|g| (g.before, g.missing)).collect::<Vec<_>>()
        };
        assert_eq!(gaps(&["f1.png", "f2.png", "f3.png", "f7.png", "f8.png"]), [("f3.png".to_string(), 3)]);
        assert_eq!(gaps(&["f0005.png", "f0010.png", "f0020.png", "f0025.png"]), [("f0010.png".to_string(), 1)]);
        for whole in [
            &["f1.png", "f2.png", "f3.png"][..],
            &["f00.png", "f10.png", "f20.png"],
            &["1403636579763555584.png", "1403636579813555456.png", "1403636579863555600.png"],
            &["a1.png", "a2.png", "b7.png", "b8.png"],
            &["x.png", "y.png"],
            &[],
        ] {
            assert!(gaps(whole).is_empty(), "{whole:?}");
        }
    }

    #[test]
    fn a_frame_of_another_size_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for (name, width) in [("f1.png", 4), ("f2.png", 4), ("f3.png", 5)] {
            write_frame(dir.path().join(name), &Frame::from_fn(Size::new(3, width), |_, _| [0; 3])).unwrap();
        }
        let pairs: Vec<_> = successive(folder(dir.path(), &Reading::default()).unwrap()).collect();
        let error = pairs[1].as_ref().unwrap_err().to_string();
        assert!(pairs[0].is_ok() && error.contains("f2 is 3x4") && error.contains("f3"), "{error}");
    }
}
