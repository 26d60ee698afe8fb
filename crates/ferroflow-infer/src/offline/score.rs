//! Scores the outputs of another runtime.

use std::path::{Path, PathBuf};

use ferroflow_core::metrics::{Evaluation, MetricError, Metrics, Summary, Tally, Truth};
use serde::Serialize;

use super::{Naming, OfflineError, Prepared, array, inputs::flow_of, prepared::arrays};

/// The figures of a folder of outputs.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// The averages over pixels and over images.
    #[serde(flatten)]
    pub summary: Summary,
    /// The name and the mean endpoint error in pixels of every pair, in order; `None` for a pair without scored pixels.
    pub pairs: Vec<(String, Option<f64>)>,
}

/// Scores the raw flows in `outputs` against the truth of `prepared`.
///
/// The output of the input `NAME` is `NAME.bin`, `NAME_0.bin` (ais_bench) or `NAME_output_0.bin` (msame), or the same with
/// `.npy`. Without `pairs.json`, where no output is called so, the order of the names pairs them. Padding is cut off.
///
/// # Errors
/// At the first output that is missing or has another size, at the first pair without truth, and if no pixel of any pair could
/// be scored.
pub fn score(prepared: &Prepared, outputs: &Path) -> Result<Score, OfflineError> {
    let Prepared { truth, manifest, .. } = prepared;
    let mut evaluation = Evaluation::default();
    let mut pairs = Vec::new();
    for (file, output) in manifest.files.iter().zip(estimates(prepared, outputs)?) {
        let shape = manifest.layout.flow_shape(manifest.batch, file.size);
        let truth = array::read(&truth.join(format!("{}.{}", file.name, manifest.format.extension())), &shape)?;
        let estimate = array::read(&output, &shape)?;
        for (i, pair) in file.pairs.iter().enumerate() {
            let [truth, estimate] = [&truth, &estimate].map(|v| flow_of(manifest.layout, v, i, file.size, pair.size));
            let metric = |source| OfflineError::Metric { pair: pair.id.clone(), source };
            let tally = Tally::of(&estimate, &Truth::new(&truth)).map_err(metric)?;
            if tally.scored() + tally.unanswered == 0 {
                return Err(OfflineError::NoTruth { pair: pair.id.clone() });
            }
            pairs.push((pair.id.clone(), Metrics::of(&tally).epe));
            evaluation.add(tally);
        }
    }
    let summary = evaluation.summary();
    if summary.scored_pixels == 0 {
        let source = MetricError::NothingScored { unanswered: summary.unanswered_pixels };
        return Err(OfflineError::Nothing { folder: outputs.to_path_buf(), source });
    }
    Ok(Score { summary, pairs })
}

/// The outputs of all inputs, in their order.
fn estimates(prepared: &Prepared, folder: &Path) -> Result<Vec<PathBuf>, OfflineError> {
    let files = &prepared.manifest.files;
    let named = files.iter().map(|file| output(folder, &file.name)).collect::<Result<Vec<_>, _>>();
    if prepared.is_named || named.is_ok() {
        return named;
    }
    let found = arrays(folder)?;
    if found.len() != files.len() {
        let first = files.first().map_or(String::new(), |file| file.name.clone());
        return Err(OfflineError::Order { folder: folder.into(), outputs: found.len(), inputs: files.len(), first });
    }
    Ok(found.iter().map(|(name, extension)| folder.join(format!("{name}.{extension}"))).collect())
}

/// The output of an input.
fn output(folder: &Path, name: &str) -> Result<PathBuf, OfflineError> {
    let endings = ["", Naming::AisBench.ending(), Naming::Msame.ending()];
    let paths = endings.iter().flat_map(|end| ["bin", "npy"].map(|e| folder.join(format!("{name}{end}.{e}"))));
    let found = paths.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| OfflineError::NoOutput { folder: folder.to_path_buf(), name: name.to_string() })
}
