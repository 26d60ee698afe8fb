//! Weight files: safetensors whose metadata name the network, its options and the weights' provenance.
//!
//! Tensors have the reference checkpoint's names and PyTorch's order, as f32 or f16. A file is read from front to back, so
//! weights can be read from memory too.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use ferroflow_core::io::{IoError, write_durably};
use half::f16;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Provenance, Tensor, Weights, WeightsError};
use crate::model::{Model, ModelError};

/// Longest header that is read; that of FlowNet2 has 30 kB.
const MAX_HEADER: u64 = 16 << 20;

pub(super) const MODEL: &str = "ferroflow.model";
pub(super) const OPTIONS: &str = "ferroflow.options";

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// Single precision, unchanged.
    F32,
    /// Rounded to half precision, for a file of half the size.
    F16,
}

/// What a weight file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The network they belong to.
    pub model: Model,
    /// Its weights.
    pub weights: Weights,
    /// Where they come from.
    pub provenance: Provenance,
}

/// The head of a weight file.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The network they belong to.
    pub model: Model,
    /// Where they come from.
    pub provenance: Provenance,
    /// The arrays, in the order of the file.
    pub tensors: Vec<TensorInfo>,
}

/// One array of a weight file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Name in the reference checkpoint.
    pub name: String,
    /// Dimensions, in PyTorch's order.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub precision: Precision,
}

/// Why a weight file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened. No text of this error names the file; the caller does.
    #[error(transparent)]
    Open(std::io::Error),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] IoError),
    /// Not a safetensors file, or a damaged one.
    #[error("not a readable safetensors file: {reason}")]
    Format {
        /// What is wrong.
        reason: String,
    },
    /// A safetensors file that does not say for which network it is.
    #[error("the file does not say for which network its weights are; convert it with `ferroflow weights import`")]
    NoModel,
    /// The network it names does not exist here.
    #[error("the file names a network that is not known here: {0}")]
    Model(#[from] ModelError),
    /// The arrays are not those of the network it names.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

fn format_error(reason: impl Into<String>) -> StoreError {
    StoreError::Format { reason: reason.into() }
}

/// Reads a weight file.
pub fn read(path: &Path) -> Result<Stored, StoreError> {
    let file = File::open(path).map_err(StoreError::Open)?;
    read_from(BufReader::with_capacity(1 << 20, file))
}

/// Reads a weight file from memory or a stream.
pub fn read_from(mut reader: impl Read) -> Result<Stored, StoreError> {
    let header = read_header_from(&mut reader)?;
    let mut tensors = Vec::with_capacity(header.tensors.len());
    // The header was checked against the network's table: no array is larger than the network says.
    for info in header.tensors {
        let data = read_values(&mut reader, info.shape.iter().product(), info.precision)
            .map_err(|e| format_error(format!("`{}` ends early ({e})", info.name)))?;
        tensors.push((info.name, Tensor { shape: info.shape, data }));
    }
    match reader.read(&mut [0]) {
        Ok(0) => {}
        _ => return Err(format_error("there is more in it than its header says")),
    }
    let weights = Weights::new(&header.model.graph, tensors)?;
    Ok(Stored { model: header.model, weights, provenance: header.provenance })
}

/// Reads only the head of a weight file.
pub fn read_header(path: &Path) -> Result<Header, StoreError> {
    let file = File::open(path).map_err(StoreError::Open)?;
    read_header_from(&mut BufReader::new(file))
}

#[derive(Deserialize)]
struct RawHeader {
    #[serde(rename = "__metadata__", default)]
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, RawTensor>,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

fn read_header_from(reader: &mut impl Read) -> Result<Header, StoreError> {
    let mut length = [0; 8];
    reader.read_exact(&mut length).map_err(|_| format_error("it is shorter than 8 bytes"))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(format_error(format!("its header claims {length} bytes")));
    }
    let mut text = Vec::new();
    reader.take(length).read_to_end(&mut text).map_err(|e| format_error(e.to_string()))?;
    if text.len() as u64 != length {
        return Err(format_error("its header ends early"));
    }
    let raw: RawHeader = serde_json::from_slice(&text).map_err(|e| format_error(format!("its header: {e}")))?;

    let name = raw.metadata.get(MODEL).ok_or(StoreError::NoModel)?;
    let options: BTreeMap<String, String> = match raw.metadata.get(OPTIONS) {
        Some(text) => serde_json::from_str(text).map_err(|e| format_error(format!("{OPTIONS}: {e}")))?,
        None => BTreeMap::new(),
    };
    let model = Model::with_options(name, &options)?;
    super::check(&model.graph, raw.tensors.iter().map(|(name, t)| (name.as_str(), t.shape.as_slice())))?;

    let mut in_order: Vec<(String, RawTensor)> = raw.tensors.into_iter().collect();
    in_order.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut at = 0;
    let mut tensors = Vec::with_capacity(in_order.len());
    for (name, RawTensor { dtype, shape, data_offsets }) in in_order {
        let (precision, bytes) = match dtype.as_str() {
            "F32" => (Precision::F32, 4),
            "F16" => (Precision::F16, 2),
            other => return Err(format_error(format!("`{name}` is stored as {other}, not F32 or F16"))),
        };
        // The shape is that of the network's table, so the product cannot overflow.
        let end = at + bytes * shape.iter().product::<usize>() as u64;
        if data_offsets != (at, end) {
            return Err(format_error(format!("`{name}` does not lie where its shape says")));
        }
        at = end;
        tensors.push(TensorInfo { name, shape, precision });
    }
    Ok(Header { model, provenance: Provenance::from_entries(&raw.metadata), tensors })
}

fn read_values(reader: &mut impl Read, count: usize, precision: Precision) -> std::io::Result<Vec<f32>> {
    let mut values = vec![0.0f32; count];
    match precision {
        Precision::F32 => {
            reader.read_exact(bytemuck::cast_slice_mut(&mut values))?;
            if cfg!(target_endian = "big") {
                values.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
            }
        }
        Precision::F16 => {
            let mut bytes = [0; 8192];
            for part in values.chunks_mut(bytes.len() / 2) {
                let bytes = &mut bytes[..2 * part.len()];
                reader.read_exact(bytes)?;
                for (value, pair) in part.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = f16::from_le_bytes([pair[0], pair[1]]).to_f32();
                }
            }
        }
    }
    Ok(values)
}

/// Writes a weight file; an interrupted write leaves the earlier file. The same contents give the same bytes.
pub fn write(
    path: &Path,
    model: &Model,
    weights: &Weights,
    provenance: &Provenance,
    precision: Precision,
) -> Result<(), StoreError> {
    let (dtype, bytes) = match precision {
        Precision::F32 => ("F32", 4),
        Precision::F16 => ("F16", 2),
    };
    // Sorted keys: the safetensors crate takes its metadata in a hash map, whose order is another one in every run.
    let mut header = BTreeMap::from([("__metadata__", metadata(model, provenance)?)]);
    let mut at = 0;
    for param in &model.graph.params {
        let end = at + bytes * param.len();
        header.insert(&param.name, json!({ "dtype": dtype, "shape": param.shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut header = serde_json::to_string(&header).map_err(|e| format_error(e.to_string()))?;
    // The data begin at a multiple of 8.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));

    Ok(write_durably(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        weights.iter().try_for_each(|values| out.write_all(&stored(values, precision)))
    })?)
}

fn metadata(model: &Model, provenance: &Provenance) -> Result<Value, StoreError> {
    let options = serde_json::to_string(&model.options).map_err(|e| format_error(e.to_string()))?;
    let mut metadata = provenance.entries();
    metadata.insert(MODEL.into(), model.name.into());
    metadata.insert(OPTIONS.into(), options);
    Ok(json!(metadata))
}

/// The bytes of an array.
fn stored(values: &[f32], precision: Precision) -> Cow<'_, [u8]> {
    match precision {
        Precision::F32 if cfg!(target_endian = "little") => bytemuck::cast_slice(values).into(),
        Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Precision::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> (Model, Weights, Provenance) {
        let model = Model::parse("lightflow-0.5", ["div-flow=1"]).unwrap();
        let weights = Weights::random(&model.graph, 7);
        let provenance = Provenance {
            license: Some("CC0-1.0".into()),
            metrics: [("synth/epe".to_string(), 0.25)].into(),
            notes: [("made".to_string(), "for a test".to_string())].into(),
            ..Provenance::default()
        };
        (model, weights, provenance)
    }

    fn written(precision: Precision) -> Vec<u8> {
        let (model, weights, provenance) = small();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        write(&path, &model, &weights, &provenance, precision).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let (model, weights, provenance) = small();
        let stored = read_from(&written(Precision::F32)[..]).unwrap();
        assert_eq!(stored, Stored { model, weights, provenance });
    }

    #[test]
    fn what_is_written_is_safetensors_and_the_same_again() {
        let bytes = written(Precision::F32);
        assert!(bytes == written(Precision::F32));
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), small().0.graph.params.len());
    }

    #[test]
    fn half_precision_rounds_each_value_once() {
        let (_, weights, _) = small();
        let stored = read_from(&written(Precision::F16)[..]).unwrap();
        for (full, half) in weights.iter().flatten().zip(stored.weights.iter().flatten()) {
            assert_eq!(f16::from_f32(*full).to_f32(), *half);
        }
    }

    #[test]
    fn truncated_files_are_refused() {
        let bytes = written(Precision::F16);
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for end in (0..header).chain((header..bytes.len()).step_by(9973)).chain([bytes.len() - 1]) {
            assert!(read_from(&bytes[..end]).is_err(), "{end}");
        }
        assert!(read_from(&[&bytes[..], &[0]].concat()[..]).is_err(), "one byte too many");
    }

    #[test]
    fn hostile_headers_are_refused() {
        let file = |header: &str| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        assert!(matches!(read_from(&u64::MAX.to_le_bytes()[..]), Err(StoreError::Format { .. })));
        assert!(matches!(read_from(&file("{")[..]), Err(StoreError::Format { .. })));
        assert!(matches!(read_from(&file("{}")[..]), Err(StoreError::NoModel)));
        let huge = r#"{"__metadata__":{"ferroflow.model":"lightflow"},"conv1.0.weight":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,1]}}"#;
        assert!(matches!(read_from(&file(huge)[..]), Err(StoreError::Weights(_))));
        let unknown = r#"{"__metadata__":{"ferroflow.model":"flownet9"}}"#;
        assert!(matches!(read_from(&file(unknown)[..]), Err(StoreError::Model(_))));
    }
}
