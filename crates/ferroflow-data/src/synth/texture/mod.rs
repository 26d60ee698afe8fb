//! Textures: periodic RGBA tiles with their coarser levels, sampled bilinearly.

mod bank;
pub(crate) mod field;
mod picture;
pub(crate) mod procedural;

use crate::math::round;

pub use bank::{Bank, Material};
pub use picture::{Cutout, cutouts, textures};

/// A periodic square image, 8 bits a channel, red green blue alpha, with coarser levels.
#[derive(Debug)]
pub struct Tile {
    /// Each half as wide as the one before.
    levels: Vec<Level>,
    /// How many of them [`Tile::sampler`] chooses from: what faces the camera is never so far that the others matter.
    near: usize,
    mean: [f32; 4],
}

#[derive(Debug)]
struct Level {
    mask: i32,
    shift: u32,
    texels: Vec<[u8; 4]>,
}

/// One level of a tile, with the factor from the tile's texels to its own.
#[derive(Clone, Copy)]
pub struct Sampler<'a> {
    level: &'a Level,
    /// Texels of this level per texel of the finest one: 1, 1/2, 1/4, ...
    pub factor: f32,
}

impl Tile {
    /// A tile from `size * size` texels; `size` is a power of two.
    pub fn new(size: usize, texels: Vec<[u8; 4]>) -> Self {
        debug_assert!(size.is_power_of_two() && texels.len() == size * size);
        let mut levels = vec![Level { mask: size as i32 - 1, shift: size.trailing_zeros(), texels }];
        let mut near = 1;
        while levels[levels.len() - 1].mask > 3 {
            near += usize::from(levels.len() < 5 && levels[levels.len() - 1].mask > 31);
            let fine = &levels[levels.len() - 1];
            let half = (fine.mask as usize).div_ceil(2);
            let mut texels = Vec::with_capacity(half * half);
            for y in 0..half {
                for x in 0..half {
                    let at = |dx: usize, dy: usize| fine.texels[(2 * y + dy) * half * 2 + 2 * x + dx];
                    let (a, b, c, d) = (at(0, 0), at(1, 0), at(0, 1), at(1, 1));
                    texels.push(std::array::from_fn(|k| {
                        ((u32::from(a[k]) + u32::from(b[k]) + u32::from(c[k]) + u32::from(d[k]) + 2) / 4) as u8
                    }));
                }
            }
            levels.push(Level { mask: half as i32 - 1, shift: half.trailing_zeros(), texels });
        }
        let coarsest = &levels[near - 1].texels;
        let mut mean = [0.0; 4];
        for texel in coarsest {
            for k in 0..4 {
                mean[k] += f32::from(texel[k]) / coarsest.len() as f32;
            }
        }
        Self { levels, near, mean }
    }

    /// The level whose texels are nearest to pixels when a pixel spans `texels_per_pixel` texels of the finest.
    pub fn sampler(&self, texels_per_pixel: f32) -> Sampler<'_> {
        let mut level = 0;
        while level + 1 < self.near && texels_per_pixel > 1.45 * (1u32 << level) as f32 {
            level += 1;
        }
        Sampler { level: &self.levels[level], factor: 1.0 / (1u32 << level) as f32 }
    }

    /// A sampler of one level, and `(u, v)` of the finest level brought near the origin and to that level's texels.
    #[inline(always)]
    fn level(&self, u: f32, v: f32, level: usize) -> (Sampler<'_>, f32, f32) {
        let factor = 1.0 / (1u32 << level) as f32;
        // Whole periods change nothing and would overflow the samplers' fixed point.
        let period = (self.levels[0].mask + 1) as f32;
        let wrap = |c: f32| (c - period * round((c / period).clamp(-2e6, 2e6))) * factor;
        // Texel centres are at whole numbers: those of a coarser level lie between four finer ones.
        let shift = 0.5 * factor - 0.5;
        (Sampler { level: &self.levels[level], factor }, wrap(u) + shift, wrap(v) + shift)
    }

    /// Colour at `(u, v)` of the finest level, from the level nearest to `2^level` texels a pixel.
    #[inline(always)]
    pub fn nearest(&self, u: f32, v: f32, level: f32) -> [f32; 4] {
        let level = ((level + 0.5).max(0.0) as usize).min(self.levels.len() - 1);
        let (sampler, u, v) = self.level(u, v, level);
        sampler.at(u, v)
    }

    /// Colour at `(u, v)` of the finest level where a pixel spans `2^level` texels, between the two levels next to that.
    #[inline(always)]
    pub fn trilinear(&self, u: f32, v: f32, level: f32) -> [f32; 4] {
        let level = level.clamp(0.0, (self.levels.len() - 1) as f32);
        let fine = level as usize;
        let (sampler, x, y) = self.level(u, v, fine);
        let first = sampler.at(x, y);
        let blend = level - fine as f32;
        if blend < 0.02 {
            return first;
        }
        let (sampler, x, y) = self.level(u, v, fine + 1);
        let second = sampler.at(x, y);
        std::array::from_fn(|k| first[k] + (second[k] - first[k]) * blend)
    }

    /// Texels along a side.
    pub fn width(&self) -> u16 {
        (self.levels[0].mask + 1) as u16
    }

    /// Mean colour and alpha.
    pub fn mean(&self) -> [f32; 4] {
        self.mean
    }
}

/// Spreads the bytes of a texel to 16-bit lanes, so that one multiplication weights all channels: red, blue, green, alpha.
#[inline(always)]
fn lanes(texel: [u8; 4]) -> u64 {
    let t = u64::from(u32::from_le_bytes(texel));
    (t & 0x00FF_00FF) | ((t & 0xFF00_FF00) << 24)
}

/// A coordinate in 1/256 texel, nearest. Adding 1.5 * 2^23 leaves the integer in the mantissa; exact below 2^14 texels.
#[inline(always)]
fn fixed(coordinate: f32) -> i32 {
    ((coordinate * 256.0 + 12_582_912.0).to_bits() as i32).wrapping_sub(0x4B40_0000)
}

impl Sampler<'_> {
    /// Red, green, blue, alpha at `(u, v)` in this level's texels, 0..255. Weights are multiples of 1/256.
    #[inline(always)]
    pub fn at(&self, u: f32, v: f32) -> [f32; 4] {
        let (u, v) = (fixed(u), fixed(v));
        let (x, y) = (u >> 8, v >> 8);
        let (fx, fy) = ((u & 255) as u32, (v & 255) as u32);
        let Level { mask, shift, texels } = self.level;
        let (x0, x1) = ((x & mask) as usize, ((x + 1) & mask) as usize);
        let (y0, y1) = (((y & mask) << shift) as usize, (((y + 1) & mask) << shift) as usize);
        let w11 = (fx * fy + 128) >> 8;
        let (w01, w10) = (fx - w11, fy - w11);
        let w00 = 256 - fx - w10;
        // The weights sum to 256 and the bytes are below 256: no lane overflows.
        let sum = lanes(texels[y0 | x0]) * u64::from(w00)
            + lanes(texels[y0 | x1]) * u64::from(w01)
            + lanes(texels[y1 | x0]) * u64::from(w10)
            + lanes(texels[y1 | x1]) * u64::from(w11);
        let lane = |shift: u32| ((sum >> shift) & 0xFFFF) as i32 as f32 * (1.0 / 256.0);
        [lane(0), lane(32), lane(16), lane(48)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_is_bilinear_and_periodic() {
        let texels = (0..32 * 32).map(|i| [(i % 32 * 8) as u8, (i / 32 * 8) as u8, 7, 255]).collect();
        let tile = Tile::new(32, texels);
        let s = tile.sampler(1.0);
        assert_eq!(s.at(3.25, 4.5)[..3], [26.0, 36.0, 7.0]);
        assert_eq!(s.at(31.5, 0.0)[0], 124.0);
        assert_eq!(s.at(3.25 - 64.0, 4.5 + 96.0), s.at(3.25, 4.5));
        assert_eq!(tile.sampler(2.0).factor, 1.0);
    }
}
