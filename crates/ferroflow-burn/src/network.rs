//! A network on a device, to estimate flow.

use burn::tensor::{Device, Tensor};
use ferroflow_net::graph::{Graph, NodeId, ShapeError, Size, Sizes};
use ferroflow_net::weights::{Weights, WeightsError};

use crate::device::Precision;
use crate::interpret::{Interpreter, Normalisation, Parameters};

/// A network that cannot be built, or frames that it cannot take.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Another network's weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Frames of a size that the network does not take.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A node that the graph does not have.
    #[error("the graph has {nodes} nodes; there is no node {0}", nodes = .1)]
    NoNode(u32, usize),
    /// The graph ends in no flow.
    #[error("the graph has no flow output; name the nodes to read and call `values`")]
    NoFlow,
    /// Not two frames of one size.
    #[error("the frames are {0:?} and {1:?}; both must be [N, 3, H, W] of one size")]
    Frames([usize; 4], [usize; 4]),
    /// Frames elsewhere or of another type than the weights.
    #[error("a frame is {frame}, the network {network}: move the frame with `to_device` and `cast`")]
    Placement {
        /// Device and type of the frame.
        frame: String,
        /// Device and type of the weights.
        network: String,
    },
}

/// A network and its weights on a device. Batch norm normalises by its running statistics.
pub struct Network {
    graph: Graph,
    device: Device,
    parameters: Parameters,
    precision: Precision,
}

impl Network {
    /// Copies the weights to the device, in its default type of number.
    pub fn new(graph: &Graph, weights: &Weights, device: &Device) -> Result<Self, NetworkError> {
        weights.check(graph)?;
        let (graph, parameters) = (graph.clone(), Parameters::upload(weights, device));
        Ok(Self { graph, device: device.clone(), parameters, precision: Precision::F32 })
    }

    /// With convolutions in this precision, which the device must have.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Flow of the frames' own size: two `[N, 3, H, W]`, RGB 0..=255 -> `[N, 2, H, W]`, u then v, pixels.
    pub fn forward(&self, frames: [Tensor<4>; 2]) -> Result<Tensor<4>, NetworkError> {
        let [_, _, height, width] = frames[0].dims();
        self.forward_to(frames, Size { height, width })
    }

    /// Flow of another size, in pixels of that size: two `[N, 3, H, W]` -> `[N, 2, output.height, output.width]`.
    pub fn forward_to(&self, frames: [Tensor<4>; 2], output: Size) -> Result<Tensor<4>, NetworkError> {
        let flow = self.graph.flow.ok_or(NetworkError::NoFlow)?;
        let mut values = self.values(frames, output, &[flow])?;
        values.pop().ok_or(NetworkError::NoFlow)
    }

    /// As [`Self::forward_to`], from a flow in place of zeros, `[N, 2, h, w]`, in pixels of that size, which is that of
    /// [`Graph::initial`]. A network that starts from none takes no notice of it.
    pub fn forward_from(
        &self,
        frames: [Tensor<4>; 2],
        output: Size,
        start: Tensor<4>,
    ) -> Result<Tensor<4>, NetworkError> {
        let flow = self.graph.flow.ok_or(NetworkError::NoFlow)?;
        let mut values = self.values_from(frames, output, Some(start), &[flow])?;
        values.pop().ok_or(NetworkError::NoFlow)
    }

    /// The values of any nodes, in their order. On an autodiff device they are differentiable with respect to the frames.
    pub fn values(
        &self,
        frames: [Tensor<4>; 2],
        output: Size,
        nodes: &[NodeId],
    ) -> Result<Vec<Tensor<4>>, NetworkError> {
        self.values_from(frames, output, None, nodes)
    }

    fn values_from(
        &self,
        frames: [Tensor<4>; 2],
        output: Size,
        start: Option<Tensor<4>>,
        nodes: &[NodeId],
    ) -> Result<Vec<Tensor<4>>, NetworkError> {
        let (first, second) = (frames[0].dims(), frames[1].dims());
        let [batch, channels, height, width] = first;
        if first != second || channels != 3 {
            return Err(NetworkError::Frames(first, second));
        }
        if let Some(id) = nodes.iter().find(|id| id.0 as usize >= self.graph.nodes.len()) {
            return Err(NetworkError::NoNode(id.0, self.graph.nodes.len()));
        }
        let sizes = Sizes { batch, input: Size { height, width }, output };
        let shapes = self.graph.shapes(&sizes)?;
        for frame in &frames {
            self.check_placement(frame)?;
        }
        let interpreter = Interpreter {
            graph: &self.graph,
            sizes: &sizes,
            shapes: &shapes,
            parameters: &self.parameters,
            frames: &frames,
            start,
            normalisation: Normalisation::Running,
            precision: self.precision,
        };
        Ok(interpreter.run(nodes).0)
    }

    fn check_placement(&self, frame: &Tensor<4>) -> Result<(), NetworkError> {
        let Some(parameter) = self.parameters.iter().next() else { return Ok(()) };
        if frame.device() == self.device && frame.dtype() == parameter.dtype() {
            return Ok(());
        }
        Err(NetworkError::Placement {
            frame: format!("{:?} on {:?}", frame.dtype(), frame.device()),
            network: format!("{:?} on {:?}", parameter.dtype(), self.device),
        })
    }
}
