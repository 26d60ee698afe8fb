//! The criterion of training without truth, alone or beside a supervised loss.

use std::borrow::Cow;

use ferroflow_core::Size;
use ferroflow_data::random::Random;
use ferroflow_net::{
    Model, NodeId, PyramidUnit,
    graph::{Shape, Sizes},
    training::{Census, Occluded, Values},
};

use super::{
    Cut, OcclusionEstimation, Scene, TeacherAndStudent, TeacherImages, Terms, UnsupervisedError, UnsupervisedOptions,
    check_finite, self_supervision, supervised,
};
use crate::{
    criterion::{Criterion, Grading, Needs, Pass, View, Whose},
    data::Batch,
    loss::{Graded, Loss, LossError, Penalty, Reads, Reduction, Sum, Tally},
};

/// What a path of draws begins with: that of shifts.
const SHIFTS: u64 = 0x7368_6966_7473;
/// An iteration whose weight in the sum over iterations is below this is not judged.
const LEAST_WEIGHT: f64 = 1e-3;

/// Learns from frames alone; where a supervised loss is given, also from the truth of those pairs that have one.
pub struct Unsupervised {
    options: UnsupervisedOptions,
    supervised: Option<Loss>,
    outputs: Vec<NodeId>,
    unit: PyramidUnit,
    seed: u64,
    /// Whether a pass over the augmented frames is what a teacher would find.
    teaches_itself: bool,
}

impl Unsupervised {
    /// For a network, for frames of `crop`; `varies` if the network is another one in each pass (level dropout).
    ///
    /// # Errors
    /// If the network lacks the flows to be judged, the options make no sense, or the crop is too small for what they cut.
    pub fn new(
        options: UnsupervisedOptions,
        supervised: Option<Loss>,
        model: &Model,
        crop: Size,
        seed: u64,
        varies: bool,
    ) -> Result<Self, LossError> {
        options.check()?;
        let graph = &model.graph;
        // Levels that hold more than a flow (SEA-RAFT's) are for losses that read it.
        let Size { height, width } = model.min_size;
        let shapes = graph.shapes(&Sizes::new(1, height, width)).unwrap_or_default();
        let is_flow = |id: &NodeId| shapes.get(id.0 as usize).is_some_and(|shape| shape[1] == 2);
        let (outputs, reads) = match (&supervised, graph.pyramid.iter().all(is_flow) && !graph.pyramid.is_empty()) {
            (Some(loss), _) => (loss.outputs(graph)?, loss.reads),
            (None, false) => (vec![graph.flow.ok_or(LossError::NoOutput { what: "flow" })?], Reads::Flow),
            (None, true) if options.sequence_decay > 0.0 => {
                (graph.pyramid.iter().rev().copied().collect(), Reads::Pyramid)
            }
            (None, true) => (graph.pyramid.last().copied().into_iter().collect(), Reads::Pyramid),
        };
        let unit = match reads {
            Reads::Pyramid => model.pyramid_unit,
            Reads::Flow => PyramidUnit::Pixels(1.0),
        };
        let teaches_itself =
            !varies && !options.frozen_teacher && options.teacher_image_version == TeacherImages::Augmented;
        let criterion = Self { options, supervised, outputs, unit, seed, teaches_itself };
        if criterion.options.weight_selfsup > 0.0 && !criterion.options.use_supervision {
            criterion.check_cut(crop, model)?;
        }
        Ok(criterion)
    }

    /// Whether what the student sees of frames of this size is something the network takes.
    fn check_cut(&self, crop: Size, model: &Model) -> Result<(), LossError> {
        let UnsupervisedOptions { selfsup_crop_height, selfsup_crop_width, resize_selfsup, .. } = self.options;
        // Something must be left, whatever is then enlarged; else the rest must be a size for the network.
        let least = if resize_selfsup { 4 } else { model.stride };
        let side = |cut: usize| (2 * cut + least).next_multiple_of(model.stride);
        let needed = Size { height: side(selfsup_crop_height), width: side(selfsup_crop_width) };
        if crop.height < needed.height || crop.width < needed.width {
            return Err(UnsupervisedError::Small { frames: crop, needed }.into());
        }
        let rest = [crop.height - 2 * selfsup_crop_height, crop.width - 2 * selfsup_crop_width];
        if !resize_selfsup && rest.iter().any(|side| !side.is_multiple_of(model.stride)) {
            let [height, width] = rest;
            return Err(UnsupervisedError::Rest { rest: Size { height, width }, stride: model.stride }.into());
        }
        Ok(())
    }

    /// What the student sees in a step.
    fn cut(&self, step: u64) -> Cut {
        // A level of a quarter of the size moves by whole pixels too.
        let most = (self.options.selfsup_max_shift / 4) as isize;
        let mut random = Random::new(self.seed, &[SHIFTS, step]);
        let mut draw = || 4 * (random.below((2 * most + 1) as usize) as isize - most);
        Cut::new(&self.options, [(); 2].map(|()| (draw(), draw())))
    }

    /// Frames as the losses compare them.
    fn original(batch: &Batch) -> [&[f32]; 2] {
        batch.original.as_ref().unwrap_or(&batch.frames).each_ref().map(|frames| &frames[..])
    }

    /// The outputs of the first pairs: those forward.
    fn forward(&self, outputs: &[Values], pairs: usize) -> Vec<Values> {
        let first = |output: &Values| {
            let [n, c, h, w] = output.shape;
            Values { shape: [pairs.min(n), c, h, w], data: output.data[..pairs.min(n) * c * h * w].to_vec() }
        };
        outputs.iter().map(first).collect()
    }

    /// What the frames say about the flows of a pass over whole frames: the part that one's own pairs have in that of all peers. Without
    /// the census loss where the device has computed it.
    fn judge(&self, grading: &Grading<'_>, outputs: &[Values]) -> Result<Terms, LossError> {
        let Grading { step, batch, peers, census, .. } = *grading;
        if self.options.use_supervision {
            let truth = batch.truth()?;
            let known = truth.known.iter().filter(|known| **known).count() as f64;
            let weight = (known + 1e-16) / (peers.total(&[known])[0] + 1e-16);
            return Ok(supervised(&self.options, weight, outputs, self.unit, batch.size, truth)?);
        }
        let rest;
        let options = match census {
            None => &self.options,
            Some(_) => {
                rest = UnsupervisedOptions { weight_census: 0.0, ..self.options.clone() };
                &rest
            }
        };
        let mut scene = Scene::new(options, batch.size, Self::original(batch))?.among(peers);
        if let Some(surrounds) = &batch.surrounds {
            scene = scene.within(surrounds)?;
        }
        if let Some(occlusion) = &batch.occlusion {
            scene = scene.occluded(occlusion)?;
        }
        let (mut sum, mut weight) = (None::<Terms>, 1.0);
        for (index, output) in outputs.iter().enumerate() {
            let mut terms = scene.judge(step, output, self.unit)?;
            terms.scale(weight);
            match &mut sum {
                None => sum = Some(terms),
                Some(sum) => sum.join(terms),
            }
            weight *= self.options.sequence_decay;
            if weight < LEAST_WEIGHT {
                let rest = &outputs[index + 1..];
                sum.iter_mut().for_each(|sum| sum.gradients.extend(rest.iter().map(|v| Values::zeros(v.shape))));
                break;
            }
        }
        sum.ok_or(UnsupervisedError::NoFlow.into())
    }

    /// Adds what the truth says about the flows forward, where it is known.
    fn teach(&self, graded: &mut Graded, grading: &Grading<'_>, outputs: &[Values]) -> Result<(), LossError> {
        let Some(truth) = grading.batch.truth.as_ref().filter(|truth| truth.known.contains(&true)) else {
            // Other parts of the batch may have one: all have the same terms.
            let elsewhere = grading.whole.is_some_and(|whole| whole.iter().any(|tally| tally.known > 0));
            if elsewhere && self.supervised.is_some() {
                graded.terms.push(("supervised", 0.0));
            }
            return Ok(());
        };
        let forward = self.forward(outputs, grading.batch.ids.len());
        let Some(loss) = &self.supervised else {
            graded.epe = self.end_point_error().grade_part(&forward[..1], truth, self.unit, grading.whole)?.epe;
            return Ok(());
        };
        let taught = loss.grade_part(&forward, truth, self.unit, grading.whole)?;
        graded.epe = taught.epe;
        graded.value += taught.value;
        graded.terms.push(("supervised", taught.value));
        for (all, part) in graded.gradients.iter_mut().zip(&taught.gradients) {
            all.data.iter_mut().zip(&part.data).for_each(|(all, part)| *all += part);
        }
        Ok(())
    }

    /// What the log calls the error.
    fn end_point_error(&self) -> Loss {
        let reads = if self.unit == PyramidUnit::Pixels(1.0) { Reads::Flow } else { Reads::Pyramid };
        let (reduction, penalty) = (Reduction::Area, Penalty::L2);
        let sum = Sum::MeanOfPixels;
        let (mixture, longest) = (None, None);
        Loss { reads, reduction, penalty, mixture, longest, sum, weights: vec![1.0], from_coarsest: false }
    }

    /// The share of a batch in a step.
    fn share(grading: &Grading<'_>) -> f64 {
        let pairs = grading.batch.ids.len();
        let all = grading.whole.and_then(|whole| whole.first()).map_or(pairs, |tally| tally.pairs);
        pairs as f64 / all.max(1) as f64
    }
}

impl Criterion for Unsupervised {
    fn outputs(&self) -> &[NodeId] {
        &self.outputs
    }

    fn both_directions(&self) -> bool {
        !self.options.use_supervision
    }

    fn needs(&self) -> Needs {
        Needs {
            truth: self.options.use_supervision,
            original: !self.options.use_supervision,
            surround: self.options.full_size_warp && !self.options.use_supervision,
            occlusion: self.options.use_gt_occlusions,
        }
    }

    fn passes(&self, step: u64) -> Vec<Pass> {
        let student = |view| Pass { view, weights: Whose::Student, differentiated: true };
        if !self.options.self_supervises(step) {
            return vec![student(View::Augmented)];
        }
        let teacher = Pass {
            view: match self.options.teacher_image_version {
                TeacherImages::Original => View::Original,
                TeacherImages::Augmented => View::Augmented,
            },
            weights: if self.options.frozen_teacher { Whose::Teacher } else { Whose::Student },
            differentiated: false,
        };
        let teacher = (!self.teaches_itself).then_some(teacher);
        teacher.into_iter().chain([student(View::Augmented), student(View::Transformed)]).collect()
    }

    fn size(&self, pass: &Pass, crop: Size) -> Size {
        match pass.view {
            View::Original | View::Augmented => crop,
            View::Transformed => self.cut(0).size(crop),
        }
    }

    fn has_teacher(&self) -> bool {
        self.options.frozen_teacher && self.options.weight_selfsup > 0.0
    }

    fn frames<'a>(&self, step: u64, pass: &Pass, batch: &'a Batch) -> Result<[Cow<'a, [f32]>; 2], LossError> {
        let augmented = batch.frames.each_ref().map(|frames| &frames[..]);
        Ok(match pass.view {
            View::Original => Self::original(batch).map(Cow::Borrowed),
            View::Augmented => augmented.map(Cow::Borrowed),
            View::Transformed => {
                let cut = self.cut(step);
                let [first, second] = augmented;
                [cut.frames(first, batch.size, false)?.into(), cut.frames(second, batch.size, true)?.into()]
            }
        })
    }

    fn tallies_values(&self) -> bool {
        self.supervised.as_ref().is_some_and(Loss::needs_penalties)
    }

    fn tally(&self, shapes: &[Shape], values: Option<&[Values]>, batch: &Batch) -> Result<Vec<Tally>, LossError> {
        let pairs = batch.ids.len();
        let known = |loss: &Loss| match (&batch.truth, values) {
            (None, _) => Ok(Vec::new()),
            (Some(truth), Some(values)) => loss.measure(&self.forward(values, pairs), truth, self.unit),
            (Some(truth), None) => loss.count(shapes, truth, self.unit),
        };
        let mut tallies = match &self.supervised {
            Some(loss) => known(loss)?,
            None => known(&self.end_point_error())?,
        };
        tallies.resize(shapes.len(), Tally::default());
        tallies.iter_mut().for_each(|tally| tally.pairs = pairs);
        Ok(tallies)
    }

    fn census<'a>(&self, grading: &Grading<'a>) -> Option<Census<'a>> {
        let options = &self.options;
        let on = UnsupervisedOptions::on;
        // What else is compared along the flow is compared on the host, and so is what the census loss of others counts.
        let alone = on(options.weight_census) && !on(options.weight_photo) && !on(options.weight_ssim);
        let plain = !options.use_supervision && !options.use_gt_occlusions && !options.full_size_warp;
        let pass = self.passes(grading.step).into_iter().nth(grading.passes.len().wrapping_sub(1))?;
        let whole = pass.view != View::Transformed && options.sequence_decay == 0.0 && grading.peers.size() == 1;
        let occluded = match options.occlusion(grading.step).estimation {
            OcclusionEstimation::None => Occluded::Nothing,
            OcclusionEstimation::Wang => Occluded::NoArrivals,
            OcclusionEstimation::Brox => Occluded::NoReturn,
            _ => return None,
        };
        (alone && plain && whole).then_some(Census {
            frames: Self::original(grading.batch),
            size: grading.batch.size,
            unit: self.unit,
            grid: options.resize_grid.into(),
            patch: options.census_patch,
            cost: options.distance_census.power()?,
            occluded,
            through_mask: !options.stop_gradient_mask,
            only_forward: options.only_forward,
            weight: options.weight_census * Self::share(grading),
        })
    }

    fn grade(&self, grading: Grading<'_>) -> Result<Graded, LossError> {
        let Grading { step, batch, passes, census, .. } = grading;
        let asked = self.passes(step);
        let (Some(outputs), Some(pass)) = (passes.last(), asked.get(passes.len().wrapping_sub(1))) else {
            return Err(UnsupervisedError::NoFlow.into());
        };
        let share = Self::share(&grading);
        if pass.view != View::Transformed {
            let mut terms = self.judge(&grading, outputs)?;
            terms.scale(share * grading.peers.size() as f64);
            if let Some(census) = census {
                let census = check_finite(census, &[&outputs[0]]);
                terms.value += census;
                terms.terms.insert(0, ("census", census));
            }
            let mut graded = terms.into();
            self.teach(&mut graded, &grading, outputs)?;
            return Ok(graded);
        }
        let found = TeacherAndStudent {
            size: batch.size,
            teacher: &passes[0][0],
            student: &outputs[0],
            unit: self.unit,
            cut: self.cut(step),
        };
        let mut terms = self_supervision(&self.options, step, &found)?;
        terms.scale(share);
        terms.gradients.extend(outputs[1..].iter().map(|output| Values::zeros(output.shape)));
        Ok(terms.into())
    }
}

impl From<Terms> for Graded {
    fn from(Terms { value, terms, gradients }: Terms) -> Self {
        Self { value, terms, epe: None, gradients }
    }
}
