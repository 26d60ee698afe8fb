//! The loop.

mod sums;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ferroflow_core::{Size, memory};
use ferroflow_net::{
    Model, Weights,
    device::{Device, DeviceError},
    training::Gradients,
    weights::{
        Provenance,
        store::{self, Precision},
    },
};
use serde_json::json;

use crate::{
    checkpoint::{self, CheckpointError, Exact},
    clock::Clock,
    criterion::{Criterion, Grading, Whose},
    data::{Batches, keep_back},
    dropout::{self, Kept},
    error::TrainError,
    folder::Folder,
    init::{self, Origin},
    log::{Log, Report, Times},
    loss::add_term,
    optimiser::norm,
    peers::{Alone, Metered, Peers, Sharing, agree, backward_and_sum, compare},
    pictures::{Picture, png},
    recipe::Recipe,
    state::State,
    tensorboard::Events,
    trainers::Trainers,
    validate::{Score, Validation, ValidationError, overall},
};
use sums::{Sums, of_all, tally, tally_pass};

/// How long a branch is where nobody says, as a share of the steps before it.
const BRANCH: f64 = 0.15;

/// Share of the batch in the running statistics of batch norm, as in PyTorch.
const STATISTICS: f32 = 0.1;

/// What happens during a run, for whoever watches.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The loop begins after `step`; so many parameters are trained, so many arrays start at random.
    Started {
        /// Steps done before.
        step: u64,
        /// Values that change.
        trained: usize,
        /// Arrays that no weight file gave.
        random: usize,
    },
    /// A step was done.
    Step {
        /// Steps done.
        step: u64,
        /// Of this step.
        loss: f64,
        /// Of this step, pixels, where the truth is known.
        epe: Option<f64>,
        /// Of this step.
        lr: f64,
        /// Share of the time so far spent waiting for data.
        waiting: f64,
        /// Pairs a second so far.
        samples_per_second: f64,
    },
    /// An epoch was done.
    Epoch {
        /// Epochs done.
        epoch: u64,
        /// Its mean loss.
        loss: f64,
        /// The learning rate of its last step.
        lr: f64,
        /// Mean time of a step.
        seconds_per_step: f64,
    },
    /// The weights were evaluated.
    Validated {
        /// Steps done.
        step: u64,
        /// On each data set.
        scores: &'a [Score],
        /// Whether these are the best so far.
        best: bool,
    },
    /// A checkpoint was written.
    Saved(&'a Path),
    /// A line was added to the log.
    Logged(&'a Report),
    /// What there is to know of the data.
    Note(&'a str),
    /// Something is wrong, but the run goes on.
    Warning(String),
}

/// How a run ended.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// Steps done.
    pub step: u64,
    /// False if it was asked to stop before.
    pub finished: bool,
    /// The last evaluation.
    pub scores: Vec<Score>,
    /// Smallest validation error, mean over the data sets.
    pub best: Option<f64>,
}

/// A run: new in a folder of its own, or to be gone on with.
pub struct Run {
    folder: Folder,
    recipe: Recipe,
    resumed: bool,
    /// What is to be told when it starts.
    doubts: Vec<String>,
    peers: Arc<dyn Peers>,
}

impl Run {
    /// Passes over one batch, for numbering them.
    const MOST_PASSES: usize = 16;

    /// A new run in a folder that holds none. Its recipe takes over the options that the weights of `init` were made with.
    ///
    /// # Errors
    /// Also if those options contradict the recipe's.
    pub fn new(recipe: Recipe, out: &Path) -> Result<Self, TrainError> {
        let (mut recipe, doubts) = init::settle(recipe)?;
        keep_back(&mut recipe)?;
        let folder = Folder::create(out, &recipe)?;
        Ok(Self { folder, recipe, resumed: false, doubts, peers: Arc::new(Alone) })
    }

    /// An earlier run, with `key=value` changes of its recipe.
    pub fn resume<S: AsRef<str>>(root: &Path, changes: &[S]) -> Result<Self, TrainError> {
        let (folder, recipe) = Folder::open(root, changes)?;
        Ok(Self { folder, recipe, resumed: true, doubts: Vec::new(), peers: Arc::new(Alone) })
    }

    /// A run of its own that goes on from the newest checkpoint of another and ends: its rate falls along a straight line
    /// to 0 over `over` steps, or over 15 % of those done so far. So a run at a constant rate may be of unknown length, and
    /// each branch shows what it is worth by now. `changes` of the recipe come after that.
    ///
    /// # Errors
    /// If there is no checkpoint, or if `out` holds a run.
    pub fn branch<S: AsRef<str>>(
        root: &Path,
        out: &Path,
        over: Option<u64>,
        changes: &[S],
    ) -> Result<Self, TrainError> {
        let (trunk, recipe) = Folder::open(root, &[""; 0])?;
        let model = recipe.model()?;
        let Some((mut state, _)) = State::newest(&recipe, &model, &recipe.trained(&model), &trunk)? else {
            return Err(CheckpointError::None(trunk.checkpoints()).into());
        };
        let step = state.progress.step;
        let over = over.unwrap_or((step as f64 * BRANCH) as u64).max(1);
        let end = [
            format!("schedule={{ name = \"linear\", from = {step}, over = {over} }}"),
            format!("steps={}", step + over),
            format!("lr={:e}", recipe.rate(step)),
            "warmup=0".to_string(),
        ];
        let changes: Vec<&str> = end.iter().map(String::as_str).chain(changes.iter().map(AsRef::as_ref)).collect();
        let recipe = Recipe::parse(&root.display().to_string(), &recipe.to_toml(), &changes)?;
        let folder = Folder::create(out, &recipe)?;
        // The best of the branch is not that of the run it comes from.
        state.progress.best = None;
        state.progress.ranked.clear();
        state.progress.window = Default::default();
        let begun = checkpoint::write(&folder.checkpoints(), &model.graph, &state.snapshot(), recipe.keep)
            .map_err(TrainError::from)
            .and_then(|_| match trunk.teacher() {
                teacher if teacher.exists() => Ok(folder.copy_teacher(&teacher)?),
                _ => Ok(()),
            });
        if let Err(error) = begun {
            folder.remove();
            return Err(error);
        }
        Ok(Self { folder, recipe, resumed: true, doubts: Vec::new(), peers: Arc::new(Alone) })
    }

    /// The run that rank 0 opens, to be trained by all ranks together; `open` is called on that one only. They share every batch.
    ///
    /// # Errors
    /// If rank 0 cannot open it; on the others that is [`TrainError::Peer`].
    pub fn among(peers: Arc<dyn Peers>, open: impl FnOnce() -> Result<Self, TrainError>) -> Result<Self, TrainError> {
        let opened = (peers.rank() == 0).then(open);
        let told = match &opened {
            Some(Ok(run)) => json!([run.folder.root(), run.recipe.to_toml(), run.resumed]).to_string(),
            _ => String::new(),
        };
        let told = peers.texts(&told).swap_remove(0);
        if let Some(run) = opened {
            return run.map(|run| Self { peers, ..run });
        }
        let Ok((root, text, resumed)) = serde_json::from_str::<(PathBuf, String, bool)>(&told) else {
            return Err(TrainError::Peer { rank: 0 });
        };
        let recipe = Recipe::parse("rank 0", &text, &[""; 0])?;
        Ok(Self { folder: Folder::of_peer(&root), recipe, resumed, doubts: Vec::new(), peers })
    }

    /// What it follows.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Trains until the recipe's last step, or until `stop` is set; either way everything is saved at the end. A new run that
    /// fails before its first step leaves no folder behind.
    ///
    /// Of several ranks all train, and the first also watches, evaluates and writes; one that is asked to stop stops all.
    ///
    /// # Errors
    /// Also if another process trains in the folder. A rank that fails after the first step leaves the others waiting: its process
    /// has to end theirs.
    pub fn train(
        &self,
        device: &Arc<dyn Device>,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        let first = self.is_first();
        let lock = if first { self.folder.lock().map(Some) } else { Ok(None) };
        let _lock = agree(&*self.peers, lock.map_err(TrainError::from))?;
        if self.resumed && first {
            self.folder.sweep();
        }
        let mut begun = self.resumed;
        let outcome = self.follow(device, stop, &mut |event| {
            begun |= matches!(event, Event::Step { .. });
            if first {
                watch(event);
            }
        });
        if outcome.is_err() && !begun && first {
            self.folder.remove();
        }
        outcome
    }

    /// Whether this rank watches, evaluates and writes.
    fn is_first(&self) -> bool {
        self.peers.rank() == 0
    }

    fn follow(
        &self,
        device: &Arc<dyn Device>,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        let recipe = &self.recipe;
        let metered = Arc::new(Metered::new(self.peers.clone()));
        let peers: Arc<dyn Peers> = metered.clone();
        let ranks = peers.size();
        let beside = recipe.sum_beside.unwrap_or(peers.on_this_machine() < ranks) && peers.sums_beside() && ranks > 1;
        let model = recipe.model()?;
        let graph = &model.graph;
        let criterion = recipe.criterion(&model)?;
        let trained = recipe.trained(&model);
        let mut trainers = Trainers::new(device, graph, &*criterion, recipe.batch / ranks, &trained);
        if recipe.sync_batch_norm {
            trainers.synchronise(&peers);
        }
        trainers.recompute = recipe.recompute;
        let mut gradients = Gradients::zeros(graph, &trained);

        // What may fail, on any rank, before there is anything to lose.
        let mut open = || -> Result<_, TrainError> {
            if !recipe.batch.is_multiple_of(ranks) {
                return Err(TrainError::Ranks { batch: recipe.batch, ranks });
            }
            let crop = recipe.crop_at(recipe.start);
            if let (Some(bytes), here @ 2..) = (trainers.memory(crop)?, peers.on_this_machine()) {
                // Each looks at what the others are about to take as well.
                memory::check(bytes * here as u64).map_err(DeviceError::Memory)?;
            }
            let validation = if self.is_first() { Some(Validation::open(recipe, device)?) } else { None };
            self.doubts.iter().for_each(|doubt| watch(Event::Warning(doubt.clone())));
            let state = self.state(&model, &trained, watch)?;
            let teacher = if criterion.has_teacher() { Some(self.teacher(&model, &state)?) } else { None };
            trainers.prepare(recipe.crop_at(state.progress.step))?;
            let batches = Batches::open(recipe, criterion.needs(), state.progress.position, &*peers)?;
            Ok((validation, state, teacher, batches))
        };
        let opened = open();
        let (mut validation, mut state, teacher, mut batches) = agree(&*peers, opened)?;
        compare(&*peers, &state.fingerprint())?;
        let mut crop = recipe.crop_at(state.progress.step);
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
            let here = peers.on_this_machine();
            watch(Event::Note(&format!(
                "{ranks} ranks, {here} on this machine; each has {local} pairs of a batch; {threads} threads"
            )));
        }
        if self.resumed && self.is_first() {
            // Not before its changes have proved possible.
            self.folder.write_recipe(recipe)?;
        }
        let (mut log, mut events) = self.records(state.progress.step)?;
        let mut clock = Clock::start(&batches);
        let mut shared = Sharing::start(&metered);
        log.line(&self.opening(&model, state.progress.step, &remarks))?;
        let mut evaluated: Option<(u64, Vec<Score>)> = None;
        let stays = ranks == 1 && self.stays(&*criterion, &state);
        if let Some(validation) =
            validation.as_mut().filter(|data| data.compares() && state.progress.step == recipe.start)
        {
            let found = validation.run(&model, state.best_guess())?;
            self.validated(&mut state, &model, found, 0.0, &mut log, &mut events, watch)?;
        }

        'steps: while state.progress.step < recipe.steps && !peers.any(stop.load(Ordering::Relaxed)) {
            let rate = recipe.rate(state.progress.step);
            let scale = f64::from(state.progress.scale.factor);
            let statistics = state.statistics(graph);
            if crop != recipe.crop_at(state.progress.step) {
                crop = recipe.crop_at(state.progress.step);
                trainers.fetch(&mut state.weights, &mut state.optimiser)?;
                trainers.clear();
            }

            // Forward and backward, batch after batch: together they are one large batch.
            if !(stays && trainers.leave(crop, &state.weights, &state.optimiser)?) {
                gradients.clear();
                trainers.forget_student();
            }
            let parts = (0..recipe.accumulate).map(|_| batches.take()).collect::<Result<Vec<_>, _>>()?;
            let mut whole = match &parts[..] {
                [_] => None,
                _ => Some(of_all(&*peers, tally(&*criterion, &model, crop, &mut trainers, &state.weights, &parts)?)),
            };
            let mut sums = Sums::default();
            let mut summed = false;
            for (part, batch) in parts.iter().enumerate() {
                if part > 0 && peers.any(stop.load(Ordering::Relaxed)) {
                    // As if the step had not begun: going on does it again.
                    state.restore(&statistics, |_| true);
                    break 'steps;
                }
                let step = state.progress.step;
                let mut seen = Vec::new();
                let passes = criterion.passes(step);
                let last = passes.iter().rposition(|pass| pass.differentiated).filter(|_| part + 1 == parts.len());
                for (number, pass) in passes.into_iter().enumerate() {
                    let size = criterion.size(&pass, crop);
                    let dropped = match pass.differentiated {
                        true => {
                            let place = [step, (part * Self::MOST_PASSES + number) as u64];
                            dropout::draw(&model.level_params, recipe.level_dropout, recipe.seed, place)
                        }
                        false => Vec::new(),
                    };
                    let trainer = match (pass.weights, &teacher) {
                        (Whose::Teacher, Some(teacher)) => trainers.with(size, pass.weights, teacher)?,
                        _ if dropped.is_empty() => trainers.with(size, pass.weights, &state.weights)?,
                        _ => trainers.with_odd(size, &dropout::without(&state.weights, &dropped))?,
                    };
                    let frames = criterion.frames(step, &pass, batch)?;
                    seen.push(trainer.forward([&frames[0], &frames[1]])?);
                    if !pass.differentiated {
                        continue;
                    }
                    if whole.is_none() && ranks > 1 {
                        // The whole is this batch, of which the other ranks have seen their parts too.
                        let outputs = seen.last().map_or(&[][..], |outputs| outputs);
                        whole = Some(of_all(&*peers, tally_pass(&*criterion, outputs, batch)?));
                    }
                    let (passes, whole) = (&seen[..], whole.as_deref());
                    let grading = Grading { step, batch, passes, whole, peers: &*peers, census: None };
                    let census = criterion.census(&grading).map(|census| trainer.census(&census, scale)).transpose()?;
                    let mut graded = criterion.grade(Grading { census: census.flatten(), ..grading })?;
                    sums.add(&graded);
                    if scale != 1.0 {
                        graded.gradients.iter_mut().flat_map(|g| &mut g.data).for_each(|g| *g *= scale as f32);
                    }
                    if beside && last == Some(number) && dropped.is_empty() {
                        backward_and_sum(trainer, graded.gradients, &mut gradients, &metered)?;
                        summed = true;
                    } else {
                        let kept = Kept::of(&gradients, &dropped);
                        trainer.backward(graded.gradients, &mut gradients)?;
                        kept.put_back(&mut gradients);
                    }
                    trainer.update_statistics(STATISTICS, &mut state.weights);
                }
            }
            if !summed {
                metered.wait(|| metered.sum(gradients.values_mut()));
            }
            if ranks > 1 && !recipe.sync_batch_norm {
                state.follow_first(graph, &*peers);
            }
            let Sums { mut value, mut terms, epe } = sums.of_all(&*peers);
            if recipe.regulariser_in_loss {
                let regulariser = state.optimiser.regulariser(&state.weights);
                value += regulariser;
                add_term(&mut terms, "regulariser", regulariser);
            }
            let samples: Vec<String> = parts.into_iter().flat_map(|batch| batch.ids).collect();
            let length = trainers.resident().map_or_else(|| Ok(norm(&gradients)), |run| run.norm())? / scale;
            state.progress.step += 1;
            state.progress.position = batches.position();
            let step = state.progress.step;
            let last = step == recipe.steps;

            if value.is_finite() && length.is_finite() {
                let clip = recipe.clip;
                let factor = if clip > 0.0 && length > clip { clip / length / scale } else { 1.0 / scale };
                match trainers.resident() {
                    Some(run) => state.optimiser.count(rate, factor as f32).map_or(Ok(()), |step| run.step(step))?,
                    None => state.optimiser.step(&mut state.weights, &gradients, rate, factor as f32),
                }
                state.restore(&statistics, |id| recipe.freezes(&graph.param(id).name));
                if let Some(average) = &mut state.average {
                    average.update(&state.weights, state.progress.updates);
                }
                state.progress.updates = state.optimiser.steps();
                state.progress.scale.good();
                state.progress.skipped = 0;
                state.progress.window.add(value, &terms, epe, length);
                state.progress.epoch.add(value, &terms, epe, length);
            } else {
                // Skipped as if it had not been, but for the data: the same pairs would do the same again.
                state.restore(&statistics, |_| true);
                if let Some(run) = trainers.resident() {
                    run.clear();
                }
                let samples: Vec<String> = peers
                    .texts(&samples.join("\n"))
                    .iter()
                    .flat_map(|of_rank| of_rank.lines().map(str::to_string))
                    .collect();
                let reason = if value.is_finite() { "a gradient is not finite" } else { "the loss is not finite" };
                log.line(&json!({ "step": step, "skipped": reason, "samples": samples }))?;
                watch(Event::Warning(format!("step {step} skipped, {reason}: {}", samples.join(", "))));
                // An overflow that a smaller loss scale may cure is no fault of the run.
                let curable = value.is_finite() && state.progress.scale.overflow();
                state.progress.skipped += u64::from(!curable);
                if state.progress.skipped >= recipe.max_skipped {
                    let count = state.progress.skipped;
                    return Err(TrainError::Diverged { count, step, reason, samples });
                }
            }

            let Times { waiting, samples_per_second, .. } = clock.total(&batches);
            watch(Event::Step { step, loss: value, epe, lr: rate, waiting, samples_per_second });
            if (step.is_multiple_of(recipe.log_every) || last) && state.progress.window.steps > 0 {
                let report = state.progress.window.report(step, rate, scale as f32, clock.lap(&batches));
                log.line(&report)?;
                if ranks > 1 {
                    log.line(&shared.lap(step, &metered, &batches))?;
                }
                watch(Event::Logged(&report));
                if let Some(epe) = report.epe.filter(|&epe| epe > sensible(crop)) {
                    watch(Event::Warning(diverged(&format!("steps up to {step}"), epe)));
                }
                let scalars = report.scalars();
                let scalars: Vec<(&str, f64)> = scalars.iter().map(|(tag, value)| (&**tag, *value)).collect();
                events.scalars(step, &scalars).map_err(TrainError::Events)?;
                state.progress.window = Default::default();
            }
            if recipe.epoch_steps > 0 && step.is_multiple_of(recipe.epoch_steps) {
                let (epoch, time) = (step / recipe.epoch_steps, clock.epoch(&batches));
                let seconds_per_step = (recipe.batch * recipe.accumulate) as f64 / time.samples_per_second.max(1e-9);
                let loss = state.progress.epoch.report(step, rate, scale as f32, time).loss;
                let time = json!({ "seconds": time.seconds, "seconds_per_step": seconds_per_step });
                log.line(&json!({ "step": step, "epoch": epoch, "epoch_loss": loss, "lr": rate, "time": time }))?;
                watch(Event::Epoch { epoch, loss, lr: rate, seconds_per_step });
                state.progress.epoch = Default::default();
            }
            let saves = step.is_multiple_of(recipe.checkpoint_every) || last;
            if saves || recipe.validates(step) {
                trainers.fetch(&mut state.weights, &mut state.optimiser)?;
            }
            if let Some(validation) = validation.as_mut().filter(|_| recipe.validates(step) || last) {
                match validation.run(&model, state.best_guess()) {
                    Ok(found) => {
                        let seconds = clock.total(&batches).seconds;
                        let scores =
                            self.validated(&mut state, &model, found, seconds, &mut log, &mut events, watch)?;
                        evaluated = Some((step, scores));
                    }
                    // Weights that diverged: the loop itself decides when to stop.
                    Err(error @ (ValidationError::NotFinite(_) | ValidationError::BeyondSense(_))) => {
                        watch(Event::Warning(error.to_string()))
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if saves {
                self.save(&state, &model, &evaluated, watch)?;
            }
        }

        let step = state.progress.step;
        let finished = step >= recipe.steps;
        if !finished {
            trainers.fetch(&mut state.weights, &mut state.optimiser)?;
            self.save(&state, &model, &evaluated, watch)?;
        }
        let scores = evaluated.map(|(_, scores)| scores).unwrap_or_default();
        Ok(Outcome { step, finished, scores, best: state.progress.best.map(|b| b.0) })
    }

    /// Whether the weights may stay on a device that can optimise by itself: all passes of a step see frames of one size with the
    /// student's weights, and nothing on the host reads these between two steps.
    fn stays(&self, criterion: &dyn Criterion, state: &State) -> bool {
        let recipe = &self.recipe;
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

    /// Where the run stands: at its beginning, or after its newest checkpoint.
    fn state(&self, model: &Model, trained: &[bool], watch: &mut dyn FnMut(Event)) -> Result<State, TrainError> {
        let stored = match self.resumed {
            true => State::newest(&self.recipe, model, trained, &self.folder)?,
            false => None,
        };
        let (state, random) = match stored {
            Some((state, damaged)) => {
                for error in damaged {
                    watch(Event::Warning(format!("{error}; going on from the checkpoint before")));
                }
                (state, 0)
            }
            None => State::first(&self.recipe, model, trained)?,
        };
        let params = model.graph.params.iter().zip(trained);
        let trained = params.filter(|(_, trained)| **trained).map(|(p, _)| p.len()).sum();
        watch(Event::Started { step: state.progress.step, trained, random });
        Ok(state)
    }

    /// The weights that the run began with: kept in its folder, for the files that they came from may go.
    fn teacher(&self, model: &Model, state: &State) -> Result<Weights, TrainError> {
        let path = self.folder.teacher();
        if state.progress.step == self.recipe.start {
            let provenance = Provenance::default();
            if self.is_first() {
                store::write(&path, model, &state.weights, &provenance, Precision::F32)?;
            }
            return Ok(state.weights.clone());
        }
        let stored = store::read(&path).map_err(|source| TrainError::Teacher { path, source })?;
        stored.weights.check(&model.graph).map_err(DeviceError::from)?;
        Ok(stored.weights)
    }

    /// The log and TensorBoard's events after a step, which the first rank writes.
    fn records(&self, step: u64) -> Result<(Log, Events), TrainError> {
        if !self.is_first() {
            return Ok((Log::none(), Events::none()));
        }
        let log = Log::open(&self.folder.log(), step)?;
        Ok((log, Events::create(&self.folder.events(), step).map_err(TrainError::Events)?))
    }

    /// The first line that a program writes to the log.
    fn opening(&self, model: &Model, step: u64, remarks: &[String]) -> serde_json::Value {
        let parameters = model.graph.parameter_count();
        let version = env!("CARGO_PKG_VERSION");
        if step == self.recipe.start {
            let mut line = json!({ "model": model.name, "parameters": parameters, "version": version });
            if !remarks.is_empty() {
                line["data"] = json!(remarks);
            }
            line
        } else {
            json!({ "step": step, "resumed": true, "version": version })
        }
    }

    /// Notes an evaluation, and keeps the weights if they are the best so far.
    fn validated(
        &self,
        state: &mut State,
        model: &Model,
        found: Vec<(Score, Vec<Picture>)>,
        seconds: f64,
        log: &mut Log,
        events: &mut Events,
        watch: &mut dyn FnMut(Event),
    ) -> Result<Vec<Score>, TrainError> {
        let step = state.progress.step;
        let mut scores = Vec::with_capacity(found.len());
        for (score, pictures) in found {
            let what = if score.epe.is_some() { "epe" } else { "census" };
            let tags = [what.to_string(), format!("zero_{what}")].map(|tag| format!("validation/{}/{tag}", score.data));
            let values: Vec<(&str, f64)> = tags.iter().map(String::as_str).zip(score.value()).collect();
            events.scalars(step, &values).map_err(TrainError::Events)?;
            for picture in pictures {
                // A picture that cannot be encoded is no reason to stop.
                let size = picture.frame.size();
                if let Ok(bytes) = png(&picture.frame) {
                    if score.epe.is_none() {
                        // Numbers alone say little where no truth is known.
                        self.folder.write_picture(step, scores.len(), &bytes)?;
                    }
                    events.picture(step, &picture.tag, size, bytes).map_err(TrainError::Events)?;
                }
            }
            scores.push(score);
        }
        let Some(error) = overall(&scores) else { return Ok(scores) };
        let lost = scores.iter().find(|score| !score.is_sensible());
        if let Some(score) = lost {
            watch(Event::Warning(diverged(&score.data, score.value()[0])));
        }
        let best = lost.is_none() && state.progress.best.is_none_or(|Exact(b)| error < b);
        log.line(&json!({ "step": step, "validation": scores, "best": best, "time": { "seconds": seconds } }))?;
        if best {
            state.progress.best = Some(Exact(error));
            self.write_weights("best", state, model, &scores)?;
        }
        if lost.is_none() && self.recipe.keep_best > 1 {
            self.rank(error, state, model, &scores)?;
        }
        watch(Event::Validated { step, scores: &scores, best });
        Ok(scores)
    }

    /// Keeps the weights if they are among the best, as files of their own.
    fn rank(&self, error: f64, state: &mut State, model: &Model, scores: &[Score]) -> Result<(), TrainError> {
        let (step, ranked) = (state.progress.step, &mut state.progress.ranked);
        let place = ranked.partition_point(|(known, _)| known.0 <= error);
        ranked.insert(place, (Exact(error), step));
        ranked.truncate(self.recipe.keep_best);
        let kept: Vec<(f64, u64)> = ranked.iter().map(|(error, step)| (error.0, *step)).collect();
        if kept.iter().any(|(_, kept)| *kept == step) {
            let name = self.folder.ranked_name(step)?;
            self.write_weights(&name, state, model, scores)?;
        }
        Ok(self.folder.write_ranking(&kept)?)
    }

    /// Writes the weights to use, then the checkpoint.
    fn save(
        &self,
        state: &State,
        model: &Model,
        evaluated: &Option<(u64, Vec<Score>)>,
        watch: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        if !self.is_first() {
            return Ok(());
        }
        // Only what was measured on these very weights is written into their file.
        let scores = match evaluated {
            Some((step, scores)) if *step == state.progress.step => &scores[..],
            _ => &[],
        };
        self.write_weights("last", state, model, scores)?;
        let folder = self.folder.checkpoints();
        let path = checkpoint::write(&folder, &model.graph, &state.snapshot(), self.recipe.keep)?;
        watch(Event::Saved(&path));
        Ok(())
    }

    /// Where a run stands: in steps, and in epochs where they are counted.
    fn place(&self, step: u64) -> Vec<(&'static str, u64)> {
        let epoch = step.checked_div(self.recipe.epoch_steps);
        [Some(("step", step)), epoch.map(|epoch| ("epoch", epoch))].into_iter().flatten().collect()
    }

    fn write_weights(&self, name: &str, state: &State, model: &Model, scores: &[Score]) -> Result<(), TrainError> {
        let mut provenance = Provenance {
            training_data: Some(self.recipe.data.join(", ")),
            recipe: Some(self.recipe.to_toml()),
            metrics: scores.iter().flat_map(|score| score.metrics()).collect(),
            notes: self
                .place(state.progress.step)
                .into_iter()
                .map(|(key, value)| (key.into(), value.to_string()))
                .collect(),
            ..Provenance::default()
        };
        Origin::tell(&state.progress.origins, &mut provenance);
        let path = self.folder.weights().join(format!("{name}.safetensors"));
        Ok(store::write(&path, model, state.best_guess(), &provenance, Precision::F32)?)
    }
}

/// No flow between frames of this size is longer on average, pixels: weights that say so have diverged.
fn sensible(crop: Size) -> f64 {
    10.0 * f64::hypot(crop.height as f64, crop.width as f64)
}

fn diverged(on: &str, epe: f64) -> String {
    format!(
        "the flow is {epe:.3e} px off on average ({on}), beyond any sense: the run has diverged; lower lr, clip the gradients \
         (clip), or begin with a warmup"
    )
}

#[cfg(test)]
mod tests;
