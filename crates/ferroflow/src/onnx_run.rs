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
        let model = rten::Model::load(file).map_err(|error| match error.to_string().contains("GridSample") {
            true => RunError::GridSample(error.into()),
            false => runtime("load")(error),
        })?;
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
        let [flow] = self.model.run_n(inputs, [self.flow], None).map_err(runtime("run"))?;
        let (_, flow) = flow.into_shape_vec::<f32, 4>().map_err(runtime("run"))?;
        let expected = 2 * batch * size.pixels();
        if flow.len() == expected { Ok(flow) } else { Err(RunError::Length { expected, found: flow.len() }) }
    }
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
