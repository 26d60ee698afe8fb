//! FlowNet's augmentation (Caffe: DataAugmentation, GenerateAugmentationParameters, FlowAugmentation), as used for
//! FlyingChairs: one affine map and one colour change for both frames, a small extra of each for frame 2.

use ferroflow_core::{FlowField, Frame, Mask, Size};

use super::{Augment, fits};
use crate::math::{exp, pow, sin_cos};
use crate::random::{Random, mix};
use crate::{DataError, Sample};

/// FlowNet's augmentation, whose strength grows during training.
pub struct FlowNet {
    /// Size of the result.
    pub crop: Size,
}

/// The strength of the draws at a training step: 1/2 at first, 3/4 at step 50,000, and towards 1 after that.
pub fn strength(iteration: u64) -> f32 {
    let x = 1.0986 * (iteration as f32 / 50_000.0).min(20.0);
    0.5 + 0.5 * (2.0 / (1.0 + exp(-x)) - 1.0)
}

/// Maps a pixel of the crop to the pixel of the source that it comes from: relative to the centres it is rotated, shifted and
/// divided by the zoom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spatial {
    /// Shift as a share of the crop's width and height.
    pub shift: (f32, f32),
    /// Rotation, radians.
    pub angle: f32,
    /// Zoom of each axis; above 1 it enlarges.
    pub zoom: (f32, f32),
}

impl Spatial {
    /// The map of the centre crop.
    pub const IDENTITY: Self = Self { shift: (0.0, 0.0), angle: 0.0, zoom: (1.0, 1.0) };

    fn then(self, more: Self) -> Self {
        Self {
            shift: (self.shift.0 + more.shift.0, self.shift.1 + more.shift.1),
            angle: self.angle + more.angle,
            zoom: (self.zoom.0 * more.zoom.0, self.zoom.1 * more.zoom.1),
        }
    }

    /// Pixels of the crop to pixels of the source.
    fn affine(self, crop: Size, source: Size) -> Affine {
        let (s, c) = sin_cos(self.angle);
        let (cw, ch) = (crop.width as f32, crop.height as f32);
        let (zx, zy) = (1.0 / self.zoom.0, 1.0 / self.zoom.1);
        let x = (-c * cw / 2.0 + s * ch / 2.0 + self.shift.0 * cw) * zx + source.width as f32 / 2.0;
        let y = (-s * cw / 2.0 - c * ch / 2.0 + self.shift.1 * ch) * zy + source.height as f32 / 2.0;
        Affine([c * zx, -s * zx, x, s * zy, c * zy, y])
    }
}

#[derive(Clone, Copy)]
struct Affine([f32; 6]);

impl Affine {
    #[inline(always)]
    fn apply(&self, x: f32, y: f32) -> (f32, f32) {
        let m = &self.0;
        (m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5])
    }

    fn inverse(&self) -> Self {
        let [a, b, c, d, e, f] = self.0.map(f64::from);
        let det = a * e - b * d;
        let inverse = [e / det, -b / det, (b * f - c * e) / det, -d / det, a / det, (c * d - a * f) / det];
        Self(inverse.map(|v| v as f32))
    }

    /// Whether all four corners of the crop can be sampled.
    fn inside(&self, crop: Size, source: Size) -> bool {
        let (right, bottom) = ((crop.width - 1) as f32, (crop.height - 1) as f32);
        [(0.0, 0.0), (right, 0.0), (0.0, bottom), (right, bottom)].into_iter().all(|(x, y)| {
            let (x, y) = self.apply(x, y);
            let within = |v: f32, n: usize| v >= 0.0 && v < n as f32 - 1.0;
            within(x, source.width) && within(y, source.height)
        })
    }
}

/// Changes along the eigenvectors of natural colour; index 0 is the brightness axis, 1 and 2 the colour axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Eigen {
    /// Exponent of each axis.
    pub power: [f32; 3],
    /// Offset of each axis.
    pub add: [f32; 3],
    /// Factor of each axis.
    pub factor: [f32; 3],
    /// Exponent, offset and factor of the saturation.
    pub saturation: [f32; 3],
    /// Exponent, offset and factor of the length of the colour vector.
    pub length: [f32; 3],
    /// Rotation of the colour axes, radians.
    pub rotation: f32,
}

/// Changes of plain RGB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chromatic {
    /// Exponent.
    pub gamma: f32,
    /// Offset, 1 = full range.
    pub brightness: f32,
    /// Factor about 1/2.
    pub contrast: f32,
    /// Factor per channel; the mean brightness is kept.
    pub color: [f32; 3],
}

/// All random draws for one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    /// The map of each frame.
    pub spatial: [Spatial; 2],
    /// Colour change of both frames.
    pub eigen: Eigen,
    /// Further change of frame 2.
    pub chromatic: Chromatic,
    /// Standard deviation of the noise of both frames, 1 = full range.
    pub noise: f32,
    /// Key of the noise.
    pub noise_key: u64,
}

impl Draws {
    /// Draws for a crop of a source, at strength `k`; spatial draws that leave the source are drawn again, up to 50 times.
    pub fn draw(random: &mut Random, k: f32, crop: Size, source: Size) -> Self {
        let own = retry(random, Spatial::IDENTITY, crop, source, |r| {
            let (dx, dy) = (r.spread(0.4 * k), r.spread(0.4 * k));
            let angle = r.spread(0.4 * k);
            let (zoom, squeeze) = (exp(0.2 + r.spread(0.4 * k)), exp(r.spread(0.3 * k)));
            Spatial { shift: (dx, dy), angle, zoom: (zoom * squeeze, zoom / squeeze) }
        });
        let both = retry(random, own, crop, source, |r| {
            let (dx, dy) = (r.normal() * 0.03 * k, r.normal() * 0.03 * k);
            let angle = r.normal() * 0.03 * k;
            let zoom = exp(r.normal() * 0.03 * k);
            Spatial { shift: (dx, dy), angle, zoom: (zoom, zoom) }
        });
        let r = random;
        let length = [exp(-0.2 + r.spread(0.4 * k)), r.spread(0.03 * k), exp(r.spread(0.4 * k))];
        let saturation = [exp(r.spread(0.4 * k)), r.spread(0.03 * k), exp(-0.3 + r.spread(0.5 * k))];
        let mut axis =
            |add: f32, factor: f32| (exp(r.normal() * 0.4 * k), r.normal() * add * k, exp(r.normal() * factor * k));
        let axes = [axis(0.04, 0.4), axis(0.02, 0.2), axis(0.02, 0.2)];
        let eigen = Eigen {
            power: axes.map(|a| a.0),
            add: axes.map(|a| a.1),
            factor: axes.map(|a| a.2),
            saturation,
            length,
            rotation: r.spread(k),
        };
        let noise = (0.03 + r.spread(0.03 * k)).max(0.0);
        let chromatic = Chromatic {
            gamma: exp(r.normal() * 0.02 * k),
            brightness: r.normal() * 0.02 * k,
            contrast: exp(r.normal() * 0.02 * k),
            color: std::array::from_fn(|_| exp(r.normal() * 0.02 * k)),
        };
        Self { spatial: [own, both], eigen, chromatic, noise, noise_key: r.bits() }
    }
}

fn retry(
    random: &mut Random,
    incoming: Spatial,
    crop: Size,
    source: Size,
    draw: impl Fn(&mut Random) -> Spatial,
) -> Spatial {
    for _ in 0..50 {
        let spatial = incoming.then(draw(random));
        if spatial.affine(crop, source).inside(crop, source) {
            return spatial;
        }
    }
    incoming
}

impl Augment for FlowNet {
    fn size(&self) -> Option<Size> {
        Some(self.crop)
    }

    fn apply(&self, sample: Sample, random: &mut Random, iteration: u64) -> Result<Sample, DataError> {
        let source = sample.first.size();
        fits(&sample.id, source, self.crop)?;
        Ok(apply(&sample, &Draws::draw(random, strength(iteration), self.crop, source), self.crop))
    }
}

/// The sample after the changes of `draws`.
pub fn apply(sample: &Sample, draws: &Draws, crop: Size) -> Sample {
    let source = sample.first.size();
    let maps = draws.spatial.map(|s| s.affine(crop, source));
    let colors = Colors::of([&sample.first, &sample.second]);
    let frame = |frame: &Frame, index: usize| {
        let mut planes = resample(frame, maps[index], crop);
        draws.eigen.apply(&mut planes, &colors);
        if index == 1 {
            draws.chromatic.apply(&mut planes);
        }
        quantize(&planes, crop, draws.noise, mix(draws.noise_key ^ index as u64))
    };
    let (first, second) = (frame(&sample.first, 0), frame(&sample.second, 1));
    let nearest = |x: usize, y: usize| {
        let (px, py) = maps[0].apply(x as f32, y as f32);
        let clip = |v: f32, n: usize| ((v + 0.5).max(0.0) as usize).min(n - 1);
        (px, py, clip(px, source.width), clip(py, source.height))
    };
    let back = maps[1].inverse();
    let flow = sample.flow.as_ref().map(|flow| {
        let moved = |x: usize, y: usize| {
            let (px, py, ix, iy) = nearest(x, y);
            let (u, v) = flow.get(ix, iy);
            let (qx, qy) = back.apply(px + u, py + v);
            flow.is_valid(ix, iy).then_some((qx - x as f32, qy - y as f32))
        };
        if flow.validity().is_some() {
            FlowField::sparse_from_fn(crop, moved)
        } else {
            FlowField::from_fn(crop, |x, y| moved(x, y).unwrap_or_default())
        }
    });
    let occlusion = sample.occlusion.as_ref().map(|mask| {
        Mask::from_fn(crop, |x, y| {
            let (_, _, ix, iy) = nearest(x, y);
            mask.get(ix, iy)
        })
    });
    Sample { first, second, flow, occlusion, original: None, surround: None, id: sample.id.clone() }
}

/// Red, green, blue planes, 0..1.
type Planes = [Vec<f32>; 3];

/// Bilinear samples of a frame, coordinates clamped to `[0, size - 1.05]`.
fn resample(frame: &Frame, map: Affine, crop: Size) -> Planes {
    let (w, h) = (frame.width(), frame.height());
    let (right, bottom) = ((w as f32 - 1.05).max(0.0), (h as f32 - 1.05).max(0.0));
    let mut planes: Planes = std::array::from_fn(|_| Vec::with_capacity(crop.pixels()));
    let rgb = frame.rgb();
    let (step_x, step_y) = (usize::from(w > 1) * 3, usize::from(h > 1) * 3 * w);
    for y in 0..crop.height {
        for x in 0..crop.width {
            let (px, py) = map.apply(x as f32, y as f32);
            let (px, py) = (px.clamp(0.0, right), py.clamp(0.0, bottom));
            let (x0, y0) = (px as i32 as usize, py as i32 as usize);
            let (fx, fy) = (px - x0 as f32, py - y0 as f32);
            let at = (y0 * w + x0) * 3;
            let a = &rgb[at..at + step_x + 3];
            let b = &rgb[at + step_y..at + step_y + step_x + 3];
            let (w11, w01, w10) = (fx * fy, fx * (1.0 - fy), (1.0 - fx) * fy);
            let w00 = 1.0 - w11 - w01 - w10;
            for (c, plane) in planes.iter_mut().enumerate() {
                let value = f32::from(a[c]) * w00
                    + f32::from(a[c + step_x]) * w01
                    + f32::from(b[c]) * w10
                    + f32::from(b[c + step_x]) * w11;
                plane.push(value * (1.0 / 255.0));
            }
        }
    }
    planes
}

/// Eigenvectors of natural colour, as rows.
const EIGEN: [[f32; 3]; 3] = [[0.51, 0.56, 0.65], [0.79, 0.01, -0.62], [0.35, -0.83, 0.44]];

fn project(rgb: [f32; 3]) -> [f32; 3] {
    EIGEN.map(|e| e[0] * rgb[0] + e[1] * rgb[1] + e[2] * rgb[2])
}

/// Colour statistics of the source frames. Caffe takes them over a batch; here they are a pair's own, so that a sample
/// does not depend on its neighbours.
struct Colors {
    mean: [f32; 3],
    mean_eigen: [f32; 3],
    largest: [f32; 3],
    length: f32,
}

impl Colors {
    fn of(frames: [&Frame; 2]) -> Self {
        let mut sum = [0u64; 3];
        let mut largest = [0.0f32; 3];
        for frame in frames {
            for p in frame.rgb().chunks_exact(3) {
                let e = project([p[0].into(), p[1].into(), p[2].into()]);
                for k in 0..3 {
                    sum[k] += u64::from(p[k]);
                    largest[k] = largest[k].max(e[k].abs());
                }
            }
        }
        let count = (frames[0].rgb().len() + frames[1].rgb().len()) as f64 / 3.0;
        let mean = sum.map(|s| (s as f64 / count / 255.0) as f32);
        let largest = largest.map(|v| v / 255.0);
        let mut mean_eigen = project(mean);
        for k in 0..3 {
            if largest[k] > 1e-2 {
                mean_eigen[k] /= largest[k];
            }
        }
        let length = largest.iter().map(|v| v * v).sum::<f32>().sqrt();
        Self { mean, mean_eigen, largest, length }
    }
}

/// `|x|^p` with the sign of `x`.
#[inline(always)]
fn signed_pow(x: f32, p: f32) -> f32 {
    pow(x.abs(), p).copysign(x)
}

impl Eigen {
    fn apply(&self, planes: &mut Planes, colors: &Colors) {
        let (sin, cos) = sin_cos(self.rotation);
        let [red, green, blue] = planes;
        let Colors { mean, mean_eigen, largest, length } = colors;
        // Axes without any colour stay as they are.
        let live = largest.map(|v| v > 1e-2);
        let inverse = largest.map(|v| if v > 1e-2 { 1.0 / v } else { 1.0 });
        let scale = largest.map(|v| if v > 1e-2 { v } else { 1.0 });
        let whole = *length > 1e-2;
        let inverse_length = if whole { 1.0 / length } else { 1.0 };
        for ((r, g), b) in red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut()) {
            let mut e = project([*r - mean[0], *g - mean[1], *b - mean[2]]);
            for k in 0..3 {
                let changed = (signed_pow(e[k] * inverse[k], self.power[k]) + self.add[k]) * self.factor[k];
                e[k] = if live[k] { changed } else { e[k] } + mean_eigen[k];
            }
            let s = (e[1] * e[1] + e[2] * e[2]).sqrt();
            let s1 = (pow(s, self.saturation[0]) + self.saturation[1]).max(0.0) * self.saturation[2];
            let (e1, e2) = (cos * e[1] - sin * e[2], sin * e[1] + cos * e[2]);
            e = [e[0] * scale[0], e1 * scale[1], e2 * scale[2]];
            let l1 = (e[0] * e[0] + e[1] * e[1] + e[2] * e[2]).sqrt() * inverse_length;
            let ratio = if s > 1e-2 { s1 / s } else { 1.0 };
            (e[1], e[2]) = (e[1] * ratio, e[2] * ratio);
            let l = (e[0] * e[0] + e[1] * e[1] + e[2] * e[2]).sqrt();
            let l1 = (pow(l1, self.length[0]) + self.length[1]).max(0.0) * self.length[2] * length;
            let ratio = if whole && l > 1e-2 { l1 / l } else { 1.0 };
            for k in 0..3 {
                let stretched = e[k] * ratio;
                e[k] = if whole && l > 1e-2 { stretched.min(largest[k]) } else { e[k] };
            }
            let back = |c: usize| (EIGEN[0][c] * e[0] + EIGEN[1][c] * e[1] + EIGEN[2][c] * e[2]).clamp(0.0, 1.0);
            (*r, *g, *b) = (back(0), back(1), back(2));
        }
    }
}

impl Chromatic {
    fn apply(&self, planes: &mut Planes) {
        let [red, green, blue] = planes;
        let finish = |v: f32| {
            let v = pow(v.clamp(0.0, 1.0), self.gamma) + self.brightness;
            (0.5 + (v - 0.5) * self.contrast).clamp(0.0, 1.0)
        };
        for ((r, g), b) in red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut()) {
            let before = *r + *g + *b;
            let (x, y, z) = (*r * self.color[0], *g * self.color[1], *b * self.color[2]);
            let keep = before / (x + y + z + 0.01);
            (*r, *g, *b) = (finish(x * keep), finish(y * keep), finish(z * keep));
        }
    }
}

/// To 8 bits, with noise of the given deviation (1 = full range).
fn quantize(planes: &Planes, size: Size, noise: f32, key: u64) -> Frame {
    // The sum of four uniform 10-bit numbers has variance (2^20 - 1) / 3.
    let amplitude = noise * 255.0 / (1_048_575.0f32 / 3.0).sqrt();
    let mut rgb = Vec::with_capacity(size.pixels() * 3);
    for i in 0..size.pixels() {
        for (c, plane) in planes.iter().enumerate() {
            let bits = mix(key.wrapping_add((i * 3 + c) as u64));
            let sum = (bits & 1023) + (bits >> 10 & 1023) + (bits >> 20 & 1023) + (bits >> 30 & 1023);
            let value = plane[i] * 255.0 + amplitude * (sum as i32 - 2046) as f32;
            rgb.push((value + 0.5).clamp(0.0, 255.0) as u8);
        }
    }
    Frame::new(size, rgb).expect("three bytes were pushed for every pixel")
}
