//! `ferroflow score`: another runtime's outputs against the truth.

use std::{io::Write, path::PathBuf};

use ferroflow::{core::metrics::metrics_table, infer::offline};

use crate::{offline::HintArgs, session::Session};

/// Score the raw outputs of a runtime (`ferroflow run`, msame, ais_bench) on inputs made by `ferroflow export inputs`, or by the
/// scripts of the FlowNet2 and PWC-Net projects, whose folders have no pairs.json:
///
///   ferroflow score prepared --outputs results
///   ferroflow score data_preprocessed_bs1/gt --outputs output_bs1 --layout flownet2 --size 436x1024
///   ferroflow score offline_infer/Bin/gt --outputs results --size 436x1024
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Folder made by `ferroflow export inputs`; or any folder of inputs with their truth in gt/, or of the truth alone
    folder: PathBuf,
    /// Folder with the runtime's outputs, one file for each input file
    #[arg(long, value_name = "DIR")]
    outputs: PathBuf,
    #[command(flatten)]
    hints: HintArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let score = offline::score(&args.hints.open(&args.folder)?, &args.outputs)?;
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
