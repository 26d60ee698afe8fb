//! Self-supervision: a student that sees less of the frames learns from what a teacher found in all of them (DDFlow, UFlow).

use ferroflow_core::{
    Size,
    geometry::Grid,
    sampling::{Window, resize},
};
use ferroflow_net::{PyramidUnit, training::Values};
use rayon::prelude::*;

use super::{
    Terms, UnsupervisedError, check_finite,
    direction::{SHARE, valid},
    distance::robust_l1,
    levels::{Level, Levels},
    occlusion::RoundTrip,
    options::{SelfSupervisionMask, UnsupervisedOptions},
};

/// The level whose flows are compared, and its stride.
const LEVEL: usize = 2;
const STRIDE: usize = 1 << LEVEL;

/// What the student sees of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// What is left out above and below, in pixels.
    pub height: usize,
    /// What is left out at left and right.
    pub width: usize,
    /// Whether the rest is brought back to the size of the frames.
    pub resize: bool,
    /// By how much the window is moved in frame 1 and in frame 2, (x, y) in pixels; no more than what is left out.
    pub shifts: [(isize, isize); 2],
    /// Where the samples lie.
    grid: Grid,
}

impl Cut {
    /// As the options have it. The caller draws the shifts: multiples of 4, no more than `selfsup_max_shift` either way.
    pub fn new(options: &UnsupervisedOptions, shifts: [(isize, isize); 2]) -> Self {
        Self {
            height: options.selfsup_crop_height,
            width: options.selfsup_crop_width,
            resize: options.resize_selfsup,
            shifts,
            grid: options.resize_grid.into(),
        }
    }

    /// The size of what the student sees.
    pub fn size(&self, frames: Size) -> Size {
        if self.resize { frames } else { self.rest(frames, 1) }
    }

    /// The size of the window in planes of `size` that are `stride` times smaller than the frames.
    fn rest(&self, size: Size, stride: usize) -> Size {
        Size {
            height: size.height.saturating_sub(2 * self.height / stride),
            width: size.width.saturating_sub(2 * self.width / stride),
        }
    }

    /// The window in planes that are `stride` times smaller than the frames, of frame 0 or 1.
    fn window(&self, size: Size, stride: usize, frame: usize) -> Window {
        let place = |crop: usize, shift: isize| ((crop as isize + shift) / stride as isize) as usize;
        let (x, y) = self.shifts[frame];
        Window { left: place(self.width, x), top: place(self.height, y), size: self.rest(size, stride) }
    }

    fn check(&self, frames: Size) -> Result<(), UnsupervisedError> {
        let held = |(x, y): (isize, isize)| x.unsigned_abs() <= self.width && y.unsigned_abs() <= self.height;
        let left = |side: usize, crop: usize| side / STRIDE > 2 * crop / STRIDE;
        let some = left(frames.height, self.height) && left(frames.width, self.width);
        if !some || !self.shifts.into_iter().all(held) {
            return Err(UnsupervisedError::Cut { frames });
        }
        Ok(())
    }

    /// What the student sees of a batch of frames `[N, C, H, W]`: of the first frames of the pairs, or of the second ones.
    ///
    /// # Errors
    /// If nothing would be left.
    pub fn frames(&self, batch: &[f32], size: Size, second: bool) -> Result<Vec<f32>, UnsupervisedError> {
        self.check(size)?;
        Ok(self.planes(batch, size, 1, usize::from(second), |_| 1.0))
    }

    /// The window of each plane, multiplied by `scale(plane)`.
    fn planes(
        &self,
        batch: &[f32],
        size: Size,
        stride: usize,
        frame: usize,
        scale: impl Fn(usize) -> f32 + Sync,
    ) -> Vec<f32> {
        let window = self.window(size, stride, frame);
        let to = if self.resize { size } else { window.size };
        let pixels = size.height * size.width;
        let mut out = vec![0.0; batch.len() / pixels * to.height * to.width];
        let planes = out.par_chunks_exact_mut(to.height * to.width).zip(batch.par_chunks_exact(pixels));
        planes
            .enumerate()
            .for_each(|(plane, (out, from))| resize(from, size, window, to, self.grid, scale(plane), out));
        out
    }

    /// A flow `[2, h, w]` of level 2 as the student should find it: frame `frame` is where it starts.
    pub(super) fn flow(&self, flow: &[f32], size: Size, frame: usize) -> Vec<f32> {
        let (from, to) = (self.shifts[frame], self.shifts[1 - frame]);
        let rest = self.rest(size, STRIDE);
        let ratio = match self.resize {
            true => [size.width as f32 / rest.width as f32, size.height as f32 / rest.height as f32],
            false => [1.0, 1.0],
        };
        let mut out = self.planes(flow, size, STRIDE, frame, |plane| ratio[plane]);
        // What moves with its window stands still.
        let moved = [from.0 - to.0, from.1 - to.1].map(|d| d as f32 / STRIDE as f32);
        let pixels = out.len() / 2;
        for (plane, (moved, ratio)) in out.chunks_exact_mut(pixels).zip(moved.into_iter().zip(ratio)) {
            plane.iter_mut().for_each(|v| *v += moved * ratio);
        }
        out
    }
}

/// What the teacher and its student found.
#[derive(Clone, Copy, Debug)]
pub struct TeacherAndStudent<'a> {
    /// Size of the teacher's frames.
    pub size: Size,
    /// The finest flow of the teacher `[2N, 2, H/k, W/k]`: of all pairs forward, then of all backward. It is not changed.
    pub teacher: &'a Values,
    /// The same of the student, whose frames are what [`Cut::frames`] left of the teacher's.
    pub student: &'a Values,
    /// The unit of both.
    pub unit: PyramidUnit,
    /// What the student sees.
    pub cut: Cut,
}

/// How far the student is from its teacher where that is sure and the student is not, by the weight of the step; one gradient, with
/// respect to the student's flow.
///
/// # Errors
/// If the flows do not fit the sizes, or the options make no sense.
pub fn self_supervision(
    options: &UnsupervisedOptions,
    step: u64,
    found: &TeacherAndStudent<'_>,
) -> Result<Terms, UnsupervisedError> {
    options.check()?;
    found.cut.check(found.size)?;
    let grid = options.resize_grid.into();
    let teacher = Levels::new(found.teacher, found.unit, found.size, grid)?;
    let mut student = Levels::new(found.student, found.unit, found.cut.size(found.size), grid)?;
    if teacher.items != student.items || teacher.items % 2 == 1 {
        return Err(UnsupervisedError::Batch { flows: student.items, pairs: teacher.items / 2 });
    }
    let pairs = teacher.items / 2;
    let items = if options.only_forward || options.use_gt_occlusions { pairs } else { 2 * pairs };
    let weight = options.self_supervision_weight(step);
    let mut value = 0.0;
    if UnsupervisedOptions::on(weight) {
        let level = student.level_mut(LEVEL);
        let Size { height, width } = level.size;
        let scale = weight * SHARE / (pairs * height * width).max(1) as f64;
        let mask = Mask { options, step, diagonal: teacher.level(LEVEL).size, cut: found.cut };
        let mut gradient = std::mem::take(&mut level.gradient);
        let sums: Vec<f64> = gradient
            .par_chunks_exact_mut(2 * height * width)
            .take(items)
            .enumerate()
            .map(|(n, gradient)| {
                let back = (n + pairs) % (2 * pairs);
                mask.compare(teacher.level(LEVEL), level, n, back, n / pairs, scale as f32, gradient)
            })
            .collect();
        level.gradient = gradient;
        value = check_finite(scale * sums.iter().sum::<f64>(), &[found.teacher, found.student]);
    }
    Ok(Terms { value, terms: vec![("self-supervision", value)], gradients: vec![student.gradient()] })
}

/// Which pixels the student learns.
struct Mask<'a> {
    options: &'a UnsupervisedOptions,
    step: u64,
    /// The size whose diagonal the gaussian mask is measured by.
    diagonal: Size,
    cut: Cut,
}

impl Mask<'_> {
    /// How sure a network is of the flow of item `n`, 0 to 1, `[h, w]`.
    fn sure(&self, level: &Level, n: usize, back: usize, sigma: f64) -> Vec<f32> {
        let (flow, back, size) = (level.item(n), level.item(back), level.size);
        let pixels = size.height * size.width;
        let mut sure = vec![0.0; pixels];
        valid(flow, Window::whole(size), size, &mut sure);
        match self.options.selfsup_mask {
            SelfSupervisionMask::Gaussian => {
                let Size { height, width } = self.diagonal;
                let per = (-1.0 / (sigma * sigma * (height * height + width * width) as f64)) as f32;
                let trip = RoundTrip::new(flow, back, size);
                sure.iter_mut().zip(&trip.squared).for_each(|(sure, squared)| *sure *= (squared * per).exp());
            }
            SelfSupervisionMask::Ddflow => {
                let trip = RoundTrip::new(flow, back, size);
                sure.iter_mut().enumerate().for_each(|(i, sure)| *sure *= f32::from(u8::from(trip.consistent(i))));
            }
            SelfSupervisionMask::Advection => {
                let occluded = self.options.occlusion(self.step).estimate(flow, back, size);
                sure.iter_mut().zip(&occluded).for_each(|(sure, occluded)| *sure *= 1.0 - occluded);
            }
        }
        sure
    }

    /// The sum over the pixels of item `n`; writes `scale` times its gradient.
    fn compare(
        &self,
        teacher: &Level,
        student: &Level,
        n: usize,
        back: usize,
        frame: usize,
        scale: f32,
        gradient: &mut [f32],
    ) -> f64 {
        let sure = self.sure(teacher, n, back, self.options.fb_sigma_teacher);
        let taught = self.cut.planes(&sure, teacher.size, STRIDE, frame, |_| 1.0);
        let known = self.sure(student, n, back, self.options.fb_sigma_student);
        let mask: Vec<f32> = taught.iter().zip(&known).map(|(taught, known)| taught * (1.0 - known)).collect();
        let target = self.cut.flow(teacher.item(n), teacher.size, frame);
        let mut sum = 0.0;
        for (i, ((d, theirs), ours)) in gradient.iter_mut().zip(&target).zip(student.item(n)).enumerate() {
            let (cost, slope) = robust_l1(ours - theirs);
            let mask = mask[i % mask.len()];
            sum += f64::from(mask * cost);
            *d = scale * mask * slope;
        }
        sum
    }
}
