//! `ferroflow completions`: the arguments, for a shell that completes them.

use std::io::Write;

use clap_complete::{Shell, generate};

use crate::{command_line, session::Session};

/// Print a script with which a shell completes commands, options and their values.
///
///   ferroflow completions bash > ~/.local/share/bash-completion/completions/ferroflow
///   ferroflow completions zsh > ~/.zfunc/_ferroflow           # with fpath+=~/.zfunc before compinit in ~/.zshrc
///   ferroflow completions fish > ~/.config/fish/completions/ferroflow.fish
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args, session: &mut Session) -> anyhow::Result<()> {
    // The generator would panic on a closed pipe.
    let mut script = Vec::new();
    generate(args.shell, &mut command_line(), "ferroflow", &mut script);
    session.out.write_all(&script)?;
    Ok(())
}
