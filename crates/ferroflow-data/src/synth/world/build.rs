//! What the places are built with: skins, faces, boxes.

use super::space::{Plane, Rigid, Vector, clip, dot, plus, rotation, unit};
use super::{Face, Part, Skin, Thing};
use crate::math::{cos_turns, sin_turns};
use crate::random::Random;
use crate::synth::texture::{Bank, Material};

/// How a skin is drawn.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// Any texture.
    Any,
    /// One of a material.
    Of(Material),
    /// A single colour.
    Plain([f32; 3]),
}

/// Order of things behind those that stand about, which are sorted by distance: nothing of a later tier hides anything of an
/// earlier one.
pub mod tier {
    /// Houses and walls that line a street.
    pub const SIDE: f64 = 1e4;
    /// Shadows on the ground.
    pub const SHADOW: f64 = 2e4;
    /// Hills.
    pub const FAR: f64 = 3e4;
    /// The ground.
    pub const GROUND: f64 = 4e4;
    /// The sky.
    pub const SKY: f64 = 5e4;
}

/// Collects the things of a world.
pub struct Builder<'a> {
    pub random: Random,
    pub things: Vec<Thing>,
    /// Colour of the air.
    pub ambient: [f32; 3],
    bank: &'a Bank,
    index: u64,
    /// A place uses few textures, as real ones do.
    choices: [u64; 6],
    sun: Vector,
    /// Brightness away from the sun.
    shade: f32,
}

impl<'a> Builder<'a> {
    pub fn new(mut random: Random, bank: &'a Bank, index: u64) -> Self {
        let choices = std::array::from_fn(|_| random.bits() >> 8);
        let turn = random.unit();
        let height = f64::from(random.range(0.4, 2.0));
        let sun = unit([f64::from(cos_turns(turn)), -height, f64::from(sin_turns(turn))]);
        let grey = random.range(120.0, 240.0);
        let ambient = [grey + random.spread(12.0), grey, grey + random.spread(20.0)];
        let shade = random.range(0.35, 0.85);
        Self { random, things: Vec::new(), ambient, bank, index, choices, sun, shade }
    }

    /// Uniform in `[low, high)`.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * f64::from(self.random.unit())
    }

    /// Log-uniform in `[low, high)`.
    pub fn log_range(&mut self, low: f32, high: f32) -> f64 {
        f64::from(self.random.log_range(low, high))
    }

    /// -1 or 1.
    pub fn side(&mut self) -> f64 {
        if self.random.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// A skin whose tile is `metres` wide.
    pub fn skin(&mut self, look: Look, metres: f64) -> Skin {
        let contrast = if self.random.chance(0.2) { self.random.range(0.05, 0.4) } else { self.random.range(0.6, 1.2) };
        let choice = self.choices[self.random.below(self.choices.len())];
        let tile = match look {
            Look::Of(material) => self.bank.material(self.index, material, choice),
            _ => self.bank.tile(self.index, choice),
        };
        let scale = f64::from(tile.width()) / metres;
        let offset = (self.range(0.0, 512.0), self.range(0.0, 512.0));
        // What is built lies along its edges; other textures lie anyhow.
        let (c, s) = match look {
            Look::Any => {
                let turn = self.random.unit();
                (f64::from(cos_turns(turn)), f64::from(sin_turns(turn)))
            }
            _ => (1.0, 0.0),
        };
        let mean = tile.mean();
        let brightness = self.random.log_range(0.75, 1.3);
        let (mut gain, mut bias) = ([0.0; 3], [0.0; 3]);
        for k in 0..3 {
            let target = mean[k] * brightness * self.random.range(0.9, 1.1);
            gain[k] = contrast * brightness;
            bias[k] = target - mean[k] * gain[k];
        }
        if let Look::Plain(color) = look {
            (gain, bias) = ([0.0; 3], color);
        }
        Skin { tile, map: [c * scale, -s * scale, offset.0, s * scale, c * scale, offset.1], gain, bias }
    }

    /// A colour, mostly weak.
    pub fn color(&mut self) -> [f32; 3] {
        let grey = self.random.range(15.0, 235.0);
        let strength = self.random.unit();
        let hue = self.random.unit();
        let reach = 90.0 * strength * strength;
        std::array::from_fn(|k| (grey + reach * cos_turns(hue + k as f32 / 3.0)).clamp(5.0, 250.0))
    }

    /// The skin in the light that falls on a surface with this normal.
    pub fn lit(&self, skin: &Skin, normal: Vector) -> Skin {
        let facing = dot(normal, self.sun).max(0.0) as f32;
        // Ground reflects: what faces down is darkest.
        let ground = 0.1 * normal[1] as f32;
        shaded(skin, self.shade - ground + (1.15 - self.shade) * facing)
    }

    /// A rectangle from `(0, 0)` to `size` on a plane, lit.
    pub fn rectangle(&self, plane: Plane, size: (f64, f64), skin: &Skin) -> Face {
        self.face(plane, vec![rectangle((0.0, 0.0), size)], skin)
    }

    /// A face with one skin, lit.
    pub fn face(&self, plane: Plane, contours: Vec<Vec<(f64, f64)>>, skin: &Skin) -> Face {
        let skin = self.lit(skin, plane.normal());
        Face { plane, parts: vec![Part { contours, skin }], two_sided: false, opacity: 1.0 }
    }

    /// A box about `center` turned by a rotation: skins of its sides and of its top and bottom. Only what is above the
    /// ground (`y = 0`) is built.
    pub fn solid(&mut self, center: Vector, size: Vector, turn: &super::space::Matrix, skins: [&Skin; 2]) -> Vec<Face> {
        let axis = |i: usize| [turn[i], turn[3 + i], turn[6 + i]];
        let mut faces = Vec::with_capacity(6);
        for side in 0..6 {
            let (k, sign) = (side / 2, if side % 2 == 0 { -1.0 } else { 1.0 });
            let normal = axis(k).map(|v| v * sign);
            // Sides stand upright: their t runs along the body's y.
            let (a, b) = [(2, 1), (0, 2), (0, 1)][k];
            let (mut across, down) = (axis(a), axis(b));
            // `down x across` must point outwards.
            let outwards = dot(super::space::cross(down, across), normal) > 0.0;
            if !outwards {
                across = across.map(|v| -v);
            }
            let origin = plus(plus(plus(center, normal, size[k] * 0.5), across, -size[a] * 0.5), down, -size[b] * 0.5);
            let plane = Plane { origin, across, down };
            let above = [-across[1], -down[1], -origin[1] + 1e-9];
            let contour = clip(&rectangle((0.0, 0.0), (size[a], size[b])), above);
            if contour.len() >= 3 {
                faces.push(self.face(plane, vec![contour], skins[usize::from(k == 1)]));
            }
        }
        faces
    }

    /// Adds a body. Its order is its distance from where the camera stands, within a tier.
    pub fn add(&mut self, faces: Vec<Face>, motion: Rigid, closed: bool, distance: f64) {
        self.things.push(Thing { faces, motion, closed, distance });
    }

    /// Adds a box that stands on the ground.
    pub fn block(&mut self, foot: Vector, size: Vector, yaw: f32, skins: [&Skin; 2], motion: Rigid, distance: f64) {
        let center = plus(foot, [0.0, -0.5 * size[1], 0.0], 1.0);
        let faces = self.solid(center, size, &rotation(yaw, 0.0, 0.0), skins);
        self.add(faces, motion, true, distance);
    }
}

/// A brighter or darker skin.
pub fn shaded(skin: &Skin, factor: f32) -> Skin {
    Skin { gain: skin.gain.map(|g| g * factor), bias: skin.bias.map(|b| b * factor), ..skin.clone() }
}

/// A closed contour about a rectangle.
pub fn rectangle(low: (f64, f64), high: (f64, f64)) -> Vec<(f64, f64)> {
    vec![low, (high.0, low.1), high, (low.0, high.1)]
}

/// A plane that stands upright at `foot`, seen by those who look along `(x, z)`; t runs down to the foot at 0.
pub fn upright(foot: Vector, along: (f64, f64)) -> Plane {
    let forward = unit([along.0, 0.0, along.1]);
    Plane { origin: foot, across: [forward[2], 0.0, -forward[0]], down: [0.0, 1.0, 0.0] }
}

/// The ground, `s` to the right and `t` towards the viewer.
pub fn ground(height: f64) -> Plane {
    Plane { origin: [0.0, height, 0.0], across: [1.0, 0.0, 0.0], down: [0.0, 0.0, -1.0] }
}
