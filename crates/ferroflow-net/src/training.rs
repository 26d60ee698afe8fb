//! What a training loop asks of a device: run a network, then say how its outputs depend on its parameters.
//!
//! An executor is built for a graph, a batch, a size, the nodes to read and the parameters to train. The loop computes a
//! loss and its gradient from the outputs; [`Trainer::backward`] carries that gradient to the parameters.

use crate::device::{DeviceError, Memory, Profile};
use crate::graph::{Graph, NodeId, ParamId, Shape, Sizes};
use crate::weights::Weights;

/// What an executor for training is built for.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// Batch and size of the frames, size of the output flow.
    pub sizes: Sizes,
    /// Nodes whose values the loss reads: some of `graph.pyramid`, `graph.flow`.
    pub outputs: Vec<NodeId>,
    /// One entry per parameter of the graph: whether its gradient is wanted. Nothing is differentiated that no trained
    /// parameter needs. Running statistics are never trained.
    pub trained: Vec<bool>,
}

impl TrainingOptions {
    /// Trains every parameter that the network reads; `outputs` as given.
    pub fn all(graph: &Graph, sizes: Sizes, outputs: Vec<NodeId>) -> Self {
        let trained = graph.params.iter().map(|p| p.used && p.role.is_trained()).collect();
        Self { sizes, outputs, trained }
    }
}

/// Values `[N, C, H, W]`, row-major: an output of a network, or the gradient of a loss with respect to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// `[N, C, H, W]`
    pub shape: Shape,
    /// As many values as the shape says.
    pub data: Vec<f32>,
}

impl Values {
    /// Zeros.
    pub fn zeros(shape: Shape) -> Self {
        Self { shape, data: vec![0.0; shape.iter().product()] }
    }
}

/// One array per parameter of a graph, in the order and the layout of its weights; empty for those not trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    values: Vec<Vec<f32>>,
}

impl Gradients {
    /// Zeros for the trained parameters.
    pub fn zeros(graph: &Graph, trained: &[bool]) -> Self {
        let len = |(param, &trained): (&crate::graph::Param, &bool)| if trained { param.len() } else { 0 };
        Self { values: graph.params.iter().zip(trained).map(|p| vec![0.0; len(p)]).collect() }
    }

    /// The gradient of a parameter, row-major.
    pub fn get(&self, id: ParamId) -> &[f32] {
        &self.values[id.0 as usize]
    }

    /// The gradient of a parameter, to add to it.
    pub fn get_mut(&mut self, id: ParamId) -> &mut [f32] {
        &mut self.values[id.0 as usize]
    }

    /// Several gradients at once, to add to them.
    ///
    /// # Panics
    /// If a parameter is named twice.
    pub fn get_many_mut<const N: usize>(&mut self, ids: [ParamId; N]) -> [&mut [f32]; N] {
        match self.values.get_disjoint_mut(ids.map(|id| id.0 as usize)) {
            Ok(values) => values.map(Vec::as_mut_slice),
            Err(error) => panic!("{error}: an operation names its parameters once"),
        }
    }

    /// All gradients, in the order of the graph's table.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.iter().map(Vec::as_slice)
    }

    /// All gradients, to scale, clip or average them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.values.iter_mut().map(Vec::as_mut_slice)
    }

    /// Sets every gradient to zero.
    pub fn clear(&mut self) {
        self.values.iter_mut().for_each(|v| v.fill(0.0));
    }
}

/// A network on a device, ready to be trained. Batch norm normalises with the statistics of the batch where its scale is
/// trained, and with its running statistics, which then stay as they are, where it is frozen.
pub trait Trainer: Send {
    /// Runs the network on `frames`, planar `[N, 3, H, W]`, RGB 0..=255; gives the values of the outputs, in the order
    /// they were asked for, and keeps what [`backward`](Self::backward) needs.
    fn forward(&mut self, weights: &Weights, frames: [&[f32]; 2]) -> Result<Vec<Values>, DeviceError>;

    /// Adds to `sum` the gradient, with respect to each trained parameter, of the loss whose gradients with respect to the
    /// outputs of the last forward pass are given.
    fn backward(&mut self, gradients: &[Values], sum: &mut Gradients) -> Result<(), DeviceError>;

    /// Moves the running statistics of batch norm towards those of the last forward pass:
    /// `(1 - momentum) * running + momentum * batch`, the variance unbiased (PyTorch; momentum 0.1).
    fn update_statistics(&self, momentum: f32, weights: &mut Weights);

    /// Bytes held; `None` where the device does not know.
    fn memory(&self) -> Option<Memory> {
        None
    }

    /// Mean times of all layers, forward and backward, since the start or the last [`reset_profile`](Self::reset_profile); `None`
    /// where the device does not measure them.
    fn profile(&self) -> Option<[Profile; 2]> {
        None
    }

    /// Forgets the times so far.
    fn reset_profile(&mut self) {}
}
