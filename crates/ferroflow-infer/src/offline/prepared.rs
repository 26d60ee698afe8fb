//! A folder of inputs for a runtime, and of the truth beside them.

use std::path::{Path, PathBuf};

use ferroflow_core::{
    Size,
    io::{IoError, MAX_SIDE, read_bytes},
};
use ferroflow_data::sequence::natural_order;

use super::{File, Layout, MANIFEST, Manifest, OfflineError, Pair, TRUTH, array::Format};

/// What is to be known of a folder that holds no `pairs.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hints {
    /// The arrays; `None` for what the folders' names say.
    pub layout: Option<Layout>,
    /// Size of the frames without their padding.
    pub size: Option<Size>,
    /// Sides were padded to multiples of this number of pixels.
    pub stride: usize,
    /// Number of pairs in a file.
    pub batch: usize,
}

impl Default for Hints {
    /// One pair in a file, padded to multiples of 64.
    fn default() -> Self {
        Self { layout: None, size: None, stride: 64, batch: 1 }
    }
}

/// A folder of inputs: which file holds which pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    pub(super) folder: PathBuf,
    /// Where the true flows lie.
    pub(super) truth: PathBuf,
    pub(super) manifest: Manifest,
    /// Whether the files were named by [`super::write_inputs`], and outputs are named after them.
    pub(super) is_named: bool,
}

impl Prepared {
    /// Opens a folder that [`super::write_inputs`] wrote, or one of the same arrays without `pairs.json`, as the references'
    /// scripts write it. Of the latter, `folder` may also be the folder of truth itself; its files are taken in the order of
    /// their names, with numbers as numbers.
    ///
    /// # Errors
    /// If `pairs.json` is damaged, or if there is none and neither the files' names nor `hints` say what it would.
    pub fn open(folder: &Path, hints: &Hints) -> Result<Self, OfflineError> {
        let path = folder.join(MANIFEST);
        if !path.is_file() {
            return Self::from_names(folder, hints);
        }
        let manifest: Manifest = serde_json::from_slice(&read_bytes(&path)?)
            .map_err(|e| OfflineError::Manifest { path: path.clone(), reason: e.to_string() })?;
        check(&manifest).map_err(|reason| OfflineError::Manifest { path, reason })?;
        Ok(Self { folder: folder.into(), truth: folder.join(TRUTH), manifest, is_named: true })
    }

    fn from_names(folder: &Path, hints: &Hints) -> Result<Self, OfflineError> {
        let untold = |reason: String| OfflineError::Untold { folder: folder.into(), reason };
        let below = |root: &Path| {
            let holds = |layout: &Layout| layout.folders().iter().all(|input| root.join(input).is_dir());
            Layout::ALL.into_iter().find(holds)
        };
        let inside = below(folder);
        // Without inputs it is a folder of truth, which may lie beside them.
        let truth = if folder.join(TRUTH).is_dir() || inside.is_some() { folder.join(TRUTH) } else { folder.into() };
        let beside = folder.parent().and_then(below);
        let listed = match inside {
            Some(layout) => folder.join(layout.folders()[0]),
            None => truth.clone(),
        };
        let files = arrays(&listed)?;
        let Some((first, extension)) = files.first() else {
            return Err(untold(format!("there are no .bin or .npy files in {}", listed.display())));
        };
        // alley_1-frames_0001_0002
        let of_pwcnet = first.contains("-frames_").then_some(Layout::Pwcnet);
        let Some(layout) = hints.layout.or(inside).or(beside).or(of_pwcnet) else {
            return Err(untold("say which arrays they are with --layout flownet2, pwcnet or images".into()));
        };
        let Some(size) = hints.size else {
            return Err(untold(
                "say how large the frames are without their padding with --size, as in 436x1024".into(),
            ));
        };
        let padded = size.map(|side| side.next_multiple_of(hints.stride.max(1)));
        let batch = hints.batch.max(1);
        let pairs = |name: &str| -> Vec<Pair> {
            let id = |i| if batch == 1 { name.to_string() } else { format!("{name}#{i}") };
            (0..batch).map(|i| Pair { id: id(i), size }).collect()
        };
        let format = if extension == Format::Npy.extension() { Format::Npy } else { Format::Bin };
        let files = files.iter().map(|(name, _)| File { name: name.clone(), size: padded, pairs: pairs(name) });
        let manifest = Manifest { layout, format, batch, files: files.collect() };
        check(&manifest).map_err(untold)?;
        Ok(Self { folder: folder.into(), truth, manifest, is_named: false })
    }

    /// The arrays of its files.
    pub fn layout(&self) -> Layout {
        self.manifest.layout
    }

    /// Number of its pairs.
    pub fn pairs(&self) -> usize {
        self.manifest.files.iter().map(|file| file.pairs.len()).sum()
    }

    /// The files that hold its inputs.
    pub fn inputs(&self) -> impl Iterator<Item = PathBuf> {
        let folders = self.manifest.layout.folders();
        self.manifest.files.iter().flat_map(move |file| folders.iter().map(|input| self.input(input, file)))
    }

    /// The file of an input.
    pub(super) fn input(&self, input: &str, file: &File) -> PathBuf {
        self.folder.join(input).join(format!("{}.{}", file.name, self.manifest.format.extension()))
    }
}

/// The arrays of a folder in order: name without extension, and extension.
pub(super) fn arrays(folder: &Path) -> Result<Vec<(String, String)>, OfflineError> {
    let fail = |cause| IoError::Io { action: "list", path: folder.into(), cause };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
        if let Some((stem, extension)) = name.rsplit_once('.')
            && [Format::Bin, Format::Npy].map(Format::extension).contains(&extension)
            && !stem.is_empty()
        {
            files.push((stem.to_string(), extension.to_string()));
        }
    }
    files.sort_by(|a, b| natural_order(&a.0, &b.0));
    Ok(files)
}

/// What no array can be.
fn check(manifest: &Manifest) -> Result<(), String> {
    if manifest.files.iter().all(|file| file.pairs.is_empty()) {
        return Err("it names no pairs".into());
    }
    for file in &manifest.files {
        let Size { height: h, width: w } = file.size;
        let fits = |size: Size| size.height <= h && size.width <= w;
        if h.max(w) > MAX_SIDE || manifest.batch > MAX_SIDE || h.min(w).min(manifest.batch) == 0 {
            return Err(format!("file `{}` is of {} pairs of {}", file.name, manifest.batch, file.size));
        }
        if file.pairs.len() > manifest.batch || !file.pairs.iter().all(|p| fits(p.size)) {
            return Err(format!("the sizes of file `{}` contradict each other", file.name));
        }
        if manifest.layout == Layout::Pwcnet && manifest.batch > 1 {
            return Err(OfflineError::Batch { batch: manifest.batch }.to_string());
        }
    }
    Ok(())
}
