//! The loop: one step after the other, and what is written between them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ferroflow_core::{Size, memory};
use ferroflow_net::{
    Model, Weights,
    device::{Device, DeviceError},
    graph::ParamId,
    training::{Gradients, Values},
};
use serde_json::json;

use super::{
    Event, Outcome, Run, diverged, sensible,
    sums::{Sums, of_all, tally, tally_pass},
};
use crate::{
    clock::Clock,
    criterion::{Criterion, Grading, Pass, Whose},
    data::{Batch, Batches},
    dropout::{self, Kept},
    error::TrainError,
    log::{Log, Times},
    loss::{Tally, add_term},
    optimiser::norm,
    peers::{Metered, Peers, Sharing, agree, backward_and_sum, compare},
    recipe::Recipe,
    state::State,
    tensorboard::Events,
    trainers::Trainers,
    validate::{Score, Validation, ValidationError},
};

/// Share of the batch in the running statistics of batch norm, as in PyTorch.
const STATISTICS: f32 = 0.1;

/// Passes over one batch, for numbering them.
const MOST_PASSES: usize = 16;

/// A run while this rank trains it.
pub(super) struct Session<'a> {
    run: &'a Run,
    recipe: &'a Recipe,
    model: &'a Model,
    criterion: &'a dyn Criterion,
    peers: Arc<Metered>,
    trainers: Trainers<'a>,
    /// Sums over the step that is being computed.
    gradients: Gradients,
    state: State,
    teacher: Option<Weights>,
    batches: Batches,
    /// Size of the crops of now.
    crop: Size,
    /// Whether the weights stay on a device that can optimise by itself.
    stays: bool,
    /// Whether sums over ranks are taken beside the backward pass.
    beside: bool,
    validation: Option<Validation>,
    /// The last evaluation, and after which step it was.
    evaluated: Option<(u64, Vec<Score>)>,
    log: Log,
    events: Events,
    clock: Clock,
    shared: Sharing,
}

/// What a step came to, over all its batches and all ranks.
struct Total {
    loss: f64,
    terms: Vec<(&'static str, f64)>,
    /// Pixels, where the truth is known.
    epe: Option<f64>,
    /// Norm of the gradient.
    length: f64,
    /// By which the loss was multiplied for the gradient's sake.
    scale: f32,
}

/// What the batches of a step have come to so far.
#[derive(Default)]
struct SoFar {
    /// What all of them hold together, where that is known and more than one batch.
    whole: Option<Vec<Tally>>,
    sums: Sums,
    /// Whether the gradients are those of all ranks already.
    summed: bool,
}

impl Total {
    /// Why the step cannot be applied, if it cannot.
    fn fault(&self) -> Option<&'static str> {
        match (self.loss.is_finite(), self.length.is_finite()) {
            (false, _) => Some("the loss is not finite"),
            (true, false) => Some("a gradient is not finite"),
            (true, true) => None,
        }
    }
}

impl<'a> Session<'a> {
    /// Opens everything, and says what there is to know of it. Whatever may fail does so here, on any rank, before there is anything
    /// to lose.
    pub fn open(
        run: &'a Run,
        device: &'a Arc<dyn Device>,
        model: &'a Model,
        criterion: &'a dyn Criterion,
        trained: &'a [bool],
        watch: &mut dyn FnMut(Event),
    ) -> Result<Self, TrainError> {
        let recipe = &run.recipe;
        let metered = Arc::new(Metered::new(run.peers.clone()));
        let peers: Arc<dyn Peers> = metered.clone();
        let (ranks, here) = (peers.size(), peers.on_this_machine());
        let mut trainers = Trainers::new(device, &model.graph, criterion, recipe.batch / ranks, trained);
        trainers.join(&peers, recipe.sync_batch_norm);
        trainers.recompute = recipe.recompute;

        let mut open = || -> Result<_, TrainError> {
            if !recipe.batch.is_multiple_of(ranks) {
                return Err(TrainError::Ranks { batch: recipe.batch, ranks });
            }
            if let (Some(bytes), 2..) = (trainers.memory(recipe.crop_at(recipe.start))?, here) {
                // Each looks at what the others are about to take as well.
                memory::check(bytes * here as u64).map_err(DeviceError::Memory)?;
            }
            let validation = if run.is_first() { Some(Validation::open(recipe, device)?) } else { None };
            run.doubts.iter().for_each(|doubt| watch(Event::Warning(doubt.clone())));
            let state = run.state(model, trained, watch)?;
            let teacher = if criterion.has_teacher() { Some(run.teacher(model, &state)?) } else { None };
            trainers.prepare(recipe.crop_at(state.progress.step))?;
            let batches = Batches::open(recipe, criterion.needs(), state.progress.position, &*peers)?;
            Ok((validation, state, teacher, batches))
        };
        let opened = open();
        let (mut validation, state, teacher, batches) = agree(&*peers, opened)?;
        compare(&*peers, &state.fingerprint())?;
        let crop = recipe.crop_at(state.progress.step);
        let mut remarks = batches.remarks().to_vec();
        for remark in validation.iter().flat_map(Validation::remarks) {
            // Both parts of a split have the same to say.
            if !remarks.contains(remark) {
                remarks.push(format!("to evaluate on: {remark}"));
            }
        }
        remarks.iter().for_each(|remark| watch(Event::Note(remark)));
        if let Some(bytes) = trainers.memory(crop)? {
            let each = if ranks > 1 { " on each rank" } else { "" };
            watch(Event::Note(&format!("a step takes about {:.0} MB of memory{each}", bytes as f64 / 1e6)));
        }
        if ranks > 1 {
            let (local, threads) = (recipe.batch / ranks, rayon::current_num_threads());
            watch(Event::Note(&format!(
                "{ranks} ranks, {here} on this machine; each has {local} pairs of a batch; {threads} threads"
            )));
        }
        if run.resumed && run.is_first() {
            // Not before its changes have proved possible.
            run.folder.write_recipe(recipe)?;
        }
        let (mut log, mut events) = run.records(state.progress.step)?;
        log.line(&run.opening(model, state.progress.step, &remarks))?;
        let mut state = state;
        if let Some(data) = validation.as_mut().filter(|data| data.compares() && state.progress.step == recipe.start) {
            let found = data.run(model, state.best_guess())?;
            run.validated(&mut state, model, found, 0.0, &mut log, &mut events, watch)?;
        }
        Ok(Self {
            run,
            recipe,
            model,
            criterion,
            trainers,
            gradients: Gradients::zeros(&model.graph, trained),
            teacher,
            crop,
            stays: stays(recipe, criterion, &state),
            beside: recipe.sum_beside.unwrap_or(here < ranks) && peers.sums_beside() && ranks > 1,
            validation,
            evaluated: None,
            log,
            events,
            clock: Clock::start(&batches),
            shared: Sharing::start(&metered),
            state,
            batches,
            peers: metered,
        })
    }

    /// Goes on until the last step, or until `stop` is set on any rank.
    pub fn train(mut self, stop: &AtomicBool, watch: &mut dyn FnMut(Event)) -> Result<Outcome, TrainError> {
        while self.state.progress.step < self.recipe.steps && !self.is_stopped(stop) {
            if !self.step(stop, watch)? {
                break;
            }
        }
        let step = self.state.progress.step;
        let finished = step >= self.recipe.steps;
        if !finished {
            self.trainers.fetch(&mut self.state.weights, &mut self.state.optimiser)?;
            self.run.save(&self.state, self.model, &self.evaluated, watch)?;
        }
        let scores = self.evaluated.map(|(_, scores)| scores).unwrap_or_default();
        Ok(Outcome { step, finished, scores, best: self.state.progress.best.map(|best| best.0) })
    }

    fn is_stopped(&self, stop: &AtomicBool) -> bool {
        self.peers.any(stop.load(Ordering::Relaxed))
    }

    /// One step, and what is due after it. False if it was asked to stop halfway: then the step has not begun.
    fn step(&mut self, stop: &AtomicBool, watch: &mut dyn FnMut(Event)) -> Result<bool, TrainError> {
        let rate = self.recipe.rate(self.state.progress.step);
        let statistics = self.state.statistics(&self.model.graph);
        self.begin(watch)?;
        let parts = (0..self.recipe.accumulate).map(|_| self.batches.take()).collect::<Result<Vec<_>, _>>()?;
        let Some(sums) = self.compute(&parts, stop)? else {
            // Going on does it again.
            self.state.restore(&statistics, |_| true);
            return Ok(false);
        };
        let total = self.total(sums)?;
        self.state.progress.step += 1;
        self.state.progress.position = self.batches.position();
        match total.fault() {
            None => self.apply(&total, rate, &statistics)?,
            Some(reason) => {
                // As if it had not been, but for the data: the same pairs would do the same again.
                self.state.restore(&statistics, |_| true);
                self.skip(reason, total.loss.is_finite(), parts, watch)?;
            }
        }
        self.report(&total, rate, watch)?;
        self.keep(watch)?;
        Ok(true)
    }

    /// Makes ready for a step: crops of another size, weights that changed.
    fn begin(&mut self, watch: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
        let crop = self.recipe.crop_at(self.state.progress.step);
        if crop != self.crop {
            self.crop = crop;
            self.trainers.fetch(&mut self.state.weights, &mut self.state.optimiser)?;
            self.trainers.clear();
        }
        let (left, way) = match self.stays {
            true => self.trainers.leave(crop, &self.state.weights, &self.state.optimiser)?,
            false => (false, None),
        };
        if let Some(way) = way {
            watch(Event::Note(&format!("ranks add their gradients {way}")));
        }
        if !left {
            self.gradients.clear();
            self.trainers.forget_student();
        }
        Ok(())
    }

    /// Forward and backward, batch after batch: together they are one large batch. `None` if it was asked to stop between two.
    fn compute(&mut self, parts: &[Batch], stop: &AtomicBool) -> Result<Option<Sums>, TrainError> {
        let mut so_far = SoFar::default();
        if parts.len() > 1 {
            let own = tally(self.criterion, self.model, self.crop, &mut self.trainers, &self.state.weights, parts)?;
            so_far.whole = Some(of_all(&*self.peers, own));
        }
        for (part, batch) in parts.iter().enumerate() {
            if part > 0 && self.is_stopped(stop) {
                return Ok(None);
            }
            let mut seen = Vec::new();
            let passes = self.criterion.passes(self.state.progress.step);
            let last = passes.iter().rposition(|pass| pass.differentiated).filter(|_| part + 1 == parts.len());
            for (number, pass) in passes.iter().enumerate() {
                self.pass(pass, part * MOST_PASSES + number, last == Some(number), batch, &mut seen, &mut so_far)?;
            }
        }
        if !so_far.summed {
            self.peers.wait(|| match self.trainers.resident() {
                Some(run) => run.sum(),
                None => {
                    self.peers.sum(self.gradients.values_mut());
                    Ok(())
                }
            })?;
        }
        Ok(Some(so_far.sums))
    }

    /// One pass over one batch, `place` among those of the step. Adds its outputs to those `seen` of the batch. After the `last` pass that
    /// has a gradient, this may be summed over all ranks.
    fn pass(
        &mut self,
        pass: &Pass,
        place: usize,
        last: bool,
        batch: &Batch,
        seen: &mut Vec<Vec<Values>>,
        so_far: &mut SoFar,
    ) -> Result<(), TrainError> {
        let (recipe, criterion, step) = (self.recipe, self.criterion, self.state.progress.step);
        let size = criterion.size(pass, self.crop);
        let beside = self.beside && last && self.trainers.resident().is_none();
        let dropped = match pass.differentiated {
            true => dropout::draw(&self.model.level_params, recipe.level_dropout, recipe.seed, [step, place as u64]),
            false => Vec::new(),
        };
        let trainer = match (pass.weights, &self.teacher) {
            (Whose::Teacher, Some(teacher)) => self.trainers.with(size, pass.weights, teacher)?,
            _ if dropped.is_empty() => self.trainers.with(size, pass.weights, &self.state.weights)?,
            _ => self.trainers.with_odd(size, &dropout::without(&self.state.weights, &dropped))?,
        };
        let frames = criterion.frames(step, pass, batch)?;
        let outputs = trainer.forward([&frames[0], &frames[1]])?;
        if pass.differentiated && so_far.whole.is_none() && self.peers.size() > 1 {
            // The whole is this batch, of which the other ranks have seen their parts too.
            so_far.whole = Some(of_all(&*self.peers, tally_pass(criterion, &outputs, batch)?));
        }
        seen.push(outputs);
        if !pass.differentiated {
            return Ok(());
        }
        let scale = self.state.progress.scale.factor;
        let (passes, whole) = (&seen[..], so_far.whole.as_deref());
        let grading = Grading { step, batch, passes, whole, peers: &*self.peers, census: None };
        let census = criterion.census(&grading).map(|census| trainer.census(&census, scale.into())).transpose()?;
        let mut graded = criterion.grade(Grading { census: census.flatten(), ..grading })?;
        so_far.sums.add(&graded);
        if scale != 1.0 {
            graded.gradients.iter_mut().flat_map(|g| &mut g.data).for_each(|g| *g *= scale);
        }
        if beside && dropped.is_empty() {
            backward_and_sum(trainer, graded.gradients, &mut self.gradients, &self.peers)?;
            so_far.summed = true;
        } else {
            let kept = Kept::of(&self.gradients, &dropped);
            trainer.backward(graded.gradients, &mut self.gradients)?;
            kept.put_back(&mut self.gradients);
        }
        trainer.update_statistics(STATISTICS, &mut self.state.weights);
        Ok(())
    }

    /// What the step came to, on all ranks together.
    fn total(&mut self, sums: Sums) -> Result<Total, TrainError> {
        if self.peers.size() > 1 && !self.recipe.sync_batch_norm {
            self.state.follow_first(&self.model.graph, &*self.peers);
        }
        let Sums { mut value, mut terms, epe } = sums.of_all(&*self.peers);
        if self.recipe.regulariser_in_loss {
            let regulariser = self.state.optimiser.regulariser(&self.state.weights);
            value += regulariser;
            add_term(&mut terms, "regulariser", regulariser);
        }
        let scaled = match self.trainers.resident() {
            // Devices of other makes round otherwise, and all ranks take the same step.
            Some(run) => self.peers.gather(&[run.norm()?])[0],
            None => norm(&self.gradients),
        };
        let scale = self.state.progress.scale.factor;
        Ok(Total { loss: value, terms, epe, length: scaled / f64::from(scale), scale })
    }

    /// Changes the weights by the step's gradients.
    fn apply(&mut self, total: &Total, rate: f64, statistics: &[(ParamId, Vec<f32>)]) -> Result<(), TrainError> {
        let (state, recipe) = (&mut self.state, self.recipe);
        let (clip, length, scale) = (recipe.clip, total.length, f64::from(total.scale));
        let factor = if clip > 0.0 && length > clip { clip / length / scale } else { 1.0 / scale } as f32;
        match self.trainers.resident() {
            Some(run) => state.optimiser.count(rate, factor).map_or(Ok(()), |step| run.step(step))?,
            None => state.optimiser.step(&mut state.weights, &self.gradients, rate, factor),
        }
        state.restore(statistics, |id| recipe.freezes(&self.model.graph.param(id).name));
        if let Some(average) = &mut state.average {
            average.update(&state.weights, state.progress.updates);
        }
        let progress = &mut state.progress;
        progress.updates = state.optimiser.steps();
        progress.scale.good();
        progress.skipped = 0;
        for window in [&mut progress.window, &mut progress.epoch] {
            window.add(total.loss, &total.terms, total.epe, length);
        }
        Ok(())
    }

    /// Notes that the step was skipped.
    ///
    /// # Errors
    /// If too many were, one after the other.
    fn skip(
        &mut self,
        reason: &'static str,
        has_loss: bool,
        parts: Vec<Batch>,
        watch: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        if let Some(run) = self.trainers.resident() {
            run.clear();
        }
        let own: Vec<String> = parts.into_iter().flat_map(|batch| batch.ids).collect();
        let of_ranks = self.peers.texts(&own.join("\n"));
        let samples: Vec<String> = of_ranks.iter().flat_map(|of_rank| of_rank.lines().map(str::to_string)).collect();
        let progress = &mut self.state.progress;
        let step = progress.step;
        self.log.line(&json!({ "step": step, "skipped": reason, "samples": samples }))?;
        watch(Event::Warning(format!("step {step} skipped, {reason}: {}", samples.join(", "))));
        // An overflow that a smaller loss scale may cure is no fault of the run.
        let curable = has_loss && progress.scale.overflow();
        progress.skipped += u64::from(!curable);
        match progress.skipped {
            count if count >= self.recipe.max_skipped => Err(TrainError::Diverged { count, step, reason, samples }),
            _ => Ok(()),
        }
    }

    /// Tells of the step, and of the steps since the last line of the log and of the epoch where they end.
    fn report(&mut self, total: &Total, rate: f64, watch: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
        let (recipe, progress) = (self.recipe, &mut self.state.progress);
        let (step, scale) = (progress.step, total.scale);
        let Times { waiting, samples_per_second, .. } = self.clock.total(&self.batches);
        watch(Event::Step { step, loss: total.loss, epe: total.epe, lr: rate, waiting, samples_per_second });
        let logs = step.is_multiple_of(recipe.log_every) || step == recipe.steps;
        if logs && progress.window.steps > 0 {
            let report = progress.window.report(step, rate, scale, self.clock.lap(&self.batches));
            self.log.line(&report)?;
            if self.peers.size() > 1 {
                self.log.line(&self.shared.lap(step, &self.peers, &self.batches))?;
            }
            watch(Event::Logged(&report));
            if let Some(epe) = report.epe.filter(|&epe| epe > sensible(self.crop)) {
                watch(Event::Warning(diverged(&format!("steps up to {step}"), epe)));
            }
            let scalars = report.scalars();
            let scalars: Vec<(&str, f64)> = scalars.iter().map(|(tag, value)| (&**tag, *value)).collect();
            self.events.scalars(step, &scalars).map_err(TrainError::Events)?;
            progress.window = Default::default();
        }
        if recipe.epoch_steps > 0 && step.is_multiple_of(recipe.epoch_steps) {
            let (epoch, time) = (step / recipe.epoch_steps, self.clock.epoch(&self.batches));
            let seconds_per_step = (recipe.batch * recipe.accumulate) as f64 / time.samples_per_second.max(1e-9);
            let loss = progress.epoch.report(step, rate, scale, time).loss;
            let time = json!({ "seconds": time.seconds, "seconds_per_step": seconds_per_step });
            self.log.line(&json!({ "step": step, "epoch": epoch, "epoch_loss": loss, "lr": rate, "time": time }))?;
            watch(Event::Epoch { epoch, loss, lr: rate, seconds_per_step });
            progress.epoch = Default::default();
        }
        Ok(())
    }

    /// Evaluates and saves after the steps after which that is due.
    fn keep(&mut self, watch: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
        let (recipe, step) = (self.recipe, self.state.progress.step);
        let last = step == recipe.steps;
        let (saves, validates) = (step.is_multiple_of(recipe.checkpoint_every) || last, recipe.validates(step));
        if saves || validates {
            self.trainers.fetch(&mut self.state.weights, &mut self.state.optimiser)?;
        }
        if let Some(validation) = self.validation.as_mut().filter(|_| validates || last) {
            match validation.run(self.model, self.state.best_guess()) {
                Ok(found) => {
                    let seconds = self.clock.total(&self.batches).seconds;
                    let (state, log, events) = (&mut self.state, &mut self.log, &mut self.events);
                    let scores = self.run.validated(state, self.model, found, seconds, log, events, watch)?;
                    self.evaluated = Some((step, scores));
                }
                // Weights that diverged: the loop itself decides when to stop.
                Err(error @ (ValidationError::NotFinite(_) | ValidationError::BeyondSense(_))) => {
                    watch(Event::Warning(error.to_string()))
                }
                Err(error) => return Err(error.into()),
            }
        }
        if saves {
            self.run.save(&self.state, self.model, &self.evaluated, watch)?;
        }
        Ok(())
    }
}

/// Whether the weights may stay on a device that can optimise by itself: all passes of a step see frames of one size with the student's
/// weights, and nothing on the host reads these between two steps.
fn stays(recipe: &Recipe, criterion: &dyn Criterion, state: &State) -> bool {
    let of_one_size = |step: u64| {
        let crop = recipe.crop_at(step);
        criterion.passes(step).iter().all(|pass| criterion.size(pass, crop) == crop)
    };
    state.optimiser.is_adam()
        && state.average.is_none()
        && !criterion.has_teacher()
        && !recipe.regulariser_in_loss
        && recipe.level_dropout == 0.0
        && of_one_size(recipe.start)
        && of_one_size(recipe.steps)
}
