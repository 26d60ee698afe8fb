//! One file per command: its arguments, and how they become calls of the libraries.

mod bench;
mod compare;
mod completions;
mod convert;
mod data;
mod doctor;
mod estimate;
mod eval;
mod export;
mod man;
mod models;
mod motion;
mod run;
mod score;
mod synth;
mod train;
mod view;
mod viz;
mod weights;

use crate::session::Session;

/// What to do. A documentation comment on a variant would replace what the command says of itself at length, and its examples.
#[derive(clap::Subcommand)]
pub enum Command {
    #[command(about = "Estimate the flow of a pair, a folder of frames, a list of pairs or a video")]
    Estimate(estimate::Args),
    #[command(about = "Measure a method on data with known flow")]
    Eval(eval::Args),
    #[command(about = "Train a network by a recipe")]
    Train(train::Args),
    #[command(about = "Draw a flow file as a picture")]
    Viz(viz::Args),
    #[command(about = "Look at frames, flow, errors and occlusion in a browser")]
    View(view::Args),
    #[command(about = "Change the format of a flow file")]
    Convert(convert::Args),
    #[command(about = "Compare two flow files: metrics and an error map")]
    Compare(compare::Args),
    #[command(about = "List the networks, or describe one")]
    Models(models::Args),
    #[command(about = "Import, export, inspect and make weights")]
    Weights(weights::Args),
    #[command(about = "Write a network as ONNX, or inputs for another runtime")]
    Export(export::Args),
    #[command(about = "Run a network on prepared inputs, as msame and ais_bench do")]
    Run(run::Args),
    #[command(about = "Score the outputs of `run` or of another runtime")]
    Score(score::Args),
    #[command(about = "Check, describe, pack and time data sets")]
    Data(data::Args),
    #[command(about = "Write synthetic pairs with exact flow")]
    Synth(synth::Args),
    #[command(about = "Time a network on this machine")]
    Bench(bench::Args),
    #[command(about = "Measure what moves in videos, to choose among many")]
    Motion(motion::Args),
    #[command(about = "Say what this machine has and which networks fit into its memory")]
    Doctor(doctor::Args),
    #[command(about = "Print the completions of a shell")]
    Completions(completions::Args),
    #[command(about = "Write the manual pages")]
    Man(man::Args),
}

impl Command {
    /// Runs it.
    pub fn run(self, session: &mut Session) -> anyhow::Result<()> {
        match self {
            Command::Estimate(args) => estimate::run(args, session),
            Command::Eval(args) => eval::run(args, session),
            Command::Train(args) => train::run(args, session),
            Command::Viz(args) => viz::run(args, session),
            Command::View(args) => view::run(args, session),
            Command::Convert(args) => convert::run(args, session),
            Command::Compare(args) => compare::run(args, session),
            Command::Models(args) => models::run(args, session),
            Command::Weights(args) => weights::run(args, session),
            Command::Export(args) => export::run(args, session),
            Command::Run(args) => run::run(args, session),
            Command::Score(args) => score::run(args, session),
            Command::Data(args) => data::run(args, session),
            Command::Synth(args) => synth::run(args, session),
            Command::Bench(args) => bench::run(args, session),
            Command::Motion(args) => motion::run(args, session),
            Command::Doctor(args) => doctor::run(args, session),
            Command::Completions(args) => completions::run(&args, session),
            Command::Man(args) => man::run(&args, session),
        }
    }
}
