//! Checkpoints: each file holds everything that a run needs to continue as if it had never stopped.
//!
//! It is a safetensors file with `weights/NAME`, `first/NAME` and `second/NAME` (the optimiser's moments), `average/NAME`, and the
//! rest as JSON in the metadata. It is written beside its place, flushed to the disk and renamed, so that a run that is killed
//! leaves its earlier checkpoints.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs, iter,
    path::{Path, PathBuf},
};

use ferroflow_core::io::Replacement;
use ferroflow_net::{Graph, Weights, weights::Tensor};
use safetensors::{
    Dtype, SafeTensors,
    tensor::{View, serialize_to_file},
};
use serde::{Deserialize, Serialize};

use crate::{
    init::Origin,
    log::{Report, Times},
    optimiser::LossScale,
};

/// Key of the metadata.
const PROGRESS: &str = "ferroflow.progress";

/// The state of a run, without its arrays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done, including skipped ones.
    pub step: u64,
    /// Number of samples taken from the data.
    pub position: u64,
    /// Number of steps that the optimiser took.
    pub updates: u64,
    /// Number of skipped steps since the last one taken.
    pub skipped: u64,
    /// The loss scale.
    pub scale: LossScale,
    /// Smallest validation error so far, px.
    pub best: Option<Exact>,
    /// The best evaluations so far with their steps, best first, as many as the recipe keeps.
    #[serde(default)]
    pub ranked: Vec<(Exact, u64)>,
    /// Sums since the last line of the log.
    pub window: Window,
    /// Sums since the epoch began, if epochs are counted.
    #[serde(default)]
    pub epoch: Window,
    /// The origins of the first weights, whose files may be gone by now.
    #[serde(default)]
    pub origins: Vec<Origin>,
}

/// Sums over the steps since the last line of the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Number of steps taken.
    pub steps: u64,
    /// Sum of the losses.
    pub loss: Exact,
    /// Sum of the end-point errors of the steps whose truth is known.
    pub epe: Exact,
    /// Number of these steps; `None` in checkpoints of older versions, where it is all steps.
    #[serde(default)]
    pub known: Option<u64>,
    /// Sums of the named parts of the loss.
    #[serde(default)]
    pub terms: BTreeMap<String, Exact>,
    /// Sum of the norms of the gradients.
    pub norm: Exact,
}

impl Window {
    /// Adds a step.
    pub fn add(&mut self, loss: f64, terms: &[(&str, f64)], epe: Option<f64>, norm: f64) {
        self.known = Some(self.known.unwrap_or(self.steps) + u64::from(epe.is_some()));
        self.steps += 1;
        self.loss.0 += loss;
        self.epe.0 += epe.unwrap_or(0.0);
        self.norm.0 += norm;
        for (name, value) in terms {
            self.terms.entry(name.to_string()).or_default().0 += value;
        }
    }

    /// The means, for the log.
    pub fn report(&self, step: u64, lr: f64, loss_scale: f32, time: Times) -> Report {
        let mean = |sum: Exact| sum.0 / self.steps as f64;
        let known = self.known.unwrap_or(self.steps);
        Report {
            step,
            loss: mean(self.loss),
            terms: self.terms.iter().map(|(name, &sum)| (name.clone(), mean(sum))).collect(),
            epe: (known > 0).then(|| self.epe.0 / known as f64),
            lr,
            gradient_norm: mean(self.norm),
            loss_scale,
            time,
        }
    }
}

/// A number whose bits are the same after writing and reading, which JSON alone does not guarantee.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Exact(pub f64);

impl From<u64> for Exact {
    fn from(bits: u64) -> Self {
        Self(f64::from_bits(bits))
    }
}

impl From<Exact> for u64 {
    fn from(exact: Exact) -> Self {
        exact.0.to_bits()
    }
}

/// A checkpoint that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The state of the run.
    pub progress: Progress,
    /// The weights.
    pub weights: Weights,
    /// The optimiser's moments by parameter; empty if there are none.
    pub memory: [Vec<Vec<f32>>; 2],
    /// The averaged weights, if an average is kept.
    pub average: Option<Weights>,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is damaged, or is not a checkpoint of this network.
    #[error("{}: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The folder holds no checkpoint that can be read.
    #[error("there is no checkpoint to go on from in {}; start again with --out", .0.display())]
    None(PathBuf),
}

/// Most steps or samples of a run that is believed.
const FURTHEST: u64 = 1 << 48;

const WEIGHTS: &str = "weights";
const MOMENTS: [&str; 2] = ["first", "second"];
const AVERAGE: &str = "average";

/// The contents of a checkpoint, borrowed from the run.
pub struct Snapshot<'a> {
    /// The state of the run.
    pub progress: &'a Progress,
    /// The weights.
    pub weights: &'a Weights,
    /// The optimiser's moments.
    pub memory: [&'a [Vec<f32>]; 2],
    /// The averaged weights, if an average is kept.
    pub average: Option<&'a Weights>,
}

/// Writes the checkpoint of a step into a folder and removes all but the newest `keep` checkpoints; none with 0.
pub fn write(folder: &Path, graph: &Graph, snapshot: &Snapshot, keep: usize) -> Result<PathBuf, CheckpointError> {
    let path = folder.join(format!("step-{:09}.safetensors", snapshot.progress.step));
    let io = |source| CheckpointError::Io { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(io)?;
    let moments = MOMENTS.iter().zip(snapshot.memory);
    let groups = iter::once((WEIGHTS, slices(snapshot.weights)))
        .chain(moments.map(|(group, memory)| (*group, memory.iter().map(Vec::as_slice).collect())))
        .chain(snapshot.average.map(|average| (AVERAGE, slices(average))));
    let mut arrays = Vec::new();
    for (group, values) in groups {
        for (param, values) in graph.params.iter().zip(values).filter(|(_, v)| !v.is_empty()) {
            arrays.push((format!("{group}/{}", param.name), Array { shape: &param.shape, values }));
        }
    }
    let progress = serde_json::to_string(snapshot.progress).map_err(|e| io(e.into()))?;
    let file = Replacement::begin(&path).map_err(io)?;
    let metadata = HashMap::from([(PROGRESS.to_string(), progress)]);
    serialize_to_file(arrays, Some(metadata), file.path()).map_err(|e| io(std::io::Error::other(e.to_string())))?;
    file.finish_durably().map_err(io)?;
    let mut all = list(folder)?;
    all.truncate(if keep == 0 { 0 } else { all.len().saturating_sub(keep) });
    for old in all {
        fs::remove_file(&old).map_err(|source| CheckpointError::Io { path: old, source })?;
    }
    Ok(path)
}

/// The newest checkpoint of a folder that can be read, and what was wrong with newer ones.
pub fn newest(folder: &Path, graph: &Graph) -> Result<(Checkpoint, Vec<CheckpointError>), CheckpointError> {
    let mut damaged = Vec::new();
    for path in list(folder)?.into_iter().rev() {
        match read(&path, graph) {
            Ok(checkpoint) => return Ok((checkpoint, damaged)),
            Err(error) => damaged.push(error),
        }
    }
    // Where all are damaged, the newest one's damage is the news.
    Err(damaged.into_iter().next().unwrap_or(CheckpointError::None(folder.into())))
}

/// Whether a folder holds checkpoints.
pub fn is_any(folder: &Path) -> bool {
    list(folder).is_ok_and(|all| !all.is_empty())
}

/// Checkpoints, oldest first. Temporary files of a killed run do not count.
fn list(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let io = |source| CheckpointError::Io { path: folder.into(), source };
    let mut paths = Vec::new();
    match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(io)? {
                let path = entry.map_err(io)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with("step-") && name.ends_with(".safetensors") {
                    paths.push(path);
                }
            }
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads a checkpoint of a network.
pub fn read(path: &Path, graph: &Graph) -> Result<Checkpoint, CheckpointError> {
    let bytes = fs::read(path).map_err(|source| CheckpointError::Io { path: path.into(), source })?;
    parse(&bytes, graph).map_err(|reason| CheckpointError::Damaged { path: path.into(), reason })
}

fn parse(bytes: &[u8], graph: &Graph) -> Result<Checkpoint, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let progress = header.metadata().as_ref().and_then(|m| m.get(PROGRESS)).ok_or("it is no checkpoint of a run")?;
    let progress: Progress = serde_json::from_str(progress).map_err(|e| e.to_string())?;
    // Steps and samples that no run reaches: what is computed from them would wrap.
    if progress.step.max(progress.position).max(progress.updates).max(progress.skipped) > FURTHEST {
        return Err(format!("it says that {} steps and {} samples are done", progress.step, progress.position));
    }
    let array = |group: &str, param: &ferroflow_net::graph::Param| -> Result<Option<Vec<f32>>, String> {
        let Ok(tensor) = file.tensor(&format!("{group}/{}", param.name)) else { return Ok(None) };
        if tensor.dtype() != Dtype::F32 || tensor.shape() != param.shape {
            return Err(format!("{group}/{} is of another network", param.name));
        }
        let values = tensor.data().as_chunks::<4>().0;
        Ok(Some(values.iter().map(|&b| f32::from_le_bytes(b)).collect()))
    };
    let weights = |group: &str| -> Result<Weights, String> {
        let mut tensors = Vec::with_capacity(graph.params.len());
        for param in &graph.params {
            let data = array(group, param)?.ok_or_else(|| format!("{group}/{} is missing", param.name))?;
            tensors.push((param.name.clone(), Tensor { shape: param.shape.clone(), data }));
        }
        Weights::new(graph, tensors).map_err(|e| e.to_string())
    };
    let mut memory = [Vec::new(), Vec::new()];
    for (memory, group) in memory.iter_mut().zip(MOMENTS) {
        for param in &graph.params {
            memory.push(array(group, param)?.unwrap_or_default());
        }
    }
    let averaged = file.names().iter().any(|name| name.starts_with(AVERAGE));
    Ok(Checkpoint {
        progress,
        weights: weights(WEIGHTS)?,
        memory,
        average: if averaged { Some(weights(AVERAGE)?) } else { None },
    })
}

fn slices(weights: &Weights) -> Vec<&[f32]> {
    weights.iter().collect()
}

struct Array<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl View for Array<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        if cfg!(target_endian = "little") {
            bytemuck::cast_slice(self.values).into()
        } else {
            self.values.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
    }

    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use ferroflow_net::Model;

    use super::*;
    use crate::optimiser::{LossScale, LossScaleConfig};

    fn graph() -> Graph {
        Model::named("lightflow-0.5").unwrap().graph
    }

    fn checkpoint(graph: &Graph, step: u64) -> Checkpoint {
        let weights = Weights::random(graph, step);
        // As an optimiser that trains half of the parameters.
        let moments = |scale: f32| {
            let values = weights.iter().enumerate();
            values.map(|(i, w)| if i % 2 == 0 { w.iter().map(|v| v * scale).collect() } else { Vec::new() }).collect()
        };
        Checkpoint {
            progress: Progress {
                step,
                position: 2 * step,
                updates: step,
                skipped: 1,
                scale: LossScale::new(&LossScaleConfig::Fixed(1024.0)).unwrap(),
                ranked: vec![(Exact(1.5), 3)],
                best: Some(Exact(0.1 + 0.2)),
                window: Window {
                    steps: 3,
                    loss: Exact(1.0 / 3.0),
                    epe: Exact(2.0f64.sqrt()),
                    known: Some(2),
                    terms: [("census".to_string(), Exact(0.1))].into(),
                    norm: Exact(1e-300),
                },
                epoch: Window { steps: 1, ..Window::default() },
                origins: vec![Origin { file: "first.safetensors".into(), ..Origin::default() }],
            },
            memory: [moments(0.5), moments(0.25)],
            average: Some(Weights::random(graph, step + 100)),
            weights,
        }
    }

    fn store(folder: &Path, graph: &Graph, checkpoint: &Checkpoint, keep: usize) -> PathBuf {
        let snapshot = Snapshot {
            progress: &checkpoint.progress,
            weights: &checkpoint.weights,
            memory: [&checkpoint.memory[0], &checkpoint.memory[1]],
            average: checkpoint.average.as_ref(),
        };
        write(folder, graph, &snapshot, keep).unwrap()
    }

    #[test]
    fn what_is_written_is_read_to_the_bit() {
        let (folder, graph) = (tempfile::tempdir().unwrap(), graph());
        let checkpoint = checkpoint(&graph, 7);
        let path = store(folder.path(), &graph, &checkpoint, 3);
        assert_eq!(read(&path, &graph).unwrap(), checkpoint);
        let other = Model::named("lightflow-0.75").unwrap().graph;
        assert!(read(&path, &other).unwrap_err().to_string().contains("another network"));
    }

    #[test]
    fn the_newest_few_are_kept() {
        let (folder, graph) = (tempfile::tempdir().unwrap(), graph());
        for step in [1, 2, 10, 11] {
            store(folder.path(), &graph, &checkpoint(&graph, step), 2);
        }
        let names: Vec<_> = list(folder.path()).unwrap();
        assert_eq!(names.len(), 2);
        let (checkpoint, damaged) = newest(folder.path(), &graph).unwrap();
        assert_eq!((checkpoint.progress.step, damaged.len()), (11, 0));
    }

    /// A run killed while it wrote leaves a temporary file; a file system that lost the end of one, a truncated file.
    #[test]
    fn half_written_checkpoints_fall_back_to_the_one_before() {
        let (folder, graph) = (tempfile::tempdir().unwrap(), graph());
        store(folder.path(), &graph, &checkpoint(&graph, 1), 5);
        let last = store(folder.path(), &graph, &checkpoint(&graph, 2), 5);
        let whole = fs::read(&last).unwrap();
        fs::write(folder.path().join(".step-x.partial"), &whole[..1000]).unwrap();
        assert_eq!(newest(folder.path(), &graph).unwrap().0.progress.step, 2);
        for length in [0, 4, 500, whole.len() / 2, whole.len() - 1] {
            fs::write(&last, &whole[..length]).unwrap();
            let (checkpoint, damaged) = newest(folder.path(), &graph).unwrap();
            assert_eq!((checkpoint.progress.step, damaged.len()), (1, 1), "{length}");
            assert!(damaged[0].to_string().contains("step-000000002"));
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(newest(empty.path(), &graph), Err(CheckpointError::None(_))));
    }
}
