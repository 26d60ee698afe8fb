//! RAFT's augmentation (Teed and Deng 2020): colour jitter, by chance different for each frame, an eraser on frame 2,
//! a random scale with stretch, flips, a crop. Sparse flow is scattered, not blended.

use ferroflow_core::Size;

use super::{Augment, Image, Pair, fits, origin};
use crate::math::{exp2, floor};
use crate::random::Random;
use crate::{DataError, Sample};

/// The parameters that differ between its training stages.
pub struct Raft {
    /// Size of the result.
    pub crop: Size,
    /// Bounds of the base-2 logarithm of the scale.
    pub scale: (f32, f32),
    /// Probability of scaling.
    pub scale_chance: f32,
    /// Largest base-2 logarithm of the extra scale of a single axis, which has a probability of 0.8.
    pub stretch: f32,
    /// Probabilities of a left-right and of an up-down flip.
    pub flip: (f32, f32),
    /// Probability that the frames get different colours.
    pub asymmetric: f32,
    /// Probability of the eraser.
    pub eraser: f32,
}

impl Raft {
    /// The parameters for FlyingChairs.
    pub fn new(crop: Size) -> Self {
        Self {
            crop,
            scale: (-0.1, 1.0),
            scale_chance: 0.8,
            stretch: 0.2,
            flip: (0.5, 0.1),
            asymmetric: 0.2,
            eraser: 0.5,
        }
    }

    /// Those for FlyingThings3D, whose frames are enlarged less and made smaller more.
    pub fn things(crop: Size) -> Self {
        Self { scale: (-0.4, 0.8), ..Self::new(crop) }
    }

    /// Those for Sintel and what is mixed with it.
    pub fn sintel(crop: Size) -> Self {
        Self { scale: (-0.2, 0.6), ..Self::new(crop) }
    }

    /// Those for KITTI: a road has an up and a down, and both frames have one camera.
    pub fn kitti(crop: Size) -> Self {
        Self { scale: (-0.2, 0.4), stretch: 0.0, flip: (0.0, 0.0), asymmetric: 0.0, ..Self::new(crop) }
    }
}

/// Factors of one colour change, 1 or 0 = none.
#[derive(Clone, Copy, Debug)]
pub struct Jitter {
    /// Factor of all values.
    pub brightness: f32,
    /// Factor about the mean grey.
    pub contrast: f32,
    /// Factor about each pixel's grey.
    pub saturation: f32,
    /// Rotation of the hue, turns.
    pub hue: f32,
}

impl Jitter {
    fn draw(random: &mut Random) -> Self {
        let (hue, mut factor) = (0.5 / std::f32::consts::PI, || 1.0 + random.spread(0.4));
        let (brightness, contrast, saturation) = (factor(), factor(), factor());
        Self { brightness, contrast, saturation, hue: random.spread(hue) }
    }

    /// Changes an image of 0..255 in place.
    pub fn apply(&self, image: &mut Image) {
        let grey = |p: &[f32]| 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
        image.data.iter_mut().for_each(|v| *v = (*v * self.brightness).clamp(0.0, 255.0));
        let mean = image.data.chunks_exact(3).map(|p| f64::from(grey(p))).sum::<f64>();
        let mean = (mean / (image.data.len() / 3).max(1) as f64) as f32;
        for p in image.data.chunks_exact_mut(3) {
            p.iter_mut().for_each(|v| *v = (mean + (*v - mean) * self.contrast).clamp(0.0, 255.0));
            let g = grey(p);
            p.iter_mut().for_each(|v| *v = (g + (*v - g) * self.saturation).clamp(0.0, 255.0));
            let turned = super::uflow::adjust_hue([p[0] / 255.0, p[1] / 255.0, p[2] / 255.0], self.hue);
            p.copy_from_slice(&turned.map(|v| v * 255.0));
        }
    }
}

impl Augment for Raft {
    fn size(&self) -> Option<Size> {
        Some(self.crop)
    }

    fn apply(&self, sample: Sample, random: &mut Random, _: u64) -> Result<Sample, DataError> {
        let mut pair = Pair::from_sample(&sample);
        fits(&sample.id, Size::new(usize::MAX, usize::MAX), self.crop)?;
        let jitter = Jitter::draw(random);
        let other = if random.chance(self.asymmetric) { Jitter::draw(random) } else { jitter };
        jitter.apply(&mut pair.images[0]);
        other.apply(&mut pair.images[1]);
        if random.chance(self.eraser) {
            for _ in 0..random.between(1, 2) {
                let Size { height: h, width: w } = pair.size();
                let at = (random.below(w), random.below(h));
                let (width, height) = (random.between(50, 99), random.between(50, 99));
                erase(&mut pair.images[1], at, Size { height, width });
            }
        }
        let Size { height: h, width: w } = pair.size();
        // Eight pixels of room, as there, so that the crop never touches the resized border.
        let smallest = ((self.crop.width + 8) as f32 / w as f32).max((self.crop.height + 8) as f32 / h as f32);
        let scale = exp2(random.range(self.scale.0, self.scale.1));
        let (mut sx, mut sy) = (scale, scale);
        if random.chance(0.8) {
            sx *= exp2(random.spread(self.stretch));
            sy *= exp2(random.spread(self.stretch));
        }
        if random.chance(self.scale_chance) || smallest > 1.0 {
            pair = resize(pair, sx.max(smallest), sy.max(smallest));
        }
        for (horizontal, chance) in [(true, self.flip.0), (false, self.flip.1)] {
            if random.chance(chance) {
                pair = pair.flip(horizontal);
            }
        }
        let at = origin(&sample.id, pair.size(), self.crop, random)?;
        Ok(pair.crop(at, self.crop).into_sample(sample.id))
    }
}

/// Replaces a rectangle by the image's mean colour.
pub fn erase(image: &mut Image, at: (usize, usize), size: Size) {
    let count = (image.data.len() / 3).max(1) as f64;
    let mean: [f32; 3] = std::array::from_fn(|c| {
        (image.data.iter().skip(c).step_by(3).map(|&v| f64::from(v)).sum::<f64>() / count) as f32
    });
    for y in at.1..(at.1 + size.height).min(image.height) {
        for x in at.0..(at.0 + size.width).min(image.width) {
            let i = (y * image.width + x) * 3;
            image.data[i..i + 3].copy_from_slice(&mean);
        }
    }
}

/// Scales the axes by `sx` and `sy`; known pixels of sparse flow move to the nearest new pixel, never blended.
pub fn resize(pair: Pair, sx: f32, sy: f32) -> Pair {
    let Size { height: h, width: w } = pair.size();
    let side = |n: usize, s: f32| ((n as f32 * s + 0.5) as usize).max(1);
    let size = Size { height: side(h, sy), width: side(w, sx) };
    let Size { height: nh, width: nw } = size;
    let (sx, sy) = (nw as f32 / w as f32, nh as f32 / h as f32);
    let [a, b] = &pair.images;
    let images = [a.resize(size), b.resize(size)];
    let Some(flow) = pair.flow else { return Pair { images, flow: None, valid: None, occlusion: None } };
    let (flow, valid) = match pair.valid {
        None => {
            let mut resized = flow.resize(size);
            for p in resized.data.chunks_exact_mut(2) {
                (p[0], p[1]) = (p[0] * sx, p[1] * sy);
            }
            (resized, None)
        }
        Some(valid) => {
            let mut moved = Image { width: nw, height: nh, channels: 2, data: vec![0.0; nw * nh * 2] };
            let mut known = Image { width: nw, height: nh, channels: 1, data: vec![0.0; nw * nh] };
            for y in 0..h {
                for x in 0..w {
                    if valid.at(x, y, 0) < 0.5 {
                        continue;
                    }
                    // On the half-pixel grid, like the frames.
                    let to = |i: usize, s: f32| floor((i as f32 + 0.5) * s) as usize;
                    let i = to(y, sy).min(nh - 1) * nw + to(x, sx).min(nw - 1);
                    known.data[i] = 1.0;
                    (moved.data[2 * i], moved.data[2 * i + 1]) = (flow.at(x, y, 0) * sx, flow.at(x, y, 1) * sy);
                }
            }
            (moved, Some(known))
        }
    };
    Pair { images, flow: Some(flow), valid, occlusion: None }
}
