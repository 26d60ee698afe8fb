//! tfoptflow's augmentation: crop, flips, and in the heavy set a shift of frame 2 and a small change of scale. As in tfoptflow,
//! frames have 8 bits, and what a shift or a shrink uncovers is black and keeps the computed flow.

use ferroflow_core::Size;

use super::{Augment, Image, Pair, origin};
use crate::random::Random;
use crate::{DataError, Sample};

/// The basic (crop and flips) or heavy set.
pub struct Tfoptflow {
    /// Size of the result.
    pub crop: Size,
    /// Also translate and scale.
    pub heavy: bool,
}

impl Augment for Tfoptflow {
    fn size(&self) -> Option<Size> {
        Some(self.crop)
    }

    fn apply(&self, sample: Sample, random: &mut Random, _: u64) -> Result<Sample, DataError> {
        let at = origin(&sample.id, sample.first.size(), self.crop, random)?;
        let mut pair = Pair::from_sample(&sample).crop(at, self.crop);
        for horizontal in [true, false] {
            if random.chance(0.5) {
                pair = pair.flip(horizontal);
            }
        }
        if self.heavy {
            let (tw, th) = (random.spread(0.05), random.spread(0.05));
            if random.chance(0.5) {
                let Size { height: h, width: w } = self.crop;
                // Truncated towards zero.
                pair = translate(pair, (tw * w as f32) as isize, (th * h as f32) as isize);
            }
            let ratio = random.range(0.95, 1.05);
            if random.chance(0.5) {
                pair = scale(pair, f64::from(ratio));
            }
        }
        Ok(pair.into_sample(sample.id))
    }
}

/// Shifts frame 2 by `(tw, th)`, fills with black, and adds the shift to the flow.
pub fn translate(mut pair: Pair, tw: isize, th: isize) -> Pair {
    let old = &pair.images[1];
    let (w, h) = (old.width as isize, old.height as isize);
    pair.images[1] = Image::from_fn(old.size(), 3, |x, y, c| {
        let (x, y) = (x as isize - tw, y as isize - th);
        if x >= 0 && y >= 0 && x < w && y < h { old.at(x as usize, y as usize, c) } else { 0.0 }
    });
    if let Some(flow) = &mut pair.flow {
        for p in flow.data.chunks_exact_mut(2) {
            p[0] += tw as f32;
            p[1] += th as f32;
        }
    }
    pair.occlusion = None;
    pair
}

/// Scales frames and flow by `ratio` within the same size: the result is the middle of the enlarged frames, or smaller frames on
/// black.
pub fn scale(pair: Pair, ratio: f64) -> Pair {
    let size = pair.size();
    let [a, b] = &pair.images;
    let whole = |image: Image| Image { data: image.data.iter().map(|v| (v + 0.5).floor()).collect(), ..image };
    let images = [whole(scale_image(a, size, ratio)), whole(scale_image(b, size, ratio))];
    let flow = pair.flow.map(|flow| {
        let mut scaled = scale_image(&flow, size, ratio);
        scaled.data.iter_mut().for_each(|v| *v *= ratio as f32);
        scaled
    });
    let known = |mask: &Image| {
        let mut scaled = scale_image(mask, size, ratio);
        // A blend with unknown flow is unknown.
        scaled.data.iter_mut().for_each(|v| *v = f32::from(u8::from(*v > 0.999)));
        scaled
    };
    Pair { images, flow, valid: pair.valid.as_ref().map(known), occlusion: None }
}

fn scale_image(image: &Image, Size { height: h, width: w }: Size, ratio: f64) -> Image {
    // One axis: where the source piece starts, its length, and the length and start of what it becomes.
    let axis = |n: usize| {
        let scaled = (n as f64 * ratio) as usize;
        let low = scaled.saturating_sub(n) / 2;
        let (from, to) = ((low as f64 / ratio) as usize, ((low + n) as f64 / ratio) as usize);
        let length = scaled.min(n);
        (from, to.min(n) - from, length, (n - length) / 2)
    };
    let ((x0, sw, dw, left), (y0, sh, dh, top)) = (axis(w), axis(h));
    let piece = image.crop((x0, y0), Size::new(sh, sw)).resize(Size::new(dh, dw));
    let mut out = Image { width: w, height: h, channels: image.channels, data: vec![0.0; w * h * image.channels] };
    for y in 0..dh {
        let (to, from) = (((top + y) * w + left) * image.channels, y * dw * image.channels);
        out.data[to..to + dw * image.channels].copy_from_slice(&piece.data[from..from + dw * image.channels]);
    }
    out
}
