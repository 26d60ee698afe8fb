//! The textures of the scenes.

use std::sync::Arc;

use crate::random::Random;
use crate::synth::texture::Tile;
use crate::synth::texture::field::fractal;
use crate::synth::texture::procedural::{Rgb, SIZE, leaves, soften};

/// Texels from one field or brick to the same one again.
const PERIOD: usize = 32;

/// The textures of one seed, which are made once for all cases.
#[derive(Debug)]
pub struct Textures {
    pub(super) seed: u64,
    /// Overlapping patches of all sizes under grain: something to match at every pixel and every scale.
    pub(super) rich: Arc<Tile>,
    /// Another such texture, for objects.
    pub(super) other: Arc<Tile>,
    pub(super) checks: Arc<Tile>,
    pub(super) bricks: Arc<Tile>,
}

impl Textures {
    /// The textures of a seed.
    pub fn new(seed: u64) -> Self {
        let random = |which: u64| Random::new(seed, &[0xCA4D, which]);
        Self {
            seed,
            rich: rich(&mut random(0)),
            other: rich(&mut random(1)),
            checks: periodic(&mut random(2), |x, y| (x / (PERIOD / 2) + y / (PERIOD / 2)).is_multiple_of(2)),
            bricks: periodic(&mut random(3), |x, y| {
                let course = y / (PERIOD / 2);
                let along = x + course % 2 * PERIOD / 2;
                // Mortar of two texels below and beside each brick.
                y % (PERIOD / 2) >= 2 && along % PERIOD >= 2
            }),
        }
    }
}

fn rich(random: &mut Random) -> Arc<Tile> {
    const GRAIN: f32 = 0.4;
    let mut image = leaves(random);
    let grain: [Vec<f32>; 2] = std::array::from_fn(|_| fractal(random, 16, 16, 0.7));
    for (i, color) in image.iter_mut().enumerate() {
        // Brightness mostly, a little of it in colour.
        let (luma, tint) = (255.0 * grain[0][i], 60.0 * (grain[1][i] - 0.5));
        let grain = [luma + tint, luma, luma - tint];
        *color = std::array::from_fn(|k| (1.0 - GRAIN) * color[k].clamp(0.0, 255.0) + GRAIN * grain[k]);
    }
    tile(image)
}

/// Two colours by `pattern`, which repeats after [`PERIOD`] texels either way.
fn periodic(random: &mut Random, pattern: impl Fn(usize, usize) -> bool) -> Arc<Tile> {
    let dark: Rgb = std::array::from_fn(|_| random.range(40.0, 90.0));
    let bright: Rgb = std::array::from_fn(|_| random.range(160.0, 210.0));
    tile((0..SIZE * SIZE).map(|i| if pattern(i % SIZE, i / SIZE) { bright } else { dark }).collect())
}

fn tile(mut image: Vec<Rgb>) -> Arc<Tile> {
    soften(&mut image);
    let byte = |v: f32| (v + 0.5).clamp(0.0, 255.0) as u8;
    Arc::new(Tile::new(SIZE, image.iter().map(|c| [byte(c[0]), byte(c[1]), byte(c[2]), 255]).collect()))
}
