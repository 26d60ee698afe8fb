//! UFlow's augmentation (google-research): both frames share the photometric changes, and the flow follows the geometric ones
//! exactly.
//!
//! Images are 0..1 here. Flows are `(u, v)`; rotations turn them with the picture.

use ferroflow_core::Size;

use super::{Augment, Beside, Image, Pair};
use crate::math::floor;
use crate::random::Random;
use crate::{DataError, Sample};

/// UFlow's photometric changes with their defaults, its geometric changes or only its flips, and a crop.
pub struct UFlow {
    /// Size of the result; smaller frames are enlarged first.
    pub crop: Size,
    /// Scale, rotate and shift as well, which is off by default in the original.
    pub geometric: bool,
    /// What is kept beside the changed frames.
    pub beside: Beside,
}

impl Augment for UFlow {
    fn size(&self) -> Option<Size> {
        Some(self.crop)
    }

    fn apply(&self, sample: Sample, random: &mut Random, _: u64) -> Result<Sample, DataError> {
        super::fits(&sample.id, Size::new(usize::MAX, usize::MAX), self.crop)?;
        let mut pair = Pair::from_sample(&sample);
        let kept = self.beside.any();
        let plain = kept.then(|| Pair { images: pair.images.clone(), flow: None, valid: None, occlusion: None });
        let photometric = Photometric::draw(random);
        pair.images.iter_mut().for_each(|image| photometric.apply_to_bytes(image, random));
        let geometric = if self.geometric { Geometric::draw(random) } else { Geometric::flips(random) };
        let pair = geometric.changed(pair, self.crop);
        let windows = geometric.windows(pair.size(), self.crop, random);
        let sample = crop_apart(pair, windows, self.crop).into_sample(sample.id);
        let plain = plain.map(|plain| geometric.changed(plain, self.crop).images);
        Ok(self.beside.keep(sample, plain.as_ref(), windows, self.crop))
    }
}

/// Draws of the geometric set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometric {
    /// Mirror left to right, top to bottom.
    pub flips: [bool; 2],
    /// Factor of the size of both frames, then of frame 2 alone.
    pub scales: [f32; 2],
    /// Rotation of both frames, then of frame 2 alone, radians.
    pub rotations: [f32; 2],
    /// Most pixels, along each axis, between the windows cut from the two frames.
    pub crop_offset: usize,
}

impl Geometric {
    /// Only the crop.
    pub const NONE: Self = Self { flips: [false; 2], scales: [1.0; 2], rotations: [0.0; 2], crop_offset: 0 };

    /// Draws flips alone.
    pub fn flips(random: &mut Random) -> Self {
        Self { flips: [random.chance(0.5), random.chance(0.5)], ..Self::NONE }
    }

    /// Draws all changes, in the original's ranges.
    pub fn draw(random: &mut Random) -> Self {
        Self {
            scales: [random.range(0.9, 1.5), random.range(0.95, 1.05)],
            rotations: [random.spread(15f32.to_radians()), random.spread(3f32.to_radians())],
            crop_offset: 5,
            ..Self::flips(random)
        }
    }

    /// The changed pair, cut to `crop` at a place drawn from `random`.
    pub fn apply(&self, pair: Pair, crop: Size, random: &mut Random) -> Pair {
        let pair = self.changed(pair, crop);
        let windows = self.windows(pair.size(), crop, random);
        crop_apart(pair, windows, crop)
    }

    /// The changed pair, of at least the size of `crop`.
    fn changed(&self, mut pair: Pair, crop: Size) -> Pair {
        for (horizontal, _) in [true, false].into_iter().zip(self.flips).filter(|&(_, wanted)| wanted) {
            pair = pair.flip(horizontal);
        }
        if self.scales[0] != 1.0 {
            pair = scale(pair, self.scales[0]);
        }
        if self.scales[1] != 1.0 {
            pair = scale_second(pair, self.scales[1]);
        }
        if self.rotations[0] != 0.0 {
            pair = rotate(pair, self.rotations[0]);
        }
        if self.rotations[1] != 0.0 {
            pair = rotate_second(pair, self.rotations[1]);
        }
        let size = pair.size();
        let enlarge = (crop.width as f32 / size.width as f32).max(crop.height as f32 / size.height as f32);
        if enlarge > 1.0 { scale(pair, enlarge) } else { pair }
    }

    /// Where frames 1 and 2 of that size are cut, (x, y).
    fn windows(&self, size: Size, crop: Size, random: &mut Random) -> [(usize, usize); 2] {
        let room = (size.width - crop.width, size.height - crop.height);
        let first = (random.between(0, room.0), random.between(0, room.1));
        if self.crop_offset == 0 {
            return [first; 2];
        }
        let mut near = |at: usize, room: usize| {
            random.between(at.saturating_sub(self.crop_offset), (at + self.crop_offset).min(room))
        };
        [first, (near(first.0, room.0), near(first.1, room.1))]
    }
}

/// Windows of one `size`: from frame 1, its flow and masks at `first`, from frame 2 at `second` (x, y).
pub fn crop_apart(pair: Pair, [first, second]: [(usize, usize); 2], size: Size) -> Pair {
    if first == second {
        return pair.crop(first, size);
    }
    let cut = |image: &Image| image.crop(first, size);
    let (dx, dy) = (second.0 as f32 - first.0 as f32, second.1 as f32 - first.1 as f32);
    let valid = pair.valid.as_ref().map(cut);
    let mut flow = pair.flow.as_ref().map(cut);
    if let Some(flow) = &mut flow {
        for (i, p) in flow.data.chunks_exact_mut(2).enumerate() {
            let known = valid.as_ref().map_or(1.0, |mask| mask.data[i]);
            (p[0], p[1]) = ((p[0] - dx) * known, (p[1] - dy) * known);
        }
    }
    let [a, b] = &pair.images;
    Pair { images: [cut(a), b.crop(second, size)], flow, valid, occlusion: pair.occlusion.as_ref().map(cut) }
}

/// Draws of the photometric set, the same for both frames except the noise.
#[derive(Clone, Copy, Debug)]
pub struct Photometric {
    /// Channels rotated by this much, then by chance reversed.
    pub swap: (usize, bool),
    /// Added to the hue, turns.
    pub hue: f32,
    /// Factor of the saturation.
    pub saturation: f32,
    /// Added to all values.
    pub brightness: f32,
    /// Factor about the mean of each image and channel.
    pub contrast: f32,
    /// Standard deviation of the noise.
    pub noise: f32,
}

impl Photometric {
    /// The original's default ranges.
    pub fn draw(random: &mut Random) -> Self {
        Self {
            swap: (random.below(3), random.chance(0.5)),
            hue: random.spread(0.5),
            saturation: random.range(0.8, 1.2),
            brightness: random.spread(0.1),
            contrast: random.range(0.8, 1.2),
            noise: random.range(0.0, 0.02),
        }
    }

    /// Changes an image of 0..255 in place.
    pub(super) fn apply_to_bytes(&self, image: &mut Image, random: &mut Random) {
        image.data.iter_mut().for_each(|v| *v /= 255.0);
        self.apply(image, random);
        image.data.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0) * 255.0);
    }

    /// Changes an image of 0..1 in place; nothing is clipped.
    pub fn apply(&self, image: &mut Image, random: &mut Random) {
        for p in image.data.chunks_exact_mut(3) {
            p.rotate_right(self.swap.0);
            if self.swap.1 {
                p.reverse();
            }
            let c = adjust_saturation(adjust_hue([p[0], p[1], p[2]], self.hue), self.saturation);
            p.copy_from_slice(&c.map(|v| v + self.brightness));
        }
        adjust_contrast(image, self.contrast);
        for v in &mut image.data {
            *v += self.noise * random.normal();
        }
    }
}

/// `(v - mean) * factor + mean`, the mean of each channel.
pub fn adjust_contrast(image: &mut Image, factor: f32) {
    let count = (image.width * image.height).max(1) as f64;
    for c in 0..image.channels {
        let channel = || image.data.iter().skip(c).step_by(image.channels);
        let mean = (channel().map(|&v| f64::from(v)).sum::<f64>() / count) as f32;
        for v in image.data.iter_mut().skip(c).step_by(image.channels) {
            *v = (*v - mean) * factor + mean;
        }
    }
}

/// Hue in turns, saturation, value.
fn to_hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let range = high - low;
    if range <= 0.0 {
        return [0.0, 0.0, high];
    }
    let sixth = if high == r {
        (g - b) / range
    } else if high == g {
        2.0 + (b - r) / range
    } else {
        4.0 + (r - g) / range
    };
    let hue = sixth / 6.0;
    [if hue < 0.0 { hue + 1.0 } else { hue }, if high > 0.0 { range / high } else { 0.0 }, high]
}

fn from_hsv([h, s, v]: [f32; 3]) -> [f32; 3] {
    let chroma = s * v;
    let low = v - chroma;
    let h = h * 6.0;
    let ramp = |t: f32| t.clamp(0.0, 1.0) * chroma + low;
    [ramp((h - 3.0).abs() - 1.0), ramp(2.0 - (h - 2.0).abs()), ramp(2.0 - (h - 4.0).abs())]
}

/// Rotates the hue by `delta` turns.
pub fn adjust_hue(rgb: [f32; 3], delta: f32) -> [f32; 3] {
    let [h, s, v] = to_hsv(rgb);
    let h = h + delta;
    from_hsv([h - floor(h) as f32, s, v])
}

/// Multiplies the saturation, clipped to 0..1.
pub fn adjust_saturation(rgb: [f32; 3], factor: f32) -> [f32; 3] {
    let [h, s, v] = to_hsv(rgb);
    from_hsv([h, (s * factor).clamp(0.0, 1.0), v])
}

/// A mask for every pixel, all known if there was none.
pub(super) fn mask_of(pair: &Pair) -> Image {
    pair.valid.clone().unwrap_or_else(|| Image::from_fn(pair.size(), 1, |_, _, _| 1.0))
}

/// Flow and its mask resized to `size`: known pixels are averaged, the vectors scaled (uflow.md 4).
pub fn resize_masked(flow: &Image, mask: &Image, size: Size) -> (Image, Image) {
    if size == flow.size() {
        return (flow.clone(), mask.clone());
    }
    let mut weighted = flow.clone();
    for (p, &m) in weighted.data.chunks_exact_mut(2).zip(&mask.data) {
        (p[0], p[1]) = (p[0] * m, p[1] * m);
    }
    let mut flow_out = antialiased(&weighted, size);
    let mut mask_out = antialiased(mask, size);
    let (sx, sy) = (size.width as f32 / flow.width as f32, size.height as f32 / flow.height as f32);
    for (p, m) in flow_out.data.chunks_exact_mut(2).zip(&mut mask_out.data) {
        let weight = if *m > 0.0 { 1.0 / *m } else { 0.0 };
        (p[0], p[1]) = (p[0] * weight * sx, p[1] * weight * sy);
        *m = if *m > 0.0 { 1.0 } else { 0.0 };
    }
    (flow_out, mask_out)
}

/// Resize on the half-pixel grid with a triangle kernel, widened when shrinking, its weights summing to 1 inside.
pub(super) fn antialiased(image: &Image, size: Size) -> Image {
    let rows = triangle(image.height, size.height);
    let columns = triangle(image.width, size.width);
    let across = Image::from_fn(Size { height: image.height, ..size }, image.channels, |x, y, c| {
        columns[x].iter().map(|&(i, w)| image.at(i, y, c) * w).sum()
    });
    Image::from_fn(size, image.channels, |x, y, c| rows[y].iter().map(|&(i, w)| across.at(x, i, c) * w).sum())
}

fn triangle(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let step = from as f64 / to as f64;
    let radius = step.max(1.0);
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * step - 0.5;
            let low = (center - radius).ceil().max(0.0) as usize;
            let high = ((center + radius).floor() as usize).min(from - 1);
            let weights: Vec<(usize, f64)> =
                (low..=high).map(|k| (k, (1.0 - (k as f64 - center).abs() / radius).max(0.0))).collect();
            let sum: f64 = weights.iter().map(|w| w.1).sum();
            weights.into_iter().filter(|w| w.1 > 0.0).map(|(k, w)| (k, (w / sum) as f32)).collect()
        })
        .collect()
}

fn ceil_size(size: Size, s: f32) -> Size {
    // The product in f32, as TensorFlow does it.
    size.map(|side| (side as f32 * s).ceil() as usize)
}

/// The pair with frames, flow and mask scaled by `s`.
pub fn scale(pair: Pair, s: f32) -> Pair {
    let size = ceil_size(pair.size(), s);
    let [a, b] = &pair.images;
    let images = [a.resize(size), b.resize(size)];
    let resized = pair.flow.as_ref().map(|flow| resize_masked(flow, &mask_of(&pair), size));
    let (flow, mask) = resized.unzip();
    Pair { images, flow, valid: mask, occlusion: None }
}

fn center_cut(image: &Image, size: Size) -> Image {
    image.crop(((image.width - size.width) / 2, (image.height - size.height) / 2), size)
}

/// The pair with frame 2 alone scaled by `s` about its centre.
pub fn scale_second(pair: Pair, s: f32) -> Pair {
    let (old, new) = (pair.size(), ceil_size(pair.size(), s));
    let mask = mask_of(&pair);
    let second = pair.images[1].resize(new);
    let (fx, fy) = (new.width as f32 / old.width as f32, new.height as f32 / old.height as f32);
    let flow = pair.flow.map(|flow| moved(&flow, &mask, |x, y, u, v| ((x + u) * fx - x, (y + v) * fy - y)));
    let size = Size { height: old.height.min(new.height), width: old.width.min(new.width) };
    let cut = |image: &Image| center_cut(image, size);
    Pair {
        images: [cut(&pair.images[0]), cut(&second)],
        flow: flow.as_ref().map(cut),
        valid: Some(cut(&mask)),
        occlusion: None,
    }
}

/// New flow from position about the centre and old flow, zero where unknown.
fn moved(flow: &Image, mask: &Image, f: impl Fn(f32, f32, f32, f32) -> (f32, f32)) -> Image {
    let (cx, cy) = ((flow.width - 1) as f32 / 2.0, (flow.height - 1) as f32 / 2.0);
    let mut out = flow.clone();
    for (i, (p, &m)) in out.data.chunks_exact_mut(2).zip(&mask.data).enumerate() {
        let (x, y) = ((i % flow.width) as f32 - cx, (i / flow.width) as f32 - cy);
        let (u, v) = f(x, y, p[0], p[1]);
        (p[0], p[1]) = (u * m, v * m);
    }
    out
}

/// An image rotated by `angle` radians about its centre, bilinear, zero outside.
pub fn rotate_image(image: &Image, angle: f32) -> Image {
    let (s, c) = f64::from(angle).sin_cos();
    let (cx, cy) = ((image.width - 1) as f64 / 2.0, (image.height - 1) as f64 / 2.0);
    Image::from_fn(image.size(), image.channels, |x, y, k| {
        let (x, y) = (x as f64 - cx, y as f64 - cy);
        image.sample_zero((c * x - s * y + cx) as f32, (c * y + s * x + cy) as f32, k)
    })
}

/// Flow and mask rotated by `angle` radians, with the vectors.
pub fn rotate_flow(flow: &Image, mask: &Image, angle: f32) -> (Image, Image) {
    let (s, c) = (f64::from(angle).sin() as f32, f64::from(angle).cos() as f32);
    let weighted = moved(flow, mask, |_, _, u, v| (u, v));
    let mut flow = rotate_image(&weighted, angle);
    let mut mask = rotate_image(mask, angle);
    for (p, m) in flow.data.chunks_exact_mut(2).zip(&mut mask.data) {
        let weight = if *m > 0.0 { 1.0 / *m } else { 0.0 };
        let (u, v) = (p[0] * weight, p[1] * weight);
        (p[0], p[1]) = (s * v + c * u, c * v - s * u);
        *m = if *m > 0.0 { 1.0 } else { 0.0 };
    }
    (flow, mask)
}

/// The pair rotated by `angle` radians and cut to the largest centred window of the same shape without empty corners.
pub fn rotate(pair: Pair, angle: f32) -> Pair {
    let mask = mask_of(&pair);
    let [a, b] = &pair.images;
    let (a, b) = (rotate_image(a, angle), rotate_image(b, angle));
    let turned = pair.flow.as_ref().map(|flow| rotate_flow(flow, &mask, angle));
    let (flow, mask) = turned.unzip();
    let size = not_empty(pair.size(), angle);
    let cut = |image: &Image| center_cut(image, size);
    Pair { images: [cut(&a), cut(&b)], flow: flow.as_ref().map(cut), valid: mask.as_ref().map(cut), occlusion: None }
}

/// The pair with frame 2 alone rotated by `angle` radians, cut as by [`rotate`].
pub fn rotate_second(pair: Pair, angle: f32) -> Pair {
    let size = not_empty(pair.size(), angle);
    let mask = mask_of(&pair);
    let second = rotate_image(&pair.images[1], angle);
    let (s, c) = (f64::from(angle).sin() as f32, f64::from(angle).cos() as f32);
    let flow = pair.flow.map(|flow| {
        moved(&flow, &mask, |x, y, u, v| {
            let (qx, qy) = (x + u, y + v);
            (s * qy + c * qx - x, c * qy - s * qx - y)
        })
    });
    let cut = |image: &Image| center_cut(image, size);
    Pair {
        images: [cut(&pair.images[0]), cut(&second)],
        flow: flow.as_ref().map(cut),
        valid: Some(cut(&mask)),
        occlusion: None,
    }
}

fn not_empty(size: Size, angle: f32) -> Size {
    let (w, h) = (size.width as f64, size.height as f64);
    let angle = f64::from(angle);
    let k = (w / h).max(h / w) * angle.rem_euclid(std::f64::consts::PI).sin() + angle.cos().abs();
    size.map(|side| ((side as f64 / k) as usize).max(1))
}
