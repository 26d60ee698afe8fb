//! Runs a network on a folder of inputs, as msame and ais_bench do.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use ferroflow_core::{
    Size,
    io::Outputs,
    memory::{self, Shortage},
};
use ferroflow_net::{
    Op,
    device::{Device, DeviceError, Executor, Frames},
    graph::{ShapeError, Sizes},
    weights::store::Stored,
};
use serde::Serialize;

use super::{File, Format, Layout, OfflineError, Prepared, array};
use crate::{Timing, memory_estimate};

/// A network that runs on arrays, whatever runs it.
pub trait OfflineNetwork {
    /// What it takes.
    fn takes(&self) -> Values;

    /// The flows of a batch of pairs, `[N, 3, H, W]` each: `[N, 2, H, W]`, u then v, pixels.
    ///
    /// # Errors
    /// If it does not take the size, or its runtime fails.
    fn flows(&mut self, frames: [&[f32]; 2], batch: usize, size: Size) -> Result<Vec<f32>, NetworkError>;
}

/// The values of frames that a network takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Values {
    /// RGB, 0..=255.
    Images {
        /// Whether the network itself takes the mean of both frames off, so that they may come without it.
        is_centred: bool,
    },
    /// What the network makes of frames before its first layer: the values of this layout, or of whatever layout if that is not
    /// known.
    Normalised(Option<Layout>),
}

/// Why a network does not run on inputs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The inputs hold other values than the network takes.
    #[error("{0}")]
    Values(String),
    /// Sides that the network does not take.
    #[error(
        "{network} takes sides that are multiples of {stride}, not {size}: write the inputs with --stride {stride}"
    )]
    Size {
        /// Its name.
        network: &'static str,
        /// Size of the inputs.
        size: Size,
        /// Of which sides are multiples.
        stride: usize,
    },
    /// It does not fit into memory.
    #[error("{0}; write the inputs with fewer pairs in a file (--batch)")]
    Memory(#[from] Shortage),
    /// The sizes do not suit the network.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Another runtime failed.
    #[error(transparent)]
    Runtime(Box<dyn std::error::Error + Send + Sync>),
}

/// A network of this library, on a device.
pub struct NetworkOnDevice {
    stored: Stored,
    device: Arc<dyn Device>,
    /// The one for the latest size.
    executor: Option<Box<dyn Executor>>,
}

impl NetworkOnDevice {
    /// Prepared when the first inputs come.
    pub fn new(stored: Stored, device: Arc<dyn Device>) -> Self {
        Self { stored, device, executor: None }
    }
}

impl OfflineNetwork for NetworkOnDevice {
    fn takes(&self) -> Values {
        Values::Images { is_centred: self.stored.model.graph.nodes.iter().any(|node| node.op == Op::ChannelMean) }
    }

    fn flows(&mut self, frames: [&[f32]; 2], batch: usize, size: Size) -> Result<Vec<f32>, NetworkError> {
        let Stored { model, weights, .. } = &self.stored;
        let sizes = Sizes::new(batch, size.height, size.width);
        let executor = match self.executor.take().filter(|executor| executor.sizes() == sizes) {
            Some(executor) => executor,
            None => {
                if size.map(|side| side.next_multiple_of(model.stride)) != size {
                    return Err(NetworkError::Size { network: model.name, size, stride: model.stride });
                }
                memory::check(memory_estimate(model, &sizes)?)?;
                self.device.executor(&model.graph, weights, sizes)?
            }
        };
        let executor = self.executor.insert(executor);
        let mut flows = vec![0.0; 2 * batch * size.pixels()];
        executor.run(Frames::Planar(frames[0]), Frames::Planar(frames[1]), &mut flows)?;
        Ok(flows)
    }
}

/// What the output of the input `NAME` is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Naming {
    /// `NAME_0`
    AisBench,
    /// `NAME_output_0`
    Msame,
}

impl Naming {
    /// The runner that the layout's reference was run by.
    pub fn of(layout: Layout) -> Self {
        if layout == Layout::Pwcnet { Self::Msame } else { Self::AisBench }
    }

    /// What follows the name of the input.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::AisBench => "_0",
            Self::Msame => "_output_0",
        }
    }
}

/// What [`run`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Results {
    /// Names of the files.
    pub naming: Naming,
    /// Format of the files.
    pub format: Format,
    /// How often the network runs on each file; the last flows are written.
    pub loops: usize,
}

/// What [`run`] did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ran {
    /// Number of files.
    pub files: usize,
    /// Number of pairs in them, without those that only fill the last file.
    pub pairs: usize,
    /// Seconds of the network alone, a run for each file and loop, without reading and writing.
    pub timing: Timing,
}

/// Runs a network on every file of inputs and writes its flows to `folder`, in the layout that the inputs' reference wants.
///
/// # Errors
/// Before any work if a result would replace an input or the inputs' values are not those that the network takes; at the first
/// file that cannot be read, run or written.
pub fn run(
    prepared: &Prepared,
    network: &mut dyn OfflineNetwork,
    folder: &Path,
    results: Results,
    outputs: &mut Outputs,
    mut watch: impl FnMut(usize),
) -> Result<Ran, OfflineError> {
    let layout = prepared.layout();
    let scale = scale(layout, network.takes())
        .map_err(|source| OfflineError::Network { file: prepared.folder.display().to_string(), source })?;
    outputs.reads_all(prepared.inputs());
    let path = |file: &File| -> PathBuf {
        folder.join(format!("{}{}.{}", file.name, results.naming.ending(), results.format.extension()))
    };
    for file in &prepared.manifest.files {
        outputs.plan(path(file), format!("the flow of {}", file.name))?;
    }
    outputs.prepare()?;
    let batch = prepared.manifest.batch;
    let mut seconds = Vec::new();
    for (done, file) in prepared.manifest.files.iter().enumerate() {
        let [first, second] = frames(prepared, file, scale)?;
        let mut flows = Vec::new();
        for _ in 0..results.loops.max(1) {
            let start = Instant::now();
            flows = network
                .flows([&first, &second], batch, file.size)
                .map_err(|source| OfflineError::Network { file: file.name.clone(), source })?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        if layout.is_interleaved() {
            let (u, v) = flows.split_at(flows.len() / 2);
            flows = u.iter().zip(v).flat_map(|(u, v)| [*u, *v]).collect();
        }
        array::write(&path(file), results.format, &layout.flow_shape(batch, file.size), &flows)?;
        watch(done + 1);
    }
    let files = prepared.manifest.files.len();
    Ok(Ran { files, pairs: prepared.pairs(), timing: Timing::of(&seconds, batch) })
}

/// The factor that makes of the values of a layout those that a network takes.
fn scale(layout: Layout, takes: Values) -> Result<f32, NetworkError> {
    match (layout, takes) {
        (Layout::Images, Values::Images { .. }) | (Layout::Flownet2 | Layout::Pwcnet, Values::Normalised(None)) => {
            Ok(1.0)
        }
        (layout, Values::Normalised(Some(own))) if layout == own => Ok(1.0),
        (Layout::Pwcnet, Values::Images { .. }) | (Layout::Flownet2, Values::Images { is_centred: true }) => Ok(255.0),
        (Layout::Flownet2, Values::Images { is_centred: false }) => Err(NetworkError::Values(
            "the inputs lack the mean of the frames, which this network needs: write them with --layout images".into(),
        )),
        (_, Values::Normalised(own)) => {
            let way = match own {
                Some(Layout::Pwcnet) => "pwcnet",
                Some(_) => "flownet2",
                None => "flownet2 or pwcnet",
            };
            Err(NetworkError::Values(format!(
                "the file takes normalised frames, and these inputs hold other values: write them with --layout {way}, or export \
                 the network with --inputs images"
            )))
        }
    }
}

/// Both frames of every pair of a file, `[N, 3, H, W]`, times `scale`.
fn frames(prepared: &Prepared, file: &File, scale: f32) -> Result<[Vec<f32>; 2], OfflineError> {
    let layout = prepared.layout();
    let shape = layout.input_shape(prepared.manifest.batch, file.size);
    let read = |input: &str| -> Result<Vec<f32>, OfflineError> {
        let mut values = array::read(&prepared.input(input, file), &shape)?;
        if scale != 1.0 {
            values.iter_mut().for_each(|v| *v *= scale);
        }
        Ok(values)
    };
    match layout.folders() {
        [first, second] => Ok([read(first)?, read(second)?]),
        // Both frames, pixel by pixel.
        folders => {
            let both = folders.iter().map(|input| read(input)).collect::<Result<Vec<_>, _>>()?.concat();
            let planes = |frame: &[f32]| {
                (0..3).flat_map(|channel| frame.iter().skip(channel).step_by(3)).copied().collect::<Vec<f32>>()
            };
            let (first, second) = both.split_at(both.len() / 2);
            Ok([planes(first), planes(second)])
        }
    }
}
