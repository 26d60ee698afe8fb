//! Writes weights for other frameworks, under the reference's names and in its element order. Each container has a file of its own.

mod mindspore;
mod pytorch;
mod tensorflow;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ferroflow_core::io::Replacement;
use safetensors::Dtype;
use safetensors::tensor::{View, serialize_to_file};

use super::store;
use crate::model::{CheckpointLayout, Model};

/// The format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// PyTorch's `.pth.tar`, which every version reads: `load_state_dict(torch.load(path)["state_dict"])`.
    Pytorch,
    /// safetensors under the reference's names and nothing else in it: `load_state_dict(load_file(path))`.
    PytorchSafetensors,
    /// MindSpore's `.ckpt`: `load_param_into_net(net, load_checkpoint(path))`.
    Mindspore,
    /// TensorFlow's V2 bundle, of which the path is the prefix: `saver.restore(session, path)`, or
    /// `tf.train.Checkpoint(...).restore(path)` for UFlow.
    Tensorflow,
}

/// Why weights cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The reference is of another framework.
    #[error(
        "the reference of {network} keeps its weights as {theirs} does, so that no {asked} code could read these: write them for \
         {theirs}"
    )]
    Layout {
        /// The network.
        network: &'static str,
        /// The framework of its reference.
        theirs: &'static str,
        /// The framework that was asked for.
        asked: &'static str,
    },
    /// A file could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The files that [`export`] writes for a path.
pub fn files(path: &Path, target: Target) -> Vec<PathBuf> {
    match target {
        Target::Tensorflow => tensorflow::files(path).into(),
        Target::Pytorch | Target::PytorchSafetensors | Target::Mindspore => vec![path.into()],
    }
}

/// Writes weights; an interrupted write leaves the earlier file.
///
/// # Errors
/// If the reference of the network is of another framework, and if a file cannot be written.
pub fn export(path: &Path, stored: &store::Stored, target: Target) -> Result<(), ExportError> {
    let store::Stored { model, weights, .. } = stored;
    let refused = |theirs, asked| Err(ExportError::Layout { network: model.name, theirs, asked });
    match (target, model.layout) {
        (Target::Pytorch, CheckpointLayout::Hwio) => return refused("TensorFlow", "PyTorch"),
        (Target::Tensorflow, CheckpointLayout::Oihw) => return refused("PyTorch", "TensorFlow"),
        _ => {}
    }
    let arrays = || {
        let arrays = model.graph.params.iter().zip(weights.iter());
        arrays.map(|(param, values)| (param.name.as_str(), Stored::new(model, &param.shape, values)))
    };
    match target {
        Target::Pytorch => written(path, |out| pytorch::write(out, stored, arrays().collect()))?,
        Target::PytorchSafetensors => {
            let file = Replacement::begin(path)?;
            let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
            serialize_to_file(arrays(), Some(metadata), file.path()).map_err(|e| io::Error::other(e.to_string()))?;
            file.finish_durably()?;
        }
        Target::Mindspore => written(path, |out| {
            arrays().try_for_each(|(name, array)| mindspore::write(out, name, &array, mindspore::SLICE))
        })?,
        Target::Tensorflow => tensorflow::write(path, arrays().collect())?,
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn written(path: &Path, write: impl FnOnce(&mut BufWriter<&mut std::fs::File>) -> io::Result<()>) -> io::Result<()> {
    let mut file = Replacement::begin(path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file.file());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    file.finish_durably()
}

/// A parameter as the reference stores it; converted when it is written.
struct Stored<'w> {
    layout: CheckpointLayout,
    /// PyTorch's.
    shape: &'w [usize],
    /// The reference's.
    stored_shape: Vec<usize>,
    values: &'w [f32],
}

impl<'w> Stored<'w> {
    fn new(model: &Model, shape: &'w [usize], values: &'w [f32]) -> Self {
        Self { layout: model.layout, shape, stored_shape: model.layout.stored_shape(shape), values }
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.stored_shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.layout.to_stored(self.shape, self.values).iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}

#[cfg(test)]
mod tests;
