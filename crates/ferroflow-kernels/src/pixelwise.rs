//! Several operations on each pixel in one pass: what lies between the networks of a stack.
//!
//! A stack enlarges a coarse flow, warps the second frame with it, and joins frames, warped frame, flow and error to
//! the next network's input. One by one these are eight passes over maps as large as the frames with a few channels
//! each; as a [`Program`] they are one, over rows of registers that stay in L1.

use std::ops::Range;

use crate::{
    Blocks, BlocksMut, Extent, Isa, LANES, Scratch,
    machine::passes::FIELD_RUN,
    pack::{Pixels, Source},
    resize::Resize,
    rows::{RowsMut, for_ranges},
    simd::{self, Kernel, Simd},
    warp::{Border, Corners},
};

/// Index of a register: one value per pixel.
pub type Register = usize;

/// One operation. It writes the register after those of all instructions before it.
#[derive(Clone, Debug)]
pub enum Instruction {
    /// A channel of a frame: one of the sources given at each run.
    Frame(usize),
    /// One lane of an input of the program's own size.
    Load {
        /// Which input.
        input: usize,
        /// `16 * block + lane`
        lane: usize,
    },
    /// One lane of a smaller input, enlarged.
    Enlarge {
        /// Which input.
        input: usize,
        /// `16 * block + lane`
        lane: usize,
        /// Which of the program's resizes.
        resize: usize,
    },
    /// Channels of a frame (the sources), sampled at `p + scale * flow(p)`; writes one register per source.
    Warp {
        /// All of one frame.
        sources: Range<usize>,
        /// What moves along x, then along y.
        flow: [Register; 2],
        /// Pixels per unit of flow.
        scale: f32,
        /// What lies outside.
        border: Border,
    },
    /// `a + factor * b`
    Combine {
        /// First operand.
        a: Register,
        /// Second operand.
        b: Register,
        /// On the second.
        factor: f32,
    },
    /// `scale * a + offset`
    Affine {
        /// Operand.
        a: Register,
        /// Factor.
        scale: f32,
        /// Summand.
        offset: f32,
    },
    /// `sqrt(max(sum of squares, floor))`
    Norm {
        /// Operands.
        of: Vec<Register>,
        /// Smallest sum.
        floor: f32,
    },
}

/// Instructions and which register each lane of the result holds.
#[derive(Clone, Debug, Default)]
pub struct Program {
    instructions: Vec<Instruction>,
    registers: usize,
    resizes: Vec<Resize>,
    outputs: Vec<Option<Register>>,
}

impl Program {
    /// Adds an instruction; its (first) register.
    pub fn push(&mut self, instruction: Instruction) -> Register {
        let to = self.registers;
        self.registers += match &instruction {
            Instruction::Warp { sources, .. } => sources.len(),
            _ => 1,
        };
        let written = |r: Register| assert!(r < to, "a register is read before it is written");
        match &instruction {
            Instruction::Warp { flow, .. } => flow.iter().copied().for_each(written),
            Instruction::Combine { a, b, .. } => [*a, *b].into_iter().for_each(written),
            Instruction::Affine { a, .. } => written(*a),
            Instruction::Norm { of, .. } => of.iter().copied().for_each(written),
            Instruction::Enlarge { resize, .. } => assert!(*resize < self.resizes.len(), "resize"),
            Instruction::Frame(_) | Instruction::Load { .. } => {}
        }
        self.instructions.push(instruction);
        to
    }

    /// Adds a resize for [`Instruction::Enlarge`].
    pub fn resize(&mut self, resize: Resize) -> usize {
        self.resizes.push(resize);
        self.resizes.len() - 1
    }

    /// Which register each lane of the result holds; 0 in the other lanes.
    pub fn set_outputs(&mut self, outputs: Vec<Option<Register>>) {
        assert!(outputs.iter().flatten().all(|&r| r < self.registers), "register");
        self.outputs = outputs;
    }

    /// Runs the program for every pixel. `sources` are those of the first image, then those of the second, ...
    pub fn run(
        &self,
        isa: Isa,
        frames: [Pixels<'_>; 2],
        sources: &[Source],
        inputs: &[Blocks<'_>],
        out: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        let Extent { n, h, w } = out.extent;
        assert_eq!(self.outputs.len(), LANES * out.planes.len(), "lanes");
        let per_image = sources.len() / n.max(1);
        if per_image > 0 {
            frames.iter().for_each(|f| f.check(n, h * w));
        }
        for instruction in &self.instructions {
            let (input, lane, extent) = match instruction {
                Instruction::Frame(source) => {
                    assert!(*source < per_image, "source");
                    continue;
                }
                Instruction::Warp { sources, .. } => {
                    assert!(sources.end <= per_image && !sources.is_empty(), "source");
                    continue;
                }
                Instruction::Load { input, lane } => (*input, *lane, out.extent),
                Instruction::Enlarge { input, lane, resize } => {
                    assert_eq!(self.resizes[*resize].to(), out.extent, "extent");
                    (*input, *lane, self.resizes[*resize].from())
                }
                _ => continue,
            };
            assert_eq!(inputs[input].extent, extent, "extent");
            assert!(inputs[input].planes[lane / LANES].len() >= extent.len(), "input block");
        }
        let rows = RowsMut::new(out);
        for_ranges(n * h, w * LANES * self.outputs.len().max(LANES), |range| {
            scratch.with(self.registers * FIELD_RUN, |registers| {
                simd::run(
                    isa,
                    Rows {
                        program: self,
                        frames,
                        sources,
                        per_image,
                        inputs,
                        extent: Extent { n, h, w },
                        rows: &rows,
                        range,
                        registers,
                    },
                );
            });
        });
    }
}

struct Rows<'a, 'b> {
    program: &'a Program,
    frames: [Pixels<'a>; 2],
    sources: &'a [Source],
    per_image: usize,
    inputs: &'a [Blocks<'a>],
    extent: Extent,
    rows: &'a RowsMut<'b>,
    range: Range<usize>,
    registers: &'a mut [f32],
}

impl Kernel for Rows<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Extent { h, w, .. } = self.extent;
        for i in self.range {
            let (n, y) = (i / h, i % h);
            let sources = &self.sources[n * self.per_image..][..self.per_image];
            for first in (0..w).step_by(FIELD_RUN) {
                let count = FIELD_RUN.min(w - first);
                let mut to = 0;
                for instruction in &self.program.instructions {
                    let (before, after) = self.registers.split_at_mut(to * FIELD_RUN);
                    let run = Run { frames: self.frames, sources, n, y, first, count, extent: self.extent, before };
                    to += run.execute(instruction, self.program, self.inputs, after);
                }
                for (block, lanes) in self.program.outputs.chunks(LANES).enumerate() {
                    // SAFETY: each `i` is one row of the output.
                    let out = unsafe { self.rows.row(block, n, y) };
                    let out = &mut out[first * LANES..][..count * LANES];
                    for (group, out) in out.chunks_mut(LANES * LANES).enumerate() {
                        let mut pixels = [S::zero(); LANES];
                        for (v, lane) in pixels.iter_mut().zip(lanes) {
                            if let Some(register) = lane {
                                *v = S::read(&self.registers[register * FIELD_RUN + group * LANES..]);
                            }
                        }
                        S::transpose(&mut pixels);
                        for (pixel, v) in out.chunks_exact_mut(LANES).zip(pixels) {
                            S::write(pixel, v);
                        }
                    }
                }
            }
        }
    }
}

/// Some neighbouring pixels of a row.
struct Run<'a> {
    frames: [Pixels<'a>; 2],
    sources: &'a [Source],
    n: usize,
    y: usize,
    first: usize,
    count: usize,
    extent: Extent,
    /// The registers written so far.
    before: &'a [f32],
}

impl Run<'_> {
    #[inline(always)]
    fn register(&self, r: Register) -> &[f32] {
        &self.before[r * FIELD_RUN..][..self.count]
    }

    /// Writes the next registers and returns their number.
    #[inline(always)]
    fn execute(&self, instruction: &Instruction, program: &Program, inputs: &[Blocks<'_>], after: &mut [f32]) -> usize {
        let (n, y, count) = (self.n, self.y, self.count);
        let Extent { h, w, .. } = self.extent;
        if let Instruction::Warp { sources, flow, scale, border } = instruction {
            self.warp(&self.sources[sources.clone()], *flow, *scale, *border, after);
            return sources.len();
        }
        let to = &mut after[..count];
        match instruction {
            Instruction::Frame(source) => {
                let Source { frame, channel, scale, offset } = self.sources[*source];
                self.frames[frame].row(n, channel, h * w, y * w + self.first, to);
                to.iter_mut().for_each(|v| *v = *v * scale + offset);
            }
            Instruction::Load { input, lane } => {
                let at = (n * h + y) * w + self.first;
                let pixels = inputs[*input].planes[lane / LANES][at * LANES..].chunks_exact(LANES);
                to.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = pixel[lane % LANES]);
            }
            Instruction::Enlarge { input, lane, resize } => {
                program.resizes[*resize].lane_row(inputs[*input], *lane, n, y, self.first, to);
            }
            Instruction::Combine { a, b, factor } => {
                let operands = self.register(*a).iter().zip(self.register(*b));
                to.iter_mut().zip(operands).for_each(|(to, (a, b))| *to = a + factor * b);
            }
            Instruction::Affine { a, scale, offset } => {
                to.iter_mut().zip(self.register(*a)).for_each(|(to, a)| *to = scale * a + offset);
            }
            Instruction::Norm { of, floor } => {
                to.fill(0.0);
                for &r in of {
                    to.iter_mut().zip(self.register(r)).for_each(|(to, v)| *to += v * v);
                }
                to.iter_mut().for_each(|v| *v = v.max(*floor).sqrt());
            }
            Instruction::Warp { .. } => {}
        }
        1
    }

    #[inline(always)]
    fn warp(&self, sources: &[Source], flow: [Register; 2], scale: f32, border: Border, after: &mut [f32]) {
        let mut corners = [Corners::default(); FIELD_RUN];
        let corners = &mut corners[..self.count];
        // The rule is chosen once, outside the loop over pixels.
        match border {
            Border::Replicate => self.corners(flow, scale, Border::Replicate, corners),
            Border::Zeros => self.corners(flow, scale, Border::Zeros, corners),
            Border::ZerosMasked(t) => self.corners(flow, scale, Border::ZerosMasked(t), corners),
            Border::Extrapolate => self.corners(flow, scale, Border::Extrapolate, corners),
            Border::Caffe => self.corners(flow, scale, Border::Caffe, corners),
        }
        let pixels = self.extent.h * self.extent.w;
        for (to, source) in after.chunks_mut(FIELD_RUN).zip(sources) {
            let (channel, to) = (source.channel, &mut to[..corners.len()]);
            match self.frames[source.frame] {
                Pixels::Planar(values) => {
                    let plane = &values[(self.n * 3 + channel) * pixels..][..pixels];
                    sample(source, corners, to, |at| plane[at as usize]);
                }
                Pixels::Rgb(images) => {
                    let bytes = &images[self.n][..3 * pixels];
                    sample(source, corners, to, |at| f32::from(bytes[3 * at as usize + channel]));
                }
            }
        }
    }

    #[inline(always)]
    fn corners(&self, flow: [Register; 2], scale: f32, border: Border, corners: &mut [Corners]) {
        let Extent { h, w, .. } = self.extent;
        let flows = self.register(flow[0]).iter().zip(self.register(flow[1]));
        for ((i, to), (dx, dy)) in corners.iter_mut().enumerate().zip(flows) {
            *to = border.corners(self.y as f32 + dy * scale, (self.first + i) as f32 + dx * scale, h, w);
        }
    }
}

/// The weighted sum of four pixels, scaled.
#[inline(always)]
fn sample(source: &Source, corners: &[Corners], to: &mut [f32], value: impl Fn(u32) -> f32) {
    for (to, Corners { at, weight }) in to.iter_mut().zip(corners) {
        let sum =
            weight[0] * value(at[0]) + weight[1] * value(at[1]) + weight[2] * value(at[2]) + weight[3] * value(at[3]);
        *to = source.scale * sum + source.offset * (weight[0] + weight[1] + weight[2] + weight[3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        elementwise, norm,
        resize::Sampling,
        testing::{Random, Value},
        warp::{Axes, warp},
    };

    /// A stack's input, against the same made by one kernel after the other.
    #[test]
    fn a_program_equals_its_kernels_one_by_one() {
        let mut random = Random::new(9);
        for (n, h, w, factor) in [(1, 4, 4, 4), (2, 12, 20, 4), (1, 8, 136, 2), (2, 6, 300, 2)] {
            let (small, extent) = (Extent { n, h: h / factor, w: w / factor }, Extent { n, h, w });
            let coarse = random.value(2, small);
            let images: Vec<Vec<f32>> = (0..2).map(|_| random.floats(n * 3 * h * w)).collect();
            let frames = [Pixels::Planar(&images[0]), Pixels::Planar(&images[1])];
            let source = |frame, channel| Source { frame, channel, scale: 0.5, offset: 0.25 };
            let sources: Vec<Source> = (0..n).flat_map(|_| (0..6).map(|c| source(c / 3, c % 3))).collect();
            for sampling in [Sampling::Nearest, Sampling::HalfPixel, Sampling::AlignCorners] {
                for border in [Border::Replicate, Border::Zeros] {
                    let resize = Resize::new(small, extent, sampling);
                    let mut program = Program::default();
                    let kept = program.resize(resize.clone());
                    let u = program.push(Instruction::Enlarge { input: 0, lane: 0, resize: kept });
                    let v = program.push(Instruction::Enlarge { input: 0, lane: 1, resize: kept });
                    let warped = program.push(Instruction::Warp { sources: 3..6, flow: [u, v], scale: 3.0, border });
                    let errors: Vec<Register> = (0..3)
                        .map(|c| {
                            let a = program.push(Instruction::Frame(c));
                            program.push(Instruction::Combine { a, b: warped + c, factor: -1.0 })
                        })
                        .collect();
                    let error = program.push(Instruction::Norm { of: errors, floor: 0.0 });
                    let loaded = program.push(Instruction::Load { input: 1, lane: 17 });
                    let u = program.push(Instruction::Affine { a: u, scale: 2.0, offset: 1.0 });
                    let mut outputs = vec![None; LANES];
                    outputs[..4].copy_from_slice(&[Some(warped + 1), Some(error), Some(loaded), Some(u)]);
                    program.set_outputs(outputs);
                    let other = random.value(20, extent);

                    for isa in Isa::available() {
                        let of_frame = |frame: usize| {
                            let buffers = crate::layout::to_blocks(&images[frame], 3, extent);
                            let plain = Value { channels: 3, extent, buffers };
                            let mut scaled = Value::zeroed(3, extent);
                            let mut factors = [[0.0; LANES]; 2];
                            factors[0][..3].fill(0.5);
                            factors[1][..3].fill(0.25);
                            let linear = crate::conv::Activation::Linear;
                            scaled.write(|out| {
                                elementwise::affine(isa, plain.blocks(), &factors[0], &factors[1], linear, out);
                            });
                            scaled
                        };
                        let (first, second) = (of_frame(0), of_frame(1));
                        let mut flow = Value::zeroed(2, extent);
                        flow.write(|out| resize.run(isa, coarse.blocks(), &[1.0; LANES], out));
                        let axes = Axes { x_lane: 0, y_lane: 1, scale: 3.0 };
                        let mut warped = Value::zeroed(3, extent);
                        warped.write(|out| warp(isa, second.blocks(), flow.blocks(), axes, border, out));
                        let mut difference = Value::zeroed(3, extent);
                        let linear = crate::conv::Activation::Linear;
                        difference.write(|out| {
                            elementwise::combine(isa, first.blocks(), -1.0, warped.blocks(), linear, out);
                        });
                        let mut error = Value::zeroed(1, extent);
                        error.write(|out| norm::channel_norm(isa, difference.blocks(), 0.0, out));

                        let mut out = Value::zeroed(4, extent);
                        let inputs = [coarse.blocks(), other.blocks()];
                        out.write(|out| program.run(isa, frames, &sources, &inputs, out, &Scratch::new()));
                        // Positions differ by a rounding, and samples by that times the image's slope.
                        out.assert_close(2e-5, |c, n, y, x| match c {
                            0 => warped.at(1, n, y, x),
                            1 => error.at(0, n, y, x),
                            2 => other.at(17, n, y, x),
                            _ => 2.0 * flow.at(0, n, y, x) + 1.0,
                        });
                    }
                }
            }
        }
    }
}
