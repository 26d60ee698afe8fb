//! Convolution and transposed convolution as sums over taps.
//!
//! The padded input is split into one plane per phase of the stride, so that each tap reads at a fixed distance from its
//! output and a whole image is one run, whatever its width.

use ferroflow_net::graph::{Conv, Deconv, Padding, Shape};
use rayon::prelude::*;

use super::{Real, Tensor};

/// Outputs side by side in memory that are summed at once.
const LANES: usize = 8;
/// Output channels that are summed at once.
const OUTS: usize = 4;

/// Images padded with zeros and split by phase: `[N, C, stride * stride, rows, pitch]`, then slack for the last lanes.
struct Phases<T> {
    data: Vec<T>,
    /// Length of all phases of one channel.
    channel: usize,
    /// Length of one phase.
    phase: usize,
    /// Length of one row.
    pitch: usize,
}

fn split<T: Real>(x: &Tensor<T>, padding: Padding, stride: usize) -> Phases<T> {
    let [n, c, h, w] = x.shape;
    let rows = (h + padding.top + padding.bottom).div_ceil(stride);
    let pitch = (w + padding.left + padding.right).div_ceil(stride);
    let phase = rows * pitch;
    let channel = stride * stride * phase;
    let mut data = vec![T::default(); n * c * channel + LANES];
    for (plane, to) in x.data.chunks_exact(h * w).zip(data.chunks_exact_mut(channel)) {
        for (y, row) in (padding.top..).zip(plane.chunks_exact(w)) {
            for (x, &value) in (padding.left..).zip(row) {
                to[(y % stride * stride + x % stride) * phase + y / stride * pitch + x / stride] = value;
            }
        }
    }
    Phases { data, channel, phase, pitch }
}

/// Sums over `taps` (distances from the output within a channel) and channels, for [`OUTS`] output channels. `weights` is
/// `[channel][tap][OUTS]`.
fn sums<T: Real>(
    channels: &[T],
    channel: usize,
    taps: &[usize],
    weights: &[[T; OUTS]],
    length: usize,
) -> [Vec<T>; OUTS] {
    let mut out = [(); OUTS].map(|()| Vec::with_capacity(length.next_multiple_of(LANES)));
    for start in (0..length).step_by(LANES) {
        let mut acc = [[T::default(); LANES]; OUTS];
        for (c, weights) in weights.chunks_exact(taps.len()).enumerate() {
            let base = &channels[c * channel + start..];
            for (&tap, w) in taps.iter().zip(weights) {
                let x = &base[tap..][..LANES];
                for (acc, &w) in acc.iter_mut().zip(w) {
                    for (acc, &x) in acc.iter_mut().zip(x) {
                        *acc += w * x;
                    }
                }
            }
        }
        out.iter_mut().zip(acc).for_each(|(out, acc)| out.extend(acc));
    }
    out
}

/// The weights of output channels `first..first + count` as [`sums`] wants them; `at(out, in, tap)` finds one.
fn pack<T: Real>(ins: usize, taps: usize, count: usize, at: impl Fn(usize, usize, usize) -> f32) -> Vec<[T; OUTS]> {
    (0..ins * taps)
        .map(|i| {
            std::array::from_fn(|o| if o < count { T::of(f64::from(at(o, i / taps, i % taps))) } else { T::default() })
        })
        .collect()
}

pub(super) fn conv<T: Real>(x: &Tensor<T>, weight: &[f32], bias: Option<&[f32]>, c: &Conv, shape: Shape) -> Tensor<T> {
    let [batch, outs, oh, ow] = shape;
    let phases = split(x, c.padding, c.stride);
    let taps: Vec<usize> = (0..c.kernel[0] * c.kernel[1])
        .map(|tap| {
            let (y, x) = (tap / c.kernel[1] * c.dilation, tap % c.kernel[1] * c.dilation);
            let phase = y % c.stride * c.stride + x % c.stride;
            phase * phases.phase + y / c.stride * phases.pitch + x / c.stride
        })
        .collect();
    let (ins, group_outs) = (c.in_channels / c.groups, outs / c.groups);
    let blocks: Vec<(usize, usize)> = (0..batch * c.groups)
        .flat_map(|group| (0..group_outs).step_by(OUTS).map(move |first| (group, first)))
        .collect();
    let results: Vec<Vec<T>> = blocks
        .into_par_iter()
        .map(|(group, first)| {
            let count = OUTS.min(group_outs - first);
            let first_out = group % c.groups * group_outs + first;
            let packed =
                pack(ins, taps.len(), count, |o, i, tap| weight[((first_out + o) * ins + i) * taps.len() + tap]);
            let channels = &phases.data[group * ins * phases.channel..];
            let sums = sums(channels, phases.channel, &taps, &packed, (oh - 1) * phases.pitch + ow);
            let mut planes = Vec::with_capacity(count * oh * ow);
            for (o, sum) in sums.iter().take(count).enumerate() {
                let bias = T::of(bias.map_or(0.0, |b| f64::from(b[first_out + o])));
                for y in 0..oh {
                    planes.extend(sum[y * phases.pitch..][..ow].iter().map(|&v| v + bias));
                }
            }
            planes
        })
        .collect();
    Tensor { shape, data: results.concat() }
}

pub(super) fn deconv<T: Real>(
    x: &Tensor<T>,
    weight: &[f32],
    bias: Option<&[f32]>,
    d: &Deconv,
    shape: Shape,
) -> Tensor<T> {
    /// Per parity of the output: the taps that reach it, as (kernel index, padded input index less half the output's).
    const REACH: [[(usize, usize); 2]; 2] = [[(1, 1), (3, 0)], [(0, 2), (2, 1)]];
    let [batch, outs, oh, ow] = shape;
    let (h, w) = (oh / 2, ow / 2);
    let padded = split(x, Padding::all(1), 1);
    let blocks: Vec<(usize, usize)> =
        (0..batch).flat_map(|n| (0..outs).step_by(OUTS).map(move |first| (n, first))).collect();
    let results: Vec<Vec<T>> = blocks
        .into_par_iter()
        .map(|(n, first)| {
            let count = OUTS.min(outs - first);
            let channels = &padded.data[n * d.in_channels * padded.channel..];
            let mut planes = vec![T::default(); count * oh * ow];
            for (py, px) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let reach = |tap: usize| (REACH[py][tap / 2], REACH[px][tap % 2]);
                let taps: Vec<usize> = (0..4).map(|t| reach(t).0.1 * padded.pitch + reach(t).1.1).collect();
                let packed = pack(d.in_channels, 4, count, |o, i, tap| {
                    let ((ky, _), (kx, _)) = reach(tap);
                    weight[((i * outs + first + o) * 4 + ky) * 4 + kx]
                });
                let sums = sums(channels, padded.channel, &taps, &packed, (h - 1) * padded.pitch + w);
                for (o, sum) in sums.iter().take(count).enumerate() {
                    let bias = T::of(bias.map_or(0.0, |b| f64::from(b[first + o])));
                    for y in 0..h {
                        let row = &mut planes[o * oh * ow + (2 * y + py) * ow..][..ow];
                        for (x, &value) in sum[y * padded.pitch..][..w].iter().enumerate() {
                            row[2 * x + px] = value + bias;
                        }
                    }
                }
            }
            planes
        })
        .collect();
    Tensor { shape, data: results.concat() }
}
