//! `log.jsonl`: one JSON object a line, the whole truth about a run.
//!
//! Every line but the first has a `step`. What depends on the machine, times and rates, is under the key `time` alone: two
//! identical runs have identical logs apart from it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use ferroflow_core::io::{IoError, write_bytes};
use serde::Serialize;
use serde_json::Value;

/// What is known of a run after some steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Steps done.
    pub step: u64,
    /// Mean loss since the line before.
    pub loss: f64,
    /// Means of the parts of the loss that have names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, f64>,
    /// Mean end-point error of the finest output since the line before, pixels of the frames, where the truth is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epe: Option<f64>,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean global norm of the gradients, before clipping.
    pub gradient_norm: f64,
    /// Factor of the loss.
    pub loss_scale: f32,
    /// What depends on the machine.
    pub time: Times,
}

impl Report {
    /// By TensorBoard's tags.
    pub fn scalars(&self) -> Vec<(String, f64)> {
        let terms = self.terms.iter().map(|(name, &value)| (format!("train/{name}"), value));
        [
            ("train/loss", Some(self.loss)),
            ("train/epe", self.epe),
            ("train/lr", Some(self.lr)),
            ("train/gradient_norm", Some(self.gradient_norm)),
            ("train/loss_scale", Some(self.loss_scale.into())),
            ("speed/samples_per_second", Some(self.time.samples_per_second)),
            ("speed/waiting", Some(self.time.waiting)),
        ]
        .into_iter()
        .filter_map(|(tag, value)| Some((tag.to_string(), value?)))
        .chain(terms)
        .collect()
    }
}

/// What depends on the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// Seconds since this program began to train.
    pub seconds: f64,
    /// Pairs a second since the line before.
    pub samples_per_second: f64,
    /// Share of that time spent waiting for data.
    pub waiting: f64,
}

/// Appends lines.
pub struct Log {
    file: File,
    path: PathBuf,
}

/// A log that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It could not be replaced.
    #[error(transparent)]
    File(#[from] IoError),
}

impl Log {
    /// Goes on with a log after `step`; what a killed run had written beyond it is removed, for it will be done again.
    pub fn open(path: &Path, step: u64) -> Result<Self, LogError> {
        let io = |source| LogError::Io { path: path.into(), source };
        if path.exists() {
            let text = fs::read_to_string(path).map_err(io)?;
            let beyond = |line: &&str| match serde_json::from_str::<Value>(line) {
                Ok(value) => value["step"].as_u64().is_some_and(|s| s > step),
                // Half a line, the last one.
                Err(_) => true,
            };
            let kept: String = text.lines().take_while(|line| !beyond(line)).flat_map(|line| [line, "\n"]).collect();
            if kept != text {
                write_bytes(path, kept.as_bytes())?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        Ok(Self { file, path: path.into() })
    }

    /// Adds a line.
    pub fn line(&mut self, line: &impl Serialize) -> Result<(), LogError> {
        let io = |source| LogError::Io { path: self.path.clone(), source };
        let mut text = serde_json::to_string(line).map_err(|e| io(e.into()))?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(io)
    }
}

/// The lines of a log; half a line at the end is left out.
pub fn read(path: &Path) -> Result<Vec<Value>, LogError> {
    let text = fs::read_to_string(path).map_err(|source| LogError::Io { path: path.into(), source })?;
    Ok(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_lies_beyond_the_checkpoint_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(&path, 0).unwrap();
        log.line(&json!({"start": true})).unwrap();
        (1..=4).for_each(|step| log.line(&json!({"step": step})).unwrap());
        log.file.write_all(b"{\"step\": 5, \"lo").unwrap();
        let mut log = Log::open(&path, 3).unwrap();
        log.line(&json!({"step": 4, "again": true})).unwrap();
        let lines = read(&path).unwrap();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[4], json!({"step": 4, "again": true}));
    }
}
