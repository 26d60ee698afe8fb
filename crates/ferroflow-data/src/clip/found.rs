//! What was found in videos, as text.

use std::fmt;

use ferroflow_core::Size;

/// What was found in videos that were opened for training, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Number of videos and folders of frames.
    pub clips: usize,
    /// Number of frames that were decoded.
    pub frames: usize,
    /// Number of pairs.
    pub pairs: usize,
    /// Number of frames that were left out because they repeat the frame before.
    pub duplicates: usize,
    /// Number of frames that were left out because they have a single colour.
    pub blank: usize,
    /// Number of cuts to another scene; no pair crosses one.
    pub cuts: usize,
    /// Clips whose frames are cropped.
    pub cropped: Vec<Cropped>,
    /// Number of still signs that stay in the frames.
    pub signs_left: usize,
    /// One run of frames in this many is kept, because memory allows no more; 1 if all are kept.
    pub thinned: usize,
    /// Bytes that the frames take in memory.
    pub bytes: u64,
    /// Clips that were left out because they have too few frames, and their numbers of frames.
    pub short: Vec<(String, usize)>,
    /// Notes on files that were read.
    pub notes: Vec<String>,
}

/// A clip whose frames are cropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cropped {
    /// Name of the clip.
    pub clip: String,
    /// Size of its frames.
    pub from: Size,
    /// Size of the part that is kept.
    pub to: Size,
    /// Whether bars were cut off.
    pub bars: bool,
    /// Number of still signs that were cut off with the band that they lie in.
    pub signs: usize,
}

/// A number of things, in words.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

impl fmt::Display for Cropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signs = (self.signs > 0).then(|| count(self.signs, "still sign"));
        let what: Vec<String> = self.bars.then(|| "bars".to_string()).into_iter().chain(signs).collect();
        write!(f, "{} of {} cut off, {} is left of {}", what.join(" and "), self.clip, self.to, self.from)
    }
}

impl fmt::Display for Found {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} of {}", count(self.pairs, "pair"), count(self.frames, "frame"), count(self.clips, "clip"))?;
        let mut said = |number: usize, text: String| if number > 0 { write!(f, "; {text}") } else { Ok(()) };
        said(self.cuts, format!("{}, none of them inside a pair", count(self.cuts, "cut")))?;
        said(self.duplicates, format!("{} skipped", count(self.duplicates, "duplicate")))?;
        said(self.blank, format!("{} of one colour skipped", count(self.blank, "frame")))?;
        const LISTED: usize = 3;
        for cropped in self.cropped.iter().take(LISTED) {
            said(1, cropped.to_string())?;
        }
        let more = self.cropped.len().saturating_sub(LISTED);
        said(more, format!("and so from {} more", count(more, "clip")))?;
        said(
            self.signs_left,
            format!("{} left in: cutting off would take a fifth of the picture", count(self.signs_left, "still sign")),
        )?;
        said(
            self.short.len(),
            format!(
                "{} of fewer than {} frames left out, the first is {}",
                count(self.short.len(), "clip"),
                super::FEWEST,
                self.short.first().map_or("", |(name, _)| name)
            ),
        )?;
        said(
            self.thinned.saturating_sub(1),
            format!("1 in {} kept, evenly spread: more does not fit into memory", self.thinned),
        )?;
        self.notes.iter().try_for_each(|note| said(1, note.clone()))
    }
}
