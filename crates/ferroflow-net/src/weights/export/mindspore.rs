//! MindSpore's `.ckpt`: a protobuf message of tensors, written field by field so that the weights are never copied whole.

use std::io::{self, Write};

use safetensors::tensor::View;

use super::Stored;

/// MindSpore splits a tensor above this many bytes.
pub(super) const SLICE: usize = 512 << 20;

/// Writes one tensor as `Checkpoint.Value`s of at most `slice` bytes, each repeating the full dimensions.
pub(super) fn write(out: &mut impl Write, name: &str, array: &Stored<'_>, slice: usize) -> io::Result<()> {
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
    use crate::model::Model;
    use crate::weights::{Extra, Weights, convert, import::import};

    #[test]
    fn large_tensors_are_split_as_mindspore_does() {
        let model = Model::named("lightflow-0.5").unwrap();
        let weights = Weights::random(&model.graph, 3);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("split.ckpt");
        let mut bytes = Vec::new();
        for (param, values) in model.graph.params.iter().zip(weights.iter()) {
            write(&mut bytes, &param.name, &Stored::new(&model, &param.shape, values), 1000).unwrap();
        }
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(convert(import(&path).unwrap(), None, Extra::Refuse).unwrap().stored.weights, weights);
    }
}
