//! Writes shards.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use ferroflow_core::{
    Size,
    io::{FlowFormat, IoError, Outputs, frame, outputs::only_holds, write_bytes, write_with},
};
use rayon::prelude::*;

use super::{
    CARD, Card, FIRST, FLOW, Hashing, Manifest, OCCLUSION, SECOND, VALID, checksum, manifest, shard_path, shards_named,
};
use crate::{DataError, Sample, Source, Spec};

/// The result of packing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Number of shards that were written.
    pub written: usize,
    /// Number of shards that were there and whole.
    pub kept: usize,
    /// Number of samples in both.
    pub samples: usize,
}

/// Samples encoded at a time: PNG takes the time, and this many are held in memory.
const BATCH: usize = 16;

/// Writes a data set as `num_shards` shards, or only number `shard` of them, so that as many machines can each write one. Shards
/// that are there with the right checksum are kept, so it can be run again after an interruption.
///
/// # Errors
/// If the numbers contradict each other, the folder holds something else, a sample cannot be read, or a file cannot be written.
pub fn pack(
    spec: &Spec,
    folder: &Path,
    num_shards: usize,
    shard: Option<usize>,
    outputs: &mut Outputs,
) -> Result<Packed, DataError> {
    let wrong = |reason: &str| DataError::Spec { spec: spec.to_string(), reason: reason.into() };
    if num_shards == 0 || shard.is_some_and(|shard| shard >= num_shards) {
        return Err(wrong(&format!("of {num_shards} shards, shard {} cannot be packed", shard.unwrap_or(0))));
    }
    let source = spec.open()?;
    let total = source.len().ok_or_else(|| wrong("an endless data set cannot be packed; end it with count=N"))?;
    if num_shards > total.max(1) {
        return Err(wrong(&format!(
            "{total} samples do not fill {num_shards} shards; take at most one for each sample"
        )));
    }
    only_holds(folder, |name| is_of_packing(name, num_shards))?;
    outputs.reads_all(source.files());
    let mut packed = Packed::default();
    let mut wanted = Vec::new();
    for shard in shard.map_or(0..num_shards, |shard| shard..shard + 1) {
        let start = |shard: usize| (shard as u128 * total as u128 / num_shards as u128) as usize;
        let range = start(shard)..start(shard + 1);
        let path = shard_path(folder, shard, num_shards);
        packed.samples += range.len();
        let same = |m: &Manifest| m.source == spec.to_string() && m.total == total && m.first == range.start;
        if let Some(known) = manifest(&path).filter(same)
            && path.is_file()
            && checksum(&path)? == known.sha256
        {
            packed.kept += 1;
            continue;
        }
        outputs.plan(&path, format!("shard {shard}"))?;
        outputs.plan(path.with_extension("json"), format!("the manifest of shard {shard}"))?;
        wanted.push((path, range));
    }
    outputs.prepare()?;
    fs::create_dir_all(folder).map_err(|e| DataError::io(folder, e))?;
    for (path, range) in wanted {
        let (first, samples) = (range.start, range.len());
        let sha256 = write_shard(&path, &*source, &spec.to_string(), range)?;
        let manifest = Manifest { source: spec.to_string(), total, first, samples, sha256 };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|e| DataError::content(&path, e.to_string()))?;
        write_bytes(path.with_extension("json"), &text)?;
        packed.written += 1;
    }
    Ok(packed)
}

/// Whether a file belongs to a packing into so many shards.
fn is_of_packing(name: &str, num_shards: usize) -> bool {
    let path = Path::new(name);
    name.starts_with("shard-")
        && path.extension().is_some_and(|e| e == "tar" || e == "json")
        && shards_named(path) == Some(num_shards)
}

/// Writes one shard and returns its checksum.
fn write_shard(
    path: &Path,
    source: &dyn Source,
    spec: &str,
    range: std::ops::Range<usize>,
) -> Result<String, DataError> {
    // The writer's own errors are the file's; those of the samples pass around it.
    let mut failed = None;
    let mut sum = String::new();
    let written = write_with(path, |out| {
        let mut tar = tar::Builder::new(Hashing::new(out));
        for start in range.clone().step_by(BATCH) {
            let batch = (start..range.end.min(start + BATCH)).into_par_iter();
            let encoded = batch.map(|index| encode(source.get(index)?, spec)).collect::<Result<Vec<_>, _>>();
            let encoded = encoded.map_err(|error| {
                failed = Some(error);
                io::Error::other("a sample cannot be packed")
            })?;
            for (offset, files) in encoded.iter().enumerate() {
                for (suffix, bytes) in files {
                    append(&mut tar, &format!("{:08}.{suffix}", start + offset), bytes)?;
                }
            }
        }
        sum = tar.into_inner()?.hex();
        Ok(())
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(written.map(|()| sum)?),
    }
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes)
}

/// The files of a sample: suffix and bytes.
fn encode(sample: Sample, spec: &str) -> Result<Vec<(&'static str, Vec<u8>)>, DataError> {
    let failed = |cause| IoError::Format { path: sample.id.clone().into(), cause };
    let Size { height, width } = sample.first.size();
    let png = |image| frame::encode(image, image::ImageFormat::Png).map_err(failed);
    let mut files = vec![(FIRST, png(&sample.first)?), (SECOND, png(&sample.second)?)];
    if let Some(flow) = &sample.flow {
        files.push((FLOW, FlowFormat::Flo.encode(flow).map_err(failed)?));
        if let Some(valid) = flow.validity() {
            files.push((VALID, frame::encode_mask(valid).map_err(failed)?));
        }
    }
    if let Some(occlusion) = &sample.occlusion {
        files.push((OCCLUSION, frame::encode_mask(occlusion).map_err(failed)?));
    }
    let card = Card { id: sample.id.clone(), width, height, source: spec.into() };
    let card = serde_json::to_vec(&card).map_err(|e| DataError::content(&sample.id, e.to_string()))?;
    files.push((CARD, card));
    Ok(files)
}
