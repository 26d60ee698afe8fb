//! Reads the named `f32` tensors of foreign checkpoints.
//!
//! Each container format has a file of its own. A reader of a container knows nothing about networks: it lists what a file
//! holds, in the file's own names and element order, without optimiser slots and counters, which inference does not need.
//! [`super::names`] decides which network the tensors belong to.
//!
//! A checkpoint is untrusted input: nothing in it is executed, every length is checked against the bytes that are
//! really there before memory is asked for, and the values may not take more than [`EXPANSION`] times the file's size.

mod error;
mod foreign;
mod mindspore;
mod pytorch;
mod safetensors;
mod slots;
pub(super) mod tensorflow;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use error::ImportError;
pub use slots::{Skipped, Slot};

/// Most bytes of `f32` values for each byte of a file: half precision doubles its size, and tied weights are repeated.
pub const EXPANSION: u64 = 8;

/// The container of a checkpoint, found from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `torch.save` since 1.6: a zip archive of a pickle and raw storages.
    PytorchZip,
    /// `torch.save` from 0.1.10 to 1.5: pickles, then raw storages.
    PytorchLegacy,
    /// `torch.save` before 0.1.10: a tar archive.
    PytorchTar,
    /// TensorFlow's V2 bundle, an index and data shards, as `tf.train.Saver` and `tf.train.Checkpoint` write it.
    TensorflowBundle,
    /// MindSpore's `.ckpt`, a protobuf message.
    Mindspore,
    /// safetensors, written by any program.
    Safetensors,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PytorchZip => "PyTorch (zip)",
            Self::PytorchLegacy => "PyTorch (legacy stream)",
            Self::PytorchTar => "PyTorch (tar)",
            Self::TensorflowBundle => "TensorFlow V2 bundle",
            Self::Mindspore => "MindSpore checkpoint",
            Self::Safetensors => "safetensors",
        })
    }
}

/// A tensor of a foreign checkpoint, in the file's own name and element order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The name in the file.
    pub name: String,
    /// Dimensions, as stored.
    pub shape: Vec<usize>,
    /// Values, row-major over `shape`.
    pub data: Vec<f32>,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The model's tensors, sorted by name.
    pub tensors: Vec<Tensor>,
    /// Numbers of tensors that were left out.
    pub skipped: Skipped,
    /// The key under which a training checkpoint keeps these tensors.
    pub entry: Option<String>,
    /// Further keys under which it keeps weights, such as averaged ones; [`import_entry`] takes those.
    pub other_entries: Vec<String>,
    /// Numbers beside the weights: `epoch`, `global_step`, `best_EPE`, `div_flow`, ...
    pub numbers: BTreeMap<String, f64>,
    /// Words beside the weights: `arch`, the metadata of a safetensors file, ...
    pub words: BTreeMap<String, String>,
}

/// A foreign checkpoint with its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Its container.
    pub format: Format,
    /// Name of the file (for a TensorFlow bundle: the prefix of its files).
    pub source: String,
    /// SHA-256 of the file, in lower-case hexadecimal; for a bundle, of its index followed by its shards.
    pub sha256: String,
    /// What it holds.
    pub contents: Contents,
}

impl Imported {
    /// Epochs of training, if the file says.
    pub fn epoch(&self) -> Option<u64> {
        self.counter(&["epoch"])
    }

    /// Steps of training, if the file says.
    pub fn step(&self) -> Option<u64> {
        self.counter(&["global_step", "optimizer_step", "step"])
    }

    /// Measured errors beside the weights (`best_EPE`, `val_loss`, ...), without values that were never measured (1e10).
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let is_metric = |name: &str| {
            let name = name.to_ascii_lowercase();
            ["epe", "loss", "score", "acc", "fl-all", "fl_all"].iter().any(|word| name.contains(word))
        };
        let numbers = &self.contents.numbers;
        let measured = |v: f64| v.is_finite() && v.abs() < 1e9;
        numbers.iter().filter(|(k, v)| is_metric(k) && measured(**v)).map(|(k, v)| (k.clone(), *v)).collect()
    }

    fn counter(&self, names: &[&str]) -> Option<u64> {
        let value = *names.iter().find_map(|n| self.contents.numbers.get(*n))?;
        (value >= 0.0 && value <= u64::MAX as f64).then_some(value as u64)
    }
}

/// Reads a checkpoint in one of the known formats, whatever its extension.
///
/// `path` may also name a TensorFlow bundle by its prefix, its index, one of its shards, or the directory whose
/// `checkpoint` file points to it.
///
/// If a file has several state dicts, the one named `state_dict`, `model`, ... is read, or averaged weights (`model_ema`, ...) if
/// there are no others.
pub fn import(path: &Path) -> Result<Imported, ImportError> {
    import_entry(path, None)
}

/// As [`import`], but reads the weights under `key` if one is given, such as `state_dict_ema`.
///
/// # Errors
/// As [`import`], and if there are no weights under that key.
pub fn import_entry(path: &Path, key: Option<&str>) -> Result<Imported, ImportError> {
    let path = tensorflow::locate(path)?;
    let format = detect(&path)?;
    let mut files = vec![path.clone()];
    let contents = match format {
        Format::PytorchZip | Format::PytorchLegacy | Format::PytorchTar => pytorch::read(&path, format, key)?,
        Format::Safetensors => with_file(&path, safetensors::read)?,
        Format::Mindspore => with_file(&path, mindspore::read)?,
        Format::TensorflowBundle => {
            let (contents, shards) = tensorflow::read(&path)?;
            files.extend(shards);
            contents
        }
    };
    let contents = match (format, key) {
        (Format::Safetensors | Format::Mindspore | Format::TensorflowBundle, Some(key)) => under(contents, key, &path)?,
        _ => contents,
    };
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let source = match format {
        Format::TensorflowBundle => name.trim_end_matches(".index").to_string(),
        _ => name,
    };
    Ok(Imported { format, source, sha256: sha256(&files)?, contents })
}

/// The container of a file, from its first bytes.
pub fn detect(path: &Path) -> Result<Format, ImportError> {
    let at = |source| ImportError::io(path, source);
    let mut file = File::open(path).map_err(at)?;
    let length = file.metadata().map_err(at)?.len();
    let mut head = Vec::new();
    file.by_ref().take(512).read_to_end(&mut head).map_err(at)?;
    pytorch::detect(&head)
        .or_else(|| safetensors::detect(&head, length))
        .or_else(|| tensorflow::detect(&mut file, length))
        .or_else(|| mindspore::detect(&head, length))
        .ok_or_else(|| match foreign::by_head(&head) {
            Some(what) => ImportError::NotWeights { path: path.to_path_buf(), what },
            None => ImportError::UnknownFormat { path: path.to_path_buf() },
        })
}

/// The tensors whose names begin with `key`, a dot or a slash, without that; of a format whose names are flat.
fn under(mut contents: Contents, key: &str, path: &Path) -> Result<Contents, ImportError> {
    let rest = |name: &str| Some(name.strip_prefix(key)?.strip_prefix(['.', '/'])?.to_string());
    let heads = contents.tensors.iter().filter_map(|t| Some(t.name.split_once(['.', '/'])?.0.to_string()));
    let entries: std::collections::BTreeSet<String> = heads.collect();
    let all = contents.tensors.len();
    contents.tensors =
        contents.tensors.into_iter().filter_map(|t| Some(Tensor { name: rest(&t.name)?, ..t })).collect();
    contents.skipped.other += all - contents.tensors.len();
    contents.entry = Some(key.to_string());
    if contents.tensors.is_empty() {
        let entries = entries.into_iter().take(20).collect();
        return Err(ImportError::NoEntry { path: path.to_path_buf(), key: key.to_string(), entries });
    }
    Ok(contents)
}

fn with_file(
    path: &Path,
    read: impl FnOnce(&mut io::BufReader<File>, u64) -> Result<Contents, ImportError>,
) -> Result<Contents, ImportError> {
    let file = File::open(path).map_err(|e| ImportError::io(path, e))?;
    let length = file.metadata().map_err(|e| ImportError::io(path, e))?.len();
    read(&mut io::BufReader::with_capacity(1 << 16, file), length)
}

fn sha256(files: &[PathBuf]) -> Result<String, ImportError> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    for path in files {
        let at = |source| ImportError::io(path, source);
        let mut file = File::open(path).map_err(at)?;
        loop {
            match file.read(&mut chunk).map_err(at)? {
                0 => break,
                n => hash.update(&chunk[..n]),
            }
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Bytes of values that a file of some length may still ask for.
struct Budget {
    format: Format,
    left: u64,
}

impl Budget {
    fn new(format: Format, file_length: u64) -> Self {
        Self { format, left: file_length.saturating_mul(EXPANSION).saturating_add(4096) }
    }

    /// Takes the `f32` values of a tensor of this shape; returns how many there are.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<usize, ImportError> {
        let values = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        match values {
            Some(n) if (n as u64).checked_mul(4).is_some_and(|bytes| bytes <= self.left) => {
                self.left -= 4 * n as u64;
                Ok(n)
            }
            _ => Err(ImportError::TooLarge { format: self.format, name: name.to_string(), shape: shape.to_vec() }),
        }
    }
}

/// Element types a checkpoint's weights come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    F16,
    Bf16,
    F32,
    F64,
}

impl Element {
    fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Little-endian bytes to values, rounded once.
    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|b| f(*b)).collect()
        }
        match self {
            Self::F16 => each(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => each(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

/// `count` bytes of `reader`, in steps, so that a length that lies asks for no more memory than the bytes there are.
fn read_bytes(reader: &mut impl Read, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(count.min(1 << 20) as usize);
    reader.take(count).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == count { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
pub(crate) mod tests;
