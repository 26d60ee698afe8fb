//! A recipe: everything that decides a training run, as TOML.
//!
//! `model, data, steps, batch, crop` and `lr` have no default (`epochs` may stand for `steps`). A name stands for a table with that name and its defaults:
//! `schedule = "cosine"` is `schedule = { name = "cosine" }`. Keys that do not exist are refused, with the nearest that does.

mod batches;
mod epochs;
mod nearest;
mod parse;
mod shipped;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ferroflow_core::Size;
use ferroflow_data::{
    Spec,
    augment::{self, Beside},
};
use ferroflow_infer::evaluate::Project;
use ferroflow_net::{Model, ModelError, graph::Initialisation};
use serde::{Deserialize, Serialize};

pub use nearest::nearest;
pub(crate) use nearest::no_such;
pub use shipped::{SHIPPED, Shipped};

use crate::{
    criterion::{Criterion, Supervised},
    loss::{self, LossConfig, LossError},
    optimiser::{Decay, Decayed, LossScale, LossScaleConfig, OptimiserConfig},
    schedule::Schedule,
    unsupervised::{Unsupervised, UnsupervisedOptions},
};

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The network: `pwcnet`, `flownet2-c`, ...
    pub model: String,
    /// Data to train on; several are joined.
    pub data: Vec<String>,
    /// Data to evaluate on during training.
    #[serde(default)]
    pub validate: Vec<String>,
    /// The last step of the run. Instead, `epochs` may be given; and `"2 epochs"` wherever a number of steps is asked for.
    pub steps: u64,
    /// Steps of an epoch: as many as the data give batches where they end and epochs are spoken of; 0: nothing counts epochs.
    #[serde(default)]
    pub epoch_steps: u64,
    /// Steps that are taken to be done when the run begins: where its schedules enter.
    #[serde(default)]
    pub start: u64,
    /// Pairs in a forward pass, those of all ranks together.
    pub batch: usize,
    /// Size that frames are cut to.
    pub crop: Size,
    /// Decides the order of the data, augmentation, and the first weights.
    #[serde(default = "one")]
    pub seed: u64,
    /// Learning rate, as the schedule understands it.
    pub lr: f64,
    /// Steps between checkpoints.
    #[serde(default = "thousand")]
    pub checkpoint_every: u64,
    /// Checkpoints kept; 0: all.
    #[serde(default = "five")]
    pub keep: usize,
    /// How many of the best weights are kept, in `weights/best/`; 1: only `weights/best.safetensors`.
    #[serde(default = "one_pass")]
    pub keep_best: usize,
    /// Steps between evaluations; 0: at checkpoints.
    #[serde(default)]
    pub validate_every: u64,
    /// The first step with an evaluation, from which on the others are counted.
    #[serde(default)]
    pub validate_from: u64,
    /// Most pairs of each data set to evaluate on; 0: all.
    #[serde(default)]
    pub validate_pairs: usize,
    /// How frames are fitted and errors averaged in an evaluation: as this project does. The network's own fit, and over pixels, where
    /// not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate_protocol: Option<String>,
    /// Size in which the network sees the frames of an evaluation; the flow is resized back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate_size: Option<Size>,
    /// The centre of this size is evaluated (`eval_size`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate_crop: Option<Size>,
    /// Pairs in the batches over which errors are averaged; as the protocol has it where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate_batch: Option<usize>,
    /// What TensorBoard shows of an evaluation.
    #[serde(default)]
    pub pictures: Pictures,
    /// Steps between lines of the log.
    #[serde(default = "ten")]
    pub log_every: u64,
    /// The run stops after so many steps in a row that could not be taken.
    #[serde(default = "ten")]
    pub max_skipped: u64,
    /// Threads that read and augment data; 0: half of the cores.
    #[serde(default)]
    pub workers: usize,
    /// `none`, `crop`, `flownet`, `tfoptflow-heavy`, `lightflow`, `raft`, ...
    #[serde(default = "crop")]
    pub augment: String,
    /// Pixels that are covered in the second frame, or leave it, do not count: for data that know them.
    #[serde(default)]
    pub skip_occluded: bool,
    /// Forward passes whose gradients are averaged to one step.
    #[serde(default = "one_pass")]
    pub accumulate: usize,
    /// Whether parts of the network are computed again for the gradient instead of keeping all values: less memory, more time (CPU).
    #[serde(default)]
    pub recompute: bool,
    /// Whether ranks that share a batch normalise it as one (batch norm); else each its part of it.
    #[serde(default = "yes")]
    pub sync_batch_norm: bool,
    /// Whether the gradients of the ranks are added while the backward pass computes others, by a thread of its own. Where not given:
    /// if ranks are on several machines, for on one there is nothing to wait for meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum_beside: Option<bool>,
    /// The learning rate rises from 0 over so many steps.
    #[serde(default)]
    pub warmup: u64,
    /// Pull of weights towards 0.
    #[serde(default)]
    pub weight_decay: f64,
    /// Which parameters it pulls at.
    #[serde(default)]
    pub decayed: Decayed,
    /// The pull of biases, where it is not that of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias_decay: Option<f64>,
    /// Whether the loss that is logged has weight decay as a part, as in tfoptflow.
    #[serde(default)]
    pub regulariser_in_loss: bool,
    /// Largest global norm of the gradients; 0: any.
    #[serde(default)]
    pub clip: f64,
    /// Memory of the averaged weights, as 0.999; 0: no averaging.
    #[serde(default)]
    pub ema: f64,
    /// How probably a level of the network says nothing in a pass, with no making up for it (UFlow).
    #[serde(default)]
    pub level_dropout: f64,
    /// A number, or `"dynamic"`.
    #[serde(default)]
    pub loss_scale: LossScaleConfig,
    /// Parameters whose names begin so are not trained.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Whose options count where the weights of `init` were made with others.
    #[serde(default)]
    pub init_options: InitOptions,
    /// What comes before `data`: the first steps of the run, stage by stage.
    #[serde(default)]
    pub pretrain: Vec<Pretrain>,
    /// What is minimised: a loss that compares flows with their truth, or `uflow`, which compares the frames.
    pub loss: LossConfig,
    /// How `uflow` compares frames; beside another loss, what is added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsupervised: Option<UnsupervisedOptions>,
    /// How weights follow gradients.
    #[serde(default = "adam")]
    pub optimiser: OptimiserConfig,
    /// How the learning rate changes.
    #[serde(default = "constant")]
    pub schedule: Schedule,
    /// How first weights are drawn; as the network's reference does where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialisation: Option<Initialisation>,
    /// Weights to start from, by the prefix that their names get: `{ "flownetc." = "c.safetensors" }`; a single file has
    /// the prefix "". Files of this program, or other projects' checkpoints. What no file holds starts at random.
    #[serde(default)]
    pub init: BTreeMap<String, String>,
    /// Options of the network.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Whose options of the network count: those that the weights of [`init`](Recipe::init) were made with, or the recipe's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitOptions {
    /// The weights': they count as if the recipe named them. Where it names others, it is refused, unless the same weights
    /// serve with either.
    #[default]
    Stored,
    /// The recipe's, where it names any.
    Override,
}

/// What TensorBoard shows of each data set after an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pictures {
    /// The first pair: frame 1, the truth, the estimate.
    #[default]
    Beside,
    /// LightFlow's: of three pairs, frames, truth and estimate by themselves, in colours of which 10 px is the full strength.
    Lightflow,
    /// tfoptflow's `top_flow`: of three pairs, both frames, the truth and the estimate.
    TopFlow,
    /// tfoptflow's `pyramid`: the same with the flow of every level, coarse to fine, before the estimate.
    Pyramid,
}

/// Steps with other data than the recipe's own, as where that is too hard to begin with, or of another size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    /// Data to train on; several are joined.
    pub data: Vec<String>,
    /// How many of the run's steps.
    pub steps: u64,
    /// Size that frames are cut to; the recipe's where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Size>,
    /// Whether occluded pixels do not count; as the recipe where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_occluded: Option<bool>,
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

fn one_pass() -> usize {
    1
}

fn five() -> usize {
    5
}

fn ten() -> u64 {
    10
}

fn thousand() -> u64 {
    1000
}

fn crop() -> String {
    "crop".into()
}

fn adam() -> OptimiserConfig {
    OptimiserConfig::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
}

fn constant() -> Schedule {
    Schedule::Constant {}
}

/// A recipe that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither a file nor a shipped recipe.
    #[error("{0}; `ferroflow train --list` describes them")]
    NoSuchRecipe(String),
    /// Not TOML, a key that does not exist, or a value of the wrong kind.
    #[error("{name}: {reason}")]
    Text {
        /// The recipe.
        name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Values that contradict each other or the network.
    #[error("{0}")]
    Value(String),
    /// There is no such network or option.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Recipe {
    /// A shipped recipe by name, or a file by its path, with `key=value` changes.
    pub fn open<S: AsRef<str>>(name: &str, changes: &[S]) -> Result<Self, RecipeError> {
        if let Some(shipped) = SHIPPED.iter().find(|r| r.name == name) {
            return Self::parse(name, shipped.text, changes);
        }
        let path = Path::new(name);
        if path.extension().is_none() && !path.exists() {
            return Err(RecipeError::NoSuchRecipe(no_such("recipe", name, SHIPPED.iter().map(|r| r.name))));
        }
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::Io { path: path.into(), source })?;
        Self::parse(name, &text, changes)
    }

    /// From TOML, with `key=value` changes. `name` is for messages.
    pub fn parse<S: AsRef<str>>(name: &str, text: &str, changes: &[S]) -> Result<Self, RecipeError> {
        let recipe = parse::parse(text, changes).map_err(|reason| RecipeError::Text { name: name.into(), reason })?;
        recipe.check()?;
        Ok(recipe)
    }

    /// As TOML, every key written out.
    pub fn to_toml(&self) -> String {
        // A struct of numbers, strings and tables of them can always be written.
        toml::to_string(self).expect("a recipe is TOML")
    }

    /// The network.
    pub fn model(&self) -> Result<Model, RecipeError> {
        Ok(Model::with_options(&self.model, &self.options)?)
    }

    /// What is minimised, for [its network](Self::model).
    pub fn criterion(&self, model: &Model) -> Result<Box<dyn Criterion>, RecipeError> {
        let wrong = |error: LossError| RecipeError::Value(error.to_string());
        let alone = self.loss.name == loss::UFLOW;
        let supervised = if alone { None } else { Some(self.loss.build().map_err(RecipeError::Value)?) };
        match (supervised, &self.unsupervised) {
            (Some(loss), None) => Ok(Box::new(Supervised::new(loss, model).map_err(wrong)?)),
            (supervised, options) => {
                let options = options.clone().unwrap_or_default();
                let varies = self.level_dropout > 0.0;
                let criterion = Unsupervised::new(options, supervised, model, self.crop, self.seed, varies);
                Ok(Box::new(criterion.map_err(wrong)?))
            }
        }
    }

    /// The learning rate of update `step`.
    pub fn rate(&self, step: u64) -> f64 {
        let rise = if step < self.warmup { (step + 1) as f64 / self.warmup as f64 } else { 1.0 };
        rise * self.schedule.rate(self.lr, step, self.steps)
    }

    /// How strongly parameters are pulled towards 0.
    pub fn decay(&self) -> Decay {
        let decay = Decay::of(self.weight_decay as f32, self.decayed);
        Decay { biases: self.bias_decay.map_or(decay.biases, |decay| decay as f32), ..decay }
    }

    /// The project whose way of evaluating is followed, if one is named.
    pub fn project(&self) -> Option<Project> {
        self.validate_protocol.as_deref().and_then(Project::named)
    }

    /// Size that frames are cut to in update `step`.
    pub fn crop_at(&self, step: u64) -> Size {
        let mut end = 0u64;
        let stage = self.pretrain.iter().find(|stage| {
            end = end.saturating_add(stage.steps);
            step < end
        });
        stage.and_then(|stage| stage.crop).unwrap_or(self.crop)
    }

    /// Whether a parameter of this name is to stay as it is.
    pub fn freezes(&self, name: &str) -> bool {
        self.freeze.iter().any(|prefix| name.starts_with(prefix))
    }

    /// Which parameters are trained.
    pub fn trained(&self, model: &Model) -> Vec<bool> {
        model.graph.params.iter().map(|p| p.used && p.role.is_trained() && !self.freezes(&p.name)).collect()
    }

    /// Whether the weights are evaluated after step `step`.
    pub fn validates(&self, step: u64) -> bool {
        let every = if self.validate_every == 0 { self.checkpoint_every } else { self.validate_every };
        step > 0 && step >= self.validate_from && (step - self.validate_from).is_multiple_of(every)
    }

    /// Everything that can be known to be wrong before anything is opened.
    pub(crate) fn check(&self) -> Result<(), RecipeError> {
        let wrong = |text: String| Err(RecipeError::Value(text));
        let model = self.model()?;
        self.criterion(&model)?;
        self.schedule.check().map_err(RecipeError::Value)?;
        LossScale::new(&self.loss_scale).map_err(RecipeError::Value)?;
        for (key, value) in
            [("batch", self.batch as u64), ("accumulate", self.accumulate as u64), ("steps", self.steps)]
                .into_iter()
                .chain([("checkpoint_every", self.checkpoint_every), ("log_every", self.log_every)])
                .chain([("keep_best", self.keep_best as u64), ("max_skipped", self.max_skipped)])
                .chain([("validate_batch", self.validate_batch.unwrap_or(1) as u64)])
        {
            if value == 0 {
                return wrong(format!("{key} must be at least 1"));
            }
        }
        if self.start >= self.steps {
            return wrong(format!(
                "start is {} and the run ends at step {}: nothing is left to do",
                self.start, self.steps
            ));
        }
        if self.start > 0 && !self.pretrain.is_empty() {
            return wrong("start is for runs without stages before them: leave pretrain empty".into());
        }
        // Slips of the finger, which would start as many threads or ask for as much memory.
        for (key, value, most) in
            [("batch", self.batch, 4096), ("accumulate", self.accumulate, 65_536), ("workers", self.workers, 1024)]
        {
            if value > most {
                return wrong(format!("{key} is {value}: at most {most}"));
            }
        }
        for crop in self.pretrain.iter().filter_map(|stage| stage.crop).chain([self.crop]) {
            if !crop.height.is_multiple_of(model.stride) || !crop.width.is_multiple_of(model.stride) {
                return wrong(format!("crop is {crop}: {} needs multiples of {}", model.name, model.stride));
            }
        }
        if let Some(name) = self.validate_protocol.as_deref().filter(|_| self.project().is_none()) {
            let known = Project::ALL.iter().map(|project| project.name);
            return wrong(format!("validate_protocol: {}", no_such("protocol", name, known)));
        }
        let fits = |size: Size| size.pixels() > 0 && size.map(|side| side.next_multiple_of(model.stride)) == size;
        if let Some(size) = self.validate_size.filter(|size| !fits(*size)) {
            return wrong(format!("validate_size is {size}: {} needs multiples of {}", model.name, model.stride));
        }
        if self.validate_crop.is_some_and(|size| size.pixels() == 0) {
            return wrong("validate_crop has no pixels".into());
        }
        let amount = |x: f64| x.is_finite() && x >= 0.0;
        if !amount(self.lr) {
            return wrong(format!("lr is {}: give a number of 0 or more", self.lr));
        }
        if !(0.0..1.0).contains(&self.ema) || !amount(self.clip) || !amount(self.weight_decay) {
            return wrong("ema must be from 0 to below 1, clip and weight_decay 0 or more".into());
        }
        if !self.bias_decay.is_none_or(amount) {
            return wrong("bias_decay must be 0 or more".into());
        }
        if !(0.0..1.0).contains(&self.level_dropout) {
            return wrong("level_dropout must be from 0 to below 1".into());
        }
        if self.level_dropout > 0.0 && model.level_params.is_empty() {
            return wrong(format!("level_dropout: {} has no levels that can be left out; set it to 0", model.name));
        }
        if self.unsupervised.as_ref().is_some_and(|options| options.full_size_warp)
            && !augment::CROPPING.contains(&&*self.augment)
        {
            let those = augment::CROPPING.join(", ");
            return wrong(format!(
                "unsupervised.full_size_warp needs an augmentation that cuts frames out: one of {those}"
            ));
        }
        if augment::named(&self.augment, self.crop, Beside::default()).is_none() {
            return wrong(no_such("augmentation", &self.augment, augment::NAMES.into_iter()));
        }
        let stages = || self.pretrain.iter().map(|stage| &stage.data).chain([&self.data]);
        if stages().any(Vec::is_empty) {
            return wrong("data names nothing to train on".into());
        }
        for spec in stages().flatten().chain(&self.validate) {
            spec.parse::<Spec>().map_err(|e| RecipeError::Value(e.to_string()))?;
        }
        if let Some(prefix) =
            self.freeze.iter().find(|f| !model.graph.params.iter().any(|p| p.name.starts_with(f.as_str())))
        {
            return wrong(format!("freeze: no parameter of {} begins with `{prefix}`", model.name));
        }
        if !self.trained(&model).contains(&true) {
            return wrong("freeze leaves nothing to train".into());
        }
        Ok(())
    }
}
