//! What was found in videos, in words.

use std::fmt;

use ferroflow_core::Size;

/// What was found in videos that were opened for training, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Videos and folders of frames.
    pub clips: usize,
    /// Frames that were decoded.
    pub frames: usize,
    /// Pairs there are for training.
    pub pairs: usize,
    /// Frames that show what the one before them shows, left out.
    pub duplicates: usize,
    /// Frames of one colour, left out.
    pub blank: usize,
    /// Cuts to another scene; no pair leads across one.
    pub cuts: usize,
    /// Clips of which only a part is shown.
    pub cropped: Vec<Cropped>,
    /// Still signs that stay in the picture.
    pub signs_left: usize,
    /// Of so many runs of frames, one is kept, as memory allows no more; 1 where all are.
    pub thinned: usize,
    /// Bytes that the frames take in memory.
    pub bytes: u64,
    /// Clips with too few frames, left out, and how many they have.
    pub short: Vec<(String, usize)>,
    /// What a reader should know of files that were read all the same.
    pub notes: Vec<String>,
}

/// A clip of which only a part is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cropped {
    /// Its name.
    pub clip: String,
    /// Size of its frames.
    pub from: Size,
    /// Size of what is shown of them.
    pub to: Size,
    /// Whether there are bars.
    pub bars: bool,
    /// How many still signs were cut off with the band they lie in.
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
