//! `ferroflow bench`: how fast a network is on this machine, and where a method fails.

mod card;
mod training;

use std::{io::Write, num::NonZeroUsize, path::PathBuf, time::Instant};

use ferroflow::core::{Frame, Size};
use serde::Serialize;

use crate::{
    bounds, machine,
    method::{BASELINES, MethodArgs, Precision, WhichWeights},
    session::Session,
    usage::usage,
};

/// Time a network on this machine: seconds from two decoded frames to flow at their size.
///
/// Speed does not depend on the weights, so random ones are used when none are given. The times for loading the weights and
/// for the first estimate, which prepares the network for the size, are reported separately:
///
///   ferroflow bench -m pwcnet --size 448x1024 --runs 10
///   ferroflow bench -m flownet2-s --profile
///   ferroflow bench -m lightflow --train --batch 8 --size 320x448
///
/// `--card` measures errors instead, on generated scenes that each show one difficulty and whose flow is known:
///
///   ferroflow bench --card -w pwcnet.safetensors --baseline dis -o card.svg
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(flatten)]
    method: MethodArgs,
    /// Size of the frames
    #[arg(long, default_value = "448x1024", value_name = "HxW")]
    size: Size,
    /// Number of timed runs
    #[arg(long, default_value = "10", value_parser = bounds::nonzero::<{ bounds::RUNS }>)]
    runs: NonZeroUsize,
    /// Number of runs before the timed ones; there is always at least one
    #[arg(long, default_value_t = 1, value_parser = bounds::from_zero::<{ bounds::RUNS }>)]
    warmup: usize,
    /// Time steps of training instead: forward pass, mean end-point error, gradient, Adam
    #[arg(long)]
    train: bool,
    /// Pairs in a batch, with --train
    #[arg(long, value_name = "N", default_value = "1", requires = "train", value_parser = bounds::nonzero::<{ bounds::BATCH }>)]
    batch: NonZeroUsize,
    /// Print where the time goes, layer by layer
    #[arg(long)]
    profile: bool,
    /// Measure the errors on generated scenes instead, with one difficulty a row
    #[arg(long, conflicts_with_all = ["train", "profile", "size", "runs", "warmup"])]
    card: bool,
    /// Draw the card to this file
    #[arg(short, long, value_name = "CARD.svg|.png", requires = "card")]
    output: Option<PathBuf>,
    /// Also measure the card of this method
    #[arg(long, value_parser = BASELINES, requires = "card")]
    baseline: Option<String>,
    /// Print one JSON object, the last line of the output
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    height: usize,
    width: usize,
    device: String,
    isa: &'static str,
    processor: String,
    threads: usize,
    precision: &'static str,
    runs: usize,
    median_s: f64,
    min_s: f64,
    p95_s: f64,
    /// Building the network, its weights and its plan, before the first frame.
    load_s: f64,
    /// The first estimate, which also plans for this size.
    first_s: f64,
    peak_memory_bytes: Option<u64>,
    gflop: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<serde_json::Value>,
}

/// Runs the command.
pub fn run(args: Args, session: &mut Session) -> anyhow::Result<()> {
    if args.card {
        return card::run(&args, session);
    }
    if args.train {
        if args.method.precision() != Precision::F32 {
            usage!("training computes in f32: leave out --precision");
        }
        return training::run(&args, session);
    }
    let start = Instant::now();
    let estimator = args.method.estimator_with(WhichWeights::RandomIfNoneGiven, args.profile)?;
    let load_s = start.elapsed().as_secs_f64();
    let (first, second) = test_frames(args.size);

    let start = Instant::now();
    estimator.estimate(&first, &second)?;
    let first_s = start.elapsed().as_secs_f64();
    for _ in 1..args.warmup.max(1) {
        estimator.estimate(&first, &second)?;
    }
    estimator.reset_profile();
    let mut seconds: Vec<f64> = (0..args.runs.get())
        .map(|_| {
            let start = Instant::now();
            estimator.estimate(&first, &second).map(|_| start.elapsed().as_secs_f64())
        })
        .collect::<Result<_, _>>()?;
    seconds.sort_by(f64::total_cmp);
    let quantile = |q: f64| seconds[((seconds.len() as f64 * q).ceil() as usize).clamp(1, seconds.len()) - 1];
    let profile = estimator.profile();
    let device = args.method.device(false)?;
    let report = Report {
        model: estimator.name().to_string(),
        height: args.size.height,
        width: args.size.width,
        device: device.name(),
        isa: ferroflow::kernels::Isa::detect().name(),
        processor: machine::processor(),
        threads: device.threads(),
        precision: args.method.precision().name(),
        runs: seconds.len(),
        median_s: median(&seconds),
        min_s: seconds[0],
        p95_s: quantile(0.95),
        load_s,
        first_s,
        peak_memory_bytes: machine::peak_memory_bytes(),
        gflop: estimator.gflop(args.size),
        layers: profile.as_ref().map(serde_json::to_value).transpose()?,
    };
    if args.json {
        writeln!(session.out, "{}", serde_json::to_string(&report)?)?;
        return Ok(());
    }
    if let Some(profile) = &profile {
        writeln!(session.out, "{profile}")?;
    }
    writeln!(session.out, "{report}")?;
    Ok(())
}

/// The median of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    (low + high) / 2.0
}

/// A textured pair, moved by a few pixels, so that no shortcut for equal or empty frames is timed.
fn test_frames(size: Size) -> (Frame, Frame) {
    let texture = |x: usize, y: usize| {
        let mixed = (x / 3).wrapping_mul(0x9E37_79B9) ^ (y / 3).wrapping_mul(0x85EB_CA6B);
        let value = (mixed ^ (mixed >> 13)).wrapping_mul(0xC2B2_AE35);
        [(value >> 8) as u8, (value >> 16) as u8, (value >> 24) as u8]
    };
    let frame = |dx: usize, dy: usize| Frame::from_fn(size, |x, y| texture(x + dx, y + dy));
    (frame(0, 0), frame(4, 2))
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{}, {}x{}, {} threads, {}, {} ({})",
            self.model, self.height, self.width, self.threads, self.precision, self.isa, self.processor
        )?;
        write!(
            f,
            "median {:.1} ms, fastest {:.1} ms, 95th percentile {:.1} ms over {} runs",
            self.median_s * 1e3,
            self.min_s * 1e3,
            self.p95_s * 1e3,
            self.runs
        )?;
        if let Some(gflop) = self.gflop {
            write!(f, "\n{gflop:.1} GFLOP counted directly: {:.0} effective GFLOP/s", gflop / self.median_s)?;
        }
        if let Some(bytes) = self.peak_memory_bytes {
            write!(f, "\npeak memory {:.0} MB", bytes as f64 / 1e6)?;
        }
        write!(f, "\nload {:.2} s, first estimate {:.2} s", self.load_s, self.first_s)
    }
}
