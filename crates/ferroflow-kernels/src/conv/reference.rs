//! The definition, in f64, one output at a time: what every other engine is compared with.

use super::{
    engine::{Addend, Candidate, Engine, Epilogue},
    layer::{ConvKind, ConvShape, Options},
    problem::{Filter, Problem},
};
use crate::{Blocks, BlocksMut, LANES, LaneMap, Scratch};

/// Computes everything, slower than anything.
pub(super) fn candidates(problem: &Problem, _: Options) -> Vec<Candidate> {
    vec![Candidate {
        name: "reference".into(),
        weights: 0,
        seconds: problem.shape.flop(problem.input) / 1e8,
        exact: true,
        build: Box::new(|problem, _| Box::new(Reference::new(problem))),
    }]
}

pub(super) struct Reference {
    shape: ConvShape,
    lanes: LaneMap,
    /// `[output lane][input][kernel row][kernel column]`
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Reference {
    pub fn new(problem: &Problem) -> Self {
        Self { shape: problem.shape, lanes: problem.lanes.clone(), weight: Vec::new(), bias: Vec::new() }
    }

    /// The inputs (row, column) and taps (kernel row, kernel column) that reach output `(y, x)`.
    fn taps(&self, size: (usize, usize), y: usize, x: usize) -> Vec<(usize, usize, usize, usize)> {
        let s = &self.shape;
        let along = |at: usize, size: usize, axis: usize| -> Vec<(usize, usize)> {
            let pad = s.padding[axis];
            (0..s.kernel[axis])
                .filter_map(|k| {
                    let source = match s.kind {
                        ConvKind::Forward => (at * s.stride + k * s.dilation).checked_sub(pad)?,
                        ConvKind::Transposed => {
                            let strides = (at + pad).checked_sub(k * s.dilation)?;
                            if strides % s.stride != 0 {
                                return None;
                            }
                            strides / s.stride
                        }
                    };
                    (source < size).then_some((source, k))
                })
                .collect()
        };
        let rows = along(y, size.0, 0);
        let columns = along(x, size.1, 1);
        rows.iter().flat_map(|&(sy, ky)| columns.iter().map(move |&(sx, kx)| (sy, sx, ky, kx))).collect()
    }
}

impl Engine for Reference {
    fn set_weights(&mut self, filter: &Filter<'_>, bias: Option<&[f32]>) {
        let s = &self.shape;
        self.weight.clear();
        for o in 0..s.out_channels {
            for i in 0..s.in_channels {
                let taps = (0..s.kernel[0]).flat_map(|y| (0..s.kernel[1]).map(move |x| (y, x)));
                self.weight.extend(taps.map(|(y, x)| filter.at(o, i, y, x)));
            }
        }
        self.bias = bias.map_or(vec![0.0; s.out_channels], <[f32]>::to_vec);
    }

    fn run(&self, input: Blocks<'_>, epilogue: Epilogue<'_>, output: &mut BlocksMut<'_, '_>, _: &Scratch) {
        let (s, from, to) = (&self.shape, input.extent, output.extent);
        for n in 0..to.n {
            for y in 0..to.h {
                for x in 0..to.w {
                    let taps = self.taps((from.h, from.w), y, x);
                    let at = ((n * to.h + y) * to.w + x) * LANES;
                    for o in 0..output.planes.len() * LANES {
                        let mut sum = 0.0f64;
                        if o < s.out_channels {
                            for (lane, c) in
                                self.lanes.iter().enumerate().filter_map(|(l, c)| c.map(|c| (l, c as usize)))
                            {
                                let plane = input.planes[lane / LANES];
                                for &(sy, sx, ky, kx) in &taps {
                                    let w =
                                        self.weight[((o * s.in_channels + c) * s.kernel[0] + ky) * s.kernel[1] + kx];
                                    let v = plane[((n * from.h + sy) * from.w + sx) * self.lanes.len().min(LANES)
                                        + lane % LANES];
                                    sum += f64::from(w) * f64::from(v);
                                }
                            }
                            sum += f64::from(self.bias[o]);
                            sum = sum.max(f64::from(epilogue.activation.slope_before()) * sum);
                            sum += match epilogue.addend {
                                Addend::Nothing => 0.0,
                                Addend::Value(value) => f64::from(value.planes[o / LANES][at + o % LANES]),
                                Addend::Output => f64::from(output.planes[o / LANES][at + o % LANES]),
                            };
                        }
                        let slope = f64::from(epilogue.activation.slope());
                        output.planes[o / LANES][at + o % LANES] = sum.max(slope * sum) as f32;
                    }
                }
            }
        }
    }

    fn name(&self) -> String {
        "reference".into()
    }

    fn scratch_len(&self) -> usize {
        0
    }

    fn weight_bytes(&self) -> usize {
        4 * self.weight.len()
    }
}
