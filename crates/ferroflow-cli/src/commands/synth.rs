//! `ferroflow synth`: an endless data set, written down.

use std::{io::Write, path::PathBuf};

use ferroflow::core::Size;
use ferroflow::data::synth::{
    self, Preset, Synth,
    measure::{Measurement, measure},
};
use serde::Serialize;

use crate::{progress, session::Session, usage::usage};

/// Write synthetic pairs with exact flow, in the layout of FlyingChairs.
///
/// Presets: chairs, sdhom (small displacements), things, auto (a wide mixture), shifts (even displacements, to learn matching
/// from), world (a camera that moves through streets, rooms and open places), wild (auto with all effects). In the last two,
/// motion scales with the frame. The same seed gives the same bytes on every machine. Training and evaluation can also use
/// `synth:PRESET@seed=1,size=384x512` without writing anything:
///
///   ferroflow synth chairs --count 1000 -o data/
///   ferroflow synth world --check --size 192x256
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// chairs, sdhom, things, auto, shifts, world or wild
    preset: String,
    /// Number of pairs
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// Size of the frames
    #[arg(long, default_value = "384x512", value_name = "HxW")]
    size: Size,
    /// Seed of the pairs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Use the pictures of this folder as textures instead of procedural ones
    #[arg(long, value_name = "DIR")]
    textures: Option<PathBuf>,
    /// Use the pictures of this folder as objects, cut out by their alpha channel
    #[arg(long, value_name = "DIR")]
    objects: Option<PathBuf>,
    /// Leave out noise, blur, fog, compression and changes of light
    #[arg(long, requires = "check")]
    without_effects: bool,
    /// Write nothing; warp frame 2 of this many pairs back by the flow, compare it with frame 1, and measure displacements,
    /// occlusion and speed
    #[arg(long, value_name = "PAIRS", num_args = 0..=1, default_missing_value = "128")]
    check: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Folder to write to
    #[arg(short, long, required_unless_present = "check")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    preset: &'a str,
    size: String,
    seed: u64,
    #[serde(flatten)]
    found: Measurement,
}

#[derive(Serialize)]
struct Written<'a> {
    folder: String,
    preset: &'a str,
    pairs: usize,
    size: Size,
    seed: u64,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let Some(mut preset) = Preset::named(&args.preset) else {
        usage!("there is no preset {}; there are {}", args.preset, synth::PRESETS.join(", "));
    };
    if args.without_effects {
        preset = preset.without_effects();
    }
    let mut synth = Synth::new(preset, args.seed, args.size);
    if args.textures.is_some() || args.objects.is_some() {
        synth = synth.with_pictures(args.textures.as_deref(), args.objects.as_deref())?;
    }
    if let Some(pairs) = args.check {
        let found = measure(&synth, pairs)?;
        if args.json {
            let report = Report { preset: &args.preset, size: args.size.to_string(), seed: args.seed, found };
            writeln!(session.out, "{}", serde_json::to_string(&report)?)?;
        } else {
            write!(session.out, "{found}")?;
        }
        return Ok(());
    }
    let Some(output) = &args.output else { usage!("say where to write with --output") };
    let bar = progress::bar(args.count as u64, "pairs");
    synth::write(&synth, args.count, output, |_| bar.inc(1))?;
    bar.finish_and_clear();
    let written = Written {
        folder: output.display().to_string(),
        preset: &args.preset,
        pairs: args.count,
        size: args.size,
        seed: args.seed,
    };
    let text = format!("{}: {} pairs of {}, seed {}", written.folder, written.pairs, written.size, written.seed);
    session.wrote(args.json, &written, text)
}
