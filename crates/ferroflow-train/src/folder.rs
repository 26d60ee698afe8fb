//! The folder of a run and the files in it.
//!
//! ```text
//! RUN/recipe.toml                 the recipe, every key written out
//! RUN/log.jsonl                   one line of JSON for each report
//! RUN/events/                     the same for TensorBoard, with pictures
//! RUN/checkpoints/step-N...       everything that is needed to continue
//! RUN/weights/last.safetensors    the newest weights; best.safetensors has those of the smallest validation error
//! RUN/weights/best/step-N...      those of the smallest errors, where a recipe keeps several; best.json lists them
//! RUN/weights/teacher.safetensors the weights that the run began with, if a frozen teacher uses them
//! RUN/pictures/step-N-SET.png     for data without truth: frame 1, its flow, and frame 2 brought back along it
//! RUN/lock                        held while a process trains here
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use ferroflow_core::io::{IoError, Replacement, write_bytes, write_durably};

use crate::{
    checkpoint,
    lock::Lock,
    recipe::{Recipe, RecipeError},
};

/// Folder of the best weights, below that of the weights.
const BEST: &str = "best";

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    /// Folders that were not there before, outermost first.
    made: Vec<PathBuf>,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] IoError),
    /// The folder already holds a run.
    #[error("{} holds a run: go on with --resume {}, or choose another folder", .0.display(), .0.display())]
    Taken(PathBuf),
    /// Another process trains in the folder.
    #[error("{}: {process} trains here; wait for it, or choose another folder", .folder.display())]
    Running {
        /// The folder.
        folder: PathBuf,
        /// Number of the process.
        process: String,
    },
    /// A change of the recipe after which its checkpoints would not fit.
    #[error(
        "{key} cannot change on the way: the run in {} was begun with {was}, and its checkpoints fit nothing else; begin \
         another one with --out, from this one's weights with init = \"{}\"",
        .folder.display(), .folder.join("weights/last.safetensors").display()
    )]
    Key {
        /// The folder.
        folder: PathBuf,
        /// The key of the recipe.
        key: &'static str,
        /// Its value so far.
        was: String,
    },
    /// The folder holds no run.
    #[error("{} holds no run (there is no recipe.toml): start one with `ferroflow train RECIPE --out {}`", .0.display(), .0.display())]
    NoRun(PathBuf),
    /// Its recipe, with the changes, cannot be followed.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

impl Folder {
    /// Makes the folder of a new run.
    pub fn create(root: &Path, recipe: &Recipe) -> Result<Self, FolderError> {
        let mut folder = Self { root: root.into(), made: Vec::new() };
        if folder.recipe().exists() {
            Lock::is_free(root)?;
            return Err(FolderError::Taken(root.into()));
        }
        let parts = [folder.checkpoints(), folder.weights(), folder.events()];
        let missing = root.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let mut wanted: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
        wanted.reverse();
        wanted.extend(parts.into_iter().filter(|path| !path.exists()));
        for path in wanted {
            if let Err(source) = fs::create_dir(&path) {
                folder.remove();
                return Err(FolderError::Io { path, source });
            }
            folder.made.push(path);
        }
        let written = folder.write_recipe(recipe);
        if written.is_err() {
            folder.remove();
        }
        written.map(|()| folder)
    }

    /// The folder that another rank has opened.
    pub(crate) fn of_peer(root: &Path) -> Self {
        Self { root: root.into(), made: Vec::new() }
    }

    /// Opens the folder of an earlier run, and reads its recipe with changes.
    pub fn open<S: AsRef<str>>(root: &Path, changes: &[S]) -> Result<(Self, Recipe), FolderError> {
        let folder = Self { root: root.into(), made: Vec::new() };
        let path = folder.recipe();
        if !path.exists() {
            return Err(FolderError::NoRun(root.into()));
        }
        Lock::is_free(root)?;
        let text = fs::read_to_string(&path).map_err(|source| FolderError::Io { path: path.clone(), source })?;
        let recipe = Recipe::parse(&path.display().to_string(), &text, changes)?;
        if checkpoint::is_any(&folder.checkpoints()) && !changes.is_empty() {
            folder.check_changes(&Recipe::parse(&path.display().to_string(), &text, &[""; 0])?, &recipe)?;
        }
        Ok((folder, recipe))
    }

    /// Whether what checkpoints of `was` hold is what `now` needs.
    fn check_changes(&self, was: &Recipe, now: &Recipe) -> Result<(), FolderError> {
        let fail = |key, was| Err(FolderError::Key { folder: self.root.clone(), key, was });
        let (before, after) = (was.model()?, now.model()?);
        if before.name != after.name {
            return fail("model", was.model.clone());
        }
        if before.graph.params != after.graph.params {
            let options: Vec<String> = was.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let options = if options.is_empty() { "none".into() } else { options.join(" ") };
            return fail("options", options);
        }
        if std::mem::discriminant(&was.optimiser) != std::mem::discriminant(&now.optimiser) {
            return fail("optimiser", format!("{:?}", was.optimiser));
        }
        if was.trained(&before) != now.trained(&after) {
            return fail("freeze", format!("{:?}", was.freeze));
        }
        Ok(())
    }

    /// Removes what [`Folder::create`] and a run that never took a step have made, and nothing else.
    pub(crate) fn remove(&self) {
        // What cannot be removed stays: there is an error to report that matters more.
        for file in [self.recipe(), self.log(), Lock::path(&self.root)] {
            let _ = fs::remove_file(file);
        }
        for folder in self.made.iter().rev() {
            if *folder == self.events() {
                files_in(folder).iter().for_each(|file| drop(fs::remove_file(file)));
            }
            let _ = fs::remove_dir(folder);
        }
    }

    /// Removes temporary files that a killed process has left. Only for whoever holds the lock.
    pub(crate) fn sweep(&self) {
        for folder in [self.root.clone(), self.checkpoints(), self.weights(), self.events()] {
            for file in files_in(&folder) {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let partial = name.starts_with(".step-") && name.ends_with(".partial");
                if partial || name.starts_with(".tmp") || name.starts_with(Replacement::PREFIX) {
                    let _ = fs::remove_file(file);
                }
            }
        }
    }

    /// The right to write here, until it is dropped.
    pub(crate) fn lock(&self) -> Result<Lock, FolderError> {
        Lock::take(&self.root)
    }

    /// Writes `recipe.toml`.
    pub fn write_recipe(&self, recipe: &Recipe) -> Result<(), FolderError> {
        Ok(write_durably(self.recipe(), |out| out.write_all(recipe.to_toml().as_bytes()))?)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `recipe.toml`
    pub fn recipe(&self) -> PathBuf {
        self.root.join("recipe.toml")
    }

    /// `log.jsonl`
    pub fn log(&self) -> PathBuf {
        self.root.join("log.jsonl")
    }

    /// `events`
    pub fn events(&self) -> PathBuf {
        self.root.join("events")
    }

    /// `checkpoints`
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// `weights`
    pub fn weights(&self) -> PathBuf {
        self.root.join("weights")
    }

    /// Writes the picture of data set number `set` after a step, `pictures/step-N-SET.png`.
    pub fn write_picture(&self, step: u64, set: usize, png: &[u8]) -> Result<(), FolderError> {
        let folder = self.root.join("pictures");
        fs::create_dir_all(&folder).map_err(|source| FolderError::Io { path: folder.clone(), source })?;
        Ok(write_bytes(folder.join(format!("step-{step:09}-{set}.png")), png)?)
    }

    /// Name of the file below [`weights`](Self::weights) for those of a step that is among the best.
    pub(crate) fn ranked_name(&self, step: u64) -> Result<String, FolderError> {
        let folder = self.weights().join(BEST);
        fs::create_dir_all(&folder).map_err(|source| FolderError::Io { path: folder, source })?;
        Ok(format!("{BEST}/step-{step:09}"))
    }

    /// Lists the best weights, errors with their steps, and removes all other files of them.
    pub(crate) fn write_ranking(&self, ranked: &[(f64, u64)]) -> Result<(), FolderError> {
        let folder = self.weights().join(BEST);
        let kept: Vec<(String, f64)> =
            ranked.iter().map(|(error, step)| (format!("step-{step:09}.safetensors"), *error)).collect();
        let list: Vec<_> =
            kept.iter().map(|(file, error)| serde_json::json!({ "file": file, "error": error })).collect();
        let text = serde_json::to_vec_pretty(&list).expect("names and numbers are JSON");
        write_bytes(folder.join("best.json"), &text)?;
        for file in files_in(&folder) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("step-") && !kept.iter().any(|(kept, _)| *kept == name) {
                fs::remove_file(&file).map_err(|source| FolderError::Io { path: file, source })?;
            }
        }
        Ok(())
    }

    /// Copies the teacher's weights of another run.
    pub fn copy_teacher(&self, from: &Path) -> Result<(), FolderError> {
        let path = self.teacher();
        fs::copy(from, &path).map(|_| ()).map_err(|source| FolderError::Io { path, source })
    }

    /// `weights/teacher.safetensors`
    pub fn teacher(&self) -> PathBuf {
        self.weights().join("teacher.safetensors")
    }
}

/// The files directly in a folder; none if it cannot be listed.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}
