//! What decides an unsupervised loss: Google's flags with their defaults, and what the MindSpore port has otherwise.

use ferroflow_core::geometry::Grid;
use serde::{Deserialize, Serialize};

use super::{Distance, UnsupervisedError};

/// Weights below this are 0: the term is not computed.
const OFF: f64 = 1e-7;
/// A score of the `uflow` occlusion with less weight than this does not take part.
const SCORE_OFF: f64 = 1e-2;

/// How the flow of unlabelled frames is judged. The names are those of Google's flags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnsupervisedOptions {
    /// Of the difference between a frame and the other one brought back to it.
    pub weight_photo: f64,
    /// Of their structural dissimilarity.
    pub weight_ssim: f64,
    /// Of the difference of their census transforms.
    pub weight_census: f64,
    /// Of the flow's first derivatives.
    pub weight_smooth1: f64,
    /// Of the flow's second derivatives.
    pub weight_smooth2: f64,
    /// Of the distance from the teacher, once it has risen to all of it.
    pub weight_selfsup: f64,
    /// What a difference of colours costs.
    pub distance_photo: Distance,
    /// What a difference of census transforms costs.
    pub distance_census: Distance,
    /// Side of a census patch, odd, in pixels.
    pub census_patch: usize,
    /// How fast smoothness matters less as the frame changes.
    pub smoothness_edge_constant: f64,
    /// How the change of the frame is measured.
    pub smoothness_edge_weighting: EdgeWeighting,
    /// The level whose flow is to be smooth: 0 is the size of the frames, 2 a quarter of it.
    pub smoothness_at_level: usize,
    /// Which pixels of a frame the other one does not show.
    pub occlusion_estimation: OcclusionEstimation,
    /// Steps before an estimate of occlusion is used; until then nothing is occluded.
    pub occ_after_num_steps: OcclusionSteps,
    /// Of the scores of `uflow`.
    pub occ_weights: Scores,
    /// Where the scores of `uflow` begin to mean occlusion.
    pub occ_thresholds: Scores,
    /// Where the scores of `uflow` end.
    pub occ_clip_max: ClippedScores,
    /// Whether occlusion is what the data says, not an estimate. Only forward flow is judged then.
    pub use_gt_occlusions: bool,
    /// Whether the flow is not changed for the sake of the mask.
    pub stop_gradient_mask: bool,
    /// Whether only the flow from frame 1 to frame 2 is judged.
    pub only_forward: bool,
    /// Which frames the teacher sees.
    pub teacher_image_version: TeacherImages,
    /// Whether the teacher keeps the weights that training began with.
    pub frozen_teacher: bool,
    /// Which pixels the student learns from the teacher.
    pub selfsup_mask: SelfSupervisionMask,
    /// How far from itself, of the diagonal, the teacher's flow may come back; for the mask `gaussian`.
    pub fb_sigma_teacher: f64,
    /// The same of the student.
    pub fb_sigma_student: f64,
    /// What the student does not see of the frames, above and below, in pixels: a multiple of 4.
    pub selfsup_crop_height: usize,
    /// The same at left and right.
    pub selfsup_crop_width: usize,
    /// How far what the student sees is moved about at most, a multiple of 4 in pixels of the frames.
    pub selfsup_max_shift: usize,
    /// Whether what the student sees is brought back to the size of the frames.
    pub resize_selfsup: bool,
    /// Steps before the teacher's share begins to rise.
    pub selfsup_after_num_steps: u64,
    /// Steps that it takes to rise.
    pub selfsup_ramp_up_steps: u64,
    /// Steps after which all that begins anew.
    pub selfsup_step_cycle: u64,
    /// Steps of an epoch.
    pub epoch_length: u64,
    /// Whether what depends on the step changes only from epoch to epoch.
    pub whole_epochs: bool,
    /// Whether the true flow is learned, instead of all this.
    pub use_supervision: bool,
    /// Whether the truth is brought to the size of the frames; else the flow to that of the truth.
    pub resize_gt_flow_supervision: bool,
    /// Whether flow may leave the crop: what it points at is looked up in the whole frame (SMURF).
    pub full_size_warp: bool,
    /// Where the samples of resized flows and frames lie.
    pub resize_grid: ResizeGrid,
    /// The weight of a level's or an iteration's flow, as a share of that of the next finer one, in a sum over all of them (SMURF);
    /// 0: the finest flow alone is judged.
    pub sequence_decay: f64,
}

impl Default for UnsupervisedOptions {
    fn default() -> Self {
        Self::google()
    }
}

impl UnsupervisedOptions {
    /// The defaults of Google's flags.
    pub fn google() -> Self {
        Self {
            weight_photo: 0.0,
            weight_ssim: 0.0,
            weight_census: 1.0,
            weight_smooth1: 0.0,
            weight_smooth2: 2.0,
            weight_selfsup: 0.6,
            distance_photo: Distance::RobustL1,
            distance_census: Distance::AbsRobust,
            census_patch: 7,
            smoothness_edge_constant: 150.0,
            smoothness_edge_weighting: EdgeWeighting::Exponential,
            smoothness_at_level: 2,
            occlusion_estimation: OcclusionEstimation::Wang,
            occ_after_num_steps: OcclusionSteps::default(),
            occ_weights: Scores { fb_abs: 1000.0, forward_collision: 1000.0, backward_zero: 1000.0 },
            occ_thresholds: Scores { fb_abs: 1.5, forward_collision: 0.4, backward_zero: 0.25 },
            occ_clip_max: ClippedScores { fb_abs: 10.0, forward_collision: 5.0 },
            use_gt_occlusions: false,
            stop_gradient_mask: true,
            only_forward: false,
            teacher_image_version: TeacherImages::Original,
            frozen_teacher: false,
            selfsup_mask: SelfSupervisionMask::Gaussian,
            fb_sigma_teacher: 0.003,
            fb_sigma_student: 0.03,
            selfsup_crop_height: 64,
            selfsup_crop_width: 64,
            selfsup_max_shift: 0,
            resize_selfsup: true,
            selfsup_after_num_steps: 500_000,
            selfsup_ramp_up_steps: 100_000,
            selfsup_step_cycle: 10_000_000_000,
            epoch_length: 1000,
            whole_epochs: false,
            use_supervision: false,
            resize_gt_flow_supervision: true,
            full_size_warp: false,
            resize_grid: ResizeGrid::HalfPixel,
            sequence_decay: 0.0,
        }
    }

    /// What the MindSpore port does otherwise: smoothness of first order, resizing on TensorFlow 1's grid, schedules by epoch.
    pub fn mindspore() -> Self {
        Self {
            weight_smooth1: 4.0,
            weight_smooth2: 0.0,
            whole_epochs: true,
            resize_grid: ResizeGrid::Asymmetric,
            ..Self::google()
        }
    }

    /// What no loss can be computed with.
    pub fn check(&self) -> Result<(), UnsupervisedError> {
        let refuse = |what| Err(UnsupervisedError::Option { what });
        let weights = [
            self.weight_photo,
            self.weight_ssim,
            self.weight_census,
            self.weight_smooth1,
            self.weight_smooth2,
            self.weight_selfsup,
            self.smoothness_edge_constant,
        ];
        if weights.iter().any(|w| !(w.is_finite() && *w >= 0.0)) {
            return refuse("weights and smoothness_edge_constant must be numbers of 0 or more");
        }
        if self.census_patch.is_multiple_of(2) || self.census_patch < 3 {
            return refuse("census_patch must be odd, and 3 or more");
        }
        if self.smoothness_at_level > 2 {
            return refuse("smoothness_at_level must be 0, 1 or 2");
        }
        if [self.selfsup_crop_height, self.selfsup_crop_width, self.selfsup_max_shift].iter().any(|p| p % 4 != 0) {
            return refuse("selfsup_crop_height, selfsup_crop_width and selfsup_max_shift must be multiples of 4");
        }
        if self.selfsup_max_shift > self.selfsup_crop_height.min(self.selfsup_crop_width) {
            return refuse("selfsup_max_shift must be no more than selfsup_crop_height and selfsup_crop_width");
        }
        if ![self.fb_sigma_teacher, self.fb_sigma_student].iter().all(|s| s.is_finite() && *s > 0.0) {
            return refuse("fb_sigma_teacher and fb_sigma_student must be more than 0");
        }
        if !(0.0..=1.0).contains(&self.sequence_decay) {
            return refuse("sequence_decay must be from 0 to 1");
        }
        if self.selfsup_step_cycle == 0 || self.epoch_length == 0 {
            return refuse("selfsup_step_cycle and epoch_length must be 1 or more");
        }
        if self.occlusion_estimation == OcclusionEstimation::Uflow
            && [self.occ_weights.fb_abs, self.occ_weights.forward_collision, self.occ_weights.backward_zero]
                .iter()
                .any(|w| !w.is_finite())
        {
            return refuse("occ_weights must be numbers");
        }
        Ok(())
    }

    /// Whether a term of this weight is computed at all.
    pub(super) fn on(weight: f64) -> bool {
        weight > OFF
    }

    /// The step that schedules go by, counted from 0.
    fn clock(&self, step: u64) -> u64 {
        if self.whole_epochs { step - step % self.epoch_length } else { step }
    }

    /// The weight of self-supervision in a step, counted from 0: 0 at first, then rising along a line.
    pub fn self_supervision_weight(&self, step: u64) -> f64 {
        let step = (self.clock(step) % self.selfsup_step_cycle) as f64;
        let begun = step - (self.selfsup_after_num_steps as f64 - 1.0);
        self.weight_selfsup * (begun / self.selfsup_ramp_up_steps.max(1) as f64).clamp(0.0, 1.0)
    }

    /// Whether a step needs a teacher, and its student.
    pub fn self_supervises(&self, step: u64) -> bool {
        !self.use_supervision && Self::on(self.self_supervision_weight(step))
    }

    /// How occlusion is estimated in a step.
    pub(super) fn occlusion(&self, step: u64) -> Occlusion<'_> {
        let step = self.clock(step);
        let OcclusionSteps { brox, wang, fb_abs, forward_collision, backward_zero } = self.occ_after_num_steps;
        let active = |after: u64| step > after;
        let score = |weight: f64, after: u64| {
            let on = weight > SCORE_OFF;
            (on, on && active(after))
        };
        use OcclusionEstimation::{Brox, FbAbs, None, Uflow, Wang, Wang4, Wang4thres, Wangthres};
        let is_active = match self.occlusion_estimation {
            None => false,
            Brox => active(brox),
            FbAbs => active(fb_abs),
            Wang | Wang4 | Wangthres | Wang4thres => active(wang),
            Uflow => true,
        };
        Occlusion {
            options: self,
            estimation: if is_active { self.occlusion_estimation } else { None },
            fb_abs: score(self.occ_weights.fb_abs, fb_abs),
            forward_collision: score(self.occ_weights.forward_collision, forward_collision),
            backward_zero: score(self.occ_weights.backward_zero, backward_zero),
        }
    }
}

/// How occlusion is estimated in one step.
#[derive(Clone, Copy)]
pub(super) struct Occlusion<'a> {
    pub options: &'a UnsupervisedOptions,
    /// `None` as long as it is not yet used.
    pub estimation: OcclusionEstimation,
    /// Whether the score takes part, and whether it is computed yet; until then it is 0.
    pub fb_abs: (bool, bool),
    pub forward_collision: (bool, bool),
    pub backward_zero: (bool, bool),
}

/// How the change of a frame becomes a factor on smoothness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeWeighting {
    /// `exp(-mean |constant * change|)`
    Exponential,
    /// `exp(-mean (constant * change)^2)`
    Gaussian,
}

/// How occluded pixels are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OcclusionEstimation {
    /// Nothing is occluded.
    None,
    /// The forward-backward check of Sundaram, Brox and Keutzer.
    Brox,
    /// Flow there and back ends more than 1.5 px away.
    FbAbs,
    /// Nothing of the other frame arrives (Wang et al., CVPR 2018), to a degree.
    Wang,
    /// The same, arrivals counted in blocks of 4x4.
    Wang4,
    /// Less than 0.75 pixels of the other frame arrive.
    Wangthres,
    /// The same, arrivals counted in blocks of 4x4.
    Wang4thres,
    /// A weighted sum of three scores.
    Uflow,
}

/// Steps before the methods are used; `wang` stands for all that count arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OcclusionSteps {
    /// Of `brox`.
    pub brox: u64,
    /// Of `wang`, `wang4`, `wangthres` and `wang4thres`.
    pub wang: u64,
    /// Of `fb-abs`, and of the score of `uflow`.
    pub fb_abs: u64,
    /// Of the score of `uflow`.
    pub forward_collision: u64,
    /// Of the score of `uflow`.
    pub backward_zero: u64,
}

/// A number for each score of `uflow`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// How far away flow there and back ends, px.
    pub fb_abs: f64,
    /// How many other pixels go to the same place.
    pub forward_collision: f64,
    /// How much less than one pixel arrives from the other frame.
    pub backward_zero: f64,
}

/// A number for each score of `uflow` that has no largest value of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClippedScores {
    /// px
    pub fb_abs: f64,
    /// Pixels, itself among them.
    pub forward_collision: f64,
}

/// Which pixels the student learns from the teacher: those where the teacher is sure, and the student is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelfSupervisionMask {
    /// `exp(-|there and back|^2 / (sigma * diagonal)^2)`
    Gaussian,
    /// What `occlusion_estimation` finds in the flows of a quarter of the size (Google's own refers to masks that it does not make).
    Advection,
    /// `|there and back|^2 < 0.01 (|there|^2 + |back|^2) + 0.5`
    Ddflow,
}

/// Which frames the teacher sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeacherImages {
    /// As they are in the data.
    Original,
    /// Those of the student, before they are cut.
    Augmented,
}

/// Where the samples of two grids of different size lie with respect to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeGrid {
    /// Pixels are squares, the outer edges coincide (TensorFlow 2).
    HalfPixel,
    /// The first centres coincide (TensorFlow 1, MindSpore).
    Asymmetric,
}

impl From<ResizeGrid> for Grid {
    fn from(grid: ResizeGrid) -> Self {
        match grid {
            ResizeGrid::HalfPixel => Grid::HalfPixel,
            ResizeGrid::Asymmetric => Grid::Asymmetric,
        }
    }
}
