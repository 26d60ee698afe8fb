//! What a difference costs.

use serde::{Deserialize, Serialize};

/// What a difference costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// `sqrt(x^2 + 0.001^2)`
    RobustL1,
    /// `|x + 1e-6|`
    L1,
    /// `(|x| + 0.01)^0.4` (DDFlow)
    #[serde(alias = "ddflow")]
    AbsRobust,
}

impl Distance {
    /// Of a distance of 0 or more, as `(distance + offset)^exponent`, where it is that.
    pub(super) fn power(self) -> Option<[f32; 2]> {
        match self {
            Distance::RobustL1 => None,
            Distance::L1 => Some([1e-6, 1.0]),
            Distance::AbsRobust => Some([0.01, 0.4]),
        }
    }

    /// The cost, and its derivative.
    #[inline(always)]
    pub(super) fn of(self, x: f32) -> (f32, f32) {
        match self {
            Distance::RobustL1 => robust_l1(x),
            Distance::L1 => ((x + 1e-6).abs(), sign(x + 1e-6)),
            Distance::AbsRobust => {
                let base = x.abs() + 0.01;
                let value = base.powf(0.4);
                (value, sign(x) * 0.4 * value / base)
            }
        }
    }
}

/// `sqrt(x^2 + 0.001^2)`, and its derivative.
#[inline(always)]
pub(super) fn robust_l1(x: f32) -> (f32, f32) {
    let value = (x * x + 1e-6).sqrt();
    (value, x / value)
}

/// 0 at 0; what is not a number stays one.
#[inline(always)]
fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}
