//! A running `ffmpeg` that encodes the pictures it gets.

use std::{
    borrow::Cow,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
};

use ferroflow_core::{Frame, Size, io::Replacement};

use super::{
    Rate, VideoError, failed,
    format::{Encoding, Format},
};
use crate::sequence::file_argument;

/// Encodes to a file that takes its place in the end.
pub(super) struct Encoder {
    path: PathBuf,
    place: Option<Replacement>,
    format: &'static Format,
    encoding: &'static Encoding,
    rate: Rate,
    sound: Option<PathBuf>,
    /// Started by the first picture, whose size it must know.
    running: Option<Running>,
}

struct Running {
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Encoder {
    pub fn new(
        path: &Path,
        place: Replacement,
        format: &'static Format,
        rate: Rate,
        sound: Option<&Path>,
    ) -> Result<Self, VideoError> {
        let listed = Command::new("ffmpeg").args(["-hide_banner", "-encoders"]).stdin(Stdio::null()).output();
        let listed = listed.map_err(|error| not_run(path, error))?.stdout;
        let listed = String::from_utf8_lossy(&listed);
        let there =
            |encoding: &&Encoding| listed.lines().any(|line| line.split_whitespace().nth(1) == Some(encoding.0));
        let Some(encoding) = format.encoders.iter().find(there) else {
            let encoders = format.encoders.iter().map(|encoding| encoding.0).collect();
            return Err(VideoError::NoEncoder { path: path.into(), encoders });
        };
        let sound = sound.filter(|_| format.sound).map(Path::to_path_buf);
        Ok(Self { path: path.into(), place: Some(place), format, encoding, rate, sound, running: None })
    }

    pub fn name(&self) -> &'static str {
        self.encoding.0
    }

    pub fn push(&mut self, picture: &Frame) -> Result<(), VideoError> {
        let picture = if self.format.is_even() { even(picture) } else { Cow::Borrowed(picture) };
        if self.running.is_none() {
            self.running = Some(self.start(picture.size())?);
        }
        let input = self.running.as_mut().and_then(|running| running.child.stdin.as_mut());
        // Why it stopped to read is in its log.
        match input.map(|input| input.write_all(picture.rgb())) {
            Some(Err(error)) => Err(self.end().err().unwrap_or_else(|| failed(&self.path, error))),
            _ => Ok(()),
        }
    }

    pub fn finish(mut self) -> Result<(), VideoError> {
        self.end()?;
        match self.place.take() {
            Some(place) => place.finish().map_err(|cause| failed(&self.path, cause)),
            None => Ok(()),
        }
    }

    fn start(&self, size: Size) -> Result<Running, VideoError> {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostats", "-v", "error", "-y"]);
        command.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &format!("{}x{}", size.width, size.height)]);
        command.args(["-framerate", &self.rate.to_string(), "-i", "pipe:0"]);
        if let Some(sound) = &self.sound {
            command.arg("-i").arg(file_argument(sound));
        }
        command.args(["-filter_complex", self.format.filters(self.encoding.0), "-map", "[v]"]);
        if let Some(sound) = &self.sound {
            command.args(["-map", "1:a?"]);
            // A container of the same kind takes the sound as it is; another may not know it.
            if sound.extension() == self.path.extension() {
                command.args(["-c:a", "copy"]);
            }
        }
        command.args(["-c:v", self.encoding.0]).args(self.encoding.1);
        if self.format.tells_colours(self.encoding.0) {
            command.args(["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]);
        }
        command.args(["-f", self.format.muxer]);
        command.args(self.place.iter().map(|place| place.path()));
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| not_run(&self.path, error))?;
        let log = child.stderr.take().map(|stderr| std::thread::spawn(move || last_line(stderr)));
        Ok(Running { child, log })
    }

    /// Waits for it to end.
    fn end(&mut self) -> Result<(), VideoError> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        drop(running.child.stdin.take());
        let status = running.child.wait().map_err(|cause| failed(&self.path, cause))?;
        let said = running.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        let message = if said.is_empty() { "it gave no reason".into() } else { said };
        Err(VideoError::Ffmpeg { path: self.path.clone(), message })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After an error nobody wants the rest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn not_run(path: &Path, error: std::io::Error) -> VideoError {
    match error.kind() {
        ErrorKind::NotFound => VideoError::NoFfmpeg { path: path.into() },
        _ => failed(path, error),
    }
}

/// The last line of a log, which is read to its end.
fn last_line(log: impl Read) -> String {
    let lines = BufReader::new(log).split(b'\n').map_while(Result::ok);
    let said = lines.filter(|line| !line.trim_ascii().is_empty()).last().unwrap_or_default();
    String::from_utf8_lossy(&said).trim().to_string()
}

/// With the last column and row twice where that makes their number even.
fn even(picture: &Frame) -> Cow<'_, Frame> {
    let size = picture.size();
    let wanted = size.map(|side| side.next_multiple_of(2));
    if wanted == size {
        return Cow::Borrowed(picture);
    }
    Cow::Owned(Frame::from_fn(wanted, |x, y| picture.pixel(x.min(size.width - 1), y.min(size.height - 1))))
}
