//! How much moves in a video, frame by frame.
//!
//!     cargo run --release -p ferroflow --example video -- clip.mp4
//!
//! YUV4MPEG2 (.y4m) and animated GIF, WebP and PNG are read directly, everything else through the program `ffmpeg`; a folder of
//! images is a video too.

use std::{env, path::Path, process::ExitCode};

use ferroflow::{
    Error, Estimator,
    data::sequence::{self, Reading},
};

fn main() -> ExitCode {
    let Some(video) = env::args().nth(1) else {
        eprintln!("usage: video FILE|FOLDER");
        return ExitCode::from(2);
    };
    match motion(Path::new(&video)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the mean motion from each frame to the next, and how much of it the next one hides.
fn motion(video: &Path) -> Result<(), Error> {
    let estimator = Estimator::builtin()?;
    let reading = Reading::default();
    let frames = if video.is_dir() { sequence::folder(video, &reading)? } else { sequence::video(video, &reading)? };
    // One pair at a time: memory does not grow with the length.
    for pair in sequence::successive(frames) {
        let pair = pair?;
        let both = estimator.estimate_both(&pair.first, &pair.second)?;
        let flow = &both.forward;
        let lengths = flow.u().iter().zip(flow.v()).map(|(u, v)| u.hypot(*v));
        let pixels = flow.u().len() as f32;
        let hidden = both.consistency.occluded.count() as f32 / pixels;
        println!("{}: {:.2} px, {:.1} % occluded", pair.name, lengths.sum::<f32>() / pixels, 100.0 * hidden);
    }
    Ok(())
}
