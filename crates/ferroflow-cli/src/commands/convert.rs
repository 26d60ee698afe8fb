//! `ferroflow convert`: another file format for a flow.

use std::path::PathBuf;

use ferroflow::core::{Size, io};
use serde::Serialize;

use crate::{session::Session, usage::usage};

/// Change the format of a flow file: .flo, .pfm, KITTI 16-bit .png, .npy, .npz, OpenEXR.
///
/// The input is recognised by its content, the output by its name:
///
///   ferroflow convert frame_0001.flo frame_0001.png
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Flow file to read
    input: PathBuf,
    /// Flow file to write
    output: PathBuf,
    /// Cut vectors to what the format holds (KITTI: 512 px) instead of refusing
    #[arg(long)]
    clip: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Converted {
    file: String,
    size: Size,
    /// Pixels without a vector.
    unknown: usize,
    /// Vectors that were cut to what the format holds.
    clipped: usize,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    if let Err(error) = io::FlowFormat::of_path(&args.output) {
        usage!("{}: {error}", args.output.display());
    }
    session.files.reads(&args.input);
    session.files.plan(&args.output, "the converted flow")?;
    session.files.prepare()?;
    let flow = io::read_flow(&args.input)?;
    let clipped = io::write_flow_within(&args.output, &flow, args.clip)?;
    let unknown = flow.validity().map_or(0, |mask| mask.data().len() - mask.count());
    let mut note = if unknown == 0 { String::new() } else { format!(", {unknown} pixels unknown") };
    if clipped > 0 {
        note += &format!(", {clipped} vectors cut to what the format holds");
    }
    let converted = Converted { file: args.output.display().to_string(), size: flow.size(), unknown, clipped };
    session.wrote(args.json, &converted, format_args!("{}: {}{note}", converted.file, converted.size))
}
