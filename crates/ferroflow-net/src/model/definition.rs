//! What a file of the zoo says about its networks, and the rows that name them.

use std::{any::Any, collections::BTreeMap};

use super::{CheckpointLayout, Fit, Model, ModelError, Protocol, PyramidUnit};
use crate::graph::{Graph, NodeId, Size};
use crate::settings::{self, OptionHelp, Setting};

/// A configuration from which a network is built. Its graph says in which order and unit it takes frames and how first
/// weights are drawn; [`Network`] says the rest.
pub trait Definition: Clone + PartialEq + 'static {
    /// The network of this configuration.
    fn define(&self) -> Network;
}

/// A network without a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The network.
    pub graph: Graph,
    /// Height and width of its input are multiples of this.
    pub stride: usize,
    /// How frames of another size are made to fit.
    pub fit: Fit,
    /// How the reference measured its published errors.
    pub protocol: Protocol,
    /// How the reference stores its weights.
    pub layout: CheckpointLayout,
    /// The unit of the values of `graph.pyramid`.
    pub pyramid_unit: PyramidUnit,
    /// For each level that may be left out in training ([`Model::level_params`]), its last layers.
    pub levels: Vec<Vec<NodeId>>,
    /// Authors, title and year of the paper.
    pub paper: &'static str,
    /// Factors on the formula's weights of some parameters ([`crate::Weights::formula`]), with which cost volumes matter and
    /// flows are several pixels long everywhere, as they are with trained weights.
    pub test_gains: &'static [(&'static str, f64)],
}

/// A name: a configuration and what of it can be chosen.
pub(crate) struct Row<C: 'static> {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub config: fn() -> C,
    pub settings: &'static [Setting<C>],
    pub description: &'static str,
}

/// A row, whatever its configuration.
pub(crate) trait Entry {
    fn name(&self) -> &'static str;

    fn aliases(&self) -> &'static [&'static str];

    /// What can be chosen.
    fn options(&self) -> Vec<OptionHelp>;

    fn build(&self, options: &BTreeMap<String, String>) -> Result<Model, ModelError>;

    /// The model of a configuration, if this name with some options stands for it.
    fn of(&self, config: &dyn Any) -> Option<Model>;
}

impl<C: Definition> Entry for Row<C> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    fn options(&self) -> Vec<OptionHelp> {
        settings::describe(self.settings)
    }

    fn build(&self, options: &BTreeMap<String, String>) -> Result<Model, ModelError> {
        let mut config = (self.config)();
        settings::apply(self.settings, &mut config, options)
            .map_err(|source| ModelError::Option { name: self.name, source })?;
        Ok(self.model(&config, options.clone()))
    }

    fn of(&self, config: &dyn Any) -> Option<Model> {
        let config = config.downcast_ref::<C>()?;
        Some(self.model(config, settings::tell(self.settings, &(self.config)(), config)?))
    }
}

impl<C: Definition> Row<C> {
    fn model(&self, config: &C, options: BTreeMap<String, String>) -> Model {
        let network = config.define();
        let params = |id: &NodeId| network.graph.nodes[id.0 as usize].op.params();
        let level_params = network.levels.iter().map(|layers| layers.iter().flat_map(params).collect()).collect();
        Model {
            name: self.name,
            options,
            level_params,
            graph: network.graph,
            stride: network.stride,
            min_size: Size { height: network.stride, width: network.stride },
            fit: network.fit,
            protocol: network.protocol,
            layout: network.layout,
            pyramid_unit: network.pyramid_unit,
            test_gains: network.test_gains,
            paper: network.paper,
            description: self.description,
        }
    }
}
