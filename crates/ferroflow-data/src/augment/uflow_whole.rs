//! Whole frames as UFlow's loaders give them: resized to one size and, by chance, mirrored top to bottom. The colours of a copy are
//! changed, and the unchanged frames are kept beside it.

use ferroflow_core::Size;

use super::{
    Augment, Beside, Image, Pair,
    uflow::{Photometric, antialiased, mask_of, resize_masked},
};
use crate::random::Random;
use crate::{DataError, Sample};

/// The loader whose way of resizing and of changing colours is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// google-research/uflow: plain bilinear resizing and all photometric changes.
    Google,
    /// The MindSpore port: Pillow's bilinear resizing, which smooths where it shrinks; it only reorders channels and changes the hue.
    MindSpore,
}

/// Resizes whole frames.
pub struct Whole {
    /// Size of the result.
    pub size: Size,
    /// The loader to follow.
    pub loader: Loader,
    /// Mirror top to bottom with a probability of 1/2.
    pub flip: bool,
    /// What is kept beside the changed frames: they are whole.
    pub beside: Beside,
}

impl Augment for Whole {
    fn size(&self) -> Option<Size> {
        Some(self.size)
    }

    fn apply(&self, sample: Sample, random: &mut Random, _: u64) -> Result<Sample, DataError> {
        let mut pair = self.resized(Pair::from_sample(&sample));
        if self.flip && random.chance(0.5) {
            pair = pair.flip(false);
        }
        let plain = self.beside.original.then(|| pair.images.clone());
        match self.loader {
            Loader::Google => {
                let photometric = Photometric::draw(random);
                pair.images.iter_mut().for_each(|image| photometric.apply_to_bytes(image, random));
            }
            Loader::MindSpore => {
                let colours = PortColours::draw(random);
                pair.images.iter_mut().for_each(|image| colours.apply(image));
            }
        }
        let original = plain.map(|images| images.map(|image| image.to_frame()));
        Ok(Sample { original, ..pair.into_sample(sample.id) })
    }
}

impl Whole {
    fn resized(&self, pair: Pair) -> Pair {
        if pair.size() == self.size {
            return pair;
        }
        let images = pair.images.each_ref().map(|image| match self.loader {
            Loader::Google => image.resize(self.size),
            Loader::MindSpore => antialiased(image, self.size),
        });
        let known = pair.flow.as_ref().map(|flow| resize_masked(flow, &mask_of(&pair), self.size));
        let occlusion = pair.occlusion.as_ref().map(|mask| mask.resize(self.size));
        match known {
            Some((flow, valid)) => Pair { images, flow: Some(flow), valid: Some(valid), occlusion },
            None => Pair { images, flow: None, valid: None, occlusion },
        }
    }
}

/// The port's draws, which are the same for both frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortColours {
    /// Channels rotated by this much, then by chance reversed.
    pub swap: (usize, bool),
    /// Added to Pillow's hue of 0..=255, modulo 256.
    pub hue: u8,
}

impl PortColours {
    /// Draws in the port's ranges.
    pub fn draw(random: &mut Random) -> Self {
        let swap = (random.below(3), random.chance(0.5));
        // np.uint8 of a number between -127.5 and 127.5 cuts off its fraction and goes round.
        Self { swap, hue: (random.spread(0.5) * 255.0) as i32 as u8 }
    }

    /// Changes an image of 0..255 in place.
    pub fn apply(self, image: &mut Image) {
        for p in image.data.chunks_exact_mut(3) {
            p.rotate_right(self.swap.0);
            if self.swap.1 {
                p.reverse();
            }
            let [h, s, v] = to_hsv([p[0], p[1], p[2]].map(|v| v.round().clamp(0.0, 255.0) as u8));
            let rgb = from_hsv([h.wrapping_add(self.hue), s, v]);
            p.iter_mut().zip(rgb).for_each(|(p, v)| *p = f32::from(v));
        }
    }
}

/// Pillow's `RGB` to `HSV`, each of 0..=255, cut off rather than rounded.
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    if high == low {
        return [0, 0, high];
    }
    let range = f32::from(high) - f32::from(low);
    let part = |v: u8| (f32::from(high) - f32::from(v)) / range;
    let sixths = if r == high {
        part(b) - part(g)
    } else if g == high {
        2.0 + part(r) - part(b)
    } else {
        4.0 + part(g) - part(r)
    };
    let hue = ((f64::from(sixths) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (range / f32::from(high) * 255.0) as u8, high]
}

/// Pillow's `HSV` to `RGB`.
fn from_hsv([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let place = f32::from(h) * 6.0 / 255.0;
    let sixth = place.floor();
    let (f, s, value) = (place - sixth, f32::from(s) / 255.0, f32::from(v));
    let [p, q, t] = [1.0 - s, 1.0 - s * f, 1.0 - s * (1.0 - f)].map(|share| (value * share).round() as u8);
    match sixth as usize % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests {
    use ferroflow_core::{FlowField, Frame};

    use super::*;

    /// What Pillow 13 gives for `Image.new("RGB", (1, 1), rgb).convert("HSV")`, and back.
    #[test]
    fn hue_is_pillows() {
        for (rgb, hsv, back) in [
            ([255, 0, 0], [0, 255, 255], [255, 0, 0]),
            ([0, 255, 0], [85, 255, 255], [0, 255, 0]),
            ([0, 0, 255], [170, 255, 255], [0, 0, 255]),
            ([10, 200, 90], [102, 242, 200], [10, 200, 86]),
            ([7, 7, 7], [0, 0, 7], [7, 7, 7]),
            ([33, 180, 244], [140, 220, 244], [33, 182, 244]),
            ([250, 3, 120], [234, 251, 250], [250, 4, 126]),
        ] {
            assert_eq!((to_hsv(rgb), from_hsv(hsv)), (hsv, back), "{rgb:?}");
        }
    }

    fn sample() -> Sample {
        let size = Size::new(30, 40);
        let frame = |s: usize| Frame::from_fn(size, |x, y| [(5 * x + s) as u8, (7 * y) as u8, 90]);
        let flow = FlowField::from_fn(size, |x, y| (x as f32 / 8.0, 1.0 + y as f32 / 4.0));
        Sample {
            first: frame(0),
            second: frame(9),
            flow: Some(flow),
            occlusion: None,
            original: None,
            surround: None,
            id: "a".into(),
        }
    }

    #[test]
    fn the_whole_frame_is_kept_beside_what_its_colours_become() {
        for (loader, flip) in [(Loader::Google, false), (Loader::MindSpore, true)] {
            // Half as wide, twice as high.
            let (size, sample) = (Size { height: 60, width: 20 }, sample());
            let whole = Whole { size, loader, flip, beside: Beside { original: true, surround: false } };
            let mut mirrored = 0;
            for seed in 0..8 {
                let out = whole.apply(sample.clone(), &mut Random::new(seed, &[]), 0).unwrap();
                let [first, second] = out.original.as_ref().unwrap();
                assert_eq!([out.first.size(), out.second.size(), first.size(), second.size()], [size; 4]);
                assert_ne!(first, &out.first);
                let flow = out.flow.unwrap();
                assert_eq!(flow.size(), size);
                // What was green at the bottom moved down; mirrored it is at the top and moves up.
                let is_mirrored = first.pixel(10, 5)[1] > first.pixel(10, 55)[1];
                mirrored += usize::from(is_mirrored);
                assert_eq!(flow.get(10, 30).1 < 0.0, is_mirrored);
                assert!((flow.get(10, 30).0 - 20.5 / 8.0 / 2.0).abs() < 0.1, "{}", flow.get(10, 30).0);
            }
            assert_eq!(mirrored > 0, flip);
        }
    }
}
