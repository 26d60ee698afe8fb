//! Depthwise 3x3 and 1x1 convolution in one pass: the intermediate of a strip stays in the second-level cache.

use std::ops::Range;

use super::{Band, Depthwise, Filters};
use crate::{
    Bf16, Blocks, BlocksMut, Buffer, Extent, Isa, LANES, Scratch,
    conv::{
        Activation, ConvKind, ConvShape, Layer,
        bf16::{LEAST_OUTPUTS, Points, PointsOf},
        direct::{
            runs::{Channels, Phase, Pitch},
            share,
            tile::{Finish, Source, Tile, register_tile},
        },
    },
    disjoint::Disjoint,
    pack::{self, Pack, Pixels},
    simd::{self, Kernel, Simd},
    team,
};

/// Bytes of the intermediate: 64 KB to 1 MB are within 5 % of each other.
const CHUNK_BYTES: usize = 192 << 10;
/// Maps of fewer points are one chunk, so that the weights are read once.
const SMALL_MAP: usize = 500;

/// The 1x1 convolution after a depthwise layer.
#[derive(Clone, Copy)]
pub struct Pointwise<'a> {
    /// Channels of the output.
    pub out_channels: usize,
    /// `[out, channels]`
    pub weight: &'a [f32],
    /// `[out]`
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

/// A depthwise separable layer ready to run.
pub struct SeparablePlan {
    filters: Filters,
    product: Product,
    bias: Buffer,
    activation: Activation,
    blocks: usize,
    /// Rows and columns of a strip, and the output blocks of a task.
    strip: [usize; 2],
    task_blocks: usize,
    /// Floats from block to block of the intermediate.
    pitch: usize,
}

/// How the 1x1 convolution is computed.
enum Product {
    F32(Phase),
    Bf16(Box<Points>),
}

impl SeparablePlan {
    /// Packs the weights of both, for `threads` threads; with `bf16` the 1x1 convolution multiplies so,
    /// unless its few outputs are a flow.
    pub fn new(
        depthwise: &Depthwise<'_>,
        pointwise: &Pointwise<'_>,
        isa: Isa,
        bf16: Option<Bf16>,
        threads: usize,
    ) -> Self {
        let filters = Filters::new(depthwise, isa);
        let bf16 = bf16.filter(|_| pointwise.out_channels >= LEAST_OUTPUTS);
        // Output blocks that are computed together.
        let panel = if bf16.is_some() { crate::bf16::PANEL } else { register_tile(isa).1 };
        let (output, planes) = (filters.output, filters.blocks());
        let blocks = pointwise.out_channels.div_ceil(LANES);

        let points = output.h * output.w;
        let share = |size: usize, limit: usize| size.div_ceil(size.div_ceil(limit.max(1)).max(1)).max(1);
        let strip = if points <= SMALL_MAP {
            [output.h.max(1), output.w.max(1)]
        } else {
            let limit = CHUNK_BYTES / (4 * LANES * planes);
            let columns = share(output.w, limit.max(28));
            // Two strips per thread at least.
            let rows = (limit / columns).min(output.n * output.h / (2 * threads));
            [share(output.h, rows), columns]
        };
        let strips = output.n * output.h.div_ceil(strip[0]) * output.w.div_ceil(strip[1]);
        let panels = blocks.div_ceil(panel);
        // Few strips: share the output channels; every task then filters its strip anew, which is the smaller part.
        let parts = threads.div_ceil(strips.max(1)).min(panels);

        let pitch = ((strip[0] * strip[1]) | 1) * LANES;
        let in_channels = depthwise.lanes.iter().flatten().count();
        let layer = Layer {
            shape: ConvShape {
                kind: ConvKind::Forward,
                in_channels,
                out_channels: pointwise.out_channels,
                kernel: [1; 2],
                stride: 1,
                dilation: 1,
                padding: [0; 4],
            },
            input: output,
            lanes: depthwise.lanes,
            weight: pointwise.weight,
            bias: pointwise.bias,
            activation: pointwise.activation,
        };
        let channels = Channels::new(depthwise.lanes, 1);
        let tap = vec![(0, 0)];
        let plane_pitch = Pitch { source: 0, patch: 0, patch_plane: pitch };
        let product = match bf16 {
            Some(bf16) => Product::Bf16(Box::new(Points::new(&layer, strip[0] * strip[1], bf16, isa))),
            None => Product::F32(Phase::new(&layer, &channels, [0, 0], [&tap, &tap], plane_pitch, panel)),
        };
        let mut bias = Buffer::zeroed(blocks * LANES);
        if let Some(values) = pointwise.bias {
            bias[..values.len()].copy_from_slice(values);
        }
        Self {
            filters,
            product,
            bias,
            activation: pointwise.activation,
            blocks,
            strip,
            task_blocks: panels.div_ceil(parts) * panel,
            pitch,
        }
    }

    /// Extent of the output.
    pub fn output(&self) -> Extent {
        self.filters.output
    }

    /// Blocks of the output.
    pub fn output_blocks(&self) -> usize {
        self.blocks
    }

    /// What profiles print.
    pub fn algorithm(&self) -> String {
        match &self.product {
            Product::F32(_) => "separable".into(),
            Product::Bf16(points) => format!("separable, {}", points.name()),
        }
    }

    /// Floats of the strip's intermediate.
    fn middle_len(&self) -> usize {
        self.pitch * self.filters.blocks()
    }

    /// Floats of working memory per thread.
    pub fn scratch_len(&self) -> usize {
        self.middle_len()
            + match &self.product {
                Product::F32(_) => 0,
                Product::Bf16(points) => points.scratch_len(),
            }
    }

    /// Bytes of prepared weights.
    pub fn weight_bytes(&self) -> usize {
        let product = match &self.product {
            Product::F32(phase) => 4 * phase.weights.len(),
            Product::Bf16(points) => points.weight_bytes(),
        };
        4 * self.filters.weights.len() + product
    }

    /// Computes the layer: `activation(pointwise(activation(depthwise(input))))`, each with its bias.
    ///
    /// # Panics
    /// If a value does not have the extent and the number of blocks that the layer was prepared for.
    pub fn run(&self, input: Blocks<'_>, output: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        self.filters.check(input);
        self.strips(Input::Blocks(input), output, scratch);
    }

    /// The same of a first layer, prepared for pixels of fewer than 16 floats: of what [`crate::pack::pack_narrow`]
    /// would write, which every strip packs for itself.
    ///
    /// # Panics
    /// As [`SeparablePlan::run`], and if the layer was prepared for blocks.
    pub fn run_frames(&self, frames: Frames<'_>, output: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        let Extent { n, h, w } = self.filters.input;
        assert!(self.filters.pixel < LANES, "a first layer has narrow pixels");
        assert_eq!(frames.sources.len(), n * LANES, "sources");
        frames.frames.iter().for_each(|f| f.check(frames.batch, h * w));
        self.strips(Input::Frames(frames), output, scratch);
    }

    /// Floats of the frames' rows that a strip reads, 16 more at their end.
    fn packed_len(&self) -> usize {
        let rows = (self.strip[0] * self.filters.stride + 2).min(self.filters.input.h);
        rows * self.filters.input.w * self.filters.pixel + LANES
    }

    fn strips(&self, input: Input<'_>, output: &mut BlocksMut<'_, '_>, scratch: &Scratch) {
        let extent = self.filters.output;
        let own = self.scratch_len() + if matches!(input, Input::Frames(_)) { self.packed_len() } else { 0 };
        assert_eq!(output.extent, extent, "output extent");
        assert_eq!(output.planes.len(), self.blocks, "output blocks");
        let outputs = Disjoint::blocks(output);
        let strips = [extent.n, extent.h.div_ceil(self.strip[0]), extent.w.div_ceil(self.strip[1])];
        let parts = self.blocks.div_ceil(self.task_blocks);
        team::for_each(strips.iter().product::<usize>() * parts, |task| {
            let (strip, part) = (task / parts, task % parts);
            scratch.with(own, |scratch| {
                let strip = Strip {
                    plan: self,
                    input,
                    outputs: &outputs,
                    n: strip / strips[2] / strips[1],
                    rows: share(extent.h, strip / strips[2] % strips[1], strips[1]),
                    columns: share(extent.w, strip % strips[2], strips[2]),
                    blocks: part * self.task_blocks..self.blocks.min((part + 1) * self.task_blocks),
                    scratch: &mut scratch[..own],
                };
                simd::run(self.filters.isa, strip);
            });
        });
    }
}

/// What the first layer of a network reads.
#[derive(Clone, Copy)]
pub struct Frames<'a> {
    /// The frames of all pairs.
    pub frames: [Pixels<'a>; 2],
    /// How many pairs.
    pub batch: usize,
    /// Of each image 16 lanes, as in [`crate::pack::pack_narrow`].
    pub sources: &'a [Option<pack::Source>],
}

/// What a layer reads.
#[derive(Clone, Copy)]
enum Input<'a> {
    Blocks(Blocks<'a>),
    Frames(Frames<'a>),
}

/// One task: some points of one image, some output blocks.
struct Strip<'a> {
    plan: &'a SeparablePlan,
    input: Input<'a>,
    outputs: &'a [Disjoint<'a>],
    n: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    blocks: Range<usize>,
    scratch: &'a mut [f32],
}

impl Kernel for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (plan, extent) = (self.plan, self.plan.filters.output);
        let filters = &plan.filters;
        let (middle, rest) = self.scratch.split_at_mut(plan.middle_len());
        let (work, packed) = rest.split_at_mut(plan.scratch_len() - plan.middle_len());
        let mut begin = 0;
        if let Input::Frames(Frames { frames, batch, sources }) = self.input {
            let rows = filters.rows_read(&self.rows);
            let Extent { h, w, .. } = filters.input;
            begin = rows.start;
            let pack = Pack {
                frames,
                n: self.n % batch,
                pixels: h * w,
                first: begin * w,
                sources: &sources[self.n * LANES..][..LANES],
                channels: filters.pixel,
                out: &mut packed[..rows.len() * w * filters.pixel],
            };
            pack.run::<S>();
        }
        for block in 0..filters.blocks() {
            let band = Band {
                filters,
                plane: match self.input {
                    Input::Blocks(input) => filters.image(input, block, self.n),
                    Input::Frames(_) => packed,
                },
                begin,
                block,
                rows: self.rows.clone(),
                columns: self.columns.clone(),
                to: &mut middle[block * plan.pitch..],
            };
            band.run::<S>();
        }
        // Whole rows of the output lie one after the other, as those of the strip do.
        let whole = self.columns.len() == extent.w;
        let (lines, points) =
            if whole { (1, self.rows.len() * extent.w) } else { (self.rows.len(), self.columns.len()) };
        let line_at = |line: usize| {
            let begin = (self.n * extent.h + self.rows.start + line) * extent.w + self.columns.start;
            begin..begin + points
        };
        let product = match &plan.product {
            Product::F32(phase) => phase,
            Product::Bf16(product) => {
                for line in 0..lines {
                    let plane = |block: usize| &middle[block * plan.pitch + line * points * LANES..][..points * LANES];
                    let part = PointsOf {
                        at: line_at(line),
                        pixels: extent.n * extent.h * extent.w,
                        blocks: self.blocks.clone(),
                        activation: plan.activation,
                        outputs: self.outputs,
                    };
                    // SAFETY: inside a kernel; `run` checked the output, and no other task has these points and blocks.
                    unsafe { product.run::<S>(plane, part, work) };
                }
                return;
            }
        };
        let tiles = points.div_ceil(S::TILE);
        for first in self.blocks.clone().step_by(S::PANEL) {
            let blocks = S::PANEL.min(self.blocks.end - first);
            let mut sums = Sums([0.0; 2 * 14 * LANES]);
            for line in 0..lines {
                for t in 0..tiles {
                    let range = share(points, t, tiles);
                    let at = line_at(line).start + range.start;
                    let mut output = [std::ptr::null_mut(); 2];
                    for b in 0..blocks {
                        output[b] = self.outputs[first + b].at(at * LANES);
                    }
                    let finish = Finish {
                        output: &output,
                        residual: None,
                        bias: plan.bias[first * LANES..].as_ptr(),
                        step: LANES,
                        activation: plan.activation,
                    };
                    let from = (line * self.columns.len() + range.start) * LANES;
                    for (c, (runs, before)) in product.chunks.iter().enumerate() {
                        let weights = &product.weights[(first * product.depth + blocks * before) * LANES..];
                        let tile = Tile {
                            runs: &product.runs[runs.clone()],
                            source: Source::Patch(middle[from..].as_ptr()),
                            step: LANES,
                            weights: weights.as_ptr(),
                            next: weights.as_ptr(),
                            ahead: 0,
                            before: (c > 0).then_some(sums.0.as_ptr()),
                            sums: sums.0.as_mut_ptr(),
                            finish: (c + 1 == product.chunks.len()).then_some(finish),
                        };
                        // SAFETY: inside a kernel; the strip's intermediate holds the tile's points of every block, the
                        // weights were packed for these runs, `run` checked the output, and no other task has these
                        // points and blocks.
                        unsafe { tile.run::<S>(range.len(), blocks) };
                    }
                }
            }
        }
    }
}

/// A register tile in memory.
#[repr(align(64))]
struct Sums([f32; 2 * 14 * LANES]);

#[cfg(test)]
mod tests {
    use super::Isa;

    #[test]
    fn a_tile_fits_its_memory() {
        for isa in Isa::available() {
            let (tile, panel) = super::register_tile(isa);
            assert!(tile * panel <= 2 * 14);
        }
    }
}
