//! `ferroflow eval`: errors on data with known flow.

mod checkpoints;
mod methods;
mod occlusion;
mod print;
mod table;

use std::{
    collections::HashSet,
    io::Write,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ferroflow::core::{
    FlowField, Size,
    io::{
        self,
        outputs::{safe_name, safe_path},
    },
    metrics::{METRICS, OcclusionScore},
};
use ferroflow::data::{Sample, Source, Spec};
use ferroflow::infer::{
    Estimator,
    evaluate::{Comparison, DataResult, Measured, Method, PairResult, Project, Protocol, SoftOcclusion, evaluate_all},
    report::{AVERAGES, Gallery, Page},
    submit::{Benchmark, Submission, submit},
};
use methods::{NamedFolder, Role, methods};
use occlusion::OcclusionArg;
use serde::Serialize;

use crate::{
    machine,
    method::{BASELINES, MethodArgs},
    progress,
    session::{Session, note},
    usage::usage,
};

/// Measure methods on data with known flow.
///
/// Every figure is given in both averages, over all pixels and over images. Data sets are spelled NAME:PATH (`ferroflow
/// data list` lists them all); several may be given. So may several methods, which are then put side by side:
///
///   ferroflow eval sintel-clean:/data/sintel kitti15:/data/kitti --baseline dis -w pwcnet.safetensors
///   ferroflow eval kitti15:/data/kitti -w a.safetensors -w b.safetensors --baseline dis --flows other=DIR --report page.html
///   ferroflow eval pairs:pairs.tsv --json
///   ferroflow eval chairs:/data/chairs -w flownet2.safetensors --protocol flownet2 --report page.html
///   ferroflow eval sintel-clean:/data/sintel --checkpoints runs/uflow/weights --protocol uflow --size 448x1024
///   ferroflow eval kitti15:/data/kitti@test -w pwcnet.safetensors --submit kitti15 results.zip
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = figures(),
    mut_arg("weights", |weights| {
        let also = "Several may be given, each a method of its own";
        let help = format!("{}. {also}", weights.get_help().cloned().unwrap_or_default());
        weights.action(clap::ArgAction::Append).help(help)
    })
)]
pub struct Args {
    /// sintel-clean:PATH, chairs:PATH, kitti15:PATH, middlebury:PATH, pairs:FILE.tsv, synth:PRESET, ...
    #[arg(required = true, value_name = "DATA")]
    data: Vec<String>,
    #[command(flatten)]
    method: MethodArgs,
    /// Also print the errors of this method
    #[arg(long, value_parser = BASELINES)]
    baseline: Option<String>,
    /// Also score the flows of a folder, whatever program has written them (.flo, .png for KITTI, .pfm, .npy, .npz, .exr, .flo5), under
    /// this name; may be repeated. Files are called DATA/ID or ID, as --save writes them, or as the data set calls frame 1 or the true
    /// flow, with as many of its folders as tell pairs apart. Alone, without --model and --weights, no network is run
    #[arg(long, value_name = "NAME=DIR", conflicts_with_all = ["checkpoints", "submit", "occlusion", "confidence"])]
    flows: Vec<NamedFolder>,
    /// Take at most this many pairs of each data set
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// Also give the mean over batches of N pairs, as loops over batches report it
    #[arg(long, value_name = "N")]
    average_batches: Option<usize>,
    /// Write a CSV table with a line of figures for each pair
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the estimated flows into this folder as DATA/ID.flo, with a folder for each data set; with several --weights, as
    /// METHOD/DATA/ID.flo
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Fit frames and average errors as this project does
    #[arg(long, value_parser = projects(), value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Also measure how well occlusion is told, by the flows both ways: the largest F1 of 40 thresholds, and its threshold, on data
    /// that know what is occluded
    #[arg(long, value_enum, value_name = "METHOD")]
    occlusion: Option<OcclusionArg>,
    /// Also measure whether the confidence of the forward-backward check means something: its bins against the true error, how far it
    /// is off as a probability, one curve that calibrates it, and how well it ranks pixels (AUSE)
    #[arg(long)]
    confidence: bool,
    /// Evaluate every weight file of this folder, one row of a table each, in the order of their names with numbers as numbers
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["weights", "baseline", "csv", "save", "report", "submit", "confidence"]
    )]
    checkpoints: Option<PathBuf>,
    /// Leave out checkpoints of epochs before this one, by their names, NAME_EPOCH_STEP.ckpt (the MindSpore port of UFlow begins
    /// with 800)
    #[arg(long, value_name = "N", requires = "checkpoints")]
    from_epoch: Option<u64>,
    /// Let the network see frames in this size, whatever their own; its flow is resized back, with its vectors scaled, before it is
    /// scored. Both sides must be multiples of the network's stride
    #[arg(long, value_name = "HxW", conflicts_with_all = ["fit", "tile"])]
    size: Option<Size>,
    /// Take only the centre of each pair, of this size. With the protocol flownet2 it counts where the sides of the frames are
    /// multiples of 64, as its `eval_size`
    #[arg(long, value_name = "HxW")]
    crop: Option<Size>,
    /// Write one self-contained web page with tables that can be sorted, curves, and pictures of the worst pairs with the methods side
    /// by side
    #[arg(long, value_name = "PAGE.html")]
    report: Option<PathBuf>,
    /// Show this many of the worst pairs of each method in the report. Default: 12, or 4 if there are several methods
    #[arg(long, value_name = "K", requires = "report")]
    worst: Option<usize>,
    /// Instead of measuring, write a submission for a benchmark's server: `sintel` (a folder), `kitti12` or `kitti15` (a zip)
    #[arg(long, num_args = 2, value_names = ["BENCHMARK", "OUT"], conflicts_with_all = ["report", "csv", "baseline", "save", "limit", "occlusion", "confidence"])]
    submit: Option<Vec<String>>,
    /// Cut vectors that KITTI's format cannot hold (512 px) instead of refusing them
    #[arg(long, requires = "submit")]
    clip: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the figures are, for the end of the help.
fn figures() -> String {
    let line = |(name, definition): (&str, &str)| format!("  {name:<12} {definition}\n");
    let figures: String = METRICS.iter().map(|metric| line((metric.name, metric.definition))).collect();
    let averages: String = AVERAGES.into_iter().map(line).collect();
    format!("Figures:\n{figures}\nAverages:\n{averages}")
}

/// The projects' names, each with what it does.
fn projects() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Project::ALL.map(|p| PossibleValue::new(p.name).help(p.help)))
}

#[derive(Serialize)]
struct Output<'a> {
    /// The first method, described in a line.
    method: &'a str,
    processor: &'a str,
    /// Those of the first method.
    results: &'a [DataResult],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    baseline: &'a [DataResult],
    /// The methods between the first and the baseline.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    others: &'a [Measured],
    comparisons: &'a [Comparison],
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    let project = args.protocol.as_deref().and_then(Project::named);
    let sources = args
        .data
        .iter()
        .map(|text| {
            let source = text.parse::<Spec>()?.open()?;
            source.remarks().iter().for_each(|remark| note!("{remark}"));
            let Some(size) = args.crop else { return Ok(source) };
            Ok(Box::new(Project::cropped(project, source.into(), size)) as Box<dyn Source>)
        })
        .collect::<anyhow::Result<Vec<Box<dyn Source>>>>()?;
    let mut args = args;
    if let Some(project) = project {
        let protocol = project.protocol()?;
        args.method.usual_fit = Some(protocol.fit);
        args.average_batches = args.average_batches.or(protocol.batch);
    }
    args.method.network_size = args.size;
    let files = &mut session.files;
    for (text, source) in args.data.iter().zip(&sources) {
        files.reads(text.parse::<Spec>()?.path());
        files.reads_all(source.files());
    }
    files.reads_all(args.method.all_weights());
    if let Some(folder) = &args.checkpoints {
        return checkpoints::run(folder, &sources, &args, session);
    }
    for (path, what) in [(&args.csv, "the table of pairs"), (&args.report, "the report")] {
        if let Some(path) = path {
            files.plan(path, what)?;
        }
    }
    if let Some(folder) = &args.save {
        // Whether files can be written there; the names come with the data.
        files.check(folder.join("_.flo"), "an estimated flow")?;
    }
    files.prepare()?;
    if let Some(submit) = &args.submit {
        if args.method.all_weights().len() > 1 {
            usage!("a submission is that of one method: give one --weights");
        }
        let estimator = args.method.estimator()?;
        return submission(&submit[0], submit[1].as_ref(), &sources, &estimator, &args, session);
    }
    let folders = folders_of(&sources);
    let methods = methods(&args)?;
    let names: Vec<String> = methods.iter().map(|method| method.name.clone()).collect();
    let worst = args.worst.unwrap_or(if methods.len() > 1 { 4 } else { 12 });
    let mut gallery = Gallery::new(names, if args.report.is_some() { worst } else { 0 });
    let asked: Vec<&dyn Method> = methods.iter().map(|method| &*method.method).collect();
    let saved: Vec<usize> = (0..methods.len()).filter(|&index| methods[index].role == Role::Estimator).collect();
    let mut measured: Vec<Measured> = methods
        .iter()
        .map(|method| Measured { name: method.name.clone(), method: method.description.clone(), results: Vec::new() })
        .collect();
    for (source, folder) in sources.iter().zip(&folders) {
        let files = &mut session.files;
        let results = measure(source.as_ref(), &asked, &args, |sample, flows, figures| {
            gallery.add(&source.name(), sample, flows, figures);
            let Some(root) = &args.save else { return Ok(()) };
            for &index in &saved {
                let own = if saved.len() > 1 { safe_name(&methods[index].name) } else { String::new() };
                let folder = root.join(own).join(folder);
                let path = files.plan_named(&folder, &safe_path(&sample.id), "flo", &sample.id)?;
                io::write_flow(path, &flows[index])?;
            }
            Ok(())
        })?;
        measured.iter_mut().zip(results).for_each(|(method, result)| method.results.push(result));
    }
    let compared = |index: usize| {
        Comparison::of(&measured.iter().map(|method| (&*method.name, &method.results[index])).collect::<Vec<_>>())
    };
    let comparisons: Vec<Comparison> = (0..sources.len()).map(compared).collect();
    let processor = machine::processor();
    // What was asked for as a file is there before anything is printed, which may fail.
    if let Some(path) = &args.csv {
        io::write_bytes(path, &csv(&measured)?)?;
    }
    if let Some(path) = &args.report {
        let page = Page {
            processor: &processor,
            command: &session.command,
            made: SystemTime::now(),
            methods: &measured,
            comparisons: &comparisons,
            gallery: &gallery,
        };
        io::write_bytes(path, page.html().as_bytes())?;
    }
    if args.json {
        let (first, rest) = measured.split_first().context("there is no method")?;
        let (others, baseline) = match (rest.split_last(), methods.last().map(|method| method.role)) {
            (Some((last, others)), Some(Role::Baseline)) => (others, &last.results[..]),
            _ => (rest, &[][..]),
        };
        let Measured { method, results, .. } = first;
        let output = Output { method, processor: &processor, results, baseline, others, comparisons: &comparisons };
        writeln!(session.out, "{}", serde_json::to_string(&output)?)?;
        return Ok(());
    }
    for (index, comparison) in comparisons.iter().enumerate() {
        print::results(&measured, index, comparison, &mut session.out)?;
    }
    Ok(())
}

/// A folder for each data set, safe and its own whatever the sets are called.
fn folders_of(sources: &[Box<dyn Source>]) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut folder = |source: &dyn Source| {
        let name = safe_name(&source.name());
        let names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}~{number}")));
        names.into_iter().find(|name| taken.insert(name.to_lowercase())).unwrap_or(name)
    };
    sources.iter().map(|source| folder(&**source)).collect()
}

fn submission(
    name: &str,
    to: &Path,
    sources: &[Box<dyn Source>],
    estimator: &Estimator,
    args: &Args,
    session: &mut Session,
) -> anyhow::Result<()> {
    let json = args.json;
    let Some(benchmark) = Benchmark::named(name) else {
        usage!("there is no benchmark `{name}`: sintel, kitti12 or kitti15");
    };
    let total: usize = sources.iter().filter_map(|s| s.len()).sum();
    let bar = if json { indicatif::ProgressBar::hidden() } else { progress::bar(total as u64, "pairs") };
    let Submission { flows, expected, clipped } =
        submit(benchmark, sources, estimator, to, &mut session.files, args.clip, || bar.inc(1))?;
    bar.finish_and_clear();
    if json {
        writeln!(session.out, "{}", serde_json::json!({ "flows": flows, "expected": expected, "clipped": clipped }))?;
        return Ok(());
    }
    writeln!(session.out, "{}: {flows} flows by {}", to.display(), estimator.describe())?;
    if flows != expected {
        writeln!(session.out, "the server expects {expected}: is this the whole test split?")?;
    }
    if clipped > 0 {
        writeln!(session.out, "{clipped} vectors were longer than the format holds (512 px) and were cut")?;
    }
    Ok(())
}

/// Scores methods on a data set; `watch` sees every pair with its flows.
fn measure(
    source: &dyn Source,
    methods: &[&dyn Method],
    args: &Args,
    mut watch: impl FnMut(&Sample, &[FlowField], &[&PairResult]) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<DataResult>> {
    let limit = args.limit.map(NonZeroUsize::get);
    let occlusion = args.occlusion.as_ref().map(|method| method as &dyn SoftOcclusion);
    let protocol = Protocol { limit, batch: args.average_batches, occlusion, confidence: args.confidence };
    let total = source.len().map_or(limit, |len| Some(len.min(limit.unwrap_or(len))));
    let bar =
        if args.json { indicatif::ProgressBar::hidden() } else { progress::bar(total.unwrap_or(0) as u64, "pairs") };
    let mut failed = None;
    let results = evaluate_all(source, methods, protocol, |sample, flows, figures| {
        bar.inc(1);
        if failed.is_none() {
            failed = watch(sample, flows, figures).err();
        }
    });
    bar.finish_and_clear();
    match failed {
        Some(error) => Err(error),
        None => Ok(results?),
    }
}

/// A line for each pair, and for each method if there are several: data set, name, size, seconds, every metric. Names are quoted where
/// they need it (RFC 4180).
fn csv(methods: &[Measured]) -> anyhow::Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let several = methods.len() > 1;
    let occlusion = methods.iter().flat_map(|method| &method.results).any(|result| result.occlusion.is_some());
    let mut heading: Vec<&str> = if several { vec!["method"] } else { Vec::new() };
    heading.extend(["data", "id", "width", "height", "seconds"]);
    heading.extend(METRICS.iter().map(|metric| metric.name));
    if occlusion {
        heading.extend(["occlusion_f1", "occlusion_threshold"]);
    }
    table.write_record(heading)?;
    let written = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
    for method in methods {
        for (result, pair) in method.results.iter().flat_map(|r| r.pairs.iter().map(move |p| (r, p))) {
            let mut cells = if several { vec![method.name.clone()] } else { Vec::new() };
            cells.extend([
                result.data.clone(),
                pair.id.clone(),
                pair.size.width.to_string(),
                pair.size.height.to_string(),
                written(pair.seconds),
            ]);
            cells.extend(pair.metrics.rows().iter().map(|(_, _, value)| written(*value)));
            if occlusion {
                let told = |figure: fn(OcclusionScore) -> f64| written(pair.occlusion.map(figure));
                cells.extend([told(|score| score.f1), told(|score| score.threshold)]);
            }
            table.write_record(cells)?;
        }
    }
    table.into_inner().context("the table of pairs cannot be made")
}
