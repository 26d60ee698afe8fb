//! The weights' transform: `U = G g G^T`, in f64 and rounded once.

use rayon::prelude::*;

use super::{memory::Memory, scheme::Scheme};
use crate::{
    Isa, LANES,
    conv::Filter,
    simd::{self, Kernel, Simd},
};

/// Fills U; see [`Memory`] for its order. `lanes` is the input's lane map, `blocks` how many the output has.
pub fn transform(
    filter: &Filter<'_>,
    lanes: &[Option<u32>],
    blocks: usize,
    scheme: &Scheme,
    memory: &Memory,
    u: &mut [f32],
    isa: Isa,
) {
    assert!(u.len() >= memory.u_len);
    let u = Target(u.as_mut_ptr());
    (0..memory.vectors).into_par_iter().for_each(|vector| {
        simd::run(isa, Vector { filter, lanes, blocks, scheme, memory, u: &u, vector });
    });
}

/// U of one vector of outputs. Plain code, compiled for each instruction set: the plan of a large network transforms
/// hundreds of millions of weights.
struct Vector<'a> {
    filter: &'a Filter<'a>,
    lanes: &'a [Option<u32>],
    blocks: usize,
    scheme: &'a Scheme,
    memory: &'a Memory,
    u: &'a Target,
    vector: usize,
}

/// Taps of the largest kernel, 8x8.
const TAPS: usize = 64;

impl Kernel for Vector<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { filter, lanes, blocks, scheme, memory, u, vector } = self;
        let (phase, block) = (vector / blocks, vector % blocks);
        let panel = memory.panels.partition_point(|p| p.0 <= vector) - 1;
        let (first, width) = memory.panels[panel];
        let side = scheme.points.len();
        let kernel = filter.kernel;
        let mut taps = [0.0f32; TAPS * LANES];
        for chunk in 0..memory.chunks() {
            let channels = memory.chunk(chunk);
            let depth: usize = channels.iter().map(|c| c.1).sum();
            // Phases already placed at each point.
            let mut rank = [0; 64];
            for (i, input) in scheme.inputs.iter().enumerate() {
                let [rows, columns] = scheme.kernel(i, phase);
                let transform = [input.points[0].filter(rows.len()), input.points[1].filter(columns.len())];
                let [y0, x0] = input.points.map(|p| p.first_in(scheme.points));
                let mut before = 0;
                for &(plane, used) in channels {
                    for lane in 0..used {
                        // Lanes after the first pixel's are the next pixel's.
                        let (pixel, lane_of_pixel) = match lanes.len() {
                            narrow @ ..LANES => (lane / narrow, lane % narrow),
                            _ => (0, plane * LANES + lane),
                        };
                        let Some(channel) = lanes[lane_of_pixel] else {
                            continue;
                        };
                        // SAFETY: inside a kernel; `taps` holds whole groups of 16.
                        unsafe {
                            for first in (0..kernel * kernel).step_by(LANES) {
                                let group = filter.taps::<S>(block, channel as usize, first);
                                for (t, &tap) in group.iter().enumerate() {
                                    S::store(taps.as_mut_ptr().add((first + t) * LANES), tap);
                                }
                            }
                        }
                        let tap = |y: usize, x: usize| -> [f64; LANES] {
                            let (y, x) = (rows[y], columns[x] + pixel);
                            if y >= kernel || x >= kernel {
                                return [0.0; LANES];
                            }
                            let tap = &taps[(y * kernel + x) * LANES..][..LANES];
                            std::array::from_fn(|lane| f64::from(tap[lane]))
                        };
                        filtered(&transform, tap, |y, x, values| {
                            let point = (y0 + y) * side + x0 + x;
                            let k = rank[point] * depth + before + lane;
                            let at = memory.u(chunk, panel, point) + (k * width + vector - first) * LANES;
                            // SAFETY: each vector of outputs has its own places in U, all inside `u_len`.
                            unsafe { u.at(at).copy_from_nonoverlapping(values.as_ptr(), LANES) };
                        });
                    }
                    before += used;
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
