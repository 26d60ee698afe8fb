use std::{fs, sync::atomic::Ordering};

use ferroflow_cpu::{Cpu, Isa, TrainingPlan, reference::Training, training::Settings};
use ferroflow_data::{Cropped, Source};
use ferroflow_infer::{
    Estimator,
    evaluate::{Protocol, evaluate},
};
use ferroflow_net::{
    Graph, Weights,
    device::Executor,
    graph::Sizes,
    training::{Gradients, Trainer, TrainingOptions, Values},
};
use serde_json::Value;

use super::*;
use crate::log;

mod ranks;

const RECIPE: &str = r#"
model = "lightflow-0.5"
data = "synth:chairs@size=72x72,count=7"
validate = "synth:chairs@seed=2,size=64x64,count=2"
steps = 6
batch = 2
crop = "64x64"
seed = 5
lr = 1e-3
checkpoint_every = 2
validate_every = 3
log_every = 2
ema = 0.9
clip = 5.0
weight_decay = 1e-4
loss = "lightflow-l1"
"#;

fn recipe(changes: &[&str]) -> Recipe {
    Recipe::parse("test", RECIPE, changes).unwrap()
}

fn cpu() -> Arc<dyn Device> {
    Arc::new(Cpu::default())
}

/// A device whose trainers a function makes; it estimates as the CPU does.
struct Made<F>(F);

impl<F> std::fmt::Debug for Made<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Made")
    }
}

impl<F> Device for Made<F>
where
    F: Fn(&Graph, TrainingOptions) -> Result<Box<dyn Trainer>, DeviceError> + Send + Sync,
{
    fn name(&self) -> String {
        "made".into()
    }

    fn executor(&self, graph: &Graph, weights: &Weights, sizes: Sizes) -> Result<Box<dyn Executor>, DeviceError> {
        Cpu::default().executor(graph, weights, sizes)
    }

    fn trainer(&self, graph: &Graph, options: TrainingOptions) -> Result<Box<dyn Trainer>, DeviceError> {
        (self.0)(graph, options)
    }

    fn threads(&self) -> usize {
        Cpu::default().threads()
    }
}

fn made<F>(make: F) -> Arc<dyn Device>
where
    F: Fn(&Graph, TrainingOptions) -> Result<Box<dyn Trainer>, DeviceError> + Send + Sync + 'static,
{
    Arc::new(Made(make))
}

/// Trains, asking to stop after step `until`; gives the warnings.
fn train_until(run: &Run, device: &Arc<dyn Device>, until: u64) -> Result<(Outcome, Vec<String>), TrainError> {
    let stop = AtomicBool::new(false);
    let mut warnings = Vec::new();
    let outcome = run.train(device, &stop, &mut |event| match event {
        Event::Step { step, .. } if step == until => stop.store(true, Ordering::Relaxed),
        Event::Warning(text) => warnings.push(text),
        _ => {}
    })?;
    Ok((outcome, warnings))
}

fn train(run: &Run) -> Outcome {
    train_until(run, &cpu(), u64::MAX).unwrap().0
}

/// The log without what depends on the machine and without the notes of new beginnings.
fn told(root: &Path) -> Vec<Value> {
    let mut lines = log::read(&root.join("log.jsonl")).unwrap();
    lines.retain(|line| line.get("resumed").is_none());
    lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("time")));
    lines
}

/// Everything that a run leaves and that does not depend on the machine.
fn left(root: &Path) -> Vec<(String, Vec<u8>)> {
    ["weights/last.safetensors", "weights/best.safetensors", "checkpoints/step-000000006.safetensors", "recipe.toml"]
        .into_iter()
        .map(|name| (name.to_string(), fs::read(root.join(name)).unwrap()))
        .collect()
}

#[test]
fn a_run_is_the_same_again_and_the_same_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, again, parts] = ["whole", "again", "parts"].map(|name| folder.path().join(name));
    let outcome = train(&Run::new(recipe(&[]), &whole).unwrap());
    assert!(outcome.finished && outcome.step == 6 && outcome.best.is_some());
    assert!(outcome.scores[0].zero_epe.unwrap() > 0.0 && outcome.scores[0].pairs == 2);

    train(&Run::new(recipe(&[]), &again).unwrap());
    assert_eq!(told(&whole), told(&again));
    assert!(left(&whole) == left(&again));

    // Stopped in the middle of a line of the log, between two checkpoints; then gone on with.
    let run = Run::new(recipe(&[]), &parts).unwrap();
    let (outcome, _) = train_until(&run, &cpu(), 3).unwrap();
    assert_eq!((outcome.step, outcome.finished), (3, false));
    train(&Run::resume(&parts, &[""; 0]).unwrap());
    assert_eq!(told(&whole), told(&parts));
    assert!(left(&whole) == left(&parts));
    assert!(log::read(&parts.join("log.jsonl")).unwrap().iter().any(|l| l["resumed"] == true));
}

#[test]
fn a_run_can_be_made_longer_and_survives_a_damaged_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let same = ["validate=", "log_every=1"];
    train(&Run::new(recipe(&same), &whole).unwrap());
    let short = recipe(&["validate=", "log_every=1", "steps=4"]);
    train(&Run::new(short, &parts).unwrap());
    // As a kill in the middle of a write, and a disk that lost the end of a file, would leave it.
    let newest = parts.join("checkpoints/step-000000004.safetensors");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 3]).unwrap();
    fs::write(parts.join("checkpoints/.step-4.partial"), &bytes[..99]).unwrap();
    let run = Run::resume(&parts, &["steps=6"]).unwrap();
    let (outcome, warnings) = train_until(&run, &cpu(), u64::MAX).unwrap();
    assert!(outcome.finished && warnings.len() == 1 && warnings[0].contains("step-000000004"), "{warnings:?}");
    assert_eq!(told(&whole), told(&parts));
    let last = |root: &Path| fs::read(root.join("weights/last.safetensors")).unwrap();
    assert!(last(&whole) == last(&parts));
    // Done: nothing more happens.
    assert_eq!(train(&Run::resume(&parts, &[""; 0]).unwrap()).step, 6);
}

/// Losses of the recipe behind the program's weights, on AVX2: eight steps of shifts, four of its own data. A change of the
/// generator, the loss, the gradient or the optimiser shows here. The processor's caches decide between algorithms that
/// round differently: so not to the last bit.
const DEFAULT_LOSSES: [f64; 12] = [
    19.793437, 20.276257, 19.661157, 20.592904, 23.057823, 28.114434, 24.165874, 23.553645, 20.522085, 90.218537,
    37.475047, 13.330814,
];

#[test]
fn the_default_recipe_begins_as_it_did() {
    let Some(isa) = Isa::available().into_iter().find(|isa| *isa == Isa::Avx2) else {
        println!("skipped: no AVX2");
        return;
    };
    let stages = "pretrain=[{ data='synth:shifts@seed=1,size=192x256', crop='192x256', steps=8, skip_occluded=true }]";
    let changes = [stages, "steps=12", "validate=", "checkpoint_every=12", "warmup=0"];
    let recipe = Recipe::open("default", &changes).unwrap();
    let device = made(move |graph, options| {
        Ok(Box::new(TrainingPlan::new(graph, options, Settings { isa: Some(isa), ..Settings::default() })?))
    });
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(recipe, &folder.path().join("run")).unwrap();
    let mut losses = Vec::new();
    run.train(&device, &AtomicBool::new(false), &mut |event| {
        if let Event::Step { loss, .. } = event {
            losses.push(loss);
        }
    })
    .unwrap();
    assert_eq!(losses.len(), DEFAULT_LOSSES.len());
    for (loss, expected) in losses.iter().zip(DEFAULT_LOSSES) {
        assert!((loss / expected - 1.0).abs() < 1e-3, "{losses:?}");
    }
}

#[test]
fn a_branch_goes_on_from_a_run_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let [trunk, branch, other] = ["trunk", "branch", "other"].map(|name| folder.path().join(name));
    let changes = ["validate=", "log_every=1", "steps=1000"];
    let run = Run::new(recipe(&changes), &trunk).unwrap();
    let none = Run::branch(&trunk, &branch, None, &[""; 0]).err().unwrap().to_string();
    assert!(none.contains("checkpoint") && !branch.exists(), "{none}");
    train_until(&run, &cpu(), 4).unwrap();
    let before = left_of(&trunk);

    let run = Run::branch(&trunk, &branch, Some(3), &["keep=9"]).unwrap();
    assert_eq!((run.recipe().steps, run.recipe().keep), (7, 9));
    let outcome = train(&run);
    assert!(outcome.finished && outcome.step == 7);
    assert_eq!(left_of(&trunk), before, "the run itself stays as it is");
    let lines = told(&branch);
    let rates: Vec<f64> = lines.iter().filter_map(|line| line["lr"].as_f64()).collect();
    assert_eq!(rates.len(), 3);
    for (rate, expected) in rates.iter().zip([1.0, 2.0 / 3.0, 1.0 / 3.0]) {
        assert!((rate - 1e-3 * expected).abs() < 1e-12, "{rates:?}");
    }
    // Its first step is that of the run gone on with.
    train_until(&Run::resume(&trunk, &[""; 0]).unwrap(), &cpu(), 5).unwrap();
    let loss = |lines: &[Value]| lines.iter().find(|line| line["step"] == 5).unwrap()["loss"].clone();
    assert_eq!(loss(&lines), loss(&told(&trunk)));

    assert!(Run::branch(&trunk, &branch, None, &[""; 0]).is_err(), "that folder holds a run");
    assert_eq!(Run::branch(&trunk, &other, None, &[""; 0]).unwrap().recipe().steps, 6);
}

/// The files of a run with their bytes.
fn left_of(root: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for folder in [root.to_path_buf(), root.join("checkpoints"), root.join("weights")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_run_is_not_written_over_and_none_is_gone_on_with_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    Run::new(recipe(&[]), &out).unwrap();
    assert!(Run::new(recipe(&[]), &out).err().unwrap().to_string().contains("--resume"));
    assert!(Run::resume(folder.path(), &[""; 0]).err().unwrap().to_string().contains("recipe.toml"));
    assert!(Run::resume(&out, &["stps=3"]).err().unwrap().to_string().contains("`steps`"));
    // Stopped before its first checkpoint: it begins again.
    let (outcome, _) = train_until(&Run::resume(&out, &["steps=1", "validate="]).unwrap(), &cpu(), 9).unwrap();
    assert!(outcome.finished);
}

#[test]
fn what_is_frozen_stays_and_the_rest_moves() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let recipe = recipe(&["freeze=[\"conv1.\", \"conv2.\"]", "steps=2", "validate=", "ema=0", "accumulate=2"]);
    // The interpreter freezes any parameter; the fast plan does not take every mixture.
    let interpreter = made(|graph, options| Ok(Box::new(Training::<f32>::new(graph, options)?)));
    train_until(&Run::new(recipe.clone(), &out).unwrap(), &interpreter, u64::MAX).unwrap();
    let stored = store::read(&out.join("weights/last.safetensors")).unwrap();
    let before = Weights::random(&stored.model.graph, recipe.seed);
    let params = stored.model.graph.params.iter().zip(stored.weights.iter().zip(before.iter()));
    let (mut still, mut moved) = (0, 0);
    for (param, (after, before)) in params {
        if param.name.starts_with("conv1.") || param.name.starts_with("conv2.") {
            assert_eq!(after, before, "{}", param.name);
            still += 1;
        } else {
            moved += usize::from(after != before);
        }
    }
    assert_eq!((still, still + moved), (20, 190), "ten arrays in each of 19 blocks");
}

/// Forwards as if the network said 0 everywhere, except where it says something that is no number.
struct Faulty {
    shape: [usize; 4],
    calls: u64,
    bad_outputs: fn(u64) -> bool,
    bad_gradients: fn(u64) -> bool,
}

impl Trainer for Faulty {
    fn load(&mut self, _: &Weights) -> Result<(), DeviceError> {
        Ok(())
    }

    fn forward(&mut self, _: [&[f32]; 2]) -> Result<Vec<Values>, DeviceError> {
        self.calls += 1;
        let mut output = Values::zeros(self.shape);
        if (self.bad_outputs)(self.calls) {
            output.data[3] = f32::NAN;
        }
        Ok(vec![output])
    }

    fn backward(&mut self, _: &[Values], sum: &mut Gradients) -> Result<(), DeviceError> {
        let value = if (self.bad_gradients)(self.calls) { f32::INFINITY } else { 1e-3 };
        sum.iter_mut().flatten().for_each(|g| *g += value);
        Ok(())
    }

    fn update_statistics(&self, _: f32, weights: &mut Weights) {
        // Spoilt with the outputs, as those of a real network would be.
        let value = if (self.bad_outputs)(self.calls) { f32::NAN } else { 0.5 };
        weights.get_mut(ferroflow_net::ParamId(3)).fill(value);
    }
}

fn faulty(bad_outputs: fn(u64) -> bool, bad_gradients: fn(u64) -> bool) -> Arc<dyn Device> {
    made(move |graph, options| {
        let shape = graph.shapes(&options.sizes)?[options.outputs[0].0 as usize];
        Ok(Box::new(Faulty { shape, calls: 0, bad_outputs, bad_gradients }))
    })
}

#[test]
fn steps_that_are_not_numbers_are_skipped_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = Run::new(recipe(&["validate="]), &out).unwrap();
    let device = faulty(|call| call == 2, |call| call == 4);
    let (outcome, warnings) = train_until(&run, &device, u64::MAX).unwrap();
    assert_eq!((outcome.step, warnings.len()), (6, 2), "{warnings:?}");
    assert!(warnings[0].contains("step 2") && warnings[0].contains("loss") && warnings[0].contains("chairs/"));
    assert!(warnings[1].contains("step 4") && warnings[1].contains("gradient"));
    let stored = store::read(&out.join("weights/last.safetensors")).unwrap();
    assert!(stored.weights.iter().flatten().all(|v| v.is_finite()));
    let lines = told(&out);
    let skipped: Vec<_> = lines.iter().filter(|l| l.get("skipped").is_some()).collect();
    assert_eq!((skipped.len(), skipped[0]["samples"].as_array().unwrap().len()), (2, 2));
    assert_eq!(lines.iter().filter(|l| l.get("loss").is_some()).count(), 3);
}

#[test]
fn a_run_stops_when_no_step_can_be_taken_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(recipe(&["validate=", "max_skipped=3", "steps=20"]), &folder.path().join("run")).unwrap();
    let error = train_until(&run, &faulty(|call| call > 4, |_| false), u64::MAX).unwrap_err();
    match &error {
        TrainError::Diverged { count: 3, step: 7, samples, .. } => assert_eq!(samples.len(), 2),
        other => panic!("{other}"),
    }
    // What was saved before is still there.
    let (outcome, _) =
        train_until(&Run::resume(run.folder.root(), &["steps=8"]).unwrap(), &faulty(|_| false, |_| false), 99).unwrap();
    assert_eq!(outcome.step, 8);
}

#[test]
fn a_run_that_diverges_says_so_and_is_never_the_best() {
    let folder = tempfile::tempdir().unwrap();
    for (name, lr) in [("far", "lr=1e4"), ("beyond", "lr=1e30")] {
        let out = folder.path().join(name);
        let run = Run::new(recipe(&[lr, "clip=0", "ema=0", "weight_decay=0", "max_skipped=100"]), &out).unwrap();
        let (outcome, warnings) = train_until(&run, &cpu(), u64::MAX).unwrap();
        assert!(warnings.iter().any(|text| text.contains("diverged")), "{name}: {warnings:?}");
        assert!(outcome.best.is_none() && !out.join("weights/best.safetensors").exists(), "{name}");
    }
}

#[test]
fn a_dynamic_loss_scale_gives_way_before_the_run_does() {
    let folder = tempfile::tempdir().unwrap();
    let changes = ["validate=", "loss_scale=dynamic", "max_skipped=1"];
    let run = Run::new(recipe(&changes), &folder.path().join("run")).unwrap();
    let (outcome, warnings) = train_until(&run, &faulty(|_| false, |call| call < 3), u64::MAX).unwrap();
    assert_eq!((outcome.step, warnings.len()), (6, 2));
    let lines = told(run.folder.root());
    assert_eq!(lines.last().unwrap()["loss_scale"], 16384.0);
}

/// A network that is asked to stop while it looks at its `last` batch.
struct Stopping {
    inner: Box<dyn Trainer>,
    calls: u64,
    last: u64,
    stop: std::sync::Arc<AtomicBool>,
}

impl Trainer for Stopping {
    fn load(&mut self, weights: &Weights) -> Result<(), DeviceError> {
        self.inner.load(weights)
    }

    fn forward(&mut self, frames: [&[f32]; 2]) -> Result<Vec<Values>, DeviceError> {
        self.calls += 1;
        self.stop.fetch_or(self.calls == self.last, Ordering::Relaxed);
        self.inner.forward(frames)
    }

    fn backward(&mut self, gradients: &[Values], sum: &mut Gradients) -> Result<(), DeviceError> {
        self.inner.backward(gradients, sum)
    }

    fn update_statistics(&self, share: f32, weights: &mut Weights) {
        self.inner.update_statistics(share, weights);
    }
}

#[test]
fn a_stop_is_heard_between_accumulated_passes_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let changes = ["validate=", "log_every=1", "accumulate=3", "steps=3"];
    train(&Run::new(recipe(&changes), &whole).unwrap());
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let heard = stop.clone();
    let device = made(move |graph, options| {
        let (inner, stop) = (cpu().trainer(graph, options)?, heard.clone());
        // The first of the three passes of step 2.
        Ok(Box::new(Stopping { inner, calls: 0, last: 4, stop }))
    });
    let run = Run::new(recipe(&changes), &parts).unwrap();
    assert_eq!(run.train(&device, &stop, &mut |_| {}).unwrap().step, 1);
    train(&Run::resume(&parts, &[""; 0]).unwrap());
    assert_eq!(told(&whole), told(&parts));
    let last = |root: &Path| fs::read(root.join("weights/last.safetensors")).unwrap();
    assert!(last(&whole) == last(&parts));
}

#[test]
fn one_process_writes_into_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = Run::new(recipe(&["validate=", "steps=1"]), &out).unwrap();
    let held = run.folder.lock().unwrap();
    for refused in [
        run.train(&cpu(), &AtomicBool::new(false), &mut |_| {}).unwrap_err(),
        Run::resume(&out, &[""; 0]).err().unwrap(),
        Run::new(recipe(&[]), &out).err().unwrap(),
    ] {
        assert!(refused.to_string().contains(&format!("process {} trains here", std::process::id())), "{refused}");
    }
    drop(held);
    assert!(train(&run).finished);
}

/// UFlow on plain frames: the teacher comes in at step 3.
fn unlabelled(changes: &[&str]) -> Recipe {
    let text = r#"
model = "uflow"
data = "synth:chairs@size=72x72,count=7"
steps = 6
epoch_steps = 3
batch = 1
crop = "64x64"
lr = 1e-4
checkpoint_every = 2
log_every = 1
augment = "uflow"
level_dropout = 0.3
loss = "uflow"
[unsupervised]
weight_smooth1 = 4.0
selfsup_crop_height = 8
selfsup_crop_width = 8
selfsup_max_shift = 4
selfsup_after_num_steps = 3
selfsup_ramp_up_steps = 2
"#;
    Recipe::parse("unlabelled", text, changes).unwrap()
}

#[test]
fn learning_from_frames_alone_goes_on_bit_for_bit_where_self_supervision_begins() {
    let folder = tempfile::tempdir().unwrap();
    for (name, changes) in [
        ("one", &[][..]),
        ("frozen", &["unsupervised.frozen_teacher=true", "batch=2"]),
        ("accumulated", &["accumulate=2", "unsupervised.resize_selfsup=false", "crop=96x128", "level_dropout=0"]),
        ("mixed", &["loss=multiscale-epe", "unsupervised.teacher_image_version=augmented", "level_dropout=0"]),
        (
            "smurf",
            &[
                "unsupervised.sequence_decay=0.8",
                "unsupervised.full_size_warp=true",
                "unsupervised.occlusion_estimation=brox",
            ],
        ),
    ] {
        let cut = ["unsupervised.selfsup_crop_height=16", "unsupervised.selfsup_crop_width=16"];
        let changes: Vec<&str> = match name {
            "accumulated" => changes.iter().chain(&cut).copied().collect(),
            _ => changes.to_vec(),
        };
        let [whole, parts] = ["whole", "parts"].map(|part| folder.path().join(format!("{name}-{part}")));
        assert_eq!(train(&Run::new(unlabelled(&changes), &whole).unwrap()).step, 6);
        let run = Run::new(unlabelled(&changes), &parts).unwrap();
        train_until(&run, &cpu(), 3).unwrap();
        train(&Run::resume(&parts, &[""; 0]).unwrap());
        let lines = told(&whole);
        assert_eq!(lines, told(&parts), "{name}");
        let last = |root: &Path| fs::read(root.join("weights/last.safetensors")).unwrap();
        assert!(last(&whole) == last(&parts), "{name}");
        assert_eq!(whole.join("weights/teacher.safetensors").exists(), name == "frozen");
        let term = |term: &str| -> Vec<bool> {
            let steps = lines.iter().filter(|line| line.get("loss").is_some());
            steps.map(|line| line["terms"][term].as_f64().is_some_and(|v| v.is_finite() && v != 0.0)).collect()
        };
        assert_eq!(term("census"), [true; 6], "{name}: {lines:?}");
        assert_eq!(term("smooth1"), [true; 6], "{name}");
        // Where the teacher is nowhere sure it teaches nothing; but it is asked.
        let asked: Vec<bool> = lines
            .iter()
            .filter(|line| line.get("loss").is_some())
            .map(|line| line["terms"]["self-supervision"].as_f64().is_some_and(f64::is_finite))
            .collect();
        assert_eq!(asked, [false, false, false, true, true, true], "{name}: {lines:?}");
        assert!(term("self-supervision").contains(&true), "{name}: {lines:?}");
        assert_eq!(term("supervised"), [name == "mixed"; 6], "{name}");
        let epochs: Vec<u64> = lines.iter().filter_map(|line| line["epoch"].as_u64()).collect();
        assert_eq!(epochs, [1, 2], "{name}");
    }
}

#[test]
fn a_crop_too_small_for_the_student_says_what_works() {
    let text = |changes: &[&str]| {
        let changes: Vec<&str> =
            ["unsupervised.selfsup_crop_height=64"].into_iter().chain(changes.iter().copied()).collect();
        let text = unlabelled(&[]).to_toml();
        Recipe::parse("small", &text, &changes).map(|_| ()).map_err(|e| e.to_string())
    };
    let refused = text(&[]).unwrap_err();
    assert!(refused.contains("160x32") && refused.contains("64x64"), "{refused}");
    assert_eq!(text(&["crop=160x64"]), Ok(()));
}

#[test]
fn every_recipe_without_labels_takes_its_first_steps() {
    let folder = tempfile::tempdir().unwrap();
    for name in
        ["uflow-chairs", "uflow-sintel", "uflow-kitti", "uflow-mindspore-chairs", "uflow-mindspore-sintel", "video"]
    {
        let changes = [
            "data=synth:chairs@size=72x72,count=7",
            "validate=",
            "crop=128x128",
            "steps=3",
            "start=1",
            "batch=1",
            "unsupervised.selfsup_crop_height=16",
            "unsupervised.selfsup_crop_width=16",
            "unsupervised.selfsup_after_num_steps=1",
            "unsupervised.selfsup_ramp_up_steps=1",
            "unsupervised.whole_epochs=false",
            "log_every=1",
        ];
        let run = Run::new(Recipe::open(name, &changes).unwrap(), &folder.path().join(name)).unwrap();
        assert_eq!(train(&run).step, 3, "{name}");
        let lines = told(run.folder.root());
        let steps: Vec<&Value> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
        assert_eq!(steps.len(), 2, "{name}");
        assert!(steps.iter().all(|line| line["terms"]["self-supervision"].as_f64().unwrap().is_finite()), "{name}");
    }
}

#[test]
fn a_part_of_a_video_is_kept_back_and_judged_before_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip");
    fs::create_dir(&clip).unwrap();
    let size = Size::new(72, 88);
    for i in 0..24 {
        let frame = ferroflow_core::Frame::from_fn(size, |x, y| {
            let (x, y) = (x as f32 + 1.5 * i as f32, y as f32);
            let wave = (x * 0.4).sin() + (y * 0.5 + x * 0.2).cos() + (x * 0.13 - y * 0.3).sin();
            [128.0 + 40.0 * wave, 128.0 + 35.0 * (wave * 1.3).sin(), 90.0 + 20.0 * wave].map(|v| v as u8)
        });
        ferroflow_core::io::write_frame(clip.join(format!("{i:03}.png")), &frame).unwrap();
    }
    let data = format!("data='{}'", clip.display());
    let changes = [&*data, "crop=64x64", "steps=2", "unsupervised.weight_selfsup=0"];
    let run = Run::new(Recipe::open("video", &changes).unwrap(), &folder.path().join("run")).unwrap();
    assert!(run.recipe().data[0].ends_with("@train") && run.recipe().validate[0].ends_with("@val"));
    let mut remarks = Vec::new();
    let outcome = run.train(&cpu(), &AtomicBool::new(false), &mut |event| {
        if let Event::Note(text) = event {
            remarks.push(text.to_string());
        }
    });
    let scores = outcome.unwrap().scores;
    assert!(
        remarks.len() == 3 && remarks[2].contains("MB of memory") && remarks[0].contains("24 frames"),
        "{remarks:?}"
    );
    assert!(remarks[1].starts_with("to evaluate on: 2 pairs"), "{remarks:?}");
    assert!(scores[0].epe.is_none() && scores[0].census.unwrap() > 0.0, "{scores:?}");
    let root = run.folder.root();
    let lines = told(root);
    let judged =
        lines.iter().filter(|line| line.get("validation").is_some()).map(|line| line["step"].as_u64().unwrap());
    assert_eq!(judged.collect::<Vec<_>>(), [0, 2]);
    assert!([0, 2].iter().all(|step| root.join(format!("pictures/step-{step:09}-0.png")).exists()));
}

/// Names of the files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn several_of_the_best_are_kept_and_every_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let changes = ["keep=0", "keep_best=2", "validate_every=1", "checkpoint_every=2", "ema=0"];
    train(&Run::new(recipe(&changes), &whole).unwrap());
    assert_eq!(names(&whole.join("checkpoints")).len(), 3);
    let errors: Vec<(f64, u64)> = told(&whole)
        .iter()
        .filter_map(|line| Some((line["validation"][0]["epe"].as_f64()?, line["step"].as_u64()?)))
        .collect();
    assert_eq!(errors.len(), 6);
    let mut best = errors.clone();
    best.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut expected: Vec<String> = best[..2].iter().map(|(_, step)| format!("step-{step:09}.safetensors")).collect();
    let list: Value = serde_json::from_slice(&fs::read(whole.join("weights/best/best.json")).unwrap()).unwrap();
    assert_eq!((list[0]["file"].as_str(), list[0]["error"].as_f64()), (Some(&*expected[0]), Some(best[0].0)));
    // The best of them is the best.
    let weights = |file: &str| store::read(&whole.join("weights").join(file)).unwrap().weights;
    assert!(weights(&format!("best/{}", expected[0])) == weights("best.safetensors"));
    expected.push("best.json".into());
    expected.sort();
    assert_eq!(names(&whole.join("weights/best")), expected);
    // In parts it comes to the same.
    let run = Run::new(recipe(&changes), &parts).unwrap();
    train_until(&run, &cpu(), 3).unwrap();
    train(&Run::resume(&parts, &[""; 0]).unwrap());
    assert_eq!(names(&parts.join("weights/best")), expected);
}

#[test]
fn evaluations_follow_a_protocol() {
    let folder = tempfile::tempdir().unwrap();
    // Three pairs: batches of two are not all pairs alike.
    let data = "synth:chairs@seed=2,size=128x192,count=3";
    let source = crate::data::join(&[data.to_string()]).unwrap();
    let centre = Cropped::new(source.clone(), Size::new(64, 128), None);
    let mut found = Vec::new();
    for (protocol, more) in [
        (None, &[][..]),
        (Some("uflow"), &["validate_protocol=uflow"]),
        (Some("flownet2"), &["validate_protocol=flownet2", "validate_batch=2"]),
        // 128 x 192 are multiples of 64: the centre counts.
        (Some("flownet2"), &["validate_protocol=flownet2", "validate_batch=2", "validate_crop=64x128"]),
        (Some("lightflow"), &["validate_protocol=lightflow", "validate_size=64x128"]),
    ] {
        let root = folder.path().join(found.len().to_string());
        let validate = format!("validate={data}");
        let changes = [&[&*validate, "steps=1"], more].concat();
        let score = train(&Run::new(recipe(&changes), &root).unwrap()).scores.remove(0);
        let stored = store::read(&root.join("weights/last.safetensors")).unwrap();
        let has = |key: &str| more.iter().any(|change| change.starts_with(key));
        let size = has("validate_size").then_some(Size::new(64, 128));
        let estimator = Estimator::network(stored.model, stored.weights, Default::default());
        let estimator = estimator.with_network_size(size).unwrap();
        let source: &dyn Source = if has("validate_crop") { &centre } else { &*source };
        let batch = has("validate_batch").then_some(2);
        let result = evaluate(source, &estimator, Protocol { batch, ..Default::default() }, |_, _, _| {}).unwrap();
        let expected = match (protocol, result.over_batches) {
            (_, Some(batches)) => batches.epe,
            (Some(_), None) => result.summary.over_images.epe,
            (None, None) => result.summary.over_pixels.epe,
        };
        assert_eq!((score.protocol, score.epe), (protocol, expected), "{more:?}");
        found.push(expected.unwrap());
    }
    // The same weights each time, and another figure.
    assert!(found[0] != found[2] && found[2] != found[3] && found[1] != found[4], "{found:?}");
}

#[test]
fn the_regulariser_is_part_of_the_loss_that_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let losses = |name: &str, changes: &[&str]| {
        let changes = [&["steps=1", "log_every=1", "validate=", "weight_decay=0.01"][..], changes].concat();
        let run = Run::new(recipe(&changes), &folder.path().join(name)).unwrap();
        train(&run);
        told(&folder.path().join(name)).into_iter().find(|line| line.get("loss").is_some()).unwrap()
    };
    let (plain, with) = (losses("plain", &[]), losses("with", &["regulariser_in_loss=true"]));
    let model = recipe(&[]).model().unwrap();
    let weights = Weights::random(&model.graph, 5);
    let params = model.graph.params.iter().zip(weights.iter());
    let decayed = params.filter(|(p, _)| p.used && p.role.is_trained() && !p.name.ends_with("bias"));
    let expected = crate::loss::l2_penalty(0.01, decayed.map(|(_, values)| values));
    let added = with["loss"].as_f64().unwrap() - plain["loss"].as_f64().unwrap();
    assert!((added / expected - 1.0).abs() < 1e-9 && expected > 0.0, "{added} {expected}");
    assert!((with["terms"]["regulariser"].as_f64().unwrap() / expected - 1.0).abs() < 1e-9);
}

/// Tags of the pictures in a run's events, in the order in which they were written.
fn picture_tags(root: &Path) -> Vec<String> {
    names(&root.join("events"))
        .iter()
        .flat_map(|name| crate::tensorboard::picture_tags(&fs::read(root.join("events").join(name)).unwrap()))
        .collect()
}

#[test]
fn pictures_are_those_of_the_projects() {
    let folder = tempfile::tempdir().unwrap();
    let data = "synth:chairs@seed=2,size=64x64,count=4";
    let tags = |kind: &str| {
        let changes = [&format!("validate={data}"), "steps=2", "validate_every=1", &format!("pictures={kind}")];
        let root = folder.path().join(kind);
        train(&Run::new(recipe(&changes), &root).unwrap());
        picture_tags(&root)
    };
    assert_eq!(tags("beside"), [data; 2]);
    let three = |what: &[&str]| -> Vec<String> {
        (0..3).flat_map(|i| what.iter().map(move |what| format!("{data}/{i}{what}"))).collect()
    };
    let outputs = three(&["/FlowNet Outputs"]);
    let first = three(&["/Inputs/1", "/Inputs/2", "/GroundTruth", "/FlowNet Outputs"]);
    assert_eq!(tags("lightflow"), [first, outputs].concat());
    for kind in ["top-flow", "pyramid"] {
        assert_eq!(tags(kind), [three(&[""]), three(&[""])].concat());
    }
}
