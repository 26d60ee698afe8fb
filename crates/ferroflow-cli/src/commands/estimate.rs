//! `ferroflow estimate`: frames in, flow files and pictures out.

use std::{
    io::{BufRead, BufReader, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use ferroflow::core::{
    FlowField, Frame,
    carry::carried_along,
    io::{Orientation, OutputError, Outputs},
};
use ferroflow::data::{
    sequence::{self, FramePair, PairPaths, Reading, SequenceError},
    video::{Rate, frames_of, rate_of, rate_of_y4m},
};
use ferroflow::infer::{EstimateError, Upsampling};
use indicatif::ProgressBar;

use crate::{
    bounds,
    method::MethodArgs,
    output::{FlowSink, Names, SinkArgs},
    progress,
    session::{Session, is_quiet, note},
    usage::usage,
};

/// Estimate the flow of a pair, a folder of frames, a list of pairs or a video.
///
/// Two images give their flow, and a folder or a video the flow from each frame to the next. A text file lists pairs: two
/// image paths a line, separated by a tab or by spaces. `-` reads YUV4MPEG2 from standard input:
///
///   ferroflow estimate frame1.png frame2.png --viz flow.png
///   ferroflow estimate frames/ -o flows/ --format kitti
///   ferroflow estimate clip.mp4 --viz flow.mp4 --side-by-side
///   ffmpeg -v error -i in.mp4 -f yuv4mpegpipe - | ferroflow estimate - --viz pictures/
///   ferroflow estimate clip.mp4 -o - --format npy | python3 reads_flow.py
///   ferroflow estimate pairs/ -w lightflow.pth.tar --names lightflow --bidirectional --format npy -o out --viz out
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Two images; or one folder, one list of pairs, one video file, or `-`
    #[arg(required = true, num_args = 1.., value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    sink: SinkArgs,
    /// Also estimate the flow from the second frame to the first, and write it with an occlusion mask and the confidence
    #[arg(long)]
    bidirectional: bool,
    /// How the network's flow becomes as large as the frames: nearest repeats its values, bilinear interpolates, none leaves it at
    /// the size at which the network computes it, mostly 1/4. Default: as the network's reference does
    #[arg(long, value_enum, conflicts_with = "tile")]
    upsampling: Option<UpsamplingArg>,
    /// Pairs estimated at once (sequences only)
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = bounds::from_one::<{ bounds::BATCH }>)]
    batch: usize,
    /// Start each pair of a folder or a video from the flow of the pair before, carried along (raft, raft-small)
    #[arg(long, conflicts_with_all = ["batch", "bidirectional"])]
    warm_start: bool,
    /// Stop after this many pairs
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Take images as they are stored, without rotating them as their EXIF tag says
    #[arg(long)]
    no_exif_rotation: bool,
    /// Print one JSON object per pair instead of text
    #[arg(long)]
    json: bool,
}

/// How flow is enlarged.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum UpsamplingArg {
    Nearest,
    Bilinear,
    None,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let input = match args.sink.names {
        Names::Frame => Input::of(&args.inputs)?,
        Names::Lightflow => Input::of_pairs(&args.inputs)?,
    };
    if args.warm_start && !input.is_sequence() {
        usage!("--warm-start is for the frames of a folder or a video, whose pairs follow each other");
    }
    let single = matches!(input, Input::Pair(_));
    let of_frames_size = args.upsampling != Some(UpsamplingArg::None);
    let mut sink = FlowSink::new(&args.sink, single, args.bidirectional, of_frames_size)?;
    let limit = args.limit.unwrap_or(usize::MAX);
    session.files.reads_all(args.method.weights());
    if let (Some(taken), true) = (sink.stream(), args.json) {
        usage!("{taken} takes standard output: leave out --json, or write to a file");
    }
    input.plan(&sink, &mut session.files, limit)?;
    sink.plan_video(&mut session.files)?;
    session.files.prepare()?;
    let streamed = matches!(input, Input::Stream(_));
    let reading = Reading {
        orientation: if args.no_exif_rotation { Orientation::Stored } else { Orientation::Tagged },
        note: Arc::new(|text: &str| note!("note: {text}")),
    };
    let upsampling = args.upsampling.map_or(Upsampling::Reference, |upsampling| match upsampling {
        UpsamplingArg::Nearest => Upsampling::Nearest,
        UpsamplingArg::Bilinear => Upsampling::Bilinear,
        UpsamplingArg::None => Upsampling::None,
    });
    let estimator = match args.method.estimator()?.with_upsampling(upsampling) {
        Ok(estimator) => estimator,
        Err(error) => usage!("--upsampling: {error}"),
    };
    if args.warm_start && !estimator.takes_start() {
        usage!("--warm-start: {}", EstimateError::NoStart(estimator.name().into()));
    }
    if !args.json {
        note!("{}", estimator.describe());
    }
    let total = input.pairs(limit);
    let video = input.file().filter(|_| sink.is_video()).map(Path::to_path_buf);
    let again = (sink.wants_scale() && input.lasts()).then(|| input.clone());
    let (pairs, stated) = input.open(&reading)?;
    let mut pairs = pairs.take(limit);
    let rate = args.sink.fps.or_else(|| stated.or_else(|| rate_of(video.as_ref()?)));
    // The sound of a part, or at another pace, would not fit.
    let sound = video.as_deref().filter(|_| args.limit.is_none() && args.sink.fps.is_none());
    sink.begin_video(rate.unwrap_or_default(), sound)?;
    if let Some(input) = again {
        let silent = Reading { note: Arc::new(|_| {}), ..reading.clone() };
        let (pairs, _) = input.open(&silent)?;
        let bar = progress::counter("pairs looked at for the scale");
        for pair in pairs.take(limit).step_by(SCALE_FROM) {
            let (_, pair) = pair?;
            sink.look(&estimator.estimate(&pair.first, &pair.second)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        estimator.take_iterations();
    }
    let bar = match total {
        _ if single || args.json => ProgressBar::hidden(),
        Some(total) => progress::bar(total as u64, "pairs"),
        None => progress::counter("pairs"),
    };
    let (mut done, mut all_iterations) = (0, 0.0);
    let begun = std::time::Instant::now();
    let mut before: Option<FlowField> = None;
    loop {
        let batch: Vec<(PathBuf, FramePair)> = pairs.by_ref().take(args.batch).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            break;
        }
        let frames: Vec<(&Frame, &Frame)> = batch.iter().map(|(_, p)| (&*p.first, &*p.second)).collect();
        let start = std::time::Instant::now();
        let forward = match before.take().filter(|flow| flow.size() == frames[0].0.size()) {
            Some(flow) => vec![estimator.estimate_from(frames[0].0, frames[0].1, &carried_along(&flow))?],
            None => estimator.estimate_batch(&frames)?,
        };
        let backward: Vec<Option<FlowField>> = if args.bidirectional {
            // The last pair first: its frames are those seen last.
            let reversed: Vec<_> = frames.iter().rev().map(|&(a, b)| (b, a)).collect();
            estimator.estimate_batch(&reversed)?.into_iter().rev().map(Some).collect()
        } else {
            batch.iter().map(|_| None).collect()
        };
        let seconds = start.elapsed().as_secs_f64() / batch.len() as f64;
        let iterations = estimator.take_iterations();
        all_iterations += iterations.map_or(0.0, |mean| mean * batch.len() as f64);
        for (((name, pair), flow), back) in batch.iter().zip(&forward).zip(&backward) {
            // The first one's files are planned.
            if streamed && name != Path::new(FIRST_OF_STREAM) {
                sink.check(&mut session.files, name)?;
            }
            let mut report = sink.write(name, pair, flow, back.as_ref(), seconds)?;
            report.iterations = iterations;
            if (args.json || single) && sink.stream().is_none() {
                session.wrote(args.json, &report, &report)?;
            }
        }
        before = forward.into_iter().next().filter(|_| args.warm_start);
        done += batch.len();
        bar.inc(batch.len() as u64);
        if sink.is_unread() {
            break;
        }
    }
    bar.finish_and_clear();
    sink.finish_video()?;
    if done == 0 {
        usage!("{} holds fewer than two frames: there is no pair", args.inputs[0].display());
    }
    let pace = format!("{:.1} pairs a second", done as f64 / begun.elapsed().as_secs_f64().max(1e-9));
    let pace = if all_iterations > 0.0 {
        format!("{pace}, {:.1} iterations a pair", all_iterations / done as f64)
    } else {
        pace
    };
    if let Some(stream) = sink.stream() {
        let pictures = if stream == "--viz -" { format!(", {} pictures written", done + 1) } else { String::new() };
        note!("{done} pairs estimated{pictures}; {pace}");
    } else if !single && !args.json && !is_quiet() {
        writeln!(session.out, "{done} pairs estimated{}; {pace}", sink.destination())?;
    }
    Ok(())
}

/// Pairs of frames with the names of their results.
type Pairs = Box<dyn Iterator<Item = anyhow::Result<(PathBuf, FramePair)>>>;

/// One pair in this many is looked at for the scale of a video.
const SCALE_FROM: usize = 8;

/// What the inputs mean. Nothing but names is read yet.
#[derive(Clone)]
enum Input {
    /// Two images.
    Pair(PairPaths),
    /// A list, or a folder of numbered pairs; and the list itself.
    Pairs(Vec<PairPaths>, Option<PathBuf>),
    /// The images of a folder, in order.
    Folder(PathBuf, Vec<PathBuf>),
    /// A video file, or `-`.
    Stream(PathBuf),
}

impl Input {
    fn of(inputs: &[PathBuf]) -> anyhow::Result<Self> {
        let input = match inputs {
            [a, b] => {
                if let Some(folder) = [a, b].into_iter().find(|path| path.is_dir()) {
                    usage!(
                        "{} is a folder: estimate takes two images, or one folder, whose frames are paired in order; pairs of \
                         other images are lines of a list, two paths each: ferroflow estimate pairs.txt -o DIR",
                        folder.display()
                    );
                }
                return Ok(Self::Pair(PairPaths::new(a.clone(), b.clone())));
            }
            [input] => input,
            _ => {
                let folder = inputs[0].parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                usage!(
                    "{} inputs: give two images, or one folder, list of pairs or video. For the frames of a folder name \
                     the folder: ferroflow estimate {} -o DIR",
                    inputs.len(),
                    folder.display()
                );
            }
        };
        if input == Path::new("-") {
            return Ok(Self::Stream(input.clone()));
        }
        if input.is_dir() {
            let files = sequence::image_files(input)?;
            return Ok(match sequence::numbered_pairs(&files) {
                Some(pairs) => Self::Pairs(pairs, None),
                None => Self::Folder(input.clone(), files),
            });
        }
        let extension = input.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if ["txt", "tsv", "lst", "list"].contains(&extension.as_str()) {
            return Ok(Self::Pairs(sequence::listed_pairs(input)?, Some(input.clone())));
        }
        if sequence::IMAGE_EXTENSIONS.contains(&extension.as_str()) && sequence::animation(input)?.is_none() {
            usage!(
                "{} is one image: give the second one too, or a folder, a list of pairs or a video",
                input.display()
            );
        }
        Ok(Self::Stream(input.clone()))
    }

    /// Whether each pair begins with the frame that ends the one before.
    fn is_sequence(&self) -> bool {
        matches!(self, Self::Folder(..) | Self::Stream(_))
    }

    /// The images `NAME1` and `NAME2` of a folder, whatever else is in it.
    fn of_pairs(inputs: &[PathBuf]) -> anyhow::Result<Self> {
        let [folder] = inputs else { usage!("--names lightflow takes one folder of images called NAME1 and NAME2") };
        if !folder.is_dir() {
            usage!("--names lightflow takes a folder of images called NAME1 and NAME2; {} is none", folder.display());
        }
        let pairs = sequence::pairs_among(&sequence::image_files(folder)?);
        if pairs.is_empty() {
            usage!("{} holds no images called NAME1 and NAME2", folder.display());
        }
        Ok(Self::Pairs(pairs, None))
    }

    /// Plans the results of all pairs, or of the first of a stream: the others have numbers where it has one.
    fn plan(&self, sink: &FlowSink, outputs: &mut Outputs, limit: usize) -> anyhow::Result<()> {
        match self {
            Self::Pair(pair) => {
                outputs.reads_all([&pair.first, &pair.second]);
                plan(pair, sink, outputs)?;
            }
            Self::Pairs(pairs, list) => {
                outputs.reads_all(list);
                outputs.reads_all(pairs.iter().flat_map(|pair| [&pair.first, &pair.second]));
                if list.is_none()
                    && let Some(folder) = pairs.first().and_then(|pair| pair.first.parent())
                {
                    outputs.reads_folder(folder, is_image);
                }
                pairs.iter().take(limit).try_for_each(|pair| plan(pair, sink, outputs))?;
            }
            Self::Folder(folder, files) => {
                outputs.reads_all(files);
                outputs.reads_folder(folder, is_image);
                let firsts = files.iter().take(files.len().saturating_sub(1)).take(limit);
                for file in firsts {
                    sink.plan(outputs, &stem(file), &file.display().to_string())?;
                }
            }
            Self::Stream(path) => {
                outputs.reads(path);
                sink.plan(outputs, Path::new(FIRST_OF_STREAM), "the first frame")?;
            }
        }
        Ok(())
    }

    /// How many pairs there are, as far as that can be known before they are read.
    fn pairs(&self, limit: usize) -> Option<usize> {
        let all = match self {
            Self::Pair(_) => 1,
            Self::Pairs(pairs, _) => pairs.len(),
            Self::Folder(_, files) => files.len().saturating_sub(1),
            Self::Stream(path) => frames_of(path)?.saturating_sub(1),
        };
        Some(all.min(limit))
    }

    /// Whether it can be read twice.
    fn lasts(&self) -> bool {
        match self {
            Self::Stream(path) => path.is_file(),
            _ => true,
        }
    }

    /// The video file, if it is one.
    fn file(&self) -> Option<&Path> {
        match self {
            Self::Stream(path) if path.is_file() => Some(path),
            _ => None,
        }
    }

    /// Starts to read. A stream says its rate.
    fn open(self, reading: &Reading) -> anyhow::Result<(Pairs, Option<Rate>)> {
        let mut rate = None;
        let orientation = reading.orientation;
        let numbered = |pair: Result<FramePair, SequenceError>| {
            let pair = pair?;
            Ok((PathBuf::from(&pair.name), pair))
        };
        let pairs: Pairs = match self {
            Self::Pair(pair) => Box::new(std::iter::once(read(pair, orientation))),
            Self::Pairs(pairs, _) => Box::new(pairs.into_iter().map(move |pair| read(pair, orientation))),
            Self::Folder(folder, files) => {
                let pairs = sequence::successive(sequence::folder(&folder, reading)?);
                Box::new(files.into_iter().zip(pairs).map(|(file, pair)| Ok((stem(&file), pair?))))
            }
            Self::Stream(path) if path == Path::new("-") => {
                let mut input = standard_input()?;
                rate = rate_of_y4m(input.fill_buf().context("cannot read standard input")?);
                Box::new(sequence::successive(sequence::y4m(input, reading)?).map(numbered))
            }
            Self::Stream(path) => Box::new(sequence::successive(sequence::video(&path, reading)?).map(numbered)),
        };
        Ok((pairs, rate))
    }
}

/// What the first frame of a stream is called.
const FIRST_OF_STREAM: &str = "000000";

/// Plans the results of a pair.
fn plan(pair: &PairPaths, sink: &FlowSink, outputs: &mut Outputs) -> Result<(), OutputError> {
    sink.plan(outputs, &pair.name, &format!("{} -> {}", pair.first.display(), pair.second.display()))
}

/// Reads a pair.
fn read(pair: PairPaths, orientation: Orientation) -> anyhow::Result<(PathBuf, FramePair)> {
    let frames = pair.read(orientation)?;
    Ok((pair.name, frames))
}

/// YUV4MPEG2 on standard input; anything else is told apart before it is taken for a damaged stream.
fn standard_input() -> anyhow::Result<impl BufRead + Send + 'static> {
    const MAGIC: &[u8] = b"YUV4MPEG2";
    let how = "`-` reads YUV4MPEG2, as in: ffmpeg -v error -i VIDEO -f yuv4mpegpipe - | ferroflow estimate - -o DIR";
    if std::io::stdin().is_terminal() {
        usage!("nothing is piped in: {how}");
    }
    let mut input = BufReader::new(std::io::stdin());
    let head = input.fill_buf().context("cannot read standard input")?;
    let known = head.len().min(MAGIC.len());
    if head[..known] != MAGIC[..known] {
        let what = match head {
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an MP4 or QuickTime video",
            [0x1a, 0x45, 0xdf, 0xa3, ..] => "a Matroska or WebM video",
            [b'R', b'I', b'F', b'F', ..] => "an AVI video or a WebP image",
            [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, ..] => "an image",
            _ => "something else",
        };
        usage!("standard input is {what}: name the file instead of piping it, or decode it first; {how}");
    }
    Ok(input)
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    sequence::IMAGE_EXTENSIONS.contains(&extension.as_str())
}

/// The name of a file without its extension, whatever dots are left.
fn stem(path: &Path) -> PathBuf {
    path.file_stem().unwrap_or_default().into()
}
