//! One step of a plan: a kernel with its inputs and its output.

use std::sync::Arc;

use ferroflow_kernels::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, Part, Scratch,
    activation::{self, Smooth},
    attention::Attention,
    conv::{Activation, ConvPlan},
    convex_upsample::ConvexUpsample,
    correlation::Correlation,
    depthwise::{DepthwisePlan, Frames, LargeDepthwisePlan, SeparablePlan},
    elementwise, lend,
    lookup::{Known, Lookup},
    norm::{self, LayerNorm},
    pack::{self, Pixels, Source},
    pixelwise::Program,
    pool,
    resize::Resize,
    warp::{self, AtInteger, Axes, Border},
};

use ferroflow_net::NodeId;

use super::value::{Pixel, Plane, Value};

/// A kernel ready to run.
pub(super) enum Kernel {
    /// Reads the input and, with `residual`, what is added.
    Conv(Arc<ConvPlan>),
    Depthwise(Arc<DepthwisePlan>),
    LargeDepthwise(Arc<LargeDepthwisePlan>),
    Separable(Arc<SeparablePlan>),
    /// A first layer: the parts of a stack of frames, each a list of channels.
    SeparableFrames(Arc<SeparablePlan>, Vec<Vec<Pixel>>),
    /// Frames to blocks: the parts of a stack, each a list of channels.
    Pack(Vec<Vec<Pixel>>),
    /// Several operations per pixel, some of them on channels of the frames.
    Pixelwise {
        program: Program,
        sources: Vec<Pixel>,
    },
    /// The same into a single block of fewer floats per pixel.
    PackNarrow(Vec<Vec<Pixel>>),
    /// Means of the frames: per output channel, the frames' channels it averages.
    PixelMean(Vec<Vec<Pixel>>),
    /// Per lane.
    Affine {
        scale: Vec<f32>,
        offset: Vec<f32>,
        activation: Activation,
    },
    /// `a + factor * b`
    Combine {
        factor: f32,
        activation: Activation,
    },
    Activate {
        curve: Smooth,
        channels: usize,
    },
    Product,
    /// Reads `a`, `b` and `t` of `a + t * (b - a)`.
    Lerp,
    /// Reads the input and, if there is one, what is added to the result.
    InstanceNorm {
        epsilon: f32,
        activation: Activation,
    },
    /// Factors and summands per lane.
    LayerNorm {
        channels: usize,
        scale: Vec<f32>,
        shift: Vec<f32>,
        epsilon: f32,
    },
    AveragePool {
        size: usize,
    },
    /// Reads queries, keys and values; channels of the first two.
    Attention {
        channels: usize,
    },
    /// Columns and rows, less these.
    Coordinates {
        less: [f32; 2],
    },
    /// Where each lane comes from.
    Channels(Vec<Option<u32>>),
    /// Images of all inputs in order.
    Stack,
    ChannelMean,
    ChannelNorm {
        floor: f32,
    },
    Moments {
        channels: usize,
        batch: bool,
    },
    Standardise {
        channels: usize,
        epsilon: f32,
    },
    Correlation(Correlation),
    /// Reads both maps and the flow; working memory is what lookups in the same maps hand on.
    Lookup {
        lookup: Lookup,
        /// Whether there was such a lookup before.
        again: bool,
    },
    Warp {
        axes: Axes,
        border: Border,
        at_integer: AtInteger,
    },
    Resize {
        resize: Resize,
        scale: Vec<f32>,
    },
    /// Reads the flow and the logits.
    ConvexUpsample(ConvexUpsample),
    /// The flow, planar, to the caller.
    Output {
        resize: Resize,
        scale: [f32; 2],
    },
    /// The same where it is upsampled to the size of the output.
    ConvexOutput(ConvexUpsample),
    Zeros,
    /// The flow that the caller gives, or zeros.
    Initial,
    /// The end of an iteration: the flow before it, the flow after it, the state. It computes nothing.
    Iteration,
    /// A layer whose weights are trained, by its index: the training plan runs it.
    Layer(usize),
}

impl Kernel {
    /// What profiles print.
    pub fn algorithm(&self) -> String {
        match self {
            Kernel::Conv(plan) => plan.algorithm(),
            Kernel::Depthwise(_) | Kernel::LargeDepthwise(_) => "depthwise".into(),
            Kernel::Separable(plan) | Kernel::SeparableFrames(plan, _) => plan.algorithm(),
            Kernel::Pack(_) | Kernel::PackNarrow(_) => "pack".into(),
            Kernel::Pixelwise { .. } => "pixelwise".into(),
            Kernel::PixelMean(_) | Kernel::ChannelMean => "mean".into(),
            Kernel::Affine { .. } => "affine".into(),
            Kernel::Combine { .. } => "sum".into(),
            Kernel::Activate { .. } => "activation".into(),
            Kernel::Product => "product".into(),
            Kernel::Lerp => "mixture".into(),
            Kernel::InstanceNorm { .. } => "instance norm".into(),
            Kernel::LayerNorm { .. } => "layer norm".into(),
            Kernel::AveragePool { .. } => "average pool".into(),
            Kernel::Attention { .. } => "attention".into(),
            Kernel::Coordinates { .. } => "coordinates".into(),
            Kernel::Channels(_) => "channels".into(),
            Kernel::Stack => "copy".into(),
            Kernel::ChannelNorm { .. } => "norm".into(),
            Kernel::Moments { .. } => "moments".into(),
            Kernel::Standardise { .. } => "standardise".into(),
            Kernel::Correlation(_) => "correlation".into(),
            Kernel::Lookup { .. } => "lookup".into(),
            Kernel::Warp { .. } => "warp".into(),
            Kernel::Resize { .. } | Kernel::Output { .. } => "resize".into(),
            Kernel::ConvexUpsample(_) | Kernel::ConvexOutput(_) => "convex upsampling".into(),
            Kernel::Zeros => "zeros".into(),
            Kernel::Initial => "first flow".into(),
            Kernel::Iteration => "end".into(),
            Kernel::Layer(_) => "trained".into(),
        }
    }
}

/// A kernel with its operands.
pub(super) struct Step {
    /// The node whose value it computes.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    pub kernel: Kernel,
    pub flop: f64,
    pub inputs: Vec<Value>,
    /// `None` for the flow, which goes to the caller, and for the end of an iteration.
    pub output: Option<Value>,
    /// Working memory, in floats from the plane's start.
    pub work: Option<(Plane, usize)>,
}

/// What every step of a run shares.
pub(super) struct Context<'a> {
    pub isa: Isa,
    pub batch: usize,
    pub frames: [Pixels<'a>; 2],
    /// The flow to start from, planar.
    pub initial: Option<&'a [f32]>,
    pub scratch: &'a Scratch,
}

impl Step {
    /// Calls `f` with every plane that the step reads or writes.
    pub fn for_planes(&mut self, mut f: impl FnMut(&mut Plane)) {
        self.inputs.iter_mut().chain(&mut self.output).flat_map(|v| &mut v.planes).for_each(&mut f);
        if let Some((plane, _)) = &mut self.work {
            f(plane);
        }
        self.pixels_mut().into_iter().filter_map(|p| p.mean.as_mut()).for_each(|(plane, ..)| f(plane));
    }

    /// What the step reads of the frames themselves.
    pub fn pixels_mut(&mut self) -> Vec<&mut Pixel> {
        match &mut self.kernel {
            Kernel::Pack(parts)
            | Kernel::PackNarrow(parts)
            | Kernel::SeparableFrames(_, parts)
            | Kernel::PixelMean(parts) => parts.iter_mut().flatten().collect(),
            Kernel::Pixelwise { sources, .. } => sources.iter_mut().collect(),
            Kernel::Conv(_)
            | Kernel::Depthwise(_)
            | Kernel::LargeDepthwise(_)
            | Kernel::Separable(_)
            | Kernel::Affine { .. }
            | Kernel::Combine { .. }
            | Kernel::Activate { .. }
            | Kernel::Product
            | Kernel::Lerp
            | Kernel::InstanceNorm { .. }
            | Kernel::LayerNorm { .. }
            | Kernel::AveragePool { .. }
            | Kernel::Attention { .. }
            | Kernel::Coordinates { .. }
            | Kernel::Channels(_)
            | Kernel::Stack
            | Kernel::ChannelMean
            | Kernel::ChannelNorm { .. }
            | Kernel::Moments { .. }
            | Kernel::Standardise { .. }
            | Kernel::Correlation(_)
            | Kernel::Lookup { .. }
            | Kernel::Warp { .. }
            | Kernel::Resize { .. }
            | Kernel::ConvexUpsample(_)
            | Kernel::Output { .. }
            | Kernel::ConvexOutput(_)
            | Kernel::Zeros
            | Kernel::Initial
            | Kernel::Iteration
            | Kernel::Layer(_) => Vec::new(),
        }
    }

    /// Computes the step.
    pub fn run(&self, pool: &mut [Buffer], flow: &mut [f32], context: &Context<'_>) {
        if self.output.is_none() {
            return self.run_output(pool, flow, context);
        }
        let sources = self.sources(pool, context.batch);
        self.with_operands(pool, |inputs, out, work| self.compute(inputs, out, work, &sources, context));
    }

    /// Calls `f` with the inputs, the output and the working memory of a step that has an output.
    pub fn with_operands(
        &self,
        pool: &mut [Buffer],
        f: impl FnOnce(&[Blocks<'_>], &mut BlocksMut<'_, '_>, &mut [f32]),
    ) {
        let Some(output) = &self.output else { return };
        let work = self.work.map(|(plane, len)| Part { len, ..plane.part() });
        let written: Vec<Part> = output.planes.iter().map(Plane::part).chain(work).collect();
        let read: Vec<Part> = self.inputs.iter().flat_map(|value| &value.planes).map(Plane::part).collect();
        let (mut written, read) = lend(pool, &written, &read);
        let mut work = written.split_off(output.planes.len());
        let mut out = BlocksMut { extent: output.extent, planes: &mut written };
        let mut rest = &read[..];
        let inputs: Vec<Blocks<'_>> = self
            .inputs
            .iter()
            .map(|value| {
                let (planes, others) = rest.split_at(value.planes.len());
                rest = others;
                Blocks { extent: value.extent, planes }
            })
            .collect();
        f(&inputs, &mut out, work.pop().unwrap_or_default());
    }

    /// What each lane of each image is made of, where the step reads the frames.
    fn sources(&self, pool: &[Buffer], batch: usize) -> Vec<Option<Source>> {
        match &self.kernel {
            Kernel::Pack(parts) => {
                let blocks = self.output.as_ref().map_or(0, |output| output.planes.len());
                sources(parts, LANES * blocks, batch, pool)
            }
            Kernel::PackNarrow(parts) | Kernel::SeparableFrames(_, parts) => sources(parts, LANES, batch, pool),
            Kernel::Pixelwise { sources: channels, .. } => {
                sources(std::slice::from_ref(channels), channels.len(), batch, pool)
            }
            _ => Vec::new(),
        }
    }

    fn run_output(&self, pool: &[Buffer], flow: &mut [f32], context: &Context<'_>) {
        let Context { isa, scratch, .. } = *context;
        let planes: Vec<Vec<&[f32]>> = self.inputs.iter().map(|v| slices(v, pool)).collect();
        let input = |i: usize| Blocks { extent: self.inputs[i].extent, planes: &planes[i] };
        match &self.kernel {
            Kernel::Output { resize, scale } => resize.run_flow(isa, input(0), *scale, flow, scratch),
            Kernel::ConvexOutput(upsample) => upsample.run_flow(isa, input(0), input(1), flow, scratch),
            Kernel::Iteration => {}
            Kernel::Conv(_)
            | Kernel::Depthwise(_)
            | Kernel::LargeDepthwise(_)
            | Kernel::Separable(_)
            | Kernel::SeparableFrames(..)
            | Kernel::Pack(_)
            | Kernel::Pixelwise { .. }
            | Kernel::PackNarrow(_)
            | Kernel::PixelMean(_)
            | Kernel::Affine { .. }
            | Kernel::Combine { .. }
            | Kernel::Activate { .. }
            | Kernel::Product
            | Kernel::Lerp
            | Kernel::InstanceNorm { .. }
            | Kernel::LayerNorm { .. }
            | Kernel::AveragePool { .. }
            | Kernel::Attention { .. }
            | Kernel::Coordinates { .. }
            | Kernel::Channels(_)
            | Kernel::Stack
            | Kernel::ChannelMean
            | Kernel::ChannelNorm { .. }
            | Kernel::Moments { .. }
            | Kernel::Standardise { .. }
            | Kernel::Correlation(_)
            | Kernel::Lookup { .. }
            | Kernel::Warp { .. }
            | Kernel::Resize { .. }
            | Kernel::ConvexUpsample(_)
            | Kernel::Zeros
            | Kernel::Initial
            | Kernel::Layer(_) => unreachable!("`{}` writes no flow", self.name),
        }
    }

    fn compute(
        &self,
        inputs: &[Blocks<'_>],
        out: &mut BlocksMut<'_, '_>,
        work: &mut [f32],
        sources: &[Option<Source>],
        context: &Context<'_>,
    ) {
        let Context { isa, batch, frames, initial, scratch } = *context;
        match &self.kernel {
            Kernel::Conv(plan) => plan.run(inputs[0], inputs.get(1).copied(), out, scratch),
            Kernel::Depthwise(plan) => plan.run(inputs[0], out),
            Kernel::LargeDepthwise(plan) => plan.run(inputs[0], out),
            Kernel::Separable(plan) => plan.run(inputs[0], out, scratch),
            Kernel::SeparableFrames(plan, _) => plan.run_frames(Frames { frames, batch, sources }, out, scratch),
            Kernel::Pack(_) => pack::pack(isa, frames, batch, sources, out),
            Kernel::PackNarrow(parts) => {
                pack::pack_narrow(isa, frames, batch, out.extent, parts[0].len(), sources, out.planes[0]);
            }
            Kernel::Pixelwise { program, .. } => {
                let sources: Vec<Source> = sources.iter().flatten().cloned().collect();
                program.run(isa, frames, &sources, inputs, out, scratch);
            }
            Kernel::PixelMean(channels) => {
                let pixels = self.pixels(context);
                let means = frames.map(|f| f.means(batch, pixels));
                out.planes.iter_mut().for_each(|p| p.fill(0.0));
                for (c, averaged) in channels.iter().enumerate() {
                    for (n, pixel) in out.planes[c / LANES].chunks_exact_mut(LANES).enumerate() {
                        let of = |p: &Pixel| f64::from(p.scale) * means[p.frame][n][p.channel] + f64::from(p.offset);
                        let mean = averaged.iter().map(of).sum::<f64>() / averaged.len() as f64;
                        pixel[c % LANES] = mean as f32;
                    }
                }
            }
            Kernel::Affine { scale, offset, activation } => {
                elementwise::affine(isa, inputs[0], scale, offset, *activation, out);
            }
            Kernel::Combine { factor, activation } => {
                elementwise::combine(isa, inputs[0], *factor, inputs[1], *activation, out);
            }
            Kernel::Activate { curve, channels } => activation::activate(isa, *curve, inputs[0], *channels, out),
            Kernel::Product => elementwise::product(isa, inputs[0], inputs[1], out),
            Kernel::Lerp => elementwise::lerp(isa, [inputs[0], inputs[1], inputs[2]], out),
            Kernel::InstanceNorm { epsilon, activation } => {
                norm::instance_norm(isa, inputs[0], *epsilon, inputs.get(1).copied(), *activation, out);
            }
            Kernel::LayerNorm { channels, scale, shift, epsilon } => {
                LayerNorm { channels: *channels, scale, shift, epsilon: *epsilon }.run(isa, inputs[0], out);
            }
            Kernel::Attention { channels } => {
                attention(inputs, *channels).run(isa, out, scratch);
            }
            Kernel::Coordinates { less } => elementwise::coordinates(*less, out),
            Kernel::AveragePool { size } => pool::average_pool(isa, inputs[0], *size, out),
            Kernel::Channels(lanes) => elementwise::channels(inputs[0], lanes, out),
            Kernel::Stack => {
                for (i, x) in inputs.iter().enumerate() {
                    elementwise::copy_images(*x, i * x.extent.n, out);
                }
            }
            Kernel::ChannelMean => norm::channel_mean(isa, inputs, out),
            Kernel::ChannelNorm { floor } => norm::channel_norm(isa, inputs[0], *floor, out),
            Kernel::Moments { channels, batch } => {
                norm::moments(isa, [inputs[0], inputs[1]], *channels, *batch, out);
            }
            Kernel::Standardise { channels, epsilon } => {
                norm::standardise(isa, inputs[0], *channels, inputs[1], *epsilon, out);
            }
            Kernel::Correlation(plan) => plan.run(isa, [inputs[0], inputs[1]], out, work, scratch),
            Kernel::Lookup { lookup, .. } if work.is_empty() => {
                lookup.run(isa, [inputs[0], inputs[1]], inputs[2], out, scratch);
            }
            Kernel::Lookup { lookup, again } => {
                let known = Known { values: work, again: *again };
                lookup.run_knowing(isa, [inputs[0], inputs[1]], inputs[2], known, out, scratch);
            }
            Kernel::Warp { axes, border, .. } => warp::warp(isa, inputs[0], inputs[1], *axes, *border, out),
            Kernel::Resize { resize, scale } => resize.run(isa, inputs[0], scale, out),
            Kernel::ConvexUpsample(upsample) => upsample.run(isa, inputs[0], inputs[1], out, scratch),
            Kernel::Zeros => out.planes.iter_mut().for_each(|p| p.fill(0.0)),
            Kernel::Initial => {
                out.planes.iter_mut().for_each(|p| p.fill(0.0));
                let Extent { n, h, w } = out.extent;
                let planes = initial.map_or(&[][..], |flow| flow).chunks_exact(h * w);
                for (i, plane) in planes.enumerate().take(2 * n) {
                    let pixels = out.planes[0][i / 2 * h * w * LANES..].chunks_exact_mut(LANES);
                    pixels.zip(plane).for_each(|(pixel, &v)| pixel[i % 2] = v);
                }
            }
            Kernel::Output { .. } | Kernel::ConvexOutput(_) | Kernel::Iteration | Kernel::Layer(_) => {}
        }
    }

    fn pixels(&self, context: &Context<'_>) -> usize {
        match context.frames[0] {
            Pixels::Planar(values) => values.len() / (3 * context.batch),
            Pixels::Rgb(images) => images[0].len() / 3,
        }
    }
}

/// What each lane of each image is made of; image `i` of a stack belongs to part `i / batch`.
fn sources(parts: &[Vec<Pixel>], lanes: usize, batch: usize, pool: &[Buffer]) -> Vec<Option<Source>> {
    let mut sources = vec![None; lanes * parts.len() * batch];
    for (image, sources) in sources.chunks_mut(lanes.max(1)).enumerate() {
        for (pixel, source) in parts[image / batch].iter().zip(sources) {
            let mean = pixel.mean.map_or(0.0, |(plane, lane, factor)| {
                factor * pool[plane.buffer][plane.start + image % batch * LANES + lane]
            });
            let Pixel { frame, channel, scale, offset, .. } = *pixel;
            *source = Some(Source { frame, channel, scale, offset: offset + mean });
        }
    }
    sources
}

/// Of queries, keys and values.
pub(super) fn attention<'a>(inputs: &[Blocks<'a>], channels: usize) -> Attention<'a> {
    Attention { channels, queries: inputs[0], keys: inputs[1], values: inputs[2] }
}

/// The planes of a value.
pub(super) fn slices<'a>(value: &Value, pool: &'a [Buffer]) -> Vec<&'a [f32]> {
    value.planes.iter().map(|p| &pool[p.buffer][p.start..][..p.len]).collect()
}

/// Channels of a value as planar `[N, C, H, W]`.
pub(super) fn planar(value: &Value, channels: usize, pool: &[Buffer]) -> Vec<f32> {
    let planes = slices(value, pool);
    let Extent { n, h, w } = value.extent;
    let mut planar = vec![0.0; n * channels * h * w];
    for (lane, channel) in value.lanes.iter().enumerate() {
        let Some(channel) = channel else { continue };
        let plane = planes[lane / LANES];
        for image in 0..n {
            let to = &mut planar[(image * channels + *channel as usize) * h * w..][..h * w];
            let from = plane[image * h * w * LANES..].chunks_exact(LANES);
            to.iter_mut().zip(from).for_each(|(to, pixel)| *to = pixel[lane % LANES]);
        }
    }
    planar
}
