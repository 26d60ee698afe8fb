//! What estimation and training ask of a device: run a network for frames of one size, or train it on them.
//!
//! The host sees frames, flows, losses and gradients; how a network is prepared, and where its values lie meanwhile, is the
//! device's own affair. A device is one crate that implements [`Device`], and one row wherever a user can name it.

use std::{borrow::Cow, fmt};

use ferroflow_core::memory::Shortage;
use serde::Serialize;

use crate::{
    graph::{Graph, ShapeError, Sizes},
    training::{Trainer, TrainingOptions},
    weights::{Weights, WeightsError},
};

/// Where networks run.
pub trait Device: fmt::Debug + Send + Sync {
    /// As a user names it: `cpu`, `vulkan:0`.
    fn name(&self) -> String;

    /// What differs from the ordinary, for one line about a method: `in bf16 (AMX)`. Empty where nothing does.
    fn remarks(&self) -> String {
        String::new()
    }

    /// Prepares a network to estimate pairs of these sizes.
    ///
    /// # Errors
    /// If the device lacks an operation, the sizes do not suit the network, or the weights are another network's.
    fn executor(&self, graph: &Graph, weights: &Weights, sizes: Sizes) -> Result<Box<dyn Executor>, DeviceError>;

    /// Prepares a network to be trained on batches of one size.
    ///
    /// # Errors
    /// As [`executor`](Self::executor), and if there is not enough memory.
    fn trainer(&self, graph: &Graph, options: TrainingOptions) -> Result<Box<dyn Trainer>, DeviceError>;

    /// How many threads work for it on the host.
    fn threads(&self) -> usize;

    /// Does work of the host, such as fitting frames to the network, with the threads that the device has for it. `work` is
    /// called once.
    fn host(&self, work: &mut (dyn FnMut() + Send)) {
        work();
    }
}

/// Frames of a batch, RGB 0..=255.
#[derive(Clone, Copy, Debug)]
pub enum Frames<'a> {
    /// `[N, 3, H, W]`
    Planar(&'a [f32]),
    /// Each image by itself, `[H, W, 3]`.
    Rgb(&'a [&'a [u8]]),
}

impl<'a> Frames<'a> {
    /// As `[N, 3, H, W]`.
    ///
    /// # Errors
    /// If they are not as many values as the sizes say.
    pub fn planar(self, sizes: &Sizes) -> Result<Cow<'a, [f32]>, DeviceError> {
        let pixels = sizes.input.height * sizes.input.width;
        let expected = sizes.batch * 3 * pixels;
        let got = match self {
            Frames::Planar(values) => values.len(),
            Frames::Rgb(images) => images.iter().map(|image| image.len()).sum(),
        };
        let whole = match self {
            Frames::Planar(_) => true,
            Frames::Rgb(images) => images.iter().all(|image| image.len() == 3 * pixels),
        };
        if got != expected || !whole {
            return Err(DeviceError::Length { what: "a batch of frames", expected, got });
        }
        Ok(match self {
            Frames::Planar(values) => Cow::Borrowed(values),
            Frames::Rgb(images) => {
                let plane = |image: &'a [u8], c: usize| image.iter().skip(c).step_by(3).map(|&v| f32::from(v));
                images.iter().flat_map(|image| (0..3).flat_map(move |c| plane(image, c))).collect()
            }
        })
    }
}

/// A network on a device, ready for pairs of one size.
pub trait Executor: Send {
    /// What it is for.
    fn sizes(&self) -> Sizes;

    /// The flow from `first` to `second` into `flow`, planar `[N, 2, H, W]` of the output size: u, then v, in pixels of the output.
    ///
    /// # Errors
    /// If the frames or the flow have other sizes than it was prepared for, or the device fails.
    fn run(&mut self, first: Frames<'_>, second: Frames<'_>, flow: &mut [f32]) -> Result<(), DeviceError>;

    /// Mean times of all layers since the start or the last [`reset_profile`](Self::reset_profile); `None` where the device does not
    /// measure them.
    fn profile(&self) -> Option<Profile> {
        None
    }

    /// Forgets the times so far: those of the first runs, say, which also touch new memory.
    fn reset_profile(&mut self) {}
}

/// Why a device cannot run or train a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The frames do not suit the network.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Another network's weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The graph has no flow to give.
    #[error("the graph has no flow: finish it with an output node")]
    NoFlow,
    /// An operation or setting that the device does not have.
    #[error("node `{node}` cannot run on this device: {reason}")]
    Unsupported {
        /// Name of the node.
        node: String,
        /// What is missing.
        reason: String,
    },
    /// Values of another length than the network was prepared for.
    #[error("{what} holds {got} values; the network was prepared for {expected}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// Values expected.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// More memory than there is.
    #[error("a training step of this batch and crop: {0}; make batch smaller (accumulate makes up for it), or crop")]
    Memory(Shortage),
    /// Calls in the wrong order.
    #[error("{0}")]
    Order(&'static str),
    /// The device failed.
    #[error("{device} failed: {reason}")]
    Failed {
        /// Which.
        device: String,
        /// What it said.
        reason: String,
    },
}

/// One step of a prepared network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerProfile {
    /// Name of the node it computes.
    pub name: String,
    /// The kernel, and for a convolution its algorithm.
    pub algorithm: String,
    /// Shape of the result, `[N, C, H, W]`, with channels as the device lays them out; empty for the flow.
    pub shape: Vec<usize>,
    /// Mean seconds per run.
    pub seconds: f64,
    /// Operations counted as direct convolution, per second, in 1e9.
    pub gflop_per_s: f64,
    /// Part of the whole time.
    pub share: f64,
}

/// Bytes held by a prepared network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Prepared weights.
    pub weights: usize,
    /// Values between the layers.
    pub activations: usize,
    /// Working memory so far.
    pub scratch: usize,
}

impl Memory {
    /// All of it.
    pub fn total(self) -> usize {
        self.weights + self.activations + self.scratch
    }
}

/// What a prepared network does, in order, and how long each step takes.
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
