//! Where weights come from. It is kept in the weight file, so that the two cannot be separated.

use std::collections::BTreeMap;

/// What is known about weights. Stored as text in the metadata of a safetensors file.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Provenance {
    /// The file or the recipe that they were made from.
    pub source: Option<String>,
    /// SHA-256 of the source file, hexadecimal.
    pub source_sha256: Option<String>,
    /// Licence under which they may be used.
    pub license: Option<String>,
    /// Data on which they were trained.
    pub training_data: Option<String>,
    /// How they were trained.
    pub recipe: Option<String>,
    /// Measured errors by data set and measure: `sintel-clean/epe` 2.15.
    pub metrics: BTreeMap<String, f64>,
    /// Further notes, by key.
    pub notes: BTreeMap<String, String>,
}

const METRIC: &str = "metric.";
const NOTE: &str = "note.";

impl Provenance {
    /// The provenance as entries of the metadata.
    pub(super) fn entries(&self) -> BTreeMap<String, String> {
        let plain = [
            ("source", &self.source),
            ("source_sha256", &self.source_sha256),
            ("license", &self.license),
            ("training_data", &self.training_data),
            ("recipe", &self.recipe),
        ];
        let plain = plain.into_iter().filter_map(|(key, value)| Some((key.to_string(), value.clone()?)));
        let metrics = self.metrics.iter().map(|(key, value)| (format!("{METRIC}{key}"), value.to_string()));
        let notes = self.notes.iter().map(|(key, value)| (format!("{NOTE}{key}"), value.clone()));
        plain.chain(metrics).chain(notes).collect()
    }

    /// The provenance from the entries of the metadata; unknown entries are ignored.
    pub(super) fn from_entries(entries: &BTreeMap<String, String>) -> Self {
        let plain = |key: &str| entries.get(key).cloned();
        let under = |prefix: &'static str| {
            entries.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?.to_string(), value)))
        };
        Self {
            source: plain("source"),
            source_sha256: plain("source_sha256"),
            license: plain("license"),
            training_data: plain("training_data"),
            recipe: plain("recipe"),
            metrics: under(METRIC).filter_map(|(key, value)| Some((key, value.parse().ok()?))).collect(),
            notes: under(NOTE).map(|(key, value)| (key, value.clone())).collect(),
        }
    }
}
