//! `ferroflow data`: what data sets hold, and shards of them.

use std::{io::Write, num::NonZeroUsize, path::PathBuf, sync::Arc};

use ferroflow::core::Size;
use ferroflow::data::{
    FlowStatistics, Source, Spec,
    augment::{self, Beside},
    check, check_thoroughly,
    datasets::DATASETS,
    info,
    loader::{self, Capacity, Order},
    random::Random,
    shards,
    tfrecord::{self, Division, MINDRECORD},
};
use serde_json::json;

use crate::{bounds, session::Session, usage::usage};

/// Check, describe, pack and time data sets.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    #[command(about = "List the known data sets and how each is spelled")]
    List(List),
    #[command(about = "Say what is there, what is missing or damaged, and where the right folder is")]
    Check(Check),
    #[command(about = "Print the sizes of the frames and statistics of the flow")]
    Info(Info),
    #[command(about = "Write which pairs a split trains on and which it holds out")]
    Split(SplitList),
    #[command(about = "Write a data set as WebDataset shards, or as TFRecord files")]
    Pack(Pack),
    #[command(about = "Measure samples per second, and whether readers or consumer wait")]
    Bench(Bench),
}

/// List the known data sets and how each is spelled.
#[derive(clap::Args)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Say what is there, what is missing or damaged, and where the right folder is if the path is a level off.
///
///   ferroflow data check chairs:/data/FlyingChairs_release
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Check {
    /// The data set, NAME:PATH
    data: Spec,
    /// Decode every file instead of looking at its ends
    #[arg(long)]
    thorough: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Print the sizes of the frames and statistics of the flow.
#[derive(clap::Args)]
struct Info {
    /// The data set, NAME:PATH
    data: Spec,
    /// Read at most this many pairs, evenly spread
    #[arg(long, default_value = "200")]
    limit: NonZeroUsize,
    /// Draw the histogram of displacements to this file
    #[arg(long, value_name = "FILE.svg")]
    histogram: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Write a split as a list: a line for each pair, 1 to train on it and 2 to hold it out, as FlyingChairs' own list has it. `split=FILE`
/// reads it again, and so do the projects that split by a file.
///
///   ferroflow data split sintel-clean:/data/sintel@holdout=0.03,seed=1,train -o split.txt
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct SplitList {
    /// The data set with its split, NAME:PATH@split=FILE|ptlflow|SHARE,train or NAME:PATH@holdout=SHARE,seed=N,train
    data: Spec,
    /// File to write to
    #[arg(short, long)]
    output: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Write WebDataset shards: tar files of ordinary files, which `shards:DIR` reads here and Python's webdataset elsewhere. If it
/// is interrupted, run it again: shards that are whole are kept.
///
///   ferroflow data pack sintel-clean:/data/sintel -o shards --num-shards 16
///   ferroflow data pack chairs:/data/chairs -o shards --num-shards 64 --shard 3
///
/// With --format tfrecord it writes the files of the UFlow project's converters, which `tfrecord:DIR` reads here:
///
///   ferroflow data pack chairs:/data/chairs -o out --format tfrecord --split-file chairs_train_val.txt
///   ferroflow data pack sintel-clean:/data/sintel -o out --format tfrecord --num-shards 100 --shard 0
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Pack {
    /// The data set, NAME:PATH
    data: Spec,
    /// Folder to write to
    #[arg(short, long)]
    output: PathBuf,
    /// Number of shards
    #[arg(long, default_value = "1")]
    num_shards: NonZeroUsize,
    /// Write only this shard, counted from 0
    #[arg(long)]
    shard: Option<usize>,
    /// Kind of shards
    #[arg(long, default_value = "webdataset", value_parser = ["webdataset", "tfrecord", "mindrecord"])]
    format: String,
    /// List with a line for each pair, 1 for train/ and 2 for test/; with --format tfrecord
    #[arg(long, value_name = "FILE")]
    split_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measure samples per second, and whether readers or consumer wait.
///
///   ferroflow data bench chairs:/data/chairs --augment flownet --crop 320x448
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Bench {
    /// The data set, NAME:PATH
    data: Spec,
    /// Augmentation: none, crop, center, flownet, tfoptflow-basic, tfoptflow-heavy, lightflow, lightflow-sparse, uflow,
    /// uflow-geometric, raft, raft-things, raft-sintel or raft-kitti
    #[arg(long, value_name = "NAME", default_value = "none")]
    augment: String,
    /// Size of the crops that the augmentation makes
    #[arg(long, value_name = "HxW", default_value = "320x448")]
    crop: Size,
    /// Samples to read
    #[arg(long, default_value = "200")]
    count: NonZeroUsize,
    /// Number of threads. Default: all processors
    #[arg(long, value_name = "N", value_parser = bounds::nonzero::<{ bounds::THREADS }>)]
    workers: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    match args.action {
        Action::List(args) => list(args.json, session)?,
        Action::Check(args) => return check_data(&args, session),
        Action::Info(args) => {
            if let Some(path) = &args.histogram {
                session.files.reads(args.data.path());
                session.files.reads_all(args.data.open()?.files());
                session.files.plan(path, "the histogram")?;
                session.files.prepare()?;
            }
            let info = info(&args.data, args.limit.get())?;
            if let Some(path) = &args.histogram {
                let Some(flow) = &info.flow else { usage!("{} has no true flow to draw", args.data) };
                ferroflow::core::io::write_bytes(path, histogram_svg(&args.data.to_string(), flow).as_bytes())?;
            }
            if args.json {
                writeln!(session.out, "{}", serde_json::to_string(&info)?)?;
            } else {
                write!(session.out, "{info}")?;
            }
        }
        Action::Split(args) => {
            let Some(split) = args.data.split()? else {
                usage!("{} is not split: add split=FILE,train or holdout=SHARE,train after an @", args.data);
            };
            session.files.reads(args.data.path());
            session.files.reads_all(args.data.open()?.files());
            session.files.plan(&args.output, "the list")?;
            session.files.prepare()?;
            ferroflow::core::io::write_bytes(&args.output, split.lines().as_bytes())?;
            let training = split.training.iter().filter(|training| **training).count();
            let (file, held_out, hash) = (args.output.display(), split.training.len() - training, split.hash());
            let report = json!({
                "file": file.to_string(), "training": training, "held_out": held_out, "sha256": hash,
            });
            let text = format_args!("{file}: {training} pairs to train on, {held_out} held out, sha-256 {hash}");
            session.wrote(args.json, &report, text)?;
        }
        Action::Pack(args) => {
            if args.shard.is_some_and(|shard| shard >= args.num_shards.get()) {
                usage!("--shard counts from 0 to {}", args.num_shards.get() - 1);
            }
            if args.format == "mindrecord" {
                usage!("{MINDRECORD}");
            }
            if args.format == "tfrecord" {
                return pack_tfrecord(&args, session);
            }
            if args.split_file.is_some() {
                usage!("--split-file belongs to --format tfrecord; for other shards name the part: chairs:PATH@train");
            }
            session.files.reads(args.data.path());
            let packed = shards::pack(&args.data, &args.output, args.num_shards.get(), args.shard, &mut session.files)?;
            let shards::Packed { samples, written, kept, .. } = packed;
            let folder = args.output.display();
            let report = json!({ "folder": folder.to_string(), "samples": samples, "written": written, "kept": kept });
            let text = format_args!("{folder}: {samples} samples, {written} shards written, {kept} kept");
            session.wrote(args.json, &report, text)?;
        }
        Action::Bench(args) => {
            let source: Arc<dyn Source> = Arc::from(args.data.open()?);
            let mut capacity = Capacity::default();
            if let Some(workers) = args.workers {
                capacity.workers = workers;
            }
            let Some(augment) = augment::named(&args.augment, args.crop, Beside::default()) else {
                usage!("there is no augmentation {}; there are {}", args.augment, augment::NAMES.join(", "));
            };
            let order = Order::new(source.len(), 0);
            let bench = loader::bench(source, order, capacity, args.count.get(), move |sample, seed| {
                augment.apply(sample, &mut Random::new(seed, &[]), 0)
            })?;
            if args.json {
                writeln!(session.out, "{}", serde_json::to_string(&bench)?)?;
            } else {
                write!(session.out, "{bench}")?;
            }
        }
    }
    Ok(())
}

fn pack_tfrecord(args: &Pack, session: &mut Session) -> anyhow::Result<()> {
    let division =
        Division { num_shards: args.num_shards.get(), shard: args.shard, split_file: args.split_file.clone() };
    let written = tfrecord::write(&args.data, &args.output, &division, &mut session.files)?;
    for (file, pairs) in written.files {
        let report = json!({ "file": file.display().to_string(), "pairs": pairs });
        session.wrote(args.json, &report, format_args!("{}: {pairs} pairs", file.display()))?;
    }
    Ok(())
}

fn list(json: bool, session: &mut Session) -> anyhow::Result<()> {
    if json {
        let listed: Vec<_> = DATASETS
            .iter()
            .map(|set| json!({ "name": set.name, "title": set.title, "path": set.path, "words": set.words }))
            .collect();
        writeln!(session.out, "{}", serde_json::to_string(&listed)?)?;
        return Ok(());
    }
    for dataset in DATASETS {
        writeln!(session.out, "{:<14} {}", dataset.name, dataset.title)?;
        writeln!(session.out, "{:<14} {}:PATH, PATH is {}", "", dataset.name, dataset.path)?;
        if !dataset.words.is_empty() {
            writeln!(session.out, "{:<14} after an @: {}", "", dataset.words.join(", "))?;
        }
    }
    writeln!(
        session.out,
        "\nEvery set that ends can be split, after an @ with train or val: split=FILE (lines of 1 and 2, or names of pairs held out),\n\
         split=ptlflow, split=0.97,seed=1 (LightFlow), holdout=0.03,seed=1; tfoptflow's train_noval, val_notrain, train_with_val"
    )?;
    Ok(())
}

/// A data set that is not whole is a failure: scripts look at the exit code.
fn check_data(args: &Check, session: &mut Session) -> anyhow::Result<()> {
    let report = if args.thorough { check_thoroughly(&args.data) } else { check(&args.data) };
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(session.out, "{report}")?;
    }
    if report.is_whole() { Ok(()) } else { Err(anyhow::anyhow!("{} is not whole", args.data)) }
}

/// Bars of the share of pixels by magnitude, on a logarithmic axis so that the tail shows.
fn histogram_svg(title: &str, flow: &FlowStatistics) -> String {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 320.0;
    const MARGIN: f64 = 40.0;
    // Shares from one in a hundred thousand to all.
    let height = |share: f64| ((share.max(1e-5).log10() + 5.0) / 5.0) * (HEIGHT - 2.0 * MARGIN);
    let step = (WIDTH - 2.0 * MARGIN) / flow.histogram.len().max(1) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <text x=\"{MARGIN}\" y=\"20\">{}: share of pixels by magnitude in px, mean {:.2}, largest {:.1}</text>\n",
        title.replace('&', "&amp;").replace('<', "&lt;"),
        flow.mean,
        flow.largest
    );
    for (i, (edge, share)) in flow.histogram.iter().enumerate() {
        let (x, h) = (MARGIN + step * i as f64, height(*share));
        let y = HEIGHT - MARGIN - h;
        svg += &format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{h:.1}\" fill=\"#4a7fb5\"/>\n",
            step - 1.0
        );
        svg += &format!("<text x=\"{x:.1}\" y=\"{:.1}\">{edge}</text>\n", HEIGHT - MARGIN + 14.0);
    }
    svg + "</svg>\n"
}
