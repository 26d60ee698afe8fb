//! A y4m stream or an animated picture.
#![no_main]

use std::io::Cursor;

use ferroflow_data::sequence::{Reading, animation, y4m};

/// Enough to come to the end of what is in a small file.
const FRAMES: usize = 8;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"YUV4MPEG2") {
        if let Ok(frames) = y4m(Cursor::new(data.to_vec()), &Reading::default()) {
            let _ = frames.take(FRAMES).collect::<Result<Vec<_>, _>>();
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("clip.gif");
    std::fs::write(&path, data).expect("a temporary file");
    if let Ok(Some(frames)) = animation(&path) {
        let _ = frames.take(FRAMES).collect::<Result<Vec<_>, _>>();
    }
});
