//! `ferroflow score`: another runtime's outputs against the truth.

use std::{io::Write, path::PathBuf};

use ferroflow::{core::metrics::metrics_table, infer::offline};

use crate::session::Session;

/// Score the raw outputs of another runtime on inputs made by `ferroflow export inputs`.
///
///   ferroflow score prepared --outputs results
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Folder made by `ferroflow export inputs`
    folder: PathBuf,
    /// Folder with the runtime's outputs, one file for each input file, in the order of their names
    #[arg(long, value_name = "DIR")]
    outputs: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let score = offline::score(&args.folder, &args.outputs)?;
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string(&score)?)?;
        return Ok(());
    }
    writeln!(session.out, "{} pairs", score.summary.pairs)?;
    write!(
        session.out,
        "{}",
        metrics_table(&[("over pixels", &score.summary.over_pixels), ("over images", &score.summary.over_images)])
    )?;
    Ok(())
}
