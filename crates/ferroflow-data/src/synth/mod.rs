//! An endless supply of image pairs with exact flow and occlusion.
//!
//! A scene is a background and textured objects, layer over layer (`scene`); each layer moves by its own map
//! (`motion`) and is painted with anti-aliased edges into both frames (`render`). The layers' own coordinates are the
//! pixels of frame 1, so the flow is known exactly. Instead of a background there may be planes in space before a camera
//! that moves (`world`). The effects of light, air and storage come last (`develop`, `compress`). Sample `i` depends on the
//! preset, the seed, the size and `i` alone, and only `+ - * /` and square roots are used, so the bytes are the same on every
//! machine and for any number of threads.

mod compress;
pub mod coverage;
pub(crate) mod develop;
pub mod measure;
pub mod motion;
mod preset;
pub(crate) mod render;
pub(crate) mod scene;
mod shape;
pub(crate) mod texture;
mod world;
mod write;

use std::path::Path;
use std::sync::Arc;

use ferroflow_core::Size;
pub use preset::{Effects, Movement, PRESETS, Places, Preset};
use texture::Bank;
pub use write::write;

use crate::DataError;
use crate::sample::{Sample, Source};

/// The generator: a preset, a seed and a size.
#[derive(Clone, Debug)]
pub struct Synth {
    preset: Preset,
    seed: u64,
    size: Size,
    count: Option<usize>,
    bank: Arc<Bank>,
}

impl Synth {
    /// A generator of pairs of `size`.
    pub fn new(preset: Preset, seed: u64, size: Size) -> Self {
        Self { preset, seed, size, count: None, bank: Arc::new(Bank::new(seed)) }
    }

    /// The same scenes with the user's pictures: those in `textures` instead of procedural textures, those in `objects`
    /// (cut out by their alpha channel) instead of drawn objects.
    pub fn with_pictures(mut self, textures: Option<&Path>, objects: Option<&Path>) -> Result<Self, DataError> {
        let mut bank = Bank::new(self.seed);
        if let Some(folder) = textures {
            bank.pictures = texture::textures(folder)?;
        }
        if let Some(folder) = objects {
            bank.cutouts = texture::cutouts(folder)?;
        }
        self.bank = Arc::new(bank);
        Ok(self)
    }

    /// The same generator, which ends after `count` pairs, for evaluation.
    pub fn take(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }

    /// The preset in use.
    pub fn preset(&self) -> &Preset {
        &self.preset
    }

    /// Pair number `index`. Pairs can be made in any order.
    pub fn sample(&self, index: u64) -> Sample {
        let scene = scene::Scene::draw(&self.preset, &self.bank, self.seed, index, self.size);
        let rendered = render::render(&scene, self.size);
        let [first, second] = rendered.frames;
        Sample {
            first,
            second,
            flow: Some(rendered.flow),
            occlusion: Some(rendered.occlusion),
            original: None,
            surround: None,
            id: format!("{}/{index:07}", self.preset.name),
        }
    }
}

impl Source for Synth {
    fn name(&self) -> String {
        format!("synth:{}", self.preset.name)
    }

    fn len(&self) -> Option<usize> {
        self.count
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        Ok(self.sample(index as u64))
    }
}

#[cfg(test)]
mod tests;
