//! Every network by name and options: what a user types, what a weight file stores.

mod registry;

use std::collections::BTreeMap;

use crate::graph::{Extent, Graph};
use crate::settings::{OptionHelp, SettingError};

/// A network ready to be given weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// `flownet2-css`, `pwcnet-lg-6-2`, ...
    pub name: &'static str,
    /// The options that were given, as text; name and options rebuild the model.
    pub options: BTreeMap<String, String>,
    /// The network.
    pub graph: Graph,
    /// Height and width of its input are multiples of this.
    pub stride: usize,
    /// Smallest input.
    pub min_size: Extent,
    /// How frames of another size are made to fit.
    pub fit: Fit,
    /// What the reference did to frames of another size when its published errors were measured.
    pub evaluation_fit: Fit,
    /// How the reference stores its weights.
    pub layout: CheckpointLayout,
    /// What the values of `graph.pyramid` are.
    pub pyramid_unit: PyramidUnit,
    /// Whose network it is.
    pub paper: &'static str,
    /// One line about it.
    pub description: &'static str,
}

/// Frames whose size is not a multiple of the stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Zeros below and to the right, the flow cut back.
    Pad,
    /// Resized to the next multiple, the flow resized and scaled back.
    Resize,
    /// The centre is cut out: the border gets no flow.
    Crop,
}

/// How a reference checkpoint orders the values of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointLayout {
    /// PyTorch and MindSpore: convolution `[out, in, kh, kw]`, transposed `[in, out, kh, kw]`; ours too.
    Oihw,
    /// TensorFlow: convolution `[kh, kw, in, out]`, transposed `[kh, kw, out, in]`.
    Hwio,
}

/// The unit of the flows that training losses read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PyramidUnit {
    /// A value times this is pixels of the network input, whatever the level.
    Pixels(f32),
    /// Pixels of the level itself.
    LevelPixels {
        /// True where channel 0 is dy (UFlow).
        row_first: bool,
    },
}

/// A name or an option that no network has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// No such network.
    #[error("there is no network `{name}`; there are {}", .known.join(", "))]
    UnknownName {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// The network lacks this option.
    #[error("network `{name}`: {source}")]
    Option {
        /// The network.
        name: &'static str,
        /// What is wrong.
        source: SettingError,
    },
    /// Not of the form `key=value`.
    #[error("`{text}` is not an option: write key=value")]
    NotAnOption {
        /// What was given.
        text: String,
    },
    /// Options that contradict each other.
    #[error("network `{name}`: {reason}")]
    Contradiction {
        /// The network.
        name: &'static str,
        /// Which, and what to change.
        reason: &'static str,
    },
}

impl Model {
    /// The network of this name, all options as in its reference.
    pub fn named(name: &str) -> Result<Self, ModelError> {
        Self::with_options(name, &BTreeMap::new())
    }

    /// The network of this name with options, as stored in weight files.
    pub fn with_options(name: &str, options: &BTreeMap<String, String>) -> Result<Self, ModelError> {
        registry::build(name, options)
    }

    /// The network of this name with options of the form `key=value`, as typed.
    pub fn parse<S: AsRef<str>>(name: &str, options: impl IntoIterator<Item = S>) -> Result<Self, ModelError> {
        let mut parsed = BTreeMap::new();
        for option in options {
            let text = option.as_ref();
            let (key, value) = text.split_once('=').ok_or_else(|| ModelError::NotAnOption { text: text.into() })?;
            parsed.insert(key.trim().to_string(), value.trim().to_string());
        }
        Self::with_options(name, &parsed)
    }

    /// The names of all networks, without aliases.
    pub fn names() -> impl Iterator<Item = &'static str> {
        registry::NETWORKS.iter().map(|n| n.name)
    }

    /// The options of a network, for help texts.
    pub fn options_of(name: &str) -> Result<Vec<OptionHelp>, ModelError> {
        Ok(registry::find(name)?.family.settings())
    }
}
