//! What a device does for a training loop: it runs a network, then computes the gradients of its parameters.
//!
//! An executor is built for a graph, a batch, a size, the nodes to read and the parameters to train. [`Trainer::load`] takes
//! weights to the device, where they stay for any number of passes. The loop computes a loss and its gradient from the outputs
//! of [`Trainer::forward`]; [`Trainer::backward`] carries that gradient to the parameters.

use std::ops::Range;
use std::sync::Arc;

use crate::device::{DeviceError, Memory, Profile};
use crate::graph::{Graph, Grid, NodeId, ParamId, Shape, Size, Sizes};
use crate::model::PyramidUnit;
use crate::peers::Peers;
use crate::weights::Weights;

/// The sizes, outputs and parameters that a [`Trainer`] is built for.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// Batch and size of the frames, size of the output flow.
    pub sizes: Sizes,
    /// Nodes whose values the loss reads, some of `graph.pyramid` and `graph.flow`.
    pub outputs: Vec<NodeId>,
    /// For each parameter of the graph, whether it is trained. Only gradients that trained parameters need are computed. Running
    /// statistics are never trained.
    pub trained: Vec<bool>,
    /// Whether to compute parts of the forward pass again for the gradient instead of keeping their values: less memory, more time. A
    /// device may do without.
    pub recompute: bool,
}

impl TrainingOptions {
    /// Options that train every parameter that the network reads.
    pub fn all(graph: &Graph, sizes: Sizes, outputs: Vec<NodeId>) -> Self {
        let trained = graph.params.iter().map(|p| p.used && p.role.is_trained()).collect();
        Self { sizes, outputs, trained, recompute: false }
    }
}

/// Values `[N, C, H, W]`, row-major: an output of a network, or the gradient of a loss with respect to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// `[N, C, H, W]`
    pub shape: Shape,
    /// The values, as many as the shape says.
    pub data: Vec<f32>,
}

impl Values {
    /// Values of zero.
    pub fn zeros(shape: Shape) -> Self {
        Self { shape, data: vec![0.0; shape.iter().product()] }
    }
}

/// The gradients of a graph's trained parameters in one buffer, one after the other, each in the layout of its weights, so that
/// a norm, an average over processes or an optimiser is one pass over memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    values: Vec<f32>,
    /// Where each parameter begins, and the end; those not trained are empty.
    offsets: Vec<usize>,
}

impl Gradients {
    /// Gradients of zero for the trained parameters.
    pub fn zeros(graph: &Graph, trained: &[bool]) -> Self {
        let mut offsets = vec![0];
        let mut end = 0;
        for (param, &trained) in graph.params.iter().zip(trained) {
            end += if trained { param.len() } else { 0 };
            offsets.push(end);
        }
        Self { values: vec![0.0; end], offsets }
    }

    fn range(&self, id: ParamId) -> Range<usize> {
        self.offsets[id.0 as usize]..self.offsets[id.0 as usize + 1]
    }

    /// The gradient of a parameter, row-major; empty for one that is not trained.
    pub fn get(&self, id: ParamId) -> &[f32] {
        &self.values[self.range(id)]
    }

    /// The gradient of a parameter, to add to it.
    pub fn get_mut(&mut self, id: ParamId) -> &mut [f32] {
        let range = self.range(id);
        &mut self.values[range]
    }

    /// Several gradients at once, to add to them.
    ///
    /// # Panics
    /// If a trained parameter is named twice.
    pub fn get_many_mut<const N: usize>(&mut self, ids: [ParamId; N]) -> [&mut [f32]; N] {
        let ranges = ids.map(|id| self.range(id));
        match self.values.get_disjoint_mut(ranges) {
            Ok(values) => values,
            Err(error) => panic!("{error}: an operation names its parameters once"),
        }
    }

    /// All gradients, in the order of the graph's table.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.offsets.windows(2).map(|ends| &self.values[ends[0]..ends[1]])
    }

    /// All gradients, to scale, clip or average them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let mut rest = &mut self.values[..];
        self.offsets.windows(2).map(move |ends| {
            let (one, others) = std::mem::take(&mut rest).split_at_mut(ends[1] - ends[0]);
            rest = others;
            one
        })
    }

    /// All values in one slice, in the order of the graph's parameters.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values in one slice, to change them, for example to add those of other processes.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Sets every gradient to zero.
    pub fn clear(&mut self) {
        self.values.fill(0.0);
    }
}

/// The constants of one step of Adam, as a device applies them to each value:
///
/// ```text
/// g = factor * gradient + coupled * w
/// m = beta1 * m + (1 - beta1) * g
/// v = beta2 * v + (1 - beta2) * g * g
/// w = keep * w - rate * m / (sqrt(v) * root + epsilon)
/// ```
///
/// The corrections of the moments for the first steps are part of `rate` and `root`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// The corrected learning rate.
    pub rate: f32,
    /// Correction of the root.
    pub root: f32,
    /// Decay of the mean of the gradient.
    pub beta1: f32,
    /// Decay of the mean of its square.
    pub beta2: f32,
    /// Number that is added to the root.
    pub epsilon: f32,
    /// The learning rate by which weight decay apart from the gradient is multiplied; 0 if it is part of the gradient.
    pub apart: f32,
    /// Factor of the gradients: clipping, and the inverse of the loss scale.
    pub factor: f32,
}

impl AdamStep {
    /// `coupled` and `keep` for a parameter with this weight decay.
    pub fn decays(&self, decay: f32) -> (f32, f32) {
        if self.apart == 0.0 { (decay, 1.0) } else { (0.0, 1.0 - self.apart * decay) }
    }
}

/// UFlow's census loss, for a device that computes it where the flows lie: only they are of the size of the frames there, and only the
/// loss comes back. With `D` the census distance of a frame and the other one sampled along the flow, each direction of a pair adds
///
/// ```text
/// weight / 2 * sum(mask * (D + offset)^exponent) / (sum(mask) + 1e-6 * count(mask))
/// ```
///
/// over pixels with a whole patch, where `mask` is 1 for flow that ends inside the frame and, to a degree, does not end behind something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Census<'a> {
    /// First and second frames, `[N, 3, H, W]`, RGB 0..=255.
    pub frames: [&'a [f32]; 2],
    /// Of the frames.
    pub size: Size,
    /// Of the flows.
    pub unit: PyramidUnit,
    /// How flows are brought to the size of the frames, twice as large each time.
    pub grid: Grid,
    /// Side of a patch, odd, in pixels.
    pub patch: usize,
    /// `offset` and `exponent`
    pub cost: [f32; 2],
    /// What does not count.
    pub occluded: Occluded,
    /// Whether the flow is changed for the sake of the mask.
    pub through_mask: bool,
    /// Whether the flow from the first frame to the second alone is judged.
    pub only_forward: bool,
    /// Of the loss.
    pub weight: f64,
}

/// How pixels are found that the other frame does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occluded {
    /// None are.
    Nothing,
    /// By as much as less than one pixel of the other frame arrives (Wang et al., CVPR 2018).
    NoArrivals,
    /// Flow there and back ends elsewhere: `|there + back|^2 > 0.01 (|there|^2 + |back|^2) + 0.5` (Sundaram, Brox and Keutzer).
    NoReturn,
}

/// A run that stays on a device between its steps: the weights, the sum of the gradients of a step, and Adam's moments. One number
/// comes back for each step, the norm; all else where the host asks for it.
pub trait Resident {
    /// Takes a run to the device, in place of loaded weights: the moments and the weight decay of each parameter.
    ///
    /// # Errors
    /// If they are another network's.
    fn take(&mut self, weights: &Weights, moments: [&[Vec<f32>]; 2], decay: &[f32]) -> Result<(), DeviceError>;

    /// As [`Trainer::backward`], but the sum stays on the device.
    ///
    /// # Errors
    /// As there.
    fn backward(&mut self, gradients: &[Values]) -> Result<(), DeviceError>;

    /// From now on the batch is one part of a larger one, whose other parts its peers have. Says in a few words on which way
    /// [`sum`](Self::sum) goes. All ranks join together.
    ///
    /// # Errors
    /// If the device fails.
    fn join(&mut self, peers: &Arc<dyn Peers>) -> Result<String, DeviceError>;

    /// Adds to the sum those of the ranks that it has [joined](Self::join), which have made the same passes.
    ///
    /// # Errors
    /// If the device, or another rank's, fails.
    fn sum(&mut self) -> Result<(), DeviceError>;

    /// Euclidean norm of the sum; not finite if one of its values is not.
    ///
    /// # Errors
    /// If the device fails.
    fn norm(&self) -> Result<f64, DeviceError>;

    /// Moves the trained weights by the sum, and forgets it.
    ///
    /// # Errors
    /// If the device fails.
    fn step(&mut self, step: AdamStep) -> Result<(), DeviceError>;

    /// Forgets the sum.
    fn clear(&mut self);

    /// Copies the trained weights and their moments to the host; the run goes on on the device.
    ///
    /// # Errors
    /// If the device fails.
    fn give(&self, weights: &mut Weights, moments: [&mut [Vec<f32>]; 2]) -> Result<(), DeviceError>;
}

/// A network on a device, ready to be trained. Batch norm normalises with the statistics of the batch where its scale is
/// trained, and with its running statistics, which then stay as they are, where it is frozen.
pub trait Trainer: Send {
    /// Takes weights to the device, in the form that it computes with. The passes use them until others are loaded.
    ///
    /// # Errors
    /// If they are another network's.
    fn load(&mut self, weights: &Weights) -> Result<(), DeviceError>;

    /// Runs the network on `frames`, planar `[N, 3, H, W]`, RGB 0..=255. Returns the values of the outputs, in the order of
    /// [`TrainingOptions::outputs`], and keeps what [`backward`](Self::backward) needs.
    ///
    /// # Errors
    /// If no weights were loaded, or the frames have another size.
    fn forward(&mut self, frames: [&[f32]; 2]) -> Result<Vec<Values>, DeviceError>;

    /// Adds to `sum` the gradient, with respect to each trained parameter, of the loss whose gradients with respect to the
    /// outputs of the last forward pass are given.
    fn backward(&mut self, gradients: &[Values], sum: &mut Gradients) -> Result<(), DeviceError>;

    /// As [`backward`](Self::backward), and calls `done` with a parameter as soon as nothing more is added to its gradient, so that it
    /// can be sent somewhere meanwhile. It need not be called for all; the order is the same each time.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    fn backward_telling(
        &mut self,
        gradients: &[Values],
        sum: &mut Gradients,
        _done: &mut (dyn FnMut(&Gradients, ParamId) + Send),
    ) -> Result<(), DeviceError> {
        self.backward(gradients, sum)
    }

    /// The census loss of flows there and back, two outputs of the last forward pass, if the device computes it. `scale` times its gradient
    /// becomes part of what the next [`backward`](Self::backward) adds.
    ///
    /// # Errors
    /// If no forward pass was made, or the device fails.
    fn census(&mut self, _census: &Census<'_>, _flows: [usize; 2], _scale: f64) -> Result<Option<f64>, DeviceError> {
        Ok(None)
    }

    /// Moves the running statistics of batch norm towards those of the last forward pass:
    /// `(1 - momentum) * running + momentum * batch`, the variance unbiased (PyTorch; momentum 0.1).
    fn update_statistics(&self, momentum: f32, weights: &mut Weights);

    /// From now on the batch is one part of a larger one, whose other parts its peers have: whatever takes statistics of the batch
    /// takes them of the whole, forward and backward. All make the same passes in the same order. The gradients of parameters stay
    /// those of the part.
    ///
    /// # Errors
    /// If the device cannot do that.
    fn synchronise(&mut self, _peers: &Arc<dyn Peers>) -> Result<(), DeviceError> {
        Err(DeviceError::NoPeers)
    }

    /// The run on the device, where the device can optimise by itself; `None` where the host does.
    fn resident(&mut self) -> Option<&mut dyn Resident> {
        None
    }

    /// Bytes that the device holds for the network; `None` if it does not know.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn gradients_are_one_buffer_in_the_order_of_the_table() {
        let graph = Model::named("lightflow-0.5").unwrap().graph;
        let trained: Vec<bool> = (0..graph.params.len()).map(|i| i % 3 != 1).collect();
        let mut gradients = Gradients::zeros(&graph, &trained);
        for (i, gradient) in gradients.iter_mut().enumerate() {
            gradient.fill(i as f32);
        }
        let [first, third] = gradients.get_many_mut([ParamId(0), ParamId(2)]);
        assert_eq!((first.len(), third.len()), (graph.params[0].len(), graph.params[2].len()));
        let mut at = 0;
        for (i, param) in graph.params.iter().enumerate() {
            let gradient = gradients.get(ParamId(i as u32));
            assert_eq!(gradient.len(), if trained[i] { param.len() } else { 0 });
            assert!(gradient.iter().all(|&v| v == i as f32));
            assert_eq!(gradient, &gradients.values()[at..at + gradient.len()]);
            at += gradient.len();
        }
        assert_eq!((gradients.values().len(), gradients.iter().count()), (at, graph.params.len()));
        gradients.clear();
        assert!(gradients.values().iter().all(|&v| v == 0.0));
    }
}
