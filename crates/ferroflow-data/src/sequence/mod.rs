//! Reads frames in order, one at a time, from a folder of images, a video file, an animation or a YUV4MPEG2 stream.
//!
//! Nothing is read far ahead, so a sequence of any length takes the memory of a few frames.

mod animation;
mod ffmpeg;
mod folder;
mod log;
mod pairs;
mod y4m;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use ferroflow_core::{
    Frame, Size,
    io::{IoError, Orientation},
};

pub(crate) use self::ffmpeg::file_argument;
pub use self::{
    animation::animation,
    folder::{Gap, IMAGE_EXTENSIONS, folder, gaps, image_files, natural_order},
    pairs::{PairPaths, listed_pairs, numbered_pairs, pairs_among},
    y4m::y4m,
};

/// A function that is told what a user should know about frames that are read all the same.
pub type Note = Arc<dyn Fn(&str) + Send + Sync>;

/// How frames are read.
#[derive(Clone)]
pub struct Reading {
    /// Whether images are rotated as their EXIF tags say.
    pub orientation: Orientation,
    /// Called with what changes the meaning of a flow, such as an interlaced video or a gap in the numbers.
    pub note: Note,
}

impl Default for Reading {
    /// Rotates images as their tags say, and drops notes.
    fn default() -> Self {
        Self { orientation: Orientation::default(), note: Arc::new(|_| {}) }
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("orientation", &self.orientation).finish_non_exhaustive()
    }
}

/// The frames of a video file, named by their number from 000000. YUV4MPEG2 and animations are read directly;
/// everything else through `ffmpeg`, which also converts the colours.
///
/// # Errors
/// If the file cannot be opened or `ffmpeg` is missing; damage is an error of the iterator.
pub fn video(path: &Path, reading: &Reading) -> Result<Frames, SequenceError> {
    let failed = |source| SequenceError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(failed)?;
    // A pipe would lose what is read of it here, and only `ffmpeg` opens it.
    if file.metadata().map_err(failed)?.is_file() {
        let mut start = Vec::new();
        file.by_ref().take(10).read_to_end(&mut start).map_err(failed)?;
        if start == *b"YUV4MPEG2 " || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("y4m")) {
            return y4m(io::Cursor::new(start).chain(file), reading);
        }
        if let Some(frames) = animation(path)? {
            return Ok(frames);
        }
    }
    ffmpeg::decoded(path, reading)
}

/// A frame and the name of its results.
#[derive(Clone, Debug)]
pub struct NamedFrame {
    /// The file's stem, or the running number with six digits.
    pub name: String,
    /// The image.
    pub frame: Arc<Frame>,
}

/// Frames in order; after an error the sequence ends.
pub type Frames = Box<dyn Iterator<Item = Result<NamedFrame, SequenceError>> + Send>;

/// Why a sequence of frames cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceError {
    /// A file or folder cannot be read at all.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An image of a folder is damaged or of an unknown kind.
    #[error(transparent)]
    Image(#[from] IoError),
    /// The folder holds no images.
    #[error("{} holds no image ({} are read)", path.display(), IMAGE_EXTENSIONS.join(", "))]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// Two successive frames differ in size.
    #[error(
        "{first} is {} (height x width), and {second}, the frame after it, is {}: the frames of a sequence have one size; resize \
         it or leave it out",
        sizes[0], sizes[1]
    )]
    Sizes {
        /// Name of a frame.
        first: String,
        /// Name of the next one.
        second: String,
        /// Their sizes.
        sizes: [Size; 2],
    },
    /// The frames of a pair differ in size.
    #[error(
        "{} is {} and {} is {} (height x width): both must have one size, resize one of them first",
        first.display(), sizes[0], second.display(), sizes[1]
    )]
    PairSizes {
        /// An image.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
        /// Their sizes.
        sizes: [Size; 2],
    },
    /// A line of a list does not name two images.
    #[error("{}, line {line}: expected two image paths", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// Number of the line, counted from 1.
        line: usize,
    },
    /// A YUV4MPEG2 stream is damaged, or of a kind that is not read.
    #[error("YUV4MPEG2 stream, frame {frame}: {reason}")]
    Y4m {
        /// Number of frames read before.
        frame: usize,
        /// What is wrong.
        reason: String,
    },
    /// The `ffmpeg` program is missing.
    #[error(
        "reading {} needs the program ffmpeg, which was not found: install it, or convert the video elsewhere with \
         `ffmpeg -i VIDEO out.y4m`, or to a folder of images, and pass that",
        path.display()
    )]
    NoFfmpeg {
        /// The video.
        path: PathBuf,
    },
    /// `ffmpeg` met damage, where it would leave out frames or make them up.
    #[error(
        "{} is damaged after frame {frames} (ffmpeg: {message}), and what follows would be wrong or left out. Fetch it \
         again; to use what can be decoded, `ffmpeg -i VIDEO FOLDER/%06d.png`, look at the pictures, and pass the folder",
        path.display()
    )]
    Damaged {
        /// The video.
        path: PathBuf,
        /// Number of frames given before.
        frames: usize,
        /// Its first message about the damage.
        message: String,
    },
    /// `ffmpeg` ran and failed.
    #[error("ffmpeg could not decode {}: {message}", path.display())]
    Ffmpeg {
        /// The video.
        path: PathBuf,
        /// Its last message.
        message: String,
    },
}

/// Two frames whose flow is estimated.
#[derive(Clone, Debug)]
pub struct FramePair {
    /// Name of the results, which is the first frame's.
    pub name: String,
    /// The frame whose pixels the flow describes.
    pub first: Arc<Frame>,
    /// The frame they moved to.
    pub second: Arc<Frame>,
}

/// Pairs of every frame with its successor; `n` frames give `n - 1` pairs.
pub fn successive(frames: Frames) -> impl Iterator<Item = Result<FramePair, SequenceError>> + Send {
    let mut frames = frames;
    let mut previous: Option<NamedFrame> = None;
    std::iter::from_fn(move || {
        loop {
            let next = match frames.next()? {
                Ok(next) => next,
                Err(error) => return Some(Err(error)),
            };
            if let Some(first) = previous.replace(next.clone()) {
                let sizes = [&first, &next].map(|f| f.frame.size());
                if sizes[0] != sizes[1] {
                    let (first, second) = (first.name, next.name);
                    return Some(Err(SequenceError::Sizes { first, second, sizes }));
                }
                return Some(Ok(FramePair { name: first.name, first: first.frame, second: next.frame }));
            }
        }
    })
}
