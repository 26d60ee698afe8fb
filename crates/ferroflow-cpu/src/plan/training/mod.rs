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
mod parts;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use ferroflow_core::memory;
use ferroflow_kernels::pack::Pixels;
use ferroflow_kernels::{Buffer, Everyone, Isa, Scratch, team};
use ferroflow_net::device::{DeviceError, LayerProfile, Memory, Profile};
use ferroflow_net::graph::{MomentsOver, Op, Param, Shape, ShapeError};
use ferroflow_net::peers::Peers;
use ferroflow_net::training::{Gradients, Trainer, TrainingOptions, Values};
use ferroflow_net::{Graph, NodeId, ParamId, Weights};

use self::compile::TrainedLayers;
use self::gradients::ValueGradients;
use self::layer::Layer;
use self::parts::{Item, Parts};
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
/// parameter has a value, a gradient, an optimiser's two moments, an average and the forms that kernels read. With
/// [`TrainingOptions::recompute`] only those values count that are in memory at once.
///
/// # Errors
/// If the network does not take these sizes.
pub fn memory_estimate(graph: &Graph, options: &TrainingOptions) -> Result<usize, ShapeError> {
    let shapes = graph.shapes(&options.sizes)?;
    // Views take nothing, norms and activations are part of the layer before them, and frames are read as they come.
    let owns = |op: &Op| {
        !op.is_view()
            && !matches!(op, Op::LeakyRelu { .. } | Op::Smooth(_) | Op::Affine { .. } | Op::BatchNorm(_) | Op::Frame(_))
    };
    let floats = |node: usize| match (owns(&graph.nodes[node].op), shapes[node]) {
        (true, [n, c, h, w]) => n * c.next_multiple_of(16) * h * w,
        (false, _) => 0,
    };
    let values: usize = if options.recompute {
        // What a node's value lies in: its own memory, or that of what it is a view or a part of.
        let mut lies_in: Vec<Vec<usize>> = Vec::with_capacity(graph.nodes.len());
        let mut items: Vec<Item> = Vec::with_capacity(graph.nodes.len());
        for (index, node) in graph.nodes.iter().enumerate() {
            let read: Vec<usize> = node.inputs.iter().flat_map(|input| lies_in[input.0 as usize].clone()).collect();
            for &item in &read {
                if let Some((_, last)) = &mut items[item].touched {
                    *last = index;
                }
            }
            let kept = options.outputs.contains(&NodeId(index as u32));
            items.push(Item { len: floats(index), touched: (!kept).then_some((index, index)) });
            lies_in.push(if owns(&node.op) { vec![index] } else { read });
        }
        Parts::least(graph.nodes.len(), &items).floats()
    } else {
        (0..graph.nodes.len()).map(floats).sum()
    };
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
    recomputed: Option<Recomputed>,
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
        memory::check(memory_estimate(graph, &options)? as u64).map_err(DeviceError::Memory)?;
        let isa = settings.isa.unwrap_or_else(Isa::detect);
        let kept: Vec<NodeId> = options.outputs.iter().copied().filter(|id| Some(*id) != graph.flow).collect();
        let plan = Options { isa, exact: settings.exact, keep: kept, ..Options::default() };
        let layers = TrainedLayers::new(&options.trained);
        let compiler = Compiler::new(graph, layers, options.sizes, &plan, &options.outputs)?;
        let Compiled { mut steps, buffers, kept, layers } = compiler.compile()?;
        let TrainedLayers { mut layers, mut wanted, .. } = layers;
        wanted.resize(buffers.len(), false);
        let output = |id: &NodeId| {
            let value = kept.iter().find(|(kept, _)| kept == id).map(|(_, value)| Output::Value(value.clone()));
            value.or_else(|| steps.iter().position(|step| step.output.is_none()).map(Output::Flow))
        };
        let outputs = options.outputs.iter().filter_map(output).collect();
        let kept: Vec<usize> = kept.iter().flat_map(|(_, value)| &value.planes).map(|plane| plane.buffer).collect();
        let recomputed = options.recompute.then(|| Recomputed::new(&mut steps, &mut layers, &buffers, &kept));
        let pool: Vec<usize> = match &recomputed {
            Some(recomputed) => recomputed.lens_of_kept(&buffers),
            None => buffers.clone(),
        };
        Ok(Self {
            shapes: graph.shapes(&options.sizes)?,
            graph: graph.clone(),
            seconds: settings.profile.then(|| (vec![[0.0; 2]; steps.len()], 0)),
            gradients: ValueGradients::new(&buffers, wanted),
            pool: Buffer::zeroed_all(&pool),
            recomputed,
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
        let shared = self.recomputed.iter().flat_map(|recomputed| &recomputed.shared);
        let values: usize = self.pool.iter().chain(shared).map(|b| 4 * b.len()).sum();
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

    /// Runs `f(self, step)` for the steps of a part, in order or in reverse, and measures them as those of a pass.
    fn each(&mut self, steps: Range<usize>, reverse: bool, pass: usize, mut f: impl FnMut(&mut Self, &Step)) {
        let all = std::mem::take(&mut self.steps);
        for i in steps.clone() {
            let i = if reverse { steps.end - 1 - (i - steps.start) } else { i };
            let start = self.seconds.is_some().then(Instant::now);
            f(self, &all[i]);
            if let (Some((seconds, _)), Some(start)) = (&mut self.seconds, start) {
                seconds[i][pass] += start.elapsed().as_secs_f64();
            }
        }
        self.steps = all;
    }

    /// The parts of the forward pass.
    fn parts(&self) -> Vec<Range<usize>> {
        let whole = || std::iter::once(0..self.steps.len()).collect();
        self.recomputed.as_ref().map_or_else(whole, |recomputed| recomputed.parts.steps.clone())
    }

    /// Gives a part its inner values, and takes those of another. Whether it had them already.
    fn enter(&mut self, part: usize) -> bool {
        let Self { recomputed, pool, layers, .. } = self;
        recomputed.as_mut().is_none_or(|recomputed| recomputed.enter(part, pool, layers))
    }

    /// Computes the values of some steps; `pass` is the one that needs them.
    fn compute(&mut self, steps: Range<usize>, pass: usize, frames: [&[f32]; 2], flow: &mut [f32]) {
        let batch = self.options.sizes.batch;
        self.each(steps, false, pass, |plan, step| {
            let Self { pool, layers, scratch, isa, .. } = plan;
            let context = Context { isa: *isa, batch, frames: frames.map(Pixels::Planar), initial: None, scratch };
            match step.kernel {
                Kernel::Layer(i) => step.with_operands(pool, |inputs, out, _| {
                    layers[i].forward(*isa, inputs[0], out, scratch);
                }),
                // The flow went to the caller in the forward pass.
                _ if pass == 1 && step.output.is_none() => {}
                _ => step.run(pool, flow, &context),
            }
        });
    }
}

/// What is computed again in the backward pass.
struct Recomputed {
    parts: Parts,
    /// What each item is.
    places: Vec<Place>,
    /// The memory that the parts use in turn, and the part that has it.
    shared: Vec<Buffer>,
    holder: Option<usize>,
    /// The frames of the last forward pass.
    frames: [Vec<f32>; 2],
}

/// Where a value lies.
#[derive(Clone, Copy)]
enum Place {
    Pool(usize),
    /// One of the two that a layer keeps beside its output.
    Saved(usize, usize),
}

impl Recomputed {
    /// For steps whose buffers have these lengths; `kept` ones are read after the forward pass. Layers give up what they save.
    fn new(steps: &mut [Step], layers: &mut [Layer], lens: &[usize], kept: &[usize]) -> Self {
        let mut items: Vec<Item> = lens.iter().map(|&len| Item { len, touched: None }).collect();
        let mut places: Vec<Place> = (0..lens.len()).map(Place::Pool).collect();
        for (i, step) in steps.iter_mut().enumerate() {
            step.for_planes(|plane| {
                let touched = &mut items[plane.buffer].touched;
                *touched = Some((touched.map_or(i, |(first, _)| first), i));
            });
            let Kernel::Layer(layer) = step.kernel else { continue };
            for (which, saved) in layers[layer].saved_mut().into_iter().flatten().enumerate() {
                items.push(Item { len: saved.len(), touched: Some((i, i)) });
                places.push(Place::Saved(layer, which));
            }
        }
        kept.iter().for_each(|&buffer| items[buffer].touched = None);
        let parts = Parts::least(steps.len(), &items);
        for &item in parts.inner.iter().flatten() {
            if let Place::Saved(layer, which) = places[item]
                && let Some(saved) = layers[layer].saved_mut()
            {
                *saved.into_iter().nth(which).expect("there are two") = Buffer::default();
            }
        }
        let shared = Buffer::zeroed_all(&parts.shared);
        Self { parts, places, shared, holder: None, frames: [Vec::new(), Vec::new()] }
    }

    /// Lengths of the buffers that stay; 0 for the others.
    fn lens_of_kept(&self, lens: &[usize]) -> Vec<usize> {
        let mut lens = lens.to_vec();
        for &item in self.parts.inner.iter().flatten() {
            if let Place::Pool(buffer) = self.places[item] {
                lens[buffer] = 0;
            }
        }
        lens
    }

    fn enter(&mut self, part: usize, pool: &mut [Buffer], layers: &mut [Layer]) -> bool {
        if self.holder == Some(part) {
            return true;
        }
        if let Some(before) = self.holder.replace(part) {
            self.exchange(before, pool, layers);
        }
        self.exchange(part, pool, layers);
        false
    }

    /// Exchanges the inner values of a part for the shared memory.
    fn exchange(&mut self, part: usize, pool: &mut [Buffer], layers: &mut [Layer]) {
        for (&item, shared) in self.parts.inner[part].iter().zip(&mut self.shared) {
            match self.places[item] {
                Place::Pool(buffer) => std::mem::swap(&mut pool[buffer], shared),
                Place::Saved(layer, which) => {
                    if let Some(saved) = layers[layer].saved_mut() {
                        std::mem::swap(saved.into_iter().nth(which).expect("there are two"), shared);
                    }
                }
            }
        }
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
        if let Some(recomputed) = &mut self.recomputed {
            recomputed.frames = frames.map(<[f32]>::to_vec);
        }
        team::together(|| {
            for (part, steps) in self.parts().into_iter().enumerate() {
                self.enter(part);
                self.compute(steps, 0, frames, &mut flow);
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
        self.backward_telling(gradients, sum, &mut |_, _| {})
    }

    fn backward_telling(
        &mut self,
        gradients: &[Values],
        sum: &mut Gradients,
        done: &mut (dyn FnMut(&Gradients, ParamId) + Send),
    ) -> Result<(), DeviceError> {
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
        // Steps that a layer has yet to be differentiated for, and layers that have yet to add to a parameter's gradient.
        let mut steps = vec![0usize; self.layers.len()];
        let layers_of =
            self.steps.iter().filter_map(|step| if let Kernel::Layer(i) = step.kernel { Some(i) } else { None });
        layers_of.for_each(|layer| steps[layer] += 1);
        let mut layers = vec![0usize; self.graph.params.len()];
        self.layers.iter().flat_map(Layer::params).for_each(|id| layers[id.0 as usize] += 1);
        let mut after = |layer: &mut Layer, left: &mut usize, sum: &mut Gradients| {
            *left -= 1;
            if *left > 0 {
                return;
            }
            layer.finish(sum);
            for id in layer.params() {
                layers[id.0 as usize] -= 1;
                if layers[id.0 as usize] == 0 {
                    done(sum, id);
                }
            }
        };
        let frames =
            self.recomputed.as_mut().map(|recomputed| std::mem::take(&mut recomputed.frames)).unwrap_or_default();
        team::together(|| {
            for (part, range) in self.parts().into_iter().enumerate().rev() {
                if !self.enter(part) {
                    self.compute(range.clone(), 1, frames.each_ref().map(|frames| &frames[..]), &mut []);
                }
                self.each(range, true, 1, |plan, step| {
                    let Self { pool, layers, scratch, isa, gradients, .. } = plan;
                    backward::step(step, &mut backward::Pass { isa: *isa, pool, layers, gradients, sum, scratch });
                    if let Kernel::Layer(i) = step.kernel {
                        after(&mut layers[i], &mut steps[i], sum);
                    }
                });
                if self.recomputed.is_some() {
                    // Other parts have other lengths.
                    self.gradients.free_unused();
                }
            }
        });
        if let Some(recomputed) = &mut self.recomputed {
            recomputed.frames = frames;
        }
        Ok(())
    }

    fn update_statistics(&self, momentum: f32, weights: &mut Weights) {
        self.layers.iter().for_each(|layer| layer.update_statistics(momentum, weights));
    }

    fn synchronise(&mut self, peers: &Arc<dyn Peers>) -> Result<(), DeviceError> {
        let over_batch = |op: &Op| matches!(op, Op::Moments(MomentsOver::Batch));
        if let Some(node) = self.graph.nodes.iter().find(|node| over_batch(&node.op)) {
            let reason = "it standardises over the batch, which several ranks share: take moments of each pair".into();
            return Err(DeviceError::Unsupported { node: node.name.clone(), reason });
        }
        let peers = peers.clone();
        let everyone = Everyone::new(move |own| peers.gather(own));
        self.layers.iter_mut().for_each(|layer| layer.share(&everyone));
        Ok(())
    }
}

fn check(what: &'static str, expected: usize, got: usize) -> Result<(), DeviceError> {
    if expected == got { Ok(()) } else { Err(DeviceError::Length { what, expected, got }) }
}
