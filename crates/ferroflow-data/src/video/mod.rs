//! Writes pictures as a video: YUV4MPEG2 by itself, everything else through the `ffmpeg` program.
//!
//! Pictures are written as they come, so a video of any length takes the memory of a few of them.

mod encoder;
mod format;
mod rate;
mod y4m;

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use ferroflow_core::{
    Frame, Size,
    io::{IoError, Replacement},
};

use self::encoder::Encoder;
pub use self::{
    format::{EXTENSIONS, is_video_name},
    rate::{Rate, frames_of, rate_of, rate_of_y4m},
};

/// Why a video cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// The name ends in nothing that is known.
    #[error("{}: videos are written as .{}", path.display(), EXTENSIONS.join(", ."))]
    Name {
        /// The video.
        path: PathBuf,
    },
    /// The `ffmpeg` program is missing.
    #[error("writing {} needs the program ffmpeg, which was not found: install it, or write a .y4m, which needs none", path.display())]
    NoFfmpeg {
        /// The video.
        path: PathBuf,
    },
    /// This `ffmpeg` was built without any encoder that fits.
    #[error(
        "{}: this ffmpeg has none of the encoders {}; install one that has, or write another kind (.y4m needs no encoder)",
        path.display(), encoders.join(", ")
    )]
    NoEncoder {
        /// The video.
        path: PathBuf,
        /// Those that would do.
        encoders: Vec<&'static str>,
    },
    /// A picture has another size than those before.
    #[error("{}: a picture of {now} cannot follow one of {before} in a video", path.display())]
    Sizes {
        /// The video.
        path: PathBuf,
        /// Size of the first picture.
        before: Size,
        /// Size of this one.
        now: Size,
    },
    /// `ffmpeg` ran and failed.
    #[error("ffmpeg could not write {}: {message}", path.display())]
    Ffmpeg {
        /// The video.
        path: PathBuf,
        /// Its last message.
        message: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// A video being written. Without [`VideoWriter::finish`] nothing is left of it.
pub struct VideoWriter {
    path: PathBuf,
    size: Option<Size>,
    rate: Rate,
    output: Output,
}

enum Output {
    /// Plain pictures, to a file or to whoever reads.
    Y4m(Box<dyn Write + Send>),
    /// The same, to a file that takes its place in the end.
    Y4mFile(BufWriter<std::fs::File>, Replacement),
    Encoded(Encoder),
}

impl VideoWriter {
    /// Begins a video at `path`, whose name says of what kind it is, with the sound of the video `sound`, if it has any.
    ///
    /// # Errors
    /// If the kind is unknown, `ffmpeg` or its encoders are missing, or the place cannot be written.
    pub fn create(path: &Path, rate: Rate, sound: Option<&Path>) -> Result<Self, VideoError> {
        let format = format::of(path).ok_or_else(|| VideoError::Name { path: path.into() })?;
        let failed = |cause| IoError::Io { action: "write", path: path.into(), cause };
        let place = Replacement::begin(path).map_err(failed)?;
        let output = if format.encoders.is_empty() {
            let file = std::fs::OpenOptions::new().write(true).open(place.path()).map_err(failed)?;
            Output::Y4mFile(BufWriter::new(file), place)
        } else {
            Output::Encoded(Encoder::new(path, place, format, rate, sound)?)
        };
        Ok(Self { path: path.into(), size: None, rate, output })
    }

    /// Writes YUV4MPEG2 to a stream.
    pub fn to_stream(stream: impl Write + Send + 'static, rate: Rate) -> Self {
        Self { path: "-".into(), size: None, rate, output: Output::Y4m(Box::new(stream)) }
    }

    /// The encoder that `ffmpeg` uses, if it writes the video.
    pub fn encoder(&self) -> Option<&'static str> {
        match &self.output {
            Output::Encoded(encoder) => Some(encoder.name()),
            _ => None,
        }
    }

    /// Adds a picture, which is as large as the first.
    ///
    /// # Errors
    /// If it is not, or cannot be written.
    pub fn push(&mut self, picture: &Frame) -> Result<(), VideoError> {
        let now = picture.size();
        let first = self.size.is_none();
        let before = *self.size.get_or_insert(now);
        if before != now {
            return Err(VideoError::Sizes { path: self.path.clone(), before, now });
        }
        let rate = self.rate;
        let write = |out: &mut dyn Write| -> io::Result<()> {
            if first {
                y4m::write_header(out, now, rate)?;
            }
            y4m::write_frame(out, picture)
        };
        match &mut self.output {
            Output::Y4m(out) => write(out).map_err(|cause| failed(&self.path, cause)),
            Output::Y4mFile(out, _) => write(out).map_err(|cause| failed(&self.path, cause)),
            Output::Encoded(encoder) => encoder.push(picture),
        }
    }

    /// Ends the video, which then is at its place.
    ///
    /// # Errors
    /// If what is left cannot be written, or `ffmpeg` failed.
    pub fn finish(self) -> Result<(), VideoError> {
        let path = self.path;
        match self.output {
            Output::Y4m(mut out) => out.flush().map_err(|cause| failed(&path, cause)),
            Output::Y4mFile(out, place) => {
                let file = out.into_inner().map_err(|error| failed(&path, error.into_error()))?;
                drop(file);
                place.finish().map_err(|cause| failed(&path, cause))
            }
            Output::Encoded(encoder) => encoder.finish(),
        }
    }
}

fn failed(path: &Path, cause: io::Error) -> VideoError {
    IoError::Io { action: "write", path: path.into(), cause }.into()
}

#[cfg(test)]
mod tests;
