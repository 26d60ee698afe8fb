//! The training plan runs the graph forward, keeping what its gradient needs, and then in reverse, with the kernels and in their
//! layout.
//!
//! It is compiled as the inference plan is (frames in one pass, concatenations as lists of blocks, activations within the
//! kernels), but nothing is folded into weights that change, and every value stays until its gradient has been computed.
//! Gradients of values have buffers of their own, which are allocated when the first reader adds to them and freed when the step
//! that computed the value has been differentiated. All sums have a fixed order, so a run does not depend on the number of threads.

mod backward;
mod compile;
mod gradients;
mod layer;

use std::time::Instant;

use ferroflow_core::memory;
use ferroflow_kernels::pack::Pixels;
use ferroflow_kernels::{Buffer, Isa, Scratch, team};
use ferroflow_net::device::{DeviceError, LayerProfile, Memory, Profile};
use ferroflow_net::graph::{Op, Param, Shape, ShapeError, Sizes};
use ferroflow_net::training::{Gradients, Trainer, TrainingOptions, Values};
use ferroflow_net::{Graph, NodeId, Weights};

use self::compile::TrainedLayers;
use self::gradients::ValueGradients;
use self::layer::Layer;
use super::compile::{Compiled, Compiler};
use super::options::{Options, PlanError};
use super::profile;
use super::step::{Context, Kernel, Step, planar};
use super::value::Value;

/// How to prepare a network for training.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Instruction set of the kernels; `None` takes the best that the processor has.
    pub isa: Option<Isa>,
    /// Use no Winograd convolution: slower, and the last digits differ.
    pub exact: bool,
    /// Measures every step ([`TrainingPlan::profile`]).
    pub profile: bool,
}

/// About how many bytes of memory a step of training needs, known before anything is prepared. Every value that a layer computes
/// is kept for its gradient, in blocks of 16 channels; gradients and what layers save beside their values need as much again. A
/// parameter has a value, a gradient, an optimiser's two moments, an average and the forms that kernels read.
///
/// # Errors
/// If the network does not take these sizes.
pub fn memory_estimate(graph: &Graph, sizes: &Sizes) -> Result<usize, ShapeError> {
    let shapes = graph.shapes(sizes)?;
    // Views take nothing, norms and activations are part of the layer before them, and frames are read as they come.
    let made = graph.nodes.iter().zip(&shapes).filter(|(node, _)| {
        !node.op.is_view()
            && !matches!(
                node.op,
                Op::LeakyRelu { .. } | Op::Smooth(_) | Op::Affine { .. } | Op::BatchNorm(_) | Op::Frame(_)
            )
    });
    let values: usize = made.map(|(_, &[n, c, h, w])| n * c.next_multiple_of(16) * h * w).sum();
    let parameters: usize = graph.params.iter().map(Param::len).sum();
    Ok(4 * (2 * values + 8 * parameters))
}

/// What a loss reads.
enum Output {
    Value(Value),
    /// The flow, by the step that writes it.
    Flow(usize),
}

/// A network ready to be trained on the CPU, on batches of one size.
pub struct TrainingPlan {
    graph: Graph,
    options: TrainingOptions,
    shapes: Vec<Shape>,
    steps: Vec<Step>,
    layers: Vec<Layer>,
    outputs: Vec<Output>,
    pool: Vec<Buffer>,
    gradients: ValueGradients,
    scratch: Scratch,
    isa: Isa,
    /// Seconds forward and backward of every step, and runs.
    seconds: Option<(Vec<[f64; 2]>, usize)>,
    loaded: bool,
    ran: bool,
}

impl From<PlanError> for DeviceError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Shape(error) => Self::Shape(error),
            PlanError::Unsupported { node, reason } => Self::Unsupported { node, reason: reason.into() },
            PlanError::NoFlow => Self::NoFlow,
            other => Self::Failed { device: "the CPU".into(), reason: other.to_string() },
        }
    }
}

impl TrainingPlan {
    /// Prepares a graph for batches of one size.
    pub fn new(graph: &Graph, options: TrainingOptions, settings: Settings) -> Result<Self, DeviceError> {
        // Before anything is allocated: layers take what they save when they are compiled.
        memory::check(memory_estimate(graph, &options.sizes)? as u64).map_err(DeviceError::Memory)?;
        let isa = settings.isa.unwrap_or_else(Isa::detect);
        let kept: Vec<NodeId> = options.outputs.iter().copied().filter(|id| Some(*id) != graph.flow).collect();
        let plan = Options { isa, exact: settings.exact, keep: kept, ..Options::default() };
        let layers = TrainedLayers::new(&options.trained);
        let compiler = Compiler::new(graph, layers, options.sizes, &plan, &options.outputs)?;
        let Compiled { steps, buffers, kept, layers } = compiler.compile()?;
        let TrainedLayers { layers, mut wanted, .. } = layers;
        wanted.resize(buffers.len(), false);
        let output = |id: &NodeId| {
            let value = kept.iter().find(|(kept, _)| kept == id).map(|(_, value)| Output::Value(value.clone()));
            value.or_else(|| steps.iter().position(|step| step.output.is_none()).map(Output::Flow))
        };
        let outputs = options.outputs.iter().filter_map(output).collect();
        Ok(Self {
            shapes: graph.shapes(&options.sizes)?,
            graph: graph.clone(),
            seconds: settings.profile.then(|| (vec![[0.0; 2]; steps.len()], 0)),
            gradients: ValueGradients::new(&buffers, wanted),
            pool: Buffer::zeroed_all(&buffers),
            options,
            steps,
            layers,
            outputs,
            scratch: Scratch::new(),
            isa,
            loaded: false,
            ran: false,
        })
    }

    /// Bytes that the plan holds.
    pub fn memory(&self) -> Memory {
        let values: usize = self.pool.iter().map(|b| 4 * b.len()).sum();
        Memory {
            weights: self.layers.iter().map(Layer::weight_bytes).sum(),
            activations: values + self.gradients.bytes() + self.layers.iter().map(Layer::saved_bytes).sum::<usize>(),
            scratch: self.scratch.bytes(),
        }
    }

    /// Mean times of all steps over the training steps so far, forward and then backward; without [`Settings::profile`] they are 0.
    pub fn profile(&self) -> [Profile; 2] {
        let runs = self.seconds.as_ref().map_or(0, |(_, runs)| *runs);
        [0, 1].map(|pass| {
            let seconds: Option<Vec<f64>> = self.seconds.as_ref().map(|(s, _)| s.iter().map(|s| s[pass]).collect());
            let mut profile = profile::profile(&self.steps, seconds.as_deref(), runs, self.memory());
            for (layer, step) in profile.layers.iter_mut().zip(&self.steps) {
                self.describe(layer, step, pass);
            }
            if pass == 1 {
                profile.gflop *= 2.0;
            }
            profile
        })
    }

    fn describe(&self, profile: &mut LayerProfile, step: &Step, pass: usize) {
        if let Kernel::Layer(i) = step.kernel {
            profile.algorithm = self.layers[i].algorithm(pass);
        }
        if pass == 1 {
            // Both gradients of a layer cost as much as the layer.
            profile.gflop_per_s *= 2.0;
        }
    }

    /// Forgets the times so far.
    pub fn reset_profile(&mut self) {
        if let Some((seconds, runs)) = &mut self.seconds {
            seconds.fill([0.0; 2]);
            *runs = 0;
        }
    }

    /// Runs `f(self, step)` for each step, in order or in reverse, and measures it.
    fn each(&mut self, pass: usize, mut f: impl FnMut(&mut Self, &Step)) {
        let steps = std::mem::take(&mut self.steps);
        team::together(|| {
            for i in 0..steps.len() {
                let i = if pass == 0 { i } else { steps.len() - 1 - i };
                let start = self.seconds.is_some().then(Instant::now);
                f(self, &steps[i]);
                if let (Some((seconds, _)), Some(start)) = (&mut self.seconds, start) {
                    seconds[i][pass] += start.elapsed().as_secs_f64();
                }
            }
        });
        self.steps = steps;
    }
}

impl Trainer for TrainingPlan {
    fn load(&mut self, weights: &Weights) -> Result<(), DeviceError> {
        weights.check(&self.graph)?;
        team::together(|| self.layers.iter_mut().for_each(|layer| layer.load(weights)));
        self.loaded = true;
        Ok(())
    }

    fn forward(&mut self, frames: [&[f32]; 2]) -> Result<Vec<Values>, DeviceError> {
        if !self.loaded {
            return Err(DeviceError::Order("load weights before the first forward pass"));
        }
        let sizes = self.options.sizes;
        let expected = sizes.batch * 3 * sizes.input.height * sizes.input.width;
        for frame in frames {
            check("a batch of frames", expected, frame.len())?;
        }
        let mut flow = Vec::new();
        if self.outputs.iter().any(|output| matches!(output, Output::Flow(_))) {
            flow = vec![0.0; sizes.batch * 2 * sizes.output.height * sizes.output.width];
        }
        self.each(0, |plan, step| {
            let Self { pool, layers, scratch, isa, .. } = plan;
            let frames = frames.map(Pixels::Planar);
            let context = Context { isa: *isa, batch: sizes.batch, frames, initial: None, scratch };
            match step.kernel {
                Kernel::Layer(i) => step.with_operands(pool, |inputs, out, _, _| {
                    layers[i].forward(*isa, inputs[0], out, scratch);
                }),
                _ => step.run(pool, &mut flow, &context),
            }
        });
        if let Some((_, runs)) = &mut self.seconds {
            *runs += 1;
        }
        self.ran = true;
        let values = |(output, id): (&Output, &NodeId)| {
            let shape = self.shapes[id.0 as usize];
            let data = match output {
                Output::Value(value) => planar(value, shape[1], &self.pool),
                Output::Flow(_) => flow.clone(),
            };
            Values { shape, data }
        };
        Ok(self.outputs.iter().zip(&self.options.outputs).map(values).collect())
    }

    fn backward(&mut self, gradients: &[Values], sum: &mut Gradients) -> Result<(), DeviceError> {
        if !self.ran {
            return Err(DeviceError::Order("run the network forward before its gradient"));
        }
        check("the gradients of the outputs", self.outputs.len(), gradients.len())?;
        for (id, d) in self.options.outputs.iter().zip(gradients) {
            check("the gradient of an output", self.shapes[id.0 as usize].iter().product(), d.data.len())?;
        }
        for (output, d) in self.outputs.iter().zip(gradients) {
            match output {
                Output::Value(value) => self.gradients.add_planar(value, d.shape[1], &d.data),
                Output::Flow(step) => {
                    backward::flow(&self.steps[*step], &d.data, &mut self.gradients, &self.scratch);
                }
            }
        }
        self.each(1, |plan, step| {
            let Self { pool, layers, scratch, isa, gradients, .. } = plan;
            backward::step(step, &mut backward::Pass { isa: *isa, pool, layers, gradients, sum, scratch });
        });
        team::together(|| self.layers.iter_mut().for_each(|layer| layer.finish(sum)));
        Ok(())
    }

    fn update_statistics(&self, momentum: f32, weights: &mut Weights) {
        self.layers.iter().for_each(|layer| layer.update_statistics(momentum, weights));
    }
}

fn check(what: &'static str, expected: usize, got: usize) -> Result<(), DeviceError> {
    if expected == got { Ok(()) } else { Err(DeviceError::Length { what, expected, got }) }
}
