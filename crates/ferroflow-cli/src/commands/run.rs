//! `ferroflow run`: a network on folders of arrays, as msame and ais_bench run one.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use ferroflow::core::io::read_bytes;
use ferroflow::infer::offline::{self, Naming, NetworkOnDevice, OfflineNetwork, Results};
use ferroflow::net::Model;
use ferroflow::onnx_run::OnnxNetwork;

use crate::{
    bounds,
    method::{ComputeArgs, builtin_weights, read_weights},
    offline::{FORMATS, HintArgs, format},
    progress,
    session::Session,
    usage::usage,
    vendor,
};

/// Run a network on the arrays that `ferroflow export inputs` wrote, and write its flows as arrays, for `ferroflow score`.
///
///   ferroflow export inputs sintel-clean:/data/sintel -o prepared --layout flownet2 --format bin
///   ferroflow run flownet2.safetensors prepared -o results
///   ferroflow run flownet2.onnx prepared -o results --loop 3
///   ferroflow score prepared --outputs results
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Weights of this program, another project's checkpoint, an .onnx file (run in rten), or rill for the built-in weights
    model: PathBuf,
    /// Folder of inputs
    inputs: PathBuf,
    /// Folder to write to
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Run on each file so many times, and time every run
    #[arg(long = "loop", default_value_t = 1, value_name = "N", value_parser = bounds::from_one::<{ bounds::RUNS }>)]
    loops: usize,
    /// Names of the outputs: NAME_0 as ais_bench has them or NAME_output_0 as msame has. Default: msame for the pwcnet layout,
    /// ais-bench for the others
    #[arg(long, value_parser = ["ais-bench", "msame"])]
    names: Option<String>,
    /// bin writes raw little-endian values, npy NumPy arrays
    #[arg(long, default_value = "bin", value_parser = FORMATS)]
    format: String,
    /// Set an option of the network; may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    hints: HintArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let prepared = args.hints.open(&args.inputs)?;
    let mut network = network(&args)?;
    if args.model.is_file() {
        session.files.reads(&args.model);
    }
    let naming = match args.names.as_deref() {
        Some("msame") => Naming::Msame,
        Some(_) => Naming::AisBench,
        None => Naming::of(prepared.layout()),
    };
    let results = Results { naming, format: format(&args.format), loops: args.loops };
    let bar = progress::bar(prepared.pairs() as u64, "files");
    let watch = |files| bar.set_position(files as u64);
    let ran = offline::run(&prepared, network.as_mut(), &args.output, results, &mut session.files, watch)?;
    bar.finish_and_clear();
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string(&ran)?)?;
        return Ok(());
    }
    writeln!(session.out, "{}: {} pairs in {} files", args.output.display(), ran.pairs, ran.files)?;
    writeln!(session.out, "inference {}", ran.timing)?;
    Ok(())
}

fn network(args: &Args) -> anyhow::Result<Box<dyn OfflineNetwork>> {
    let path: &Path = &args.model;
    if let Some(reason) = vendor::refused(path, vendor::Wanted::ToRun) {
        usage!("{reason}");
    }
    if path.extension().is_some_and(|extension| extension == "onnx") {
        if !args.options.is_empty() {
            usage!("an .onnx file has its options in it: leave out --option");
        }
        return Ok(Box::new(OnnxNetwork::new(read_bytes(path)?)?));
    }
    let name = path.to_str().filter(|name| !path.exists() && Model::named(name).is_ok());
    let stored = match name {
        None => read_weights(path, None, &args.options)?,
        Some(name) => match builtin_weights(Some(name), &args.options)? {
            Some(stored) => stored,
            None => usage!("the program has no weights for {name}: give a file"),
        },
    };
    Ok(Box::new(NetworkOnDevice::new(stored, args.compute.device(false)?)))
}
