//! Runs exported ONNX files in rten, a runtime in Rust.

use ferroflow_core::Size;
use ferroflow_infer::offline::{Layout, NetworkError, OfflineNetwork, Values};
use rten::NodeId;

/// Why a file cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The runtime cannot read or run the file.
    #[error("rten does not {what} the file: {source}")]
    Runtime {
        /// What it was asked to do.
        what: &'static str,
        /// Its error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file samples in a way that the runtime does not know.
    #[error("rten does not know how the file samples frames ({0}): export the network with --warp gather")]
    GridSample(Box<dyn std::error::Error + Send + Sync>),
    /// It is no network that makes flow of two frames.
    #[error(
        "the file takes {inputs} inputs and gives {outputs} outputs, where a flow network takes 2 frames and gives 1 flow"
    )]
    Interface {
        /// Number of inputs.
        inputs: usize,
        /// Number of outputs.
        outputs: usize,
    },
    /// A half of a network has an input that the other half does not make.
    #[error("the second file takes `{input}`, which the first does not give: export both at once")]
    Halves {
        /// Name of the input.
        input: String,
    },
    /// It takes normalised frames, which no layout of inputs holds.
    #[error(
        "the file takes frames as the first layer of {network} reads them, which no layout of inputs holds: export it with --inputs images"
    )]
    Inputs {
        /// Name of the network.
        network: String,
    },
    /// The flow has another size than the frames.
    #[error("the file gives {found} values, not {expected}")]
    Length {
        /// Number of values of a flow of the frames' size.
        expected: usize,
        /// Number of values that the file gave.
        found: usize,
    },
}

/// A file that makes flow of two frames: one that [`ferroflow_net::onnx::export`] wrote, or another of the same inputs and output.
pub struct OnnxNetwork {
    model: rten::Model,
    inputs: [NodeId; 2],
    flow: NodeId,
    takes: Values,
}

impl OnnxNetwork {
    /// Reads a file. Inputs called `frame1` and `frame2` take images, others what the network makes of them before its first layer.
    ///
    /// # Errors
    /// If the runtime does not know what the file holds, or it is no network of two frames.
    pub fn new(file: Vec<u8>) -> Result<Self, RunError> {
        let model = load(file)?;
        let (&[first, second], &[flow]) = (model.input_ids(), model.output_ids()) else {
            let (inputs, outputs) = (model.input_ids().len(), model.output_ids().len());
            return Err(RunError::Interface { inputs, outputs });
        };
        let is_image = model.node_info(first).and_then(|info| info.name()) == Some("frame1");
        // Whether the network takes a mean off by itself the file does not say.
        let takes =
            if is_image { Values::Images { is_centred: false } } else { Values::Normalised(normalised(&model)?) };
        Ok(Self { inputs: [first, second], flow, takes, model })
    }

    /// What it takes.
    pub fn takes(&self) -> Values {
        self.takes
    }

    /// The flows of a batch, `[N, 3, H, W]` each: `[N, 2, H, W]`.
    ///
    /// # Errors
    /// If the runtime fails, or the flow is not of the frames' size.
    pub fn run(&self, frames: [&[f32]; 2], batch: usize, size: Size) -> Result<Vec<f32>, RunError> {
        let shape = [batch, 3, size.height, size.width];
        let mut inputs = Vec::with_capacity(2);
        for (id, values) in self.inputs.into_iter().zip(frames) {
            inputs.push((id, rten::ValueView::from_shape(shape, values).map_err(runtime("run"))?.into()));
        }
        flow(&self.model, inputs, self.flow, 2 * batch * size.pixels())
    }
}

/// A network in two files: features of both frames, and flow from them.
pub struct OnnxHalves {
    features: rten::Model,
    flow: rten::Model,
    /// For each input of the second file which output of the first it is, and of which frame.
    taken: Vec<(NodeId, usize, usize)>,
}

impl OnnxHalves {
    /// Reads the files that [`ferroflow_net::onnx::export`] wrote as [`Part::Features`](ferroflow_net::onnx::Part::Features) and
    /// [`Part::Flow`](ferroflow_net::onnx::Part::Flow).
    ///
    /// # Errors
    /// If the runtime does not know what they hold, or they do not belong together.
    pub fn new(features: Vec<u8>, flow: Vec<u8>) -> Result<Self, RunError> {
        let (features, flow) = (load(features)?, load(flow)?);
        let outputs: Vec<Option<String>> =
            features.output_ids().iter().map(|&id| features.node_info(id)?.name().map(String::from)).collect();
        let mut taken = Vec::new();
        for &input in flow.input_ids() {
            let name = flow.node_info(input).and_then(|info| info.name().map(String::from)).unwrap_or_default();
            // features1_3 is the first frame's part of features_3.
            let output = ["features1", "features2"].iter().enumerate().find_map(|(frame, prefix)| {
                let whole = Some(format!("features{}", name.strip_prefix(prefix)?));
                Some((outputs.iter().position(|output| *output == whole)?, frame))
            });
            let Some((output, frame)) = output else { return Err(RunError::Halves { input: name }) };
            taken.push((input, output, frame));
        }
        let (inputs, outputs) = (features.input_ids().len(), flow.output_ids().len());
        if (inputs, outputs) != (1, 1) {
            return Err(RunError::Interface { inputs, outputs });
        }
        Ok(Self { features, flow, taken })
    }

    /// The flows of a batch, `[N, 3, H, W]` each: `[N, 2, H, W]`.
    ///
    /// # Errors
    /// If the runtime fails, or the flow is not of the frames' size.
    pub fn run(&self, frames: [&[f32]; 2], batch: usize, size: Size) -> Result<Vec<f32>, RunError> {
        let both = frames.concat();
        let shape = [2 * batch, 3, size.height, size.width];
        let stacked = rten::ValueView::from_shape(shape, &both).map_err(runtime("run"))?;
        let inputs = vec![(self.features.input_ids()[0], stacked.into())];
        let values = self.features.run(inputs, self.features.output_ids(), None).map_err(runtime("run"))?;
        let mut features = Vec::with_capacity(values.len());
        for value in values {
            features.push(value.into_shape_vec::<f32, 4>().map_err(runtime("run"))?);
        }
        let mut inputs = Vec::with_capacity(self.taken.len());
        for (input, output, frame) in &self.taken {
            let ([both, channels, height, width], values) = &features[*output];
            let half = &values[frame * values.len() / 2..(frame + 1) * values.len() / 2];
            let shape = [both / 2, *channels, *height, *width];
            inputs.push((*input, rten::ValueView::from_shape(shape, half).map_err(runtime("run"))?.into()));
        }
        flow(&self.flow, inputs, self.flow.output_ids()[0], 2 * batch * size.pixels())
    }
}

fn load(file: Vec<u8>) -> Result<rten::Model, RunError> {
    rten::Model::load(file).map_err(|error| match error.to_string().contains("GridSample") {
        true => RunError::GridSample(error.into()),
        false => runtime("load")(error),
    })
}

/// Runs a file for its flow.
fn flow(
    model: &rten::Model,
    inputs: Vec<(NodeId, rten::ValueOrView<'_>)>,
    flow: NodeId,
    expected: usize,
) -> Result<Vec<f32>, RunError> {
    let [flow] = model.run_n(inputs, [flow], None).map_err(runtime("run"))?;
    let (_, flow) = flow.into_shape_vec::<f32, 4>().map_err(runtime("run"))?;
    if flow.len() == expected { Ok(flow) } else { Err(RunError::Length { expected, found: flow.len() }) }
}

impl OfflineNetwork for OnnxNetwork {
    fn takes(&self) -> Values {
        self.takes
    }

    fn flows(&mut self, frames: [&[f32]; 2], batch: usize, size: Size) -> Result<Vec<f32>, NetworkError> {
        self.run(frames, batch, size).map_err(|error| NetworkError::Runtime(error.into()))
    }
}

/// The layout of inputs for a file that takes normalised frames; `None` for a file that does not name its network.
fn normalised(model: &rten::Model) -> Result<Option<Layout>, RunError> {
    let Some((_, network)) = model.metadata().fields().find(|(key, _)| *key == "network") else { return Ok(None) };
    match network {
        "pwcnet-sm" | "pwcnet-lg-6-2" | "pwcnet-dense" | "pwcnet-res" => Ok(Some(Layout::Pwcnet)),
        name if name.starts_with("flownet2") => Ok(Some(Layout::Flownet2)),
        name => Err(RunError::Inputs { network: name.into() }),
    }
}

fn runtime<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl Fn(E) -> RunError {
    move |source| RunError::Runtime { what, source: source.into() }
}
