//! From data sets to batches.
//!
//! Threads of the loader read, augment and convert; the loop only copies. Which sample comes when, and what is drawn for
//! it, follows from the seed and its position alone.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use ferroflow_core::{Frame, Mask, Size};
use ferroflow_data::{
    Capacity, DataError, Loader, Order, Sample, Source, Spec,
    augment::{self, Augment, Beside},
    random::Random,
};
use ferroflow_net::{peers::Peers, training::Values};

use crate::{
    Recipe,
    criterion::Needs,
    loss::{LossError, Truth, UFLOW},
};

/// Data that cannot be trained on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// It cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A pair without ground truth.
    #[error("{0} has no true flow: train on data with ground truth")]
    NoTruth(String),
    /// A pair of another size than the crop.
    #[error(
        "{id} is {size} after augmentation and the crop {crop}: choose an augmentation that cuts (augment = \"crop\")"
    )]
    Size {
        /// The pair.
        id: String,
        /// Its size.
        size: Size,
        /// What was asked for.
        crop: Size,
    },
    /// A data set with nothing in it.
    #[error("there is nothing in {0}")]
    Empty(String),
}

/// What one step sees.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Size of the frames.
    pub size: Size,
    /// First and second frames, `[N, 3, H, W]`, RGB 0..=255.
    pub frames: [Vec<f32>; 2],
    /// The same before their colours were augmented, where that is asked for and they were.
    pub original: Option<[Vec<f32>; 2]>,
    /// What the frames of each pair were cut out of, where that is asked for.
    pub surrounds: Option<Vec<Surround>>,
    /// Their flows; `None` if no pair has any. Of a pair without flow nothing is known.
    pub truth: Option<Truth>,
    /// `[N, H, W]`, 1 where what the first frame shows is occluded in the second; where that is asked for and every pair has it.
    pub occlusion: Option<Vec<f32>>,
    /// Names of the pairs.
    pub ids: Vec<String>,
}

impl Batch {
    /// The true flows, for a loss that needs them.
    ///
    /// # Errors
    /// If there are none.
    pub fn truth(&self) -> Result<&Truth, LossError> {
        self.truth.as_ref().ok_or_else(|| LossError::NoTruth(self.ids.first().cloned().unwrap_or_default()))
    }
}

/// The pictures that both frames of a pair were cut out of, with colours as they were before they were augmented.
#[derive(Clone, Debug, PartialEq)]
pub struct Surround {
    /// Size of the pictures.
    pub size: Size,
    /// `[3, H, W]`, RGB 0..=255.
    pub frames: [Vec<f32>; 2],
    /// Where each frame's top left pixel lies in its picture, (x, y).
    pub at: [(usize, usize); 2],
}

/// An endless supply of batches: one rank's part of each.
pub struct Batches {
    loader: Loader<Result<Example, FeedError>>,
    remarks: Vec<String>,
    visits: Arc<Visits>,
}

/// A pair as planes.
struct Example {
    frames: [Vec<f32>; 2],
    original: Option<[Vec<f32>; 2]>,
    surround: Option<Surround>,
    flow: Option<Vec<f32>>,
    known: Vec<bool>,
    occlusion: Option<Vec<f32>>,
    size: Size,
    id: String,
}

impl Batches {
    /// Opens a recipe's data; the first batch begins with the sample at `position`. Of each batch the peers take parts that are equally
    /// large, rank after rank.
    pub fn open(recipe: &Recipe, needs: Needs, position: u64, peers: &dyn Peers) -> Result<Self, FeedError> {
        let per_step = (recipe.batch * recipe.accumulate) as u64;
        let own = (&recipe.data, u64::MAX, recipe.crop, recipe.skip_occluded);
        let before = recipe.pretrain.iter().map(|stage| {
            let skip_occluded = stage.skip_occluded.unwrap_or(recipe.skip_occluded);
            (&stage.data, stage.steps, stage.crop.unwrap_or(recipe.crop), skip_occluded)
        });
        let beside = Beside { original: needs.original, surround: needs.surround };
        let mut stages = Vec::new();
        for (data, steps, crop, skip_occluded) in before.chain([own]) {
            let source = join(data)?;
            let order = Order::new(source.len(), recipe.seed);
            let augment = augment::named(&recipe.augment, crop, beside).unwrap_or(Box::new(augment::Keep));
            let samples = steps.saturating_mul(per_step);
            stages.push(Stage { source, order, augment, crop, skip_occluded, samples });
        }
        let remarks = stages.iter().flat_map(|stage| stage.source.remarks()).collect();
        let part = Part {
            position,
            batch: recipe.batch as u64,
            rank: peers.rank() as u64,
            size: (recipe.batch / peers.size()) as u64,
        };
        let visits = Arc::new(Visits { stages, per_step, part });
        let workers = if recipe.workers == 0 { rayon::current_num_threads().div_ceil(2) } else { recipe.workers };
        let some = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        let capacity = Capacity { workers: some(workers), ahead: some(workers + 2 * part.size as usize) };
        let endless = Order::new(None, recipe.seed);
        let loader = Loader::new(visits.clone(), endless, capacity, move |visit, _| Ok(Example::of(visit, needs)));
        Ok(Self { loader, remarks, visits })
    }

    /// What a user should know of how the data were read.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The next batch.
    pub fn take(&mut self) -> Result<Batch, FeedError> {
        let crop = self.visits.stage(self.position()).0.crop;
        let [n, h, w] = [self.visits.part.size as usize, crop.height, crop.width];
        let mut examples = Vec::with_capacity(n);
        for example in self.loader.by_ref().take(n) {
            let example = example??;
            if example.size != crop {
                return Err(FeedError::Size { id: example.id, size: example.size, crop });
            }
            examples.push(example);
        }
        let joined = |part: fn(&Example) -> &[f32]| examples.iter().map(part).collect::<Vec<_>>().concat();
        let all = |has: fn(&Example) -> bool| examples.iter().all(has);
        let truth = examples.iter().any(|example| example.flow.is_some()).then(|| {
            let unknown = vec![0.0; 2 * h * w];
            let flows: Vec<&[f32]> = examples.iter().map(|e| e.flow.as_deref().unwrap_or(&unknown)).collect();
            let known: Vec<&[bool]> = examples.iter().map(|e| &e.known[..]).collect();
            Truth::new(Values { shape: [n, 2, h, w], data: flows.concat() }, known.concat())
        });
        Ok(Batch {
            size: crop,
            frames: [joined(|e| &e.frames[0]), joined(|e| &e.frames[1])],
            original: all(|e| e.original.is_some()).then(|| [joined(|e| e.original(0)), joined(|e| e.original(1))]),
            truth,
            occlusion: all(|e| e.occlusion.is_some()).then(|| joined(|e| e.occlusion.as_deref().unwrap_or_default())),
            ids: examples.iter_mut().map(|example| std::mem::take(&mut example.id)).collect(),
            surrounds: examples.into_iter().map(|example| example.surround).collect(),
        })
    }

    /// Samples given out since position 0, to all ranks.
    pub fn position(&self) -> u64 {
        self.visits.part.position_of(self.loader.position())
    }

    /// Time spent waiting for data since this was opened.
    pub fn waited(&self) -> Duration {
        self.loader.waits().consumer
    }
}

impl Example {
    fn of(sample: Sample, needs: Needs) -> Result<Self, FeedError> {
        let Sample { first, second, flow, occlusion, original, surround, id } = sample;
        if flow.is_none() && needs.truth {
            return Err(FeedError::NoTruth(id));
        }
        let size = first.size();
        let pixels = size.pixels();
        let known = match &flow {
            None => vec![false; pixels],
            Some(flow) => flow.validity().map_or_else(|| vec![true; pixels], |mask| mask.data().to_vec()),
        };
        let occluded = |mask: &Mask| mask.data().iter().map(|&occluded| f32::from(u8::from(occluded))).collect();
        Ok(Self {
            frames: [planes(&first), planes(&second)],
            original: original.filter(|_| needs.original).map(|frames| frames.each_ref().map(planes)),
            surround: surround.map(|ferroflow_data::Surround { frames, at }| Surround {
                size: frames[0].size(),
                frames: frames.each_ref().map(planes),
                at,
            }),
            flow: flow.map(|flow| [flow.u(), flow.v()].concat()),
            known,
            occlusion: occlusion.as_ref().filter(|_| needs.occlusion).map(occluded),
            size,
            id,
        })
    }

    /// A frame before its colours were augmented.
    fn original(&self, frame: usize) -> &[f32] {
        self.original.as_ref().unwrap_or(&self.frames)[frame].as_slice()
    }
}

/// The flow of occluded pixels becomes unknown.
fn without_occluded(mut sample: Sample) -> Result<Sample, DataError> {
    let Some(occlusion) = &sample.occlusion else { return Err(DataError::NoOcclusion(sample.id)) };
    if let Some(flow) = sample.flow.take() {
        let (size, found) = (flow.size(), occlusion.size());
        if size != found {
            return Err(DataError::Sizes { id: sample.id, part: "occlusion", expected: size, found });
        }
        let mask = Mask::from_fn(size, |x, y| !occlusion.get(x, y) && flow.is_valid(x, y));
        sample.flow = Some(flow.with_validity(mask).expect("the mask was made of the flow's size"));
    }
    Ok(sample)
}

/// `[3, H, W]`
pub(crate) fn planes(frame: &Frame) -> Vec<f32> {
    let channel = |c: usize| frame.rgb().iter().skip(c).step_by(3).map(|&b| f32::from(b));
    (0..3).flat_map(channel).collect()
}

/// The source as a rank of the run sees it: its samples are the visits at its positions, augmented.
struct Visits {
    /// One after the other; the last never ends.
    stages: Vec<Stage>,
    per_step: u64,
    part: Part,
}

/// A rank's part of every batch.
#[derive(Clone, Copy)]
struct Part {
    /// Where the first batch begins.
    position: u64,
    /// Samples of a batch.
    batch: u64,
    rank: u64,
    /// Samples of the part.
    size: u64,
}

impl Part {
    /// Position in the run of the rank's own sample `index`.
    fn of(self, index: u64) -> u64 {
        self.position + index / self.size * self.batch + self.rank * self.size + index % self.size
    }

    /// Where the batch begins that holds the rank's own sample `index`.
    fn position_of(self, index: u64) -> u64 {
        self.position + index / self.size * self.batch
    }
}

/// A part of the run with data and a size of its own.
struct Stage {
    source: Arc<dyn Source>,
    order: Order,
    augment: Box<dyn Augment>,
    crop: Size,
    skip_occluded: bool,
    samples: u64,
}

impl Visits {
    /// The stage of a position, and the position in it.
    fn stage(&self, position: u64) -> (&Stage, u64) {
        let (last, before) = self.stages.split_last().expect("a run has data of its own");
        let mut within = position;
        for stage in before {
            if within < stage.samples {
                return (stage, within);
            }
            within -= stage.samples;
        }
        (last, within)
    }
}

impl Source for Visits {
    fn name(&self) -> String {
        self.stages.iter().map(|stage| stage.source.name()).collect::<Vec<_>>().join(", then ")
    }

    fn len(&self) -> Option<usize> {
        None
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let position = self.part.of(index as u64);
        let (stage, within) = self.stage(position);
        let visit = stage.order.at(within);
        let sample = stage.source.get(visit.index)?;
        let sample = stage.augment.apply(sample, &mut Random::new(visit.seed, &[]), position / self.per_step)?;
        if stage.skip_occluded { without_occluded(sample) } else { Ok(sample) }
    }
}

/// A part of each video is kept back, to be judged: where videos are all that a recipe learns from without truth, and it names nothing to
/// evaluate on.
pub(crate) fn keep_back(recipe: &mut Recipe) -> Result<(), FeedError> {
    let unlabelled = recipe.loss.name == UFLOW || recipe.unsupervised.is_some();
    if !unlabelled || !recipe.validate.is_empty() {
        return Ok(());
    }
    for text in &mut recipe.data {
        let spec: Spec = text.parse()?;
        if spec.dataset().name != "clip" || ["train", "val"].iter().any(|word| spec.has(word)) {
            continue;
        }
        recipe.validate.push(spec.clone().with("val").to_string());
        *text = spec.with("train").to_string();
    }
    Ok(())
}

/// Several data sets as one: end to end, or in turn as soon as one of them never ends.
pub fn join(specs: &[String]) -> Result<Arc<dyn Source>, FeedError> {
    let mut sources = Vec::with_capacity(specs.len());
    for spec in specs {
        let source = spec.parse::<Spec>()?.open()?;
        if source.is_empty() {
            return Err(FeedError::Empty(spec.clone()));
        }
        sources.push(source);
    }
    Ok(Arc::new(Joined(sources)))
}

struct Joined(Vec<Box<dyn Source>>);

impl Source for Joined {
    fn name(&self) -> String {
        self.0.iter().map(|s| s.name()).collect::<Vec<_>>().join(" + ")
    }

    fn len(&self) -> Option<usize> {
        self.0.iter().map(|s| s.len()).sum()
    }

    fn remarks(&self) -> Vec<String> {
        self.0.iter().flat_map(|source| source.remarks()).collect()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        if self.len().is_none() {
            let (source, index) = (&self.0[index % self.0.len()], index / self.0.len());
            return source.get(source.len().map_or(index, |len| index % len));
        }
        let mut within = index;
        for source in &self.0 {
            let len = source.len().unwrap_or(0);
            if within < len {
                return source.get(within);
            }
            within -= len;
        }
        Err(DataError::Index { name: self.name(), len: self.len().unwrap_or(0), index })
    }
}

/// Pairs of a finite part of a source, kept in memory once read where they are few: an evaluation sees them again and
/// again.
pub struct Remembered {
    source: Arc<dyn Source>,
    count: usize,
    kept: Vec<std::sync::OnceLock<Sample>>,
}

impl Remembered {
    /// Samples that are kept: 64 of 512x384 take 175 MB.
    const MOST: usize = 64;

    /// The first `limit` pairs, or all where that is `None`.
    pub fn new(source: Arc<dyn Source>, limit: Option<usize>) -> Option<Self> {
        let count = match (source.len(), limit) {
            (Some(len), limit) => len.min(limit.unwrap_or(len)),
            (None, limit) => limit?,
        };
        let kept = (0..count.min(Self::MOST)).map(|_| Default::default()).collect();
        Some(Self { source, count, kept })
    }
}

impl Source for Remembered {
    fn name(&self) -> String {
        self.source.name()
    }

    fn len(&self) -> Option<usize> {
        Some(self.count)
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        match self.kept.get(index) {
            None => self.source.get(index),
            Some(place) => {
                if place.get().is_none() {
                    // Lost to another thread that read the same sample: no harm.
                    let _ = place.set(self.source.get(index)?);
                }
                place.get().cloned().map_or_else(|| self.source.get(index), Ok)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ferroflow_net::peers::{Alone, Threads};

    use super::*;

    const NEEDS: Needs = Needs { truth: true, original: false, surround: false, occlusion: false };

    fn recipe(changes: &[&str]) -> Recipe {
        let text = "model = 'lightflow-0.5'\ndata = 'synth:chairs@size=72x80'\nsteps = 4\nbatch = 2\ncrop = '64x64'\n\
                    lr = 1e-4\nloss = 'lightflow-l1'\naugment = 'lightflow'";
        Recipe::parse("test", text, changes).unwrap()
    }

    fn ids(specs: &[&str], count: usize) -> Vec<String> {
        let specs: Vec<String> = specs.iter().map(|s| s.to_string()).collect();
        let source = join(&specs).unwrap();
        (0..count).map(|i| source.get(i).unwrap().id).collect()
    }

    #[test]
    fn batches_from_any_position_are_those_of_the_whole_run() {
        let recipe = recipe(&[]);
        let mut whole = Batches::open(&recipe, NEEDS, 0, &Alone).unwrap();
        let batches: Vec<Batch> = (0..4).map(|_| whole.take().unwrap()).collect();
        assert_eq!(whole.position(), 8);
        let mut rest = Batches::open(&recipe, NEEDS, 4, &Alone).unwrap();
        for expected in &batches[2..] {
            let batch = rest.take().unwrap();
            assert_eq!((&batch.ids, &batch.frames, &batch.truth), (&expected.ids, &expected.frames, &expected.truth));
        }
        assert_eq!(batches[0].frames[0].len(), 2 * 3 * 64 * 64);
        assert_ne!(batches[0].frames, batches[1].frames);
    }

    #[test]
    fn ranks_share_out_the_samples_of_every_batch() {
        let recipe = recipe(&["batch=6"]);
        let mut whole = Batches::open(&recipe, NEEDS, 6, &Alone).unwrap();
        let batches: Vec<Batch> = (0..3).map(|_| whole.take().unwrap()).collect();
        for size in [2, 3] {
            let mut ranks: Vec<Batches> =
                Threads::new(size).iter().map(|rank| Batches::open(&recipe, NEEDS, 6, rank).unwrap()).collect();
            for (number, expected) in batches.iter().enumerate() {
                let parts: Vec<Batch> = ranks.iter_mut().map(|rank| rank.take().unwrap()).collect();
                let ids: Vec<String> = parts.iter().flat_map(|part| part.ids.clone()).collect();
                let first: Vec<f32> = parts.iter().flat_map(|part| part.frames[0].clone()).collect();
                assert!(ids == expected.ids && first == expected.frames[0], "{ids:?} for {:?}", expected.ids);
                assert!(ranks.iter().all(|rank| rank.position() == 6 * (number as u64 + 2)));
            }
        }
    }

    #[test]
    fn the_first_steps_may_see_other_data_and_another_crop() {
        let stages = "pretrain=[{ data='synth:sdhom@size=80x72', steps=1 }, \
                      { data='synth:auto@size=64x128', steps=1, crop='64x128' }]";
        let recipe = recipe(&[stages, "augment=crop"]);
        let mut whole = Batches::open(&recipe, NEEDS, 0, &Alone).unwrap();
        for (step, (preset, width)) in [("sdhom", 64), ("auto", 128), ("chairs", 64), ("chairs", 64)].iter().enumerate()
        {
            let batch = whole.take().unwrap();
            let first = 2 * step.saturating_sub(2);
            assert_eq!(batch.ids, [first, first + 1].map(|i| format!("{preset}/{i:07}")));
            assert_eq!(batch.truth().unwrap().flow.shape, [2, 2, 64, *width]);
            assert_eq!(recipe.crop_at(step as u64).width, *width);
            assert_eq!(
                Batches::open(&recipe, NEEDS, 2 * step as u64, &Alone).unwrap().take().unwrap().frames,
                batch.frames
            );
        }
    }

    #[test]
    fn occluded_pixels_count_unless_they_are_skipped() {
        let source = join(&["synth:things@size=64x64".to_string()]).unwrap();
        let occluded: Vec<bool> =
            (0..2).flat_map(|i| source.get(i).unwrap().occlusion.unwrap().data().to_vec()).collect();
        assert!(occluded.contains(&true) && occluded.contains(&false));
        let known = |changes: &[&str]| {
            let changes = [&["augment=none", "data=synth:things@size=64x64"], changes].concat();
            Batches::open(&recipe(&changes), NEEDS, 0, &Alone).unwrap().take().unwrap().truth.unwrap().known
        };
        assert!(known(&[]).iter().all(|known| *known));
        let skipped: Vec<bool> = occluded.iter().map(|occluded| !occluded).collect();
        assert_eq!(known(&["skip_occluded=true"]), skipped);
        let stage = "pretrain=[{ data='synth:things@size=64x64', steps=1, skip_occluded=true }]";
        assert_eq!(known(&[stage]), skipped);
    }

    #[test]
    fn planes_hold_one_channel_each() {
        let frame = Frame::from_fn(Size::new(1, 2), |x, _| [x as u8, 10 + x as u8, 20 + x as u8]);
        assert_eq!(planes(&frame), [0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
    }

    #[test]
    fn data_sets_are_joined_end_to_end_or_in_turn() {
        let (two, three) = ("synth:chairs@size=8x8,count=2", "synth:auto@size=8x8,count=3");
        let joined = ids(&[two, three], 5);
        assert_eq!(joined[1..3], ["chairs/0000001", "auto/0000000"]);
        let turns = ids(&[two, "synth:things@size=8x8"], 6);
        assert_eq!(turns[3..6], ["things/0000001", "chairs/0000000", "things/0000002"]);
        let source = join(&[two.to_string()]).unwrap();
        assert!(source.get(2).is_err());
    }

    #[test]
    fn pairs_of_another_size_say_what_to_do() {
        let error =
            Batches::open(&recipe(&["augment=none"]), NEEDS, 0, &Alone).unwrap().take().unwrap_err().to_string();
        assert!(error.contains("72x80") && error.contains("augment"), "{error}");
    }

    #[test]
    fn an_evaluation_reads_its_pairs_once() {
        let source = join(&["synth:chairs@size=8x8".to_string()]).unwrap();
        assert!(Remembered::new(source.clone(), None).is_none());
        let remembered = Remembered::new(source.clone(), Some(3)).unwrap();
        assert_eq!(remembered.len(), Some(3));
        assert_eq!(remembered.get(1).unwrap(), source.get(1).unwrap());
        assert_eq!(remembered.get(1).unwrap(), source.get(1).unwrap());
    }
}
