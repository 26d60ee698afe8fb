//! From a case to its two frames: layers for the synthetic generator's renderer, then what the camera does to frame 2.

use std::sync::Arc;

use ferroflow_core::{FlowField, Frame, Mask, Size};
use image::{ExtendedColorType, ImageEncoder, ImageFormat, codecs::jpeg::JpegEncoder};

use super::{Case, Pair, Scored, Textures};
use crate::math::{pow, sin_cos};
use crate::random::{Random, mix};
use crate::synth::coverage::Point;
use crate::synth::develop::{Film, Light};
use crate::synth::motion::{Homography, Motion};
use crate::synth::render::{Rendered, render};
use crate::synth::scene::{Layer, Paint, Part, Scene};
use crate::synth::texture::Tile;

/// What moves, and how far. Directions are the seed's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Move {
    /// Everything, by this many pixels.
    Shift(f32),
    /// Everything about the centre, degrees.
    Rotation(f32),
    /// Everything about the centre, by a factor.
    Zoom(f32),
    /// A square at the centre, over a background that stays.
    Square { side: f32, length: f32 },
    /// Twelve bars of 100 px, over a background that stays.
    Bars { thickness: f32, length: f32 },
    /// A square at the centre, over a background that moves the other way by `behind`.
    Over { side: f32, length: f32, behind: f32 },
}

/// What everything is painted with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Surface {
    /// Texture at every pixel and every scale.
    Rich,
    /// One grey.
    Flat,
    /// The rich texture within `range` grey levels about `mean`.
    Contrast { range: f32, mean: f32 },
    /// A chequerboard.
    Checks,
    /// Bricks that are all alike.
    Bricks,
}

/// What is done to the frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Camera {
    /// Nothing.
    Clean,
    /// Noise in both, near normal, standard deviation in grey levels.
    Noise(f32),
    /// Both exposed for this share of the time between them.
    Shutter(f32),
    /// Frame 2 compressed with this quality.
    Jpeg(u8),
    /// Frame 2 times this.
    Gain(f32),
    /// Frame 2, of 0..1, to this power.
    Gamma(f32),
    /// Grey levels added to frame 2.
    Offset(f32),
}

/// Texels per pixel of the rich textures: finer detail than two pixels would be blurred by a shift by half of one.
const DENSITY: f32 = 0.5;

pub(super) fn pair(case: &Case, textures: &Textures) -> Pair {
    let Size { height, width } = case.size;
    let mut random = Random::new(textures.seed, &[0x0005_CE7E_CA4D, height as u64, width as u64]);
    let shutter = if let Camera::Shutter(share) = case.camera { share } else { 0.0 };
    let noise = if let Camera::Noise(deviation) = case.camera { deviation } else { 0.0 };
    let gain = if let Camera::Gain(gain) = case.camera { gain } else { 1.0 };
    let layers = layers(case, textures, &mut random);
    let key = random.bits();
    let film = |gain, frame| Film {
        light: Light { gain: [gain; 3], slope: (0.0, 0.0) },
        shadow: None,
        gamma: 1.0,
        noise,
        key: mix(key ^ frame),
        quality: None,
    };
    let scene = Scene { world: None, layers, shutter, films: [film(1.0, 1), film(gain, 2)] };
    let Rendered { frames: [first, second], flow, occlusion } = render(&scene, case.size);
    let second = match case.camera {
        Camera::Jpeg(quality) => compressed(&second, quality),
        Camera::Gamma(gamma) => mapped(second, |v| 255.0 * pow(v / 255.0, gamma)),
        Camera::Offset(levels) => mapped(second, |v| v + levels),
        Camera::Clean | Camera::Noise(_) | Camera::Shutter(_) | Camera::Gain(_) => second,
    };
    let scored = scored(case.scored, &flow, &occlusion);
    Pair { first, second, flow, scored }
}

fn layers(case: &Case, textures: &Textures, random: &mut Random) -> Vec<Layer> {
    let center = (case.size.width as f32 / 2.0 - 0.5, case.size.height as f32 / 2.0 - 0.5);
    // Unit vectors of rational parts: a shift by a whole multiple of 5 px is one of whole pixels.
    let direction = [(0.8, 0.6), (-0.6, 0.8), (-0.8, -0.6), (0.6, -0.8)][(textures.seed % 4) as usize];
    let shift =
        |length: f32| Homography([1.0, 0.0, direction.0 * length, 0.0, 1.0, direction.1 * length, 0.0, 0.0, 1.0]);
    let about =
        |degrees: f32, zoom: f32| Homography::similarity(center, degrees.to_radians(), (zoom, zoom), (0.0, 0.0));
    let square = |side: f32| vec![rectangle(center, (side, side), 0.0)];
    let back = paint(case.surface, textures, random);
    let front = |random: &mut Random| rich(&textures.other, random);
    let layer = |contours, paint, map| Layer {
        parts: vec![Part { contours, paint }],
        motion: Motion::new(Vec::new(), map),
        opacity: 1.0,
    };
    let behind = |map| layer(Vec::new(), back.clone(), map);
    match case.motion {
        Move::Shift(length) => vec![behind(shift(length))],
        Move::Rotation(degrees) => vec![behind(about(degrees, 1.0))],
        Move::Zoom(factor) => vec![behind(about(0.0, factor))],
        Move::Square { side, length } => {
            vec![behind(Homography::IDENTITY), layer(square(side), front(random), shift(length))]
        }
        Move::Over { side, length, behind: other } => {
            vec![behind(shift(-other)), layer(square(side), front(random), shift(length))]
        }
        Move::Bars { thickness, length } => {
            let place = |i: usize| {
                let at = |k: usize, of: f32, span: usize| (k as f32 + 0.5) / of * (span as f32 - 40.0) + 20.0;
                (at(i % 4, 4.0, case.size.width), at(i / 4, 3.0, case.size.height))
            };
            let bars = (0..12).map(|i| rectangle(place(i), (100.0, thickness), random.spread(1.5))).collect();
            vec![behind(Homography::IDENTITY), layer(bars, front(random), shift(length))]
        }
    }
}

/// Corners in order, turned by `angle` radians. Whole sides about a centre between pixels end between pixels.
fn rectangle(center: Point, (long, wide): (f32, f32), angle: f32) -> Vec<Point> {
    let (s, c) = sin_cos(angle);
    [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
        .map(|(x, y): Point| {
            let (x, y) = (x * long, y * wide);
            (center.0 + c * x - s * y, center.1 + s * x + c * y)
        })
        .to_vec()
}

fn paint(surface: Surface, textures: &Textures, random: &mut Random) -> Paint {
    let rich = rich(&textures.rich, random);
    match surface {
        Surface::Rich => rich,
        Surface::Flat => Paint { gain: [0.0; 3], bias: [128.0; 3], ..rich },
        Surface::Contrast { range, mean } => Paint { gain: [range / 255.0; 3], bias: [mean - 0.5 * range; 3], ..rich },
        Surface::Checks => plain(&textures.checks, 1.0, random),
        Surface::Bricks => plain(&textures.bricks, 1.0, random),
    }
}

fn rich(tile: &Arc<Tile>, random: &mut Random) -> Paint {
    plain(tile, DENSITY, random)
}

/// A tile as it is, somewhere.
fn plain(tile: &Arc<Tile>, density: f32, random: &mut Random) -> Paint {
    let (x, y) = (random.range(0.0, 512.0), random.range(0.0, 512.0));
    Paint {
        tile: tile.clone(),
        map: [density, 0.0, x, 0.0, density, y],
        density,
        gain: [1.0; 3],
        bias: [0.0; 3],
        shade: (1.0, 0.0, 0.0),
        cutout: false,
    }
}

fn mapped(mut frame: Frame, f: impl Fn(f32) -> f32) -> Frame {
    for value in frame.rgb_mut() {
        *value = (f(f32::from(*value)) + 0.5).clamp(0.0, 255.0) as u8;
    }
    frame
}

/// The frame as a JPEG of this quality gives it back.
fn compressed(frame: &Frame, quality: u8) -> Frame {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .write_image(frame.rgb(), frame.width() as u32, frame.height() as u32, ExtendedColorType::Rgb8)
        .expect("memory takes any frame of a size that JPEG has");
    let image = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg).expect("what was just encoded decodes");
    Frame::new(frame.size(), image.into_rgb8().into_raw()).expect("a JPEG has the size that it was made with")
}

fn scored(which: Scored, flow: &FlowField, occlusion: &Mask) -> Mask {
    let size = flow.size();
    let visible = |x, y| !occlusion.get(x, y);
    match which {
        Scored::Visible => Mask::from_fn(size, visible),
        Scored::Moving => Mask::from_fn(size, |x, y| visible(x, y) && flow.known(x, y) != Some((0.0, 0.0))),
        Scored::Border(radius) => {
            let near = border(flow, radius);
            Mask::from_fn(size, |x, y| visible(x, y) && near.get(x, y))
        }
    }
}

/// The pixels at most `radius` from a pixel whose right or lower neighbour, or which itself to the left or above, moves
/// otherwise by a pixel or more.
fn border(flow: &FlowField, radius: f32) -> Mask {
    let Size { height, width } = flow.size();
    let differ = |a: (usize, usize), b: (usize, usize)| {
        let (Some(p), Some(q)) = (flow.known(a.0, a.1), flow.known(b.0, b.1)) else { return false };
        (p.0 - q.0).hypot(p.1 - q.1) >= 1.0
    };
    let mut near = Mask::filled(flow.size(), false);
    let reach = radius as usize;
    let mut mark = |x: usize, y: usize| {
        for row in y.saturating_sub(reach)..(y + reach + 1).min(height) {
            for column in x.saturating_sub(reach)..(x + reach + 1).min(width) {
                let (dx, dy) = (column.abs_diff(x) as f32, row.abs_diff(y) as f32);
                near.data_mut()[row * width + column] |= dx * dx + dy * dy <= radius * radius;
            }
        }
    };
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        if x + 1 < width && differ((x, y), (x + 1, y)) || y + 1 < height && differ((x, y), (x, y + 1)) {
            mark(x, y);
        }
    }
    near
}
