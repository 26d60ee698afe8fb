//! Writes weights for other frameworks, under the reference's names and in its element order.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use ferroflow_core::io::Replacement;
use safetensors::Dtype;
use safetensors::tensor::{View, serialize_to_file};

use super::Weights;
use crate::model::{CheckpointLayout, Model};

/// The format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// safetensors under the reference's names and nothing else in it: `load_state_dict(load_file(path))`.
    PytorchSafetensors,
    /// MindSpore's `.ckpt`: `load_param_into_net(net, load_checkpoint(path))`.
    Mindspore,
}

/// MindSpore splits a tensor above this many bytes.
const MINDSPORE_SLICE: usize = 512 << 20;

/// Writes the weights of `model`; an interrupted write leaves the earlier file.
pub fn export(path: &Path, model: &Model, weights: &Weights, target: Target) -> io::Result<()> {
    let mut file = Replacement::begin(path)?;
    match target {
        Target::PytorchSafetensors => {
            let arrays = model.graph.params.iter().zip(weights.iter());
            let views = arrays.map(|(param, values)| (param.name.as_str(), Stored::new(model, &param.shape, values)));
            let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
            serialize_to_file(views, Some(metadata), file.path()).map_err(|e| io::Error::other(e.to_string()))?;
        }
        Target::Mindspore => {
            let mut out = BufWriter::with_capacity(1 << 20, file.file());
            for (param, values) in model.graph.params.iter().zip(weights.iter()) {
                mindspore(&mut out, &param.name, &Stored::new(model, &param.shape, values), MINDSPORE_SLICE)?;
            }
            out.flush()?;
        }
    }
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

/// Writes one tensor as `Checkpoint.Value`s of at most `slice` bytes, each repeating the full dimensions.
fn mindspore(out: &mut impl Write, name: &str, array: &Stored<'_>, slice: usize) -> io::Result<()> {
    let data = array.data();
    let dims: Vec<u8> = array.shape().iter().flat_map(|&d| [varint(1 << 3), varint(d as u64)].concat()).collect();
    for part in data.chunks(slice) {
        let head = [&dims[..], &field(2, b"Float32"), &varint(3 << 3 | 2), &varint(part.len() as u64)].concat();
        let tag = field(1, name.as_bytes());
        let tensor_size = (head.len() + part.len()) as u64;
        let value_head = [&tag[..], &varint(2 << 3 | 2), &varint(tensor_size)].concat();
        out.write_all(&varint(1 << 3 | 2))?;
        out.write_all(&varint(value_head.len() as u64 + tensor_size))?;
        out.write_all(&value_head)?;
        out.write_all(&head)?;
        out.write_all(part)?;
    }
    Ok(())
}

fn field(number: u64, payload: &[u8]) -> Vec<u8> {
    [&varint(number << 3 | 2), &varint(payload.len() as u64), payload].concat()
}

fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    prost::encoding::encode_varint(value, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Extra;
    use crate::weights::convert;
    use crate::weights::import::{Format, import};

    #[test]
    fn what_goes_out_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        for (name, target, format) in [
            ("lightflow-0.5", Target::PytorchSafetensors, Format::Safetensors),
            ("lightflow-0.5", Target::Mindspore, Format::Mindspore),
            ("uflow-mindspore", Target::Mindspore, Format::Mindspore),
            ("uflow", Target::PytorchSafetensors, Format::Safetensors),
        ] {
            let model = Model::named(name).unwrap();
            let weights = Weights::random(&model.graph, 3);
            let path = folder.path().join("file");
            export(&path, &model, &weights, target).unwrap();
            let file = import(&path).unwrap();
            assert_eq!(file.format, format);
            let back = convert(file, None, Extra::Refuse).unwrap().stored;
            assert_eq!((back.model.name, back.weights), (name, weights));
        }
    }

    #[test]
    fn large_tensors_are_split_as_mindspore_does() {
        let model = Model::named("lightflow-0.5").unwrap();
        let weights = Weights::random(&model.graph, 3);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("split.ckpt");
        let mut bytes = Vec::new();
        for (param, values) in model.graph.params.iter().zip(weights.iter()) {
            mindspore(&mut bytes, &param.name, &Stored::new(&model, &param.shape, values), 1000).unwrap();
        }
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(convert(import(&path).unwrap(), None, Extra::Refuse).unwrap().stored.weights, weights);
    }
}
