//! `ferroflow viz`: pictures of flow files.

use std::path::{Path, PathBuf};

use ferroflow::core::{
    io::{self, Orientation, outputs::with_suffix},
    viz::{beside, warp_picture},
};
use serde::Serialize;

use crate::{
    session::Session,
    style::{Painter, StyleArgs},
    usage::usage,
};

/// Draw flow files as pictures, or show how well a flow explains its frames.
///
///   ferroflow viz flow.flo -o flow.png
///   ferroflow viz flows/*.flo -o pictures/ --norm sequence --legend
///   ferroflow viz flow.flo -o warp.png --frames frame1.png frame2.png
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Flow files
    #[arg(required = true)]
    flows: Vec<PathBuf>,
    /// Picture to write; a folder when there are several flows
    #[arg(short, long)]
    output: PathBuf,
    /// Frame 1, for arrows; or both frames, to draw frame 2 warped back by the flow, its difference from frame 1, and
    /// frame 1 with the pixels that leave the frame in red, side by side
    #[arg(long, num_args = 1..=2, value_name = "FRAME")]
    frames: Vec<PathBuf>,
    /// Take frames as they are stored, without rotating them as their EXIF tag says
    #[arg(long)]
    no_exif_rotation: bool,
    /// Print one JSON object per picture instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    style: StyleArgs,
}

#[derive(Serialize)]
struct Drawn {
    flow: String,
    picture: String,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let mut painter = Painter::new(&args.style);
    if painter.needs_frame() && args.frames.is_empty() {
        usage!("--style arrows draws over frame 1: give it with --frames FRAME1");
    }
    if args.flows.len() > 1 && !args.frames.is_empty() {
        usage!("--frames belongs to one flow");
    }
    // `shot.0001.flo` becomes `shot.0001.png`: a name may hold dots.
    let targets: Vec<PathBuf> = match &args.flows[..] {
        [_] => vec![args.output.clone()],
        flows => flows.iter().map(|f| with_suffix(&args.output, f.file_stem().unwrap_or_default(), ".png")).collect(),
    };
    session.files.reads_all(args.flows.iter().chain(&args.frames));
    for (flow, target) in args.flows.iter().zip(&targets) {
        if let Err(error) = io::check_frame_name(target) {
            usage!("{}: {error}", target.display());
        }
        session.files.plan(target, format!("the picture of {}", flow.display()))?;
    }
    session.files.prepare()?;
    let orientation = if args.no_exif_rotation { Orientation::Stored } else { Orientation::Tagged };
    let read_frame = |path: &PathBuf| io::read_frame_as(path, orientation);
    if let [first, second] = &args.frames[..] {
        let (flow, first, second) = (io::read_flow(&args.flows[0])?, read_frame(first)?, read_frame(second)?);
        let shown = warp_picture(&first, &second, &flow, None)?;
        io::write_frame(&args.output, &beside(&[shown.warped, shown.difference, shown.occlusion], 8))?;
        return wrote(&args.flows[0], &args.output, args.json, session);
    }
    // Two passes, so that the scale of a sequence is known before its first picture.
    for path in &args.flows {
        painter.observe(&io::read_flow(path)?);
    }
    let frame = args.frames.first().map(read_frame).transpose()?;
    for (path, target) in args.flows.iter().zip(&targets) {
        io::write_frame(target, &painter.paint(&io::read_flow(path)?, frame.as_ref())?)?;
        wrote(path, target, args.json, session)?;
    }
    Ok(())
}

fn wrote(flow: &Path, picture: &Path, json: bool, session: &mut Session) -> anyhow::Result<()> {
    let drawn = Drawn { flow: flow.display().to_string(), picture: picture.display().to_string() };
    session.wrote(json, &drawn, &drawn.picture)
}
