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

/// A shared store of tiles, made when first used. At most about 100 MB.
#[derive(Debug, Default)]
pub struct Bank {
    seed: u64,
    /// Pictures given by the user replace the procedural tiles when there are any.
    pub pictures: Vec<Arc<Tile>>,
    /// Cut-outs given by the user, which replace the drawn objects when there are any.
    pub cutouts: Vec<Cutout>,
    tiles: Mutex<HashMap<u64, Arc<OnceLock<Arc<Tile>>>>>,
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
}
