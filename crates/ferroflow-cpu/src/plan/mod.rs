//! The inference plan: a graph that is prepared once for weights, sizes and a machine, then run for any number of pairs.
//!
//! Planning folds batch norm and constant factors into convolutions, lets one kernel compute convolution, sum and
//! activation, and turns concatenation, stacking and slicing into lists of blocks. It fuses the preprocessing of the frames with
//! writing them to blocks, prepares the weights of each layer for its size, and lays out memory so that values share buffers.
//! After the first run, running allocates nothing.

mod compile;
mod concat;
mod convolution;
mod depthwise;
mod fields;
mod fixed;
mod fuse;
mod inference;
mod iterations;
mod memory;
mod options;
mod pixels;
mod profile;
mod reuse;
mod shapes;
mod step;
pub mod training;
mod value;

use std::time::Instant;

pub use ferroflow_kernels::pack::Pixels;
use ferroflow_kernels::{Buffer, Isa, Scratch, team};
use ferroflow_net::{
    Graph, NodeId,
    device::{DeviceError, Memory, Profile},
    graph::Sizes,
};

pub use self::options::{Options, PlanError};
use self::{
    compile::{Compiled, Compiler},
    fixed::FixedLayers,
    iterations::Iterations,
    reuse::Reuse,
    step::{Context, Step, planar},
    value::Value,
};

/// The error of frames or a result whose length does not fit the plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plan is for {what} of {expected} values and was given {got}: plan again for another size")]
pub struct RunError {
    /// Name of the argument.
    pub what: &'static str,
    /// Number of values expected.
    pub expected: usize,
    /// Number of values given.
    pub got: usize,
}

impl From<RunError> for DeviceError {
    fn from(RunError { what, expected, got }: RunError) -> Self {
        Self::Length { what, expected, got }
    }
}

/// A network ready to run on frames of one size.
pub struct Plan {
    steps: Vec<Step>,
    pool: Vec<Buffer>,
    scratch: Scratch,
    kept: Vec<(NodeId, Value)>,
    channels: Vec<usize>,
    weight_bytes: usize,
    sizes: Sizes,
    isa: Isa,
    seconds: Option<Vec<f64>>,
    runs: usize,
    /// Floats of the flow that a run may start from; 0 if the network starts from none.
    initial_len: usize,
    /// What the next run starts from.
    initial: Option<Vec<f32>>,
    /// What runs on the same frames have in common, where it is to be kept.
    reuse: Option<Reuse>,
    /// Of a recurrent network.
    iterations: Option<Iterations>,
}

impl Plan {
    /// Prepares `graph` for pairs of `sizes`. `weights` are in the order of `graph.params`, in PyTorch's layout; those
    /// of parameters that the graph does not use may be empty.
    pub fn new<W: AsRef<[f32]> + Sync>(
        graph: &Graph,
        weights: &[W],
        sizes: Sizes,
        options: &Options,
    ) -> Result<Self, PlanError> {
        let flow = graph.flow.ok_or(PlanError::NoFlow)?;
        let Compiled { mut steps, buffers, mut kept, layers } =
            Compiler::new(graph, FixedLayers::new(weights), sizes, options, &[flow])?.compile()?;
        let keeps = sizes.batch == 1 && !options.twins.is_empty();
        let mut reuse = keeps.then(|| Reuse::of(&mut steps, buffers.len(), &options.twins));
        let stays = |step: usize| reuse.as_ref().is_some_and(|reuse| reuse.keeps(step));
        let iterations = Iterations::of(&steps, [sizes.input.width, sizes.input.height], stays);
        let mut held: Vec<usize> = kept.iter().flat_map(|(_, v)| v.planes.iter().map(|p| p.buffer)).collect();
        held.extend(reuse.iter().flat_map(|reuse| reuse.held(&steps)));
        let (len, starts) = memory::lay_out(&mut steps, &buffers, &held);
        if let Some(reuse) = &mut reuse {
            reuse.moved(&starts);
        }
        for plane in kept.iter_mut().flat_map(|(_, v)| &mut v.planes) {
            *plane = plane.within(&starts);
        }
        let shapes = graph.shapes(&sizes)?;
        Ok(Self {
            seconds: options.profile.then(|| vec![0.0; steps.len()]),
            steps,
            pool: vec![Buffer::zeroed(len)],
            scratch: Scratch::new(),
            kept,
            channels: shapes.iter().map(|s| s[1]).collect(),
            weight_bytes: layers.bytes,
            sizes,
            isa: options.isa,
            runs: 0,
            initial_len: graph.initial.map_or(0, |id| shapes[id.0 as usize].iter().product()),
            initial: None,
            reuse,
            iterations,
        })
    }

    /// The sizes that the plan was made for.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Writes the flow from `first` to `second`, RGB 0..=255 of the planned size and batch, into `flow`, planar
    /// `[batch, 2, height, width]` of the output size: u, then v, in pixels of the output.
    pub fn run(&mut self, first: Pixels<'_>, second: Pixels<'_>, flow: &mut [f32]) -> Result<(), RunError> {
        let (input, output, batch) = (self.sizes.input, self.sizes.output, self.sizes.batch);
        let values = 3 * input.height * input.width;
        for (what, frame) in [("a first frame", first), ("a second frame", second)] {
            match frame {
                Pixels::Planar(all) => check(what, batch * values, all.len())?,
                Pixels::Rgb(images) => {
                    check(what, batch * values, images.len() * values)?;
                    images.iter().try_for_each(|image| check(what, values, image.len()))?;
                }
            }
        }
        check("a flow", batch * 2 * output.height * output.width, flow.len())?;
        let initial = self.initial.take();
        let (frames, initial) = ([first, second], initial.as_deref());
        let context = Context { isa: self.isa, batch, frames, initial, scratch: &self.scratch };
        if let Some(reuse) = &mut self.reuse {
            reuse.begin(frames, &mut self.pool);
        }
        let (steps, pool, seconds, reuse) = (&self.steps, &mut self.pool, &mut self.seconds, &self.reuse);
        let iterations = &mut self.iterations;
        team::together(|| {
            let mut i = 0;
            while let Some(step) = steps.get(i) {
                if reuse.as_ref().is_none_or(|reuse| reuse.needs(i)) {
                    let start = seconds.is_some().then(Instant::now);
                    step.run(pool, flow, &context);
                    if let (Some(seconds), Some(start)) = (seconds.as_mut(), start) {
                        seconds[i] += start.elapsed().as_secs_f64();
                    }
                }
                i = iterations.as_mut().map_or(i + 1, |iterations| iterations.next(i, steps, pool));
            }
        });
        if let Some(reuse) = &mut self.reuse {
            reuse.end(frames);
        }
        self.runs += 1;
        Ok(())
    }

    /// Forgets the frames of the last run, so that the next one computes everything.
    pub fn forget_frames(&mut self) {
        self.reuse.iter_mut().for_each(Reuse::forget);
    }

    /// Gives the flow from which the next run starts, planar `[batch, 2, h, w]` of the size of [`Graph::initial`], in its pixels.
    ///
    /// # Errors
    /// If the network starts from none, or it has another size.
    pub fn start_from(&mut self, flow: &[f32]) -> Result<(), RunError> {
        check("a flow to start from", self.initial_len, flow.len())?;
        self.initial = Some(flow.to_vec());
        Ok(())
    }

    /// From now on leaves out the iterations of a recurrent network that follow one whose update has a mean length below this, in
    /// pixels of the frames; in a batch that of every pair. The flow is to the last bit that of a network of so many iterations.
    ///
    /// # Errors
    /// If the network has no iterations.
    pub fn stop_below(&mut self, pixels: f32) -> Result<(), PlanError> {
        let Some(iterations) = &mut self.iterations else {
            return Err(PlanError::Unsupported { node: "flow".into(), reason: "it has no iterations to leave out" });
        };
        iterations.stop_below = Some(pixels);
        Ok(())
    }

    /// How many iterations the last run did; `None` for a network without.
    pub fn iterations(&self) -> Option<usize> {
        self.iterations.as_ref().map(|iterations| iterations.done)
    }

    /// The value of a node of [`Options::keep`] after the last run, planar `[N, C, H, W]`; `None` for other nodes and
    /// for the output.
    pub fn value(&self, node: NodeId) -> Option<Vec<f32>> {
        let (_, value) = self.kept.iter().find(|(id, _)| *id == node)?;
        Some(planar(value, self.channels[node.0 as usize], &self.pool))
    }

    /// Bytes that the plan holds.
    pub fn memory(&self) -> Memory {
        Memory {
            weights: self.weight_bytes,
            activations: self.pool.iter().map(|b| 4 * b.len()).sum(),
            scratch: self.scratch.bytes(),
        }
    }

    /// Forgets the times so far, for example those of the first runs, which also touch new memory.
    pub fn reset_profile(&mut self) {
        self.runs = 0;
        self.seconds.iter_mut().flatten().for_each(|s| *s = 0.0);
    }

    /// Mean times of all steps over the runs so far. Without [`Options::profile`] the seconds are 0.
    pub fn profile(&self) -> Profile {
        profile::profile(&self.steps, self.seconds.as_deref(), self.runs, self.memory())
    }
}

fn check(what: &'static str, expected: usize, got: usize) -> Result<(), RunError> {
    if expected == got { Ok(()) } else { Err(RunError { what, expected, got }) }
}
