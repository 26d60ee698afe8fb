//! Frames in order, one at a time: a folder of images, a video file, YUV4MPEG2 on a stream.
//!
//! Nothing is read ahead, so a sequence of any length takes the memory of two frames.

mod ffmpeg;
mod folder;
mod y4m;

use std::{io, path::PathBuf, sync::Arc};

use ferroflow_core::{Frame, io::IoError};

pub use self::{
    ffmpeg::video,
    folder::{IMAGE_EXTENSIONS, folder, image_files, natural_order},
    y4m::y4m,
};

/// A frame and what to call its results.
#[derive(Clone, Debug)]
pub struct NamedFrame {
    /// File stem, or the running number with six digits.
    pub name: String,
    /// The image.
    pub frame: Arc<Frame>,
}

/// Frames in order; after an error the sequence ends.
pub type Frames = Box<dyn Iterator<Item = Result<NamedFrame, SequenceError>> + Send>;

/// Why a sequence of frames cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    /// A file or folder cannot be read at all.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An image of a folder is damaged or of an unknown kind.
    #[error(transparent)]
    Image(#[from] IoError),
    /// A folder without images.
    #[error("{} holds no image ({} are read)", path.display(), IMAGE_EXTENSIONS.join(", "))]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A YUV4MPEG2 stream that is damaged, or of a kind that is not read.
    #[error("YUV4MPEG2 stream, frame {frame}: {reason}")]
    Y4m {
        /// Frames read before.
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
    /// `ffmpeg` ran and failed.
    #[error("ffmpeg could not decode {}: {message}", path.display())]
    Ffmpeg {
        /// The video.
        path: PathBuf,
        /// Its last words.
        message: String,
    },
}

/// Two successive frames; `name` is the first one's.
#[derive(Clone, Debug)]
pub struct FramePair {
    /// What to call the results.
    pub name: String,
    /// The frame whose pixels the flow describes.
    pub first: Arc<Frame>,
    /// The frame they moved to.
    pub second: Arc<Frame>,
}

/// Every frame with its successor: `n` frames give `n - 1` pairs.
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
                return Some(Ok(FramePair { name: first.name, first: first.frame, second: next.frame }));
            }
        }
    })
}
