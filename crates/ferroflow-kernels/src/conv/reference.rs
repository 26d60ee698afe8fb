//! The definition, in f64, one output at a time: what every other engine is compared with.

use super::{Activation, ConvKind, ConvShape, Engine, Layer, Options, select::Candidate};
use crate::{Blocks, BlocksMut, LANES, Scratch};

/// Computes everything, slower than anything.
pub(super) fn candidates(layer: &Layer<'_>, _: Options) -> Vec<Candidate> {
    vec![Candidate {
        name: "reference".into(),
        seconds: layer.shape.flop(layer.input) / 1e8,
        exact: true,
        build: Box::new(|layer, _| Box::new(Reference::new(layer))),
    }]
}

pub(super) struct Reference {
    shape: ConvShape,
    lanes: Vec<Option<u32>>,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    activation: Activation,
}

impl Reference {
    pub fn new(layer: &Layer<'_>) -> Self {
        Self {
            shape: layer.shape,
            lanes: layer.lanes.to_vec(),
            weight: layer.weight.to_vec(),
            bias: layer.bias.map(<[f32]>::to_vec),
            activation: layer.activation,
        }
    }

    /// The inputs (row, column) and taps (kernel row, kernel column) that reach output `(y, x)`.
    fn taps(&self, size: (usize, usize), y: usize, x: usize) -> Vec<(usize, usize, usize, usize)> {
        let s = &self.shape;
        let along = |at: usize, size: usize, pad: usize| -> Vec<(usize, usize)> {
            (0..s.kernel)
                .filter_map(|k| {
                    let source = match s.kind {
                        ConvKind::Forward => (at * s.stride + k * s.dilation).checked_sub(pad)?,
                        ConvKind::Transposed => {
                            let twice = (at + 1).checked_sub(k)?;
                            if twice % 2 != 0 {
                                return None;
                            }
                            twice / 2
                        }
                    };
                    (source < size).then_some((source, k))
                })
                .collect()
        };
        let rows = along(y, size.0, s.padding[0]);
        let columns = along(x, size.1, s.padding[1]);
        rows.iter().flat_map(|&(sy, ky)| columns.iter().map(move |&(sx, kx)| (sy, sx, ky, kx))).collect()
    }
}

impl Engine for Reference {
    fn run(&self, input: Blocks<'_>, residual: Option<Blocks<'_>>, output: &mut BlocksMut<'_, '_>, _: &Scratch) {
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
                                    let (a, b, count) = match s.kind {
                                        ConvKind::Forward => (o, c, s.in_channels),
                                        ConvKind::Transposed => (c, o, s.out_channels),
                                    };
                                    let w = self.weight[((a * count + b) * s.kernel + ky) * s.kernel + kx];
                                    let v = plane[((n * from.h + sy) * from.w + sx) * self.lanes.len().min(LANES)
                                        + lane % LANES];
                                    sum += f64::from(w) * f64::from(v);
                                }
                            }
                            sum += self.bias.as_ref().map_or(0.0, |b| f64::from(b[o]));
                            sum += residual.map_or(0.0, |r| f64::from(r.planes[o / LANES][at + o % LANES]));
                        }
                        let slope = f64::from(self.activation.slope());
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
