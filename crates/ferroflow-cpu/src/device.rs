//! The CPU as a device.

use std::{fmt, sync::Arc};

use ferroflow_kernels::{Bf16, Isa};
use ferroflow_net::{
    Graph, ParamId, Weights,
    device::{Device, DeviceError, Executor, Frames, Memory, Profile},
    graph::{ByFrame, Sizes},
    peers::Peers,
    training::{Gradients, Trainer, TrainingOptions, Values},
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{
    plan::{self, Plan},
    training::{Settings, TrainingPlan, memory_estimate},
};

/// The share of a network's operations that a frame alone must decide for them to be kept from pair to pair. Below it a batch, whose
/// layers read their weights once, gains as much.
const KEPT_SHARE: f64 = 0.05;

/// How the CPU computes, and with how many threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuOptions {
    /// Use no Winograd convolution: slower, and the last digits differ.
    pub exact: bool,
    /// Convolve in bf16 with sums in f32 where that is expected to be faster; `None` computes everything in f32. Training is always
    /// in f32.
    pub bf16: Option<Bf16>,
    /// Measure the time of every layer.
    pub profile: bool,
    /// Number of threads; `None` uses the caller's rayon pool, which by default has one thread for each processor.
    pub threads: Option<usize>,
}

/// The CPU of this machine, with threads of its own if a number was given.
#[derive(Clone, Default)]
pub struct Cpu {
    options: CpuOptions,
    pool: Option<Arc<ThreadPool>>,
}

impl Cpu {
    /// A CPU with these options.
    ///
    /// # Errors
    /// If the system cannot start so many threads.
    pub fn new(options: CpuOptions) -> Result<Self, DeviceError> {
        let start = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            pool.map(Arc::new).map_err(|error| DeviceError::Failed {
                device: "the CPU".into(),
                reason: format!("cannot start {threads} threads: {error}"),
            })
        };
        Ok(Self { options, pool: options.threads.map(start).transpose()? })
    }

    fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cpu").field(&self.options).finish()
    }
}

impl Device for Cpu {
    fn name(&self) -> String {
        "cpu".into()
    }

    fn remarks(&self) -> String {
        self.options.bf16.map_or(String::new(), |bf16| format!("in bf16 ({})", bf16.name()))
    }

    fn executor(&self, graph: &Graph, weights: &Weights, sizes: Sizes) -> Result<Box<dyn Executor>, DeviceError> {
        let CpuOptions { exact, bf16, profile, .. } = self.options;
        let mut options = plan::Options { exact, bf16, profile, ..plan::Options::default() };
        let weights: Vec<&[f32]> = weights.iter().collect();
        let by_frame = (sizes.batch == 1).then(|| features(graph)).flatten();
        let graph = match by_frame {
            Some(ByFrame { ref graph, ref twins, .. }) => {
                options.twins.clone_from(twins);
                graph
            }
            None => graph,
        };
        let plan = self.install(|| Plan::new(graph, &weights, sizes, &options))?;
        Ok(Box::new(OnCpu { plan, profiled: profile, cpu: self.clone() }))
    }

    fn keeps_features(&self, graph: &Graph) -> bool {
        features(graph).is_some()
    }

    fn trainer(&self, graph: &Graph, options: TrainingOptions) -> Result<Box<dyn Trainer>, DeviceError> {
        let CpuOptions { exact, profile, .. } = self.options;
        let settings = Settings { isa: Some(Isa::detect()), exact, profile };
        let plan = self.install(|| TrainingPlan::new(graph, options, settings))?;
        Ok(Box::new(TrainedOnCpu { plan, profiled: profile, cpu: self.clone() }))
    }

    fn training_memory(&self, graph: &Graph, options: &TrainingOptions) -> Result<Option<u64>, DeviceError> {
        Ok(Some(memory_estimate(graph, options)? as u64))
    }

    fn threads(&self) -> usize {
        self.pool.as_ref().map_or_else(rayon::current_num_threads, |pool| pool.current_num_threads())
    }

    fn host(&self, work: &mut (dyn FnMut() + Send)) {
        self.install(work);
    }
}

/// The network frame by frame, if it pays to keep what a frame alone decides.
fn features(graph: &Graph) -> Option<ByFrame> {
    // The share hardly depends on the size; this one suits every network.
    let usual = Sizes::new(1, 512, 1024);
    Some(ByFrame::of(graph)).filter(|by_frame| by_frame.share(&usual).is_ok_and(|share| share >= KEPT_SHARE))
}

struct OnCpu {
    plan: Plan,
    profiled: bool,
    cpu: Cpu,
}

impl Executor for OnCpu {
    fn sizes(&self) -> Sizes {
        self.plan.sizes()
    }

    fn run(&mut self, first: Frames<'_>, second: Frames<'_>, flow: &mut [f32]) -> Result<(), DeviceError> {
        let pixels = |frames| match frames {
            Frames::Planar(values) => plan::Pixels::Planar(values),
            Frames::Rgb(images) => plan::Pixels::Rgb(images),
        };
        let plan = &mut self.plan;
        Ok(self.cpu.install(|| plan.run(pixels(first), pixels(second), flow))?)
    }

    fn start_from(&mut self, flow: &[f32]) -> Result<(), DeviceError> {
        Ok(self.plan.start_from(flow)?)
    }

    fn stop_below(&mut self, pixels: f32) -> Result<(), DeviceError> {
        Ok(self.plan.stop_below(pixels)?)
    }

    fn iterations(&self) -> Option<usize> {
        self.plan.iterations()
    }

    fn forget_frames(&mut self) {
        self.plan.forget_frames();
    }

    fn profile(&self) -> Option<Profile> {
        self.profiled.then(|| self.plan.profile())
    }

    fn reset_profile(&mut self) {
        self.plan.reset_profile();
    }
}

struct TrainedOnCpu {
    plan: TrainingPlan,
    profiled: bool,
    cpu: Cpu,
}

impl Trainer for TrainedOnCpu {
    fn load(&mut self, weights: &Weights) -> Result<(), DeviceError> {
        let plan = &mut self.plan;
        self.cpu.install(|| plan.load(weights))
    }

    fn forward(&mut self, frames: [&[f32]; 2]) -> Result<Vec<Values>, DeviceError> {
        let plan = &mut self.plan;
        self.cpu.install(|| plan.forward(frames))
    }

    fn backward(&mut self, gradients: &[Values], sum: &mut Gradients) -> Result<(), DeviceError> {
        let plan = &mut self.plan;
        self.cpu.install(|| plan.backward(gradients, sum))
    }

    fn backward_telling(
        &mut self,
        gradients: &[Values],
        sum: &mut Gradients,
        done: &mut (dyn FnMut(&Gradients, ParamId) + Send),
    ) -> Result<(), DeviceError> {
        let plan = &mut self.plan;
        self.cpu.install(|| plan.backward_telling(gradients, sum, done))
    }

    fn update_statistics(&self, momentum: f32, weights: &mut Weights) {
        self.plan.update_statistics(momentum, weights);
    }

    fn synchronise(&mut self, peers: &Arc<dyn Peers>) -> Result<(), DeviceError> {
        self.plan.synchronise(peers)
    }

    fn memory(&self) -> Option<Memory> {
        Some(self.plan.memory())
    }

    fn profile(&self) -> Option<[Profile; 2]> {
        self.profiled.then(|| self.plan.profile())
    }

    fn reset_profile(&mut self) {
        self.plan.reset_profile();
    }
}
