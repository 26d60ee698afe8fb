//! `ferroflow eval`: errors on data with known flow.

mod checkpoints;
mod occlusion;

use std::{
    collections::HashSet,
    io::Write,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ferroflow::core::Size;
use ferroflow::core::io::{
    self, Outputs,
    outputs::{safe_name, safe_path},
};
use ferroflow::core::metrics::{OcclusionScore, metrics_table};
use ferroflow::data::{Source, Spec};
use ferroflow::infer::{
    Estimator,
    evaluate::{DataResult, Project, Protocol, SoftOcclusion, evaluate},
    report::{Gallery, Page},
    submit::{Benchmark, Submission, submit},
};
use occlusion::OcclusionArg;
use serde::Serialize;

use crate::{
    machine,
    method::{BASELINES, MethodArgs},
    progress,
    session::{Session, note},
    usage::usage,
};

/// Measure a method on data with known flow.
///
/// Every figure is given in both averages, over all pixels and over images. Data sets are spelled NAME:PATH (`ferroflow
/// data list` lists them all); several may be given:
///
///   ferroflow eval sintel-clean:/data/sintel kitti15:/data/kitti --baseline dis -w pwcnet.safetensors
///   ferroflow eval pairs:pairs.tsv --json
///   ferroflow eval chairs:/data/chairs -w flownet2.safetensors --protocol flownet2 --report page.html
///   ferroflow eval sintel-clean:/data/sintel --checkpoints runs/uflow/weights --protocol uflow --size 448x1024
///   ferroflow eval kitti15:/data/kitti@test -w pwcnet.safetensors --submit kitti15 results.zip
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// sintel-clean:PATH, chairs:PATH, kitti15:PATH, middlebury:PATH, pairs:FILE.tsv, synth:PRESET, ...
    #[arg(required = true, value_name = "DATA")]
    data: Vec<String>,
    #[command(flatten)]
    method: MethodArgs,
    /// Also print the errors of this method
    #[arg(long, value_parser = BASELINES)]
    baseline: Option<String>,
    /// Take at most this many pairs of each data set
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// Also give the mean over batches of N pairs, as loops over batches report it
    #[arg(long, value_name = "N")]
    average_batches: Option<usize>,
    /// Write a CSV table with a line of figures for each pair
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the estimated flows into this folder as DATA/ID.flo, with a folder for each data set
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Fit frames and average errors as this project does
    #[arg(long, value_parser = projects(), value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Also measure how well occlusion is told, by the flows both ways: the largest F1 of 40 thresholds, and its threshold, on data
    /// that know what is occluded
    #[arg(long, value_enum, value_name = "METHOD")]
    occlusion: Option<OcclusionArg>,
    /// Evaluate every weight file of this folder, one row of a table each, in the order of their names with numbers as numbers
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["weights", "baseline", "csv", "save", "report", "submit"]
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
    /// Write one self-contained web page with tables, curves and pictures of the worst pairs
    #[arg(long, value_name = "PAGE.html")]
    report: Option<PathBuf>,
    /// Show this many of the worst pairs in the report
    #[arg(long, value_name = "K", default_value_t = 12, requires = "report")]
    worst: usize,
    /// Instead of measuring, write a submission for a benchmark's server: `sintel` (a folder), `kitti12` or `kitti15` (a zip)
    #[arg(long, num_args = 2, value_names = ["BENCHMARK", "OUT"], conflicts_with_all = ["report", "csv", "baseline", "save", "limit", "occlusion"])]
    submit: Option<Vec<String>>,
    /// Cut vectors that KITTI's format cannot hold (512 px) instead of refusing them
    #[arg(long, requires = "submit")]
    clip: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The projects' names, each with what it does.
fn projects() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Project::ALL.map(|p| PossibleValue::new(p.name).help(p.help)))
}

#[derive(Serialize)]
struct Output {
    method: String,
    processor: String,
    results: Vec<DataResult>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    baseline: Vec<DataResult>,
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
    files.reads_all(args.method.weights());
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
    let folders = folders_of(&sources);
    let estimator = args.method.estimator()?;
    if let Some(submit) = &args.submit {
        return submission(&submit[0], submit[1].as_ref(), &sources, &estimator, &args, session);
    }
    let mut gallery = Gallery::new(if args.report.is_some() { args.worst } else { 0 });
    let baseline = args.baseline.as_deref().and_then(Estimator::baseline);
    let mut output = Output {
        method: estimator.describe(),
        processor: machine::processor(),
        results: Vec::new(),
        baseline: Vec::new(),
    };
    for (source, folder) in sources.iter().zip(&folders) {
        let save = args.save.as_ref().map(|root| (root.join(folder), &mut session.files));
        let result = measure(source.as_ref(), &estimator, &args, Some(&mut gallery), save)?;
        let compared = baseline.as_ref().map(|b| measure(source.as_ref(), b, &args, None, None)).transpose()?;
        output.results.push(result);
        output.baseline.extend(compared);
    }
    // What was asked for as a file is there before anything is printed, which may fail.
    if let Some(path) = &args.csv {
        io::write_bytes(path, &csv(&output.results)?)?;
    }
    if let Some(path) = &args.report {
        let page = Page {
            method: &output.method,
            processor: &output.processor,
            results: &output.results,
            baseline: (baseline.as_ref().map_or("", |b| b.name()), &output.baseline),
            gallery: &gallery,
        };
        io::write_bytes(path, page.html().as_bytes())?;
    }
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string(&output)?)?;
        return Ok(());
    }
    for (i, result) in output.results.iter().enumerate() {
        print_result(result, output.baseline.get(i), &estimator, baseline.as_ref(), session)?;
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

fn measure(
    source: &dyn Source,
    estimator: &Estimator,
    args: &Args,
    mut gallery: Option<&mut Gallery>,
    mut save: Option<(PathBuf, &mut Outputs)>,
) -> anyhow::Result<DataResult> {
    let limit = args.limit.map(NonZeroUsize::get);
    let occlusion = args.occlusion.as_ref().map(|method| method as &dyn SoftOcclusion);
    let protocol = Protocol { limit, batch: args.average_batches, occlusion };
    let total = source.len().map_or(limit, |len| Some(len.min(limit.unwrap_or(len))));
    let bar =
        if args.json { indicatif::ProgressBar::hidden() } else { progress::bar(total.unwrap_or(0) as u64, "pairs") };
    let mut failed = None;
    let result = evaluate(source, estimator, protocol, |sample, flow, figures| {
        bar.inc(1);
        if let Some(gallery) = &mut gallery {
            gallery.add(&source.name(), sample, flow, figures);
        }
        if let (Some((folder, files)), None) = (&mut save, &failed) {
            let path = files.plan_named(folder, &safe_path(&sample.id), "flo", &sample.id);
            failed = match path {
                Ok(path) => io::write_flow(path, flow).err().map(anyhow::Error::from),
                Err(error) => Some(error.into()),
            };
        }
    });
    bar.finish_and_clear();
    match failed {
        Some(error) => Err(error),
        None => Ok(result?),
    }
}

fn print_result(
    result: &DataResult,
    compared: Option<&DataResult>,
    estimator: &Estimator,
    baseline: Option<&Estimator>,
    session: &mut Session,
) -> anyhow::Result<()> {
    writeln!(
        session.out,
        "{}: {} pairs, {} pixels scored, {:.0} ms a pair with {}",
        result.data,
        result.summary.pairs,
        result.summary.scored_pixels,
        1e3 * result.seconds_per_pair,
        estimator.name()
    )?;
    let columns = result.columns(baseline.map(Estimator::name).zip(compared));
    let columns: Vec<_> = columns.iter().map(|(heading, metrics)| (heading.as_str(), *metrics)).collect();
    write!(session.out, "{}", metrics_table(&columns))?;
    for (result, who) in [(Some(result), ""), (compared, "baseline ")] {
        if let Some(told) = result.and_then(|result| result.occlusion) {
            writeln!(
                session.out,
                "{who}occlusion: F1 {:.4} above {:.4}, the best of 40 thresholds",
                told.f1, told.threshold
            )?;
        }
    }
    writeln!(session.out)?;
    Ok(())
}

/// A line for each pair: data set, name, size, seconds, every metric. Names are quoted where they need it (RFC 4180).
fn csv(results: &[DataResult]) -> anyhow::Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut heading: Vec<&str> = vec!["data", "id", "width", "height", "seconds"];
    if let Some(first) = results.iter().find_map(|r| r.pairs.first()) {
        heading.extend(first.metrics.rows().iter().map(|(name, ..)| *name));
    }
    let occlusion = results.iter().any(|result| result.occlusion.is_some());
    if occlusion {
        heading.extend(["occlusion_f1", "occlusion_threshold"]);
    }
    table.write_record(heading)?;
    for (result, pair) in results.iter().flat_map(|r| r.pairs.iter().map(move |p| (r, p))) {
        let mut cells = vec![
            result.data.clone(),
            pair.id.clone(),
            pair.size.width.to_string(),
            pair.size.height.to_string(),
            format!("{:.6}", pair.seconds),
        ];
        let rows = pair.metrics.rows();
        cells.extend(rows.iter().map(|(_, _, value)| value.map_or(String::new(), |v| format!("{v:.6}"))));
        if occlusion {
            let told = |figure: fn(OcclusionScore) -> f64| {
                pair.occlusion.map_or(String::new(), |score| format!("{:.6}", figure(score)))
            };
            cells.extend([told(|score| score.f1), told(|score| score.threshold)]);
        }
        table.write_record(cells)?;
    }
    table.into_inner().context("the table of pairs cannot be made")
}
