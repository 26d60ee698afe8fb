//! `ferroflow export`: our networks for other runtimes.

use std::{io::Write, path::PathBuf};

use ferroflow::core::{Size, io::write_with};
use ferroflow::data::Spec;
use ferroflow::infer::offline;
use ferroflow::net::{
    Model,
    graph::Sizes,
    graphdef,
    onnx::{self, CorrelationForm, WarpForm},
};
use ferroflow::onnx_check::{self, CheckError, Exported};
use serde_json::json;

use crate::{
    bounds,
    method::{builtin_weights, read_weights},
    offline::{FORMATS, LAYOUTS, format, layout},
    progress,
    session::Session,
    usage::usage,
    vendor::{self, Wanted},
};

/// Write a network as ONNX, or inputs for another runtime.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    #[command(about = "Write a network as ONNX, with standard operators only")]
    Onnx(Onnx),
    #[command(about = "Write tfoptflow's PWC-Net as a frozen TensorFlow graph")]
    Tensorflow(Tensorflow),
    #[command(about = "Write preprocessed pairs and their true flow as plain arrays")]
    Inputs(Inputs),
}

/// Write a network as ONNX, with standard operators only.
///
///   ferroflow export onnx -w pwcnet.safetensors -o pwcnet.onnx --size 448x1024 --check
///   ferroflow export onnx -w flownet2.safetensors -o flownet2.onnx --dynamic --opset 11
///   ferroflow export onnx -w uflow.safetensors -o uflow.onnx --size 384x512 --split
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Onnx {
    /// Network that the weights must be for. Default: the one that they are for
    #[arg(short, long)]
    model: Option<String>,
    /// Weights: a .safetensors file of this program, or another project's checkpoint. Default: the built-in weights, which only
    /// rill has
    #[arg(short, long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Set an option of the network (`ferroflow models NAME` lists them); may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// File to write
    #[arg(short, long, value_name = "FILE.onnx")]
    output: PathBuf,
    /// Size of the frames; both sides must be multiples of the network's stride
    #[arg(long, value_name = "HxW", conflicts_with = "dynamic")]
    size: Option<Size>,
    /// Let the file take frames of any size whose sides are multiples of the network's stride
    #[arg(long)]
    dynamic: bool,
    /// Pairs in a batch; 0 lets the file take any number
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = bounds::from_zero::<{ bounds::BATCH }>)]
    batch: usize,
    /// Version of the operator set
    #[arg(long, default_value_t = 17, value_parser = clap::value_parser!(i64).range(11..=20))]
    opset: i64,
    /// Precision of the convolutions and their weights
    #[arg(long, default_value = "f32", value_parser = ["f32", "f16"])]
    precision: String,
    /// What the file takes: RGB images of 0..=255, or the values that the network makes of them before its first layer
    #[arg(long, default_value = "images", value_parser = ["images", "normalised"])]
    inputs: String,
    /// How warps are written. Default: grid-sample if the operator set has it
    #[arg(long, value_parser = ["grid-sample", "gather"])]
    warp: Option<String>,
    /// How cost volumes are written: slices is plainer, matmul faster
    #[arg(long, default_value = "matmul", value_parser = ["slices", "matmul"])]
    correlation: String,
    /// For device compilers: indices of 32 bits instead of 64 wherever ONNX allows it, and no slice of a slice
    #[arg(long, conflicts_with = "dynamic")]
    int32: bool,
    /// Write two files beside FILE.onnx instead, as the MindSpore port of UFlow does: FILE.features.onnx makes the features of both
    /// frames, stacked as [2N, 3, H, W], and FILE.flow.onnx makes flow of them. UFlow and other networks whose frames share one
    /// pyramid
    #[arg(long)]
    split: bool,
    /// Run the file in a runtime that is part of the program, and print how far its flow is from Ferroflow's own
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Write tfoptflow's PWC-Net as a frozen TensorFlow graph, as the PWC-Net of Ascend's model zoo freezes itself.
///
/// The graph takes x_tnsr, [1, 2, H, W, 3], both frames as RGB / 255, and gives output, [1, H, W, 2], u then v in pixels:
///
///   ferroflow export tensorflow -w pwcnet.ckpt-53000 -o pwcnet.pb
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Tensorflow {
    /// Weights of pwcnet-lg-6-2, pwcnet-sm, pwcnet-dense or pwcnet-res: a .safetensors file of this program or a checkpoint
    #[arg(short, long, value_name = "FILE")]
    weights: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE.pb")]
    output: PathBuf,
    /// Size of the frames; both sides must be multiples of 64
    #[arg(long, value_name = "HxW", default_value = "448x1024")]
    size: Size,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Write preprocessed pairs and their true flow as plain arrays, for `score` to compare a runtime's outputs with.
///
///   ferroflow export inputs sintel-clean:/data/sintel -o prepared --layout flownet2 --format bin
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Inputs {
    /// The data set, NAME:PATH
    data: Spec,
    /// Folder to write to
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Folders and values: images (frame1/, frame2/), flownet2 (image1/, image2/, normalised) or pwcnet (image/ with both frames)
    #[arg(long, default_value = "images", value_parser = LAYOUTS)]
    layout: String,
    /// bin writes raw little-endian values, npy NumPy arrays
    #[arg(long, default_value = "npy", value_parser = FORMATS)]
    format: String,
    /// Pairs per file
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = bounds::from_one::<{ bounds::BATCH }>)]
    batch: usize,
    /// Pad the sides to multiples of this number of pixels
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = bounds::from_one::<{ bounds::STRIDE }>)]
    stride: usize,
    /// Take at most this many pairs
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    match args.action {
        Action::Onnx(args) => export_onnx(&args, session),
        Action::Tensorflow(args) => export_tensorflow(&args, session),
        Action::Inputs(args) => export_inputs(&args, session),
    }
}

fn export_onnx(args: &Onnx, session: &mut Session) -> anyhow::Result<()> {
    if let Some(reason) = vendor::refused(&args.output, Wanted::ToWrite) {
        usage!("{reason}");
    }
    if args.size.is_none() && !args.dynamic {
        usage!("say the size of the frames with --size HxW, or --dynamic for any");
    }
    if args.int32 && args.batch == 0 {
        usage!("--int32 needs a number of pairs: --batch 1 or more");
    }
    if let Some(weights) = &args.weights {
        session.files.reads(weights);
    }
    let files = if args.split {
        let beside = |part| args.output.with_extension(format!("{part}.onnx"));
        vec![(onnx::Part::Features, beside("features")), (onnx::Part::Flow, beside("flow"))]
    } else {
        vec![(onnx::Part::Whole, args.output.clone())]
    };
    for (_, file) in &files {
        session.files.plan(file, "the network")?;
    }
    session.files.prepare()?;
    let stored = match &args.weights {
        Some(path) => read_weights(path, args.model.as_deref(), &args.options)?,
        None => match builtin_weights(args.model.as_deref(), &args.options)? {
            Some(stored) => stored,
            None => usage!("the program has no weights for that network: give a file with --weights"),
        },
    };
    let model = &stored.model;
    if let Some(size) = args.size {
        check_size(model, size)?;
    }
    let mut options = onnx::Options {
        size: args.size.map(|s| (s.height, s.width)),
        batch: (args.batch > 0).then_some(args.batch),
        opset: args.opset,
        precision: if args.precision == "f16" { onnx::Precision::F16 } else { onnx::Precision::F32 },
        inputs: if args.inputs == "normalised" { onnx::Inputs::Normalised } else { onnx::Inputs::Images },
        warp: args.warp.as_deref().map(|w| if w == "gather" { WarpForm::Gather } else { WarpForm::GridSample }),
        correlation: if args.correlation == "slices" { CorrelationForm::Slices } else { CorrelationForm::MatMul },
        indices: if args.int32 { onnx::Indices::Int32 } else { onnx::Indices::Int64 },
        metadata: onnx::metadata(&stored),
        ..onnx::Options::default()
    };
    let mut exported = Vec::new();
    for (part, path) in &files {
        options.part = *part;
        let mut bytes = Vec::new();
        onnx::export(&model.graph, &stored.weights, &options, &mut bytes)?;
        write_with(path, |file| file.write_all(&bytes))?;
        let file = path.display();
        let report =
            json!({ "file": file.to_string(), "network": model.name, "opset": args.opset, "bytes": bytes.len() });
        let megabytes = bytes.len() as f64 / 1e6;
        let text = format_args!("{file}: {}, operator set {}, {megabytes:.1} MB", model.name, args.opset);
        session.wrote(args.json, &report, text)?;
        exported.push(bytes);
    }
    if args.check {
        let exported = match <[Vec<u8>; 2]>::try_from(exported) {
            Ok(halves) => Exported::Halves(halves),
            Err(mut whole) => Exported::Whole(whole.remove(0)),
        };
        let side = args.size.unwrap_or(Size { height: 4 * model.stride, width: 6 * model.stride });
        let sizes = Sizes::new(args.batch.max(1), side.height, side.width);
        let found = onnx_check::difference(exported, &stored, &options, &sizes).map_err(|error| match error {
            CheckError::Inputs => anyhow::anyhow!("--check feeds images: export with --inputs images to check"),
            error => error.into(),
        })?;
        if args.json {
            let report = json!({
                "size": side, "mean_difference": found.mean, "largest_difference": found.largest, "motion": found.motion,
            });
            writeln!(session.out, "{report}")?;
        } else {
            writeln!(
                session.out,
                "run in rten at {side}: differs from our flow by {:.2e} px on average, {:.2e} px at most (motion {:.2} px)",
                found.mean, found.largest, found.motion
            )?;
        }
    }
    Ok(())
}

/// Sides that the network takes.
fn check_size(model: &Model, size: Size) -> anyhow::Result<()> {
    let up = size.map(|side| side.next_multiple_of(model.stride));
    if up != size {
        usage!("{} takes multiples of {}: pad or resize to {up} and export that", model.name, model.stride);
    }
    Ok(())
}

fn export_tensorflow(args: &Tensorflow, session: &mut Session) -> anyhow::Result<()> {
    if let Some(reason) = vendor::refused(&args.output, Wanted::ToWrite) {
        usage!("{reason}");
    }
    session.files.reads(&args.weights);
    session.files.plan(&args.output, "the graph")?;
    session.files.prepare()?;
    let stored = read_weights(&args.weights, None, &[])?;
    check_size(&stored.model, args.size)?;
    let mut bytes = Vec::new();
    graphdef::export(&stored.model.graph, &stored.weights, args.size, &mut bytes)?;
    write_with(&args.output, |file| file.write_all(&bytes))?;
    let (file, network, size) = (args.output.display(), stored.model.name, args.size);
    let report = json!({
        "file": file.to_string(),
        "network": network,
        "size": size,
        "input": graphdef::INPUT,
        "output": graphdef::OUTPUT,
        "bytes": bytes.len(),
    });
    let text = format!(
        "{file}: {network}, {} [1, 2, {}, {}, 3] -> {}, {:.1} MB",
        graphdef::INPUT,
        size.height,
        size.width,
        graphdef::OUTPUT,
        bytes.len() as f64 / 1e6
    );
    session.wrote(args.json, &report, text)
}

fn export_inputs(args: &Inputs, session: &mut Session) -> anyhow::Result<()> {
    let source = args.data.open()?;
    let inputs = offline::Inputs {
        layout: layout(&args.layout),
        format: format(&args.format),
        batch: args.batch,
        stride: args.stride,
        limit: args.limit,
    };
    session.files.reads(args.data.path());
    let bar = progress::bar(source.len().or(args.limit).unwrap_or(0) as u64, "pairs");
    let watch = |p: offline::Progress| bar.set_position(p.pairs as u64);
    let done = offline::write_inputs(&args.output, source.as_ref(), inputs, &mut session.files, watch)?;
    bar.finish_and_clear();
    let folder = args.output.display();
    let report = json!({ "folder": folder.to_string(), "pairs": done.pairs, "files": done.files });
    session.wrote(args.json, &report, format_args!("{folder}: {} pairs in {} files", done.pairs, done.files))
}
