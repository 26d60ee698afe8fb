//! The weight gradient as a matrix product over pixels: a tap is an offset into the image, nothing is copied.
//!
//! A tile of image channels (broadcast) by point channels (vectors) stays in registers over the pixels of some rows. One
//! task has one block of image channels, one panel of point channels and some rows of the kernel, and walks all pixels in
//! order: sums are never divided among threads.

use std::ops::Range;

use super::{
    form::{Correlation, GradientCandidate, WeightGradient},
    product::{product, tile_rows},
    target::Target,
};
use crate::{
    Blocks, Extent, Isa, LANES, Scratch,
    conv::{direct::share, layer::Options},
    gemm::{self, register_tile},
    machine::{
        Machine,
        gradient::{DIRECT_EFFICIENCY, RUN_POINTS},
        select::PLANNED_THREADS,
    },
    simd::{self, Kernel, Simd},
    team,
};

/// Takes every layer.
pub fn candidate(form: &Correlation, options: Options) -> GradientCandidate {
    let gradient = DirectGradient::new(form.clone(), options);
    GradientCandidate { seconds: gradient.seconds(), exact: true, gradient: Box::new(gradient) }
}

/// The gradient's algorithm for one layer.
struct DirectGradient {
    isa: Isa,
    form: Correlation,
    /// Lanes in use of each image block.
    used: Vec<usize>,
    /// Vectors of a panel.
    panel: usize,
    /// Parts into which the kernel's rows are cut.
    parts: usize,
}

impl WeightGradient for DirectGradient {
    fn run(&self, image: Blocks<'_>, points: Blocks<'_>, d_weight: &mut [f32], scratch: &Scratch) {
        if self.form.point_lanes.len() < LANES {
            self.narrow(image, points, d_weight, scratch);
        } else {
            self.whole(image, points, d_weight, scratch);
        }
    }

    fn name(&self) -> String {
        "direct".into()
    }
}

impl DirectGradient {
    fn new(form: Correlation, options: Options) -> Self {
        let (_, panel) = register_tile(options.isa);
        let used: Vec<usize> = form
            .image_lanes
            .chunks(LANES)
            .map(|block| block.iter().rposition(Option::is_some).map_or(0, |l| l + 1))
            .collect();
        let mut gradient = Self { isa: options.isa, form, used, panel, parts: 1 };
        if options.threads > 1 {
            gradient.parts = gradient.parts(options.threads);
        }
        gradient
    }

    fn panels(&self) -> usize {
        self.form.point_lanes.len().div_ceil(LANES * self.panel)
    }

    /// Parts of the kernel's rows that give every thread enough tasks.
    fn parts(&self, threads: usize) -> usize {
        let tasks = self.used.len() * self.panels();
        (4 * threads).div_ceil(tasks.max(1)).min(self.form.shape.kernel[0])
    }

    /// Expected seconds on [`PLANNED_THREADS`].
    fn seconds(&self) -> f64 {
        let points = self.form.points;
        // A register tile that is not full takes as long as one that is: latency and loads are not hidden.
        let rows = tile_rows(self.panel);
        let tiles = self.panels() * self.used.iter().map(|used| used.div_ceil(rows)).sum::<usize>();
        let products = tiles * rows * self.panel * LANES;
        let flop = (2 * products * points.n * points.h * points.w * self.form.shape.taps()) as f64;
        // The last task keeps one thread waiting.
        let tasks = (self.used.len() * self.panels() * self.parts(PLANNED_THREADS)).max(1);
        let share = tasks.div_ceil(PLANNED_THREADS) as f64 / tasks as f64;
        share * flop / (DIRECT_EFFICIENCY * Machine::of(self.isa).flops)
    }

    /// Vectors of points are whole: points without padding lanes are copied.
    fn narrow(&self, image: Blocks<'_>, points: Blocks<'_>, d_weight: &mut [f32], scratch: &Scratch) {
        let (pixel, len) = (self.form.point_lanes.len(), points.extent.len());
        scratch.with_shared(len, |whole| {
            for (to, from) in whole[..len].chunks_exact_mut(LANES).zip(points.planes[0].chunks_exact(pixel)) {
                to[..pixel].copy_from_slice(from);
                to[pixel..].fill(0.0);
            }
            self.whole(image, Blocks { extent: points.extent, planes: &[&whole[..len]] }, d_weight, scratch);
        });
    }

    fn whole(&self, image: Blocks<'_>, points: Blocks<'_>, d_weight: &mut [f32], scratch: &Scratch) {
        let target = Target::new(d_weight, &self.form.shape);
        let [kernel_rows, kernel] = self.form.shape.kernel;
        let tasks = self.panels() * self.used.len() * self.parts;
        team::for_each(tasks, |task| {
            let (part, block) = (task % self.parts, task / self.parts % self.used.len());
            let first = task / self.parts / self.used.len() * self.panel;
            let rows = share(kernel_rows, part, self.parts);
            let vectors = self.panel.min(points.planes.len() - first);
            let len = rows.len() * kernel * LANES * vectors * LANES;
            scratch.with(len, |sums| {
                let sums = &mut sums[..len];
                simd::run(self.isa, Task { gradient: self, image, points, target, block, first, vectors, rows, sums });
            });
        });
    }
}

struct Task<'a> {
    gradient: &'a DirectGradient,
    image: Blocks<'a>,
    points: Blocks<'a>,
    target: Target<'a>,
    /// The image's block.
    block: usize,
    /// The panel's first block of points, and how many it has.
    first: usize,
    vectors: usize,
    /// Rows of the kernel.
    rows: Range<usize>,
    /// `[kernel row][kernel column][image lane][vector][16]`
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
        let s = &form.shape;
        let used = self.gradient.used[self.block];
        let Extent { n, h, w } = form.points;
        self.sums.fill(0.0);
        let lines = n * h;
        let step = (RUN_POINTS / w.max(1)).max(1);
        for first in (0..lines).step_by(step) {
            let lines = first..lines.min(first + step);
            for (i, ky) in self.rows.clone().enumerate() {
                for kx in 0..s.kernel[1] {
                    let tap = (i * s.kernel[1] + kx) * LANES;
                    for (lane, rows) in gemm::groups(used, tile_rows(S::PANEL)) {
                        let at = (tap + lane) * N * LANES;
                        gemm::rows!(rows, tile_rows(S::PANEL), T => {
                            // SAFETY: lanes, tap and vectors are within this task's.
                            unsafe { self.tile::<S, T, N>(lines.clone(), [ky, kx], lane, at) }
                        });
                    }
                }
            }
        }
        let kernel = s.kernel[1];
        let first = self.rows.start * kernel;
        let taps = self.rows.len() * kernel;
        for (lane, channel) in form.image_lanes[self.block * LANES..].iter().enumerate().take(used) {
            let Some(channel) = *channel else { continue };
            for v in 0..N {
                let outputs = &form.point_lanes[(self.first + v) * LANES..];
                for tap in (0..taps).step_by(LANES) {
                    let count = LANES.min(taps - tap);
                    // SAFETY: the sums are this task's, as are these weights.
                    unsafe {
                        let mut vectors = [S::zero(); LANES];
                        for (t, vector) in vectors.iter_mut().enumerate().take(count) {
                            *vector = S::read(&self.sums[(((tap + t) * LANES + lane) * N + v) * LANES..]);
                        }
                        let outputs = &outputs[..outputs.len().min(LANES)];
                        self.target.add::<S>(outputs, channel as usize, first + tap, count, &mut vectors);
                    }
                }
            }
        }
    }

    /// Adds the products of some lines of points to the tile of sums at `at`.
    ///
    /// # Safety
    /// `T` lanes from `lane` on are in use, `N` is `vectors`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const T: usize, const N: usize>(
        &mut self,
        lines: Range<usize>,
        [ky, kx]: [usize; 2],
        lane: usize,
        at: usize,
    ) {
        let form = &self.gradient.form;
        let s = &form.shape;
        let pixel = form.image_lanes.len().min(LANES);
        let (image, points) = (form.image, form.points);
        // The columns whose tap lies in the image.
        let columns = inside(points.w, image.w, kx * s.dilation, s.padding[1], s.stride);
        if columns.is_empty() {
            return;
        }
        let column = columns.start * s.stride + kx * s.dilation - s.padding[1];
        let plane = self.image.planes[self.block];
        // SAFETY: rows and columns of image and points are inside their extents, which the caller of the gradient
        // checked; the sums hold this tile.
        unsafe {
            let sums = self.sums.as_mut_ptr().add(at);
            let mut tile = [[S::zero(); N]; T];
            for t in 0..T {
                for v in 0..N {
                    tile[t][v] = S::load(sums.add((t * N + v) * LANES));
                }
            }
            for line in lines {
                let (n, y) = (line / points.h, line % points.h);
                let row = (y * s.stride + ky * s.dilation).wrapping_sub(s.padding[0]);
                if row >= image.h {
                    continue;
                }
                let mut a = plane.as_ptr().add(((n * image.h + row) * image.w + column) * pixel + lane);
                let mut b = [std::ptr::null(); N];
                for v in 0..N {
                    b[v] = self.points.planes[self.first + v].as_ptr().add((line * points.w + columns.start) * LANES);
                }
                for _ in 0..columns.len() {
                    product::<S, T, N>(&mut tile, a, b);
                    a = a.add(s.stride * pixel);
                    b = b.map(|b| b.add(LANES));
                }
            }
            for t in 0..T {
                for v in 0..N {
                    S::store(sums.add((t * N + v) * LANES), tile[t][v]);
                }
            }
        }
    }
}

/// The points `x` of `0..points` with `0 <= x * stride + tap - pad < image`.
fn inside(points: usize, image: usize, tap: usize, pad: usize, stride: usize) -> Range<usize> {
    let start = pad.saturating_sub(tap).div_ceil(stride);
    let end = (image + pad).saturating_sub(tap).div_ceil(stride).min(points);
    start..end.max(start)
}
