//! Where estimates go: flow files, pictures, masks.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use ferroflow_core::{FlowField, Frame, consistency::Sundaram, io};
use ferroflow_data::sequence::FramePair;
use serde::Serialize;

use crate::{
    style::{Painter, StyleArgs},
    usage::usage,
};

/// What to write.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub struct SinkArgs {
    /// Flow file (.flo, .pfm, .png for KITTI, .npy, .npz); a folder for sequences
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Format of the flow files of a sequence
    #[arg(long, default_value = "flo", value_parser = ["flo", "pfm", "kitti", "npy", "npz"])]
    format: String,
    /// Cut vectors to what the flow files' format holds (KITTI: 512 px) instead of refusing
    #[arg(long)]
    clip: bool,
    /// Picture of the flow; a folder for sequences
    #[arg(long, value_name = "PATH")]
    viz: Option<PathBuf>,
    #[command(flatten)]
    style: StyleArgs,
}

/// Writes the estimates of one command.
pub struct FlowSink {
    flow: Option<Target>,
    viz: Option<Target>,
    clip: bool,
    painter: Painter,
}

/// A file for a single pair, or a folder and an extension.
enum Target {
    File(PathBuf),
    Folder(PathBuf, &'static str),
}

impl Target {
    fn path(&self, name: &str) -> PathBuf {
        match self {
            Target::File(path) => path.clone(),
            Target::Folder(folder, extension) => folder.join(format!("{name}.{extension}")),
        }
    }

    fn base(&self) -> &Path {
        match self {
            Target::File(path) | Target::Folder(path, _) => path,
        }
    }
}

impl FlowSink {
    /// Checks the arguments and makes the folders, before any work is done.
    pub fn new(args: &SinkArgs, single: bool) -> anyhow::Result<Self> {
        if !single && args.output.is_none() && args.viz.is_none() {
            usage!("a sequence needs a folder to write to: -o DIR for flow files, --viz DIR for pictures");
        }
        let extension = match args.format.as_str() {
            "pfm" => "pfm",
            "kitti" => "png",
            "npy" => "npy",
            "npz" => "npz",
            _ => "flo",
        };
        let target = |path: &Option<PathBuf>, extension: &'static str| -> anyhow::Result<Option<Target>> {
            let Some(path) = path else { return Ok(None) };
            let folder = if single { path.parent().unwrap_or(Path::new("")) } else { path };
            if !folder.as_os_str().is_empty() {
                std::fs::create_dir_all(folder)?;
            }
            Ok(Some(if single { Target::File(path.clone()) } else { Target::Folder(path.clone(), extension) }))
        };
        if let (true, Some(path)) = (single, &args.output) {
            io::FlowFormat::of_path(path)?;
        }
        Ok(Self {
            flow: target(&args.output, extension)?,
            viz: target(&args.viz, "png")?,
            clip: args.clip,
            painter: Painter::new(&args.style),
        })
    }

    /// Writes everything asked for about one pair.
    pub fn write(
        &mut self,
        pair: &FramePair,
        flow: &FlowField,
        backward: Option<&FlowField>,
        seconds: f64,
    ) -> anyhow::Result<PairReport> {
        let (mut files, mut clipped) = (Vec::new(), 0);
        if let Some(target) = &self.flow {
            let path = target.path(&pair.name);
            clipped += io::write_flow_within(&path, flow, self.clip)?;
            files.push(path);
        }
        if let Some(target) = &self.viz {
            let path = target.path(&pair.name);
            io::write_frame(&path, &self.painter.paint(flow, Some(&pair.first))?)?;
            files.push(path);
        }
        let mut occluded = None;
        if let Some(backward) = backward {
            let checked = Sundaram::default().check(flow, backward)?;
            occluded = Some(checked.occluded.count() as f64 / checked.occluded.data().len() as f64);
            if let Some(target) = self.flow.as_ref().or(self.viz.as_ref()) {
                let main = target.path(&pair.name);
                if self.flow.is_some() {
                    let path = beside(&main, "backward", None);
                    clipped += io::write_flow_within(&path, backward, self.clip)?;
                    files.push(path);
                }
                let path = beside(&main, "occlusion", Some("png"));
                io::write_mask(&path, &checked.occluded)?;
                files.push(path);
                let path = beside(&main, "confidence", Some("png"));
                let confidence = Frame::from_fn(flow.width(), flow.height(), |x, y| {
                    [(255.0 * checked.confidence[y * flow.width() + x]).round() as u8; 3]
                });
                io::write_frame(&path, &confidence)?;
                files.push(path);
            }
        }
        let lengths = || flow.u().iter().zip(flow.v()).map(|(u, v)| f64::from(*u).hypot(f64::from(*v)));
        Ok(PairReport {
            name: pair.name.clone(),
            width: flow.width(),
            height: flow.height(),
            seconds,
            mean_motion: lengths().sum::<f64>() / flow.u().len() as f64,
            max_motion: lengths().fold(0.0, f64::max),
            occluded,
            clipped,
            files,
        })
    }

    /// Where results went, for a last line.
    pub fn destination(&self) -> String {
        let folders: Vec<String> =
            [&self.flow, &self.viz].into_iter().flatten().map(|t| t.base().display().to_string()).collect();
        if folders.is_empty() { String::new() } else { format!(", written to {}", folders.join(" and ")) }
    }
}

/// `dir/name.ext` with `what`: `dir/name.what.ext`.
fn beside(path: &Path, what: &str, extension: Option<&str>) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = extension.map(Into::into).unwrap_or_else(|| path.extension().unwrap_or_default().to_string_lossy());
    path.with_file_name(format!("{stem}.{what}.{extension}"))
}

/// What was done for one pair.
#[derive(Serialize)]
pub struct PairReport {
    name: String,
    width: usize,
    height: usize,
    seconds: f64,
    /// Mean length of the flow, pixels.
    mean_motion: f64,
    /// Longest flow vector, pixels.
    max_motion: f64,
    /// Share of occluded pixels, with `--bidirectional`.
    #[serde(skip_serializing_if = "Option::is_none")]
    occluded: Option<f64>,
    /// Vectors that were cut to what the flow files' format holds, with `--clip`.
    clipped: usize,
    files: Vec<PathBuf>,
}

impl fmt::Display for PairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}x{} in {:.0} ms; motion {:.2} px on average, {:.2} px at most",
            self.name,
            self.width,
            self.height,
            1e3 * self.seconds,
            self.mean_motion,
            self.max_motion
        )?;
        if let Some(occluded) = self.occluded {
            write!(f, "; {:.1} % occluded", 100.0 * occluded)?;
        }
        if self.clipped > 0 {
            write!(f, "; {} vectors cut to what the format holds", self.clipped)?;
        }
        for file in &self.files {
            write!(f, "\nwrote {}", file.display())?;
        }
        Ok(())
    }
}
