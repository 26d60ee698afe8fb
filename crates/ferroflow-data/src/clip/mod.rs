//! Plain videos as a data set for training without ground truth, whose pairs can be read in any order.
//!
//! Videos are decoded once, when they are opened. Frames and parts of frames that would teach wrong motion are left out: frames that
//! repeat the one before or have a single colour, pairs across a cut, bars at the borders, signs that stand still over the picture.
//! The rest is kept in memory, compressed without loss; if there is not enough memory, runs of frames are left out evenly.
//! Interlaced videos are refused.
//!
//! Scenes that dissolve into each other, and signs that are half transparent or change (clocks, running text), are not found.

mod cuts;
mod fields;
mod files;
mod found;
mod look;
mod plane;
mod still;
mod store;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ferroflow_core::{Size, io::IoError, memory};

pub use self::{
    cuts::CutFinder,
    files::{Clip, VIDEO_EXTENSIONS, clips},
    found::{Cropped, Found},
    look::{Look, Step},
};
use self::{
    fields::Fields,
    still::{Area, Stillness},
    store::Store,
};
use crate::{
    DataError, Sample, Source,
    sequence::{Reading, SequenceError},
};

/// Fewest different frames that a clip must have.
pub const FEWEST: usize = 8;

/// The part of the pairs to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All pairs.
    #[default]
    All,
    /// Pairs for training: those that share no frame with [`Part::Val`].
    Train,
    /// Pairs for validation: the last tenth of each clip's pairs, at least one.
    Val,
}

/// Which pairs of a video to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The second frame of a pair is this many frames after the first; duplicates do not count.
    pub gap: NonZeroUsize,
    /// Which part of the pairs to take.
    pub part: Part,
    /// Most pairs to take, evenly spread.
    pub max: Option<NonZeroUsize>,
}

impl Default for Options {
    /// All pairs of neighbours.
    fn default() -> Self {
        Self { gap: NonZeroUsize::MIN, part: Part::All, max: None }
    }
}

impl fmt::Display for Options {
    /// As the words of a data set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::All => None,
            Part::Train => Some("train".to_string()),
            Part::Val => Some("val".to_string()),
        };
        let gap = (self.gap.get() > 1).then(|| format!("gap={}", self.gap));
        let words = [part, gap, self.max.map(|max| format!("max={max}"))];
        write!(f, "{}", words.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

/// Pairs of frames of videos, kept in memory.
pub struct Clips {
    name: String,
    files: Vec<PathBuf>,
    pairs: Vec<Pair>,
    frames: Store,
    found: Found,
}

/// A pair by the numbers of its frames.
struct Pair {
    first: usize,
    second: usize,
    /// What is shown of them.
    area: Area,
    id: String,
}

/// Opens and decodes a video, an animation, a folder of frames, or a folder of any of these.
///
/// # Errors
/// If it cannot be read, is interlaced, no pair is left, or a clip has fewer than [`FEWEST`] different frames (one of several is
/// left out).
pub fn open_clips(path: &Path, options: &Options) -> Result<Clips, DataError> {
    /// Bytes at most, and where the system does not tell what it has.
    const BUDGET: (u64, u64) = (4 << 30, 1 << 30);
    let budget = memory::available().map_or(BUDGET.1, |there| there / 4).min(BUDGET.0);
    open_within(path, options, budget)
}

/// Opens with at most so many bytes for frames.
fn open_within(path: &Path, options: &Options, budget: u64) -> Result<Clips, DataError> {
    /// Pairs of a block of frames, which is kept as a whole.
    const BLOCK: usize = 8;
    let clips = clips(path)?;
    let mut pass = Pass {
        options,
        frames: Store::new(budget, BLOCK + options.gap.get()),
        next: 0,
        pairs: Vec::new(),
        found: Found { clips: clips.len(), ..Found::default() },
    };
    let mut files = Vec::new();
    for clip in &clips {
        pass.read(clip)?;
        files.extend(clip.files()?);
    }
    let Pass { mut frames, mut pairs, mut found, .. } = pass;
    if let (Some((name, count)), true) = (found.short.first(), found.short.len() == clips.len()) {
        let reason = format!("{name} has {count} frames that differ from each other, and {FEWEST} are needed");
        return Err(DataError::content(path, reason));
    }
    pairs.retain(|pair| frames.holds(pair.first) && frames.holds(pair.second));
    if let Some(max) = options.max.map(NonZeroUsize::get).filter(|&max| max < pairs.len()) {
        let all = pairs.len();
        let mut index = 0;
        let mut chosen = (0..max).map(|k| k * all / max).peekable();
        pairs.retain(|_| {
            index += 1;
            chosen.next_if_eq(&(index - 1)).is_some()
        });
    }
    let mut used: Vec<usize> = pairs.iter().flat_map(|pair| [pair.first, pair.second]).collect();
    used.sort_unstable();
    frames.retain(|number| used.binary_search(&number).is_ok());
    (found.pairs, found.thinned, found.bytes) = (pairs.len(), frames.stride(), frames.bytes());
    let words = options.to_string();
    // A path that holds an @ ends with one.
    let at = if words.is_empty() && !path.to_string_lossy().contains('@') { "" } else { "@" };
    let name = format!("clip:{}{at}{words}", path.display());
    if pairs.is_empty() {
        return Err(DataError::NoPairs { spec: name, reason: found.to_string() });
    }
    Ok(Clips { name, files, pairs, frames, found })
}

/// The one pass over all frames.
struct Pass<'a> {
    options: &'a Options,
    frames: Store,
    /// The number that the next frame gets.
    next: usize,
    pairs: Vec<Pair>,
    found: Found,
}

impl Pass<'_> {
    /// Decodes a clip and adds its pairs.
    fn read(&mut self, clip: &Clip) -> Result<(), DataError> {
        let notes: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = notes.clone();
        let note = Arc::new(move |text: &str| {
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_string());
        });
        let unreadable = |cause| DataError::File(IoError::Format { path: clip.path.clone(), cause });
        let mut size: Option<(String, Size)> = None;
        let mut last: Option<Look> = None;
        let mut fields = Fields::default();
        let mut still: Option<Stillness> = None;
        let mut shots = Shots::default();
        let start = self.next;
        for frame in clip.frames(&Reading { note, ..Reading::default() })? {
            let frame = frame?;
            let (name, frame) = (frame.name, frame.frame);
            let now = frame.size();
            if let Some((first, before)) = size.replace((name.clone(), now)).filter(|(_, before)| *before != now) {
                return Err(SequenceError::Sizes { first, second: name, sizes: [before, now] }.into());
            }
            self.found.frames += 1;
            let look = Look::at(&frame);
            match look.after(last.as_ref()) {
                Step::Blank => {
                    self.found.blank += 1;
                    last = None;
                    continue;
                }
                Step::Repeats => {
                    self.found.duplicates += 1;
                    continue;
                }
                Step::Follows { unlikeness } => shots.follow(unlikeness),
                Step::Begins => shots.begin(),
            }
            if let Some(last) = &last {
                fields.watch(&last.grey, &look.grey);
                if fields.is_certain() {
                    return Err(interlaced(clip));
                }
            }
            still.get_or_insert_with(|| Stillness::new(&look.grey)).watch(&look.grey, &look.small);
            if !self.frames.push(self.next, &frame).map_err(unreadable)? {
                let reason = "its frames are too large to hold even a few of them in memory; make it smaller with \
                              `ffmpeg -i VIDEO -vf scale=iw/2:-2 out.mp4`";
                return Err(DataError::content(&clip.path, reason));
            }
            self.next += 1;
            shots.names.push(name);
            last = Some(look);
        }
        let notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
        if fields.are_mixed(notes.iter().any(|note| note.contains("interlaced"))) {
            return Err(interlaced(clip));
        }
        self.found.notes.extend(notes);
        let count = self.next - start;
        let Some(still) = still.filter(|_| count >= FEWEST) else {
            self.found.short.push((clip.name.clone(), count));
            return Ok(());
        };
        let area = self.show(clip, &still, size.map(|(_, size)| size).unwrap_or_default());
        self.pair(clip, start, &shots, area);
        Ok(())
    }

    /// Which part of the frames is shown.
    fn show(&mut self, clip: &Clip, still: &Stillness, Size { height, width }: Size) -> Area {
        let kept = still.kept();
        let to = Size { height: kept.area.height(), width: kept.area.width() };
        let from = Size { height, width };
        if to != from {
            let (bars, signs) = (kept.bars, kept.signs);
            self.found.cropped.push(Cropped { clip: clip.name.clone(), from, to, bars, signs });
        }
        self.found.signs_left += kept.signs_left;
        kept.area
    }

    /// Adds the pairs of a clip whose frames are numbered from `start`: those of the part that is asked for. Which part a pair is of
    /// does not depend on how many frames there is room for.
    fn pair(&mut self, clip: &Clip, start: usize, shots: &Shots, area: Area) {
        let gap = self.options.gap.get();
        let (shot, cuts) = shots.numbered();
        self.found.cuts += cuts;
        let firsts: Vec<usize> = (0..shot.len().saturating_sub(gap)).filter(|&i| shot[i] == shot[i + gap]).collect();
        let kept_back = (firsts.len() / 10).max(1);
        let Some(&border) = firsts.get(firsts.len().saturating_sub(kept_back)) else { return };
        let wanted = |&first: &usize| match self.options.part {
            Part::All => true,
            Part::Train => first + gap < border,
            Part::Val => first >= border,
        };
        self.pairs.extend(firsts.into_iter().filter(wanted).map(|first| Pair {
            first: start + first,
            second: start + first + gap,
            area,
            id: format!("{}/{}", clip.name, shots.names[first]),
        }));
    }
}

fn interlaced(clip: &Clip) -> DataError {
    let reason = "the video is interlaced: each frame mixes two moments, and what moves has combs for edges. \
                  `ffmpeg -i in.mp4 -vf bwdif=1 out.mp4` takes them apart; pass what it writes";
    DataError::content(&clip.path, reason)
}

/// The frames of a clip that were kept, as scenes.
#[derive(Debug, Default)]
struct Shots {
    names: Vec<String>,
    /// How unlike each is to the one before it; `None` where that is not shown.
    unlikeness: Vec<Option<f32>>,
}

impl Shots {
    /// A frame that follows nothing.
    fn begin(&mut self) {
        self.unlikeness.push(None);
    }

    fn follow(&mut self, unlikeness: f32) {
        self.unlikeness.push(Some(unlikeness));
    }

    /// The number of each frame's scene, and how many cuts there are.
    fn numbered(&self) -> (Vec<usize>, usize) {
        let known: Vec<f32> = self.unlikeness.iter().flatten().copied().collect();
        let found = cuts::cuts(&known);
        let mut cut = found.iter();
        let mut number = 0;
        let step = |unlikeness: &Option<f32>| {
            let begins = unlikeness.is_none() || cut.next() == Some(&true);
            number += usize::from(begins);
            number
        };
        (self.unlikeness.iter().map(step).collect(), found.iter().filter(|&&cut| cut).count())
    }
}

impl fmt::Debug for Clips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clips").field("name", &self.name).field("pairs", &self.pairs.len()).finish_non_exhaustive()
    }
}

impl Clips {
    /// What was found in them, and left out.
    pub fn found(&self) -> &Found {
        &self.found
    }
}

impl Source for Clips {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn len(&self) -> Option<usize> {
        Some(self.pairs.len())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn remarks(&self) -> Vec<String> {
        vec![self.found.to_string()]
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let past_end = || DataError::Index { name: self.name(), len: self.pairs.len(), index };
        let pair = self.pairs.get(index).ok_or_else(past_end)?;
        let frame = |number: usize| {
            let failed = |cause| DataError::File(IoError::Format { path: (&pair.id).into(), cause });
            // Frames of pairs are never dropped.
            Ok::<_, DataError>(pair.area.of(self.frames.get(number).map_err(failed)?.ok_or_else(past_end)?))
        };
        let (first, second) = (frame(pair.first)?, frame(pair.second)?);
        Ok(Sample { first, second, flow: None, occlusion: None, original: None, surround: None, id: pair.id.clone() })
    }
}
