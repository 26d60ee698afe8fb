//! What a plan does and how long it takes.

use std::fmt;

use serde::Serialize;

use super::step::Step;

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerProfile {
    /// Name of the node it computes.
    pub name: String,
    /// The kernel, and for a convolution its algorithm.
    pub algorithm: String,
    /// Shape of the result, `[N, C, H, W]` with channels rounded up to blocks of 16; empty for the flow.
    pub shape: Vec<usize>,
    /// Mean seconds per run.
    pub seconds: f64,
    /// Operations counted as direct convolution, per second, in 1e9.
    pub gflop_per_s: f64,
    /// Part of the whole time.
    pub share: f64,
}

/// Bytes held by a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Prepared weights.
    pub weights: usize,
    /// Values between the layers.
    pub activations: usize,
    /// Working memory of the threads so far.
    pub scratch: usize,
}

impl Memory {
    /// All of it.
    pub fn total(self) -> usize {
        self.weights + self.activations + self.scratch
    }
}

/// All steps of a plan in order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// The steps.
    pub layers: Vec<LayerProfile>,
    /// Mean seconds per run.
    pub seconds: f64,
    /// Operations per run, in 1e9.
    pub gflop: f64,
    /// Bytes held.
    pub memory: Memory,
}

impl Profile {
    pub(super) fn new(steps: &[Step], seconds: Option<&[f64]>, runs: usize, memory: Memory) -> Self {
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
        Self { layers, seconds: whole, gflop: steps.iter().map(|s| s.flop).sum::<f64>() / 1e9, memory }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.layers.iter().map(|l| l.name.len()).max().unwrap_or(0).max(5);
        let algorithm = self.layers.iter().map(|l| l.algorithm.len()).max().unwrap_or(0).max(9);
        writeln!(
            f,
            "{:name$}  {:algorithm$}  {:>20}  {:>9}  {:>8}  {:>6}",
            "layer", "algorithm", "shape", "ms", "GFLOP/s", "share"
        )?;
        for l in &self.layers {
            let shape = l.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            let rate = if l.gflop_per_s > 0.0 { format!("{:.0}", l.gflop_per_s) } else { String::new() };
            writeln!(
                f,
                "{:name$}  {:algorithm$}  {shape:>20}  {:>9.3}  {rate:>8}  {:>5.1}%",
                l.name,
                l.algorithm,
                1e3 * l.seconds,
                100.0 * l.share
            )?;
        }
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let Memory { weights, activations, scratch } = self.memory;
        writeln!(
            f,
            "{:.1} ms, {:.1} GFLOP; {:.0} MiB weights, {:.0} MiB activations, {:.0} MiB working memory",
            1e3 * self.seconds,
            self.gflop,
            mib(weights),
            mib(activations),
            mib(scratch)
        )
    }
}
