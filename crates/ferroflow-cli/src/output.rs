//! Writes estimates as flow files, pictures and masks.

use std::{
    borrow::Cow,
    fmt,
    io::{self as stdio, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use ferroflow::core::{
    FlowField, Frame,
    consistency::Sundaram,
    io::{self, OutputError, Outputs, outputs::with_suffix},
    viz::{self, blended, stacked},
};
use ferroflow::data::{
    sequence::FramePair,
    video::{Rate, VideoError, VideoWriter, is_video_name},
};
use serde::Serialize;

use crate::{
    style::{Painter, StyleArgs},
    usage::usage,
};

/// What to write.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub struct SinkArgs {
    /// Flow file to write (.flo, .pfm, .png for KITTI, .npy, .npz, .exr with the channels of compositors); a folder for sequences; or -
    /// to stream flow to standard output, one whole .flo file (or .npy with --format npy) after the other
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Format of the flow files of a sequence, or of a stream
    #[arg(long, default_value = "flo", value_parser = ["flo", "pfm", "kitti", "npy", "npz", "exr"])]
    format: String,
    /// Cut vectors to what the flow files' format holds (KITTI: 512 px) instead of refusing
    #[arg(long)]
    clip: bool,
    /// Picture of the flow to write; for sequences a folder, or a video (.mp4, .mov, .mkv, .webm, .avi, .gif and .webp through the
    /// program ffmpeg, .y4m without), or - for a YUV4MPEG2 stream to standard output. A video has as many pictures as the sequence
    /// has frames: the last one stays
    #[arg(long, value_name = "PATH")]
    viz: Option<PathBuf>,
    /// Show frame 1 to the left of the picture
    #[arg(long, group = "layout", requires = "viz")]
    side_by_side: bool,
    /// Show frame 1 above the picture
    #[arg(long, group = "layout", requires = "viz")]
    stacked: bool,
    /// Show the picture over frame 1, which shines through; SHARE is that of the picture, 0.5 if left out
    #[arg(long, group = "layout", requires = "viz", value_name = "SHARE", num_args = 0..=1, default_missing_value = "0.5",
          value_parser = share)]
    blend: Option<f32>,
    /// Pictures a second of a video. Default: as the input, or 25
    #[arg(long, requires = "viz", value_name = "RATE")]
    pub fps: Option<Rate>,
    /// Names of the results: frame (that of the first frame), or lightflow (NAMEflow of the images NAME1 and NAME2 of a folder,
    /// and with --bidirectional NAMEinv_flow)
    #[arg(long, value_enum, default_value_t)]
    pub names: Names,
    #[command(flatten)]
    style: StyleArgs,
}

fn share(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "write a share from 0 to 1".into())
}

/// How the picture of a flow and its frame are put together.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Alone,
    SideBySide,
    Stacked,
    Blended(f32),
}

/// Names of the results of a pair.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Names {
    /// That of the first frame.
    #[default]
    Frame,
    /// As LightFlow's inference.py: arrays and pictures both ways, without masks.
    Lightflow,
}

/// Writes the estimates of one command.
pub struct FlowSink {
    flow: Option<Target>,
    /// The format of a stream of flow.
    stream: Option<io::FlowFormat>,
    /// Whether nobody reads the stream any more.
    unread: bool,
    viz: Option<Target>,
    video: Option<Video>,
    layout: Layout,
    bidirectional: bool,
    names: Names,
    /// Whether the agreement of the flows both ways is looked at.
    masks: bool,
    clip: bool,
    painter: Painter,
}

/// Pictures of a sequence, as a video.
struct Video {
    /// `-` is standard output.
    path: PathBuf,
    writer: Option<VideoWriter>,
    /// The last flow, and the frame that it leads to.
    last: Option<(FlowField, Arc<Frame>)>,
}

impl Video {
    fn is_stream(&self) -> bool {
        self.path == Path::new("-")
    }
}

/// A file for a single pair, or a folder and an extension.
enum Target {
    File(PathBuf),
    Folder(PathBuf, &'static str),
}

impl Target {
    fn path(&self, name: &Path) -> PathBuf {
        match self {
            Target::File(path) => path.clone(),
            Target::Folder(folder, extension) => with_suffix(folder, name, &format!(".{extension}")),
        }
    }

    fn base(&self) -> &Path {
        match self {
            Target::File(path) | Target::Folder(path, _) => path,
        }
    }
}

/// The files of one pair.
struct PairFiles {
    flow: Option<PathBuf>,
    viz: Option<PathBuf>,
    backward: Option<PathBuf>,
    backward_viz: Option<PathBuf>,
    occlusion: Option<PathBuf>,
    confidence: Option<PathBuf>,
}

impl PairFiles {
    /// Each with what is in it.
    fn each(&self) -> impl Iterator<Item = (&Path, &'static str)> {
        let files = [
            (&self.flow, "flow"),
            (&self.viz, "picture"),
            (&self.backward, "backward flow"),
            (&self.backward_viz, "picture of the backward flow"),
            (&self.occlusion, "occlusion mask"),
            (&self.confidence, "confidence"),
        ];
        files.into_iter().filter_map(|(path, what)| Some((path.as_deref()?, what)))
    }
}

impl FlowSink {
    /// Checks the arguments. Masks are made where flows go both ways and have the size of the frames.
    pub fn new(args: &SinkArgs, single: bool, bidirectional: bool, of_frames_size: bool) -> anyhow::Result<Self> {
        if !single && args.output.is_none() && args.viz.is_none() {
            usage!("a sequence needs a folder to write to: -o DIR for flow files, --viz DIR for pictures");
        }
        let extension = match args.format.as_str() {
            "pfm" => "pfm",
            "kitti" => "png",
            "npy" => "npy",
            "npz" => "npz",
            "exr" => "exr",
            _ => "flo",
        };
        let stream =
            (args.output.as_deref() == Some(Path::new("-"))).then(|| stream(args, bidirectional)).transpose()?;
        let output = args.output.clone().filter(|_| stream.is_none());
        if single {
            let formats = [
                output.as_ref().map(|path| (path, io::FlowFormat::of_path(path).map(drop))),
                args.viz.as_ref().map(|path| (path, io::check_frame_name(path))),
            ];
            for (path, format) in formats.into_iter().flatten() {
                if let Err(error) = format {
                    usage!("{}: {error}", path.display());
                }
            }
        }
        let is_video = |path: &&PathBuf| *path == Path::new("-") || is_video_name(path) && !path.is_dir();
        let video = args.viz.as_ref().filter(|_| !single).filter(is_video);
        let video = video.map(|path| Video { path: path.clone(), writer: None, last: None });
        if !single {
            folders(args, video.is_some())?;
        }
        if video.is_none() && args.fps.is_some() {
            usage!("--fps belongs to a video: --viz out.mp4");
        }
        let layout = match (args.side_by_side, args.stacked, args.blend) {
            (true, ..) => Layout::SideBySide,
            (_, true, _) => Layout::Stacked,
            (.., Some(share)) => Layout::Blended(share),
            _ => Layout::Alone,
        };
        let target = |path: &Option<PathBuf>, extension| {
            path.clone().map(|path| if single { Target::File(path) } else { Target::Folder(path, extension) })
        };
        Ok(Self {
            flow: target(&output, extension),
            stream,
            unread: false,
            viz: if video.is_some() { None } else { target(&args.viz, "png") },
            video,
            layout,
            bidirectional,
            names: args.names,
            masks: bidirectional && of_frames_size && args.names == Names::Frame,
            clip: args.clip,
            painter: Painter::new(&args.style),
        })
    }

    /// The files of the pair that is called `name`.
    fn files(&self, name: &Path) -> PairFiles {
        if self.names == Names::Lightflow {
            return self.lightflow_files(name);
        }
        let path = |target: &Option<Target>| target.as_ref().map(|target| target.path(name));
        let (flow, viz) = (path(&self.flow), path(&self.viz));
        let main = flow.as_ref().or(viz.as_ref()).filter(|_| self.masks);
        let extension = |path: &PathBuf| path.extension().map(|e| e.to_string_lossy().into_owned());
        PairFiles {
            backward: flow
                .as_ref()
                .filter(|_| self.bidirectional)
                .map(|flow| beside(flow, &format!("backward.{}", extension(flow).unwrap_or_default()))),
            backward_viz: None,
            occlusion: main.map(|main| beside(main, "occlusion.png")),
            confidence: main.map(|main| beside(main, "confidence.png")),
            flow,
            viz,
        }
    }

    /// `NAME1` and `NAME2` give `NAMEflow` and `NAMEinv_flow`.
    fn lightflow_files(&self, name: &Path) -> PairFiles {
        let name = name.to_string_lossy();
        let shared = name.strip_suffix('1').unwrap_or(&name);
        let path = |target: &Option<Target>, word: &str| {
            target.as_ref().map(|target| target.path(Path::new(&format!("{shared}{word}"))))
        };
        let back = |target: &Option<Target>| path(target, "inv_flow").filter(|_| self.bidirectional);
        PairFiles {
            flow: path(&self.flow, "flow"),
            viz: path(&self.viz, "flow"),
            backward: back(&self.flow),
            backward_viz: back(&self.viz),
            occlusion: None,
            confidence: None,
        }
    }

    /// Whether pictures become a video.
    pub fn is_video(&self) -> bool {
        self.video.is_some()
    }

    /// What takes standard output, if something does.
    pub fn stream(&self) -> Option<&'static str> {
        match &self.video {
            Some(video) if video.is_stream() => Some("--viz -"),
            _ => self.stream.map(|_| "-o -"),
        }
    }

    /// Whether whoever read the stream of flow has gone, so that nothing more is wanted.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// Whether flows are to be looked at before the first is painted.
    pub fn wants_scale(&self) -> bool {
        self.is_video() && self.painter.wants_scale()
    }

    /// Looks at a flow before the first is painted.
    pub fn look(&mut self, flow: &FlowField) {
        self.painter.look(flow);
    }

    /// Plans the video.
    pub fn plan_video(&self, outputs: &mut Outputs) -> Result<(), OutputError> {
        match &self.video {
            Some(video) if !video.is_stream() => outputs.plan(&video.path, "the video"),
            _ => Ok(()),
        }
    }

    /// Begins the video, with the sound of another.
    pub fn begin_video(&mut self, rate: Rate, sound: Option<&Path>) -> Result<(), VideoError> {
        if let Some(video) = &mut self.video {
            video.writer = Some(match video.is_stream() {
                true => VideoWriter::to_stream(stdio::BufWriter::new(stdio::stdout()), rate),
                false => VideoWriter::create(&video.path, rate, sound)?,
            });
        }
        Ok(())
    }

    /// Ends the video: its last picture stays for the last frame.
    pub fn finish_video(&mut self) -> anyhow::Result<()> {
        let last = self.video.as_mut().and_then(|video| video.last.take());
        let Some((flow, frame)) = last else { return Ok(()) };
        let picture = self.picture(&flow, &frame)?;
        if let Some(mut writer) = self.video.as_mut().and_then(|video| video.writer.take()) {
            writer.push(&picture)?;
            writer.finish()?;
        }
        Ok(())
    }

    /// The picture of a flow as it was asked for.
    fn picture(&mut self, flow: &FlowField, frame: &Frame) -> anyhow::Result<Frame> {
        let picture = self.painter.paint(flow, Some(frame))?;
        Ok(match self.layout {
            Layout::Alone => picture,
            Layout::SideBySide => viz::beside(&[frame.clone(), picture], 0),
            Layout::Stacked => stacked(&[frame.clone(), picture]),
            Layout::Blended(share) => blended(frame, &picture, share)?,
        })
    }

    /// Plans all files of a pair; messages name the pair as `from`.
    pub fn plan(&self, outputs: &mut Outputs, name: &Path, from: &str) -> Result<(), OutputError> {
        self.files(name).each().try_for_each(|(path, what)| outputs.plan(path, format!("the {what} of {from}")))
    }

    /// As [`Self::plan`] for a pair of a stream, which may never end.
    pub fn check(&self, outputs: &mut Outputs, name: &Path) -> Result<(), OutputError> {
        let from = name.display();
        self.files(name).each().try_for_each(|(path, what)| outputs.check(path, &format!("the {what} of {from}")))?;
        outputs.prepare()
    }

    /// Writes everything asked for about one pair, with the planned name.
    pub fn write(
        &mut self,
        name: &Path,
        pair: &FramePair,
        flow: &FlowField,
        backward: Option<&FlowField>,
        seconds: f64,
    ) -> anyhow::Result<PairReport> {
        let files = self.files(name);
        let mut clipped = 0;
        if let Some(path) = &files.flow {
            clipped += io::write_flow_within(path, flow, self.clip)?;
        }
        if let Some(format) = self.stream {
            let (within, cut) = if self.clip { format.clip(flow) } else { (Cow::Borrowed(flow), 0) };
            clipped += cut;
            self.push(&format.encode(&within)?)?;
        }
        if let Some(path) = &files.viz {
            io::write_frame(path, &self.picture(flow, &pair.first)?)?;
        }
        if self.is_video() {
            self.painter.settle(flow);
            let picture = self.picture(flow, &pair.first)?;
            if let Some(Video { writer: Some(writer), last, .. }) = &mut self.video {
                writer.push(&picture)?;
                *last = Some((flow.clone(), pair.second.clone()));
            }
        }
        let mut occluded = None;
        if let Some(backward) = backward {
            if let Some(path) = &files.backward {
                clipped += io::write_flow_within(path, backward, self.clip)?;
            }
            if let Some(path) = &files.backward_viz {
                io::write_frame(path, &self.picture(backward, &pair.second)?)?;
            }
        }
        if let Some(backward) = backward.filter(|_| self.masks) {
            let checked = Sundaram::default().check(flow, backward)?;
            occluded = Some(checked.occluded.count() as f64 / checked.occluded.data().len() as f64);
            if let Some(path) = &files.occlusion {
                io::write_mask(path, &checked.occluded)?;
            }
            if let Some(path) = &files.confidence {
                let confidence = Frame::from_fn(flow.size(), |x, y| {
                    [(255.0 * checked.confidence[y * flow.width() + x]).round() as u8; 3]
                });
                io::write_frame(path, &confidence)?;
            }
        }
        let lengths = || flow.u().iter().zip(flow.v()).map(|(u, v)| f64::from(*u).hypot(f64::from(*v)));
        Ok(PairReport {
            name: name.display().to_string(),
            width: flow.width(),
            height: flow.height(),
            seconds,
            iterations: None,
            mean_motion: lengths().sum::<f64>() / flow.u().len() as f64,
            max_motion: lengths().fold(0.0, f64::max),
            occluded,
            clipped,
            files: files.each().map(|(path, _)| path.display().to_string()).collect(),
        })
    }

    /// Writes to standard output. A reader that stops early (`... | head`) is no failure.
    fn push(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = stdio::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() == stdio::ErrorKind::BrokenPipe => self.unread = true,
            written => written.context("cannot write to standard output")?,
        }
        Ok(())
    }

    /// Where results were written, for the last line of the output.
    pub fn destination(&self) -> String {
        let targets = [&self.flow, &self.viz].into_iter().flatten().map(Target::base);
        let video = self.video.iter().map(|video| &*video.path);
        let folders: Vec<String> = targets.chain(video).map(|path| path.display().to_string()).collect();
        if folders.is_empty() { String::new() } else { format!(", written to {}", folders.join(" and ")) }
    }
}

/// The format of a stream of flow: one whose files say where they end.
fn stream(args: &SinkArgs, bidirectional: bool) -> anyhow::Result<io::FlowFormat> {
    if args.viz.as_deref() == Some(Path::new("-")) {
        usage!("-o - and --viz - both take standard output: write one of them to a file");
    }
    if bidirectional {
        usage!("-o - streams the flow from frame 1 to frame 2 alone: leave out --bidirectional, or write to a folder");
    }
    match args.format.as_str() {
        "flo" => Ok(io::FlowFormat::Flo),
        "npy" => Ok(io::FlowFormat::Npy),
        other => usage!("-o - streams .flo or .npy files: --format {other} needs files of its own"),
    }
}

/// Checks that what the results of a sequence are written to is no name of a file, which would become a folder.
fn folders(args: &SinkArgs, is_video: bool) -> anyhow::Result<()> {
    let named = |path: &&PathBuf| !path.is_dir();
    if let Some(path) = args.output.as_ref().filter(named).filter(|path| *path != Path::new("-")) {
        if is_video_name(path) {
            usage!("{} names a video, which holds pictures: --viz {}", path.display(), path.display());
        }
        if io::FlowFormat::of_path(path).is_ok() {
            usage!(
                "{} names a file, and a sequence gives many: name a folder, and the format with --format",
                path.display()
            );
        }
    }
    let viz = args.viz.as_ref().filter(named).filter(|_| !is_video);
    if let Some(path) = viz.filter(|path| io::check_frame_name(path).is_ok()) {
        usage!(
            "{} names one picture, and a sequence gives many: name a folder, or a video such as out.mp4",
            path.display()
        );
    }
    Ok(())
}

/// `dir/name.ext` with `what.ext2`: `dir/name.what.ext2`.
fn beside(path: &Path, what: &str) -> PathBuf {
    with_suffix(path.parent().unwrap_or(Path::new("")), path.file_stem().unwrap_or_default(), &format!(".{what}"))
}

/// The report on one pair.
#[derive(Serialize)]
pub struct PairReport {
    name: String,
    width: usize,
    height: usize,
    seconds: f64,
    /// Iterations of a recurrent network, with `--stop-below`; the mean of pairs estimated at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterations: Option<f64>,
    /// Mean length of the flow, pixels.
    mean_motion: f64,
    /// Longest flow vector, pixels.
    max_motion: f64,
    /// Share of occluded pixels, with `--bidirectional`.
    #[serde(skip_serializing_if = "Option::is_none")]
    occluded: Option<f64>,
    /// Vectors that were cut to what the flow files' format holds, with `--clip`.
    clipped: usize,
    /// Paths as they can be printed, because names need not be Unicode.
    files: Vec<String>,
}

impl fmt::Display for PairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}x{} in {:.0} ms; motion {:.2} px on average, {:.2} px at most",
            self.name,
            self.height,
            self.width,
            1e3 * self.seconds,
            self.mean_motion,
            self.max_motion
        )?;
        if let Some(iterations) = self.iterations {
            write!(f, "; {iterations} iterations")?;
        }
        if let Some(occluded) = self.occluded {
            write!(f, "; {:.1} % occluded", 100.0 * occluded)?;
        }
        if self.clipped > 0 {
            write!(f, "; {} vectors cut to what the format holds", self.clipped)?;
        }
        for file in &self.files {
            write!(f, "\nwrote {file}")?;
        }
        Ok(())
    }
}
