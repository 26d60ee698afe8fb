//! How a layer moves: a plane homography after a few shear waves, each exactly invertible.
//!
//! A layer's own coordinates are the pixels of frame 1, so its motion is the map from frame 1 to frame 2 and
//! `flow(p) = motion(p) - p` holds exactly. A shear wave `p += a sin(2 pi (f n.p + phase)) t`, with `t` perpendicular
//! to `n`, leaves `n.p` unchanged; its inverse is the same wave subtracted. Three of them in different directions give
//! a smooth non-rigid field whose inverse needs no iteration.

use crate::math::{sin_cos, sin_turns};

/// A 3x3 plane homography, row-major, last element 1 up to scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Homography(pub [f32; 9]);

impl Homography {
    /// No motion.
    pub const IDENTITY: Self = Self([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);

    /// Rotation by `angle` radians and scaling about `center`, then a shift.
    pub fn similarity(center: (f32, f32), angle: f32, scale: (f32, f32), shift: (f32, f32)) -> Self {
        let (s, c) = sin_cos(angle);
        let (a, b, d, e) = (c * scale.0, -s * scale.1, s * scale.0, c * scale.1);
        let x = center.0 + shift.0 - a * center.0 - b * center.1;
        let y = center.1 + shift.1 - d * center.0 - e * center.1;
        Self([a, b, x, d, e, y, 0.0, 0.0, 1.0])
    }

    /// Perspective tilt about `center`: the denominator is `1 + tilt . (p - center)`.
    pub fn tilt(center: (f32, f32), tilt: (f32, f32)) -> Self {
        let back = Self([1.0, 0.0, center.0, 0.0, 1.0, center.1, 0.0, 0.0, 1.0]);
        let there = Self([1.0, 0.0, -center.0, 0.0, 1.0, -center.1, 0.0, 0.0, 1.0]);
        Self([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, tilt.0, tilt.1, 1.0]).after(there).before(back)
    }

    /// `self` applied after `first`.
    pub fn after(self, first: Self) -> Self {
        let (a, b) = (self.0, first.0);
        let mut out = [0.0; 9];
        for row in 0..3 {
            for column in 0..3 {
                out[row * 3 + column] = (0..3).map(|k| a[row * 3 + k] * b[k * 3 + column]).sum();
            }
        }
        Self(out)
    }

    /// `self` applied before `next`.
    pub fn before(self, next: Self) -> Self {
        next.after(self)
    }

    /// The map back, by the adjugate (a homography's scale is free).
    pub fn inverse(self) -> Self {
        // In f64: entries of the adjugate are differences of products as large as 10^6.
        let m = self.0.map(f64::from);
        let cofactor = |a: usize, b: usize, c: usize, d: usize| m[a] * m[d] - m[b] * m[c];
        let adjugate = [
            cofactor(4, 5, 7, 8),
            cofactor(2, 1, 8, 7),
            cofactor(1, 2, 4, 5),
            cofactor(5, 3, 8, 6),
            cofactor(0, 2, 6, 8),
            cofactor(2, 0, 5, 3),
            cofactor(3, 4, 6, 7),
            cofactor(1, 0, 7, 6),
            cofactor(0, 1, 3, 4),
        ];
        Self(adjugate.map(|v| (v / adjugate[8]) as f32))
    }

    fn is_affine(&self) -> bool {
        self.0[6] == 0.0 && self.0[7] == 0.0
    }

    #[inline(always)]
    fn apply(&self, x: f32, y: f32) -> (f32, f32) {
        let m = &self.0;
        let w = 1.0 / (m[6] * x + m[7] * y + m[8]);
        ((m[0] * x + m[1] * y + m[2]) * w, (m[3] * x + m[4] * y + m[5]) * w)
    }

    /// Maps points `(xs[i], ys[i])` in place.
    fn apply_row(&self, xs: &mut [f32], ys: &mut [f32]) {
        let m = &self.0;
        if self.is_affine() {
            let w = 1.0 / m[8];
            for (x, y) in xs.iter_mut().zip(ys) {
                (*x, *y) = ((m[0] * *x + m[1] * *y + m[2]) * w, (m[3] * *x + m[4] * *y + m[5]) * w);
            }
        } else {
            for (x, y) in xs.iter_mut().zip(ys) {
                (*x, *y) = self.apply(*x, *y);
            }
        }
    }
}

/// One shear wave.
#[derive(Clone, Copy, Debug)]
pub struct Wave {
    /// Unit vector along which the wave varies; points move perpendicular to it.
    pub normal: (f32, f32),
    /// Largest displacement, pixels.
    pub amplitude: f32,
    /// Periods per pixel.
    pub frequency: f32,
    /// Phase, turns.
    pub phase: f32,
}

impl Wave {
    #[inline(always)]
    fn shift(&self, x: f32, y: f32, sign: f32) -> (f32, f32) {
        let along = (self.normal.0 * x + self.normal.1 * y) * self.frequency + self.phase;
        let a = sign * self.amplitude * sin_turns(along);
        (x - a * self.normal.1, y + a * self.normal.0)
    }
}

/// Motion of one layer from frame 1 to frame 2.
#[derive(Clone, Debug)]
pub struct Motion {
    waves: Vec<Wave>,
    map: Homography,
    inverse: Homography,
}

impl Motion {
    /// Shear waves first, then the homography.
    pub fn new(waves: Vec<Wave>, map: Homography) -> Self {
        Self { waves, map, inverse: map.inverse() }
    }

    /// The same motion in a frame `scale` times as wide and high.
    pub fn scaled(&self, scale: f32) -> Self {
        let waves = self.waves.iter().map(|wave| Wave {
            amplitude: wave.amplitude * scale,
            frequency: wave.frequency / scale,
            ..*wave
        });
        let [a, b, c, d, e, f, g, h, i] = self.map.0;
        let map = Homography([a, b, c * scale, d, e, f * scale, g / scale, h / scale, i]);
        Self::new(waves.collect(), map)
    }

    /// The homography part.
    pub fn homography(&self) -> Homography {
        self.map
    }

    /// Whether straight lines may bend.
    pub fn bends(&self) -> bool {
        !self.waves.is_empty()
    }

    /// Where a pixel of frame 1 lies in frame 2.
    pub fn forward(&self, x: f32, y: f32) -> (f32, f32) {
        let (mut x, mut y) = (x, y);
        for wave in &self.waves {
            (x, y) = wave.shift(x, y, 1.0);
        }
        self.map.apply(x, y)
    }

    /// Frame 1 to frame 2 for a run of points, in place.
    pub fn forward_row(&self, xs: &mut [f32], ys: &mut [f32]) {
        for wave in &self.waves {
            for (x, y) in xs.iter_mut().zip(ys.iter_mut()) {
                (*x, *y) = wave.shift(*x, *y, 1.0);
            }
        }
        self.map.apply_row(xs, ys);
    }

    /// Frame 2 to frame 1 for a run of points, in place.
    pub fn inverse_row(&self, xs: &mut [f32], ys: &mut [f32]) {
        self.inverse.apply_row(xs, ys);
        for wave in self.waves.iter().rev() {
            for (x, y) in xs.iter_mut().zip(ys.iter_mut()) {
                (*x, *y) = wave.shift(*x, *y, -1.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forward_then_inverse_is_the_identity() {
        let center = (256.0, 192.0);
        let map = Homography::tilt(center, (2e-4, -1e-4)).before(Homography::similarity(
            center,
            0.3,
            (1.1, 0.9),
            (25.0, -14.0),
        ));
        let wave = |angle: f32| Wave { normal: sin_cos(angle), amplitude: 6.0, frequency: 1.0 / 120.0, phase: angle };
        let motion = Motion::new(vec![wave(0.2), wave(1.9), wave(4.0)], map);
        let mut xs: Vec<f32> = (0..512).map(|x| x as f32).collect();
        let mut ys: Vec<f32> = (0..512).map(|x| (x * 37 % 384) as f32).collect();
        let (x0, y0) = (xs.clone(), ys.clone());
        motion.forward_row(&mut xs, &mut ys);
        assert!((motion.forward(x0[9], y0[9]).0 - xs[9]).abs() < 1e-3);
        assert!((xs[9] - x0[9]).abs() > 1.0);
        motion.inverse_row(&mut xs, &mut ys);
        for i in 0..512 {
            // f32 at coordinates near 500 resolves 3e-5 px; a dozen roundings.
            assert!((xs[i] - x0[i]).abs() < 2e-3 && (ys[i] - y0[i]).abs() < 2e-3, "{i}");
        }
    }
}
