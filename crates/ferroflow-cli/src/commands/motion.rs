//! `ferroflow motion`: how much moves in videos.

use std::{
    fs::File,
    io::{self as stdio, BufRead, BufReader, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use ferroflow::core::io::{self, outputs::safe_path};
use ferroflow::data::{
    clip::{Clip, clips},
    sequence::Reading,
};
use ferroflow::infer::{
    Estimator,
    motion::{self, Options, VideoMotion},
};
use serde::Serialize;

use crate::{method::MethodArgs, progress, session::Session, usage::usage};

/// Measure what moves in videos, to choose among many: mean and percentiles of the motion, the camera's part of it and what moves by
/// itself, the static share, cuts, repeated frames. A video that cannot be read is told, and the others are measured.
///
/// Lengths are in pixels of the video from one frame to the next. With --json, each video is a line as soon as it is measured:
///
///   ferroflow motion clip.mp4
///   ferroflow motion videos/ --json -m dis-fast --longest-side 480 --every 3 > motion.jsonl
///   find /videos -name '*.mp4' | ferroflow motion --list - --json > motion.jsonl
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Videos, folders of frames, or folders of these
    #[arg(required_unless_present = "list", value_name = "VIDEO")]
    videos: Vec<PathBuf>,
    /// Take the paths in this file too, one a line; - is standard input
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    #[command(flatten)]
    method: MethodArgs,
    /// Measure one pair of neighbours in N; cuts are found in all
    #[arg(long, default_value = "1", value_name = "N")]
    every: NonZeroUsize,
    /// Make larger frames smaller, by a whole number, until no side is longer: faster, and small things are not seen
    #[arg(long, value_name = "PX")]
    longest_side: Option<NonZeroUsize>,
    /// Pixels that move less are static
    #[arg(long, default_value = "0.5", value_name = "PX", value_parser = length)]
    still: f32,
    /// Pixels whose flow differs by more from that of the whole picture (a pan, zoom and roll) move by themselves
    #[arg(long, default_value = "1", value_name = "PX", value_parser = length)]
    moving: f32,
    /// Folder to write a mask for each measured pair to, white where something moves by itself: DIR/VIDEO/FRAME.png
    #[arg(long, value_name = "DIR")]
    masks: Option<PathBuf>,
    /// Print one JSON object per video instead of text
    #[arg(long)]
    json: bool,
}

fn length(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|px: &f32| px.is_finite() && *px >= 0.0).ok_or_else(|| "write a number of pixels".into())
}

/// A line of the results.
#[derive(Serialize)]
struct Line<'a> {
    video: String,
    #[serde(flatten)]
    motion: Option<&'a VideoMotion>,
    /// What a user should know of the video, such as that it is interlaced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let mut paths = args.videos.clone();
    if let Some(list) = &args.list {
        paths.extend(listed(list)?);
    }
    if paths.is_empty() {
        usage!("no videos: the list is empty");
    }
    session.files.reads_all(args.method.weights());
    session.files.reads_all(&paths);
    if let Some(folder) = &args.masks {
        session.files.check(folder.join("mask.png"), "the first mask")?;
        session.files.prepare()?;
    }
    let estimator = args.method.estimator()?;
    let bar = progress::bar(paths.len() as u64, "paths");
    let (mut videos, mut failed) = (0, 0);
    for path in &paths {
        match clips(path) {
            Ok(found) => {
                for clip in found {
                    let (motion, notes) = measure(&clip, &args, &estimator, session);
                    let name = clip.path.display().to_string();
                    videos += 1;
                    failed += usize::from(motion.is_err());
                    bar.suspend(|| print(name, motion, notes, args.json, session))?;
                }
            }
            Err(error) => {
                (videos, failed) = (videos + 1, failed + 1);
                let name = path.display().to_string();
                bar.suspend(|| print(name, Err(error.into()), Vec::new(), args.json, session))?;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    match failed {
        0 => Ok(()),
        _ => Err(anyhow::anyhow!("{failed} of {videos} videos could not be measured; why is said in their lines")),
    }
}

/// The paths of a list; empty lines do not count.
fn listed(list: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let reader: Box<dyn BufRead> = if list == Path::new("-") {
        Box::new(stdio::stdin().lock())
    } else {
        let file = File::open(list).with_context(|| format!("cannot read {}", list.display()))?;
        Box::new(BufReader::new(file))
    };
    let mut paths = Vec::new();
    for line in reader.lines() {
        let line = line.with_context(|| format!("cannot read {}", list.display()))?;
        if !line.is_empty() {
            paths.push(line.into());
        }
    }
    Ok(paths)
}

/// What moves in a video, and notes on it.
fn measure(
    clip: &Clip,
    args: &Args,
    estimator: &Estimator,
    session: &mut Session,
) -> (anyhow::Result<VideoMotion>, Vec<String>) {
    let notes: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = notes.clone();
    let note = move |text: &str| heard.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_string());
    let options =
        Options { still: args.still, moving: args.moving, every: args.every, longest_side: args.longest_side };
    let folder = args.masks.as_ref().map(|masks| masks.join(safe_path(&clip.path.to_string_lossy())));
    let mut save = |name: &str, mask: ferroflow::core::Mask| -> anyhow::Result<()> {
        let Some(folder) = &folder else { return Ok(()) };
        let path = folder.join(format!("{name}.png"));
        session.files.check(&path, "a mask")?;
        session.files.prepare()?;
        Ok(io::write_mask(&path, &mask)?)
    };
    let frames = clip.frames(&Reading { note: Arc::new(note), ..Reading::default() });
    let motion = match frames {
        Ok(frames) => motion::measure(frames, estimator, &options, &mut save),
        Err(error) => Err(error.into()),
    };
    let notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
    (motion, notes)
}

/// Prints a line at once: whoever reads along may stop early.
fn print(
    video: String,
    motion: anyhow::Result<VideoMotion>,
    notes: Vec<String>,
    json: bool,
    session: &mut Session,
) -> anyhow::Result<()> {
    let error = motion.as_ref().err().map(crate::usage::explain);
    if json {
        let line = Line { video, motion: motion.as_ref().ok(), notes, error };
        writeln!(session.out, "{}", serde_json::to_string(&line)?)?;
    } else {
        let told = motion.map_or_else(|_| error.unwrap_or_default(), |motion| motion.to_string());
        writeln!(session.out, "{video}: {told}{}", notes.iter().map(|note| format!("; {note}")).collect::<String>())?;
    }
    Ok(session.out.flush()?)
}
