//! One file per command: its arguments, and how they become calls of the libraries.

mod bench;
mod compare;
mod convert;
mod doctor;
mod estimate;
mod models;
mod viz;
mod weights;

/// What to do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Estimate the flow of a pair, a folder of frames, a list of pairs or a video
    Estimate(estimate::Args),
    /// Measure a method on data with known flow
    /// Draw a flow file as a picture
    Viz(viz::Args),
    /// Change the format of a flow file
    Convert(convert::Args),
    /// Compare two flow files: metrics and an error map
    Compare(compare::Args),
    /// List the networks, or describe one
    Models(models::Args),
    /// Import, inspect and make weights
    Weights(weights::Args),
    /// Time a network on this machine
    Bench(bench::Args),
    /// Say what this machine can run
    Doctor(doctor::Args),
}

impl Command {
    /// Runs it.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Command::Estimate(args) => estimate::run(args),
            Command::Viz(args) => viz::run(args),
            Command::Convert(args) => convert::run(args),
            Command::Compare(args) => compare::run(args),
            Command::Models(args) => models::run(args),
            Command::Weights(args) => weights::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Doctor(args) => doctor::run(args),
        }
    }
}
