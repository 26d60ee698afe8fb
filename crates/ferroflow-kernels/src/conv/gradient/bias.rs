//! The gradient of a bias: sums over the pixels.

use crate::{
    Blocks, Isa, LANES, Scratch,
    simd::{self, Kernel, Simd},
    team,
};

/// Pixels summed in f32; their sums are added in f64.
const RUN: usize = 256;
/// Pixels of a task.
const PIECE: usize = 64 * RUN;

/// Adds to `sums`, one per channel, the sum of each channel of `d_output` over the pixels.
pub fn bias_gradient(isa: Isa, d_output: Blocks<'_>, sums: &mut [f32], scratch: &Scratch) {
    let len = d_output.extent.len();
    let pieces = len.div_ceil(PIECE * LANES);
    let blocks = d_output.planes.len();
    assert!(sums.len() <= blocks * LANES, "channels");
    assert!(d_output.planes.iter().all(|p| p.len() >= len), "blocks");
    scratch.with_shared(blocks * pieces * LANES, |parts| {
        let parts = &mut parts[..blocks * pieces * LANES];
        team::for_chunks_mut(parts, LANES, |i, part| {
            let (block, piece) = (i / pieces, i % pieces);
            let end = len.min((piece + 1) * PIECE * LANES);
            simd::run(isa, Sum { pixels: &d_output.planes[block][piece * PIECE * LANES..end], part });
        });
        for (block, sums) in sums.chunks_mut(LANES).enumerate() {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let parts = parts[block * pieces * LANES..][..pieces * LANES].chunks(LANES);
                *sum += parts.map(|p| f64::from(p[lane])).sum::<f64>() as f32;
            }
        }
    });
}

struct Sum<'a> {
    pixels: &'a [f32],
    part: &'a mut [f32],
}

impl Kernel for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut total = [0.0f64; LANES];
        for run in self.pixels.chunks(RUN * LANES) {
            let mut sums = [S::zero(); 4];
            for pixels in run.chunks(4 * LANES) {
                for (sum, pixel) in sums.iter_mut().zip(pixels.chunks_exact(LANES)) {
                    *sum = S::add(*sum, S::read(pixel));
                }
            }
            let mut lanes = [0.0f32; LANES];
            S::write(&mut lanes, S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])));
            for (total, lane) in total.iter_mut().zip(lanes) {
                *total += f64::from(lane);
            }
        }
        for (part, total) in self.part.iter_mut().zip(total) {
            *part = total as f32;
        }
    }
}
