//! The weights' transform: `U = G g G^T`. In training it is part of every step.

use super::{memory::Memory, scheme::Scheme};
use crate::{
    Isa, LANES,
    conv::problem::Filter,
    disjoint::Disjoint,
    simd::{self, Kernel, Simd},
    team,
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
    let u = Disjoint::new(u);
    team::for_each(memory.vectors, |vector| {
        simd::run(isa, Vector { filter, lanes, blocks, scheme, memory, u, vector });
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
    u: Disjoint<'a>,
    vector: usize,
}

/// Taps of the largest kernel, 8x8.
const TAPS: usize = 64;

/// Taps of the longest filter of a phase.
const LONGEST: usize = 5;

/// One phase's filter transforms along rows and columns, with as many taps as the longest has, the last ones unused.
struct Transforms {
    rows: Vec<[f32; LONGEST]>,
    columns: Vec<[f32; LONGEST]>,
}

impl Kernel for Vector<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { filter, lanes, blocks, scheme, memory, u, vector } = self;
        let (phase, block) = (vector / blocks, vector % blocks);
        let panel = memory.panels.partition_point(|p| p.0 <= vector) - 1;
        let (first, width) = memory.panels[panel];
        let side = scheme.points[1].len();
        let [kernel_rows, kernel] = filter.kernel;
        let transforms: Vec<Transforms> = (0..scheme.inputs.len())
            .map(|i| {
                let [rows, columns] = scheme.kernel(i, phase);
                let [y, x] = scheme.inputs[i].points;
                Transforms { rows: padded(&y.filter(rows.len())), columns: padded(&x.filter(columns.len())) }
            })
            .collect();
        let mut taps = [0.0f32; TAPS * LANES];
        for chunk in 0..memory.chunks() {
            let channels = memory.chunk(chunk);
            let depth: usize = channels.iter().map(|c| c.1).sum();
            // Where each point's next phase begins.
            let mut next: [usize; 64] = [0; 64];
            for (point, next) in next.iter_mut().enumerate().take(memory.points) {
                *next = memory.u(chunk, panel, point) + (vector - first) * LANES;
            }
            for (i, input) in scheme.inputs.iter().enumerate() {
                let [rows, columns] = scheme.kernel(i, phase);
                let [y0, x0] = [0, 1].map(|axis| input.points[axis].first_in(scheme.points[axis]));
                let mut k = 0;
                for &(plane, used) in channels {
                    for lane in 0..used {
                        let at = k * width * LANES;
                        k += 1;
                        // Lanes after the first pixel's are the next pixel's.
                        let (pixel, lane_of_pixel) = match lanes.len() {
                            narrow @ ..LANES => (lane / narrow, lane % narrow),
                            _ => (0, plane * LANES + lane),
                        };
                        let Some(channel) = lanes[lane_of_pixel] else {
                            continue;
                        };
                        // SAFETY: `taps` holds whole groups of 16; each vector of outputs has its own
                        // places in U, all inside `u_len`.
                        unsafe {
                            for first in (0..kernel_rows * kernel).step_by(LANES) {
                                let group = filter.taps::<S>(block, channel as usize, first);
                                for (t, &tap) in group.iter().enumerate() {
                                    S::write(&mut taps[(first + t) * LANES..], tap);
                                }
                            }
                            let mut g = [[S::zero(); LONGEST]; LONGEST];
                            for (&y, row) in rows.iter().zip(&mut g) {
                                for (&x, tap) in columns.iter().zip(row) {
                                    let x = x + pixel;
                                    if y < kernel_rows && x < kernel {
                                        *tap = S::read(&taps[(y * kernel + x) * LANES..]);
                                    }
                                }
                            }
                            let put = |y: usize, x: usize, value: S::V| {
                                let point = (y0 + y) * side + x0 + x;
                                S::store(u.at(next[point] + at), value);
                            };
                            match (rows.len(), columns.len()) {
                                (1, _) if side > 1 && scheme.points[0].len() == 1 => {
                                    filtered::<S, 1, LONGEST>(&transforms[i], &g, put);
                                }
                                (_, 1) if side == 1 => filtered::<S, LONGEST, 1>(&transforms[i], &g, put),
                                (..=2, ..=2) => filtered::<S, 2, 2>(&transforms[i], &g, put),
                                (..=3, ..=3) => filtered::<S, 3, 3>(&transforms[i], &g, put),
                                _ => filtered::<S, 4, 4>(&transforms[i], &g, put),
                            }
                        }
                    }
                }
                for y in 0..input.points[0].len() {
                    for x in 0..input.points[1].len() {
                        next[(y0 + y) * side + x0 + x] += depth * width * LANES;
                    }
                }
            }
        }
    }
}

fn padded(matrix: &[Vec<f64>]) -> Vec<[f32; LONGEST]> {
    matrix.iter().map(|row| std::array::from_fn(|k| row.get(k).map_or(0.0, |&g| g as f32))).collect()
}

/// `G g G^T` of 16 filters of at most `R` x `C` taps: hands each point's values to `put`.
#[inline(always)]
fn filtered<S: Simd, const R: usize, const C: usize>(
    transforms: &Transforms,
    taps: &[[S::V; LONGEST]; LONGEST],
    put: impl Fn(usize, usize, S::V),
) {
    for (y, row) in transforms.rows.iter().enumerate() {
        let mut half = [S::zero(); C];
        for k in 0..R {
            let factor = S::splat(row[k]);
            for x in 0..C {
                half[x] = S::fma(factor, taps[k][x], half[x]);
            }
        }
        for (x, column) in transforms.columns.iter().enumerate() {
            let mut sum = S::mul(half[0], S::splat(column[0]));
            for k in 1..C {
                sum = S::fma(half[k], S::splat(column[k]), sum);
            }
            put(y, x, sum);
        }
    }
}
