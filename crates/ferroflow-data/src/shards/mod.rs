//! Shards: a data set as a few large files that any number of machines can write and read.
//!
//! Shards are WebDataset tar files. The files of one sample share a stem and follow each other: `NNNNNNNN.img1.png`, `.img2.png`,
//! `.flow.flo`, `.valid.png` (sparse ground truth only), `.occ.png`, `.json` (name, size, origin). Beside each
//! `shard-IIIII-of-NNNNN.tar` lies a manifest `.json` with its checksum, which is written last, so a shard with a manifest is
//! whole.
//!
//! A shard's bytes depend on the data set, its place and the number of shards alone.

mod pack;
mod read;

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use pack::{Packed, pack};
pub use read::Shards;

use crate::DataError;

/// The manifest of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The data set that was packed, as the user spelled it.
    pub source: String,
    /// Number of samples in the whole data set.
    pub total: usize,
    /// Index of the first sample of this shard.
    pub first: usize,
    /// Number of samples in this shard.
    pub samples: usize,
    /// SHA-256 of the tar file, hexadecimal.
    pub sha256: String,
}

/// What belongs to each sample besides its pictures and flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Card {
    id: String,
    width: usize,
    height: usize,
    source: String,
}

/// Suffixes of the files of a sample.
const FIRST: &str = "img1.png";
const SECOND: &str = "img2.png";
const FLOW: &str = "flow.flo";
const VALID: &str = "valid.png";
const OCCLUSION: &str = "occ.png";
const CARD: &str = "json";

fn shard_path(folder: &Path, shard: usize, of: usize) -> PathBuf {
    folder.join(format!("shard-{shard:05}-of-{of:05}.tar"))
}

/// How many shards the name says there are.
fn shards_named(path: &Path) -> Option<usize> {
    path.file_stem()?.to_str()?.rsplit_once("-of-")?.1.parse().ok()
}

/// The tar files of a folder, sorted.
fn tars(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| DataError::io(folder, e))? {
        let path = entry.map_err(|e| DataError::io(folder, e))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|e| e == "tar") {
            files.push(path);
        }
    }
    files.sort();
    match files.first() {
        None => Err(DataError::content(folder, "there are no shards (.tar) in this folder")),
        Some(first) => match files.iter().find(|f| shards_named(f) != shards_named(first)) {
            Some(other) => {
                let reason = "is of another packing than the first shard here; keep one packing a folder";
                Err(DataError::content(other, reason))
            }
            None => Ok(files),
        },
    }
}

/// Compares every shard with its checksum and returns the faults, one line for each.
///
/// # Errors
/// If the folder cannot be listed or holds no shards.
pub fn verify(folder: &Path) -> Result<Vec<String>, DataError> {
    let files = tars(folder)?;
    let mut faults = Vec::new();
    for path in &files {
        match manifest(path) {
            None => faults.push(format!("{}: no readable manifest; pack this shard again", path.display())),
            Some(known) if checksum(path)? != known.sha256 => {
                faults.push(format!("{}: its bytes have changed; pack or fetch this shard again", path.display()));
            }
            Some(_) => {}
        }
    }
    // A count out of a file name is no length to go through: what is absent is counted, and the first one named.
    if let Some(of) = files.first().and_then(|f| shards_named(f)).filter(|&of| of > files.len()) {
        let absent = (0..of).map(|i| shard_path(folder, i, of)).find(|path| !path.is_file());
        let name = absent.map(|path| path.display().to_string()).unwrap_or_default();
        faults.push(format!("{} of {of} shards are not here, the first is {name}", of - files.len()));
    }
    Ok(faults)
}

/// The manifest beside a shard, if it can be read.
fn manifest(tar: &Path) -> Option<Manifest> {
    serde_json::from_slice(&fs::read(tar.with_extension("json")).ok()?).ok()
}

fn checksum(path: &Path) -> Result<String, DataError> {
    let mut file = File::open(path).map_err(|e| DataError::io(path, e))?;
    let mut hashing = Hashing::new(io::sink());
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(|e| DataError::io(path, e))?;
        if count == 0 {
            return Ok(hashing.hex());
        }
        hashing.write_all(&buffer[..count]).map_err(|e| DataError::io(path, e))?;
    }
}

/// Passes bytes on and sums them up.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    fn hex(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Spec,
        datasets::tests::{Tree, chairs, sintel},
    };

    fn pack(spec: &Spec, folder: &Path, num_shards: usize, shard: Option<usize>) -> Result<Packed, DataError> {
        super::pack(spec, folder, num_shards, shard, &mut Default::default())
    }

    #[test]
    fn what_is_packed_comes_back() {
        for (tree, text) in [(sintel(), "sintel-clean:{root}@train,invalid"), (sintel(), "sintel-clean:{root}@test")] {
            let out = Tree::new();
            let packed = pack(&tree.spec(text), &out.path("s"), 3, None).unwrap();
            assert_eq!((packed.written, packed.kept, packed.samples), (3, 0, 4));
            let (original, shards) = (tree.open(text).unwrap(), out.open("shards:{root}/s").unwrap());
            assert_eq!(shards.len(), Some(4));
            for i in 0..4 {
                assert_eq!(shards.get(i).unwrap(), original.get(i).unwrap());
            }
            assert!(matches!(shards.get(4), Err(DataError::Index { .. })));
            assert!(crate::check(&out.spec("shards:{root}/s")).is_whole());
        }
    }

    #[test]
    fn packing_goes_on_where_it_stopped_and_repairs() {
        let (tree, out) = (chairs(), Tree::new());
        let spec = tree.spec("chairs:{root}");
        let folder = out.path("s");
        for shard in 0..2 {
            assert_eq!(pack(&spec, &folder, 2, Some(shard)).unwrap().written, 1);
        }
        let bytes: Vec<_> = (0..2).map(|i| fs::read(shard_path(&folder, i, 2)).unwrap()).collect();
        assert_eq!(pack(&spec, &folder, 2, None).unwrap(), Packed { written: 0, kept: 2, samples: 4 });
        fs::write(shard_path(&folder, 1, 2), &bytes[1][..700]).unwrap();
        assert!(verify(&folder).unwrap()[0].contains("changed"));
        assert_eq!(pack(&spec, &folder, 2, None).unwrap().written, 1);
        assert_eq!(fs::read(shard_path(&folder, 1, 2)).unwrap(), bytes[1]);
        // A part of the shards is a data set too, and verification says so.
        fs::remove_file(shard_path(&folder, 0, 2)).unwrap();
        assert_eq!(out.samples("shards:{root}/s").len(), 2);
        assert!(verify(&folder).unwrap()[0].contains("1 of 2 shards"));
    }

    #[test]
    fn wrong_requests_and_mixed_folders_are_refused() {
        let (tree, out) = (chairs(), Tree::new());
        let spec = tree.spec("chairs:{root}");
        let folder = out.path("s");
        for (num, shard) in [(0, None), (2, Some(2))] {
            assert!(pack(&spec, &folder, num, shard).unwrap_err().to_string().contains("shard"));
        }
        assert!(pack(&tree.spec("synth:chairs"), &folder, 1, None).unwrap_err().to_string().contains("count="));
        pack(&spec, &folder, 1, None).unwrap();
        assert!(pack(&spec, &folder, 2, None).is_err());
        // Shards of shards into their own folder would be written over what is being read.
        let error = pack(&out.spec("shards:{root}/s"), &folder, 1, None).unwrap_err().to_string();
        assert!(error.contains("over the input"), "{error}");
        fs::write(out.path("notes.txt"), "mine").unwrap();
        assert!(pack(&spec, &out.path("."), 1, None).unwrap_err().to_string().contains("notes.txt"));
        assert!(out.open("shards:{root}").err().unwrap().to_string().contains("no shards"));
    }

    #[test]
    fn every_truncation_is_refused() {
        let (tree, out) = (chairs(), Tree::new());
        let folder = out.path("s");
        pack(&tree.spec("chairs:{root}"), &folder, 1, None).unwrap();
        let path = shard_path(&folder, 0, 1);
        let bytes = fs::read(&path).unwrap();
        for length in (0..bytes.len()).step_by(97).chain((0..bytes.len()).step_by(512)) {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(out.open("shards:{root}/s").is_err(), "{length}");
        }
    }
}
