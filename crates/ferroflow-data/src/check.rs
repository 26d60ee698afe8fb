//! Checks whether a data set is complete: compares the number of pairs with the published one, names missing and damaged files, and
//! says where the right folder is if the path is a level off.

use std::{
    fmt,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use ferroflow_core::Size;

use rayon::prelude::*;
use serde::Serialize;

use crate::{
    Spec,
    datasets::{PairFiles, read_pair},
    shards,
};

/// How many files are named; more would hide the first.
const NAMED: usize = 10;

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The data set, as the user spelled it.
    pub spec: String,
    /// Full name of the data set.
    pub title: String,
    /// The layout and the part of the data set.
    pub variant: String,
    /// Number of complete pairs; `None` for an endless data set.
    pub pairs: Option<usize>,
    /// Number of pairs in the published data set, if known.
    pub expected: Option<usize>,
    /// Number of missing files.
    pub missing: usize,
    /// The first of the missing files.
    pub first_missing: Vec<PathBuf>,
    /// Number of damaged files.
    pub damaged: usize,
    /// The first of the damaged files, with what is wrong with each.
    pub first_damaged: Vec<String>,
    /// Why the data set could not be found, if it could not.
    pub problem: Option<String>,
    /// Further notes for the user.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether no file is missing or damaged and there are as many pairs as expected.
    pub fn is_whole(&self) -> bool {
        let counts = self.pairs != Some(0) && (self.expected.is_none() || self.expected == self.pairs);
        counts && self.missing == 0 && self.damaged == 0 && self.problem.is_none()
    }
}

/// Reads the beginning, the end and the length of every file, which takes seconds for the largest set and finds incomplete
/// downloads.
pub fn check(spec: &Spec) -> Report {
    check_with(spec, glance_pair)
}

/// Reads and decodes every file.
pub fn check_thoroughly(spec: &Spec) -> Report {
    check_with(spec, |pair| read_pair(pair, None, false).err().map(|e| e.to_string()))
}

fn check_with(spec: &Spec, damage: impl Fn(&PairFiles) -> Option<String> + Send + Sync) -> Report {
    let mut report = Report { spec: spec.to_string(), title: spec.dataset().title.into(), ..Report::default() };
    match spec.listing() {
        Some(Ok(listing)) => {
            let damaged: Vec<String> = listing.pairs.par_iter().filter_map(damage).collect();
            if listing.pairs.is_empty() {
                report.notes.push(format!("no pairs: {}", spec.instead(&listing.variant)));
            }
            report.variant = listing.variant;
            report.pairs = Some(listing.pairs.len());
            report.expected = listing.expected;
            report.missing = listing.missing.len();
            report.first_missing = listing.missing.into_iter().take(NAMED).collect();
            report.damaged = damaged.len();
            report.first_damaged = damaged.into_iter().take(NAMED).collect();
            report.notes.extend(listing.split);
            report.notes.extend(listing.notes);
        }
        Some(Err(error)) => report.problem = Some(error.to_string()),
        None => match spec.open() {
            Ok(source) => report.pairs = source.len(),
            Err(error) => report.problem = Some(error.to_string()),
        },
    }
    if spec.dataset().name == "shards" && report.problem.is_none() {
        match shards::verify(spec.path()) {
            Ok(faults) => {
                report.damaged = faults.len();
                report.first_damaged = faults.into_iter().take(NAMED).collect();
            }
            Err(error) => report.problem = Some(error.to_string()),
        }
    }
    report
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {}", self.spec, self.title)?;
        if let Some(problem) = &self.problem {
            return writeln!(f, "  {problem}");
        }
        if !self.variant.is_empty() {
            writeln!(f, "  layout   {}", self.variant)?;
        }
        match (self.pairs, self.expected) {
            (None, _) => writeln!(f, "  pairs    endless")?,
            (Some(pairs), None) => writeln!(f, "  pairs    {pairs}")?,
            (Some(pairs), Some(expected)) => writeln!(f, "  pairs    {pairs} of {expected}")?,
        }
        let mut list = |word: &str, count: usize, first: Vec<String>| {
            if count > 0 {
                writeln!(f, "  {word:<8} {count}")?;
            }
            for file in &first {
                writeln!(f, "    {file}")?;
            }
            if count > first.len() { writeln!(f, "    and {} more", count - first.len()) } else { Ok(()) }
        };
        list("missing", self.missing, self.first_missing.iter().map(|p| p.display().to_string()).collect())?;
        list("damaged", self.damaged, self.first_damaged.clone())?;
        for note in &self.notes {
            writeln!(f, "  note     {note}")?;
        }
        writeln!(f, "  {}", if self.is_whole() { "whole" } else { "not whole" })
    }
}

/// The first thing wrong with the files of a pair, as far as their ends and lengths show.
fn glance_pair(pair: &PairFiles) -> Option<String> {
    let mut size = None;
    let parts =
        [Some(&pair.first), Some(&pair.second), pair.truth.as_ref(), pair.occlusion.as_ref(), pair.invalid.as_ref()];
    for path in parts.into_iter().flatten() {
        match (glance(path), size) {
            (Err(reason), _) => return Some(format!("{}: {reason}", path.display())),
            (Ok(Some(found)), Some(expected)) if found != expected => {
                return Some(format!("{}: {found}, frame 1 is {expected} (height x width)", path.display()));
            }
            (Ok(found), _) => size = size.or(found),
        }
    }
    None
}

/// The size, if the format shows them in its first bytes.
fn glance(path: &Path) -> Result<Option<Size>, String> {
    let failed = |e: std::io::Error| e.to_string();
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut head = Vec::new();
    file.by_ref().take(64).read_to_end(&mut head).map_err(failed)?;
    let word = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or([0; 4]);
    let exact = |size: Size, header: usize, bytes_a_pixel: u128| {
        let expected = header as u128 + bytes_a_pixel * size.height as u128 * size.width as u128;
        let expected_is = u128::from(length) == expected;
        if expected_is { Ok(Some(size)) } else { Err(format!("{length} bytes instead of {expected}")) }
    };
    if length == 0 {
        return Err("empty".into());
    }
    if head.starts_with(b"PIEH") {
        let side = |at| u32::from_le_bytes(word(at)) as usize;
        return exact(Size { height: side(8), width: side(4) }, 12, 8);
    }
    if head.starts_with(b"\x89PNG") {
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(length.saturating_sub(12))).map_err(failed)?;
        file.read_to_end(&mut tail).map_err(failed)?;
        if !tail.windows(4).any(|chunk| chunk == b"IEND") {
            return Err("cut short, the end of the PNG is missing".into());
        }
        let side = |at| u32::from_be_bytes(word(at)) as usize;
        return Ok(Some(Size { height: side(20), width: side(16) }));
    }
    if head.starts_with(b"\x89HDF") {
        // Where the file ends, after versions and sizes that differ with the version.
        let at = match head.get(8) {
            Some(0) => 40,
            Some(1) => 44,
            _ => 28,
        };
        let end = u64::from(u32::from_le_bytes(word(at + 4))) << 32 | u64::from(u32::from_le_bytes(word(at)));
        return if length < end { Err(format!("{length} bytes instead of {end}")) } else { Ok(None) };
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        // The length counts from behind itself.
        let expected = 8 + u64::from(u32::from_le_bytes(word(4)));
        return if length < expected { Err(format!("{length} bytes instead of {expected}")) } else { Ok(None) };
    }
    let bytes_a_pixel = match head.get(..2) {
        Some(b"P6") => 3,
        Some(b"PF") => 12,
        _ => return Ok(None),
    };
    // The header is three words and what ends each; one with comments is left to the reader.
    let ends: Vec<usize> = (0..head.len()).filter(|&i| head[i].is_ascii_whitespace()).take(4).collect();
    let &[_, _, _, end] = &ends[..] else { return Ok(None) };
    let header = String::from_utf8_lossy(&head[..end]).into_owned();
    match header.split_ascii_whitespace().collect::<Vec<_>>()[..] {
        [_, w, h, last] if last == "255" || bytes_a_pixel == 12 => match (h.parse(), w.parse()) {
            (Ok(height), Ok(width)) => exact(Size { height, width }, end + 1, bytes_a_pixel),
            _ => Err("the header holds no size".into()),
        },
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::tests::{Tree, chairs, real, sintel};

    #[test]
    fn whole_and_damaged_sets_are_told_apart() {
        let tree = chairs();
        let spec = tree.spec("chairs:{root}");
        let report = check(&spec);
        assert_eq!((report.pairs, report.expected, report.damaged), (Some(4), Some(22_872), 0));
        assert!(!report.is_whole() && report.to_string().contains("4 of 22872"));
        let cut = |path: &str| {
            let bytes = std::fs::read(tree.path(path)).unwrap();
            std::fs::write(tree.path(path), &bytes[..bytes.len() - 1]).unwrap();
        };
        cut("data/00001_flow.flo");
        cut("data/00002_img2.ppm");
        tree.remove("data/00003_img1.ppm");
        for report in [check(&spec), check_thoroughly(&spec)] {
            assert_eq!((report.pairs, report.missing, report.damaged), (Some(3), 1, 2));
            let text = report.to_string();
            for name in ["00001_flow.flo", "00002_img2.ppm", "00003_img1.ppm"] {
                assert!(text.contains(name), "{text}");
            }
        }
    }

    #[test]
    fn the_ends_of_pngs_and_sizes_are_looked_at() {
        let tree = sintel();
        let file = tree.path("training/clean/alley_2/frame_0001.png");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 8]).unwrap();
        let report = check(&tree.spec("sintel-clean:{root}"));
        assert!(report.damaged == 1 && report.first_damaged[0].contains("cut short"), "{report}");
        let (a, b) = (tree.path("a.png"), tree.path("b.png"));
        tree.frame("a.png", 1);
        ferroflow_core::io::write_mask(&b, &ferroflow_core::Mask::filled(Size::new(4, 5), true)).unwrap();
        let report = check(&tree.text("p.tsv", "image1\timage2\na.png\tb.png\n").spec("pairs:{root}/p.tsv"));
        assert!(a.is_file() && report.first_damaged[0].contains("4x5"), "{report}");
    }

    #[test]
    fn a_wrong_folder_and_sets_without_files_are_reported() {
        let tree = sintel();
        let report = check(&tree.spec("sintel-clean:{root}/training"));
        assert!(report.problem.as_ref().is_some_and(|p| p.contains("seems to be")) && !report.is_whole());
        assert!(check(&Tree::new().spec("synth:chairs")).to_string().contains("endless"));
        let Some(data) = real() else { return };
        let report = check(&format!("pairs:{}", data.join("pairs.tsv").display()).parse().unwrap());
        assert!(report.is_whole(), "{report}");
    }
}
