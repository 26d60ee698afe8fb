//! Draws the layers of one scene: what they look like and how each moves.

use std::sync::Arc;

use ferroflow_core::Size;

use super::coverage::Point;
use super::develop::{Film, Light, Shadow};
use super::motion::{Homography, Motion, Wave};
use super::preset::{Effects, Movement, Preset};
use super::shape::{self, Piece};
use super::texture::{Bank, Cutout, Material, Tile};
use super::world::World;
use crate::math::{cos_turns, exp2, sin_turns};
use crate::random::{Random, mix};

/// How a part is coloured: a tile under an affine map, then `color * gain + bias`, shaded across the object.
#[derive(Clone, Debug)]
pub struct Paint {
    /// The texture.
    pub tile: Arc<Tile>,
    /// Pixels of frame 1 to texels: `[a, b, c, d, e, f]`, `u = a x + b y + c`, `v = d x + e y + f`.
    pub map: [f32; 6],
    /// Texels per pixel.
    pub density: f32,
    /// Factor per channel.
    pub gain: [f32; 3],
    /// Added per channel, grey levels.
    pub bias: [f32; 3],
    /// Brightness at the origin and its slope per pixel.
    pub shade: (f32, f32, f32),
    /// The texture's alpha cuts the shape.
    pub cutout: bool,
}

/// One painted region of a layer, in pixels of frame 1.
#[derive(Clone, Debug)]
pub struct Part {
    /// Closed contours; none means everywhere.
    pub contours: Vec<Vec<Point>>,
    /// Its colours.
    pub paint: Paint,
}

/// Everything that moves together. The first part owns the pixels; the others only colour them.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Parts, painted in order.
    pub parts: Vec<Part>,
    /// Frame 1 to frame 2.
    pub motion: Motion,
    /// Share of light that it stops. Below 1/2 the flow is that of what lies behind it.
    pub opacity: f32,
}

/// One pair of frames before rendering, layers from back to front.
#[derive(Clone, Debug)]
pub struct Scene {
    /// A world in depth behind the layers.
    pub world: Option<World>,
    /// Background first, if there is no world.
    pub layers: Vec<Layer>,
    /// Exposure as a share of the time between the frames; 0 = no motion blur.
    pub shutter: f32,
    /// How each frame is exposed.
    pub films: [Film; 2],
}

struct Fog {
    color: [f32; 3],
    /// Share of fog at the background.
    depth: f32,
}

impl Scene {
    /// The scene number `index` of a preset and a seed, in frames of `size`.
    pub fn draw(preset: &Preset, bank: &Bank, seed: u64, index: u64, size: Size) -> Self {
        let mut random = Random::new(seed, &[0x5CE7E, index]);
        let full = (size.width as f32, size.height as f32);
        // A scene that scales is drawn for 512x384 pixels' worth of area and enlarged.
        let scale = if preset.relative { (full.0 * full.1 / (512.0 * 384.0)).sqrt() } else { 1.0 };
        let (w, h) = (full.0 / scale, full.1 / scale);
        let effects = preset.effects;
        let shutter = if random.chance(effects.blur_chance) { effects.shutter * random.range(0.2, 1.0) } else { 0.0 };
        let speed = random.log_range(preset.speed.0, preset.speed.1 * 1.0001);
        let fog = random.chance(effects.fog_chance).then(|| {
            let grey = random.range(120.0, 250.0);
            Fog { color: [grey, grey + random.spread(12.0), grey + random.spread(20.0)], depth: random.range(0.1, 0.7) }
        });
        let haze = |depth: f32| fog.as_ref().map(|f| (f.color, f.depth * depth));
        // A scene uses few tiles: real scenes repeat their materials, and few tiles stay in cache.
        let choices: Vec<u64> = (0..6).map(|_| random.bits() >> 8).collect();

        let center = (w / 2.0, h / 2.0);
        let (world, mut layers, map) = if let Some(places) = &preset.places {
            let stream = Random::new(seed, &[0x3D, index]);
            let world = World::draw(stream, bank, index, places, fog.is_some(), shutter, size);
            (Some(world), Vec::new(), Homography::IDENTITY)
        } else {
            let (map, waves) = movement(&mut random, &preset.background, speed, center);
            let backdrop = Motion::new(waves, map);
            let density = random.log_range(0.7, 1.7);
            let tile = tile(&mut random, preset, bank, index, choices[0]);
            let paint = Paint::draw(&mut random, tile, density, center, 1.0, haze(1.0));
            let parts = vec![Part { contours: Vec::new(), paint }];
            (None, vec![Layer { parts, motion: backdrop, opacity: 1.0 }], map)
        };

        let area = (w * h / (512.0 * 384.0)).clamp(0.02, 12.0);
        let count = (random.range(preset.objects.0, preset.objects.1) * area + 0.5) as usize;
        let count = count.clamp(usize::from(world.is_none()), 250);
        for i in 0..count {
            let nearness = i as f32 / count as f32;
            layers.push(object(
                &mut random,
                preset,
                bank,
                index,
                &choices,
                speed,
                (w, h),
                map,
                haze(0.9 - 0.9 * nearness),
            ));
        }
        if scale != 1.0 {
            layers = layers.into_iter().map(|layer| layer.scaled(scale)).collect();
        }
        let light = |random: &mut Random, strength: f32| {
            let gain = 1.0 + random.normal() * strength;
            Light {
                gain: std::array::from_fn(|_| gain * (1.0 + 0.3 * random.normal() * strength)),
                slope: (random.normal() * strength / full.0, random.normal() * strength / full.1),
            }
        };
        let light = [light(&mut random, 0.0), light(&mut random, effects.lighting)];
        let noise = effects.noise * random.unit() * random.unit();
        let key = random.bits();
        let mut films = [0, 1].map(|frame| Film {
            light: light[frame],
            shadow: None,
            gamma: 1.0,
            noise,
            key: mix(key ^ (frame as u64 + 1)),
            quality: None,
        });
        process(&mut films, &effects, Random::new(seed, &[0xF113, index]), full);
        Self { world, layers, shutter, films }
    }
}

/// Shadows, tone curve and compression; their draws are a stream of their own.
fn process(films: &mut [Film; 2], effects: &Effects, mut random: Random, (w, h): Point) {
    if random.chance(effects.shadow_chance) {
        let (edge, depth) = (random.log_range(0.4, 4.0), random.range(0.15, 0.6));
        let mut waves = [(0.0, 0.0, 0.0); 3].map(|_| {
            let (turn, periods) = (random.unit(), random.log_range(0.5, 4.0));
            (periods * cos_turns(turn) / w, periods * sin_turns(turn) / h, random.unit())
        });
        let travel = random.log_range(0.005, 0.2);
        for film in films.iter_mut() {
            film.shadow = Some(Shadow { waves, edge, depth });
            for wave in &mut waves {
                wave.2 += random.spread(travel);
            }
        }
    }
    if random.chance(effects.gamma_chance) {
        let common = random.normal() * 0.25;
        for film in films.iter_mut() {
            film.gamma = exp2(common + random.normal() * 0.12);
        }
    }
    if random.chance(effects.compress_chance) {
        let quality = random.between(30, 90);
        for film in films.iter_mut() {
            film.quality = Some((quality + random.below(5)) as u8);
        }
    }
}

impl Layer {
    /// The same layer in a frame `scale` times as wide and high.
    fn scaled(self, scale: f32) -> Self {
        let parts = self.parts.into_iter().map(|mut part| {
            for p in part.contours.iter_mut().flatten() {
                *p = (p.0 * scale, p.1 * scale);
            }
            // A texture enlarged as much would be blurred, one not enlarged would be another texture: half way.
            let finer = if part.paint.cutout { 1.0 } else { scale.sqrt() };
            for k in [0, 1, 3, 4] {
                part.paint.map[k] *= finer / scale;
            }
            part.paint.density *= finer / scale;
            part.paint.shade.1 /= scale;
            part.paint.shade.2 /= scale;
            part
        });
        Self { parts: parts.collect(), motion: self.motion.scaled(scale), opacity: self.opacity }
    }
}

/// The tile of a choice, by chance one of the materials that repeat.
fn tile(random: &mut Random, preset: &Preset, bank: &Bank, index: u64, choice: u64) -> Arc<Tile> {
    const REPEATING: [Material; 4] = [Material::Checks, Material::Brick, Material::Facade, Material::Asphalt];
    // Without a chance there is no draw: the presets without one stay what they are.
    if preset.materials > 0.0 && random.chance(preset.materials) {
        return bank.material(index, REPEATING[random.below(REPEATING.len())], choice);
    }
    bank.tile(index, choice)
}

/// A clipped power of a normal variable, in `-1..1`.
fn heavy(random: &mut Random, movement: &Movement) -> f32 {
    let g = random.normal();
    (g.abs().powi(movement.power) / movement.at).min(1.0).copysign(g)
}

/// Homography about `center` and shear waves of one layer.
fn movement(random: &mut Random, m: &Movement, speed: f32, center: Point) -> (Homography, Vec<Wave>) {
    let shift = (m.shift * speed * heavy(random, m), m.shift * speed * heavy(random, m));
    let some =
        |random: &mut Random, bound: f32| if random.chance(0.6) { bound * speed * heavy(random, m) } else { 0.0 };
    let rotation = some(random, m.rotation);
    let (zoom, squeeze) = (some(random, m.zoom), some(random, m.zoom * 0.5));
    let mut map = Homography::similarity(center, rotation, (exp2(zoom + squeeze), exp2(zoom - squeeze)), shift);
    if m.tilt > 0.0 && random.chance(0.5) {
        let bound = m.tilt * speed.min(1.0) * 0.01;
        map = Homography::tilt(center, (random.spread(bound), random.spread(bound))).before(map);
    }
    let mut waves = Vec::new();
    if random.chance(m.bend_chance) {
        for _ in 0..random.between(1, 3) {
            let (turn, length) = (random.unit(), random.log_range(90.0, 500.0));
            let slope = m.bend * speed.min(1.0) * random.unit();
            waves.push(Wave {
                normal: (cos_turns(turn), sin_turns(turn)),
                amplitude: slope * length / std::f32::consts::TAU,
                frequency: 1.0 / length,
                phase: random.unit(),
            });
        }
    }
    (map, waves)
}

fn object(
    random: &mut Random,
    preset: &Preset,
    bank: &Bank,
    index: u64,
    choices: &[u64],
    speed: f32,
    (w, h): Point,
    backdrop: Homography,
    haze: Option<([f32; 3], f32)>,
) -> Layer {
    let [mean, spread, low, high] = preset.diameter;
    let diameter = (mean + spread * random.normal()).clamp(low, high);
    if !bank.cutouts.is_empty() {
        return cutout(random, preset, bank, speed, (w, h), diameter, backdrop, haze);
    }
    let is_chair = random.chance(preset.chairs);
    let pieces = if is_chair { shape::chair(random) } else { shape::thing(random) };
    let center = (random.range(-0.1, 1.1) * w, random.range(-0.1, 1.1) * h);
    // Chairs stand; other things lie anyhow.
    let turn = if is_chair { random.spread(0.04) } else { random.unit() };
    let flip = if random.chance(0.5) { -1.0 } else { 1.0 };
    let aspect = random.log_range(0.8, 1.25);
    let (c, s) = (cos_turns(turn) * diameter, sin_turns(turn) * diameter);
    let place = |p: Point| {
        let (x, y) = (p.0 * aspect, p.1 / aspect * flip);
        let (x, y) = if is_chair { (x, y * flip) } else { (x, y) };
        (center.0 + c * x - s * y, center.1 + s * x + c * y)
    };
    let (own, waves) = movement(random, &preset.object, speed, center);
    let motion = Motion::new(waves, own.before(backdrop));
    let paints: Vec<Paint> = (0..3)
        .map(|k| {
            let choice = choices[(1 + random.below(choices.len() - 1) + k) % choices.len()];
            let tile = tile(random, preset, bank, index, choice);
            let density = random.log_range(0.7, 3.0);
            // Painted metal and cloth: many surfaces of furniture are nearly plain.
            let contrast =
                if is_chair && random.chance(0.55) { random.range(0.05, 0.4) } else { random.range(0.5, 1.2) };
            Paint::draw(random, tile, density, center, contrast, haze)
        })
        .collect();
    // Straight motion keeps straight edges; bending motion needs short ones.
    let step = if motion.bends() { 8.0 } else { f32::MAX };
    let part = |piece: &Piece| Part {
        contours: piece
            .contours
            .iter()
            .map(|contour| shape::subdivide(&contour.iter().map(|&p| place(p)).collect::<Vec<_>>(), step))
            .collect(),
        paint: paints[piece.paint % paints.len()].clone().shaded(piece.shade, piece.plain),
    };
    let parts = pieces.iter().map(part).collect();
    let glass = preset.glass > 0.0 && random.chance(preset.glass);
    let opacity = if glass { random.range(0.15, 0.85) } else { 1.0 };
    Layer { parts, motion, opacity }
}

/// An object from a picture: a rectangle whose texture's alpha gives the shape.
fn cutout(
    random: &mut Random,
    preset: &Preset,
    bank: &Bank,
    speed: f32,
    (w, h): Point,
    diameter: f32,
    backdrop: Homography,
    haze: Option<([f32; 3], f32)>,
) -> Layer {
    let Cutout { tile, size } = bank.cutouts[random.below(bank.cutouts.len())].clone();
    let center = (random.range(-0.1, 1.1) * w, random.range(-0.1, 1.1) * h);
    let (turn, flip) = (random.spread(0.06), if random.chance(0.5) { -1.0 } else { 1.0 });
    let (c, s) = (cos_turns(turn), sin_turns(turn));
    let (own, waves) = movement(random, &preset.object, speed, center);
    let motion = Motion::new(waves, own.before(backdrop));
    let mut paint = Paint::draw(random, tile, 1.0, center, 1.0, haze);
    let side = size.width.max(size.height) as f32;
    let density = side / diameter;
    // The tile's centre lies on the object's; texel centres are at whole numbers.
    let middle = 127.5;
    let (a, b, d, e) = (c * density * flip, s * density * flip, -s * density, c * density);
    let offset = (middle - a * center.0 - b * center.1, middle - d * center.0 - e * center.1);
    paint.map = [a, b, offset.0, d, e, offset.1];
    (paint.density, paint.cutout) = (density, true);
    let (rx, ry) = (0.5 * (size.width as f32 + 2.0) / density, 0.5 * (size.height as f32 + 2.0) / density);
    let corner = |x: f32, y: f32| (center.0 + c * x * rx - s * y * ry, center.1 + s * x * rx + c * y * ry);
    let contour = vec![corner(-1.0, -1.0), corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0)];
    let step = if motion.bends() { 8.0 } else { f32::MAX };
    Layer { parts: vec![Part { contours: vec![shape::subdivide(&contour, step)], paint }], motion, opacity: 1.0 }
}

impl Paint {
    fn draw(
        random: &mut Random,
        tile: Arc<Tile>,
        density: f32,
        center: Point,
        contrast: f32,
        haze: Option<([f32; 3], f32)>,
    ) -> Self {
        let turn = random.unit();
        let (c, s) = (cos_turns(turn) * density, sin_turns(turn) * density);
        let offset = (random.range(0.0, 512.0), random.range(0.0, 512.0));
        let mean = tile.mean();
        let brightness = random.log_range(0.7, 1.3);
        let mut gain = [0.0; 3];
        let mut bias = [0.0; 3];
        for k in 0..3 {
            let target = mean[k] * brightness * random.range(0.85, 1.15) + random.spread(12.0);
            gain[k] = contrast * brightness;
            bias[k] = target - mean[k] * gain[k];
            if let Some((color, amount)) = haze {
                gain[k] *= 1.0 - amount;
                bias[k] = bias[k] * (1.0 - amount) + color[k] * amount;
            }
        }
        let (gx, gy) = (random.normal() * 0.0006, random.normal() * 0.0006);
        let shade = (1.0 - gx * center.0 - gy * center.1, gx, gy);
        Self { tile, map: [c, -s, offset.0, s, c, offset.1], density, gain, bias, shade, cutout: false }
    }

    /// The same paint brighter or darker; a plain one shows only the texture's mean.
    fn shaded(mut self, factor: f32, plain: bool) -> Self {
        if plain {
            let mean = self.tile.mean();
            self.bias = std::array::from_fn(|k| self.bias[k] + mean[k] * self.gain[k]);
            self.gain = [0.0; 3];
        }
        self.gain = self.gain.map(|g| g * factor);
        self.bias = self.bias.map(|b| b * factor);
        self
    }
}
