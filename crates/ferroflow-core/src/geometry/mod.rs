//! Between the size of an image and the size a network wants: resizing, fitting to a stride and back, tiling.

mod fit;
pub mod resize;
mod tile;

pub use fit::{Fill, Fit, FitPlan, Place};
pub use resize::Grid;
pub use tile::{Blend, Tile, tiles};
