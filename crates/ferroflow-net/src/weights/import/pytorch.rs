//! PyTorch's three containers, through the `pytorch-reader` crate: its unpickler is a table of known constructors, it runs
//! nothing, and it checks every length against the file.
//!
//! On top of it: compressed archive entries are refused (`torch.save` never compresses, so a small file cannot
//! unfold into a large pickle); what tied and expanded tensors may materialise is bounded; and a pickle that names
//! anything outside the libraries checkpoints are made of is refused, although the reader would only ignore it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader};

use super::{Budget, Contents, Element, Format, ImportError, Tensor, foreign, slots};

/// Packages whose types appear in checkpoints beside the weights: settings, paths, numbers, callbacks.
const KNOWN_PACKAGES: [&str; 18] = [
    "torch",
    "collections",
    "numpy",
    "argparse",
    "jsonargparse",
    "pathlib",
    "datetime",
    "_codecs",
    "copyreg",
    "copy_reg",
    "lightning",
    "pytorch_lightning",
    "lightning_fabric",
    "lightning_utilities",
    "omegaconf",
    "ptlflow",
    "typing",
    "enum",
];

/// Harmless constructors of packages that also hold harmful ones.
const KNOWN_BUILTINS: [&str; 14] = [
    "set",
    "frozenset",
    "dict",
    "list",
    "tuple",
    "int",
    "float",
    "bool",
    "str",
    "bytes",
    "bytearray",
    "complex",
    "slice",
    "object",
];

/// Keys under which training scripts keep the weights; the first that is there counts.
const STATE_DICTS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "params"];

/// Keys of weights averaged over training steps, which stand beside the weights themselves or alone.
const AVERAGED: [&str; 7] =
    ["ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema", "params_ema", "averaged_model"];

/// The container, from its magic number.
pub(super) fn detect(head: &[u8]) -> Option<Format> {
    /// 0x1950a86a20f9469cfc6c, little-endian, as the first pickle of a legacy stream holds it.
    const LEGACY: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        Some(Format::PytorchZip)
    } else if head.get(257..262) == Some(b"ustar") {
        Some(Format::PytorchTar)
    } else if head[..head.len().min(64)].windows(LEGACY.len()).any(|w| w == LEGACY) {
        Some(Format::PytorchLegacy)
    } else {
        None
    }
}

/// Every weight of the file, or those under `key`.
pub(super) fn read(path: &Path, format: Format, key: Option<&str>) -> Result<Contents, ImportError> {
    let length = std::fs::metadata(path).map_err(|e| ImportError::io(path, e))?.len();
    let not_weights = |what| ImportError::NotWeights { path: path.to_path_buf(), what };
    if format == Format::PytorchZip {
        if let Some(what) = foreign::by_archive(path) {
            return Err(not_weights(what));
        }
        refuse_compression(path)?;
    }
    // What keeps the reader from reading is often that the file is of another kind.
    let explained = |error: ImportError| match &error {
        ImportError::Io { .. } => error,
        _ => foreign::by_pickle(path).map_or(error, not_weights),
    };
    let mut contents = Contents::default();
    match PytorchReader::read_pickle_data(path, None).map_err(|e| explained(error(path, format, e)))? {
        PickleValue::Dict(root) => {
            root.values().try_for_each(refuse_foreign_code)?;
            notes("", &PickleValue::Dict(root), &mut contents);
        }
        other => {
            let error = refuse_foreign_code(&other).err();
            return Err(explained(
                error.unwrap_or_else(|| ImportError::damaged(format, "its root is not a dictionary")),
            ));
        }
    }
    let tensors = PytorchReader::new(path).map_err(|e| explained(error(path, format, e)))?.into_tensors();
    let tensors: BTreeMap<String, _> = tensors.into_iter().collect();
    if tensors.is_empty()
        && let Some(what) = foreign::by_pickle(path)
    {
        return Err(not_weights(what));
    }
    let within = |key: &str| tensors.keys().any(|n| n.strip_prefix(key).is_some_and(|n| n.starts_with('.')));
    let held: Vec<&str> = STATE_DICTS.into_iter().chain(AVERAGED).filter(|key| within(key)).collect();
    let entry = match key {
        Some(key) if within(key) => Some(key),
        Some(key) => {
            let heads = tensors.keys().filter_map(|name| Some(name.split_once('.')?.0.to_string()));
            let entries: BTreeSet<String> = heads.collect();
            return Err(ImportError::NoEntry {
                path: path.to_path_buf(),
                key: key.to_string(),
                entries: entries.into_iter().take(20).collect(),
            });
        }
        None => held.first().copied(),
    };
    contents.entry = entry.map(Into::into);
    contents.other_entries = held.into_iter().filter(|key| Some(*key) != entry).map(Into::into).collect();
    let state_dict = entry.map(|key| format!("{key}."));

    let mut budget = Budget::new(format, length);
    for (path_in_file, tensor) in &tensors {
        let name = match &state_dict {
            None => path_in_file.as_str(),
            Some(prefix) => path_in_file.strip_prefix(prefix).unwrap_or_default(),
        };
        let element = match tensor.dtype() {
            DType::F16 => Some(Element::F16),
            DType::BF16 => Some(Element::Bf16),
            DType::F32 => Some(Element::F32),
            DType::F64 => Some(Element::F64),
            _ => None,
        };
        let slot = if name.is_empty() {
            // Beside the state_dict.
            Some(slots::slot(path_in_file).unwrap_or(slots::Slot::Other))
        } else {
            slots::slot(name)
        };
        let element = match (slot, element) {
            (None, Some(element)) => element,
            (slot, _) => {
                contents.skipped.count(slot.unwrap_or(slots::Slot::Other));
                continue;
            }
        };
        budget.take(name, tensor.shape())?;
        let bytes = tensor.read().map_err(|e| match e.raw_os_error() {
            Some(_) => ImportError::io(path, e),
            None => ImportError::damaged(format, e.to_string()),
        })?;
        contents.tensors.push(Tensor {
            name: name.to_string(),
            shape: tensor.shape().to_vec(),
            data: element.decode(&bytes),
        });
    }
    Ok(contents)
}

fn refuse_compression(path: &Path) -> Result<(), ImportError> {
    let broken = |e: &dyn std::fmt::Display| ImportError::damaged(Format::PytorchZip, e.to_string());
    let file = File::open(path).map_err(|e| ImportError::io(path, e))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| broken(&e))?;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|e| broken(&e))?;
        if entry.compression() != zip::CompressionMethod::Stored {
            let reason =
                format!("the entry `{}` is compressed, which torch.save never does; save it again", entry.name());
            return Err(ImportError::unsupported(Format::PytorchZip, reason));
        }
    }
    Ok(())
}

fn refuse_foreign_code(value: &PickleValue) -> Result<(), ImportError> {
    match value {
        PickleValue::Dict(items) => items.values().try_for_each(refuse_foreign_code),
        PickleValue::List(items) => items.iter().try_for_each(refuse_foreign_code),
        PickleValue::Unsupported(name) => {
            let (package, rest) = name.split_once('.').unwrap_or((name, ""));
            let known = match package {
                "builtins" | "__builtin__" => KNOWN_BUILTINS.contains(&rest),
                _ => rest.is_empty() || KNOWN_PACKAGES.contains(&package),
            };
            if known { Ok(()) } else { Err(ImportError::ForeignCode { name: name.clone() }) }
        }
        _ => Ok(()),
    }
}

/// Numbers and words beside the weights, two levels deep (`epoch`, `hyper_parameters.div_flow`).
fn notes(name: &str, value: &PickleValue, contents: &mut Contents) {
    match value {
        PickleValue::Int(v) => _ = contents.numbers.insert(name.to_string(), *v as f64),
        PickleValue::Float(v) => _ = contents.numbers.insert(name.to_string(), *v),
        PickleValue::String(v) if v.len() <= 200 => _ = contents.words.insert(name.to_string(), v.clone()),
        PickleValue::Dict(items) if name.is_empty() => {
            items.iter().for_each(|(key, value)| notes(key, value, contents));
        }
        PickleValue::Dict(items) if !name.contains('.') => {
            items.iter().for_each(|(key, value)| notes(&format!("{name}.{key}"), value, contents));
        }
        _ => {}
    }
}

fn error(path: &Path, format: Format, error: PytorchError) -> ImportError {
    match error {
        PytorchError::Io(e) if e.raw_os_error().is_some() => ImportError::io(path, e),
        PytorchError::Pickle(pytorch_reader::PickleError::UnsupportedType(name)) => {
            ImportError::unsupported(format, format!("a tensor kept as `{name}`"))
        }
        other => ImportError::damaged(format, other.to_string()),
    }
}
