//! `ferroflow synth`: an endless data set, written down.

use std::{io::Write, path::PathBuf};

use ferroflow_core::Size;
use ferroflow_data::synth::{self, Preset, Synth};

use crate::{progress, session::Session, usage::usage};

/// Write synthetic pairs with exact flow, in the layout of FlyingChairs.
///
/// Presets: chairs, sdhom (small displacements), things, auto (a wide mixture), shifts (to learn matching from). The same
/// seed gives the same bytes on every machine. Training and evaluation can also use `synth:PRESET` without writing anything:
///
///   ferroflow synth chairs --count 1000 -o data/
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// chairs, sdhom, things, auto or shifts
    preset: String,
    /// Number of pairs
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// Size of the frames
    #[arg(long, default_value = "384x512", value_name = "HxW")]
    size: Size,
    /// Seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Fly pictures of this folder as textures instead of procedural ones
    #[arg(long, value_name = "DIR")]
    textures: Option<PathBuf>,
    /// Fly pictures of this folder as objects, cut out by their alpha channel
    #[arg(long, value_name = "DIR")]
    objects: Option<PathBuf>,
    /// Folder to write to
    #[arg(short, long)]
    output: PathBuf,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let Some(preset) = Preset::named(&args.preset) else {
        usage!("there is no preset {}; there are {}", args.preset, synth::PRESETS.join(", "));
    };
    let mut synth = Synth::new(preset, args.seed, args.size.width, args.size.height);
    if args.textures.is_some() || args.objects.is_some() {
        synth = synth.with_pictures(args.textures.as_deref(), args.objects.as_deref())?;
    }
    let bar = progress::bar(args.count as u64, "pairs");
    synth::write(&synth, args.count, &args.output, |_| bar.inc(1))?;
    bar.finish_and_clear();
    writeln!(session.out, "{}: {} pairs of {}, seed {}", args.output.display(), args.count, args.size, args.seed)?;
    Ok(())
}
