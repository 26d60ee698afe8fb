//! The `ferroflow` command: it parses arguments, resolves them into a plan and runs it with the library [`ferroflow`].
//!
//! The command is a function, [`main`], so that other programs, such as a Python package, can offer it too.

mod bounds;
mod commands;
pub mod device;
mod interrupt;
mod machine;
mod method;
mod offline;
mod output;
mod progress;
mod session;
mod style;
mod usage;
mod vendor;

use std::{ffi::OsString, io};

use clap::Parser;

use crate::{
    commands::Command,
    interrupt::Stopped,
    session::{Session, note},
};

/// Dense optical flow with neural networks: estimate, train, evaluate, import, export.
///
/// Flow is in pixels of the first image, u to the right and v down. `ferroflow COMMAND --help` explains a command.
#[derive(Parser)]
#[command(name = "ferroflow", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Refuse to replace files of an earlier run
    #[arg(long, global = true, help_heading = "Output")]
    no_clobber: bool,
}

/// Runs the command line `args`, whose first element is the program's name, and returns its exit code: 0 if all went well, 1 if the
/// work failed, 2 for wrong usage, and 128 + N if signal N stopped a training run, which is saved first.
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
