//! Which method estimates: the arguments that `estimate`, `eval` and `bench` share.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::ArgAction;
use ferroflow::core::{Size, geometry::Fit};
use ferroflow::infer::{Estimator, NetworkOptions, OpenError, dis, open};
use ferroflow::kernels::Bf16;
use ferroflow::net::{
    Model, Weights,
    weights::{Provenance, store::Stored},
};
use ferroflow::{CpuOptions, Device};

use crate::{
    bounds,
    device::{self, DeviceName, DeviceParser, Precision},
    session::note,
    usage::{UsageError, usage},
};

/// How to estimate.
#[derive(clap::Args)]
#[command(next_help_heading = "Method")]
pub struct MethodArgs {
    /// Network (`ferroflow models` lists them), or dis or dis-fast (Dense Inverse Search, which needs no weights). Default:
    /// the network that the weights are for; without --weights, rill
    #[arg(short, long)]
    model: Option<String>,
    /// Weights: a .safetensors file of this program, or another project's checkpoint (`ferroflow weights import` converts one
    /// once and for all). Default: the built-in weights, which only rill has
    #[arg(short, long, value_name = "FILE", action = ArgAction::Set)]
    weights: Vec<PathBuf>,
    /// Set an option of the network (`ferroflow models NAME` lists them); may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// How often a recurrent network corrects its flow, as --option iterations=N says it
    #[arg(long, value_name = "N", value_parser = bounds::from_one::<{ bounds::ITERATIONS }>)]
    iterations: Option<usize>,
    /// Leave out the iterations of a recurrent network (raft, sea-raft, neuflow) after the first whose update is shorter than this on
    /// average, in pixels of the frames as the network sees them
    #[arg(long, value_name = "PX", value_parser = bounds::pixels)]
    stop_below: Option<f32>,
    /// How frames whose sides are no multiple of the network's stride are made to fit. Default: as the network's reference does
    #[arg(long, value_enum)]
    pub fit: Option<FitArg>,
    /// The fit where `fit` is not given; if this is not set either, the one of the network's reference.
    #[arg(skip)]
    pub usual_fit: Option<Fit>,
    /// The size that a network sees, where a command takes one.
    #[arg(skip)]
    pub network_size: Option<Size>,
    /// Estimate in overlapping tiles of this size, which bounds the memory that large frames take
    #[arg(long, value_name = "HxW")]
    tile: Option<Size>,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// What a network is computed on, and how.
#[derive(clap::Args)]
#[command(next_help_heading = "Method")]
pub struct ComputeArgs {
    /// Device to compute on; GPUs also by number, as in vulkan:1 (`ferroflow doctor` lists them)
    #[arg(long, default_value_t, value_name = "DEVICE", value_parser = DeviceParser)]
    device: DeviceName,
    /// Use no Winograd convolution: slower, and the last digits of the flow differ
    #[arg(long)]
    exact: bool,
    /// Precision of the numbers that convolutions multiply; sums are f32 in all. On the processor bf16 needs AMX tiles or
    /// AVX512-BF16 (`ferroflow doctor` says), and there is no f16
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// Number of threads. Default: all processors
    #[arg(long, value_name = "N", value_parser = bounds::from_one::<{ bounds::THREADS }>)]
    threads: Option<usize>,
}

impl ComputeArgs {
    /// The device asked for.
    pub fn device(&self, profile: bool) -> anyhow::Result<Arc<dyn Device>> {
        if self.exact && self.precision == Precision::Bf16 {
            usage!("--exact sums products of the given numbers, --precision bf16 rounds them first: leave out one");
        }
        let bf16 = match (self.device, self.precision) {
            (DeviceName::Cpu, Precision::Bf16) => Some(Bf16::detect().context("cannot compute with --precision bf16")?),
            (DeviceName::Cpu, Precision::F16) => {
                usage!("--precision f16 is for GPUs (--device): the processor has f32 and bf16")
            }
            _ => None,
        };
        let options = CpuOptions { exact: self.exact, bf16, profile, threads: self.threads };
        device::open(self.device, self.precision, options)
    }
}

/// How frames are made to fit.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum FitArg {
    /// Pad the frames with zeros, and cut the flow back to their size
    Pad,
    /// Resize the frames, and resize the flow back
    Resize,
    /// Cut out the centre of the frames; the border gets no flow
    Crop,
}

/// What to do without `--weights`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WhichWeights {
    /// A network needs them.
    Required,
    /// Random ones serve: only the time matters.
    RandomIfNoneGiven,
}

/// Methods that others are compared with: they need no weights.
pub const BASELINES: [&str; 3] = ["dis", "dis-fast", "zero"];

impl MethodArgs {
    /// The network's name, if one was given.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The weight file, if one was given.
    pub fn weights(&self) -> Option<&Path> {
        self.weights.first().map(PathBuf::as_path)
    }

    /// All weight files, where a command takes several.
    pub fn all_weights(&self) -> &[PathBuf] {
        &self.weights
    }

    /// The network's options, `key=value`.
    pub fn options(&self) -> Vec<String> {
        let iterations = self.iterations.map(|iterations| format!("iterations={iterations}"));
        self.options.iter().cloned().chain(iterations).collect()
    }

    /// Precision of the numbers that convolutions multiply.
    pub fn precision(&self) -> Precision {
        self.compute.precision
    }

    /// Whether the processor computes.
    pub fn on_processor(&self) -> bool {
        self.compute.device == DeviceName::Cpu
    }

    /// The estimator asked for.
    pub fn estimator(&self) -> anyhow::Result<Estimator> {
        self.estimator_with(WhichWeights::Required, false)
    }

    /// The estimator asked for, with random weights if allowed, and a profile if wanted.
    pub fn estimator_with(&self, which: WhichWeights, profile: bool) -> anyhow::Result<Estimator> {
        let preset = match self.model.as_deref() {
            Some("dis") => Some(dis::Preset::Medium),
            Some("dis-fast") => Some(dis::Preset::Fast),
            _ => None,
        };
        if let Some(preset) = preset {
            if self.network_size.is_some() {
                usage!("dis sees frames in their own size: --size belongs to networks (--model)");
            }
            if !self.weights.is_empty() {
                usage!("dis takes no weights: leave out --weights, or name the network they are for");
            }
            let ComputeArgs { device, exact, precision, .. } = self.compute;
            if device != DeviceName::Cpu {
                usage!("dis computes on the processor: leave out --device {device}");
            }
            let iterates = !self.options().is_empty() || self.stop_below.is_some();
            if iterates || self.fit.is_some() || exact || precision != Precision::F32 {
                usage!(
                    "dis takes no --option, --iterations, --stop-below, --fit, --exact or --precision: they belong to networks \
                     (--model)"
                );
            }
            return Ok(Estimator::dis(preset).with_host(self.device(profile)?).with_tile(self.tile)?);
        }
        let device = self.device(profile)?;
        let (stored, origin) = self.network(which)?;
        self.estimator_of(stored, origin, device)
    }

    /// The estimator asked for, with the weights of this file in place of any other.
    pub fn estimator_from(&self, path: &Path, device: Arc<dyn Device>) -> anyhow::Result<Estimator> {
        let (stored, origin) = self.stored(path)?;
        self.estimator_of(stored, origin, device)
    }

    /// The estimator asked for, with this network in place of any other; words on where it comes from.
    pub fn estimator_of(&self, stored: Stored, origin: String, device: Arc<dyn Device>) -> anyhow::Result<Estimator> {
        let Stored { model, weights, .. } = stored;
        let options = NetworkOptions {
            fit: self.fit.map_or(self.usual_fit, |fit| {
                Some(match fit {
                    FitArg::Pad => Fit::ZEROS,
                    FitArg::Resize => Fit::STRETCH,
                    FitArg::Crop => Fit::Crop,
                })
            }),
            device,
        };
        if self.stop_below.is_some() && !self.on_processor() {
            usage!("--stop-below is for the processor: other devices always do all iterations; leave out --device");
        }
        let estimator = Estimator::network(model, weights, options).with_origin(origin);
        let estimator = match estimator.with_stop_below(self.stop_below) {
            Ok(estimator) => estimator,
            Err(error) => usage!("--stop-below: {error}"),
        };
        let sized = estimator.with_network_size(self.network_size);
        Ok(sized.map_err(|error| UsageError(format!("--size: {error}")))?.with_tile(self.tile)?)
    }

    /// The device asked for.
    pub fn device(&self, profile: bool) -> anyhow::Result<Arc<dyn Device>> {
        self.compute.device(profile)
    }

    fn stored(&self, path: &Path) -> anyhow::Result<(Stored, String)> {
        let stored = read_weights(path, self.model.as_deref(), &self.options())?;
        Ok((stored, format!("weights of {}", path.display())))
    }

    /// The network, its weights, and where they come from.
    fn network(&self, which: WhichWeights) -> anyhow::Result<(Stored, String)> {
        if let Some(path) = self.weights() {
            return self.stored(path);
        }
        if let Some(stored) = builtin_weights(self.model.as_deref(), &self.options())? {
            return Ok((stored, "built-in weights".into()));
        }
        let Some(name) = &self.model else {
            usage!("name a network with --model, or give its --weights: this build of the program has none of its own")
        };
        let model = Model::parse(name, self.options())?;
        if which == WhichWeights::Required {
            usage!(
                "{name} needs weights: -w FILE.safetensors. `ferroflow weights import CHECKPOINT -o FILE.safetensors` \
                 makes one of a published checkpoint; without -m and -w, the weights in the program serve"
            );
        }
        let weights = Weights::random(&model.graph, 1);
        Ok((Stored { model, weights, provenance: Provenance::default() }, "random weights".into()))
    }
}

/// The weights that the program has for a network, or for any if none is asked for, with these options.
pub fn builtin_weights(asked: Option<&str>, options: &[String]) -> anyhow::Result<Option<Stored>> {
    open::builtin(asked, options).map_err(wrong_usage)
}

/// Reads weights of the network that was asked for, if one was: a file of this program, whose options are set as far as that
/// leaves its parameters as they are, or another project's checkpoint.
pub fn read_weights(path: &Path, asked: Option<&str>, options: &[String]) -> anyhow::Result<Stored> {
    let opened = open::from_file(path, asked, options).map_err(wrong_usage)?;
    if let Some(format) = opened.foreign {
        let Stored { model, .. } = &opened.stored;
        let stated: String = model.options.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        note!("{}: {format}, taken as {}{stated}", path.display(), model.name);
        if let Some(doubt) = opened.doubt() {
            note!("{}: {doubt}", path.display());
        }
    }
    Ok(opened.stored)
}

/// An error that another command line avoids is wrong usage; an error in a file is not.
fn wrong_usage(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::Model(error) => error.into(),
        OpenError::OtherNetwork { .. } => {
            UsageError(format!("{error}: leave out --model, or give other weights")).into()
        }
        OpenError::OtherParameters { .. } => UsageError(error.to_string()).into(),
        error => error.into(),
    }
}
