//! The textures within reach of a sample: a window that slides over an endless series of tiles.
//!
//! Tile `n` is a pure function of the seed and `n`. Sample `i` may use tiles `i / PACE` to `i / PACE + WINDOW`, so any
//! sample can be made alone, neighbours share nearly all their tiles, and a long training never runs out of new ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use super::{Cutout, Tile, procedural};

/// Tiles in reach of one sample.
const WINDOW: u64 = 40;
/// Samples per new tile.
const PACE: u64 = 24;

/// What a surface of the world is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Material {
    /// Road or concrete: fine and nearly grey.
    Asphalt,
    /// Grass, hedges, crowns of trees.
    Foliage,
    /// Storeys with windows, four by four.
    Facade,
    /// Courses of bricks.
    Brick,
    /// A chequerboard of tiles.
    Checks,
    /// Boards.
    Wood,
    /// Sky, clear or clouded.
    Sky,
}

/// Tiles of one material in reach of a sample, and samples per new one.
const MATERIALS: (u64, u64) = (4, 192);

/// A shared store of tiles, made when first used. At most about 100 MB.
#[derive(Debug, Default)]
pub struct Bank {
    seed: u64,
    /// Pictures given by the user replace the procedural tiles when there are any.
    pub pictures: Vec<Arc<Tile>>,
    /// Cut-outs given by the user, which replace the drawn objects when there are any.
    pub cutouts: Vec<Cutout>,
    tiles: Mutex<HashMap<u64, Arc<OnceLock<Arc<Tile>>>>>,
    materials: Mutex<HashMap<(Material, u64), Arc<OnceLock<Arc<Tile>>>>>,
}

impl Bank {
    /// The procedural tiles of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Tile `choice` (any number) among those in reach of sample `index`.
    pub fn tile(&self, index: u64, choice: u64) -> Arc<Tile> {
        if !self.pictures.is_empty() {
            return self.pictures[(choice % self.pictures.len() as u64) as usize].clone();
        }
        let base = index / PACE;
        let id = base + choice % WINDOW;
        let cell = {
            // A poisoned lock only means that another thread panicked; the map itself is always whole.
            let mut tiles = self.tiles.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if tiles.len() as u64 > WINDOW + WINDOW / 2 {
                tiles.retain(|&key, _| key + WINDOW / 4 >= base && key <= base + WINDOW);
            }
            tiles.entry(id).or_default().clone()
        };
        cell.get_or_init(|| Arc::new(procedural::tile(self.seed, id))).clone()
    }

    /// A tile of a material, `choice` (any number) among those in reach of sample `index`.
    pub fn material(&self, index: u64, material: Material, choice: u64) -> Arc<Tile> {
        if !self.pictures.is_empty() {
            return self.pictures[(choice % self.pictures.len() as u64) as usize].clone();
        }
        let base = index / MATERIALS.1;
        let id = base + choice % MATERIALS.0;
        let cell = {
            let mut tiles = self.materials.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if tiles.len() as u64 > 7 * (MATERIALS.0 + 2) {
                tiles.retain(|key, _| key.1 + 1 >= base && key.1 <= base + MATERIALS.0);
            }
            tiles.entry((material, id)).or_default().clone()
        };
        cell.get_or_init(|| Arc::new(procedural::material(self.seed, id, material))).clone()
    }
}
