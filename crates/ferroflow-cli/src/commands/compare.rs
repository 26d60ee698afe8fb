//! `ferroflow compare`: how far apart two flows are.

use std::{io::Write, path::PathBuf};

use ferroflow::core::{
    io,
    metrics::{Metrics, Tally, Truth, metrics_table},
    viz::{ErrorScale, error_legend, error_map, overlay},
};

use crate::{session::Session, usage::usage};

/// Compare an estimated flow with the truth (or any two flows): every metric, and a map of the errors.
///
///   ferroflow compare estimate.flo truth.png --error-map errors.png
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The estimated flow; pixels at which it is unknown, not finite, or 1e9 px or more count as unanswered
    estimate: PathBuf,
    /// The true flow; its unknown pixels are not scored
    truth: PathBuf,
    /// Occlusion mask of frame 1 (white: occluded), to print the errors of matched and of unmatched pixels too
    #[arg(long, value_name = "FILE")]
    occlusion: Option<PathBuf>,
    /// Draw a map of the errors in KITTI's colours to this file
    #[arg(long, value_name = "FILE.png")]
    error_map: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    session.files.reads_all([&args.estimate, &args.truth].into_iter().chain(&args.occlusion));
    if let Some(path) = &args.error_map {
        if let Err(error) = io::check_frame_name(path) {
            usage!("{}: {error}", path.display());
        }
        session.files.plan(path, "the error map")?;
        session.files.prepare()?;
    }
    let (estimate, truth) = (io::read_flow(&args.estimate)?, io::read_flow(&args.truth)?);
    let occlusion = args.occlusion.as_ref().map(io::read_mask).transpose()?;
    let mut scored = Truth::new(&truth);
    if let Some(mask) = &occlusion {
        scored = scored.occluded(mask);
    }
    let metrics = Metrics::of(&Tally::of(&estimate, &scored)?.scorable()?);
    if let Some(path) = &args.error_map {
        let map = error_map(&estimate, &truth, occlusion.as_ref(), ErrorScale::default())?;
        io::write_frame(path, &overlay(map, &error_legend(320)))?;
    }
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string(&metrics)?)?;
    } else {
        write!(session.out, "{}", metrics_table(&[("", &metrics)]))?;
    }
    Ok(())
}
