//! The weights' transform: `U = G g G^T`, in f64 and rounded once.

use rayon::prelude::*;

use super::{memory::Memory, scheme::Scheme};
use crate::{
    Buffer, Isa, LANES,
    conv::Layer,
    simd::{self, Kernel, Simd},
};

/// U of a layer; see [`Memory`] for its order.
pub fn transform(layer: &Layer<'_>, scheme: &Scheme, memory: &Memory, isa: Isa) -> Buffer {
    let mut u = Buffer::zeroed(memory.u_len);
    let u_start = Target(u.as_mut_ptr());
    (0..memory.vectors).into_par_iter().for_each(|vector| {
        simd::run(isa, Vector { layer, scheme, memory, u: &u_start, vector });
    });
    u
}

/// U of one vector of outputs. Plain code, compiled for each instruction set: the plan of a large network transforms
/// hundreds of millions of weights.
struct Vector<'a> {
    layer: &'a Layer<'a>,
    scheme: &'a Scheme,
    memory: &'a Memory,
    u: &'a Target,
    vector: usize,
}

impl Kernel for Vector<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { layer, scheme, memory, u, vector } = self;
        let blocks = layer.shape.out_channels.div_ceil(LANES);
        let (phase, block) = (vector / blocks, vector % blocks);
        let panel = memory.panels.partition_point(|p| p.0 <= vector) - 1;
        let (first, width) = memory.panels[panel];
        let side = scheme.points.len();
        for chunk in 0..memory.chunks() {
            let channels = memory.chunk(chunk);
            let lanes: usize = channels.iter().map(|c| c.1).sum();
            // Phases already placed at each point.
            let mut rank = [0; 64];
            for (i, input) in scheme.inputs.iter().enumerate() {
                let [rows, columns] = scheme.kernel(i, phase);
                let filter = [input.points[0].filter(rows.len()), input.points[1].filter(columns.len())];
                let [y0, x0] = input.points.map(|p| p.first_in(scheme.points));
                let mut before = 0;
                for &(plane, depth) in channels {
                    for lane in 0..depth {
                        // Lanes after the first pixel's are the next pixel's.
                        let (pixel, lane_of_pixel) = match layer.lanes.len() {
                            narrow @ ..LANES => (lane / narrow, lane % narrow),
                            _ => (0, plane * LANES + lane),
                        };
                        let Some(channel) = layer.lanes[lane_of_pixel] else {
                            continue;
                        };
                        let tap =
                            |y: usize, x: usize| taps(layer, block, channel as usize, rows[y], columns[x] + pixel);
                        filtered(&filter, tap, |y, x, values| {
                            let point = (y0 + y) * side + x0 + x;
                            let k = rank[point] * lanes + before + lane;
                            let at = memory.u(chunk, panel, point) + (k * width + vector - first) * LANES;
                            // SAFETY: each vector of outputs has its own places in U, all inside `u_len`.
                            unsafe { u.at(at).copy_from_nonoverlapping(values.as_ptr(), LANES) };
                        });
                    }
                    before += depth;
                }
                for y in 0..input.points[0].len() {
                    for x in 0..input.points[1].len() {
                        rank[(y0 + y) * side + x0 + x] += 1;
                    }
                }
            }
        }
    }
}

/// The weights of 16 outputs for one input channel and tap.
#[inline(always)]
fn taps(layer: &Layer<'_>, block: usize, channel: usize, y: usize, x: usize) -> [f64; LANES] {
    let s = &layer.shape;
    std::array::from_fn(|lane| {
        let out = block * LANES + lane;
        if out >= s.out_channels || x >= s.kernel {
            return 0.0;
        }
        f64::from(layer.weight[s.weight_index(out, channel, y, x)])
    })
}

/// `G g G^T` of 16 filters: hands each point's values to `put`.
#[inline(always)]
fn filtered(
    [rows, columns]: &[Vec<Vec<f64>>; 2],
    tap: impl Fn(usize, usize) -> [f64; LANES],
    mut put: impl FnMut(usize, usize, [f32; LANES]),
) {
    let mut half = [[[0.0; LANES]; 4]; 8];
    let taps = columns[0].len();
    for x in 0..taps {
        for k in 0..rows[0].len() {
            let values = tap(k, x);
            for (row, half) in rows.iter().zip(&mut half) {
                for (sum, value) in half[x].iter_mut().zip(values) {
                    *sum += row[k] * value;
                }
            }
        }
    }
    for (y, half) in half.iter().enumerate().take(rows.len()) {
        for (x, column) in columns.iter().enumerate() {
            let mut sums = [0.0; LANES];
            for (k, values) in half.iter().enumerate().take(taps) {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += column[k] * value;
                }
            }
            put(y, x, sums.map(|s| s as f32));
        }
    }
}

/// U, written by several threads at different places.
struct Target(*mut f32);

// SAFETY: see `transform`: no two threads write the same place.
unsafe impl Sync for Target {}

impl Target {
    /// # Safety
    /// `at` is inside the buffer.
    unsafe fn at(&self, at: usize) -> *mut f32 {
        // SAFETY: the caller's.
        unsafe { self.0.add(at) }
    }
}
