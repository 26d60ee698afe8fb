//! The `ferroflow` command: parse, resolve into a plan, run. What it does lives in the library [`ferroflow`].
//!
//! The command is a function, [`main`], so that other programs can have it too: a Python package, say.

mod bounds;
mod commands;
mod device;
mod interrupt;
mod machine;
mod method;
mod output;
mod progress;
mod session;
mod style;
mod usage;

use std::{ffi::OsString, io};

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

/// Runs the command line `args`, whose first is the program's name, and gives its exit code: 0 is fine, 1 a failure of the work,
/// 2 wrong usage, 128 + N: stopped by signal N, everything saved.
pub fn main(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        // Wrong usage, or the help that was asked for.
        Err(answer) => {
            return match answer.print() {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => 1,
                _ => answer.exit_code() as u8,
            };
        }
    };
    let mut session = Session::new(cli.no_clobber);
    let done = usage::environment().and_then(|()| cli.command.run(&mut session));
    let printed = session.out.finish();
    match done.and_then(|()| Ok(printed?)) {
        Ok(()) => 0,
        Err(error) => {
            // What a signal stopped has already said so.
            if !error.is::<Stopped>() {
                note!("error: {}", usage::explain(&error));
            }
            usage::exit_code(&error)
        }
    }
}
