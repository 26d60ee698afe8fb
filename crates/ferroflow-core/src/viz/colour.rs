//! The colour codes of flow.

use std::f64::consts::PI;

use super::normalisation::Scale;
use crate::{FlowField, Frame};

/// The colour of pixels that do not move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Zero {
    /// White, as published.
    #[default]
    White,
    /// Black, for dark pages and overlays.
    Black,
}

/// A colour code.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Colours {
    /// The wheel of Baker et al. (IJCV 2011); with white `zero` and a `gamma` of 1 it gives exactly the colours of
    /// Middlebury's own code.
    /// The relative length is raised to `gamma`: below 1, slow motion is more visible.
    Wheel {
        /// The colour of pixels that do not move.
        zero: Zero,
        /// Exponent of the relative length.
        gamma: f64,
    },
    /// Direction as hue, length as saturation, full value (tfoptflow); with black zero, length as value at full saturation.
    /// Within one grey level of OpenCV's conversion.
    Hsv {
        /// The colour of pixels that do not move.
        zero: Zero,
    },
    /// `flow2rgb` of LightFlow: `r = 1 + u`, `g = 1 - (u + v)/2`, `b = 1 + v` of the flow divided by its largest
    /// component, clipped; pixels without any motion are black.
    LightFlow,
}

impl Default for Colours {
    fn default() -> Self {
        Self::Wheel { zero: Zero::White, gamma: 1.0 }
    }
}

impl Colours {
    /// What this code normalises by: the length of the vector, or its larger component.
    pub(super) fn length(self, u: f64, v: f64) -> f64 {
        match self {
            Self::LightFlow => u.abs().max(v.abs()),
            // Not `hypot`: the reference squares and takes the root.
            _ => (u * u + v * v).sqrt(),
        }
    }

    /// The colour of a vector in px.
    pub fn of(self, u: f32, v: f32, scale: Scale) -> [u8; 3] {
        if !(u.is_finite() && v.is_finite()) {
            return [0; 3];
        }
        match self {
            Self::Wheel { zero, gamma } => {
                let divisor = scale.high + f64::EPSILON;
                wheel(f64::from(u) / divisor, f64::from(v) / divisor, zero, gamma)
            }
            Self::Hsv { zero } => {
                let range = scale.high - scale.low;
                let strength = (self.length(u.into(), v.into()) - scale.low) * 255.0;
                let strength = if range > 0.0 { strength / range } else { 0.0 } as u8;
                let angle = f64::from(v).atan2(u.into()).to_degrees();
                let hue = ((if angle < 0.0 { angle + 360.0 } else { angle }) / 2.0) as u8;
                match zero {
                    Zero::White => hsv(hue, strength, 255),
                    Zero::Black => hsv(hue, 255, strength),
                }
            }
            Self::LightFlow if u == 0.0 && v == 0.0 => [0; 3],
            Self::LightFlow => {
                let (u, v) = (u / scale.high as f32, v / scale.high as f32);
                [1.0 + u, 1.0 - 0.5 * (u + v), 1.0 + v].map(|c| (c.clamp(0.0, 1.0) * 255.0) as u8)
            }
        }
    }

    /// Paints a flow; unknown pixels are black.
    pub fn paint(self, flow: &FlowField, scale: Scale) -> Frame {
        Frame::par_from_fn(flow.size(), |x, y| flow.known(x, y).map_or([0; 3], |(u, v)| self.of(u, v, scale)))
    }
}

/// Columns of the wheel: red to yellow 15, green 6, cyan 4, blue 11, magenta 13, back to red 6.
const COLUMNS: usize = 55;

const WHEEL: [[u8; 3]; COLUMNS] = {
    // (columns, first colour, which channel changes, whether it rises)
    let segments: [(usize, [u8; 3], usize, bool); 6] = [
        (15, [255, 0, 0], 1, true),
        (6, [255, 255, 0], 0, false),
        (4, [0, 255, 0], 2, true),
        (11, [0, 255, 255], 1, false),
        (13, [0, 0, 255], 0, true),
        (6, [255, 0, 255], 2, false),
    ];
    let mut wheel = [[0; 3]; COLUMNS];
    let (mut column, mut s) = (0, 0);
    while s < segments.len() {
        let (n, first, channel, rises) = segments[s];
        let mut i = 0;
        while i < n {
            let t = (255 * i / n) as u8;
            wheel[column] = first;
            wheel[column][channel] = if rises { t } else { 255 - t };
            (column, i) = (column + 1, i + 1);
        }
        s += 1;
    }
    wheel
};

/// The wheel's colour of a flow already divided by the length at full strength; white at rest.
pub fn wheel_colour(u: f64, v: f64) -> [u8; 3] {
    wheel(u, v, Zero::White, 1.0)
}

fn wheel(u: f64, v: f64, zero: Zero, gamma: f64) -> [u8; 3] {
    let length = (u * u + v * v).sqrt();
    let turn = (-v).atan2(-u) / PI;
    let place = (turn + 1.0) / 2.0 * (COLUMNS - 1) as f64;
    let (first, fraction) = (place as usize, place.fract());
    let strength = if gamma == 1.0 { length } else { length.powf(gamma) };
    [0, 1, 2].map(|c| {
        let [low, high] = [first, first + 1].map(|column| f64::from(WHEEL[column % COLUMNS][c]) / 255.0);
        let full = (1.0 - fraction) * low + fraction * high;
        let colour = match zero {
            _ if length > 1.0 => full * 0.75,
            Zero::White => 1.0 - strength * (1.0 - full),
            Zero::Black => strength * full,
        };
        // `as` rounds towards zero, as the reference does.
        (255.0 * colour) as u8
    })
}

/// 8-bit HSV to RGB, hue in units of 2 degrees.
fn hsv(hue: u8, saturation: u8, value: u8) -> [u8; 3] {
    let place = f32::from(hue) / 30.0;
    let (s, v) = (f32::from(saturation) / 255.0, f32::from(value));
    let f = place.fract();
    let [full, none, falling, rising] = [v, v * (1.0 - s), v * (1.0 - s * f), v * (1.0 - s * (1.0 - f))];
    let rgb = match place as u32 % 6 {
        0 => [full, rising, none],
        1 => [falling, full, none],
        2 => [none, full, rising],
        3 => [none, falling, full],
        4 => [rising, none, full],
        _ => [full, none, falling],
    };
    rgb.map(|c| c.round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Size,
        viz::{Normalisation, Scaler, picture},
    };

    #[test]
    fn the_wheel_has_the_published_colours() {
        for ((u, v), colour) in [
            ((1.0, 0.0), [255, 0, 0]),
            ((0.0, 1.0), [255, 229, 0]),
            ((-1.0, 0.0), [0, 209, 255]),
            ((0.0, -1.0), [88, 0, 255]),
            ((0.6, 0.8), [255, 135, 0]),
            ((0.3, -0.4), [225, 127, 255]),
            ((0.0, 0.0), [255, 255, 255]),
            ((2.0, 0.0), [191, 0, 0]),
        ] {
            assert_eq!(wheel_colour(u, v), colour, "({u}, {v})");
        }
        assert_eq!(WHEEL[0], [255, 0, 0]);
        assert_eq!(WHEEL[14], [255, 238, 0]);
        assert_eq!(WHEEL[54], [255, 0, 43]);
    }

    /// Pictures of a flow of all directions, summed up; the sums are of Middlebury's formulae run in NumPy.
    #[test]
    fn whole_pictures_are_exact_to_the_pixel() {
        let flow = FlowField::from_fn(Size::new(48, 64), |x, y| {
            let of = |a, b, modulus, middle| ((x * a + y * b) % modulus) as f32 - middle;
            (of(37, 11, 101, 50.0) * 0.25, of(13, 53, 89, 44.0) * 0.125)
        });
        let sum = |rule| {
            let painted = picture(&flow, Colours::default(), &mut Scaler::new(rule));
            painted
                .rgb()
                .iter()
                .fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
        };
        assert_eq!(sum(Normalisation::Frame), 0x11c2_5026_dab2_0735);
        // Many vectors are longer than 5 px: their colours are the darkened ones.
        assert_eq!(sum(Normalisation::Fixed(5.0)), 0x18dd_5a6f_60d7_b720);
    }

    #[test]
    fn zero_is_black_if_asked_and_gamma_lifts_slow_motion() {
        assert_eq!(wheel(0.0, 0.0, Zero::Black, 1.0), [0; 3]);
        assert_eq!(wheel(1.0, 0.0, Zero::Black, 1.0), [255, 0, 0]);
        assert_eq!(wheel(0.25, 0.0, Zero::White, 0.5), wheel(0.5, 0.0, Zero::White, 1.0));
    }

    #[test]
    fn unknown_pixels_are_black_in_every_code() {
        let flow = FlowField::sparse_from_fn(Size::new(1, 2), |x, _| (x == 0).then_some((3.0, 0.0)));
        for colours in [Colours::default(), Colours::Hsv { zero: Zero::White }, Colours::LightFlow] {
            let painted = picture(&flow, colours, &mut Scaler::new(Normalisation::Fixed(3.0)));
            assert_ne!(painted.pixel(0, 0), [0; 3]);
            assert_eq!(painted.pixel(1, 0), [0; 3]);
            assert_eq!(colours.of(f32::NAN, 0.0, Scale { low: 0.0, high: 1.0 }), [0; 3]);
        }
    }

    /// Values of cv2.cvtColor(COLOR_HSV2RGB), within one level of which ours stay.
    #[test]
    fn hsv_by_opencv() {
        for ((h, s, v), rgb) in [
            ((0, 255, 255), [255, 0, 0]),
            ((30, 255, 255), [255, 255, 0]),
            ((60, 128, 255), [127, 255, 127]),
            ((90, 255, 255), [0, 255, 255]),
            ((135, 255, 255), [128, 0, 255]),
            ((0, 55, 255), [255, 199, 199]),
        ] {
            let near = hsv(h, s, v).iter().zip(rgb).all(|(&a, b): (&u8, u8)| a.abs_diff(b) <= 1);
            assert!(near, "({h}, {s}, {v}): {:?} is not {rgb:?}", hsv(h, s, v));
        }
        // Min-max: the shortest vector is white, the longest saturated.
        let flow = FlowField::from_fn(Size::new(1, 2), |x, _| (1.0 + x as f32, 0.0));
        let painted = picture(&flow, Colours::Hsv { zero: Zero::White }, &mut Scaler::new(Normalisation::Frame));
        assert_eq!(painted.rgb(), [255, 255, 255, 255, 0, 0]);
    }

    #[test]
    fn light_flow_by_hand() {
        let flow = FlowField::from_fn(Size::new(1, 4), |x, _| [(2.0, -4.0), (0.0, 0.0), (-4.0, 4.0), (1.0, 1.0)][x]);
        let painted = picture(&flow, Colours::LightFlow, &mut Scaler::new(Normalisation::Frame));
        // 1 + u, 1 - (u + v)/2, 1 + v of (0.5, -1), none, (-1, 1), (0.25, 0.25).
        assert_eq!(painted.rgb(), [255, 255, 0, 0, 0, 0, 0, 255, 255, 255, 191, 255]);
    }
}
