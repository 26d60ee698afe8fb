//! Loss scaling: the loss is multiplied by a factor before its gradients are computed, so that small gradients survive low
//! precision.

use serde::{Deserialize, Serialize};

/// How the loss is scaled: a number, or `"dynamic"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum LossScaleConfig {
    /// The same factor all the time (MindSpore: 1024, tfoptflow: 128).
    Fixed(f64),
    /// `dynamic`: starts at 65536, is doubled after 2000 good steps and halved at an overflow (MindSpore, PyTorch).
    Word(String),
}

impl Default for LossScaleConfig {
    fn default() -> Self {
        Self::Fixed(1.0)
    }
}

/// The factor in use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// The loss is multiplied by this factor, and its gradients are divided by it afterwards.
    pub factor: f32,
    dynamic: bool,
    /// Steps since the last change.
    good: u32,
}

impl LossScale {
    const START: f32 = 65536.0;
    const WINDOW: u32 = 2000;
    const LARGEST: f32 = 16_777_216.0;

    /// The factor before the first step, or what is wrong with the configuration.
    pub fn new(config: &LossScaleConfig) -> Result<Self, String> {
        match config {
            LossScaleConfig::Fixed(factor) if factor.is_finite() && *factor > 0.0 => {
                Ok(Self { factor: *factor as f32, dynamic: false, good: 0 })
            }
            LossScaleConfig::Word(word) if word == "dynamic" => {
                Ok(Self { factor: Self::START, dynamic: true, good: 0 })
            }
            _ => Err("loss_scale must be a number above 0 or \"dynamic\"".into()),
        }
    }

    /// Notes a step that was taken.
    pub fn good(&mut self) {
        self.good += 1;
        if self.dynamic && self.good >= Self::WINDOW {
            (self.factor, self.good) = ((2.0 * self.factor).min(Self::LARGEST), 0);
        }
    }

    /// Notes gradients that were not finite. Returns whether a smaller scale may help; then the step must be skipped, and nothing is
    /// wrong yet.
    pub fn overflow(&mut self) -> bool {
        let may_help = self.dynamic && self.factor > 1.0;
        if may_help {
            (self.factor, self.good) = ((self.factor / 2.0).max(1.0), 0);
        }
        may_help
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_scale_halves_at_an_overflow_and_doubles_after_two_thousand_good_steps() {
        let mut scale = LossScale::new(&LossScaleConfig::Word("dynamic".into())).unwrap();
        assert!(scale.overflow());
        assert_eq!(scale.factor, 32768.0);
        (0..1999).for_each(|_| scale.good());
        assert_eq!(scale.factor, 32768.0);
        scale.good();
        assert_eq!(scale.factor, 65536.0);
        (0..16).for_each(|_| assert!(scale.overflow()));
        assert_eq!((scale.factor, scale.overflow()), (1.0, false), "at 1 an overflow is no longer the scale's fault");
    }

    #[test]
    fn a_fixed_scale_stays() {
        let mut scale = LossScale::new(&LossScaleConfig::Fixed(1024.0)).unwrap();
        assert!(!scale.overflow());
        (0..5000).for_each(|_| scale.good());
        assert_eq!(scale.factor, 1024.0);
        assert!(LossScale::new(&LossScaleConfig::Fixed(0.0)).is_err());
        assert!(LossScale::new(&LossScaleConfig::Word("auto".into())).is_err());
    }
}
