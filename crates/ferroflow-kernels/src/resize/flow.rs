//! The last step of every network: its flow, at full size, each component a plane.

use super::{Resize, sampling::Fourfold};
use crate::{
    Blocks, Extent, Isa, LANES, Scratch,
    machine::passes::FLOW_ROWS,
    simd::{self, Kernel, Simd},
    team,
};

impl Resize {
    /// Resizes a flow (lanes 0 and 1 of the only block) into planar `[n][2][h][w]`, u times `scale[0]`, v times
    /// `scale[1]`.
    pub fn run_flow(&self, isa: Isa, flow: Blocks<'_>, scale: [f32; 2], out: &mut [f32], scratch: &Scratch) {
        assert_eq!(flow.extent, self.from, "extent");
        let Extent { n, h, w } = self.to;
        assert_eq!(out.len(), n * 2 * h * w, "output");
        if out.is_empty() {
            return;
        }
        let line = Rows::line(self.from.w);
        for (i, plane) in out.chunks_mut(h * w).enumerate() {
            let (image, channel) = (i / 2, i % 2);
            let flow = &flow.planes[0][image * self.from.h * self.from.w * LANES..];
            team::for_chunks_mut(plane, FLOW_ROWS * w, |i, out| {
                scratch.with(3 * line, |lines| {
                    let lines = &mut lines[..3 * line];
                    simd::run(
                        isa,
                        Rows { resize: self, flow, channel, scale: scale[channel], first: i * FLOW_ROWS, lines, out },
                    );
                });
            });
        }
    }
}

/// Some rows of one component.
struct Rows<'a> {
    resize: &'a Resize,
    /// The image's flow.
    flow: &'a [f32],
    channel: usize,
    scale: f32,
    /// The first row.
    first: usize,
    /// Two rows of the flow and their mixture, each with its first and last value repeated.
    lines: &'a mut [f32],
    out: &'a mut [f32],
}

impl Rows<'_> {
    /// Floats of a line: one value before the row, and vectors that begin up to two values behind each.
    fn line(width: usize) -> usize {
        (width + 2).next_multiple_of(LANES) + LANES
    }

    /// Row `y` of the flow, scaled.
    #[inline(always)]
    fn read(&self, y: usize, line: &mut [f32]) {
        let width = self.resize.from.w;
        let row = self.flow[y * width * LANES..][..width * LANES].chunks_exact(LANES);
        line[1..].iter_mut().zip(row).for_each(|(to, from)| *to = self.scale * from[self.channel]);
        line[0] = line[1];
        let last = line[width];
        line[width + 1..].fill(last);
    }
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        let Extent { w: width, .. } = self.resize.to;
        let from = self.resize.from.w;
        let (lines, out) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.out));
        let (top, rest) = lines.split_at_mut(Self::line(from));
        let (bottom, mixed) = rest.split_at_mut(Self::line(from));
        let (mut top, mut bottom) = ((usize::MAX, top), (usize::MAX, bottom));
        for (out, tap) in out.chunks_exact_mut(width).zip(&self.resize.rows[self.first..]) {
            if top.0 != tap.low && bottom.0 == tap.low {
                std::mem::swap(&mut top, &mut bottom);
            }
            for (held, y) in [(&mut top, tap.low), (&mut bottom, tap.high)] {
                if held.0 != y {
                    self.read(y, held.1);
                    held.0 = y;
                }
            }
            let down = S::splat(tap.weight);
            for at in (0..mixed.len()).step_by(LANES) {
                let (a, b) = (S::read(&top.1[at..]), S::read(&bottom.1[at..]));
                S::write(&mut mixed[at..], S::fma(S::sub(b, a), down, a));
            }
            let Some(Fourfold(shares)) = &self.resize.fourfold else {
                for (out, tap) in out.iter_mut().zip(&self.resize.columns) {
                    // Every pixel has a neighbour behind it in the line.
                    let (a, b) = (mixed[tap.low + 1], mixed[tap.low + 2]);
                    *out = a + (b - a) * tap.weight;
                }
                continue;
            };
            let [before, here, behind] = [0, 1, 2].map(|i| S::read(&shares[i]));
            for (out, x) in out.chunks_mut(LANES).zip((0..).step_by(LANES / 4)) {
                let four = |shift: usize| S::fourfold(mixed[x + shift..].first_chunk().expect("whole vectors"));
                let sum = S::fma(four(0), before, S::fma(four(1), here, S::mul(four(2), behind)));
                if out.len() == LANES {
                    S::write(out, sum);
                } else {
                    let mut last = [0.0; LANES];
                    S::write(&mut last, sum);
                    out.copy_from_slice(&last[..out.len()]);
                }
            }
        }
    }
}
