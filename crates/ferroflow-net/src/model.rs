//! Networks by name and options, as users type them and weight files store them.

mod definition;
mod registry;

use std::collections::BTreeMap;

pub use ferroflow_core::geometry::Fit;

use crate::graph::{Filter, Graph, Grid, Node, NodeId, Op, ParamId, ShapeError, Size, Sizes};
use crate::settings::{OptionHelp, SettingError};

pub use definition::{Definition, Network};
pub(crate) use definition::{Entry, Row};

/// A network with its name and options, without weights.
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
    /// Smallest input that it takes.
    pub min_size: Size,
    /// How frames of another size are made to fit.
    pub fit: Fit,
    /// How the reference measured its published errors.
    pub protocol: Protocol,
    /// How the reference stores its weights.
    pub layout: CheckpointLayout,
    /// The unit of the values of `graph.pyramid`.
    pub pyramid_unit: PyramidUnit,
    /// Factors on the formula's weights of some parameters ([`crate::Weights::formula`]).
    pub test_gains: &'static [(&'static str, f64)],
    /// For each level of a coarse-to-fine network, the parameters of its last layers: where all of them are 0, the level adds
    /// nothing to the flow that it is given (UFlow's level dropout). Empty where levels share their layers.
    pub level_params: Vec<Vec<ParamId>>,
    /// Authors, title and year of the paper.
    pub paper: &'static str,
    /// The network in one line.
    pub description: &'static str,
}

/// How a reference measured the errors it published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// How it fitted frames of a size that the network does not take.
    pub fit: Fit,
    /// Number of pairs in the batches over which it averaged; `None` if it averaged over images.
    pub batch: Option<usize>,
}

/// How a reference checkpoint orders the values of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointLayout {
    /// PyTorch's, MindSpore's and Ferroflow's: convolution `[out, in, kh, kw]`, transposed `[in, out, kh, kw]`.
    Oihw,
    /// TensorFlow's: convolution `[kh, kw, in, out]`, transposed `[kh, kw, out, in]`.
    Hwio,
}

/// The unit of the flows that training losses read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PyramidUnit {
    /// At every level, a value times this factor is in pixels of the network input.
    Pixels(f32),
    /// Pixels of the level itself.
    LevelPixels {
        /// True where channel 0 is dy (UFlow).
        row_first: bool,
    },
}

/// The error of a name that no network has, or of an option that the named network lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// There is no network of this name.
    #[error("there is no network `{name}`; there are {}", .known.join(", "))]
    UnknownName {
        /// The name that was asked for.
        name: String,
        /// The names of all networks.
        known: Vec<&'static str>,
    },
    /// The network lacks the option or this value of it.
    #[error("network `{name}`: {source}")]
    Option {
        /// The network.
        name: &'static str,
        /// What is wrong.
        source: SettingError,
    },
    /// The text does not have the form `key=value`.
    #[error("`{text}` is not an option: write key=value")]
    NotAnOption {
        /// The text.
        text: String,
    },
    /// The network has fewer levels.
    #[error("{name} has {levels} levels, so there is no level {level}")]
    NoLevel {
        /// The network.
        name: &'static str,
        /// Number of its levels.
        levels: usize,
        /// The level that was asked for, from 0.
        level: usize,
    },
    /// The network does not take its own smallest size, which would be a fault of this library.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Weight files could not name the configuration.
    #[error(
        "no network's options stand for this configuration, so weights of it could not be opened again: change only what the \
         network has options for"
    )]
    Unnamed,
}

impl Model {
    /// The network of this name, with its default options.
    pub fn named(name: &str) -> Result<Self, ModelError> {
        Self::with_options(name, &BTreeMap::new())
    }

    /// The network of this name with options, as stored in weight files.
    pub fn with_options(name: &str, options: &BTreeMap<String, String>) -> Result<Self, ModelError> {
        registry::find(name)?.build(options)
    }

    /// The network of this name with options of the form `key=value`, as typed.
    pub fn parse<S: AsRef<str>>(name: &str, options: impl IntoIterator<Item = S>) -> Result<Self, ModelError> {
        Self::with_options(name, &Self::options_from(options)?)
    }

    /// The network of a configuration of [`zoo`](crate::zoo), with the name and the options that weight files store for it.
    ///
    /// # Errors
    /// If no name with any options gives this configuration.
    pub fn of<C: Definition>(config: &C) -> Result<Self, ModelError> {
        registry::networks().find_map(|row| row.of(config)).ok_or(ModelError::Unnamed)
    }

    /// Reads options of the form `key=value`; if a key is given twice, the last value counts.
    pub fn options_from<S: AsRef<str>>(
        options: impl IntoIterator<Item = S>,
    ) -> Result<BTreeMap<String, String>, ModelError> {
        let pair = |option: S| {
            let text = option.as_ref();
            let (key, value) = text.split_once('=').ok_or_else(|| ModelError::NotAnOption { text: text.into() })?;
            Ok((key.trim().to_string(), value.trim().to_string()))
        };
        options.into_iter().map(pair).collect()
    }

    /// The names of all networks, without aliases.
    pub fn names() -> impl Iterator<Item = &'static str> {
        registry::networks().map(|n| n.name())
    }

    /// The options of a network, for help texts.
    pub fn options_of(name: &str) -> Result<Vec<OptionHelp>, ModelError> {
        Ok(registry::find(name)?.options())
    }

    /// The same network, whose flow is that of level `level` of `graph.pyramid`, enlarged to the size of the frames: for looking at what
    /// it says before it is done.
    ///
    /// # Errors
    /// If there is no such level.
    pub fn of_level(&self, level: usize) -> Result<Self, ModelError> {
        let levels = self.graph.pyramid.len();
        let Some(&node) = self.graph.pyramid.get(level) else {
            return Err(ModelError::NoLevel { name: self.name, levels, level });
        };
        let mut model = self.clone();
        let graph = &mut model.graph;
        let mut add = |op: Op, input: NodeId, what: &str| {
            graph.nodes.push(Node { op, inputs: vec![input], name: format!("level{level}.{what}") });
            NodeId(graph.nodes.len() as u32 - 1)
        };
        let (pixels, row_first) = match self.pyramid_unit {
            PyramidUnit::Pixels(pixels) => (pixels, false),
            PyramidUnit::LevelPixels { row_first } => {
                let Size { height, width } = self.min_size;
                let shapes = self.graph.shapes(&Sizes::new(1, height, width))?;
                ((height / shapes[node.0 as usize][2].max(1)) as f32, row_first)
            }
        };
        // Of what stands beside the flow nothing is wanted.
        let components = add(Op::Channels(if row_first { vec![1, 0] } else { vec![0, 1] }), node, "uv");
        let mut flow = add(Op::Affine { scale: vec![pixels], offset: vec![0.0] }, components, "pixels");
        flow = add(Op::ToOutput { filter: Filter::Nearest, grid: Grid::HalfPixel }, flow, "flow");
        graph.flow = Some(flow);
        graph.iterations.clear();
        Ok(model)
    }

    /// The sizes for one pair of frames of this size: the input is the next larger size that the network takes.
    pub fn sizes_for(&self, frame: Size) -> Sizes {
        let up = |side: usize, least: usize| side.max(least).next_multiple_of(self.stride);
        Sizes::new(1, up(frame.height, self.min_size.height), up(frame.width, self.min_size.width))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The counts of the papers' tables and of the reference implementations.
    #[test]
    fn parameter_counts() {
        for (name, count) in [
            ("flownet2", 162_518_834),
            ("flownet2-c", 39_175_298),
            ("flownet2-s", 38_676_506),
            ("flownet2-sd", 45_371_666),
            ("flownet2-cs", 77_870_620),
            ("flownet2-css", 116_565_942),
            ("flownet2-bn", 162_540_914),
            ("flownet2-c-bn", 39_180_130),
            ("flownet2-s-bn", 38_681_306),
            ("flownet2-sd-bn", 45_378_706),
            ("flownet2-cs-bn", 77_880_252),
            ("flownet2-css-bn", 116_580_374),
            ("pwcnet", 9_374_340),
            ("pwcnet-old", 8_749_280),
            ("pwcnet-nodc", 8_243_008),
            ("pwcnet-sm", 4_705_064),
            ("pwcnet-dense", 9_374_274),
            ("pwcnet-res", 6_774_064),
            ("pwcnet-lg-6-2", 14_079_050),
            ("uflow", 5_718_218),
            ("uflow-mindspore", 5_718_218),
            ("rill", 677_722),
            ("rill-large", 1_549_914),
            ("lightflow", 2_540_390),
            ("lightflow-0.75", 1_442_690),
            ("lightflow-0.5", 653_406),
            ("raft", 5_257_536),
            ("raft-small", 990_162),
            ("sea-raft-s", 8_883_460),
            ("sea-raft-m", 19_663_876),
            ("neuflow-v2", 9_029_536),
        ] {
            assert_eq!(Model::named(name).unwrap().graph.parameter_count(), count, "{name}");
        }
    }

    #[test]
    fn every_network_is_well_formed() {
        for name in Model::names() {
            let model = Model::named(name).unwrap();
            let graph = &model.graph;
            let names: HashSet<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
            assert_eq!(names.len(), graph.nodes.len(), "{name}: node names are unique");
            let params: HashSet<&str> = graph.params.iter().map(|p| p.name.as_str()).collect();
            assert_eq!(params.len(), graph.params.len(), "{name}: parameter names are unique");
            let read: HashSet<_> = graph.nodes.iter().flat_map(|n| n.op.params()).collect();
            assert_eq!(read.len(), graph.params.iter().filter(|p| p.used).count(), "{name}: `used` is what is read");
            for tall in [1, 2, 3] {
                let sizes = Sizes::new(2, tall * model.stride, model.stride);
                let shapes = graph.shapes(&sizes).unwrap();
                let flow = graph.flow.unwrap();
                assert_eq!(shapes[flow.0 as usize], [2, 2, tall * model.stride, model.stride], "{name}");
            }
            assert!(!graph.pyramid.is_empty());
        }
    }

    #[test]
    fn every_option_value_builds_and_is_remembered() {
        for name in Model::names() {
            for option in Model::options_of(name).unwrap() {
                for value in option.values {
                    let value = value.split("..=").next().unwrap().to_string();
                    let model = Model::parse(name, [format!("{}={value}", option.key)]).unwrap();
                    let stride = model.stride;
                    model.graph.shapes(&Sizes::new(1, stride, stride)).unwrap();
                    assert_eq!(Model::with_options(name, &model.options).unwrap(), model);
                }
            }
        }
    }

    #[test]
    fn configurations_are_named_by_the_options_that_build_them() {
        use crate::zoo::{flownet2::FlowNet2Config, uflow::UFlowConfig};
        assert_eq!(Model::of(&UFlowConfig::google()).unwrap(), Model::named("uflow").unwrap());
        let config = UFlowConfig { levels: 4, channel_multiplier: 0.7, cost_volume: false, ..UFlowConfig::google() };
        let options = ["levels=4", "channel-multiplier=0.7", "cost-volume=off"];
        assert_eq!(Model::of(&config).unwrap(), Model::parse("uflow", options).unwrap());
        let config = FlowNet2Config { sd_scale: 0.05, fusion_sd_scale: 0.05, ..FlowNet2Config::nvidia() };
        assert_eq!(Model::of(&config).unwrap(), Model::parse("flownet2", ["sd-scale=0.05"]).unwrap());
        let odd = FlowNet2Config { sd_scale: 0.07, ..FlowNet2Config::nvidia() };
        assert!(matches!(Model::of(&odd), Err(ModelError::Unnamed)));
    }

    #[test]
    fn every_level_can_be_the_flow() {
        for name in ["flownet2-s", "pwcnet-lg-6-2", "uflow", "rill"] {
            let model = Model::named(name).unwrap();
            let levels = model.graph.pyramid.len();
            for level in [0, levels - 1] {
                let at = model.of_level(level).unwrap();
                let (stride, flow) = (model.stride, at.graph.flow.unwrap());
                let shapes = at.graph.shapes(&Sizes::new(1, 2 * stride, stride)).unwrap();
                assert_eq!(shapes[flow.0 as usize], [1, 2, 2 * stride, stride], "{name} {level}");
            }
            assert!(model.of_level(levels).unwrap_err().to_string().contains("no level"));
        }
    }

    #[test]
    fn wrong_names_and_options_list_the_right_ones() {
        let message = |r: Result<Model, ModelError>| r.unwrap_err().to_string();
        assert!(message(Model::named("flownet3")).contains("flownet2-css"));
        assert!(message(Model::parse("uflow", ["warp=1"])).contains("channel-multiplier"));
        assert!(message(Model::parse("flownet2", ["variant=torch"])).contains("nvidia, mindspore, ascend, ptlflow"));
        assert!(message(Model::parse("uflow", ["channel-multiplier=nan"])).contains("0.1..=4"));
        assert!(message(Model::parse("pwcnet-sm", ["variant=x"])).contains("it has pyr-lvls"));
        assert!(message(Model::parse("pwcnet", ["variant"])).contains("key=value"));
        assert_eq!(Model::named("pwcnet-small").unwrap().name, "pwcnet-sm");
    }
}
