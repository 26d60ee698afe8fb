//! Burn's devices as devices of ours.

use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use ferroflow_net::{
    Graph, Weights,
    device::{Device, DeviceError, Executor, Frames},
    graph::Sizes,
    training::{Trainer, TrainingOptions},
};

use crate::{
    network::{Network, NetworkError},
    training::Training,
};

/// A device of Burn's, under the name that a user gives it.
#[derive(Clone, Debug)]
pub struct Burn {
    name: String,
    device: BurnDevice,
}

impl Burn {
    /// `name` is for messages: `vulkan:0`.
    pub fn new(name: impl Into<String>, device: BurnDevice) -> Self {
        Self { name: name.into(), device }
    }

    /// Burn's own backend for processors: what the others are compared with.
    pub fn flex() -> Self {
        Self::new("flex", BurnDevice::flex())
    }

    fn failed(&self, error: impl ToString) -> DeviceError {
        DeviceError::Failed { device: self.name.clone(), reason: error.to_string() }
    }

    fn refused(&self, error: NetworkError) -> DeviceError {
        match error {
            NetworkError::Weights(error) => error.into(),
            NetworkError::Shape(error) => error.into(),
            NetworkError::NoFlow => DeviceError::NoFlow,
            error => self.failed(error),
        }
    }
}

impl Device for Burn {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn executor(&self, graph: &Graph, weights: &Weights, sizes: Sizes) -> Result<Box<dyn Executor>, DeviceError> {
        // What does not fit is said now, not at the first frame.
        graph.shapes(&sizes)?;
        if graph.flow.is_none() {
            return Err(DeviceError::NoFlow);
        }
        let network = Network::new(graph, weights, &self.device).map_err(|error| self.refused(error))?;
        Ok(Box::new(OnBurn { network, sizes, burn: self.clone() }))
    }

    fn trainer(&self, graph: &Graph, options: TrainingOptions) -> Result<Box<dyn Trainer>, DeviceError> {
        Ok(Box::new(Training::new(graph, options, self.device.clone())?))
    }

    fn threads(&self) -> usize {
        // The host's work is done by whoever calls.
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

struct OnBurn {
    network: Network,
    sizes: Sizes,
    burn: Burn,
}

impl Executor for OnBurn {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn run(&mut self, first: Frames<'_>, second: Frames<'_>, flow: &mut [f32]) -> Result<(), DeviceError> {
        let Sizes { batch, input, output } = self.sizes;
        let expected = 2 * batch * output.height * output.width;
        if flow.len() != expected {
            return Err(DeviceError::Length { what: "a flow", expected, got: flow.len() });
        }
        let upload = |frames: Frames<'_>| -> Result<Tensor<4>, DeviceError> {
            let planes = frames.planar(&self.sizes)?.into_owned();
            let data = TensorData::new(planes, [batch, 3, input.height, input.width]);
            Ok(Tensor::from_data(data, &self.burn.device))
        };
        let frames = [upload(first)?, upload(second)?];
        let found = self.network.forward_to(frames, output).map_err(|error| self.burn.refused(error))?;
        let values = found.try_into_vec_as::<f32>().map_err(|error| self.burn.failed(error))?;
        flow.copy_from_slice(&values);
        Ok(())
    }
}
