//! `log.jsonl`, the log of a run, with one JSON object a line.
//!
//! Every line but the first has a `step`. Only the key `time` holds what depends on the machine, times and rates, so that two
//! identical runs have logs that are identical apart from it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use ferroflow_core::io::{IoError, write_bytes};
use serde::Serialize;
use serde_json::Value;

/// The figures of a run since the line before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Steps done.
    pub step: u64,
    /// Mean loss since the line before.
    pub loss: f64,
    /// Means of the named parts of the loss.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, f64>,
    /// Mean end-point error of the finest output since the line before, pixels of the frames, where the truth is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epe: Option<f64>,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean global norm of the gradients, before clipping.
    pub gradient_norm: f64,
    /// Factor on the loss (loss scaling).
    pub loss_scale: f32,
    /// Times and rates, which depend on the machine.
    pub time: Times,
}

impl Report {
    /// The figures with their tags for TensorBoard.
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
    /// Pairs per second since the line before.
    pub samples_per_second: f64,
    /// Share of that time spent waiting for data, from 0 to 1.
    pub waiting: f64,
}

/// A log to which lines are appended.
pub struct Log {
    /// `None`: nobody reads it.
    file: Option<File>,
    path: PathBuf,
}

/// Why a log cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The log could not be replaced.
    #[error(transparent)]
    File(#[from] IoError),
}

impl Log {
    /// Continues a log after `step`; lines that a killed run had written beyond it are removed, because those steps are done again.
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
        Ok(Self { file: Some(file), path: path.into() })
    }

    /// A log that is written nowhere: that of a rank but the first.
    pub fn none() -> Self {
        Self { file: None, path: PathBuf::new() }
    }

    /// Adds a line.
    pub fn line(&mut self, line: &impl Serialize) -> Result<(), LogError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let io = |source| LogError::Io { path: self.path.clone(), source };
        let mut text = serde_json::to_string(line).map_err(|e| io(e.into()))?;
        text.push('\n');
        file.write_all(text.as_bytes()).map_err(io)
    }
}

/// The lines of a log, without an incomplete line at the end.
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
        log.file.as_mut().unwrap().write_all(b"{\"step\": 5, \"lo").unwrap();
        let mut log = Log::open(&path, 3).unwrap();
        log.line(&json!({"step": 4, "again": true})).unwrap();
        let lines = read(&path).unwrap();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[4], json!({"step": 4, "again": true}));
    }
}
