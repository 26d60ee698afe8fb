//! Depthwise convolution with kernels of any size, stride 1, and its gradients: ConvNeXt's 7x7.
//!
//! Neighbouring outputs of a row wait in registers while all taps pass by: one load to each multiply-add.

use std::ops::Range;

use crate::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, LaneMap, Update,
    activation::activate_in_place,
    conv::Activation,
    layout::check_lanes,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
    team,
};

/// Outputs whose products one task sums for the gradient of the weights, about.
const STRIP: usize = 4096;

/// A depthwise layer of stride 1 and the size it runs at.
#[derive(Clone, Copy)]
pub struct LargeDepthwise<'a> {
    /// Of the input.
    pub input: Extent,
    /// Which channel each lane of the input blocks holds ([`crate::lane_map`]).
    pub lanes: &'a [Option<u32>],
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Zeros above, left, below, right.
    pub padding: [usize; 4],
    /// `[channels, rows, columns]`
    pub weight: &'a [f32],
    /// `[channels]`
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

/// Such a layer ready to run. Its output has the lanes of its input.
pub struct LargeDepthwisePlan {
    isa: Isa,
    filters: Filters,
    /// The layer from its outputs to its inputs: the taps in reverse, without bias.
    adjoint: Filters,
    lanes: LaneMap,
    activation: Activation,
}

/// The filters of all blocks, and where their inputs are.
struct Filters {
    input: Extent,
    output: Extent,
    kernel: [usize; 2],
    /// Zeros above and left of the image; fewer than none where the first outputs lie inside.
    before: [isize; 2],
    /// `[block][bias, then taps][16]`
    weights: Buffer,
}

impl LargeDepthwisePlan {
    /// Packs the weights.
    ///
    /// # Panics
    /// If the kernel does not fit into the padded input, or weights are missing.
    pub fn new(layer: &LargeDepthwise<'_>, isa: Isa) -> Self {
        let LargeDepthwise { input, lanes, kernel, padding: [top, left, bottom, right], weight, bias, activation } =
            *layer;
        let taps = kernel[0] * kernel[1];
        assert!(taps > 0, "a kernel has taps");
        input.len();
        check_lanes(lanes, weight.len() / taps);
        let out = |size: usize, pads: [usize; 2], kernel: usize| {
            let room = size.checked_add(pads[0])?.checked_add(pads[1])?.checked_sub(kernel)?;
            room.checked_add(1)
        };
        let (h, w) = (out(input.h, [top, bottom], kernel[0]), out(input.w, [left, right], kernel[1]));
        let (Some(h), Some(w)) = (h, w) else { panic!("no kernel of {kernel:?} fits into {input:?}") };
        let output = Extent { n: input.n, h, w };
        output.len();
        let blocks = lanes.len().div_ceil(LANES);
        let mut weights = [Buffer::zeroed(blocks * (1 + taps) * LANES), Buffer::zeroed(blocks * (1 + taps) * LANES)];
        for (lane, channel) in lanes.iter().enumerate() {
            let Some(channel) = channel.map(|c| c as usize) else { continue };
            let at = lane / LANES * (1 + taps) * LANES + lane % LANES;
            weights[0][at] = bias.map_or(0.0, |bias| bias[channel]);
            for tap in 0..taps {
                let value = weight[channel * taps + tap];
                weights[0][at + (1 + tap) * LANES] = value;
                weights[1][at + (taps - tap) * LANES] = value;
            }
        }
        let [forward, reverse] = weights;
        let before = [top as isize, left as isize];
        let reversed = [0, 1].map(|axis| kernel[axis] as isize - 1 - before[axis]);
        Self {
            isa,
            filters: Filters { input, output, kernel, before, weights: forward },
            adjoint: Filters { input: output, output: input, kernel, before: reversed, weights: reverse },
            lanes: lanes.to_vec(),
            activation,
        }
    }

    /// Extent of the output.
    pub fn output(&self) -> Extent {
        self.filters.output
    }

    /// Bytes of prepared weights.
    pub fn weight_bytes(&self) -> usize {
        4 * (self.filters.weights.len() + self.adjoint.weights.len())
    }

    /// Computes the layer.
    ///
    /// # Panics
    /// If a value does not have the extent and the blocks that the layer was prepared for; so do the gradients.
    pub fn run(&self, input: Blocks<'_>, output: &mut BlocksMut<'_, '_>) {
        self.filters.run(self.isa, input, self.activation.slope(), Update::Overwrite, output);
        if let Activation::Smooth(curve) = self.activation {
            let channels = self.lanes.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            activate_in_place(self.isa, curve, channels, output);
        }
    }

    /// The gradient of the input, from that of the result before its activation.
    pub fn input_gradient(&self, d: Blocks<'_>, update: Update, d_input: &mut BlocksMut<'_, '_>) {
        self.adjoint.run(self.isa, d, 1.0, update, d_input);
    }

    /// Adds the gradient of the weights, `[channels, rows, columns]`, from that of the result before its activation.
    pub fn weight_gradient(&self, input: Blocks<'_>, d: Blocks<'_>, gradient: &mut [f32]) {
        let filters = &self.filters;
        filters.check(input);
        assert_eq!((d.extent, d.planes.len()), (filters.output, input.planes.len()), "the output's gradient");
        assert!(d.planes.iter().all(|plane| plane.len() >= d.extent.len()), "a block of the output's gradient");
        let taps = filters.kernel[0] * filters.kernel[1];
        let Extent { n: images, h, w } = filters.output;
        let strips = h.div_ceil(STRIP.div_ceil(w.max(1)));
        let tasks = input.planes.len() * images * strips;
        let sums: Vec<Vec<f32>> = team::map(0..tasks, |task| {
            let (block, n, strip) = (task / strips / images, task / strips % images, task % strips);
            let rows = strip * h / strips..(strip + 1) * h / strips;
            let [from, g] = [(input, filters.input), (d, filters.output)].map(|(value, extent)| {
                let len = extent.h * extent.w * LANES;
                &value.planes[block][n * len..][..len]
            });
            simd::run(self.isa, Products { filters, input: from, d: g, rows })
        })
        .collect();
        // In the order of images and rows, whatever the threads.
        for (lane, channel) in self.lanes.iter().enumerate() {
            let Some(channel) = channel.map(|c| c as usize) else { continue };
            let parts = &sums[lane / LANES * images * strips..][..images * strips];
            for tap in 0..taps {
                let total: f64 = parts.iter().map(|part| f64::from(part[tap * LANES + lane % LANES])).sum();
                gradient[channel * taps + tap] += total as f32;
            }
        }
    }
}

impl Filters {
    fn check(&self, input: Blocks<'_>) {
        assert_eq!(input.extent, self.input, "input extent");
        let taps = self.kernel[0] * self.kernel[1];
        assert_eq!(input.planes.len() * (1 + taps) * LANES, self.weights.len(), "input blocks");
        assert!(input.planes.iter().all(|plane| plane.len() >= self.input.len()), "an input block");
    }

    fn run(&self, isa: Isa, input: Blocks<'_>, slope: f32, update: Update, output: &mut BlocksMut<'_, '_>) {
        self.check(input);
        assert_eq!(output.extent, self.output, "output extent");
        assert_eq!(output.planes.len(), input.planes.len(), "output blocks");
        let Extent { n: images, h, w } = self.output;
        let rows = RowsMut::new(output);
        let work = w * LANES * self.kernel[0];
        for_ranges(input.planes.len() * images * h, work, |range| {
            for i in range {
                let (block, n, y) = (i / h / images, i / h % images, i % h);
                let image = self.input.h * self.input.w * LANES;
                let image = &input.planes[block][n * image..][..image];
                // SAFETY: each `i` is one row of one block.
                let to = unsafe { rows.row(block, n, y) };
                simd::run(isa, Row { filters: self, image, block, y, slope, update, to });
            }
        });
    }

    /// The taps along an axis that lie inside the image for the output at `at`.
    #[inline(always)]
    fn inside(&self, axis: usize, at: usize) -> Range<usize> {
        let size = [self.input.h, self.input.w][axis] as isize;
        let first = at as isize - self.before[axis];
        let kernel = self.kernel[axis] as isize;
        let start = (-first).clamp(0, kernel);
        start as usize..(size - first).clamp(start, kernel) as usize
    }
}

/// One row of the output of one block.
struct Row<'a> {
    filters: &'a Filters,
    image: &'a [f32],
    block: usize,
    y: usize,
    slope: f32,
    update: Update,
    to: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        match S::ISA {
            Isa::Avx512 => self.across::<S, 14>(),
            Isa::Avx2 => self.across::<S, 5>(),
            Isa::Neon => self.across::<S, 6>(),
            Isa::Portable => self.across::<S, 2>(),
        }
    }
}

impl Row<'_> {
    #[inline(always)]
    fn across<S: Simd, const T: usize>(mut self) {
        let f = self.filters;
        let width = f.output.w;
        // Outputs all of whose taps lie in the image.
        let inner = f.before[1].clamp(0, width as isize) as usize;
        let outer = f.input.w as isize + f.before[1] - f.kernel[1] as isize + 1;
        let outer = outer.clamp(inner as isize, width as isize) as usize;
        for x in (0..inner).chain(outer..width) {
            let columns = f.inside(1, x);
            self.outputs::<S, 1>(x, columns);
        }
        let mut x = inner;
        while x + T <= outer {
            self.outputs::<S, T>(x, 0..f.kernel[1]);
            x += T;
        }
        while x < outer {
            self.outputs::<S, 1>(x, 0..f.kernel[1]);
            x += 1;
        }
    }

    /// `T` neighbouring outputs from `x` on, of these columns of the kernel, which lie inside the image for all of them.
    #[inline(always)]
    fn outputs<S: Simd, const T: usize>(&mut self, x: usize, columns: Range<usize>) {
        let f = self.filters;
        let weights = &f.weights[self.block * (1 + f.kernel[0] * f.kernel[1]) * LANES..];
        let mut sums = [S::read(weights); T];
        if self.update == Update::Add {
            for (t, sum) in sums.iter_mut().enumerate() {
                *sum = S::add(*sum, S::read(&self.to[(x + t) * LANES..]));
            }
        }
        if !columns.is_empty() {
            let first = (x as isize - f.before[1] + columns.start as isize) as usize;
            for ky in f.inside(0, self.y) {
                let row = (self.y as isize - f.before[0] + ky as isize) as usize * f.input.w;
                let pixels = &self.image[(row + first) * LANES..][..(columns.len() + T - 1) * LANES];
                let taps = &weights[(1 + ky * f.kernel[1] + columns.start) * LANES..][..columns.len() * LANES];
                for (kx, tap) in taps.chunks_exact(LANES).enumerate() {
                    let tap = S::read(tap);
                    // SAFETY: `pixels` has `T - 1` more than there are taps.
                    unsafe {
                        let from = pixels.as_ptr().add(kx * LANES);
                        for t in 0..T {
                            sums[t] = S::fma(S::load(from.add(t * LANES)), tap, sums[t]);
                        }
                    }
                }
            }
        }
        let slope = S::splat(self.slope);
        let linear = self.slope == 1.0;
        for (to, sum) in self.to[x * LANES..].chunks_exact_mut(LANES).zip(sums) {
            S::write(to, if linear { sum } else { S::max(sum, S::mul(sum, slope)) });
        }
    }
}

/// For each tap, sums over some rows of the output of its gradient times the input.
struct Products<'a> {
    filters: &'a Filters,
    input: &'a [f32],
    d: &'a [f32],
    rows: Range<usize>,
}

impl Kernel for Products<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let f = self.filters;
        let [kernel_rows, kernel_columns] = f.kernel;
        let mut sums = vec![0.0f32; kernel_rows * kernel_columns * LANES];
        for y in self.rows {
            for ky in f.inside(0, y) {
                let row = (y as isize - f.before[0] + ky as isize) as usize * f.input.w;
                for kx in 0..kernel_columns {
                    // Outputs that this tap reaches from inside the image.
                    let start = (f.before[1] - kx as isize).clamp(0, f.output.w as isize);
                    let end = (f.input.w as isize + f.before[1] - kx as isize).clamp(start, f.output.w as isize);
                    let count = (end - start) as usize;
                    if count == 0 {
                        continue;
                    }
                    let first = (start - f.before[1] + kx as isize) as usize;
                    let x = &self.input[(row + first) * LANES..][..count * LANES];
                    let d = &self.d[(y * f.output.w + start as usize) * LANES..][..count * LANES];
                    let mut parts = [S::zero(); 4];
                    for (x, d) in x.chunks(4 * LANES).zip(d.chunks(4 * LANES)) {
                        for (part, (x, d)) in parts.iter_mut().zip(x.chunks_exact(LANES).zip(d.chunks_exact(LANES))) {
                            *part = S::fma(S::read(x), S::read(d), *part);
                        }
                    }
                    let sum = &mut sums[(ky * kernel_columns + kx) * LANES..][..LANES];
                    let [a, b, c, e] = parts;
                    S::write(sum, S::add(S::read(sum), S::add(S::add(a, b), S::add(c, e))));
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        activation::Smooth,
        lane_map,
        testing::{Random, Value, both_updates, on_any_threads},
    };

    #[test]
    fn layers_and_their_gradients_follow_the_formulas() {
        let mut random = Random::new(91);
        for round in 0..40 {
            let channels = 1 + random.below(40);
            let kernel = [1 + random.below(8), 1 + random.below(8)];
            let padding: [usize; 4] = if round % 2 == 0 {
                std::array::from_fn(|i| kernel[i % 2] / 2)
            } else {
                std::array::from_fn(|i| random.below(kernel[i % 2] + 2))
            };
            let size = |random: &mut Random, axis: usize, most: usize| {
                (kernel[axis] + random.below(most)).saturating_sub(padding[axis] + padding[axis + 2]).max(1)
            };
            let input = Extent {
                n: 1 + random.below(2),
                h: size(&mut random, 0, 12),
                w: size(&mut random, 1, if round % 5 == 0 { 90 } else { 24 }),
            };
            let (weight, bias) = (random.floats(channels * kernel[0] * kernel[1]), random.floats(channels));
            let x = random.value(channels, input);
            let activation =
                [Activation::Linear, Activation::LeakyRelu(0.1), Activation::Smooth(Smooth::Sigmoid)][round % 3];
            let lanes = lane_map(&[channels]);
            let layer = LargeDepthwise {
                input,
                lanes: &lanes,
                kernel,
                padding,
                weight: &weight,
                bias: Some(&bias),
                activation,
            };
            // The value that tap (ky, kx) of output (y, x) reads.
            let read = |value: &Value, c: usize, n: usize, y: isize, x: isize| {
                let inside = (0..value.extent.h as isize).contains(&y) && (0..value.extent.w as isize).contains(&x);
                if inside { f64::from(value.at(c, n, y as usize, x as usize)) } else { 0.0 }
            };
            let taps = || (0..kernel[0] * kernel[1]).map(|tap| (tap, tap / kernel[1], tap % kernel[1]));
            let at = |c: usize, tap: usize| f64::from(weight[c * kernel[0] * kernel[1] + tap]);
            let from = |axis: usize, output: usize, k: usize| (output + k) as isize - padding[axis] as isize;
            for isa in Isa::available() {
                let plan = LargeDepthwisePlan::new(&layer, isa);
                let output = plan.output();
                let g = random.value(channels, output);
                let mut y = Value::zeroed(channels, output);
                y.write(|out| plan.run(x.blocks(), out));
                y.assert_close(1e-5, |c, n, i, j| {
                    let products =
                        taps().map(|(tap, ky, kx)| at(c, tap) * read(&x, c, n, from(0, i, ky), from(1, j, kx)));
                    let sum = f64::from(bias[c]) + products.sum::<f64>();
                    match activation {
                        Activation::Linear => sum as f32,
                        Activation::LeakyRelu(slope) => sum.max(f64::from(slope) * sum) as f32,
                        Activation::Smooth(_) => (1.0 / (1.0 + (-sum).exp())) as f32,
                        Activation::AroundSum { .. } => unreachable!("nothing is added"),
                    }
                });
                let d = both_updates(channels, input, |update, d| plan.input_gradient(g.blocks(), update, d));
                d.assert_close(1e-5, |c, n, i, j| {
                    let back = |axis: usize, input: usize, k: usize| (input + padding[axis]) as isize - k as isize;
                    let products =
                        taps().map(|(tap, ky, kx)| at(c, tap) * read(&g, c, n, back(0, i, ky), back(1, j, kx)));
                    products.sum::<f64>() as f32
                });
                let whole = Extent { n: 1, h: kernel[0], w: kernel[1] };
                let sums = on_any_threads(|| {
                    let mut sums = vec![1.0; weight.len()];
                    plan.weight_gradient(x.blocks(), g.blocks(), &mut sums);
                    vec![Value { channels, extent: whole, buffers: crate::layout::to_blocks(&sums, channels, whole) }]
                });
                sums[0].assert_close(1e-4, |c, _, ky, kx| {
                    let mut sum = 1.0;
                    for k in 0..output.n * output.h * output.w {
                        let (n, i, j) = (k / output.w / output.h, k / output.w % output.h, k % output.w);
                        sum += f64::from(g.at(c, n, i, j)) * read(&x, c, n, from(0, i, ky), from(1, j, kx));
                    }
                    sum as f32
                });
            }
        }
    }
}
