//! LightFlow's co-transforms (from FlowNetPytorch): translate, rotate, crop, flip. Sparse ground truth: crop and flips.

use super::{Augment, Image, Pair, fits};
use crate::random::Random;
use crate::{DataError, Sample};

/// The training set's transforms.
pub struct LightFlow {
    /// Width and height of what comes out.
    pub crop: (usize, usize),
    /// Leave out translation and rotation, which would blend sparse flow.
    pub sparse: bool,
}

impl Augment for LightFlow {
    fn size(&self) -> Option<(usize, usize)> {
        Some(self.crop)
    }

    fn apply(&self, sample: Sample, random: &mut Random, _: u64) -> Result<Sample, DataError> {
        const LARGEST_SHIFT: usize = 10;
        let mut pair = Pair::from_sample(&sample);
        if !self.sparse && sample.flow.as_ref().is_none_or(|f| f.validity().is_none()) {
            let shift = |r: &mut Random| r.between(0, 2 * LARGEST_SHIFT) as isize - LARGEST_SHIFT as isize;
            let (tw, th) = (shift(random), shift(random));
            let (w, h) = pair.size();
            // A frame that the shift would leave smaller than the crop is not shifted.
            if w >= self.crop.0 + tw.unsigned_abs() && h >= self.crop.1 + th.unsigned_abs() {
                pair = translate(pair, tw, th);
            }
            pair = rotate(pair, f64::from(random.spread(10.0)), f64::from(random.spread(5.0)));
        }
        let (w, h) = pair.size();
        fits(&sample.id, (w, h), self.crop)?;
        let at = (random.between(0, w - self.crop.0), random.between(0, h - self.crop.1));
        pair = pair.crop(at, self.crop);
        for horizontal in [false, true] {
            if random.chance(0.5) {
                pair = pair.flip(horizontal);
            }
        }
        Ok(pair.into_sample(sample.id))
    }
}

/// Shifts frame 2 by `(tw, th)` against frame 1; both shrink to what they share.
pub fn translate(pair: Pair, tw: isize, th: isize) -> Pair {
    let (w, h) = pair.size();
    let size = (w - tw.unsigned_abs(), h - th.unsigned_abs());
    let start = |t: isize| t.max(0) as usize;
    let (first, second) = ((start(tw), start(th)), (start(-tw), start(-th)));
    let [a, b] = &pair.images;
    let images = [a.crop(first, size), b.crop(second, size)];
    let cut = |image: &Option<Image>| image.as_ref().map(|i| i.crop(first, size));
    let mut flow = cut(&pair.flow);
    if let Some(flow) = &mut flow {
        for p in flow.data.chunks_exact_mut(2) {
            p[0] += tw as f32;
            p[1] += th as f32;
        }
    }
    Pair { images, flow, valid: cut(&pair.valid), occlusion: cut(&pair.occlusion) }
}

/// Rotates frame 1 by `angle - difference / 2` and frame 2 by `angle + difference / 2` degrees about the centre.
pub fn rotate(pair: Pair, angle: f64, difference: f64) -> Pair {
    let (w, h) = pair.size();
    let (first, second) = (angle - difference / 2.0, angle + difference / 2.0);
    let [a, b] = &pair.images;
    let images = [rotate_image(a, first), rotate_image(b, second)];
    let flow = pair.flow.map(|mut flow| {
        let d = difference.to_radians() as f32;
        for y in 0..h {
            for x in 0..w {
                let at = (y * w + x) * 2;
                flow.data[at] += d * (y as f32 - h as f32 / 2.0);
                flow.data[at + 1] -= d * (x as f32 - w as f32 / 2.0);
            }
        }
        let mut flow = rotate_image(&flow, first);
        let (sin, cos) = first.to_radians().sin_cos();
        let (sin, cos) = (sin as f32, cos as f32);
        for p in flow.data.chunks_exact_mut(2) {
            (p[0], p[1]) = (cos * p[0] + sin * p[1], cos * p[1] - sin * p[0]);
        }
        flow
    });
    // Corners rotated in from outside hold zeros, in the original also as flow; the mask says so here.
    Pair { images, flow, valid: pair.valid, occlusion: None }
}

/// `scipy.ndimage.rotate(order=2, reshape=False)`: quadratic B-spline, zero outside.
fn rotate_image(image: &Image, degrees: f64) -> Image {
    let (w, h, channels) = (image.width, image.height, image.channels);
    let coefficients = spline_coefficients(image);
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (r0, c0) = ((h as f64 - 1.0) / 2.0, (w as f64 - 1.0) / 2.0);
    let mut data = vec![0.0; w * h * channels];
    for r in 0..h {
        for c in 0..w {
            let (dr, dc) = (r as f64 - r0, c as f64 - c0);
            let (y, x) = (cos * dr + sin * dc + r0, -sin * dr + cos * dc + c0);
            if y < 0.0 || x < 0.0 || y > (h - 1) as f64 || x > (w - 1) as f64 {
                continue;
            }
            let (rows, wy) = spline_taps(y, h);
            let (columns, wx) = spline_taps(x, w);
            for k in 0..channels {
                let mut sum = 0.0;
                for i in 0..3 {
                    for j in 0..3 {
                        sum += wy[i] * wx[j] * coefficients[(rows[i] * w + columns[j]) * channels + k];
                    }
                }
                data[(r * w + c) * channels + k] = sum as f32;
            }
        }
    }
    Image { width: w, height: h, channels, data }
}

/// Index of a sample mirrored about the edge pixels.
fn mirror(i: isize, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n as isize - 1);
    let i = i.rem_euclid(period);
    i.min(period - i) as usize
}

fn spline_taps(p: f64, n: usize) -> ([usize; 3], [f64; 3]) {
    let m = (p + 0.5).floor();
    let d = p - m;
    let at = |k: isize| mirror(m as isize + k, n);
    let square = |v: f64| v * v / 2.0;
    ([at(-1), at(0), at(1)], [square(0.5 - d), 0.75 - d * d, square(0.5 + d)])
}

/// The coefficients whose quadratic B-spline passes through the image: a causal and an anticausal filter per axis.
fn spline_coefficients(image: &Image) -> Vec<f64> {
    let (w, h, channels) = (image.width, image.height, image.channels);
    let mut data: Vec<f64> = image.data.iter().map(|&v| f64::from(v)).collect();
    let mut line = Vec::new();
    let mut along = |start: usize, step: usize, n: usize, data: &mut [f64]| {
        line.clear();
        line.extend((0..n).map(|i| data[start + i * step]));
        filter(&mut line);
        for (i, v) in line.iter().enumerate() {
            data[start + i * step] = *v;
        }
    };
    for c in 0..channels {
        for x in 0..w {
            along(x * channels + c, w * channels, h, &mut data);
        }
        for y in 0..h {
            along(y * w * channels + c, channels, w, &mut data);
        }
    }
    data
}

fn filter(x: &mut [f64]) {
    let n = x.len();
    if n < 2 {
        return;
    }
    let z = 8f64.sqrt() - 3.0;
    let gain = (1.0 - z) * (1.0 - 1.0 / z);
    let (mut sum, mut power) = (0.0, 1.0);
    // Powers of z = -0.17 vanish after some twenty terms.
    for k in 0..(2 * n - 2).min(40) {
        sum += power * x[mirror(k as isize, n)];
        power *= z;
    }
    let mut previous = gain * sum / (1.0 - z.powi(2 * n as i32 - 2));
    let last_before = {
        x[0] = previous;
        for v in &mut x[1..] {
            previous = gain * *v + z * previous;
            *v = previous;
        }
        x[n - 2]
    };
    x[n - 1] = z / (z * z - 1.0) * (z * last_before + x[n - 1]);
    for i in (0..n - 1).rev() {
        x[i] = z * (x[i + 1] - x[i]);
    }
}

/// The centre window: starts at half the margin, halves rounded to the even number.
pub fn center_crop(pair: Pair, size: (usize, usize)) -> Pair {
    let (w, h) = pair.size();
    let start = |margin: usize| {
        let low = margin / 2;
        if margin % 2 == 1 { low + low % 2 } else { low }
    };
    pair.crop((start(w - size.0), start(h - size.1)), size)
}
