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
mod ranks;
mod session;
mod style;
mod usage;
mod vendor;

use std::{ffi::OsString, io};

use clap::{CommandFactory, Parser};

use crate::{
    commands::Command,
    interrupt::Stopped,
    session::{Session, complain, set_quiet},
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
    /// Print results and errors only: no progress, no notes, no lines about files that were written
    #[arg(short, long, global = true, help_heading = "Output")]
    quiet: bool,
}

/// The whole command line, for what is generated from it.
fn command_line() -> clap::Command {
    Cli::command()
}

/// Runs the command line `args`, whose first element is the program's name, and returns its exit code: 0 if all went well, 1 if the
/// work failed, 2 for wrong usage, and 128 + N if signal N stopped a training run, which is saved first.
pub fn main(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> u8 {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        // Wrong usage, or the help that was asked for.
        Err(answer) => {
            return match answer.print() {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => 1,
                _ => answer.exit_code() as u8,
            };
        }
    };
    set_quiet(cli.quiet);
    let mut session = Session::new(cli.no_clobber, &args);
    let done = usage::environment().and_then(|()| cli.command.run(&mut session));
    let printed = session.out.finish();
    match done.and_then(|()| Ok(printed?)) {
        Ok(()) => 0,
        Err(error) => {
            // What a signal stopped has already said so.
            if !error.is::<Stopped>() {
                complain!("error: {}", usage::explain(&error));
            }
            usage::exit_code(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands that do something, with their full names.
    fn leaves(command: &clap::Command, found: &mut Vec<clap::Command>) {
        if command.has_subcommands() {
            command.get_subcommands().filter(|command| command.get_name() != "help").for_each(|c| leaves(c, found));
        } else {
            found.push(command.clone());
        }
    }

    #[test]
    fn every_command_prints_json() {
        let mut commands = Vec::new();
        let mut all = command_line();
        all.build();
        leaves(&all, &mut commands);
        assert!(commands.len() > 25, "{}", commands.len());
        for command in commands {
            let json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            // A script for a shell is no result.
            assert_eq!(json, command.get_name() != "completions", "{:?}", command.get_bin_name());
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        command_line().debug_assert();
    }
}
