//! Inference on folders of arrays: writes preprocessed inputs as files, runs a network on them, and scores the outputs.
//!
//! The runners of device compilers read folders of raw arrays and write raw arrays. [`write_inputs`] writes the folders, [`run`]
//! does what a runner does, and [`score`] compares the outputs with the truth that lies beside the inputs; `pairs.json` says which
//! file holds which pair. [`Prepared`] is such a folder, or one that a reference's own script wrote. Frames are padded with zeros
//! below and to the right to multiples of a stride.

mod array;
mod inputs;
mod prepared;
mod run;
mod score;

use std::path::PathBuf;

use ferroflow_core::{
    Size, SizeError,
    io::{IoError, OutputError},
    metrics::MetricError,
};
use ferroflow_data::DataError;
use serde::{Deserialize, Serialize};

pub use array::Format;
pub use inputs::{Progress, write_inputs};
pub use prepared::{Hints, Prepared};
pub use run::{Naming, NetworkError, NetworkOnDevice, OfflineNetwork, Ran, Results, Values, run};
pub use score::{Score, score};

/// The arrays that a runtime reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Layout {
    /// `frame1/`, `frame2/`: `[N, 3, H, W]`, RGB 0..=255; flows `[N, 2, H, W]`. This is for networks exported with images as
    /// inputs.
    Images,
    /// `image1/`, `image2/`: `[N, 3, H, W]`, (RGB - mean) / 255 with one mean per channel over both padded frames; flows
    /// `[N, 2, H, W]`. This is for FlowNet2 on Ascend (Flownet2_preprocess.py).
    Flownet2,
    /// `image/`: `[1, 2, H, W, 3]`, RGB / 255, both frames; flows `[1, H, W, 2]`. This is for PWC-Net as a frozen graph
    /// (dataprep.py).
    Pwcnet,
}

impl Layout {
    /// All layouts.
    pub const ALL: [Self; 3] = [Self::Images, Self::Flownet2, Self::Pwcnet];

    /// Names of the folders of inputs, in the order of the network's inputs.
    pub fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Images => &["frame1", "frame2"],
            Self::Flownet2 => &["image1", "image2"],
            Self::Pwcnet => &["image"],
        }
    }

    /// The shape of an input of a file.
    fn input_shape(self, batch: usize, Size { height: h, width: w }: Size) -> Vec<usize> {
        if self == Self::Pwcnet { vec![1, 2, h, w, 3] } else { vec![batch, 3, h, w] }
    }

    /// The shape of the flows of a file.
    fn flow_shape(self, batch: usize, Size { height: h, width: w }: Size) -> [usize; 4] {
        if self.is_interleaved() { [batch, h, w, 2] } else { [batch, 2, h, w] }
    }

    /// Whether flows are `[H, W, 2]` rather than `[2, H, W]`.
    fn is_interleaved(self) -> bool {
        self == Self::Pwcnet
    }
}

/// What [`write_inputs`] writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inputs {
    /// The arrays.
    pub layout: Layout,
    /// The format of the files.
    pub format: Format,
    /// Number of pairs in a file; the last file is filled up with its last pair. It must be 1 with [`Layout::Pwcnet`].
    pub batch: usize,
    /// Sides are padded to multiples of this number of pixels.
    pub stride: usize,
    /// Take at most this many pairs.
    pub limit: Option<usize>,
}

/// Name of the file that says which file is which pair.
const MANIFEST: &str = "pairs.json";

/// Folder of the true flows: padded like the frames, NaN where unknown.
const TRUTH: &str = "gt";

/// `pairs.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    layout: Layout,
    format: Format,
    batch: usize,
    files: Vec<File>,
}

/// One file of inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct File {
    /// Name without extension, the same in every folder.
    name: String,
    /// Padded.
    #[serde(with = "sides")]
    size: Size,
    /// Its pairs, fewer than a batch in the last file.
    pairs: Vec<Pair>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair {
    /// Name in the data set.
    id: String,
    #[serde(with = "sides")]
    size: Size,
}

/// A size as shapes are written: `[height, width]`.
mod sides {
    use ferroflow_core::Size;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(size: &Size, serializer: S) -> Result<S::Ok, S::Error> {
        [size.height, size.width].serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        <[usize; 2]>::deserialize(deserializer).map(|[height, width]| Size { height, width })
    }
}

/// Why inputs were not written or outputs not scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// The data set cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Files cannot be written as asked.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The folder was not written by `export inputs`.
    #[error("{}: {reason}; write the inputs again", path.display())]
    Manifest {
        /// `pairs.json`
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Pairs of different sizes cannot share a file.
    #[error("{pair} has another size than the pairs before it, which share its file: write one pair a file")]
    Sizes {
        /// The pair.
        pair: String,
    },
    /// The layout holds one pair in a file, and more were asked for.
    #[error("the PWC-Net layout holds one pair a file, not {batch}")]
    Batch {
        /// Number of pairs that was asked for.
        batch: usize,
    },
    /// A folder without `pairs.json` does not say enough about its files.
    #[error("{}: there is no {MANIFEST}, so its files must tell what they hold: {reason}", folder.display())]
    Untold {
        /// The folder.
        folder: PathBuf,
        /// What is missing, and which option says it.
        reason: String,
    },
    /// The network cannot run on these inputs.
    #[error("{file}: {source}")]
    Network {
        /// Name of the file of inputs.
        file: String,
        /// The cause.
        source: NetworkError,
    },
    /// The data set is endless, and no limit was given.
    #[error("{data} is endless: say how many pairs to take (--limit)")]
    Endless {
        /// The data set.
        data: String,
    },
    /// A pair has no true flow to score with.
    #[error("{pair} has no true flow, so its output cannot be scored")]
    NoTruth {
        /// The pair.
        pair: String,
    },
    /// There are neither outputs of the inputs' names nor as many outputs as inputs.
    #[error(
        "{}: {outputs} outputs for {inputs} inputs, and none is called after `{first}`: what is the output of which?", folder.display()
    )]
    Order {
        /// The folder of outputs.
        folder: PathBuf,
        /// Number of arrays in it.
        outputs: usize,
        /// Number of files of truth.
        inputs: usize,
        /// Name of the first of these.
        first: String,
    },
    /// There is no output for an input.
    #[error("{}: no output for the input `{name}` (looked for {name}.bin, {name}_0.bin, {name}_output_0.bin, and .npy)", folder.display())]
    NoOutput {
        /// The folder of outputs.
        folder: PathBuf,
        /// Name of the input file.
        name: String,
    },
    /// A file does not hold the expected array.
    #[error("{}: {reason}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Not one pixel can be scored.
    #[error("{}: {source}", folder.display())]
    Nothing {
        /// The folder of outputs.
        folder: PathBuf,
        /// The cause.
        source: MetricError,
    },
    /// The flow cannot be scored.
    #[error("{pair}: {source}")]
    Metric {
        /// The pair.
        pair: String,
        /// The cause.
        source: MetricError,
    },
    /// Sizes contradict each other, which is a fault of this library.
    #[error(transparent)]
    Size(#[from] SizeError),
}

#[cfg(test)]
mod tests;
