//! Runs: their folders, how they begin and go on, and what is written.

mod session;
mod sums;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use ferroflow_core::Size;
use ferroflow_net::{
    Model, Weights,
    device::{Device, DeviceError},
    weights::{
        Provenance,
        store::{self, Precision},
    },
};
use serde_json::json;

use crate::{
    checkpoint::{self, CheckpointError, Exact},
    data::keep_back,
    error::TrainError,
    folder::Folder,
    init::{self, Origin},
    log::{Log, Report},
    peers::{Alone, Peers, agree},
    pictures::{Picture, png},
    recipe::Recipe,
    state::State,
    tensorboard::Events,
    validate::{Score, overall},
};
use session::Session;

/// How long a branch is where nobody says, as a share of the steps before it.
const BRANCH: f64 = 0.15;

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
        let model = self.recipe.model()?;
        let criterion = self.recipe.criterion(&model)?;
        let trained = self.recipe.trained(&model);
        Session::open(self, device, &model, &*criterion, &trained, watch)?.train(stop, watch)
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
