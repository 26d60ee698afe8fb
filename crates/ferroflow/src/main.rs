//! The `ferroflow` command: parse, resolve into a plan, run. What it does lives in the libraries.

mod bounds;
mod commands;
mod machine;
mod method;
mod onnx_check;
mod output;
mod progress;
mod report;
mod style;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use crate::{commands::Command, usage::UsageError};

/// Dense optical flow with neural networks: estimate, train, evaluate, import, export.
///
/// Flow is in pixels of the first image: u to the right, v down. Every command explains itself with --help.
#[derive(Parser)]
#[command(name = "ferroflow", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A reader that stopped listening (`ferroflow ... | head`) is no failure of ours.
            if usage::is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            eprintln!("error: {}", usage::explain(&error));
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}
