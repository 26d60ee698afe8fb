//! Space, bodies and cameras: x right, y down, z forward, metres. Double precision, for a scene has few of these numbers
//! and every pixel depends on them.

use crate::math::sin_cos;

/// A point or a direction.
pub type Vector = [f64; 3];
/// A 3x3 matrix, row by row.
pub type Matrix = [f64; 9];

/// `a + b * k`
pub fn plus(a: Vector, b: Vector, k: f64) -> Vector {
    std::array::from_fn(|i| a[i] + b[i] * k)
}

/// Scalar product.
pub fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Vector product.
pub fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// The same direction, one long.
pub fn unit(a: Vector) -> Vector {
    let length = dot(a, a).sqrt().max(1e-12);
    a.map(|v| v / length)
}

/// `a b`
pub fn times(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| (0..3).map(|k| a[i / 3 * 3 + k] * b[k * 3 + i % 3]).sum())
}

/// `m v`
pub fn apply(m: &Matrix, v: Vector) -> Vector {
    std::array::from_fn(|i| m[i * 3] * v[0] + m[i * 3 + 1] * v[1] + m[i * 3 + 2] * v[2])
}

/// Determinant.
pub fn determinant(m: &Matrix) -> f64 {
    dot([m[0], m[1], m[2]], cross([m[3], m[4], m[5]], [m[6], m[7], m[8]]))
}

/// The inverse; `None` for a matrix without one.
pub fn inverse(m: &Matrix) -> Option<Matrix> {
    let d = determinant(m);
    if d.abs() < 1e-30 {
        return None;
    }
    let minor = |a: usize, b: usize, c: usize, e: usize| (m[a] * m[e] - m[b] * m[c]) / d;
    Some([
        minor(4, 5, 7, 8),
        minor(2, 1, 8, 7),
        minor(1, 2, 4, 5),
        minor(5, 3, 8, 6),
        minor(0, 2, 6, 8),
        minor(2, 0, 5, 3),
        minor(3, 4, 6, 7),
        minor(1, 0, 7, 6),
        minor(0, 1, 3, 4),
    ])
}

/// Turned about y (yaw, to the right), then x (pitch, upwards), then z (roll); radians.
pub fn rotation(yaw: f32, pitch: f32, roll: f32) -> Matrix {
    let both = |angle: f32| {
        let (s, c) = sin_cos(angle);
        (f64::from(s), f64::from(c))
    };
    let ((sy, cy), (sp, cp), (sr, cr)) = (both(yaw), both(pitch), both(roll));
    let about_y = [cy, 0.0, sy, 0.0, 1.0, 0.0, -sy, 0.0, cy];
    let about_x = [1.0, 0.0, 0.0, 0.0, cp, -sp, 0.0, sp, cp];
    let about_z = [cr, -sr, 0.0, sr, cr, 0.0, 0.0, 0.0, 1.0];
    times(&times(&about_y, &about_x), &about_z)
}

/// A rigid motion: `turn x + shift`.
#[derive(Clone, Copy, Debug)]
pub struct Rigid {
    /// Rotation.
    pub turn: Matrix,
    /// Translation, applied after it.
    pub shift: Vector,
}

impl Rigid {
    /// No motion.
    pub const STILL: Self = Self { turn: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], shift: [0.0; 3] };

    /// A turn about a point, then a shift.
    pub fn about(center: Vector, turn: Matrix, shift: Vector) -> Self {
        let turned = apply(&turn, center);
        Self { turn, shift: plus(plus(center, turned, -1.0), shift, 1.0) }
    }

    /// Where a point goes.
    pub fn point(&self, x: Vector) -> Vector {
        plus(apply(&self.turn, x), self.shift, 1.0)
    }
}

/// A pinhole camera at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Camera {
    /// Where it is.
    pub position: Vector,
    /// Its axes in the world are the columns.
    pub turn: Matrix,
    /// Focal length, pixels.
    pub focal: f64,
    /// Principal point, pixels.
    pub center: (f64, f64),
}

impl Camera {
    /// A direction of the world as the camera sees it.
    fn turned(&self, v: Vector) -> Vector {
        let t = &self.turn;
        std::array::from_fn(|i| t[i] * v[0] + t[3 + i] * v[1] + t[6 + i] * v[2])
    }

    /// A plane seen by this camera: `m (s, t, 1) = z (x, y, 1)` with `(x, y)` in pixels and `z` the depth in metres.
    pub fn view(&self, plane: &Plane, motion: &Rigid) -> Matrix {
        let columns = [
            self.turned(apply(&motion.turn, plane.across)),
            self.turned(apply(&motion.turn, plane.down)),
            self.turned(plus(motion.point(plane.origin), self.position, -1.0)),
        ];
        let mut m = [0.0; 9];
        for (i, c) in columns.into_iter().enumerate() {
            m[i] = self.focal * c[0] + self.center.0 * c[2];
            m[3 + i] = self.focal * c[1] + self.center.1 * c[2];
            m[6 + i] = c[2];
        }
        m
    }
}

/// A plane with coordinates `(s, t)` in metres. It faces a viewer who sees `across` to the left of `down`, clockwise.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    /// Where both coordinates are 0.
    pub origin: Vector,
    /// Direction of `s`, a unit vector.
    pub across: Vector,
    /// Direction of `t`, a unit vector.
    pub down: Vector,
}

impl Plane {
    /// Unit vector towards those who see its face.
    pub fn normal(&self) -> Vector {
        unit(cross(self.down, self.across))
    }
}

/// The part of a closed contour where `k[0] s + k[1] t + k[2] >= 0`.
pub fn clip(contour: &[(f64, f64)], k: [f64; 3]) -> Vec<(f64, f64)> {
    let side = |p: (f64, f64)| k[0] * p.0 + k[1] * p.1 + k[2];
    let mut out = Vec::with_capacity(contour.len() + 2);
    for (i, &b) in contour.iter().enumerate() {
        let a = contour[(i + contour.len() - 1) % contour.len()];
        let (da, db) = (side(a), side(b));
        if (da >= 0.0) != (db >= 0.0) {
            let f = da / (da - db);
            out.push((a.0 + (b.0 - a.0) * f, a.1 + (b.1 - a.1) * f));
        }
        if db >= 0.0 {
            out.push(b);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_and_its_inverse_agree_with_projecting_points() {
        let camera =
            Camera { position: [0.3, -1.5, 2.0], turn: rotation(0.2, -0.1, 0.05), focal: 300.0, center: (128.0, 96.0) };
        let plane = Plane { origin: [1.0, -2.0, 9.0], across: [1.0, 0.0, 0.0], down: [0.0, 1.0, 0.0] };
        let motion = Rigid::about([1.0, 0.0, 9.0], rotation(0.3, 0.0, 0.0), [0.5, 0.0, -1.0]);
        let m = camera.view(&plane, &motion);
        let seen = apply(&m, [0.7, 1.1, 1.0]);
        // The same by hand: the point, moved, in the camera's axes, divided by its depth.
        let place = plus(plus(plane.origin, plane.across, 0.7), plane.down, 1.1);
        let p = plus(motion.point(place), camera.position, -1.0);
        let axis = |i: usize| dot(p, [camera.turn[i], camera.turn[3 + i], camera.turn[6 + i]]);
        let by_hand = (300.0 * axis(0) / axis(2) + 128.0, 300.0 * axis(1) / axis(2) + 96.0);
        assert!((seen[0] / seen[2] - by_hand.0).abs() < 1e-9 && (seen[1] / seen[2] - by_hand.1).abs() < 1e-9);
        let back = apply(&inverse(&m).unwrap(), [seen[0] / seen[2], seen[1] / seen[2], 1.0]);
        assert!((back[0] / back[2] - 0.7).abs() < 1e-9 && (1.0 / back[2] - axis(2)).abs() < 1e-9);
        // It faces the camera: its normal points towards it, and the determinant says so.
        assert!(determinant(&m) > 0.0 && plane.normal() == [0.0, 0.0, -1.0]);
    }

    #[test]
    fn clipping_keeps_the_side_asked_for() {
        let square = [(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)];
        let half = clip(&square, [1.0, 0.0, -0.5]);
        assert_eq!(half.len(), 4);
        assert!(half.iter().all(|p| p.0 >= 0.5));
        assert!(clip(&square, [1.0, 0.0, -3.0]).is_empty());
    }
}
