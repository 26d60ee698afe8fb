//! The `ferroflow` command: parse, resolve into a plan, run. What it does lives in the libraries.

mod bounds;
mod commands;
mod interrupt;
mod machine;
mod method;
mod onnx_check;
mod output;
mod progress;
mod report;
mod session;
mod style;
mod usage;

use std::{io, process::ExitCode};

use clap::Parser;

use crate::{
    commands::Command,
    interrupt::Stopped,
    session::{Session, note},
};

/// Dense optical flow with neural networks: estimate, train, evaluate, import, export.
///
/// Flow is in pixels of the first image: u to the right, v down. Every command explains itself with --help.
#[derive(Parser)]
#[command(name = "ferroflow", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Refuse to replace files of an earlier run
    #[arg(long, global = true, help_heading = "Output")]
    no_clobber: bool,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Wrong usage, or the help that was asked for.
        Err(answer) => {
            return match answer.print() {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
                _ => ExitCode::from(answer.exit_code() as u8),
            };
        }
    };
    let mut session = Session::new(cli.no_clobber);
    let done = usage::environment().and_then(|()| cli.command.run(&mut session));
    let printed = session.out.finish();
    match done.and_then(|()| Ok(printed?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What a signal stopped has already said so.
            if !error.is::<Stopped>() {
                note!("error: {}", usage::explain(&error));
            }
            ExitCode::from(usage::exit_code(&error))
        }
    }
}
