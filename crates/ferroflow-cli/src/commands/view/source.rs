//! What `view` looks at: where its pairs come from, one type for each kind of input.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use ferroflow::core::{
    FlowField, Frame, Mask,
    consistency::Sundaram,
    io::{self, Orientation, outputs::with_suffix},
};
use ferroflow::data::{
    Source, Spec,
    sequence::{self, PairPaths},
};
use ferroflow::infer::{
    Estimator,
    evaluate::{FlowFolder, Method},
};
use ferroflow::train::Recipe;

use super::{Args, scene::Scene};
use crate::usage::usage;

/// Endings of files that hold flow and nothing else.
const FLOW_ENDINGS: [&str; 6] = ["flo", "pfm", "npy", "npz", "exr", "flo5"];

/// Pairs of an endless data set that are offered.
const ENDLESS: usize = 1000;

/// Pairs to look at, made when they are asked for.
pub trait Scenes: Send + Sync {
    /// What they are, for the title.
    fn title(&self) -> String;

    /// What each pair is called.
    fn names(&self) -> Vec<String>;

    /// A pair.
    ///
    /// # Errors
    /// If it cannot be read or estimated.
    fn scene(&self, index: usize) -> anyhow::Result<Scene>;
}

/// Understands the inputs.
pub fn open(args: &Args) -> anyhow::Result<Box<dyn Scenes>> {
    if let [input] = &args.inputs[..]
        && let Some(spec) = data_set(input)?
    {
        return from_data(spec, args);
    }
    if let Some(missing) = args.inputs.iter().chain(&args.truth).chain(&args.frames).find(|path| !path.exists()) {
        usage!("{}: there is no such file or folder", missing.display());
    }
    if let [input] = &args.inputs[..]
        && input.is_dir()
    {
        return folder(input, args);
    }
    if args.flows.is_some() {
        usage!("--flows belongs to a data set: ferroflow view NAME:PATH --flows DIR");
    }
    let (flows, frames): (Vec<&PathBuf>, Vec<&PathBuf>) = args.inputs.iter().partition(|path| is_flow(path));
    match (&flows[..], &frames[..]) {
        ([flow], [] | [_] | [_, _]) => Ok(Box::new(Stored {
            title: flow.display().to_string(),
            flows: vec![flow.to_path_buf()],
            frames: frames.into_iter().cloned().collect(),
            truth: args.truth.clone(),
        })),
        ([], [first, second]) => Ok(Box::new(Estimated {
            title: format!("{} to {}", first.display(), second.display()),
            pairs: vec![PairPaths::new(first.to_path_buf(), second.to_path_buf())],
            truth: args.truth.clone(),
            estimator: args.method.estimator()?,
        })),
        ([], [one]) => usage!(
            "{} is one image: give the second one too, a flow file with or without its frames, a folder or a data set",
            one.display()
        ),
        _ => usage!("view takes two images, one flow file with up to two frames, one folder, or one data set"),
    }
}

/// The data set that an input spells, if it is none of the files that are there.
fn data_set(input: &Path) -> anyhow::Result<Option<Spec>> {
    let text = input.to_string_lossy();
    if input.exists() || !text.contains(':') {
        return Ok(None);
    }
    Ok(Some(text.parse()?))
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    endings.contains(&&*ending)
}

/// Whether a file holds flow: by its ending, or a PNG as KITTI has them.
fn is_flow(path: &Path) -> bool {
    has_ending(path, &FLOW_ENDINGS) || (has_ending(path, &["png"]) && io::read_flow(path).is_ok())
}

fn from_data(spec: Spec, args: &Args) -> anyhow::Result<Box<dyn Scenes>> {
    let method: Box<dyn Method + Send + Sync> = match &args.flows {
        Some(folder) => Box::new(FlowFolder::new(folder)),
        None => Box::new(args.method.estimator()?),
    };
    if args.truth.is_some() {
        usage!("--truth belongs to a pair: a data set has its own");
    }
    Ok(Box::new(FromData { source: spec.open()?, method }))
}

/// A run of `train`, flows that were written, or frames to estimate.
fn folder(folder: &Path, args: &Args) -> anyhow::Result<Box<dyn Scenes>> {
    if folder.join("recipe.toml").is_file() {
        return run(folder, args);
    }
    let cannot = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        files.push(entry.with_context(cannot)?.path());
    }
    files.retain(|path| {
        path.is_file() && !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    });
    files.sort_by(|a, b| sequence::natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
    let mut flows: Vec<PathBuf> = files.iter().filter(|path| has_ending(path, &FLOW_ENDINGS)).cloned().collect();
    if flows.is_empty() {
        // KITTI's flows are PNG as pictures are; what the first one is, all are.
        let pictures: Vec<PathBuf> = files.iter().filter(|path| has_ending(path, &["png"])).cloned().collect();
        if pictures.first().is_some_and(|first| is_flow(first)) {
            flows = pictures;
        }
    }
    flows.retain(|path| !path.file_stem().unwrap_or_default().to_string_lossy().ends_with(".backward"));
    if !flows.is_empty() {
        let frames = match &args.frames {
            Some(frames) => sequence::image_files(frames)?,
            None => Vec::new(),
        };
        let (title, truth) = (folder.display().to_string(), args.truth.clone());
        return Ok(Box::new(Stored { title, flows, frames, truth }));
    }
    let images = sequence::image_files(folder)?;
    let pairs = sequence::numbered_pairs(&images)
        .unwrap_or_else(|| images.windows(2).map(|pair| PairPaths::new(pair[0].clone(), pair[1].clone())).collect());
    if pairs.is_empty() {
        usage!("{} holds neither flow files nor two images nor a run of `ferroflow train`", folder.display());
    }
    let title = folder.display().to_string();
    Ok(Box::new(Estimated { title, pairs, truth: None, estimator: args.method.estimator()? }))
}

/// The network of a run on the data that it is validated on, or else trained on.
fn run(folder: &Path, args: &Args) -> anyhow::Result<Box<dyn Scenes>> {
    let path = folder.join("recipe.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let recipe = Recipe::parse(&path.display().to_string(), &text, &[""; 0])?;
    let weights = ["best", "last"].map(|name| folder.join("weights").join(format!("{name}.safetensors")));
    let Some(weights) = weights.iter().find(|path| path.is_file()) else {
        usage!("{} holds no weights yet: weights/best.safetensors, weights/last.safetensors", folder.display());
    };
    let Some(data) = recipe.validate.first().or(recipe.data.first()) else {
        usage!("{} names no data", path.display());
    };
    let estimator = args.method.estimator_from(weights, args.method.device(false)?)?;
    Ok(Box::new(FromData { source: data.parse::<Spec>()?.open()?, method: Box::new(estimator) }))
}

/// Images, estimated when they are looked at.
struct Estimated {
    title: String,
    pairs: Vec<PairPaths>,
    truth: Option<PathBuf>,
    estimator: Estimator,
}

impl Scenes for Estimated {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn names(&self) -> Vec<String> {
        self.pairs.iter().map(|pair| pair.name.display().to_string()).collect()
    }

    fn scene(&self, index: usize) -> anyhow::Result<Scene> {
        let pair = self.pairs.get(index).context("there is no such pair")?;
        let read = pair.read(Orientation::default())?;
        let both = self.estimator.estimate_both(&read.first, &read.second)?;
        Ok(Scene {
            name: pair.name.display().to_string(),
            frames: vec![(*read.first).clone(), (*read.second).clone()],
            flow: Some(both.forward),
            truth: self.truth.as_ref().map(io::read_flow).transpose()?,
            occlusion: Some(both.consistency.occluded),
            confidence: Some(both.consistency.confidence),
        })
    }
}

/// Flow files, with what lies beside them.
struct Stored {
    title: String,
    flows: Vec<PathBuf>,
    frames: Vec<PathBuf>,
    truth: Option<PathBuf>,
}

impl Stored {
    /// The frames of a flow: the two that were given for a single one, or that of its name and the next one.
    fn frames(&self, flow: &Path) -> anyhow::Result<Vec<Frame>> {
        let stem = flow.file_stem();
        let at = if self.flows.len() == 1 && self.frames.len() <= 2 {
            0
        } else {
            self.frames.iter().position(|frame| frame.file_stem() == stem).unwrap_or(self.frames.len())
        };
        self.frames.iter().skip(at).take(2).map(|path| Ok(io::read_frame(path)?)).collect()
    }
}

impl Scenes for Stored {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn names(&self) -> Vec<String> {
        self.flows.iter().map(|flow| flow.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect()
    }

    fn scene(&self, index: usize) -> anyhow::Result<Scene> {
        let path = self.flows.get(index).context("there is no such flow")?;
        let beside = |what: &str| {
            let folder = path.parent().unwrap_or(Path::new(""));
            Some(with_suffix(folder, path.file_stem().unwrap_or_default(), what)).filter(|path| path.is_file())
        };
        let flow = io::read_flow(path)?;
        let backward = beside(&format!(".backward.{}", path.extension().unwrap_or_default().to_string_lossy()));
        let backward: Option<FlowField> = backward.map(io::read_flow).transpose()?;
        let checked = backward.map(|backward| Sundaram::default().check(&flow, &backward)).transpose()?;
        let occlusion: Option<Mask> = beside(".occlusion.png").map(io::read_mask).transpose()?;
        let (told, confidence) = checked.map_or((None, None), |found| (Some(found.occluded), Some(found.confidence)));
        Ok(Scene {
            name: self.names()[index].clone(),
            frames: self.frames(path)?,
            flow: Some(flow),
            truth: self.truth.as_ref().map(io::read_flow).transpose()?,
            occlusion: occlusion.or(told),
            confidence,
        })
    }
}

/// Pairs of a data set, with the flow of a network or of another program.
struct FromData {
    source: Box<dyn Source>,
    method: Box<dyn Method + Send + Sync>,
}

impl Scenes for FromData {
    fn title(&self) -> String {
        self.source.name()
    }

    fn names(&self) -> Vec<String> {
        let name = |index: usize| {
            let known = self.source.known_by(index);
            let parts: Option<Vec<_>> = known.first().map(|path| path.iter().collect());
            let parts = parts.unwrap_or_default();
            let last: PathBuf = parts[parts.len().saturating_sub(2)..].iter().collect();
            if known.is_empty() { format!("pair {}", index + 1) } else { last.display().to_string() }
        };
        (0..self.source.len().unwrap_or(ENDLESS)).map(name).collect()
    }

    fn scene(&self, index: usize) -> anyhow::Result<Scene> {
        let sample = self.source.get(index)?;
        let flow = self.method.flow(self.source.as_ref(), index, &sample)?;
        let back =
            self.method.estimator().map(|estimator| estimator.estimate(&sample.second, &sample.first)).transpose()?;
        let checked = back.map(|back| Sundaram::default().check(&flow, &back)).transpose()?;
        let (told, confidence) = checked.map_or((None, None), |found| (Some(found.occluded), Some(found.confidence)));
        Ok(Scene {
            name: sample.id,
            frames: vec![sample.first, sample.second],
            flow: Some(flow),
            truth: sample.flow,
            occlusion: sample.occlusion.or(told),
            confidence,
        })
    }
}
