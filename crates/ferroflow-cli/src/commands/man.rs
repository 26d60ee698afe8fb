//! `ferroflow man`: the help of every command as manual pages.

use std::path::PathBuf;

use clap_mangen::Man;
use ferroflow::core::io::write_bytes;
use serde::Serialize;

use crate::{command_line, session::Session};

/// Write a manual page for each command: `man ferroflow-estimate` shows one where MANPATH has the folder above man1.
///
///   ferroflow man ~/.local/share/man/man1
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Folder to write to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Written {
    folder: String,
    pages: usize,
}

/// Runs the command.
pub fn run(args: &Args, session: &mut Session) -> anyhow::Result<()> {
    let mut all = command_line().disable_help_subcommand(true);
    all.build();
    let mut pages = Vec::new();
    collect(all, &mut pages);
    let pages: Vec<(PathBuf, Man)> =
        pages.into_iter().map(|page| (args.folder.join(page.get_filename()), page)).collect();
    for (path, _) in &pages {
        session.files.plan(path, "a manual page")?;
    }
    session.files.prepare()?;
    for (path, page) in &pages {
        let mut text = Vec::new();
        page.render(&mut text)?;
        write_bytes(path, &text)?;
    }
    let written = Written { folder: args.folder.display().to_string(), pages: pages.len() };
    session.wrote(args.json, &written, format_args!("{}: {} manual pages", written.folder, written.pages))
}

/// The pages of a command and of those below it.
fn collect(command: clap::Command, pages: &mut Vec<Man>) {
    for below in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        collect(below.clone(), pages);
    }
    pages.push(Man::new(command));
}
