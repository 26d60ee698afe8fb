//! The estimator: it takes two frames of any size and returns their flow, by any method.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use ferroflow_core::{
    FlowField, Frame, FrameView, Size, SizeError,
    consistency::{Consistency, Sundaram},
    geometry::{Blend, Fit, FitPlan, Grid, resize::resize_flow, tiles},
    memory::{self, Shortage},
};
use ferroflow_cpu::Cpu;
use ferroflow_net::{
    Model, Weights,
    device::{Device, DeviceError, Executor, Frames, Profile},
    graph::{ShapeError, Sizes},
};
use rayon::prelude::*;

use crate::dis::{Dis, DisError, Preset};

/// Executors kept for sizes seen lately: enough for a video beside its tiles or thumbnails, few enough not to fill memory
/// when every pair of a data set has its own size.
const EXECUTORS_KEPT: usize = 2;

/// Bytes of a pixel's flow.
const FLOW_BYTES: u64 = 8;

/// Bytes that Dense Inverse Search takes for each pixel, its frames and flow left out: measured 52 with all pyramids.
const DIS_BYTES: u64 = 48;

/// Estimates flow. It is made once and estimates any number of pairs of any size, from any thread.
pub struct Estimator {
    method: Method,
    /// Frames are cut into tiles of at most this size, which overlap by a quarter.
    tile: Option<Size>,
    /// Where a network's weights come from, for [`Estimator::describe`].
    origin: Option<String>,
    /// Whose threads do the host's work.
    device: Arc<dyn Device>,
}

/// Two frames whose pixels somebody else owns.
type ViewPair<'a> = (FrameView<'a>, FrameView<'a>);

enum Method {
    Zero,
    Dis(Dis, Preset),
    Network(Box<Network>),
}

/// How a network is run.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// How frames of any size are made to fit the network; `None` does it as the network's reference.
    pub fit: Option<Fit>,
    /// The device that runs it.
    pub device: Arc<dyn Device>,
}

impl Default for NetworkOptions {
    /// As the network's reference does, on the CPU.
    fn default() -> Self {
        Self { fit: None, device: Arc::new(Cpu::default()) }
    }
}

/// How a network's flow, which most networks compute at 1/4 of the frames' size, becomes as large as the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Upsampling {
    /// As the network's reference does it.
    #[default]
    Reference,
    /// Every value repeated.
    Nearest,
    /// Bilinear, pixels being squares.
    Bilinear,
    /// Not at all: the flow has the size at which the network computes it, and is in pixels of the frames.
    None,
}

/// Why there is no flow.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstimateError {
    /// Two frames of one pair have different sizes.
    #[error("frame 1 is {first} and frame 2 is {second}: both must have one size, resize one of them first")]
    Sizes {
        /// Size of frame 1.
        first: Size,
        /// Size of frame 2.
        second: Size,
    },
    /// A frame has no pixels.
    #[error("a frame has no pixels")]
    Empty,
    /// The tiles are too small.
    #[error("tiles of {size} are too small: use at least {least} a side")]
    Tile {
        /// The size that was asked for.
        size: Size,
        /// Smallest side that a tile may have, pixels.
        least: usize,
    },
    /// A size that the network does not take.
    #[error(
        "{network} takes sides that are multiples of {stride}, and of at least {least}; {size} is not one of them: \
         take {below}{}",
        if below == above { String::new() } else { format!(" or {above}") }
    )]
    NetworkSize {
        /// Its name.
        network: &'static str,
        /// What was asked for.
        size: Size,
        /// Of which sides are multiples.
        stride: usize,
        /// Smallest side.
        least: usize,
        /// The next size down, as far as there is one.
        below: Size,
        /// The next size up.
        above: Size,
    },
    /// A size for a network where there is none.
    #[error("{0} sees frames in their own size: only a network can be given another one")]
    NoNetwork(String),
    /// A method that starts from no flow.
    #[error("{0} takes no flow to start from: only a recurrent network such as raft does, without tiles")]
    NoStart(String),
    /// A method without iterations.
    #[error("{0} has no iterations to leave out: only a recurrent network such as raft has")]
    NoIterations(String),
    /// An upsampling that is not possible.
    #[error("{0}")]
    Upsampling(String),
    /// The estimate takes more memory than is available.
    #[error(
        "cannot estimate {}{size} pixels at once: {shortage}; estimate in tiles (--tile 1024x1024){}",
        if *count > 1 { format!("{count} pairs of ") } else { String::new() },
        if *count > 1 { ", or fewer pairs at once (--batch)" } else { "" }
    )]
    Memory {
        /// Size of the frames.
        size: Size,
        /// Number of pairs in the batch.
        count: usize,
        /// The memory that it takes and the memory that there is.
        shortage: Shortage,
    },
    /// The network cannot be prepared for this size, or the device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Sizes contradict each other, which is a fault of this library.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The estimate is not finite, because the weights are damaged or diverged in training.
    #[error(
        "the network's flow is not finite at {count} of {pixels} pixels: the weights are damaged or diverged in training"
    )]
    NotFinite {
        /// Number of pixels whose flow is not finite.
        count: usize,
        /// Number of all pixels.
        pixels: usize,
    },
}

impl From<DisError> for EstimateError {
    fn from(error: DisError) -> Self {
        match error {
            DisError::SizeMismatch { first, second } => Self::Sizes { first, second },
            DisError::Empty => Self::Empty,
        }
    }
}

/// The flows in both directions, and what their agreement says about frame 1.
#[derive(Clone, Debug)]
pub struct Bidirectional {
    /// From frame 1 to frame 2, pixels of frame 1.
    pub forward: FlowField,
    /// From frame 2 to frame 1, pixels of frame 2.
    pub backward: FlowField,
    /// Occlusion, consistency error and confidence of the pixels of frame 1 (Sundaram et al. 2010).
    pub consistency: Consistency,
}

impl Estimator {
    /// A method that always gives zero flow, as a baseline.
    pub fn zero() -> Self {
        Self::of(Method::Zero)
    }

    /// Dense Inverse Search, which needs no weights.
    pub fn dis(preset: Preset) -> Self {
        Self::of(Method::Dis(Dis::new(preset), preset))
    }

    /// The method of this name that needs no weights: `dis`, `dis-fast` or `zero`.
    pub fn baseline(name: &str) -> Option<Self> {
        Some(match name {
            "dis" => Self::dis(Preset::Medium),
            "dis-fast" => Self::dis(Preset::Fast),
            "zero" => Self::zero(),
            _ => return None,
        })
    }

    /// A network with its weights. It is prepared when the first pair of a size comes.
    pub fn network(model: Model, weights: Weights, options: NetworkOptions) -> Self {
        let fit = options.fit.unwrap_or(model.fit);
        let NetworkOptions { device, .. } = options;
        let keeps_features = device.keeps_features(&model.graph);
        let network = Network {
            model,
            weights,
            fit,
            upsampling: Upsampling::Reference,
            device: device.clone(),
            keeps_features,
            stop_below: None,
            iterations: Mutex::default(),
            executors: Mutex::default(),
        };
        Self { device, ..Self::of(Method::Network(Box::new(network))) }
    }

    fn of(method: Method) -> Self {
        Self { method, tile: None, origin: None, device: Arc::new(Cpu::default()) }
    }

    /// Does the host's work (fitting frames, all of Dense Inverse Search) with the threads of this device. A network stays on the
    /// device that it was made for.
    pub fn with_host(mut self, device: Arc<dyn Device>) -> Self {
        self.device = device;
        self
    }

    /// Sets where the weights come from, for [`Self::describe`]: "built-in weights", "weights of w.safetensors".
    pub fn with_origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Resizes frames to this size for the network, whatever their own, and the flow back to that of the frames. `None` leaves it to
    /// the [`Fit`]. The grid is that of the fit, or half-pixel for one that does not resize.
    ///
    /// # Errors
    /// If the network does not take the size, or if the method is no network.
    pub fn with_network_size(mut self, size: Option<Size>) -> Result<Self, EstimateError> {
        let Some(size) = size else { return Ok(self) };
        let Method::Network(network) = &mut self.method else {
            return Err(EstimateError::NoNetwork(self.name().into()));
        };
        let Model { name, stride, .. } = network.model;
        let least = network.least_side().next_multiple_of(stride);
        let below = size.map(|side| (side / stride * stride).max(least));
        let above = size.map(|side| side.next_multiple_of(stride).max(least));
        if below != size {
            return Err(EstimateError::NetworkSize { network: name, size, stride, least, below, above });
        }
        network.fit = Fit::To(size, network.fit.grid().unwrap_or_default());
        Ok(self)
    }

    /// Estimates in overlapping tiles of at most this size, blended where they overlap, so that memory does not
    /// grow with the frame. `None` estimates frames whole.
    ///
    /// # Errors
    /// If the tiles are too small.
    pub fn with_tile(mut self, tile: Option<Size>) -> Result<Self, EstimateError> {
        const LEAST: usize = 64;
        match tile {
            Some(size) if size.height.min(size.width) < LEAST => Err(EstimateError::Tile { size, least: LEAST }),
            _ => {
                self.tile = tile;
                Ok(self)
            }
        }
    }

    /// Chooses how the network's flow becomes as large as the frames.
    ///
    /// # Errors
    /// If the method is no network, or it is to work in tiles.
    pub fn with_upsampling(mut self, upsampling: Upsampling) -> Result<Self, EstimateError> {
        if upsampling == Upsampling::Reference {
            return Ok(self);
        }
        if self.tile.is_some() {
            return Err(EstimateError::Upsampling(
                "tiles are blended at the frames' size: no upsampling can be chosen".into(),
            ));
        }
        match &mut self.method {
            Method::Network(network) => network.upsampling = upsampling,
            _ => {
                let name = self.name();
                return Err(EstimateError::Upsampling(format!("{name} is no network, whose flow could be smaller")));
            }
        }
        Ok(self)
    }

    /// Leaves out the iterations of a recurrent network that follow one whose update has a mean length below this, in pixels of the
    /// frames as the network sees them; of pairs that are estimated at once, that of every pair. The flow is that of a network of so
    /// many iterations.
    ///
    /// # Errors
    /// If the method has no iterations.
    pub fn with_stop_below(mut self, pixels: Option<f32>) -> Result<Self, EstimateError> {
        match &mut self.method {
            Method::Network(network) if !network.model.graph.iterations.is_empty() => network.stop_below = pixels,
            _ if pixels.is_none() => {}
            _ => return Err(EstimateError::NoIterations(self.name().into())),
        }
        Ok(self)
    }

    /// Mean number of iterations of the pairs estimated since the last call; `None` if there were none, or it is always the same.
    pub fn take_iterations(&self) -> Option<f64> {
        let Method::Network(network) = &self.method else { return None };
        let mut iterations = network.iterations.lock().unwrap_or_else(PoisonError::into_inner);
        let [sum, pairs] = std::mem::take(&mut *iterations);
        (pairs > 0).then(|| sum as f64 / pairs as f64)
    }

    /// The flow from `first` to `second`, which has their size and is in their pixels.
    ///
    /// # Errors
    /// If the frames differ in size or the method fails; see [`EstimateError`].
    pub fn estimate(&self, first: &Frame, second: &Frame) -> Result<FlowField, EstimateError> {
        // A batch of one gives one flow.
        self.estimate_batch(&[(first, second)])?.pop().ok_or(EstimateError::Empty)
    }

    /// Whether [`Estimator::estimate_from`] is possible.
    pub fn takes_start(&self) -> bool {
        let network = match &self.method {
            Method::Network(network) => network.model.graph.initial,
            Method::Zero | Method::Dis(..) => None,
        };
        network.is_some() && self.tile.is_none()
    }

    /// As [`Estimator::estimate`], from a flow that is roughly known already, in pixels of the frames: along a video that of the pair
    /// before, [carried along](ferroflow_core::carry::carried_along). A recurrent network corrects it, and needs fewer iterations.
    ///
    /// # Errors
    /// As [`Estimator::estimate`], if the flow has another size than the frames, and if the method or the device starts from none.
    pub fn estimate_from(&self, first: &Frame, second: &Frame, start: &FlowField) -> Result<FlowField, EstimateError> {
        check_pair(first.size(), second.size())?;
        check_pair(first.size(), start.size())?;
        let network = match &self.method {
            Method::Network(network) if self.takes_start() => network,
            _ => return Err(EstimateError::NoStart(self.name().to_string())),
        };
        self.check_memory(first.size(), 1)?;
        let mut flows = Ok(Vec::new());
        self.device.host(&mut || flows = network.estimate(&[(first.into(), second.into())], Some(start)));
        flows?.pop().ok_or(EstimateError::Empty)
    }

    /// The flows of several pairs. Successive pairs of one size go through a network as one batch, or one by one if they have frames
    /// in common of which everything is then computed once; each flow is the same as that of the pair alone.
    ///
    /// # Errors
    /// As [`Estimator::estimate`], at the first pair that fails.
    pub fn estimate_batch(&self, pairs: &[(&Frame, &Frame)]) -> Result<Vec<FlowField>, EstimateError> {
        self.estimate_views(&views(pairs))
    }

    /// As [`Estimator::estimate_batch`], for pixels that somebody else owns. They are copied only where they do not fit the network
    /// as they are, or where rows have gaps.
    ///
    /// # Errors
    /// As [`Estimator::estimate_batch`].
    pub fn estimate_views(&self, pairs: &[ViewPair<'_>]) -> Result<Vec<FlowField>, EstimateError> {
        let mut flows = Ok(Vec::new());
        self.device.host(&mut || flows = self.estimate_here(pairs));
        flows
    }

    fn estimate_here(&self, pairs: &[ViewPair<'_>]) -> Result<Vec<FlowField>, EstimateError> {
        for (first, second) in pairs {
            check_pair(first.size(), second.size())?;
        }
        let mut flows = Vec::with_capacity(pairs.len());
        for group in pairs.chunk_by(|(a, _), (b, _)| a.size() == b.size()) {
            let size = group[0].0.size();
            match self.tile {
                Some(tile) if size.width > tile.width || size.height > tile.height => {
                    for &(first, second) in group {
                        flows.push(self.tiled(first, second, tile)?);
                    }
                }
                _ => flows.extend(self.whole(group)?),
            }
        }
        Ok(flows)
    }

    /// The flows in both directions, with occlusion and confidence from their agreement.
    ///
    /// # Errors
    /// As [`Estimator::estimate`].
    pub fn estimate_both(&self, first: &Frame, second: &Frame) -> Result<Bidirectional, EstimateError> {
        self.estimate_views_both(first.into(), second.into())
    }

    /// As [`Estimator::estimate_both`], for pixels that somebody else owns.
    ///
    /// # Errors
    /// As [`Estimator::estimate`].
    pub fn estimate_views_both(
        &self,
        first: FrameView<'_>,
        second: FrameView<'_>,
    ) -> Result<Bidirectional, EstimateError> {
        let mut flows = self.estimate_views(&[(first, second), (second, first)])?.into_iter();
        let (Some(forward), Some(backward)) = (flows.next(), flows.next()) else { return Err(EstimateError::Empty) };
        let consistency = Sundaram::default().check(&forward, &backward)?;
        Ok(Bidirectional { forward, backward, consistency })
    }

    /// Flow both ways at 1/`factor` of the size that a network sees, in pixels of that size: where a network resizes its flow, the
    /// flow that it has there; elsewhere the flow of the frames, resized. UFlow tells occlusion from flows at 1/4.
    ///
    /// # Errors
    /// As [`Estimator::estimate`].
    pub fn estimate_both_at(
        &self,
        first: &Frame,
        second: &Frame,
        factor: usize,
    ) -> Result<[FlowField; 2], EstimateError> {
        check_pair(first.size(), second.size())?;
        let pairs = [(first, second), (second, first)];
        let part = |size: Size| size.map(|side| (side / factor.max(1)).max(1));
        let flows = match &self.method {
            Method::Network(network) if network.fit.grid().is_some() && self.tile.is_none() => {
                let pairs = views(&pairs);
                self.check_memory(first.size(), network.at_once(&pairs))?;
                let input = network.plan(first.size()).network();
                let sizes = Sizes { batch: pairs.len(), input, output: part(input) };
                let mut flows = Ok(Vec::new());
                self.device.host(&mut || flows = network.run(&pairs, sizes, None));
                flows?
            }
            _ => {
                let (from, to) = (first.size(), part(first.size()));
                let scale = |from: usize, to: usize| to as f32 / from as f32;
                let scale = (scale(from.width, to.width), scale(from.height, to.height));
                let whole = self.estimate_batch(&pairs)?;
                whole.iter().map(|flow| resize_flow(flow, to, scale, Grid::HalfPixel)).collect()
            }
        };
        flows.try_into().map_err(|_| EstimateError::Empty)
    }

    /// Pairs of one size, untiled.
    fn whole(&self, pairs: &[ViewPair<'_>]) -> Result<Vec<FlowField>, EstimateError> {
        let at_once = match &self.method {
            Method::Network(network) => network.at_once(pairs),
            Method::Zero | Method::Dis(..) => pairs.len(),
        };
        self.check_memory(pairs[0].0.size(), at_once)?;
        match &self.method {
            Method::Zero => Ok(pairs.iter().map(|(a, _)| FlowField::zeros(a.size())).collect()),
            Method::Dis(dis, _) => pairs.iter().map(|&(a, b)| Ok(dis.estimate(a, b)?)).collect(),
            Method::Network(network) => network.estimate(pairs, None),
        }
    }

    /// Refuses what there is no memory for, before the work.
    fn check_memory(&self, size: Size, count: usize) -> Result<(), EstimateError> {
        let needed = match &self.method {
            Method::Zero => count as u64 * FLOW_BYTES * size.pixels() as u64,
            // One pair after another.
            Method::Dis(..) => (DIS_BYTES + count as u64 * FLOW_BYTES) * size.pixels() as u64,
            Method::Network(network) => {
                let sizes = network.sizes(count, size);
                // What is prepared for this size is there already; what the network does not take it says itself.
                match memory_estimate(&network.model, &sizes) {
                    Ok(needed) if !network.is_prepared(sizes) => needed,
                    _ => return Ok(()),
                }
            }
        };
        memory::check(needed).map_err(|shortage| EstimateError::Memory { size, count, shortage })
    }

    fn tiled(&self, first: FrameView<'_>, second: FrameView<'_>, tile: Size) -> Result<FlowField, EstimateError> {
        let size = first.size();
        // The sums and weights of the blend, and the flow that is made of them.
        memory::check(3 * FLOW_BYTES * size.pixels() as u64).map_err(|shortage| EstimateError::Memory {
            size,
            count: 1,
            shortage,
        })?;
        let overlap = tile.width.min(tile.height) / 4;
        let mut blend = Blend::new(size, overlap);
        for tile in tiles(size, tile, overlap) {
            for flow in self.whole(&[(tile.window(first), tile.window(second))])? {
                blend.add(&tile, &flow);
            }
        }
        Ok(blend.finish())
    }

    /// Name of the method: `dis`, `pwcnet`, ...
    pub fn name(&self) -> &str {
        match &self.method {
            Method::Zero => "zero",
            Method::Dis(_, Preset::Medium) => "dis",
            Method::Dis(_, Preset::Fast) => "dis-fast",
            Method::Network(network) => network.model.name,
        }
    }

    /// The method in one line: its name and, for a network, its options, parameter count and the origin of its weights.
    pub fn describe(&self) -> String {
        match &self.method {
            Method::Zero => "no motion".into(),
            Method::Dis(..) => format!("method {} (Dense Inverse Search, no weights)", self.name()),
            Method::Network(network) => {
                let options = network.model.options.iter().map(|(k, v)| format!(" {k}={v}")).collect::<String>();
                let parameters = network.model.graph.parameter_count() as f64 / 1e6;
                let remarks = Some(network.device.remarks()).filter(|remarks| !remarks.is_empty());
                let remarks = remarks.map_or(String::new(), |remarks| format!(", {remarks}"));
                let origin = self.origin.as_ref().map_or(String::new(), |origin| format!(", {origin}"));
                format!("network {}{options}, {parameters:.1} M parameters{origin}{remarks}", self.name())
            }
        }
    }

    /// Operations for frames of this size in 1e9, with convolutions counted as direct ones; `None` for methods without a graph.
    pub fn gflop(&self, size: Size) -> Option<f64> {
        let Method::Network(network) = &self.method else { return None };
        let sizes = network.sizes(1, size);
        Some(network.model.graph.cost(&sizes).ok()?.flop / 1e9)
    }

    /// Forgets the frames seen so far, so that the next pair takes as long as one of new frames. Otherwise a network may take what
    /// it computed of a frame again when the next pair has it too; the flow is the same.
    pub fn forget_frames(&self) {
        if let Method::Network(network) = &self.method {
            let mut executors = network.executors.lock().unwrap_or_else(PoisonError::into_inner);
            executors.iter_mut().for_each(|executor| executor.forget_frames());
        }
    }

    /// Forgets the times measured so far.
    pub fn reset_profile(&self) {
        if let Method::Network(network) = &self.method {
            let mut executors = network.executors.lock().unwrap_or_else(PoisonError::into_inner);
            executors.iter_mut().for_each(|executor| executor.reset_profile());
        }
    }

    /// Mean times of all layers at the latest size, since the start or [`Estimator::reset_profile`]; `None` if the device does not
    /// measure them.
    pub fn profile(&self) -> Option<Profile> {
        let Method::Network(network) = &self.method else { return None };
        let executors = network.executors.lock().unwrap_or_else(PoisonError::into_inner);
        executors.last()?.profile()
    }
}

struct Network {
    model: Model,
    weights: Weights,
    fit: Fit,
    upsampling: Upsampling,
    device: Arc<dyn Device>,
    /// Whether executors for one pair keep what they computed of its frames.
    keeps_features: bool,
    /// Below which mean update, in pixels of the frames that it sees, an iteration is the last.
    stop_below: Option<f32>,
    /// Sum of the iterations of all pairs since they were last asked for, and number of pairs.
    iterations: Mutex<[usize; 2]>,
    /// Least recently used first.
    executors: Mutex<Vec<Box<dyn Executor>>>,
}

impl Network {
    /// How frames of this size are brought to the network.
    fn plan(&self, frames: Size) -> FitPlan {
        self.fit.plan(frames, self.model.stride, self.least_side())
    }

    fn least_side(&self) -> usize {
        self.model.min_size.height.max(self.model.min_size.width)
    }

    fn sizes(&self, batch: usize, frames: Size) -> Sizes {
        let input = self.plan(frames).network();
        if self.upsampling != Upsampling::Reference {
            return Sizes { batch, input, output: self.computed(input) };
        }
        // A resized flow goes back to the frames' size in the graph's own last step; other fits cut it out afterwards.
        let output = if self.fit.grid().is_some() { frames } else { input };
        Sizes { batch, input, output }
    }

    /// The size at which the flow is computed for frames that the network sees in this size.
    fn computed(&self, input: Size) -> Size {
        let graph = &self.model.graph;
        let last = graph.flow.and_then(|flow| graph.node(flow).inputs.first().copied());
        let shapes = graph.shapes(&Sizes::new(1, input.height, input.width));
        match (shapes, last) {
            (Ok(shapes), Some(last)) => Size::new(shapes[last.0 as usize][2], shapes[last.0 as usize][3]),
            // What the network does not take it says itself.
            _ => input,
        }
    }

    /// Pairs of one size; a single one may start from a flow.
    fn estimate(&self, pairs: &[ViewPair<'_>], start: Option<&FlowField>) -> Result<Vec<FlowField>, EstimateError> {
        let size = pairs[0].0.size();
        let flows = self.run(pairs, self.sizes(pairs.len(), size), start)?;
        let fit = self.plan(size);
        if self.upsampling != Upsampling::Reference {
            return Ok(flows.into_iter().map(|flow| self.enlarged(flow, &fit)).collect());
        }
        Ok(if self.fit.grid().is_some() { flows } else { flows.into_iter().map(|flow| fit.restore(flow)).collect() })
    }

    /// A flow of the size at which it is computed, in pixels of that, as the upsampling wants it.
    fn enlarged(&self, flow: FlowField, fit: &FitPlan) -> FlowField {
        let (coarse, network, frame) = (flow.size(), fit.network(), fit.input());
        // Resized frames are covered whole; padding is cut off at the network's size.
        let to = if self.fit.grid().is_some() { frame } else { network };
        let scale = (to.width as f32 / coarse.width as f32, to.height as f32 / coarse.height as f32);
        let nearest = |x: usize, y: usize| {
            let (u, v) = flow.get(x * coarse.width / to.width, y * coarse.height / to.height);
            (scale.0 * u, scale.1 * v)
        };
        let enlarged = match self.upsampling {
            Upsampling::None => {
                return FlowField::from_fn(coarse, |x, y| {
                    let (u, v) = flow.get(x, y);
                    (scale.0 * u, scale.1 * v)
                });
            }
            Upsampling::Nearest => FlowField::from_fn(to, nearest),
            Upsampling::Reference | Upsampling::Bilinear => resize_flow(&flow, to, scale, Grid::HalfPixel),
        };
        if self.fit.grid().is_some() { enlarged } else { fit.restore(enlarged) }
    }

    /// How many of these pairs go through the network as one batch: those that have frames in common go one by one where the device
    /// keeps what it computed of them.
    fn at_once(&self, pairs: &[ViewPair<'_>]) -> usize {
        let go_on = |pair: &[ViewPair<'_>]| pair[0].1 == pair[1].0 || pair[0].0 == pair[1].1;
        if self.keeps_features && pairs.windows(2).any(go_on) { 1 } else { pairs.len() }
    }

    /// The flows of pairs of one size, in the pixels of `sizes.output`.
    fn run(
        &self,
        pairs: &[ViewPair<'_>],
        sizes: Sizes,
        start: Option<&FlowField>,
    ) -> Result<Vec<FlowField>, EstimateError> {
        let mut flows = Vec::with_capacity(pairs.len());
        for part in pairs.chunks(self.at_once(pairs).max(1)) {
            flows.extend(self.run_at_once(part, Sizes { batch: part.len(), ..sizes }, start)?);
        }
        Ok(flows)
    }

    fn run_at_once(
        &self,
        pairs: &[ViewPair<'_>],
        sizes: Sizes,
        start: Option<&FlowField>,
    ) -> Result<Vec<FlowField>, EstimateError> {
        let fit = self.plan(pairs[0].0.size());
        let first: Vec<_> = pairs.iter().map(|p| fit.apply_view(p.0)).collect();
        let second: Vec<_> = pairs.iter().map(|p| fit.apply_view(p.1)).collect();
        fn bytes<'a>(frames: &'a [Cow<'_, [u8]>]) -> Vec<&'a [u8]> {
            frames.iter().map(|frame| &**frame).collect()
        }

        let mut executor = self.take_executor(sizes)?;
        let pixels = sizes.output.pixels();
        let mut flow = vec![0.0; 2 * pixels * pairs.len()];
        let started = match (start, self.model.graph.initial) {
            (Some(start), Some(node)) => {
                let [_, _, height, width] =
                    self.model.graph.shapes(&sizes).map_err(DeviceError::from)?[node.0 as usize];
                executor.start_from(&fit.coarse(start, Size { height, width }))
            }
            _ => Ok(()),
        };
        let (first, second) = (bytes(&first), bytes(&second));
        let ran = started.and_then(|()| executor.run(Frames::Rgb(&first), Frames::Rgb(&second), &mut flow));
        if let (Some(done), Some(_)) = (executor.iterations(), self.stop_below) {
            let mut iterations = self.iterations.lock().unwrap_or_else(PoisonError::into_inner);
            *iterations = [iterations[0] + done * pairs.len(), iterations[1] + pairs.len()];
        }
        self.keep(executor);
        ran?;

        let not_finite = count_not_finite(&flow);
        if not_finite > 0 {
            return Err(EstimateError::NotFinite { count: not_finite, pixels: pixels * pairs.len() });
        }
        let flows = if pairs.len() == 1 { vec![flow] } else { flow.chunks(2 * pixels).map(<[f32]>::to_vec).collect() };
        flows.into_iter().map(|planes| Ok(FlowField::from_planar(sizes.output, planes)?)).collect()
    }

    /// Whether an executor for these sizes is there.
    fn is_prepared(&self, sizes: Sizes) -> bool {
        let executors = self.executors.lock().unwrap_or_else(PoisonError::into_inner);
        executors.iter().any(|executor| executor.sizes() == sizes)
    }

    /// An executor for these sizes, out of the shelf or new. Taking it out lets another thread work with a second one.
    fn take_executor(&self, sizes: Sizes) -> Result<Box<dyn Executor>, DeviceError> {
        let mut executors = self.executors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = executors.iter().position(|executor| executor.sizes() == sizes) {
            return Ok(executors.remove(at));
        }
        // Room first: prepared weights are the largest thing in memory.
        if executors.len() >= EXECUTORS_KEPT {
            executors.remove(0);
        }
        drop(executors);
        let mut executor = self.device.executor(&self.model.graph, &self.weights, sizes)?;
        self.stop_below.map_or(Ok(()), |pixels| executor.stop_below(pixels))?;
        Ok(executor)
    }

    fn keep(&self, executor: Box<dyn Executor>) {
        let mut executors = self.executors.lock().unwrap_or_else(PoisonError::into_inner);
        executors.push(executor);
        if executors.len() > EXECUTORS_KEPT {
            executors.remove(0);
        }
    }
}

fn views<'a>(pairs: &[(&'a Frame, &'a Frame)]) -> Vec<ViewPair<'a>> {
    pairs.iter().map(|&(first, second)| (first.into(), second.into())).collect()
}

/// Whether frames of these sizes are a pair at all.
fn check_pair(first: Size, second: Size) -> Result<(), EstimateError> {
    if first != second {
        return Err(EstimateError::Sizes { first, second });
    }
    if first.pixels() == 0 {
        return Err(EstimateError::Empty);
    }
    Ok(())
}

/// How many values are infinite or not a number.
fn count_not_finite(values: &[f32]) -> usize {
    let count = |values: &[f32]| values.iter().map(|v| u32::from(!v.is_finite())).sum::<u32>() as usize;
    values.par_chunks(1 << 15).map(count).sum()
}

/// Bytes of memory that estimating with `model` at `sizes` needs, as an upper bound: the weights as given and as prepared
/// (Winograd's are up to 64/9 times as large as those of a 3x3 convolution, in practice two to four times), and the values
/// between layers.
///
/// # Errors
/// If the network does not take these sizes.
pub fn memory_estimate(model: &Model, sizes: &Sizes) -> Result<u64, ShapeError> {
    let cost = model.graph.cost(sizes)?;
    Ok((4 * cost.parameter_bytes + cost.activation_bytes) as u64)
}
