//! Which method estimates: the arguments that `estimate`, `eval` and `bench` share.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ferroflow_core::{
    Size,
    geometry::{Fill, Fit, Grid, Place},
};
use ferroflow_infer::{Estimator, NetworkOptions, dis};
use ferroflow_kernels::Bf16;
use ferroflow_net::{
    Model, Weights,
    weights::store::{self, Stored},
};

use crate::{bounds, usage::usage};

/// How to estimate.
#[derive(clap::Args)]
#[command(next_help_heading = "Method")]
pub struct MethodArgs {
    /// Network (`ferroflow models` lists them), or dis, dis-fast (Dense Inverse Search, no network). Default: what the
    /// weights are for; without weights the network that the program has weights for
    #[arg(short, long)]
    model: Option<String>,
    /// Weights: a .safetensors file of this program (`ferroflow weights import` makes one from any checkpoint). Default: those
    /// in the program, which rill has
    #[arg(short, long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Set an option of the network (`ferroflow models NAME` lists them); may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// How frames of any size are made to fit the network. Default: as the network's reference does
    #[arg(long, value_enum)]
    pub fit: Option<FitArg>,
    /// Estimate in overlapping tiles of this size: bounded memory for large frames
    #[arg(long, value_name = "HxW")]
    tile: Option<Size>,
    /// Where to compute
    #[arg(long, default_value = "cpu", value_parser = ["cpu"])]
    device: String,
    /// Only sums of products of the given numbers: no Winograd convolution (slower, last digits differ)
    #[arg(long)]
    exact: bool,
    /// bf16: convolutions multiply numbers of 8 significant bits and sum in f32, where the processor has AMX tiles or
    /// AVX512-BF16 (`ferroflow doctor` says)
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// Threads. Default: all processors
    #[arg(long, value_name = "N", value_parser = bounds::from_one::<{ bounds::THREADS }>)]
    threads: Option<usize>,
}

/// What numbers convolutions multiply.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// 24 significant bits
    #[default]
    F32,
    /// 8 significant bits
    Bf16,
}

impl Precision {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// How frames are made to fit.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum FitArg {
    /// Zeros around, the flow cut back
    Pad,
    /// Resize the frames, and the flow back
    Resize,
    /// Cut out the centre; the border gets no flow
    Crop,
}

impl From<ferroflow_net::Fit> for FitArg {
    fn from(fit: ferroflow_net::Fit) -> Self {
        match fit {
            ferroflow_net::Fit::Pad => Self::Pad,
            ferroflow_net::Fit::Resize => Self::Resize,
            ferroflow_net::Fit::Crop => Self::Crop,
        }
    }
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

/// The baseline of that name.
pub fn baseline(name: &str) -> Estimator {
    match name {
        "zero" => Estimator::zero(),
        "dis-fast" => Estimator::dis(dis::Preset::Fast),
        _ => Estimator::dis(dis::Preset::Medium),
    }
}

impl MethodArgs {
    /// The network's name, if one was given.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The weight file, if one was given.
    pub fn weights(&self) -> Option<&Path> {
        self.weights.as_deref()
    }

    /// The network's options, `key=value`.
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// Whether Winograd is to be avoided.
    pub fn exact(&self) -> bool {
        self.exact
    }

    /// What convolutions multiply.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The estimator asked for.
    pub fn estimator(&self) -> anyhow::Result<Estimator> {
        self.estimator_with(WhichWeights::Required, false)
    }

    /// The estimator asked for, with random weights if allowed, and a profile if wanted.
    pub fn estimator_with(&self, which: WhichWeights, profile: bool) -> anyhow::Result<Estimator> {
        if let Some(threads) = self.threads {
            // The pool is made once, before anything uses it; a second estimator in the process keeps the first's.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        }
        let tile = self.tile.map(|t| (t.height, t.width));
        let preset = match self.model.as_deref() {
            Some("dis") => Some(dis::Preset::Medium),
            Some("dis-fast") => Some(dis::Preset::Fast),
            _ => None,
        };
        if let Some(preset) = preset {
            if self.weights.is_some() {
                usage!("dis takes no weights: leave out --weights, or name the network they are for");
            }
            if !self.options.is_empty() || self.fit.is_some() || self.exact || self.precision != Precision::F32 {
                usage!("dis takes no --option, --fit, --exact or --precision: they belong to networks (--model)");
            }
            return Ok(Estimator::dis(preset).with_tile(tile)?);
        }
        if self.exact && self.precision == Precision::Bf16 {
            usage!("--exact sums products of the given numbers, --precision bf16 rounds them first: leave out one");
        }
        let bf16 = match self.precision {
            Precision::F32 => None,
            Precision::Bf16 => Some(Bf16::detect().context("cannot compute with --precision bf16")?),
        };
        let (model, weights, origin) = self.network(which)?;
        let options = NetworkOptions {
            fit: self.fit.map(|fit| match fit {
                FitArg::Pad => Fit::Pad(Place::TopLeft, Fill::Zero),
                FitArg::Resize => Fit::Resize(Grid::HalfPixel),
                FitArg::Crop => Fit::Crop,
            }),
            exact: self.exact,
            bf16,
            profile,
        };
        Ok(Estimator::network(model, weights, options).with_origin(origin).with_tile(tile)?)
    }

    /// The network, its weights, and where they come from.
    fn network(&self, which: WhichWeights) -> anyhow::Result<(Model, Weights, String)> {
        if let Some(path) = &self.weights {
            let Stored { model, weights, .. } = read_weights(path, self.model.as_deref(), &self.options)?;
            return Ok((model, weights, format!("weights of {}", path.display())));
        }
        if let Some(Stored { model, weights, .. }) = builtin_weights(self.model.as_deref(), &self.options)? {
            return Ok((model, weights, "built-in weights".into()));
        }
        let Some(name) = &self.model else {
            usage!("name a network with --model, or give its --weights: this build of the program has none of its own")
        };
        let model = Model::parse(name, &self.options)?;
        if which == WhichWeights::Required {
            usage!(
                "{name} needs weights: -w FILE.safetensors. `ferroflow weights import CHECKPOINT -o FILE.safetensors` \
                 makes one of any published checkpoint; without -m and -w, the weights in the program serve"
            );
        }
        let weights = Weights::random(&model.graph, 1);
        Ok((model, weights, "random weights".into()))
    }
}

/// The weights that the program has for a network, or for any if none is asked for, with these options.
pub fn builtin_weights(asked: Option<&str>, options: &[String]) -> anyhow::Result<Option<Stored>> {
    let found = match asked {
        Some(name) => ferroflow_weights::builtin(Model::named(name)?.name),
        None => ferroflow_weights::BUILTIN.first(),
    };
    let Some(found) = found else { return Ok(None) };
    let stored = store::read_from(found.bytes).with_context(|| format!("the built-in weights of {}", found.name))?;
    with_options(stored, options, "the program").map(Some)
}

/// Reads weights of the network that was asked for, if one was, and sets its options: those that leave its parameters
/// as they are.
pub fn read_weights(path: &Path, asked: Option<&str>, options: &[String]) -> anyhow::Result<Stored> {
    let stored = store::read(path).with_context(|| format!("cannot use {}", path.display()))?;
    if let Some(asked) = asked
        && Model::named(asked)?.name != stored.model.name
    {
        usage!(
            "{} holds weights of {}, not of {asked}: leave out --model, or give other weights",
            path.display(),
            stored.model.name
        );
    }
    with_options(stored, options, &path.display().to_string())
}

/// Sets options of stored weights' network: those that leave its parameters as they are. `holder` is for messages.
fn with_options(stored: Stored, options: &[String], holder: &str) -> anyhow::Result<Stored> {
    let mut all = stored.model.options.clone();
    for option in options {
        let Some((key, value)) = option.split_once('=') else {
            usage!("`{option}` is not an option: write key=value");
        };
        all.insert(key.trim().into(), value.trim().into());
    }
    let model = Model::with_options(stored.model.name, &all)?;
    if model.graph.params != stored.model.graph.params {
        usage!("with {} the network has other parameters than {holder} holds", options.join(" "));
    }
    Ok(Stored { model, ..stored })
}
