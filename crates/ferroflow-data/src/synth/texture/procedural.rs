//! Procedural tiles: colour noise, cells, stripes, bricks, and "dead leaves", whose overlapping textured patches of all
//! sizes have the edges and the 1/f spectrum of photographs (Lee, Mumford and Huang 2001; Baradad et al. 2021).

use super::field::{Field, bricks, cells, fractal, plaid, posterize, stripes};
use super::{Material, Tile};
use crate::math::{cos_turns, floor, sin_turns};
use crate::random::Random;

/// Texels along a tile's side.
pub const SIZE: usize = 512;

pub(crate) type Rgb = [f32; 3];

/// A colour as found in photographs: any brightness, mostly weak saturation.
fn color(random: &mut Random) -> Rgb {
    let luma = random.range(12.0, 240.0);
    let strength = random.unit();
    let saturation = strength * strength * strength * 1.1 + 0.05;
    let hue = random.unit();
    let reach = luma.min(255.0 - luma) * 0.6 + 40.0;
    std::array::from_fn(|k| (luma + reach * saturation * cos_turns(hue + k as f32 / 3.0) * 1.4).clamp(0.0, 255.0))
}

/// A gradient of a few colours, `t` in 0..1.
struct Palette(Vec<Rgb>);

impl Palette {
    fn draw(random: &mut Random) -> Self {
        let n = random.between(2, 5);
        let base = color(random);
        let varied = random.range(0.3, 1.0);
        let stops = (0..n).map(|_| {
            let c = color(random);
            std::array::from_fn(|k| base[k] + (c[k] - base[k]) * varied)
        });
        Self(stops.collect())
    }

    fn at(&self, t: f32) -> Rgb {
        let p = t.clamp(0.0, 0.9999) * (self.0.len() - 1) as f32;
        let i = p as usize;
        let f = p - i as f32;
        std::array::from_fn(|k| self.0[i][k] + (self.0[i + 1][k] - self.0[i][k]) * f)
    }
}

/// The procedural tile number `id` of a seed.
pub fn tile(seed: u64, id: u64) -> Tile {
    let mut random = Random::new(seed, &[0x7E87, id]);
    let mut image = match random.below(12) {
        0 | 1 => noise(&mut random),
        2 => mapped(&mut random, cells),
        3 => {
            let (warp, sharp) = (random.range(0.0, 3.0), random.range(0.8, 4.0));
            mapped(&mut random, |r| stripes(r, warp, sharp))
        }
        4 => mapped(&mut random, |r| if r.chance(0.5) { bricks(r) } else { plaid(r) }),
        5 => grain(&mut random),
        _ => leaves(&mut random),
    };
    finish(&mut image)
}

/// Tile number `id` of a material and a seed.
pub fn material(seed: u64, id: u64, material: Material) -> Tile {
    let mut random = Random::new(seed, &[0x3A7E, material as u64, id]);
    let r = &mut random;
    let mut image = match material {
        Material::Asphalt => {
            let (base, cast) = (r.range(60.0, 170.0), r.spread(10.0));
            let (grain, stains) = (fractal(r, 64, 64, 0.95), fractal(r, 4, 4, 0.5));
            let (fine, coarse) = (r.range(40.0, 110.0), r.range(5.0, 50.0));
            let level = |i: usize| base + fine * (grain[i] - 0.5) + coarse * (stains[i] - 0.5);
            (0..SIZE * SIZE).map(|i| [level(i) + cast, level(i), level(i) - cast]).collect()
        }
        Material::Foliage => {
            let dry = r.unit();
            let dark = [20.0 + 30.0 * dry, 35.0, 15.0];
            let bright = [110.0 + 90.0 * dry, r.range(120.0, 190.0), r.range(40.0, 90.0)];
            let (cells, persistence) = (1 << r.between(3, 5), r.range(0.7, 0.95));
            let field = fractal(r, cells, cells, persistence);
            let at = |f: f32, k: usize| dark[k] + (bright[k] - dark[k]) * (1.5 * f - 0.25).clamp(0.0, 1.0);
            field.iter().map(|&f| std::array::from_fn(|k| at(f, k))).collect()
        }
        Material::Facade => facade(r),
        Material::Brick => mapped(r, bricks),
        Material::Checks => {
            let (n, colors) = (r.between(2, 8), [color(r), color(r)]);
            let dirt = fractal(r, 8, 8, 0.7);
            let square = |i: usize| (i % SIZE * 2 * n / SIZE + i / SIZE * 2 * n / SIZE) % 2;
            (0..SIZE * SIZE).map(|i| add(colors[square(i)], [50.0; 3], dirt[i] - 0.5)).collect()
        }
        Material::Wood => grain(r),
        Material::Sky => {
            let clear = [r.range(70.0, 160.0), r.range(120.0, 190.0), r.range(190.0, 245.0)];
            let cloud = [r.range(190.0, 255.0); 3];
            let (field, cover) = (fractal(r, 4, 2, 0.5), r.range(-0.8, 0.4));
            let at = |f: f32, k: usize| clear[k] + (cloud[k] - clear[k]) * (2.0 * f + cover).clamp(0.0, 1.0);
            field.iter().map(|&f| std::array::from_fn(|k| at(f, k))).collect()
        }
    };
    finish(&mut image)
}

/// Four storeys of four windows in a wall of plaster or brick.
fn facade(random: &mut Random) -> Vec<Rgb> {
    let wall = color(random);
    let surface = if random.chance(0.4) { bricks(random) } else { fractal(random, 8, 8, 0.8) };
    let stains = fractal(random, 4, 4, 0.5);
    let (rough, dirty) = (random.range(5.0, 60.0), random.range(5.0, 60.0));
    let (half_width, half_height) = (random.range(0.18, 0.4), random.range(0.22, 0.4));
    let frame = color(random);
    let bars = random.below(3);
    let ledge = random.chance(0.5);
    let panes: Vec<(f32, f32)> = (0..16).map(|_| (random.range(15.0, 120.0), random.spread(40.0))).collect();
    (0..SIZE * SIZE)
        .map(|i| {
            let (x, y) = ((i % SIZE) as f32 * (4.0 / SIZE as f32), (i / SIZE) as f32 * (4.0 / SIZE as f32));
            let (dx, dy) = (x - (x as usize) as f32 - 0.5, y - (y as usize) as f32 - 0.5);
            let (ex, ey) = (dx.abs() - half_width, dy.abs() - half_height);
            let pane = panes[(y as usize * 4 + x as usize) % 16];
            let (across, along) = (dx.abs() < 0.015, dy.abs() < 0.012);
            if ex < 0.0 && ey < 0.0 {
                let edge = ex > -0.03 || ey > -0.03 || (bars > 0 && across) || (bars > 1 && along);
                let glass = pane.0 + pane.1 * dy + 25.0 * stains[i];
                if edge { frame } else { [glass * 0.95, glass, glass * 1.08] }
            } else if ledge && dy > 0.46 {
                frame.map(|c| c * 0.8)
            } else {
                add(add(wall, [rough; 3], surface[i] - 0.5), [dirty; 3], stains[i] - 0.5)
            }
        })
        .collect()
}

fn finish(image: &mut [Rgb]) -> Tile {
    soften(image);
    let texels = image.iter().map(|c| [to_byte(c[0]), to_byte(c[1]), to_byte(c[2]), 255]).collect();
    Tile::new(SIZE, texels)
}

fn to_byte(v: f32) -> u8 {
    (v + 0.5).clamp(0.0, 255.0) as u8
}

/// Clouds, marble, soil: fractal noise through a palette, the channels partly independent.
fn noise(random: &mut Random) -> Vec<Rgb> {
    let persistence = random.range(0.42, 0.72);
    let cells = 1 << random.between(1, 3);
    let mut field = fractal(random, cells, cells, persistence);
    if random.chance(0.25) {
        posterize(&mut field, random.range(4.0, 9.0));
    }
    let other = fractal(random, 4, 4, persistence);
    let palette = Palette::draw(random);
    let tint = color(random).map(|c| (c - 127.0) * random.range(0.0, 0.5));
    field.iter().zip(&other).map(|(&f, &o)| add(palette.at(f * 1.2 - 0.1), tint, o - 0.5)).collect()
}

fn add(c: Rgb, tint: Rgb, amount: f32) -> Rgb {
    std::array::from_fn(|k| c[k] + tint[k] * amount)
}

/// A pattern through a palette, dirtied by fractal noise.
fn mapped(random: &mut Random, pattern: impl Fn(&mut Random) -> Field) -> Vec<Rgb> {
    let field = pattern(random);
    let dirt = fractal(random, 8, 8, random.clone().range(0.5, 0.85));
    let palette = Palette::draw(random);
    let amount = random.range(10.0, 90.0);
    field.iter().zip(&dirt).map(|(&f, &d)| add(palette.at(f), [amount; 3], d - 0.5)).collect()
}

/// Wood, grass, brushed metal: noise stretched along one axis.
fn grain(random: &mut Random) -> Vec<Rgb> {
    let (fine, coarse) = (1 << random.between(4, 6), 1 << random.between(1, 2));
    let persistence = random.range(0.45, 0.75);
    let field = if random.chance(0.5) {
        fractal(random, fine, coarse, persistence)
    } else {
        fractal(random, coarse, fine, persistence)
    };
    let palette = Palette::draw(random);
    field.iter().map(|&f| palette.at(f * 1.3 - 0.15)).collect()
}

/// Dead leaves: textured, shaded patches of power-law sizes thrown on each other.
pub(crate) fn leaves(random: &mut Random) -> Vec<Rgb> {
    let fields: Vec<Field> = (0..4)
        .map(|i| match (i, random.below(4)) {
            (0, _) => fractal(random, 4, 4, 0.5),
            (1, _) => fractal(random, 16, 16, 0.75),
            (_, 0) => cells(random),
            (_, 1) => plaid(random),
            (_, 2) => stripes(random, 0.6, 1.5),
            _ => fractal(random, 64, 4, 0.6),
        })
        .collect();
    let palette: Vec<Rgb> = (0..random.between(4, 9)).map(|_| color(random)).collect();
    let mut image: Vec<Rgb> = {
        let ground = Palette::draw(random);
        fields[0].iter().map(|&f| ground.at(f)).collect()
    };
    let count = random.between(60, 700);
    let (smallest, largest) = (random.range(4.0, 12.0), random.range(70.0, 190.0));
    // Large ones first on average, so that small ones stay visible.
    let mut radii: Vec<f32> = (0..count)
        .map(|_| {
            // Density r^-3 between the two bounds, by inversion.
            let (a, b) = (1.0 / (smallest * smallest), 1.0 / (largest * largest));
            1.0 / (a + (b - a) * random.unit()).sqrt()
        })
        .collect();
    if random.chance(0.7) {
        radii.sort_by(|a, b| b.total_cmp(a));
    }
    for radius in radii {
        leaf(random, &mut image, radius, &fields, &palette);
    }
    image
}

/// One patch: an ellipse, a box or a lobed blob at a random place, filled from one of the fields.
fn leaf(random: &mut Random, image: &mut [Rgb], radius: f32, fields: &[Field], palette: &[Rgb]) {
    let (cx, cy) = (random.range(0.0, SIZE as f32), random.range(0.0, SIZE as f32));
    let turn = random.unit();
    let (c, s) = (cos_turns(turn), sin_turns(turn));
    let squeeze = random.range(1.0, 2.5);
    let boxy = random.below(3);
    let lobes = (random.spread(0.35), random.between(2, 5) as f32, random.unit());
    let field = &fields[random.below(fields.len())];
    let (base, other) = (palette[random.below(palette.len())], color(random));
    let contrast = random.range(0.1, 0.8);
    let (gx, gy) = (random.spread(0.5), random.spread(0.5));
    let inverse = 1.0 / radius;
    let reach = radius * 1.45 + 1.0;
    for y in floor(cy - reach)..=floor(cy + reach) {
        let row = (y & (SIZE as i32 - 1)) as usize * SIZE;
        for x in floor(cx - reach)..=floor(cx + reach) {
            let (dx, dy) = ((x as f32 - cx) * inverse, (y as f32 - cy) * inverse);
            let (u, v) = (c * dx + s * dy, (c * dy - s * dx) * squeeze);
            let distance = match boxy {
                0 => u.abs().max(v.abs()),
                1 => (u * u + v * v).sqrt(),
                _ => (u * u + v * v).sqrt() * (1.0 + lobes.0 * cos_turns(lobes.1 * (u + v) * 0.3 + lobes.2)),
            };
            let alpha = ((1.0 - distance) * radius).clamp(0.0, 1.0);
            if alpha > 0.0 {
                let at = row + (x & (SIZE as i32 - 1)) as usize;
                let shade = 1.0 + gx * dx + gy * dy;
                let mix = (field[at] - 0.3) * contrast;
                for k in 0..3 {
                    let value = (base[k] + (other[k] - base[k]) * mix) * shade;
                    image[at][k] += (value - image[at][k]) * alpha;
                }
            }
        }
    }
}

/// A binomial blur of three texels each way: a lens, and no detail finer than bilinear sampling can carry.
pub(crate) fn soften(image: &mut [Rgb]) {
    let mut row = vec![[0.0; 3]; SIZE];
    for y in 0..SIZE {
        let line = &mut image[y * SIZE..][..SIZE];
        row.copy_from_slice(line);
        for x in 0..SIZE {
            let (a, b) = (row[(x + SIZE - 1) % SIZE], row[(x + 1) % SIZE]);
            line[x] = std::array::from_fn(|k| 0.5 * row[x][k] + 0.25 * (a[k] + b[k]));
        }
    }
    let first: Vec<Rgb> = image[..SIZE].to_vec();
    let mut above: Vec<Rgb> = image[(SIZE - 1) * SIZE..].to_vec();
    for y in 0..SIZE {
        for x in 0..SIZE {
            let here = image[y * SIZE + x];
            let below = if y + 1 < SIZE { image[(y + 1) * SIZE + x] } else { first[x] };
            image[y * SIZE + x] = std::array::from_fn(|k| 0.5 * here[k] + 0.25 * (above[x][k] + below[k]));
            above[x] = here;
        }
    }
}
