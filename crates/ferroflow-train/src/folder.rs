//! The folder of a run: where everything lies.
//!
//! ```text
//! RUN/recipe.toml                 the recipe, every key written out
//! RUN/log.jsonl                   one line of JSON for each report
//! RUN/events/                     the same for TensorBoard, with pictures
//! RUN/checkpoints/step-N...       everything needed to go on
//! RUN/weights/last.safetensors    weights to use; best.safetensors: those of the smallest validation error
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use ferroflow_core::io::{IoError, write_bytes};

use crate::recipe::{Recipe, RecipeError};

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

/// A folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] IoError),
    /// There is a run in it.
    #[error("{} holds a run: go on with --resume {}, or choose another folder", .0.display(), .0.display())]
    Taken(PathBuf),
    /// There is no run in it.
    #[error("{} holds no run (there is no recipe.toml): start one with `ferroflow train RECIPE --out {}`", .0.display(), .0.display())]
    NoRun(PathBuf),
    /// Its recipe cannot be followed, perhaps for the changes.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

impl Folder {
    /// A folder for a new run.
    pub fn create(root: &Path, recipe: &Recipe) -> Result<Self, FolderError> {
        let folder = Self { root: root.into() };
        if folder.recipe().exists() {
            return Err(FolderError::Taken(root.into()));
        }
        for path in [root, &folder.checkpoints(), &folder.weights(), &folder.events()] {
            fs::create_dir_all(path).map_err(|source| FolderError::Io { path: path.into(), source })?;
        }
        folder.write_recipe(recipe)?;
        Ok(folder)
    }

    /// The folder of an earlier run, and its recipe with changes.
    pub fn open<S: AsRef<str>>(root: &Path, changes: &[S]) -> Result<(Self, Recipe), FolderError> {
        let folder = Self { root: root.into() };
        let path = folder.recipe();
        if !path.exists() {
            return Err(FolderError::NoRun(root.into()));
        }
        let text = fs::read_to_string(&path).map_err(|source| FolderError::Io { path: path.clone(), source })?;
        let recipe = Recipe::parse(&path.display().to_string(), &text, changes)?;
        Ok((folder, recipe))
    }

    /// Writes `recipe.toml`.
    pub fn write_recipe(&self, recipe: &Recipe) -> Result<(), FolderError> {
        Ok(write_bytes(self.recipe(), recipe.to_toml().as_bytes())?)
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
}
