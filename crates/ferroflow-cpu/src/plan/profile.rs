//! Measures how long the steps of a plan take.

use ferroflow_net::device::{LayerProfile, Memory, Profile};

use super::step::Step;

/// All steps of a plan in order; `seconds` are sums over the runs.
pub(super) fn profile(steps: &[Step], seconds: Option<&[f64]>, runs: usize, memory: Memory) -> Profile {
    let mean = |i: usize| seconds.map_or(0.0, |s| s[i] / runs.max(1) as f64);
    let whole: f64 = (0..steps.len()).map(mean).sum();
    let per = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let layers = steps
        .iter()
        .enumerate()
        .map(|(i, step)| LayerProfile {
            name: step.name.clone(),
            algorithm: step.kernel.algorithm(),
            shape: step
                .output
                .as_ref()
                .map(|o| vec![o.extent.n, o.lanes.len(), o.extent.h, o.extent.w])
                .unwrap_or_default(),
            seconds: mean(i),
            gflop_per_s: per(step.flop / 1e9, mean(i)),
            share: per(mean(i), whole),
        })
        .collect();
    Profile { layers, seconds: whole, gflop: steps.iter().map(|s| s.flop).sum::<f64>() / 1e9, memory }
}
