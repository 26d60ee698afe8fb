//! Videos are written and read again.

use std::{path::Path, process::Command, sync::Mutex};

use super::*;
use crate::sequence::{Reading, video};

fn pictures(size: Size, count: usize) -> Vec<Frame> {
    // Large patches of plain colours, which survive compression.
    let colour =
        |x: usize, y: usize, t: usize| [[220, 40, 60], [30, 200, 80], [60, 50, 210]][(x / 16 + y / 16 + t) % 3];
    (0..count).map(|t| Frame::from_fn(size, |x, y| colour(x, y, t))).collect()
}

fn written(path: &Path, pictures: &[Frame], rate: &str) -> Result<(), VideoError> {
    let mut writer = VideoWriter::create(path, rate.parse().unwrap(), None)?;
    pictures.iter().try_for_each(|picture| writer.push(picture))?;
    writer.finish()
}

fn read(path: &Path) -> Vec<Frame> {
    video(path, &Reading::default()).unwrap().map(|frame| (*frame.unwrap().frame).clone()).collect()
}

/// Mean difference of the channels over the part that both have.
fn apart(a: &Frame, b: &Frame) -> f64 {
    let (height, width) = (a.height().min(b.height()), a.width().min(b.width()));
    let mut sum = 0.0;
    for y in 0..height {
        for x in 0..width {
            let (a, b) = (a.pixel(x, y), b.pixel(x, y));
            sum += (0..3).map(|c| f64::from(a[c].abs_diff(b[c]))).sum::<f64>();
        }
    }
    sum / (3 * width * height) as f64
}

fn has_ffmpeg() -> bool {
    let there = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !there {
        println!("skipped: no ffmpeg");
    }
    there
}

#[test]
fn y4m_of_odd_sizes_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.y4m");
    let frames = pictures(Size::new(33, 57), 3);
    written(&path, &frames, "29.97").unwrap();
    assert_eq!(rate_of(&path), Some("30000/1001".parse().unwrap()));
    let back = read(&path);
    assert_eq!(back.len(), 3);
    for (a, b) in frames.iter().zip(&back) {
        assert_eq!(a.size(), b.size());
        // Rounding of three values, there and back.
        assert!(a.rgb().iter().zip(b.rgb()).all(|(a, b)| a.abs_diff(*b) <= 3));
    }
    let stream: std::sync::Arc<Mutex<Vec<u8>>> = std::sync::Arc::default();
    struct Shared(std::sync::Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = VideoWriter::to_stream(Shared(stream.clone()), "29.97".parse().unwrap());
    frames.iter().for_each(|frame| writer.push(frame).unwrap());
    writer.finish().unwrap();
    assert_eq!(*stream.lock().unwrap(), std::fs::read(&path).unwrap());
}

#[test]
fn a_video_that_is_not_finished_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.y4m");
    std::fs::write(&path, "old").unwrap();
    let mut writer = VideoWriter::create(&path, Rate::default(), None).unwrap();
    let frames = pictures(Size::new(16, 16), 1);
    writer.push(&frames[0]).unwrap();
    let other = writer.push(&pictures(Size::new(16, 18), 1)[0]).unwrap_err().to_string();
    assert!(other.contains("16x18") && other.contains("16x16"), "{other}");
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let error = VideoWriter::create(&dir.path().join("v.xyz"), Rate::default(), None).err().unwrap().to_string();
    assert!(error.contains(".mp4") && error.contains(".y4m"), "{error}");
}

#[test]
fn rates_are_read_as_they_are_written() {
    for (text, rate) in
        [("25", "25/1"), ("29.97", "30000/1001"), ("23.98", "24000/1001"), ("12.5", "12500/1000"), ("30:1", "30/1")]
    {
        assert_eq!(text.parse::<Rate>().unwrap().to_string(), rate);
    }
    for text in ["0", "-1", "x", "1/0", "", "nan", "1e9"] {
        assert!(text.parse::<Rate>().is_err(), "{text}");
    }
    assert_eq!(rate_of_y4m(b"YUV4MPEG2 W2 H2 F24000:1001 Ip\nFRAME"), Some("23.98".parse().unwrap()));
    assert_eq!(rate_of_y4m(b"YUV4MPEG2 W2 H2\n"), None);
}

#[test]
fn every_kind_has_all_pictures_their_size_and_rate() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for extension in EXTENSIONS {
        for size in [Size::new(64, 96), Size::new(65, 97)] {
            let path = dir.path().join(format!("{}-{extension}.{extension}", size.width));
            let frames = pictures(size, 7);
            match written(&path, &frames, "20") {
                Err(VideoError::NoEncoder { encoders, .. }) => {
                    println!("skipped: no {}", encoders.join(", "));
                    continue;
                }
                done => done.unwrap_or_else(|error| panic!("{extension}: {error}")),
            }
            let back = read(&path);
            assert_eq!(back.len(), 7, "{extension}");
            let even = size.map(|side| side.next_multiple_of(2));
            let kept = if ["gif", "webp", "y4m"].contains(&extension) { size } else { even };
            assert_eq!(back[0].size(), kept, "{extension}");
            for (a, b) in frames.iter().zip(&back) {
                // Colours at half the resolution, and compression.
                assert!(apart(a, b) < 12.0, "{extension}: {}", apart(a, b));
            }
            if extension != "webp" {
                assert_eq!(rate_of(&path), Some("20".parse().unwrap()), "{extension}");
            }
            if extension == "mp4" {
                assert_eq!(frames_of(&path), Some(7));
            }
        }
    }
    assert_eq!(
        std::fs::read_dir(dir.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'))
            .count(),
        0
    );
}
