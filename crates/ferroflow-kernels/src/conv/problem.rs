//! A layer as the engines see it: where its values lie, and where the weight of a tap is; for the adjoint of a layer
//! (its input gradient) likewise.

use super::layer::{ConvKind, ConvShape, Layer};
use crate::{Extent, LANES, LaneMap, lane_map, machine::weights::INPUTS_AHEAD, simd::Simd};

/// The taps along one axis: (distance from the window's beginning, kernel index).
pub type Taps = Vec<(usize, usize)>;

/// One phase of a problem: its first output, and its taps along rows and columns.
pub type PhaseTaps = ([usize; 2], Taps, Taps);

/// What an engine prepares for. `ConvKind::Transposed` with any kernel, stride, dilation and padding is the adjoint of
/// the convolution with these, from its outputs to an input of extent `output`.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// Of an adjoint, `out_channels` counts lanes: those between the parts of a concatenation are outputs of weight 0.
    pub shape: ConvShape,
    pub input: Extent,
    pub output: Extent,
    /// As in [`Layer`].
    pub lanes: LaneMap,
}

impl Problem {
    pub fn new(layer: &Layer<'_>) -> Self {
        Self {
            shape: layer.shape,
            input: layer.input,
            output: layer.shape.output(layer.input),
            lanes: layer.lanes.to_vec(),
        }
    }

    /// The adjoint of a layer whose input lies in `lanes`.
    pub fn adjoint(shape: ConvShape, input: Extent, lanes: &[Option<u32>]) -> Self {
        let kind = match shape.kind {
            ConvKind::Forward => ConvKind::Transposed,
            ConvKind::Transposed => ConvKind::Forward,
        };
        Self {
            shape: ConvShape { kind, in_channels: shape.out_channels, out_channels: lanes.len(), ..shape },
            input: shape.output(input),
            output: input,
            lanes: lane_map(&[shape.out_channels]),
        }
    }

    /// Its phases; pixels from the windows' beginning to their point, and pixels that they span.
    pub fn phases(&self) -> (Vec<PhaseTaps>, [isize; 2], [usize; 2]) {
        let s = &self.shape;
        match s.kind {
            ConvKind::Forward => {
                let [rows, columns] = s.kernel.map(|kernel| (0..kernel).map(|k| (k * s.dilation, k)).collect());
                let before = [s.padding[0] as isize, s.padding[1] as isize];
                (vec![([0, 0], rows, columns)], before, s.kernel.map(|kernel| s.dilation * (kernel - 1) + 1))
            }
            ConvKind::Transposed => {
                let [(rows, top), (columns, left)] = [0, 1].map(|axis| self.residues(axis));
                let span = |taps: &[Taps]| taps.iter().flatten().map(|t| t.0 + 1).max().unwrap_or(1);
                let phases = (0..s.stride)
                    .flat_map(|y| (0..s.stride).map(move |x| [y, x]))
                    .map(|first| (first, rows[first[0]].clone(), columns[first[1]].clone()));
                (phases.collect(), [-top, -left], [span(&rows), span(&columns)])
            }
        }
    }

    /// Of a transposed problem, per axis: the taps of the outputs of each residue modulo the stride, as (distance from the
    /// window's beginning, kernel index), and the window's beginning relative to the residue's point.
    pub fn residues(&self, axis: usize) -> (Vec<Taps>, isize) {
        let s = &self.shape;
        let (stride, pad) = (s.stride as isize, s.padding[axis] as isize);
        let offsets: Vec<Vec<(isize, usize)>> = (0..stride)
            .map(|residue| {
                // Output `stride q + residue` is reached by tap k from input q + offset.
                let offset = |k: usize| residue + pad - (k * s.dilation) as isize;
                (0..s.kernel[axis])
                    .rev()
                    .filter(|&k| offset(k) % stride == 0)
                    .map(|k| (offset(k) / stride, k))
                    .collect()
            })
            .collect();
        let first = offsets.iter().flatten().map(|o| o.0).min().unwrap_or(0);
        let taps = |phase: Vec<(isize, usize)>| phase.into_iter().map(|(o, k)| ((o - first) as usize, k)).collect();
        (offsets.into_iter().map(taps).collect(), first)
    }
}

/// The weights of a problem.
#[derive(Clone, Copy)]
pub(super) struct Filter<'a> {
    pub weight: &'a [f32],
    /// Rows and columns.
    pub kernel: [usize; 2],
    /// Floats from the taps of an output to those of the next, and of an input.
    pub output_step: usize,
    pub input_step: usize,
    /// The channel of each output lane.
    pub outputs: &'a [Option<u32>],
}

impl<'a> Filter<'a> {
    /// `outputs` is the lane map of the output; its channels are those of `shape`, whatever direction it is run in.
    pub fn new(shape: &ConvShape, weight: &'a [f32], outputs: &'a [Option<u32>]) -> Self {
        Self::of(shape.kind, shape.in_channels, shape.out_channels, shape.kernel, weight, outputs)
    }

    /// The weights of `shape` as its adjoint takes them; `outputs` is the lane map of the layer's input.
    pub fn adjoint(shape: &ConvShape, weight: &'a [f32], outputs: &'a [Option<u32>]) -> Self {
        let forward = Self::new(shape, weight, outputs);
        Self { output_step: forward.input_step, input_step: forward.output_step, ..forward }
    }

    fn of(
        kind: ConvKind,
        inputs: usize,
        channels: usize,
        kernel: [usize; 2],
        weight: &'a [f32],
        outputs: &'a [Option<u32>],
    ) -> Self {
        let taps = kernel[0] * kernel[1];
        let (output_step, input_step) = match kind {
            ConvKind::Forward => (inputs * taps, taps),
            ConvKind::Transposed => (taps, channels * taps),
        };
        assert!(weight.len() >= inputs * channels * taps, "weights");
        Self { weight, kernel, output_step, input_step, outputs }
    }

    /// One weight; 0 for a lane without a channel.
    pub fn at(&self, lane: usize, input: usize, ky: usize, kx: usize) -> f32 {
        self.outputs[lane].map_or(0.0, |output| {
            self.weight[output as usize * self.output_step + input * self.input_step + ky * self.kernel[1] + kx]
        })
    }

    /// Sixteen taps (row-major) from `first` on, of one input, each a vector of the output lanes of a block. What is
    /// past the last tap is anything.
    #[inline(always)]
    pub fn taps<S: Simd>(&self, block: usize, input: usize, first: usize) -> [S::V; LANES] {
        let mut rows = [S::zero(); LANES];
        for (lane, row) in rows.iter_mut().enumerate() {
            let Some(output) = self.outputs.get(block * LANES + lane).copied().flatten() else { continue };
            let at = output as usize * self.output_step + input * self.input_step + first;
            S::prefetch_near(self.weight.as_ptr().wrapping_add(at + INPUTS_AHEAD * self.input_step));
            let from = &self.weight[at..];
            *row = if from.len() >= LANES {
                S::read(from)
            } else {
                let mut last = [0.0f32; LANES];
                last[..from.len()].copy_from_slice(from);
                S::read(&last)
            };
        }
        S::transpose(&mut rows);
        rows
    }
}
