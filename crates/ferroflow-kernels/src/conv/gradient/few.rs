//! The weight gradient of layers of 1 to 4 outputs, the flow predictors: with outputs in the lanes, 14 of 16 would be idle.
//!
//! The lanes are input channels, and the outputs' gradients are broadcast, those of all taps of a row at once: from a copy
//! `[line][column][output]` with zeros around, in which the outputs that an input reaches lie next to each other.

use super::{
    form::{Correlation, GradientCandidate, WeightGradient},
    product::{product, tile_rows},
};
use crate::{
    Blocks, Extent, Isa, LANES, Scratch,
    conv::layer::{ConvShape, Options},
    disjoint::Disjoint,
    gemm::{self, register_tile},
    machine::{Machine, gradient::FEW_EFFICIENCY, select::PLANNED_THREADS},
    simd::{self, Kernel, Simd},
    team,
};

/// Takes layers of stride 1 and few outputs.
pub fn candidate(form: &Correlation, options: Options) -> Option<GradientCandidate> {
    let s = &form.shape;
    let few = s.out_channels <= 4 && s.stride == 1 && s.dilation == 1 && s.taps() > 1;
    if !few || form.point_lanes.len() != LANES || form.image_lanes.len() < LANES {
        return None;
    }
    let gradient = FewGradient { isa: options.isa, panel: register_tile(options.isa).1, form: form.clone() };
    let channels = gradient.panels() * gradient.panel * LANES;
    let idle = channels as f64 / s.in_channels as f64;
    Some(GradientCandidate {
        seconds: idle * s.flop(form.image) / (FEW_EFFICIENCY * Machine::of(options.isa).flops * PLANNED_THREADS as f64),
        exact: true,
        gradient: Box::new(gradient),
    })
}

struct FewGradient {
    isa: Isa,
    /// Vectors of a panel.
    panel: usize,
    form: Correlation,
}

impl FewGradient {
    fn panels(&self) -> usize {
        self.form.image_lanes.len().div_ceil(LANES * self.panel)
    }

    /// Columns of the copy: every output that a tap of an input of a row may want.
    fn columns(&self) -> usize {
        self.form.image.w + self.form.shape.kernel[1] - 1
    }

    /// Copies the used lanes. Column `j` of the copy is output column `j + left - (kernel - 1)`.
    fn copy(&self, points: &[f32], copy: &mut [f32]) {
        let (s, outputs, w) = (&self.form.shape, self.form.shape.out_channels, self.form.points.w);
        let lines = copy.chunks_exact_mut(self.columns() * outputs);
        for (to, from) in lines.zip(points.chunks_exact(w * LANES)) {
            for (j, to) in to.chunks_exact_mut(outputs).enumerate() {
                match (j + s.padding[1]).checked_sub(s.kernel[1] - 1).filter(|&x| x < w) {
                    Some(x) => to.copy_from_slice(&from[x * LANES..][..outputs]),
                    None => to.fill(0.0),
                }
            }
        }
    }
}

impl WeightGradient for FewGradient {
    fn run(&self, image: Blocks<'_>, points: Blocks<'_>, d_weight: &mut [f32], scratch: &Scratch) {
        let s = &self.form.shape;
        assert!(d_weight.len() >= s.out_channels * s.in_channels * s.taps(), "weight gradient");
        let target = Disjoint::new(d_weight);
        let Extent { n, h, .. } = self.form.points;
        let len = n * h * self.columns() * s.out_channels;
        scratch.with_shared(len, |copy| {
            self.copy(points.planes[0], &mut copy[..len]);
            let copy = &copy[..len];
            team::for_each(self.panels(), |panel| {
                let first = panel * self.panel;
                let vectors = self.panel.min(image.planes.len() - first);
                let len = s.taps() * s.out_channels * vectors * LANES;
                scratch.with(len, |sums| {
                    let sums = &mut sums[..len];
                    simd::run(self.isa, Task { gradient: self, image, copy, target, first, vectors, sums });
                });
            });
        });
    }

    fn name(&self) -> String {
        "few outputs".into()
    }
}

/// One panel of image blocks.
struct Task<'a> {
    gradient: &'a FewGradient,
    image: Blocks<'a>,
    copy: &'a [f32],
    target: Disjoint<'a>,
    first: usize,
    vectors: usize,
    /// `[kernel row][kernel column, from the last][output][vector][16]`
    sums: &'a mut [f32],
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self) {
        // SAFETY: `N` is `vectors`.
        unsafe {
            if const { S::PANEL >= 2 } && self.vectors == 2 {
                self.all::<S, 2>();
            } else {
                self.all::<S, 1>();
            }
        }
    }
}

impl Task<'_> {
    /// # Safety
    /// `N` is `vectors`.
    #[inline(always)]
    unsafe fn all<S: Simd, const N: usize>(&mut self) {
        let form = &self.gradient.form;
        let ConvShape { kernel: [kernel_rows, kernel], padding, out_channels: outputs, in_channels, .. } = form.shape;
        let Extent { n, h, w } = form.image;
        let pitch = self.gradient.columns() * outputs;
        self.sums.fill(0.0);
        for line in 0..n * h {
            for ky in 0..kernel_rows {
                let y = (line % h + padding[0]).wrapping_sub(ky);
                if y >= form.points.h {
                    continue;
                }
                let row = &self.copy[(line / h * form.points.h + y) * pitch..][..pitch];
                for (first, rows) in gemm::groups(kernel * outputs, tile_rows(S::PANEL)) {
                    gemm::rows!(rows, tile_rows(S::PANEL), T => {
                        // SAFETY: a line of the image has `w` pixels, and from each of them the copy's row has `kernel`
                        // times `outputs` values; the sums hold this kernel row.
                        unsafe {
                            let sums = self.sums.as_mut_ptr().add((ky * kernel * outputs + first) * N * LANES);
                            let mut tile = gemm::zero::<S, T, N>();
                            for t in 0..T {
                                for v in 0..N {
                                    tile[t][v] = S::load(sums.add((t * N + v) * LANES));
                                }
                            }
                            let mut b = [std::ptr::null(); N];
                            for v in 0..N {
                                b[v] = self.image.planes[self.first + v].as_ptr().add(line * w * LANES);
                            }
                            let mut a = row.as_ptr().add(first);
                            for _ in 0..w {
                                product::<S, T, N>(&mut tile, a, b);
                                a = a.add(outputs);
                                b = b.map(|b| b.add(LANES));
                            }
                            for t in 0..T {
                                for v in 0..N {
                                    S::store(sums.add((t * N + v) * LANES), tile[t][v]);
                                }
                            }
                        }
                    });
                }
            }
        }
        for v in 0..N {
            let lanes = &form.image_lanes[(self.first + v) * LANES..];
            for (lane, channel) in lanes.iter().enumerate().take(LANES) {
                let Some(channel) = *channel else { continue };
                for (i, sum) in self.sums[v * LANES + lane..].iter().step_by(N * LANES).enumerate() {
                    let (ky, kx, o) = (i / outputs / kernel, kernel - 1 - i / outputs % kernel, i % outputs);
                    let at = ((o * in_channels + channel as usize) * kernel_rows + ky) * kernel + kx;
                    // SAFETY: inside the gradient, whose length was checked; the channel is this task's.
                    unsafe { *self.target.at(at) += sum };
                }
            }
        }
    }
}
