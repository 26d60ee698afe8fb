//! Turns the light of a scene into a frame: shadows, light, tone curve, noise, rounding to 8 bits, compression.

use ferroflow_core::{Frame, Size};

use super::compress::compress;
use super::render::Canvas;
use crate::math::{pow, sin_turns};
use crate::random::mix;

/// How one frame is exposed and stored.
#[derive(Clone, Copy, Debug)]
pub struct Film {
    /// The change of light.
    pub light: Light,
    /// Shadows that lie over everything and move by themselves.
    pub shadow: Option<Shadow>,
    /// Exponent of the tone curve.
    pub gamma: f32,
    /// Standard deviation of the noise, grey levels.
    pub noise: f32,
    /// Key of the noise.
    pub key: u64,
    /// Quality of the compression, 1 to 100.
    pub quality: Option<u8>,
}

/// Change of light in one frame: `color * gain * (1 + slope . (p - center))`.
#[derive(Clone, Copy, Debug)]
pub struct Light {
    /// Factor per channel.
    pub gain: [f32; 3],
    /// Relative change per pixel, right and down.
    pub slope: (f32, f32),
}

/// Soft patches of shade: a sum of waves, cut.
#[derive(Clone, Copy, Debug)]
pub struct Shadow {
    /// Periods per pixel right and down, and phase in turns, of each wave.
    pub waves: [(f32, f32, f32); 3],
    /// How soft the edges are: the rise of the shade per unit of the waves' sum.
    pub edge: f32,
    /// Share of the light taken in the shade.
    pub depth: f32,
}

impl Shadow {
    fn at(&self, x: f32, y: f32) -> f32 {
        let sum: f32 = self.waves.iter().map(|w| sin_turns(w.0 * x + w.1 * y + w.2)).sum();
        1.0 - self.depth * (0.5 + self.edge * sum).clamp(0.0, 1.0)
    }
}

/// Steps of the tone curve's table per grey level.
const STEPS: f32 = 4.0;

/// The picture of a canvas.
pub fn develop(canvas: &Canvas, film: &Film) -> Frame {
    let Size { height: h, width: w } = canvas.size;
    let (light, noise, key) = (film.light, film.noise, film.key);
    let mut rgb = vec![0u8; w * h * 3];
    // A sum of two uniform bytes has variance (256^2 - 1) / 6; two such sums are added, one shared by the channels.
    let amplitude = noise / (65_535.0f32 / 3.0).sqrt();
    let curve: Option<Vec<f32>> =
        (film.gamma != 1.0).then(|| (0..=1020).map(|i| 255.0 * pow(i as f32 / (255.0 * STEPS), film.gamma)).collect());
    for (y, (out, row)) in rgb.chunks_exact_mut(w * 3).zip(canvas.color.chunks_exact(w)).enumerate() {
        let down = 1.0 + light.slope.1 * (y as f32 - h as f32 * 0.5);
        for (x, (out, color)) in out.chunks_exact_mut(3).zip(row).enumerate() {
            let shade = down + light.slope.0 * (x as f32 - w as f32 * 0.5);
            let mut value: [f32; 3] = std::array::from_fn(|k| color[k] * light.gain[k] * shade);
            if let Some(shadow) = &film.shadow {
                let shade = shadow.at(x as f32, y as f32);
                value = value.map(|v| v * shade);
            }
            if let Some(curve) = &curve {
                value = value.map(|v| curve[((v * STEPS + 0.5).max(0.0) as usize).min(curve.len() - 1)]);
            }
            if noise > 0.0 {
                let bytes = mix(key.wrapping_add((y * w + x) as u64)).to_le_bytes().map(i32::from);
                let shared = bytes[6] + bytes[7] - 510;
                for k in 0..3 {
                    value[k] += amplitude * (bytes[2 * k] + bytes[2 * k + 1] + shared) as f32;
                }
            }
            for k in 0..3 {
                out[k] = (value[k] + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }
    let mut frame = Frame::new(canvas.size, rgb).expect("the buffer was made width * height * 3 long");
    if let Some(quality) = film.quality {
        compress(&mut frame, quality);
    }
    frame
}
