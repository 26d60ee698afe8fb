//! A camera that moves through textured depth: planes in space, each with rigid motion, seen by two pinhole cameras.
//!
//! Every surface is a piece of a plane, so what it does between the frames is a homography and its flow is exact. Surfaces
//! are painted nearest first, each through what the nearer ones leave free. The order is drawn once for both frames: an
//! object that overtakes another keeps its place, and occlusion is that of the pictures made. Where a surface of frame 1
//! has gone behind the camera, or further than the frame is wide and high together, its flow is marked unknown.

mod build;
mod paint;
mod place;
mod prop;
mod space;

use std::sync::Arc;

use ferroflow_core::Size;

pub use paint::Stage;
use space::{Camera, Plane, Rigid};

use super::preset::Places;
use super::texture::{Bank, Tile};
use crate::random::Random;

/// How a surface is coloured: a tile under an affine map, then `color * gain + bias`.
#[derive(Clone, Debug)]
struct Skin {
    tile: Arc<Tile>,
    /// Metres to texels: `[a, b, c, d, e, f]`, `u = a s + b t + c`, `v = d s + e t + f`.
    map: [f64; 6],
    gain: [f32; 3],
    bias: [f32; 3],
}

/// A region of a plane with one skin.
#[derive(Clone, Debug)]
struct Part {
    /// Closed contours in metres, counted by winding number.
    contours: Vec<Vec<(f64, f64)>>,
    skin: Skin,
}

/// A piece of a plane.
#[derive(Clone, Debug)]
struct Face {
    plane: Plane,
    /// Painted in order.
    parts: Vec<Part>,
    /// Seen from behind as well.
    two_sided: bool,
    /// Share of light that it stops. Below 1/2 the flow is that of what lies behind it.
    opacity: f32,
}

/// Faces of one body, none of which hides another.
#[derive(Clone, Debug)]
struct Thing {
    faces: Vec<Face>,
    /// From frame 1 to frame 2, in the world.
    motion: Rigid,
    /// Faces meet at edges: what shows between them is painted in the first one's colour.
    closed: bool,
    /// Order from the camera.
    distance: f64,
}

/// Air that takes the colour of distant surfaces.
#[derive(Clone, Copy, Debug)]
pub struct Haze {
    /// What everything fades to, grey levels.
    pub color: [f32; 3],
    /// Halvings of the contrast per metre.
    pub density: f32,
}

/// A scene in space and two moments of a camera.
#[derive(Clone, Debug)]
pub struct World {
    /// Nearest first.
    things: Vec<Thing>,
    cameras: [Camera; 2],
    haze: Option<Haze>,
    /// Exposure as a share of the time between the frames.
    shutter: f32,
    /// Colour where there is no surface.
    ambient: [f32; 3],
}

impl World {
    /// A street, a room or an open place with a camera and its motion.
    pub fn draw(
        random: Random,
        bank: &Bank,
        index: u64,
        places: &Places,
        foggy: bool,
        shutter: f32,
        size: Size,
    ) -> Self {
        let mut builder = build::Builder::new(random, bank, index);
        let kind = builder.random.unit();
        let (cameras, foggy) = if kind < places.street {
            (place::street(&mut builder, size), foggy)
        } else if kind < places.street + places.room {
            (place::room(&mut builder, size), false)
        } else {
            (place::open(&mut builder, size), foggy)
        };
        let reach = builder.random.log_range(15.0, 400.0);
        let haze = foggy.then(|| Haze { color: builder.ambient, density: 1.0 / reach });
        let ambient = builder.ambient;
        let mut things = builder.things;
        things.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        Self { things, cameras, haze, shutter, ambient }
    }
}
