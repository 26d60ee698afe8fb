//! `eval --checkpoints`: every weight file of a folder on the same data, in one table.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use ferroflow::Device;
use ferroflow::core::metrics::{MetricError, Metrics, OcclusionScore, Summary};
use ferroflow::data::{Source, sequence::natural_order};
use ferroflow::infer::{
    EstimateError, Estimator,
    evaluate::{DataResult, EvaluateError},
};
use ferroflow::net::weights::{Provenance, store::Stored};
use ferroflow::train::{Recipe, checkpoint};
use serde::Serialize;

use super::{Args, measure, table::aligned};
use crate::{
    machine,
    session::{Session, note},
    usage::{explain, usage},
};

/// What weight files end with, whoever wrote them.
const ENDINGS: [&str; 7] = [".safetensors", ".ckpt", ".pth", ".pth.tar", ".pt", ".pytorch", ".index"];

/// A weight file's figures.
#[derive(Serialize)]
struct Row {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    results: Vec<Figures>,
}

/// On one data set.
#[derive(Serialize)]
struct Figures {
    data: String,
    #[serde(flatten)]
    summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    over_batches: Option<Metrics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occlusion: Option<OcclusionScore>,
    /// Of all pairs together.
    seconds: f64,
    /// Whether no other file has a smaller error.
    best: bool,
}

/// A file without figures.
#[derive(Serialize)]
struct Skipped {
    file: String,
    error: String,
}

#[derive(Serialize)]
struct Output {
    processor: String,
    checkpoints: Vec<Row>,
    skipped: Vec<Skipped>,
}

impl Figures {
    fn new(result: DataResult) -> Self {
        let seconds = result.pairs.iter().filter_map(|pair| pair.seconds).sum();
        let DataResult { data, summary, over_batches, occlusion, .. } = result;
        Self { data, summary, over_batches, occlusion, seconds, best: false }
    }

    /// Averages with their names; files are compared by the first: that of a loop over batches, where one is followed, or that
    /// over images.
    fn averages(&self) -> Vec<(&'static str, &Metrics)> {
        let all = [
            ("over batches", self.over_batches.as_ref()),
            ("over images", Some(&self.summary.over_images)),
            ("over pixels", Some(&self.summary.over_pixels)),
        ];
        all.into_iter().filter_map(|(name, metrics)| Some((name, metrics?))).collect()
    }

    fn error(&self) -> f64 {
        self.averages()[0].1.epe.unwrap_or(f64::INFINITY)
    }
}

/// Evaluates the files and prints the table.
pub fn run(folder: &Path, sources: &[Box<dyn Source>], args: &Args, session: &mut Session) -> anyhow::Result<()> {
    let files = weight_files(folder, args.from_epoch)?;
    let device = args.method.device(false)?;
    let mut output = Output { processor: machine::processor(), checkpoints: Vec::new(), skipped: Vec::new() };
    let mut first_error = None;
    for path in &files {
        let file = file_name(path);
        match evaluated(path, sources, args, &device) {
            Ok(results) => output.checkpoints.push(Row { epoch: epoch(&file), file, results }),
            Err(error) if concerns_data(&error) => return Err(error),
            Err(error) => {
                let why = explain(&error);
                note!("{file} is left out: {why}");
                output.skipped.push(Skipped { file, error: why });
                first_error.get_or_insert(error);
            }
        }
    }
    if let (Some(error), true) = (first_error, output.checkpoints.is_empty()) {
        return Err(error.context(format!("none of the {} files in {} can be used", files.len(), folder.display())));
    }
    mark_best(&mut output.checkpoints);
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string(&output)?)?;
    } else {
        for index in 0..sources.len() {
            writeln!(session.out, "{}", table(&output.checkpoints, index))?;
        }
    }
    if !output.skipped.is_empty() {
        let names: Vec<&str> = output.skipped.iter().map(|skipped| skipped.file.as_str()).collect();
        bail!("{} of {} files were left out: {}", names.len(), files.len(), names.join(", "));
    }
    Ok(())
}

/// The weight files directly in a folder, numbers in their names as numbers.
fn weight_files(folder: &Path, from_epoch: Option<u64>) -> anyhow::Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let name = file_name(&path);
        if !name.starts_with('.') && ENDINGS.iter().any(|ending| name.ends_with(ending)) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        let parts = ["weights", "checkpoints"].map(|part| folder.join(part)).into_iter().filter(|part| part.is_dir());
        let parts: Vec<String> = parts.map(|part| part.display().to_string()).collect();
        let hint = if parts.is_empty() { String::new() } else { format!("; there is {}", parts.join(" and ")) };
        usage!("there are no weight files in {} ({}){hint}", folder.display(), ENDINGS.join(", "));
    }
    if let Some(least) = from_epoch {
        let all = files.len();
        files.retain(|path| epoch(&file_name(path)).is_some_and(|epoch| epoch >= least));
        if files.is_empty() {
            usage!(
                "none of the {all} files in {} is of epoch {least} or later: --from-epoch reads names like uflow_800_1000.ckpt",
                folder.display()
            );
        }
    }
    files.sort_by(|a, b| natural_order(&file_name(a), &file_name(b)));
    Ok(files)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The epoch in the name of a checkpoint, as the MindSpore port of UFlow writes them: `uflow_<epoch>_<step>.ckpt`.
fn epoch(file: &str) -> Option<u64> {
    let mut parts = file.split('.').next()?.rsplit('_');
    let (step, epoch) = (parts.next()?, parts.next()?);
    parts.next()?;
    step.parse::<u64>().ok().and(epoch.parse().ok())
}

fn evaluated(
    path: &Path,
    sources: &[Box<dyn Source>],
    args: &Args,
    device: &Arc<dyn Device>,
) -> anyhow::Result<Vec<Figures>> {
    let estimator = estimator(path, args, device.clone())?;
    let measured = |source: &dyn Source| measure(source, &[&estimator], args, |_, _, _| Ok(()));
    let results = sources.iter().map(|source| measured(source.as_ref())).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(results.into_iter().flatten().map(Figures::new).collect())
}

/// The network of a file: a checkpoint of a run of ours, which lies two folders below the run's recipe, or a weight file.
fn estimator(path: &Path, args: &Args, device: Arc<dyn Device>) -> anyhow::Result<Estimator> {
    let recipe = path.ancestors().nth(2).map(|run| run.join("recipe.toml")).filter(|recipe| recipe.is_file());
    match recipe {
        Some(recipe) if file_name(path).starts_with("step-") => {
            let text = fs::read_to_string(&recipe).with_context(|| format!("cannot read {}", recipe.display()))?;
            let model = Recipe::parse(&recipe.display().to_string(), &text, &[""; 0])?.model()?;
            let read = checkpoint::read(path, &model.graph)?;
            let weights = read.average.unwrap_or(read.weights);
            let stored = Stored { model, weights, provenance: Provenance::default() };
            args.method.estimator_of(stored, format!("checkpoint {}", path.display()), device)
        }
        _ => args.method.estimator_from(path, device),
    }
}

/// Whether another checkpoint would meet the same failure. Flow that is not finite, or beyond any sense, is this one's own.
fn concerns_data(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(|error| {
        !matches!(
            error,
            EvaluateError::Estimate { source: EstimateError::NotFinite { .. }, .. }
                | EvaluateError::Nothing { source: MetricError::NothingScored { unanswered: 1.. }, .. }
        )
    })
}

fn mark_best(rows: &mut [Row]) {
    for index in 0..rows.first().map_or(0, |row| row.results.len()) {
        let least = rows.iter().map(|row| row.results[index].error()).fold(f64::INFINITY, f64::min);
        if let Some(row) = rows.iter_mut().find(|row| row.results[index].error() == least) {
            row.results[index].best = true;
        }
    }
}

/// The figures on one data set, a line for each file.
fn table(rows: &[Row], index: usize) -> String {
    let Some(first) = rows.first().map(|row| &row.results[index]) else { return String::new() };
    let mut headings: Vec<String> = vec!["checkpoint".into()];
    headings
        .extend(first.averages().iter().flat_map(|(name, _)| [format!("epe (px) {name}"), format!("fl (%) {name}")]));
    if first.occlusion.is_some() {
        headings.extend(["occlusion F1".into(), "above".into()]);
    }
    headings.extend(["seconds".into(), String::new()]);
    let line = |row: &Row| {
        let figures = &row.results[index];
        let figure = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let mut cells = vec![row.file.clone()];
        cells.extend(figures.averages().iter().flat_map(|(_, metrics)| [figure(metrics.epe), figure(metrics.fl)]));
        cells.extend(figures.occlusion.iter().flat_map(|told| [figure(Some(told.f1)), figure(Some(told.threshold))]));
        cells.extend([format!("{:.2}", figures.seconds), if figures.best { "best".into() } else { String::new() }]);
        cells
    };
    let lines: Vec<Vec<String>> = std::iter::once(headings).chain(rows.iter().map(line)).collect();
    let last = lines[0].len() - 1;
    format!(
        "{}: {} pairs, {} pixels scored\n{}",
        first.data,
        first.summary.pairs,
        first.summary.scored_pixels,
        aligned(&lines, |column| column == 0 || column == last)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_epoch() {
        let names = [
            "uflow_800_1000.ckpt",
            "uflow_10_1000.ckpt",
            "a_b_7_9.pth.tar",
            "uflow_800.ckpt",
            "last.safetensors",
            "x_y_3.ckpt",
        ];
        assert_eq!(names.map(epoch), [Some(800), Some(10), Some(7), None, None, None]);
    }
}
