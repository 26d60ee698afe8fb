//! Event files for TensorBoard: scalars and pictures by step.

mod proto;
mod record;

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use ferroflow_core::Size;
use prost::Message;

use proto::{Event, Image, SessionLog, Summary, Value};

/// An event file being written.
pub struct Events {
    /// `None`: nobody reads it.
    file: Option<BufWriter<File>>,
    path: PathBuf,
}

impl Events {
    /// A new file in a folder for a run that has done `step` steps; TensorBoard ignores what earlier files say about later steps.
    pub fn create(folder: &Path, step: u64) -> io::Result<Self> {
        let mut name = (now() * 1e6) as u64;
        // Two files must not share a name, as when a run is resumed at once.
        let path = loop {
            let path =
                folder.join(format!("events.out.tfevents.{:010}.{:06}.ferroflow", name / 1_000_000, name % 1_000_000));
            if !path.exists() {
                break path;
            }
            name += 1;
        };
        let file = File::create(&path).map_err(|e| named(&path, e))?;
        let mut events = Self { file: Some(BufWriter::new(file)), path };
        events.write(Event { file_version: Some("brain.Event:2".into()), ..Event::at(0) })?;
        events.write(Event { session_log: Some(SessionLog { status: SessionLog::START }), ..Event::at(step + 1) })?;
        Ok(events)
    }

    /// Events that are written nowhere: those of a rank but the first.
    pub fn none() -> Self {
        Self { file: None, path: PathBuf::new() }
    }

    /// Writes numbers by tag.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        let value =
            |&(tag, value): &(&str, f64)| Value { tag: tag.into(), simple_value: Some(value as f32), image: None };
        let summary = Summary { value: values.iter().map(value).collect() };
        self.write(Event { summary: Some(summary), ..Event::at(step) })
    }

    /// Writes a picture, given as the bytes of a PNG file.
    pub fn picture(&mut self, step: u64, tag: &str, size: Size, png: Vec<u8>) -> io::Result<()> {
        const RGB: i32 = 3;
        let image =
            Image { height: size.height as i32, width: size.width as i32, colorspace: RGB, encoded_image_string: png };
        let value = Value { tag: tag.into(), simple_value: None, image: Some(image) };
        self.write(Event { summary: Some(Summary { value: vec![value] }), ..Event::at(step) })
    }

    fn write(&mut self, event: Event) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = record::write(file, &event.encode_to_vec()).and_then(|()| file.flush());
        written.map_err(|e| named(&self.path, e))
    }
}

/// The error with the file it happened to.
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Event {
    fn at(step: u64) -> Self {
        Self { wall_time: now(), step: step as i64, ..Self::default() }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// The tags of the pictures in an event file.
#[cfg(test)]
pub(crate) fn picture_tags(bytes: &[u8]) -> Vec<String> {
    let events = record::read(bytes).unwrap().into_iter().map(|data| Event::decode(data).unwrap());
    let values = events.filter_map(|event| event.summary).flat_map(|summary| summary.value);
    values.filter(|value| value.image.is_some()).map(|value| value.tag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the file back by the format's own rules: lengths, both checksums, the messages.
    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = Events::create(folder.path(), 3).unwrap();
        events.scalars(4, &[("train/loss", 0.5), ("train/lr", 1e-4)]).unwrap();
        events.picture(4, "flow", Size::new(1, 2), vec![1, 2, 3]).unwrap();
        drop(Events::create(folder.path(), 4).unwrap());
        let mut files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 2);
        let bytes = std::fs::read(&files[0]).unwrap();
        let events: Vec<Event> =
            record::read(&bytes).unwrap().into_iter().map(|data| Event::decode(data).unwrap()).collect();
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!((events[1].step, events[1].session_log.unwrap().status), (4, SessionLog::START));
        let summary = events[2].summary.as_ref().unwrap();
        assert_eq!((summary.value[0].tag.as_str(), summary.value[0].simple_value), ("train/loss", Some(0.5)));
        let image = events[3].summary.as_ref().unwrap().value[0].image.as_ref().unwrap();
        assert_eq!((image.width, image.height, &image.encoded_image_string[..]), (2, 1, &[1, 2, 3][..]));
        assert!(record::read(&bytes[..bytes.len() - 1]).is_none());
    }
}
