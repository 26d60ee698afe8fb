//! Scores the outputs of another runtime.

use std::path::{Path, PathBuf};

use ferroflow_core::{
    Size,
    io::{MAX_SIDE, read_bytes},
    metrics::{Evaluation, MetricError, Summary, Tally, Truth},
};
use serde::Serialize;

use super::inputs::flow_of;
use super::{MANIFEST, Manifest, OfflineError, TRUTH, array};

/// The figures of a folder of outputs.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// The averages over pixels and over images.
    #[serde(flatten)]
    pub summary: Summary,
    /// The name and the mean endpoint error in pixels of every pair, in order; `None` for a pair without scored pixels.
    pub pairs: Vec<(String, Option<f64>)>,
}

/// Scores the raw flows in `outputs` against the truth in `folder`, which [`super::write_inputs`] made.
///
/// The output of the input `NAME` is `NAME.bin`, `NAME_0.bin` (ais_bench) or `NAME_output_0.bin` (msame), or the same with
/// `.npy`. Padding is cut off.
///
/// # Errors
/// At the first output that is missing or has another size, at the first pair without truth, and if no pixel of any pair could
/// be scored.
pub fn score(folder: &Path, outputs: &Path) -> Result<Score, OfflineError> {
    let path = folder.join(MANIFEST);
    let text = read_bytes(&path)?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|e| OfflineError::Manifest { path: path.clone(), reason: e.to_string() })?;
    if manifest.files.iter().all(|file| file.pairs.is_empty()) {
        return Err(OfflineError::Manifest { path, reason: "it names no pairs".into() });
    }
    let mut evaluation = Evaluation::default();
    let mut pairs = Vec::new();
    for file in &manifest.files {
        let Size { height: h, width: w } = file.size;
        let fits = |size: Size| size.height <= h && size.width <= w;
        let wrong = |reason: String| OfflineError::Manifest { path: path.clone(), reason };
        if h.max(w) > MAX_SIDE || manifest.batch > MAX_SIDE || h.min(w).min(manifest.batch) == 0 {
            return Err(wrong(format!("file `{}` is of {} pairs of {}", file.name, manifest.batch, file.size)));
        }
        if file.pairs.len() > manifest.batch || !file.pairs.iter().all(|p| fits(p.size)) {
            return Err(wrong(format!("the sizes of file `{}` contradict each other", file.name)));
        }
        let shape = manifest.layout.flow_shape(manifest.batch, file.size);
        let truth = folder.join(TRUTH).join(format!("{}.{}", file.name, manifest.format.extension()));
        let truth = array::read(&truth, &shape)?;
        let estimate = array::read(&output(outputs, &file.name)?, &shape)?;
        for (i, pair) in file.pairs.iter().enumerate() {
            let [truth, estimate] = [&truth, &estimate].map(|v| flow_of(manifest.layout, v, i, file.size, pair.size));
            let metric = |source| OfflineError::Metric { pair: pair.id.clone(), source };
            let tally = Tally::of(&estimate, &Truth::new(&truth)).map_err(metric)?;
            if tally.scored() + tally.unanswered == 0 {
                return Err(OfflineError::NoTruth { pair: pair.id.clone() });
            }
            pairs.push((pair.id.clone(), ferroflow_core::metrics::Metrics::of(&tally).epe));
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

/// The output of an input.
fn output(folder: &Path, name: &str) -> Result<PathBuf, OfflineError> {
    let endings = ["", "_0", "_output_0"];
    let paths = endings.iter().flat_map(|end| ["bin", "npy"].map(|e| folder.join(format!("{name}{end}.{e}"))));
    let found = paths.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| OfflineError::NoOutput { folder: folder.to_path_buf(), name: name.to_string() })
}
