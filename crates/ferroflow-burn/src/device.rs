//! Burn's devices as devices of ours.

use std::panic::AssertUnwindSafe;

use burn::tensor::{Device as BurnDevice, FloatDType, Tensor, TensorData};
use ferroflow_net::{
    Graph, Weights,
    device::{Device, DeviceError, Executor, Frames},
    graph::{Shape, Sizes},
    training::{Trainer, TrainingOptions},
};

use crate::{
    network::{Network, NetworkError},
    training::Training,
};

/// Precision of the numbers that convolutions multiply. Weights, the values between layers and all else are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 24 significant bits; 11 on the tensor cores of CUDA, which CubeCL uses for it (TF32).
    #[default]
    F32,
    /// 8 significant bits.
    Bf16,
    /// 11 significant bits, up to 65504: gradients need a loss scale.
    F16,
}

impl Precision {
    /// The type that convolutions compute in, if it is another than that of the values.
    pub(crate) fn dtype(self) -> Option<FloatDType> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(FloatDType::BF16),
            Self::F16 => Some(FloatDType::F16),
        }
    }
}

/// A device of Burn's, under the name that a user gives it.
#[derive(Clone, Debug)]
pub struct Burn {
    name: String,
    device: BurnDevice,
    precision: Precision,
}

impl Burn {
    /// `name` is for messages: `vulkan:0`.
    pub fn new(name: impl Into<String>, device: BurnDevice) -> Self {
        Self { name: name.into(), device, precision: Precision::F32 }
    }

    /// Burn's name for it.
    pub fn device(&self) -> &BurnDevice {
        &self.device
    }

    /// With convolutions in this precision.
    ///
    /// # Errors
    /// If the device does not compute in it.
    pub fn with_precision(self, precision: Precision) -> Result<Self, DeviceError> {
        match precision.dtype() {
            Some(dtype) if !self.device.supports_dtype(dtype) => {
                Err(self.failed(format!("it does not compute in {precision:?}: leave out --precision").to_lowercase()))
            }
            _ => Ok(Self { precision, ..self }),
        }
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

    fn remarks(&self) -> String {
        match self.precision {
            Precision::F32 => String::new(),
            precision => format!("convolutions in {precision:?}").to_lowercase(),
        }
    }

    fn executor(&self, graph: &Graph, weights: &Weights, sizes: Sizes) -> Result<Box<dyn Executor>, DeviceError> {
        // What does not fit is said now, not at the first frame.
        let shapes = graph.shapes(&sizes)?;
        if graph.flow.is_none() {
            return Err(DeviceError::NoFlow);
        }
        let network = caught(|| Network::new(graph, weights, &self.device)).map_err(|panic| self.failed(panic))?;
        let network = network.map_err(|error| self.refused(error))?;
        let network = network.with_precision(self.precision);
        let start_shape = graph.initial.map(|id| shapes[id.0 as usize]);
        Ok(Box::new(OnBurn { network, sizes, start_shape, start: None, burn: self.clone() }))
    }

    fn trainer(&self, graph: &Graph, options: TrainingOptions) -> Result<Box<dyn Trainer>, DeviceError> {
        Ok(Box::new(Training::new(graph, options, self.device.clone())?.with_precision(self.precision)))
    }

    fn memory_held(&self) -> Option<u64> {
        self.device.memory_pool_usage().map(|usage| usage.bytes_reserved)
    }

    fn threads(&self) -> usize {
        // The host's work is done by whoever calls.
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

struct OnBurn {
    network: Network,
    sizes: Sizes,
    /// Of the flow that a run may start from.
    start_shape: Option<Shape>,
    /// What the next run starts from.
    start: Option<Vec<f32>>,
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
        let start = self.start.take().zip(self.start_shape);
        let run = || -> Result<Vec<f32>, DeviceError> {
            let frames = [upload(first)?, upload(second)?];
            let found = match start {
                Some((flow, shape)) => {
                    let flow = Tensor::from_data(TensorData::new(flow, shape), &self.burn.device);
                    self.network.forward_from(frames, output, flow)
                }
                None => self.network.forward_to(frames, output),
            };
            let found = found.map_err(|error| self.burn.refused(error))?;
            found.try_into_vec_as::<f32>().map_err(|error| self.burn.failed(error))
        };
        let values = caught(run).map_err(|panic| self.burn.failed(panic))??;
        flow.copy_from_slice(&values);
        Ok(())
    }

    fn start_from(&mut self, flow: &[f32]) -> Result<(), DeviceError> {
        let expected = self.start_shape.map_or(0, |shape| shape.iter().product());
        if self.start_shape.is_none() || flow.len() != expected {
            return Err(DeviceError::Length { what: "a flow to start from", expected, got: flow.len() });
        }
        self.start = Some(flow.to_vec());
        Ok(())
    }
}

/// What `work` returns, or the message of its panic: Burn panics where a device fails.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
            .unwrap_or_else(|| "it panicked".into())
    })
}
