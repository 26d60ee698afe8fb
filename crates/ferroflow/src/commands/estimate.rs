//! `ferroflow estimate`: frames in, flow files and pictures out.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ferroflow_core::{
    FlowField, Frame,
    io::{self, Orientation},
};
use ferroflow_data::sequence::{self, FramePair, Reading};
use indicatif::ProgressBar;

use crate::{
    bounds,
    method::MethodArgs,
    output::{FlowSink, SinkArgs},
    progress,
    usage::usage,
};

/// Estimate the flow of a pair, a folder of frames, a list of pairs or a video.
///
/// With two images, their flow; with a folder or a video, the flow from each frame to the next; with a text file, one
/// pair of image paths a line (separated by a tab, or by spaces). `-` reads YUV4MPEG2 from standard input:
///
///   ferroflow estimate frame1.png frame2.png --viz flow.png
///   ferroflow estimate frames/ -o flows/ --format kitti
///   ffmpeg -v error -i in.mp4 -f yuv4mpegpipe - | ferroflow estimate - --viz pictures/
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Two images; or one folder, list of pairs, video file, or `-`
    #[arg(required = true, num_args = 1..=2, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    sink: SinkArgs,
    /// Also estimate the flow back, and write occlusion masks and the consistency error as confidence
    #[arg(long)]
    bidirectional: bool,
    /// Pairs estimated at once (sequences only)
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = bounds::from_one::<{ bounds::BATCH }>)]
    batch: usize,
    /// Stop after this many pairs
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Take images as they are stored: their EXIF orientation is not applied
    #[arg(long)]
    no_exif_rotation: bool,
    /// Print one JSON object per pair instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let single = args.inputs.len() == 2;
    let mut sink = FlowSink::new(&args.sink, single)?;
    let estimator = args.method.estimator()?;
    if !args.json {
        eprintln!("{}", estimator.describe());
    }
    let bar = if single || args.json { ProgressBar::hidden() } else { progress::counter("pairs") };
    let reading = Reading {
        orientation: if args.no_exif_rotation { Orientation::Stored } else { Orientation::Tagged },
        note: Arc::new(|text: &str| eprintln!("note: {text}")),
    };
    let mut pairs = open(&args.inputs, &reading)?.take(args.limit.unwrap_or(usize::MAX));
    let mut done = 0;
    loop {
        let batch: Vec<FramePair> = pairs.by_ref().take(args.batch).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            break;
        }
        let frames: Vec<(&Frame, &Frame)> = batch.iter().map(|p| (&*p.first, &*p.second)).collect();
        let start = std::time::Instant::now();
        let forward = estimator.estimate_batch(&frames)?;
        let backward: Vec<Option<FlowField>> = if args.bidirectional {
            let reversed: Vec<_> = frames.iter().map(|&(a, b)| (b, a)).collect();
            estimator.estimate_batch(&reversed)?.into_iter().map(Some).collect()
        } else {
            batch.iter().map(|_| None).collect()
        };
        let seconds = start.elapsed().as_secs_f64() / batch.len() as f64;
        for ((pair, flow), back) in batch.iter().zip(&forward).zip(&backward) {
            let report = sink.write(pair, flow, back.as_ref(), seconds)?;
            if args.json {
                println!("{}", serde_json::to_string(&report)?);
            } else if single {
                println!("{report}");
            }
        }
        done += batch.len();
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    if done == 0 {
        usage!("{} holds fewer than two frames: there is no pair", args.inputs[0].display());
    }
    if !single && !args.json {
        println!("{done} pairs estimated{}", sink.destination());
    }
    Ok(())
}

type Pairs = Box<dyn Iterator<Item = anyhow::Result<FramePair>>>;

/// What the inputs mean: a pair, a folder, a list, a video or standard input.
fn open(inputs: &[PathBuf], reading: &Reading) -> anyhow::Result<Pairs> {
    let orientation = reading.orientation;
    if let [a, b] = inputs {
        let pair = read_pair(a, b, orientation)?;
        return Ok(Box::new(std::iter::once(Ok(pair))));
    }
    let input = &inputs[0];
    let frames = if input == Path::new("-") {
        sequence::y4m(std::io::stdin(), reading)?
    } else if input.is_dir() {
        if let Some(pairs) = numbered_pairs(input)? {
            return Ok(Box::new(pairs.into_iter().map(move |(a, b)| read_pair(&a, &b, orientation))));
        }
        sequence::folder(input, reading)?
    } else {
        let extension = input.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if ["txt", "tsv", "lst", "list"].contains(&extension.as_str()) {
            return list(input, orientation);
        }
        if sequence::IMAGE_EXTENSIONS.contains(&extension.as_str()) && sequence::animation(input)?.is_none() {
            usage!(
                "{} is one image: give the second one too, or a folder, a list of pairs or a video",
                input.display()
            );
        }
        sequence::video(input, reading)?
    };
    Ok(Box::new(sequence::successive(frames).map(|pair| pair.map_err(Into::into))))
}

fn read_pair(a: &Path, b: &Path, orientation: Orientation) -> anyhow::Result<FramePair> {
    let name = a.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let [first, second] = [io::read_frame_as(a, orientation)?, io::read_frame_as(b, orientation)?];
    if (first.width(), first.height()) != (second.width(), second.height()) {
        anyhow::bail!(
            "{} is {}x{} and {} is {}x{}: both must have one size, resize one of them first",
            a.display(),
            first.width(),
            first.height(),
            b.display(),
            second.width(),
            second.height()
        );
    }
    Ok(FramePair { name, first: Arc::new(first), second: Arc::new(second) })
}

/// A folder in which every image is called `NAME1.ext` or `NAME2.ext` and has its partner holds pairs, not a sequence.
fn numbered_pairs(folder: &Path) -> anyhow::Result<Option<Vec<(PathBuf, PathBuf)>>> {
    let files = sequence::image_files(folder)?;
    let mut pairs = Vec::new();
    for file in &files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let partner = |digit: char| {
            let name = format!("{}{digit}", &stem[..stem.len() - 1]);
            let path = file.with_file_name(name).with_extension(file.extension().unwrap_or_default());
            files.contains(&path).then_some(path)
        };
        // A digit before the last one makes it a running number (`frame11`), not one of a pair.
        let of_pair =
            |digit: char| stem.strip_suffix(digit).is_some_and(|rest| !rest.ends_with(|c: char| c.is_ascii_digit()));
        if of_pair('1') {
            let Some(second) = partner('2') else { return Ok(None) };
            pairs.push((file.clone(), second));
        } else if !of_pair('2') || partner('1').is_none() {
            return Ok(None);
        }
    }
    // Two files alone are as well a sequence of two: the same one pair.
    Ok((pairs.len() > 1).then_some(pairs))
}

/// One pair of paths a line, relative to the list's own folder.
fn list(path: &Path, orientation: Orientation) -> anyhow::Result<Pairs> {
    let text = io::read_text(path)?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let path = path.to_owned();
    let lines: Vec<String> = text.lines().map(Into::into).collect();
    Ok(Box::new(lines.into_iter().enumerate().filter_map(move |(number, line)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let fields: Vec<&str> =
            if line.contains('\t') { line.split('\t').collect() } else { line.split_whitespace().collect() };
        Some(match fields[..] {
            [a, b, ..] => read_pair(&folder.join(a), &folder.join(b), orientation),
            _ => Err(anyhow::anyhow!("{}, line {}: expected two image paths", path.display(), number + 1)),
        })
    })))
}
