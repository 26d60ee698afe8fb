//! Samples, and the trait of the data sets that they come from.

use std::path::PathBuf;

use ferroflow_core::{FlowField, Frame, Mask};

use crate::DataError;

/// Two frames and what is known about the motion between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Frame 1.
    pub first: Frame,
    /// Frame 2, of the same size.
    pub second: Frame,
    /// Flow from frame 1 to frame 2, of the same size; `None` if there is no ground truth (test splits, videos).
    pub flow: Option<FlowField>,
    /// Pixels of frame 1 that cannot be seen in frame 2; `None` where unknown.
    pub occlusion: Option<Mask>,
    /// Both frames with all changes of an augmentation except those of colour, for losses that compare the frames with each other;
    /// `None` if no colours were changed, or if the augmentation does not keep these frames.
    pub original: Option<[Frame; 2]>,
    /// What the frames were cut out of, for losses that look beyond them; `None` if they are whole, or if the augmentation does not
    /// keep it.
    pub surround: Option<Surround>,
    /// Name of the pair, unique within its data set and the same on every system.
    pub id: String,
}

/// The pictures that both frames of a sample were cut out of, with all changes of an augmentation except those of colour.
#[derive(Clone, Debug, PartialEq)]
pub struct Surround {
    /// Both pictures, of one size.
    pub frames: [Frame; 2],
    /// Where each frame's top left pixel lies in its picture, (x, y). Where they differ, so do the flows of frames and pictures.
    pub at: [(usize, usize); 2],
}

/// A data set: samples by index.
pub trait Source: Send + Sync {
    /// How the data set is spelled on the command line.
    fn name(&self) -> String;

    /// How many samples there are; `None` for an endless one, which takes any index.
    fn len(&self) -> Option<usize>;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The files it reads, so that none of them is written.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What a user should know of how it was read.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// The files that sample `index` could be known by in other programs: its first frame and its true flow.
    fn known_by(&self, index: usize) -> Vec<PathBuf> {
        let _ = index;
        Vec::new()
    }

    /// Pixels of frame 1 of sample `index` that belong to moving objects, where the data set says so.
    ///
    /// # Errors
    /// If the map cannot be read.
    fn foreground(&self, index: usize) -> Result<Option<Mask>, DataError> {
        let _ = index;
        Ok(None)
    }

    /// Sample `index`, below [`Source::len`]. A pure function: the same index gives the same sample.
    fn get(&self, index: usize) -> Result<Sample, DataError>;
}
