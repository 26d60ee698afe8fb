//! `ferroflow bench`: how fast a network is on this machine, and where a method fails.

mod card;
mod training;

use std::{
    fmt::{self, Write as _},
    io::Write,
    num::NonZeroUsize,
    path::PathBuf,
    time::Instant,
};

use ferroflow::core::{Frame, Size};
use ferroflow::infer::{Estimator, Timing};
use serde::Serialize;

use crate::{
    bounds,
    device::Precision,
    machine,
    method::{BASELINES, MethodArgs, WhichWeights},
    session::Session,
    usage::usage,
};

/// Time a network on this machine: seconds from two decoded frames to flow at their size.
///
/// Speed does not depend on the weights, so random ones are used when none are given. The times for loading the weights and
/// for the first estimate, which prepares the network for the size, are reported separately:
///
///   ferroflow bench -m pwcnet --size 448x1024 --loop 10
///   ferroflow bench -m pwcnet --batch 1,4,8
///   ferroflow bench -m flownet2-s --profile
///   ferroflow bench -m lightflow --train --batch 8 --size 320x448
///   ferroflow bench -m pwcnet --device vulkan --batch 8
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
    #[arg(long = "loop", visible_alias = "runs", default_value = "10", value_name = "N", value_parser = bounds::nonzero::<{ bounds::RUNS }>)]
    runs: NonZeroUsize,
    /// Number of runs before the timed ones; there is always at least one
    #[arg(long, default_value_t = 1, value_parser = bounds::from_zero::<{ bounds::RUNS }>)]
    warmup: usize,
    /// Time steps of training instead: forward pass, mean end-point error, gradient, Adam
    #[arg(long)]
    train: bool,
    /// Pairs estimated at once; several numbers, as in 1,4,8, give a table
    #[arg(short, long, value_name = "N", default_value = "1", value_delimiter = ',', value_parser = bounds::nonzero::<{ bounds::BATCH }>)]
    batch: Vec<NonZeroUsize>,
    /// Print where the time goes, layer by layer
    #[arg(long)]
    profile: bool,
    /// Measure the errors on generated scenes instead, with one difficulty a row
    #[arg(long, conflicts_with_all = ["train", "profile", "size", "runs", "warmup", "batch"])]
    card: bool,
    /// Draw the card to this file
    #[arg(short, long, value_name = "CARD.svg|.png", requires = "card")]
    output: Option<PathBuf>,
    /// Also measure the card of this method
    #[arg(long, value_parser = BASELINES, requires = "card")]
    baseline: Option<String>,
    /// Print one JSON object for each batch, the last line of the output
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
    #[serde(flatten)]
    timing: Timing,
    /// Building the network, its weights and its plan, before the first frame.
    load_s: f64,
    /// The first estimate, which also plans for this size.
    first_s: f64,
    peak_memory_bytes: Option<u64>,
    /// Held on the device afterwards, where it has memory of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_memory_bytes: Option<u64>,
    /// Of one pair.
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
        if args.method.precision() != Precision::F32 && args.method.on_processor() {
            usage!("on the processor training computes in f32: leave out --precision");
        }
        return training::run(&args, session);
    }
    let start = Instant::now();
    let estimator = args.method.estimator_with(WhichWeights::RandomIfNoneGiven, args.profile)?;
    let load_s = start.elapsed().as_secs_f64();
    let device = args.method.device(false)?;
    let pair = test_frames(args.size);
    let mut reports = Vec::with_capacity(args.batch.len());
    for batch in &args.batch {
        let (timing, first_s) = time(&args, &estimator, &pair, batch.get())?;
        let profile = estimator.profile();
        let report = Report {
            model: estimator.name().to_string(),
            height: args.size.height,
            width: args.size.width,
            device: device.name(),
            isa: ferroflow::kernels::Isa::detect().name(),
            processor: machine::processor(),
            threads: device.threads(),
            precision: args.method.precision().name(),
            timing,
            load_s,
            first_s,
            peak_memory_bytes: machine::peak_memory_bytes(),
            device_memory_bytes: device.memory_held(),
            gflop: estimator.gflop(args.size),
            layers: profile.as_ref().map(serde_json::to_value).transpose()?,
        };
        if args.json {
            writeln!(session.out, "{}", serde_json::to_string(&report)?)?;
        } else if let Some(profile) = &profile {
            writeln!(session.out, "{profile}")?;
        }
        reports.push(report);
    }
    match &reports[..] {
        _ if args.json => {}
        [report] => writeln!(session.out, "{report}")?,
        reports => write!(session.out, "{}", table(reports))?,
    }
    Ok(())
}

/// Times estimates of so many pairs at once, and the first of them by itself.
fn time(args: &Args, estimator: &Estimator, pair: &(Frame, Frame), batch: usize) -> anyhow::Result<(Timing, f64)> {
    let pairs = vec![(&pair.0, &pair.1); batch];
    let estimate = || -> anyhow::Result<f64> {
        // Every run is one of new frames.
        estimator.forget_frames();
        let start = Instant::now();
        estimator.estimate_batch(&pairs)?;
        Ok(start.elapsed().as_secs_f64())
    };
    let first_s = estimate()?;
    for _ in 1..args.warmup.max(1) {
        estimate()?;
    }
    estimator.reset_profile();
    let seconds = (0..args.runs.get()).map(|_| estimate()).collect::<Result<Vec<_>, _>>()?;
    Ok((Timing::of(&seconds, batch), first_s))
}

/// A row for each batch.
fn table(reports: &[Report]) -> String {
    let mut text = reports.first().map_or(String::new(), |report| report.title() + "\n");
    let _ = writeln!(
        text,
        "{:>5} {:>10} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "batch", "mean ms", "not first ms", "median ms", "p90 ms", "p95 ms", "p99 ms", "pairs/s"
    );
    for Report { timing, .. } in reports {
        let _ = writeln!(
            text,
            "{:>5} {:>10.1} {:>12.1} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>10.2}",
            timing.batch,
            1e3 * timing.mean_s,
            1e3 * timing.mean_without_first_s,
            1e3 * timing.median_s,
            1e3 * timing.p90_s,
            1e3 * timing.p95_s,
            1e3 * timing.p99_s,
            timing.pairs_per_s
        );
    }
    text
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

impl Report {
    fn title(&self) -> String {
        let Self { model, height, width, device, threads, precision, isa, processor, .. } = self;
        match device.as_str() {
            "cpu" => format!("{model}, {height}x{width}, {threads} threads, {precision}, {isa} ({processor})"),
            device => format!("{model}, {height}x{width}, {device}, {precision}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batch = self.timing.batch;
        let of = if batch == 1 { String::new() } else { format!(", {batch} pairs at once") };
        write!(f, "{}{of}\n{}", self.title(), self.timing)?;
        if let Some(gflop) = self.gflop.map(|gflop| batch as f64 * gflop) {
            write!(f, "\n{gflop:.1} GFLOP counted directly: {:.0} effective GFLOP/s", gflop / self.timing.median_s)?;
        }
        if let Some(bytes) = self.peak_memory_bytes {
            write!(f, "\npeak memory {:.0} MB", bytes as f64 / 1e6)?;
        }
        if let Some(bytes) = self.device_memory_bytes {
            write!(f, ", on the device {:.0} MB", bytes as f64 / 1e6)?;
        }
        write!(f, "\nload {:.2} s, first estimate {:.2} s", self.load_s, self.first_s)
    }
}
