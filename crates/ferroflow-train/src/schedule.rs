//! Schedules of the learning rate. Step 0 is the first update.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the rate changes, relative to the recipe's `lr`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// The rate stays the same.
    Constant {},
    /// FlowNet2's S_short: halved at 300k, 400k and 500k of 600k.
    SShort {},
    /// FlowNet2's S_long: halved at 400k, 600k, 800k and 1M of 1.2M.
    SLong {},
    /// FlowNet2's S_fine: halved at 200k, 300k, 400k and 500k.
    SFine {},
    /// Multiplied by a factor at every given step, or from the step after it (TensorFlow).
    Multistep {
        /// Steps, in order.
        at: Vec<u64>,
        /// Factor on the rate at each of them.
        #[serde(default = "half")]
        factor: f64,
        /// Whether the old rate still holds at the step itself.
        #[serde(default)]
        after: bool,
    },
    /// Rates of their own between given steps. As in TensorFlow, `rates[i]` holds up to and including step `at[i]`, unless `after` is false.
    Piecewise {
        /// Steps, in order.
        at: Vec<u64>,
        /// The rates, one more than the steps.
        rates: Vec<f64>,
        /// Whether the old rate still holds at the step itself.
        #[serde(default = "yes")]
        after: bool,
    },
    /// Cyclic "triangular2" (Smith 2017): up from `lr` to `max` and down again, the height halved with each cycle.
    Triangular2 {
        /// Rate at the first peak.
        max: f64,
        /// Number of steps from the bottom to the peak.
        half_period: u64,
    },
    /// PyTorch's OneCycleLR with `lr` as its peak.
    OneCycle {
        /// Share of the steps on the way up.
        #[serde(default = "rise")]
        rise: f64,
        /// The first rate is `lr` divided by this.
        #[serde(default = "start_divisor")]
        start_divisor: f64,
        /// The last rate is the first divided by this.
        #[serde(default = "end_divisor")]
        end_divisor: f64,
        /// Whether the rate changes along straight lines, not cosines.
        #[serde(default)]
        linear: bool,
        /// Steps of the cycle; the recipe's if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<u64>,
    },
    /// Falls along half a cosine.
    Cosine {
        /// The step at which it begins.
        #[serde(default)]
        from: u64,
        /// Number of steps that it takes; all remaining steps if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<u64>,
        /// The rate it ends at.
        #[serde(default)]
        floor: f64,
    },
    /// Falls along a straight line to 0.
    Linear {
        /// The step at which it begins.
        #[serde(default)]
        from: u64,
        /// Number of steps that it takes; all remaining steps if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<u64>,
    },
    /// Falls exponentially.
    Exponential {
        /// The step at which it begins.
        #[serde(default)]
        from: u64,
        /// Steps until it is halved.
        half_life: u64,
    },
    /// LightFlow's, by epochs: halved after about 10k steps, after 20k more, and after each further 10k.
    Lightflow {
        /// Steps of an epoch.
        epoch: u64,
    },
}

fn half() -> f64 {
    0.5
}

fn yes() -> bool {
    true
}

fn rise() -> f64 {
    0.3
}

fn start_divisor() -> f64 {
    25.0
}

fn end_divisor() -> f64 {
    1e4
}

impl Schedule {
    /// Checks the constants of the schedule; the error says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let ordered = |at: &[u64]| {
            if at.is_sorted() { Ok(()) } else { Err("schedule.at must be steps in order".to_string()) }
        };
        let positive = |name: &str, number: u64| {
            if number > 0 { Ok(()) } else { Err(format!("schedule.{name} must be above 0")) }
        };
        match self {
            Self::Multistep { at, .. } => ordered(at),
            Self::Piecewise { at, rates, .. } if rates.len() == at.len() + 1 => ordered(at),
            Self::Piecewise { at, .. } => {
                Err(format!("schedule.rates must be {} numbers, one more than schedule.at", at.len() + 1))
            }
            Self::Triangular2 { half_period, .. } => positive("half_period", *half_period),
            Self::Exponential { half_life, .. } => positive("half_life", *half_life),
            Self::Lightflow { epoch } => positive("epoch", *epoch),
            Self::OneCycle { rise, .. } if !(0.0..=1.0).contains(rise) => {
                Err("schedule.rise must be from 0 to 1".into())
            }
            _ => Ok(()),
        }
    }

    /// The rate of update `step` out of `steps`.
    pub fn rate(&self, lr: f64, step: u64, steps: u64) -> f64 {
        let passed = |at: &[u64], after: bool| at.iter().filter(|&&b| if after { step > b } else { step >= b }).count();
        let halved_at = |at: &[u64]| lr * 0.5f64.powi(passed(at, false) as i32);
        // How far a decay has come, 0 to 1.
        let progress = |from: u64, over: Option<u64>| {
            let over = over.unwrap_or(steps.saturating_sub(from)).max(1);
            (step.saturating_sub(from) as f64 / over as f64).min(1.0)
        };
        match self {
            Self::Constant {} => lr,
            Self::SShort {} => halved_at(&[300_000, 400_000, 500_000]),
            Self::SLong {} => halved_at(&[400_000, 600_000, 800_000, 1_000_000]),
            Self::SFine {} => halved_at(&[200_000, 300_000, 400_000, 500_000]),
            Self::Multistep { at, factor, after } => lr * factor.powi(passed(at, *after) as i32),
            Self::Piecewise { at, rates, after } => rates.get(passed(at, *after)).copied().unwrap_or(lr),
            Self::Triangular2 { max, half_period } => {
                let (t, half) = (step as f64, *half_period as f64);
                let cycle = (1.0 + t / (2.0 * half)).floor();
                let x = (t / half - 2.0 * cycle + 1.0).abs();
                lr + (max - lr) * (1.0 - x).max(0.0) / 2f64.powf(cycle - 1.0)
            }
            Self::OneCycle { rise, start_divisor, end_divisor, linear, over } => {
                let total = over.unwrap_or(steps).max(2) as f64;
                let (peak, last) = ((rise * total - 1.0).max(0.0), total - 1.0);
                let (start, end) = (lr / start_divisor, lr / start_divisor / end_divisor);
                let between = |from: f64, to: f64, share: f64| {
                    let share = share.clamp(0.0, 1.0);
                    if *linear {
                        from + (to - from) * share
                    } else {
                        to + (from - to) / 2.0 * (1.0 + (PI * share).cos())
                    }
                };
                let t = step as f64;
                if t <= peak && peak > 0.0 {
                    between(start, lr, t / peak)
                } else {
                    between(lr, end, (t - peak) / (last - peak).max(1.0))
                }
            }
            Self::Cosine { from, over, floor } => {
                floor + (lr - floor) * 0.5 * (1.0 + (PI * progress(*from, *over)).cos())
            }
            Self::Linear { from, over } => lr * (1.0 - progress(*from, *over)),
            Self::Exponential { from, half_life } => {
                lr * 0.5f64.powf(step.saturating_sub(*from) as f64 / *half_life as f64)
            }
            Self::Lightflow { epoch } => {
                let now = step / epoch;
                let every = 10_000 / epoch + 1;
                let second = every + 20_000 / epoch + 1;
                let halvings = match now {
                    _ if now <= every => 0,
                    _ if now <= second => 1,
                    _ => 2 + (now - second) / every,
                };
                lr * 0.5f64.powi(halvings as i32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::shared;

    /// Every table of `golden/schedules` that is a learning rate, with the schedule that must follow it.
    #[test]
    fn the_reference_schedules() {
        let Some(path) = shared("golden/schedules/schedules.json") else { return };
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let long = vec![400_000, 600_000, 800_000, 1_000_000, 1_200_000];
        let after = |at: &[u64]| Schedule::Multistep { at: at.to_vec(), factor: 0.5, after: true };
        let seed002 = Schedule::Piecewise {
            at: vec![60_000, 60_000, 80_000, 100_000],
            rates: vec![1e-5, 5e-6, 2.5e-6, 1.25e-6, 6.25e-7],
            after: true,
        };
        let plus = [45_000, 65_000, 85_000, 95_000, 97_500, 100_000, 110_000, 120_000, 130_000, 140_000];
        let cyclic = |max, half_period| Schedule::Triangular2 { max, half_period };
        for (table, lr, schedule) in [
            ("tfoptflow_multisteps_long_default", 1e-4, after(&long)),
            ("tfoptflow_multisteps_fine_default", 1e-5, after(&[1_400_000, 1_500_000, 1_600_000, 1_700_000])),
            ("tfoptflow_multisteps_fine_200k", 1e-5, after(&[200_000, 300_000, 400_000, 500_000])),
            ("tfoptflow_cyclic_long_1e-5_5e-4_20000", 1e-5, cyclic(5e-4, 20_000)),
            ("tfoptflow_cyclic_long_default_1e-5_1e-4_10000", 1e-5, cyclic(1e-4, 10_000)),
            ("tfoptflow_cyclic_fine_1e-6_2e-5_20000", 1e-6, cyclic(2e-5, 20_000)),
            ("uflow_none_after1000_steps500", 1e-4, Schedule::Constant {}),
            ("uflow_cosine_after1000_steps500", 1e-4, Schedule::Cosine { from: 999, over: Some(500), floor: 0.0 }),
            ("uflow_linear_after1000_steps500", 1e-4, Schedule::Linear { from: 999, over: Some(500) }),
            ("uflow_exponential_after1000_steps500", 1e-4, Schedule::Exponential { from: 999, half_life: 500 }),
            ("caffe_S_short", 1e-4, Schedule::SShort {}),
            ("caffe_S_long", 1e-4, Schedule::SLong {}),
            ("caffe_S_fine", 1e-5, Schedule::SFine {}),
            (
                "caffe_pwcnet_plus_round_5e-5",
                5e-5,
                Schedule::Multistep { at: plus.to_vec(), factor: 0.5, after: false },
            ),
            ("seed002_finetune_batch4", 1e-5, seed002),
            ("lightflow_by_epoch_lr1e-3_epochsize174", 1e-3, Schedule::Lightflow { epoch: 174 }),
            ("lightflow_by_epoch_lr1e-3_epochsize1000", 1e-3, Schedule::Lightflow { epoch: 1000 }),
        ] {
            schedule.check().unwrap();
            let rows = json["tables"][table].as_array().unwrap();
            assert!(!rows.is_empty());
            for row in rows {
                let (step, expected) = (row[0].as_u64().unwrap(), row[1].as_f64().unwrap());
                // LightFlow's tables count epochs.
                let step = if let Schedule::Lightflow { epoch } = schedule { step * epoch } else { step };
                let rate = schedule.rate(lr, step, 2_000_000);
                // The references compute in float32.
                assert!((rate - expected).abs() <= 3e-6 * expected + 1e-12, "{table} at {step}: {rate} {expected}");
            }
        }
    }

    /// What torch.optim.lr_scheduler.OneCycleLR(max_lr=4e-4, total_steps=1000, pct_start=0.05) gives.
    #[test]
    fn one_cycle_is_pytorchs() {
        let one_cycle =
            |linear| Schedule::OneCycle { rise: 0.05, start_divisor: 25.0, end_divisor: 1e4, linear, over: None };
        for (linear, table) in [
            (true, [1.6e-5, 2.0408163265306123e-4, 4e-4, 2.101060227368421e-4, 1.6e-9]),
            (false, [1.6e-5, 2.0184609710624217e-4, 4e-4, 2.1585738760978703e-4, 1.6e-9]),
        ] {
            for (step, expected) in [0, 24, 49, 500, 999].into_iter().zip(table) {
                let rate = one_cycle(linear).rate(4e-4, step, 1000);
                assert!((rate - expected).abs() < 1e-12, "{step}: {rate} {expected}");
            }
        }
    }

    #[test]
    fn schedules_that_cannot_be_followed_are_refused() {
        for schedule in [
            Schedule::Multistep { at: vec![2, 1], factor: 0.5, after: false },
            Schedule::Piecewise { at: vec![1], rates: vec![1.0], after: true },
            Schedule::Lightflow { epoch: 0 },
            Schedule::Triangular2 { max: 1.0, half_period: 0 },
        ] {
            assert!(schedule.check().is_err(), "{schedule:?}");
        }
    }
}
