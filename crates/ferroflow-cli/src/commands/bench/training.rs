//! One step of training: forward, loss, gradient, Adam.

use std::{io::Write, time::Instant};

use ferroflow::infer::Timing;
use ferroflow::net::{
    Model, Weights,
    device::Memory,
    graph::Sizes,
    training::{Gradients, TrainingOptions, Values},
};
use ferroflow::train::{
    loss::{LossConfig, Truth},
    optimiser::{Decay, Optimiser, OptimiserConfig},
};
use serde::Serialize;

use super::Args;
use crate::{machine, session::Session, usage::usage};

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    height: usize,
    width: usize,
    device: String,
    precision: &'static str,
    isa: &'static str,
    processor: String,
    threads: usize,
    loss: &'static str,
    #[serde(flatten)]
    timing: Timing,
    /// Medians of forward, loss, gradient, optimiser.
    phases_s: [f64; 4],
    peak_memory_bytes: Option<u64>,
    /// Held on the device afterwards, where it has memory of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_memory_bytes: Option<u64>,
    plan_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<serde_json::Value>,
}

/// Times steps on one batch of noise: speed does not depend on what is seen.
pub(super) fn run(args: &Args, session: &mut Session) -> anyhow::Result<()> {
    let Some(name) = args.method.model() else {
        usage!("name the network to train with --model");
    };
    let model = Model::parse(name, args.method.options())?;
    let &[batch] = &args.batch[..] else { usage!("steps of training are timed with one --batch at a time") };
    let batch = batch.get();
    let sizes = Sizes::new(batch, args.size.height, args.size.width);
    let loss_name = "epe";
    let loss = LossConfig { name: loss_name.into(), ..LossConfig::default() }.build().map_err(anyhow::Error::msg)?;
    let options = TrainingOptions::all(&model.graph, sizes, loss.outputs(&model.graph)?);
    let device = args.method.device(args.profile)?;
    let mut plan = device.trainer(&model.graph, options.clone())?;
    let mut weights = Weights::random(&model.graph, 1);
    let mut gradients = Gradients::zeros(&model.graph, &options.trained);
    let adam = OptimiserConfig::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let mut optimiser = Optimiser::new(adam, &model.graph, &options.trained, Decay::default());

    let pixels = batch * args.size.height * args.size.width;
    let frames = [1u64, 2].map(|seed| noise(seed, 3 * pixels).map(|v| 255.0 * v).collect::<Vec<f32>>());
    let flow = Values {
        shape: [batch, 2, args.size.height, args.size.width],
        data: noise(3, 2 * pixels).map(|v| 10.0 * v - 5.0).collect(),
    };
    let truth = Truth::new(flow, vec![true; pixels]);

    // Where the device can optimise, a run stays there, as in training.
    let stays = match plan.resident() {
        Some(run) => run.take(&weights, optimiser.memory(), optimiser.decay()).map(|()| true)?,
        None => false,
    };
    let rate = 1e-4;
    let mut phases: [Vec<f64>; 4] = Default::default();
    for run in 0..args.warmup.max(1) + args.runs.get() {
        if run == args.warmup.max(1) {
            plan.reset_profile();
            phases.iter_mut().for_each(Vec::clear);
        }
        let mut last = Instant::now();
        let mut lap = |phase: usize| {
            let now = Instant::now();
            phases[phase].push((now - last).as_secs_f64());
            last = now;
        };
        if !stays {
            plan.load(&weights)?;
        }
        let outputs = plan.forward([&frames[0], &frames[1]])?;
        lap(0);
        let graded = loss.grade(&outputs, &truth, model.pyramid_unit)?;
        lap(1);
        match plan.resident() {
            Some(run) => {
                run.backward(&graded.gradients)?;
                run.norm()?;
            }
            None => {
                gradients.clear();
                plan.backward(&graded.gradients, &mut gradients)?;
            }
        }
        plan.update_statistics(0.1, &mut weights);
        lap(2);
        match plan.resident() {
            Some(run) => optimiser.count(rate, 1.0).map_or(Ok(()), |step| run.step(step))?,
            None => optimiser.step(&mut weights, &gradients, rate, 1.0),
        }
        lap(3);
    }
    let steps: Vec<f64> = (0..phases[0].len()).map(|i| phases.iter().map(|p| p[i]).sum()).collect();
    let timing = Timing::of(&steps, batch);
    let profile = plan.profile();
    let report = Report {
        model: name.to_string(),
        height: args.size.height,
        width: args.size.width,
        device: device.name(),
        precision: args.method.precision().name(),
        isa: ferroflow::kernels::Isa::detect().name(),
        processor: machine::processor(),
        threads: device.threads(),
        loss: loss_name,
        timing,
        phases_s: phases.map(|phase| Timing::of(&phase, batch).median_s),
        peak_memory_bytes: machine::peak_memory_bytes(),
        device_memory_bytes: device.memory_held(),
        plan_bytes: plan.memory().map_or(0, Memory::total),
        layers: profile.as_ref().map(serde_json::to_value).transpose()?,
    };
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string(&report)?)?;
        return Ok(());
    }
    if let Some([forward, backward]) = &profile {
        writeln!(session.out, "forward\n{forward}\ngradient\n{backward}")?;
    }
    writeln!(session.out, "{report}")?;
    Ok(())
}

/// Numbers in 0..1.
fn noise(seed: u64, len: usize) -> impl Iterator<Item = f32> {
    (0..len as u64).map(move |i| {
        let mixed = (i.wrapping_add(seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32 / (1u64 << 24) as f32
    })
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, height, width, device, precision, threads, isa, processor, .. } = self;
        write!(f, "{model}, training, batch {} of {height}x{width}, ", self.timing.batch)?;
        match device.as_str() {
            "cpu" => writeln!(f, "{threads} threads, {precision}, {isa} ({processor})")?,
            device => writeln!(f, "{device}, {precision}")?,
        }
        let [forward, loss, gradient, optimiser] = self.phases_s.map(|s| s * 1e3);
        writeln!(
            f,
            "median {:.1} ms a step, fastest {:.1} ms over {} runs: {:.2} pairs/s",
            self.timing.median_s * 1e3,
            self.timing.min_s * 1e3,
            self.timing.runs,
            self.timing.pairs_per_s
        )?;
        write!(
            f,
            "forward {forward:.1} ms, loss {loss:.1} ms, gradient {gradient:.1} ms, Adam {optimiser:.1} ms; plan {:.0} MB",
            self.device_memory_bytes.map_or(self.plan_bytes as f64, |bytes| bytes as f64) / 1e6
        )?;
        match self.peak_memory_bytes {
            Some(bytes) => write!(f, ", peak memory {:.0} MB", bytes as f64 / 1e6),
            None => Ok(()),
        }
    }
}
