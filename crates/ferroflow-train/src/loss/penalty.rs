//! The penalty of a difference between two flows at a pixel.

use super::Sums;

/// `(measure(difference) + epsilon) ^ power`, the form of all per-pixel penalties of the projects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalty {
    /// What is raised to the power.
    pub measure: Measure,
    /// Keeps the gradient finite where the difference is 0.
    pub epsilon: f32,
    /// The exponent. With [`Measure::Squared`], 1/2 gives the end-point error; a smaller exponent makes outliers cheaper.
    pub power: f32,
}

/// The size of a difference `(du, dv)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// `|du| + |dv|`
    Absolute,
    /// `du^2 + dv^2`
    Squared,
}

impl Penalty {
    /// `|du| + |dv|`
    pub const L1: Self = Self { measure: Measure::Absolute, epsilon: 0.0, power: 1.0 };
    /// The end-point error.
    pub const L2: Self = Self { measure: Measure::Squared, epsilon: 0.0, power: 0.5 };

    /// Sums over an image `[2, h, w]`; writes the derivatives of the sum of the penalties.
    pub(super) fn image(&self, output: &[f32], target: &[f32], known: &[bool], gradient: &mut [f32]) -> Sums {
        // One loop for each power that is common, so that it is known at compile time.
        match (self.measure, self.power) {
            (Measure::Absolute, 1.0) => self.sums(output, target, known, gradient, |base| (base, 1.0)),
            (_, 0.5) => self.sums(output, target, known, gradient, |base| {
                let root = base.sqrt();
                (root, if base > 0.0 { 0.5 / root } else { 0.0 })
            }),
            (_, power) => self.sums(output, target, known, gradient, move |base| {
                if base > 0.0 { (base.powf(power), power * base.powf(power - 1.0)) } else { (0.0, 0.0) }
            }),
        }
    }

    #[inline(always)]
    fn sums(
        &self,
        output: &[f32],
        target: &[f32],
        known: &[bool],
        gradient: &mut [f32],
        raise: impl Fn(f32) -> (f32, f32),
    ) -> Sums {
        let pixels = known.len();
        let ((u, v), (tu, tv)) = (output.split_at(pixels), target.split_at(pixels));
        let (gu, gv) = gradient.split_at_mut(pixels);
        let mut sums = Sums { penalty: 0.0, error: 0.0, known: 0 };
        for i in 0..pixels {
            if !known[i] {
                (gu[i], gv[i]) = (0.0, 0.0);
                continue;
            }
            let (du, dv) = (u[i] - tu[i], v[i] - tv[i]);
            let square = du * du + dv * dv;
            let (base, slopes) = match self.measure {
                Measure::Absolute => (du.abs() + dv.abs(), (sign(du), sign(dv))),
                Measure::Squared => (square, (2.0 * du, 2.0 * dv)),
            };
            let (value, slope) = raise(base + self.epsilon);
            (gu[i], gv[i]) = (slope * slopes.0, slope * slopes.1);
            sums.penalty += f64::from(value);
            sums.error += f64::from(square.sqrt());
            sums.known += 1;
        }
        sums
    }
}

/// 0 at 0, unlike `f32::signum`; what is not a number stays one, for the loop to notice.
pub(super) fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}
