//! Reads shards, with random access to samples by an index that is made from the tar headers when they are opened.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use ferroflow_core::{
    FlowField, Frame, Mask,
    io::{FormatError, IoError, decode_flow, frame},
};

use super::{CARD, Card, FIRST, FLOW, OCCLUSION, SECOND, VALID, tars};
use crate::{DataError, Sample, Source};

/// Tar files are made of blocks of this many bytes.
const BLOCK: u64 = 512;

/// The samples of a folder of shards.
#[derive(Debug)]
pub struct Shards {
    folder: PathBuf,
    files: Vec<PathBuf>,
    samples: Vec<Entry>,
}

/// Where the files of a sample lie.
#[derive(Debug)]
struct Entry {
    file: usize,
    stem: String,
    /// Suffix to offset and length.
    parts: HashMap<String, (u64, u64)>,
}

impl Shards {
    /// Reads the headers of every shard in a folder.
    ///
    /// # Errors
    /// If there are no shards, or one is damaged or cut short.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let files = tars(folder)?;
        let mut samples = Vec::new();
        for (file, path) in files.iter().enumerate() {
            index(path, file, &mut samples)?;
        }
        Ok(Self { folder: folder.into(), files, samples })
    }

    fn read(&self, entry: &Entry, suffix: &str) -> Result<Option<Vec<u8>>, DataError> {
        let Some(&(offset, length)) = entry.parts.get(suffix) else { return Ok(None) };
        let path = &self.files[entry.file];
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(offset))?;
                file.take(length).read_to_end(&mut bytes)
            })
            .map_err(|e| DataError::io(path, e))?;
        Ok(Some(bytes))
    }

    fn decode<T>(
        &self,
        entry: &Entry,
        suffix: &str,
        decode: impl Fn(&[u8]) -> Result<T, FormatError>,
    ) -> Result<Option<T>, DataError> {
        let Some(bytes) = self.read(entry, suffix)? else { return Ok(None) };
        let path = self.files[entry.file].join(format!("{}.{suffix}", entry.stem));
        Ok(Some(decode(&bytes).map_err(|cause| IoError::Format { path, cause })?))
    }
}

/// Adds the samples of one shard.
fn index(path: &Path, file: usize, samples: &mut Vec<Entry>) -> Result<(), DataError> {
    let failed = |e| DataError::io(path, e);
    let opened = File::open(path).map_err(failed)?;
    let length = opened.metadata().map_err(failed)?.len();
    let mut archive = tar::Archive::new(BufReader::new(opened));
    let start = samples.len();
    let cut = |name: &str| DataError::content(path, format!("cut short {name}; pack or fetch this shard again"));
    let mut end = 0u64;
    for entry in archive.entries_with_seek().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(failed)?.to_string_lossy().into_owned();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        end = offset.saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
        if end > length {
            return Err(cut(&format!("within {name}")));
        }
        // The stem ends at the first dot of the last part of the name, as WebDataset has it.
        let base = name.rfind('/').map_or(0, |slash| slash + 1);
        let Some(dot) = name[base..].find('.') else { continue };
        let (stem, suffix) = (&name[..base + dot], &name[base + dot + 1..]);
        if samples.len() == start || samples.last().is_none_or(|last| last.stem != stem) {
            samples.push(Entry { file, stem: stem.into(), parts: HashMap::new() });
        }
        if let Some(last) = samples.last_mut() {
            last.parts.insert(suffix.into(), (offset, size));
        }
    }
    // Two empty blocks end an archive; without them whole files may be gone.
    if end + 2 * BLOCK > length {
        return Err(cut("after the last file that is there"));
    }
    match samples[start..].iter().find(|s| !s.parts.contains_key(FIRST) || !s.parts.contains_key(SECOND)) {
        Some(broken) => Err(DataError::content(path, format!("sample {} has no {FIRST} or no {SECOND}", broken.stem))),
        None => Ok(()),
    }
}

impl Source for Shards {
    fn name(&self) -> String {
        format!("shards:{}", self.folder.display())
    }

    fn len(&self) -> Option<usize> {
        Some(self.samples.len())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let entry = self.samples.get(index).ok_or_else(|| DataError::Index {
            name: self.name(),
            len: self.samples.len(),
            index,
        })?;
        let needed = |suffix| -> Result<Frame, DataError> {
            let missing = || DataError::content(&self.files[entry.file], format!("{} has no {suffix}", entry.stem));
            self.decode(entry, suffix, frame::decode)?.ok_or_else(missing)
        };
        let (first, second) = (needed(FIRST)?, needed(SECOND)?);
        let card = self.read(entry, CARD)?.and_then(|bytes| serde_json::from_slice::<Card>(&bytes).ok());
        let id = card.map_or_else(|| entry.stem.clone(), |card| card.id);
        let expected = first.size();
        let same = |part, found| {
            if found == expected { Ok(()) } else { Err(DataError::Sizes { id: id.clone(), part, expected, found }) }
        };
        let mask = |part, suffix| {
            let mask: Option<Mask> = self.decode(entry, suffix, frame::decode_mask)?;
            mask.iter().try_for_each(|m| same(part, m.size()))?;
            Ok::<_, DataError>(mask)
        };
        same("second frame", second.size())?;
        let mut flow = self.decode(entry, FLOW, decode_flow)?;
        flow.iter().try_for_each(|f| same("ground truth", f.size()))?;
        if let Some(valid) = mask("mask of validity", VALID)? {
            let known = |f: &FlowField, x, y| f.known(x, y).filter(|_| valid.get(x, y));
            flow = flow.map(|f| FlowField::sparse_from_fn(f.size(), |x, y| known(&f, x, y)));
        }
        let occlusion = mask("mask of occlusions", OCCLUSION)?;
        Ok(Sample { first, second, flow, occlusion, original: None, surround: None, id })
    }
}
