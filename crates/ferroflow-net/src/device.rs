//! The traits that a device implements, to run a network for frames of one size or to train it on them.
//!
//! The host sees frames, flows, losses and gradients; the device decides how a network is prepared and where its values lie. A
//! device is a crate that implements [`Device`]; a program that lets users name devices has a row for each.

use std::{borrow::Cow, fmt};

use ferroflow_core::memory::Shortage;
use serde::Serialize;

use crate::{
    graph::{Graph, ShapeError, Sizes},
    training::{Trainer, TrainingOptions},
    weights::{Weights, WeightsError},
};

/// A device that runs and trains networks.
pub trait Device: fmt::Debug + Send + Sync {
    /// The name by which a user selects it, such as `cpu`.
    fn name(&self) -> String;

    /// Unusual settings, for the line that describes a method: `in bf16 (AMX)`. Empty if there are none.
    fn remarks(&self) -> String {
        String::new()
    }

    /// Prepares a network to estimate pairs of these sizes.
    ///
    /// # Errors
    /// If the device lacks an operation, the sizes do not suit the network, or the weights are another network's.
    fn executor(&self, graph: &Graph, weights: &Weights, sizes: Sizes) -> Result<Box<dyn Executor>, DeviceError>;

    /// Whether executors of a network for one pair take what they computed of a frame again when the next pair has it too. Successive
    /// pairs of a video, and both directions of a pair, are then better estimated one by one than as a batch.
    fn keeps_features(&self, _graph: &Graph) -> bool {
        false
    }

    /// Prepares a network to be trained on batches of one size.
    ///
    /// # Errors
    /// As [`executor`](Self::executor), and if there is not enough memory.
    fn trainer(&self, graph: &Graph, options: TrainingOptions) -> Result<Box<dyn Trainer>, DeviceError>;

    /// About how many bytes a step of training will take, known before anything is prepared; `None` where the device does not know.
    ///
    /// # Errors
    /// If the sizes do not suit the network.
    fn training_memory(&self, _graph: &Graph, _options: &TrainingOptions) -> Result<Option<u64>, DeviceError> {
        Ok(None)
    }

    /// Bytes of its own memory that this process holds; `None` where it has none or does not say.
    fn memory_held(&self) -> Option<u64> {
        None
    }

    /// Number of threads that work for it on the host.
    fn threads(&self) -> usize;

    /// Runs `work` of the host, such as fitting frames to the network, with the threads that the device has for it. `work` is
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
    /// One slice for each image, `[H, W, 3]`.
    Rgb(&'a [&'a [u8]]),
}

impl<'a> Frames<'a> {
    /// The frames as `[N, 3, H, W]`.
    ///
    /// # Errors
    /// If there are not as many values as the sizes say.
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
    /// The sizes that it was prepared for.
    fn sizes(&self) -> Sizes;

    /// Writes the flow from `first` to `second` into `flow`, planar `[N, 2, H, W]` of the output size: u, then v, in pixels of the
    /// output.
    ///
    /// # Errors
    /// If the frames or the flow have other sizes than it was prepared for, or the device fails.
    fn run(&mut self, first: Frames<'_>, second: Frames<'_>, flow: &mut [f32]) -> Result<(), DeviceError>;

    /// Gives the flow from which the next run starts, planar `[N, 2, h, w]`, in pixels of that size, which is that of
    /// [`Graph::initial`]. The run after that starts from zero again.
    ///
    /// # Errors
    /// If the network starts from none, the device cannot give it one, or it has another size.
    fn start_from(&mut self, _flow: &[f32]) -> Result<(), DeviceError> {
        Err(DeviceError::Unsupported {
            node: "the first flow".into(),
            reason: "this network or device always starts from zero".into(),
        })
    }

    /// From now on leaves out the [iterations](crate::graph::Iteration) of a recurrent network that follow one whose update has a mean
    /// length below this, in pixels of the frames; in a batch that of every pair.
    ///
    /// # Errors
    /// If the network has no iterations, or the device always does all of them.
    fn stop_below(&mut self, _pixels: f32) -> Result<(), DeviceError> {
        Err(DeviceError::Unsupported {
            node: "the flow".into(),
            reason: "this network has no iterations, or this device always does all of them".into(),
        })
    }

    /// How many iterations the last run did; `None` where there are none or the device does not say.
    fn iterations(&self) -> Option<usize> {
        None
    }

    /// Forgets the frames of earlier runs, so that the next one computes everything, as it would for frames not seen before.
    fn forget_frames(&mut self) {}

    /// Mean times of all layers since the start or the last [`reset_profile`](Self::reset_profile); `None` where the device does not
    /// measure them.
    fn profile(&self) -> Option<Profile> {
        None
    }

    /// Forgets the times so far, for example those of the first runs, which also touch new memory.
    fn reset_profile(&mut self) {}
}

/// Why a device cannot run or train a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The frames do not suit the network.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The weights are another network's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The graph has no flow as its output.
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
    /// An argument does not have the length that the network was prepared for.
    #[error("{what} holds {got} values; the network was prepared for {expected}")]
    Length {
        /// Name of the argument.
        what: &'static str,
        /// Number of values expected.
        expected: usize,
        /// Number of values given.
        got: usize,
    },
    /// It takes more memory than is available.
    #[error(
        "a training step of this batch and crop: {0}; make batch smaller (accumulate makes up for it), or crop; recompute = true takes less"
    )]
    Memory(Shortage),
    /// The calls came in a wrong order; the text says which must come first.
    #[error("{0}")]
    Order(&'static str),
    /// Statistics of a batch that lies on several ranks.
    #[error(
        "this device takes the statistics of batch norm only of the part of the batch that it has: set sync_batch_norm = false, or \
         train on the CPU"
    )]
    NoPeers,
    /// The device failed.
    #[error("{device} failed: {reason}")]
    Failed {
        /// Name of the device.
        device: String,
        /// The device's own error.
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
    /// Operations per second in 1e9, with convolutions counted as direct ones.
    pub gflop_per_s: f64,
    /// Share of the whole time, from 0 to 1.
    pub share: f64,
}

/// Bytes that a prepared network holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Prepared weights.
    pub weights: usize,
    /// Values between the layers.
    pub activations: usize,
    /// Working memory that was needed so far.
    pub scratch: usize,
}

impl Memory {
    /// The sum of all three.
    pub fn total(self) -> usize {
        self.weights + self.activations + self.scratch
    }
}

/// The steps of a prepared network, and how long each takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// The steps, in execution order.
    pub layers: Vec<LayerProfile>,
    /// Mean seconds per run.
    pub seconds: f64,
    /// Operations per run, in 1e9.
    pub gflop: f64,
    /// Bytes that the prepared network holds.
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
