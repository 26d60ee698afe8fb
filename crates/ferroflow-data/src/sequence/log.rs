//! What `ffmpeg` says while it decodes, read as it comes.
//!
//! Asked for `-v level+info`, a line is `[h264 @ 0x55] [error] text`, without the first part where the program itself speaks.

use std::{
    io::{BufRead, BufReader, Read},
    process::ChildStderr,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use super::Note;

/// Longest line that is kept, bytes; the rest of it is read and forgotten.
const LONGEST: usize = 400;

/// The running log.
pub(super) struct Log {
    said: Arc<Mutex<Said>>,
    reader: Option<JoinHandle<()>>,
    note: Note,
}

/// What has been said so far.
#[derive(Clone, Default)]
pub(super) struct Said {
    /// The first line that tells of damage to the video.
    pub damage: Option<String>,
    /// The last line of any kind.
    pub last: Option<String>,
    /// Lines that are not of the form asked for.
    strange: usize,
    /// Past the description of the input: only the video is decoded from here.
    decoding: bool,
    /// Errors while the input was looked at, with the decoder that met them: they may be of a sound track, which nobody reads.
    early: Vec<(String, String)>,
    /// Decoders of what is not read.
    others: Vec<String>,
}

impl Log {
    /// Reads to the end on a thread of its own.
    pub fn of(stderr: Option<ChildStderr>, note: Note) -> Self {
        let said = Arc::new(Mutex::new(Said::default()));
        let reader = stderr.map(|stderr| {
            let (said, note) = (said.clone(), note.clone());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stderr);
                while let Some(line) = next_line(&mut lines) {
                    said.lock().unwrap_or_else(PoisonError::into_inner).hear(&line, &note);
                }
            })
        });
        Self { said, reader, note }
    }

    /// The first damage told of so far.
    pub fn damage(&self) -> Option<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).damage.clone()
    }

    /// Everything, once the program has ended; lines of another form are passed on.
    pub fn finish(&mut self) -> Said {
        if let Some(reader) = self.reader.take() {
            // It cannot panic but in a note of the caller's, and then that has been seen.
            let _ = reader.join();
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        said.judge();
        if let (1.., Some(last)) = (said.strange, &said.last) {
            let more = if said.strange > 1 { format!(" (the last of {} lines)", said.strange) } else { String::new() };
            (self.note)(&format!("ffmpeg says: {last}{more}"));
        }
        said
    }
}

impl Said {
    fn hear(&mut self, line: &str, note: &Note) {
        let line = line.trim_end();
        if line.trim().is_empty() {
            return;
        }
        let (speaker, level, text) = match parts(line) {
            Some(parts) => parts,
            None => {
                self.strange += 1;
                self.last = Some(line.to_string());
                return;
            }
        };
        match level {
            "error" | "fatal" | "panic" if self.decoding => self.damage(text),
            "error" | "fatal" | "panic" if self.early.len() < 100 => {
                self.early.push((speaker.to_string(), text.to_string()));
            }
            "info" if !self.decoding => {
                self.describe(text, note);
                if text.starts_with("Stream mapping") {
                    self.judge();
                }
                // A description is nobody's last word.
                return;
            }
            "info" if text != "Conversion failed!" => return,
            _ => {}
        }
        if !(level == "info" && self.last.is_some()) {
            self.last = Some(text.to_string());
        }
    }

    /// A line on the input's streams.
    fn describe(&mut self, text: &str, note: &Note) {
        let text = text.trim_start();
        if !text.starts_with("Stream #") {
            return;
        }
        for kind in [": Audio: ", ": Subtitle: ", ": Data: "] {
            if let Some((_, what)) = text.split_once(kind) {
                let names = what.split(',').next().unwrap_or_default();
                self.others.extend(names.split(['(', ')', ' ']).filter(|n| !n.is_empty()).map(Into::into));
            }
        }
        let Some((_, video)) = text.split_once(": Video: ") else { return };
        if ["top first", "bottom first", "top coded first", "bottom coded first"].iter().any(|f| video.contains(f)) {
            note(
                "the video is interlaced: each frame mixes two moments, and its flow is wrong where things move; \
                 `ffmpeg -i VIDEO -vf bwdif out.mkv` takes them apart",
            );
        }
        if ["smpte2084", "arib-std-b67"].iter().any(|curve| video.contains(curve)) {
            note("the video is HDR: its frames are read as coded, without tone mapping");
        }
    }

    /// Which of the early errors are of the video.
    fn judge(&mut self) {
        self.decoding = true;
        let others = std::mem::take(&mut self.others);
        let of_video = |speaker: &str| !others.iter().any(|other| other == speaker);
        let early = std::mem::take(&mut self.early);
        if let Some((_, text)) = early.into_iter().find(|(speaker, _)| of_video(speaker)) {
            self.damage(&text);
        }
    }

    fn damage(&mut self, text: &str) {
        self.damage.get_or_insert_with(|| text.to_string());
    }
}

/// Who speaks, how serious it is, and the text; `None` if the line is of another form.
fn parts(line: &str) -> Option<(&str, &str, &str)> {
    const LEVELS: [&str; 8] = ["panic", "fatal", "error", "warning", "info", "verbose", "debug", "trace"];
    let (mut speaker, mut rest) = ("", line);
    while let Some(tag) = rest.strip_prefix('[') {
        let (tag, after) = tag.split_once("] ").or_else(|| Some((tag.strip_suffix(']')?, "")))?;
        if LEVELS.contains(&tag) {
            return Some((speaker, tag, after));
        }
        // The innermost speaker counts: [vist#0:0/h264 @ 0x1] [dec:h264 @ 0x2]
        speaker = tag.split(' ').next().unwrap_or_default();
        speaker = speaker.strip_prefix("dec:").unwrap_or(speaker);
        rest = after;
    }
    None
}

/// The next line, cut to [`LONGEST`] bytes; `None` at the end.
fn next_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    // What cannot be read any more is as good as the end.
    reader.by_ref().take(LONGEST as u64).read_until(b'\n', &mut line).ok().filter(|&n| n > 0)?;
    if line.len() == LONGEST && line.last() != Some(&b'\n') {
        reader.skip_until(b'\n').ok()?;
        line.extend_from_slice(" ...".as_bytes());
    }
    Some(String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(lines: &str) -> (Said, Vec<String>) {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let kept = notes.clone();
        let note: Note = Arc::new(move |text: &str| kept.lock().unwrap().push(text.to_string()));
        let mut said = Said::default();
        lines.lines().for_each(|line| said.hear(line, &note));
        said.judge();
        let notes = notes.lock().unwrap().clone();
        (said, notes)
    }

    #[test]
    fn damage_is_of_the_video_and_not_of_its_sound() {
        let (said, notes) = hear(
            "[aac @ 0x1] [error] Input buffer exhausted\n\
             [info]   Stream #0:0: Audio: aac (LC), 48000 Hz\n\
             [info]   Stream #0:1: Video: h264 (High), yuv420p(tv, bt709, progressive), 96x64\n\
             [info] Stream mapping:\n[warning] deprecated pixel format used",
        );
        assert_eq!((said.damage, notes.len()), (None, 0));
        let damaged = "[dec:h264 @ 0x1] [h264 @ 0x2] [error] concealing\n[info] Stream mapping:\n[error] second";
        assert_eq!(hear(damaged).0.damage.as_deref(), Some("concealing"));
        assert_eq!(hear("[info] Stream mapping:\n[fatal] v.mkv: corrupt").0.damage.as_deref(), Some("v.mkv: corrupt"));
    }

    #[test]
    fn interlaced_and_hdr_videos_are_told() {
        let (_, notes) = hear("[info]   Stream #0:0: Video: mpeg2video (Main), yuv420p(tv, top first), 720x576");
        assert!(notes[0].contains("interlaced"), "{notes:?}");
        let (_, notes) =
            hear("[info]   Stream #0:0: Video: hevc, yuv420p10le(tv, bt2020nc/bt2020/smpte2084), 3840x2160");
        assert!(notes[0].contains("HDR"), "{notes:?}");
    }

    #[test]
    fn long_lines_take_little_memory() {
        let text = format!("{}\nshort\n", "x".repeat(20_000));
        let mut reader = text.as_bytes();
        assert_eq!(next_line(&mut reader).unwrap().len(), LONGEST + 4);
        assert_eq!(next_line(&mut reader).unwrap(), "short\n");
        assert_eq!(next_line(&mut reader), None);
    }
}
