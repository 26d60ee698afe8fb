//! LightFlow's co-transforms (from FlowNetPytorch): translation, rotation, crop and flips; for sparse ground truth, crop and flips.

use ferroflow_core::Size;

use super::{Augment, Image, Pair, origin};
use crate::random::Random;
use crate::{DataError, Sample};

/// LightFlow's transforms for training.
pub struct LightFlow {
    /// Size of the result.
    pub crop: Size,
    /// Leave out translation and rotation, which would blend sparse flow.
    pub sparse: bool,
}

impl Augment for LightFlow {
    fn size(&self) -> Option<Size> {
        Some(self.crop)
    }

    fn apply(&self, sample: Sample, random: &mut Random, _: u64) -> Result<Sample, DataError> {
        const LARGEST_SHIFT: usize = 10;
        let mut pair = Pair::from_sample(&sample);
        if !self.sparse && sample.flow.as_ref().is_none_or(|f| f.validity().is_none()) {
            let shift = |r: &mut Random| r.between(0, 2 * LARGEST_SHIFT) as isize - LARGEST_SHIFT as isize;
            let (tw, th) = (shift(random), shift(random));
            let Size { height: h, width: w } = pair.size();
            // A frame that the shift would leave smaller than the crop is not shifted.
            if w >= self.crop.width + tw.unsigned_abs() && h >= self.crop.height + th.unsigned_abs() {
                pair = translate(pair, tw, th);
            }
            let (angle, difference) = (f64::from(random.spread(10.0)), f64::from(random.spread(5.0)));
            let at = origin(&sample.id, pair.size(), self.crop, random)?;
            pair = rotate_window(pair, angle, difference, at, self.crop);
        } else {
            let at = origin(&sample.id, pair.size(), self.crop, random)?;
            pair = pair.crop(at, self.crop);
        }
        for horizontal in [false, true] {
            if random.chance(0.5) {
                pair = pair.flip(horizontal);
            }
        }
        Ok(pair.into_sample(sample.id))
    }
}

/// Shifts frame 2 by `(tw, th)` against frame 1; both shrink to the part that they share.
pub fn translate(pair: Pair, tw: isize, th: isize) -> Pair {
    let Size { height, width } = pair.size();
    let size = Size { height: height - th.unsigned_abs(), width: width - tw.unsigned_abs() };
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
    let size = pair.size();
    rotate_window(pair, angle, difference, (0, 0), size)
}

/// The window of `size` at `at` of what [`rotate`] gives. Corners rotated in from outside hold zeros, in the original as
/// flow too; here that flow is unknown.
fn rotate_window(pair: Pair, angle: f64, difference: f64, at: (usize, usize), size: Size) -> Pair {
    let Size { height: h, width: w } = pair.size();
    let turn = |degrees: f64| Turn::new(degrees, pair.size());
    let (first, second) = (turn(angle - difference / 2.0), turn(angle + difference / 2.0));
    let [a, b] = &pair.images;
    let images = [first.apply::<3>(a, at, size), second.apply::<3>(b, at, size)];
    let flow = pair.flow.map(|mut flow| {
        let d = difference.to_radians() as f32;
        for (y, row) in flow.data.chunks_exact_mut(2 * w).enumerate() {
            for (x, p) in row.chunks_exact_mut(2).enumerate() {
                p[0] += d * (y as f32 - h as f32 / 2.0);
                p[1] -= d * (x as f32 - w as f32 / 2.0);
            }
        }
        let mut flow = first.apply::<2>(&flow, at, size);
        let (sin, cos) = (first.sin as f32, first.cos as f32);
        for p in flow.data.chunks_exact_mut(2) {
            (p[0], p[1]) = (cos * p[0] + sin * p[1], cos * p[1] - sin * p[0]);
        }
        flow
    });
    let inside = |x: usize, y: usize, _: usize| f32::from(u8::from(first.source(at.0 + x, at.1 + y).is_some()));
    let valid = Image::from_fn(size, 1, inside);
    let valid = valid.data.contains(&0.0).then_some(valid);
    Pair { images, flow, valid, occlusion: None }
}

/// `scipy.ndimage.rotate(order=2, reshape=False)`: quadratic B-spline, zero outside.
struct Turn {
    sin: f64,
    cos: f64,
    size: Size,
}

impl Turn {
    fn new(degrees: f64, size: Size) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Self { sin, cos, size }
    }

    /// Where pixel `(x, y)` of the result comes from; `None` outside.
    #[inline(always)]
    fn source(&self, x: usize, y: usize) -> Option<(f64, f64)> {
        let (right, bottom) = ((self.size.width - 1) as f64, (self.size.height - 1) as f64);
        let (dx, dy) = (x as f64 - right / 2.0, y as f64 - bottom / 2.0);
        let (y, x) = (self.cos * dy + self.sin * dx + bottom / 2.0, -self.sin * dy + self.cos * dx + right / 2.0);
        (y >= 0.0 && x >= 0.0 && y <= bottom && x <= right).then_some((x, y))
    }

    /// The window of `size` at `at` of the rotated image, which has `C` channels.
    fn apply<const C: usize>(&self, image: &Image, at: (usize, usize), size: Size) -> Image {
        if self.sin == 0.0 && self.cos == 1.0 {
            return image.crop(at, size);
        }
        let Size { height: h, width: w } = self.size;
        let coefficients = spline_coefficients(image);
        let mut data = Vec::with_capacity(size.pixels() * C);
        for r in at.1..at.1 + size.height {
            for c in at.0..at.0 + size.width {
                let mut sum = [0.0; C];
                if let Some((x, y)) = self.source(c, r) {
                    let ((rows, wy), (columns, wx)) = (spline_taps(y, h), spline_taps(x, w));
                    for (row, wy) in rows.into_iter().zip(wy) {
                        let row = &coefficients[row * w * C..][..w * C];
                        let [a, b, c] = columns.map(|column| &row[column * C..][..C]);
                        for k in 0..C {
                            sum[k] += wy * (wx[0] * a[k] + wx[1] * b[k] + wx[2] * c[k]);
                        }
                    }
                }
                data.extend_from_slice(&sum);
            }
        }
        Image { width: size.width, height: size.height, channels: C, data }
    }
}

/// Index of a sample mirrored about the edge pixels of `n > 1`.
fn mirror(i: usize, n: usize) -> usize {
    let period = 2 * (n - 1);
    let i = i % period;
    i.min(period - i)
}

/// The three pixels about `p`, from 0 to `n - 1`, mirrored at the ends, and their weights.
#[inline(always)]
fn spline_taps(p: f64, n: usize) -> ([usize; 3], [f32; 3]) {
    let m = (p + 0.5) as usize;
    let d = (p - m as f64) as f32;
    let before = if m == 0 { usize::from(n > 1) } else { m - 1 };
    let after = if m + 1 < n { m + 1 } else { m.saturating_sub(1) };
    let square = |v: f32| v * v / 2.0;
    ([before, m, after], [square(0.5 - d), 0.75 - d * d, square(0.5 + d)])
}

/// The coefficients whose quadratic B-spline passes through the image: a causal and an anticausal filter per axis.
fn spline_coefficients(image: &Image) -> Vec<f32> {
    let mut data = image.data.clone();
    let row = image.width * image.channels;
    if row == 0 {
        return data;
    }
    // Down the columns a step of the filter is a row, which vectorises; along a row it is a pixel.
    filter(&mut data, row);
    for line in data.chunks_exact_mut(row) {
        match image.channels {
            2 => filter(line, 2),
            3 => filter(line, 3),
            channels => filter(line, channels),
        }
    }
    data
}

/// Filters a sequence of vectors of `width` values in place. Inlined so that a known width makes straight code.
#[inline(always)]
fn filter(x: &mut [f32], width: usize) {
    // sqrt(8) - 3, the pole of the quadratic B-spline.
    const Z: f32 = -0.171_572_88;
    const GAIN: f32 = (1.0 - Z) * (1.0 - 1.0 / Z);
    // Powers of Z vanish beside 1 after so many terms.
    const TERMS: usize = 16;
    let n = x.len() / width;
    if n < 2 {
        return;
    }
    for j in 0..width {
        let (mut sum, mut power) = (0.0, 1.0);
        for k in 0..TERMS.min(2 * n - 2) {
            sum += power * x[mirror(k, n) * width + j];
            power *= Z;
        }
        // The mirrored sequence repeats: `power` is Z to the period, or nothing.
        x[j] = GAIN * sum / (1.0 - power);
    }
    for i in 1..n {
        let (done, rest) = x.split_at_mut(i * width);
        for (value, before) in rest[..width].iter_mut().zip(&done[(i - 1) * width..]) {
            *value = GAIN * *value + Z * before;
        }
    }
    let (done, last) = x.split_at_mut((n - 1) * width);
    for (value, before) in last.iter_mut().zip(&done[(n - 2) * width..]) {
        *value = Z / (Z * Z - 1.0) * (Z * before + *value);
    }
    for i in (0..n - 1).rev() {
        let (rest, done) = x.split_at_mut((i + 1) * width);
        for (value, after) in rest[i * width..].iter_mut().zip(&done[..width]) {
            *value = Z * (after - *value);
        }
    }
}

/// The window at the centre. It starts at half the margin, with halves rounded to the even number.
pub fn center_crop(pair: Pair, size: Size) -> Pair {
    let whole = pair.size();
    let start = |margin: usize| {
        let low = margin / 2;
        if margin % 2 == 1 { low + low % 2 } else { low }
    };
    pair.crop((start(whole.width - size.width), start(whole.height - size.height)), size)
}
