//! Several ranks against one process. Here ranks are threads; `ferroflow-cli/tests/ranks.rs` has processes.

use ferroflow_cpu::CpuOptions;
use ferroflow_net::graph::ParamRole;

use super::*;
use crate::peers::Threads;

/// A device with a thread of its own.
fn own_cpu() -> Arc<dyn Device> {
    Arc::new(Cpu::new(CpuOptions { threads: Some(1), ..CpuOptions::default() }).unwrap())
}

/// What the first rank saw of a run, and the outcomes of all.
struct Seen {
    losses: Vec<(f64, Option<f64>)>,
    warnings: Vec<String>,
    outcomes: Vec<Result<Outcome, TrainError>>,
}

/// Trains on ranks with these devices. The first is asked to stop after step `until`.
fn train_on(devices: &[Arc<dyn Device>], open: impl Fn() -> Result<Run, TrainError> + Sync, until: u64) -> Seen {
    let seen = Threads::run(devices.len(), |peers| {
        let (mut losses, mut warnings) = (Vec::new(), Vec::new());
        let stop = AtomicBool::new(false);
        let device = &devices[peers.rank()];
        let outcome = Run::among(peers, &open).and_then(|run| {
            run.train(device, &stop, &mut |event| match event {
                Event::Step { step, loss, epe, .. } => {
                    losses.push((loss, epe));
                    stop.fetch_or(step == until, Ordering::Relaxed);
                }
                Event::Warning(text) => warnings.push(text),
                _ => {}
            })
        });
        (losses, warnings, outcome)
    });
    let mut all = Seen { losses: Vec::new(), warnings: Vec::new(), outcomes: Vec::new() };
    for (rank, (losses, warnings, outcome)) in seen.into_iter().enumerate() {
        assert!(rank == 0 || losses.is_empty() && warnings.is_empty(), "only the first rank tells");
        all.losses.extend(losses);
        all.warnings.extend(warnings);
        all.outcomes.push(outcome);
    }
    all
}

fn cpus(ranks: usize) -> Vec<Arc<dyn Device>> {
    (0..ranks).map(|_| own_cpu()).collect()
}

/// Losses and errors of all steps.
fn losses(ranks: usize, recipe: &Recipe, out: &Path) -> Vec<(f64, Option<f64>)> {
    let seen = train_on(&cpus(ranks), || Run::new(recipe.clone(), out), u64::MAX);
    assert!(seen.outcomes.iter().all(|outcome| outcome.as_ref().unwrap().finished), "{:?}", seen.outcomes);
    seen.losses
}

/// Losses and errors of the same steps; `first` is how far those of the first may be apart.
fn assert_close(name: &str, ours: &[(f64, Option<f64>)], theirs: &[(f64, Option<f64>)], first: f64) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (step, ((loss, epe), (expected, expected_epe))) in ours.iter().zip(theirs).enumerate() {
        let tolerance = if step == 0 { first } else { TOLERANCE };
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < tolerance;
        assert!(close(*loss, *expected), "{name}: {ours:?} for {theirs:?}");
        assert_eq!(epe.is_some(), expected_epe.is_some(), "{name}");
        assert!(epe.zip(*expected_epe).is_none_or(|(a, b)| close(a, b)), "{name}: {ours:?} for {theirs:?}");
    }
}

/// The losses of a step add up the same terms in another order, which changes their last digits. What that does to the weights grows
/// from step to step: Adam's first steps move a weight by the rate whatever its gradient is, and batch norm over a few values, as at
/// LightFlow's coarsest level here, multiplies it. A batch norm over a part of the batch, or a mean over another number of pixels, shows at
/// 1e-3 in the first step.
const TOLERANCE: f64 = 2e-3;
/// Of the first step.
const FIRST: f64 = 1e-5;

#[test]
fn any_number_of_ranks_has_the_losses_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let cut = ["unsupervised.weight_smooth2=2.0", "unsupervised.weight_photo=0.3", "unsupervised.weight_ssim=0.2"];
    let few = ["validate=", "batch=6", "steps=4", "lr=1e-4"];
    // UFlow from random weights multiplies roundings most.
    let slowly = "lr=5e-6";
    let masked = ["unsupervised.occlusion_estimation=wang", "unsupervised.stop_gradient_mask=false"];
    for (name, recipe) in [
        ("lightflow", recipe(&[&few[..], &["ema=0"]].concat())),
        // A batch in parts.
        (
            "pwcnet",
            recipe(&[&few[..], &["model=pwcnet-sm", "loss=multiscale-epe", "accumulate=2", "lr=1e-4"]].concat()),
        ),
        // Its levels are powers of sums over the batch.
        ("robust", recipe(&[&few[..], &["model=pwcnet-sm", "loss=tfoptflow-robust", "lr=1e-4"]].concat())),
        // As many terms as there are known pixels.
        (
            "known",
            recipe(
                &[
                    &few[..],
                    &["loss=lightflow-l2", "data=synth:things@size=64x64", "augment=none", "skip_occluded=true"],
                ]
                .concat(),
            ),
        ),
        ("unlabelled", unlabelled(&[&few[..], &cut, &["steps=6", slowly]].concat())),
        (
            "mask",
            unlabelled(
                &[
                    &few[..],
                    &cut,
                    &masked,
                    &["level_dropout=0", "accumulate=2", "unsupervised.weight_selfsup=0", slowly],
                ]
                .concat(),
            ),
        ),
        ("mixed", unlabelled(&[&few[..], &["loss=multiscale-epe", "level_dropout=0", slowly]].concat())),
        (
            "supervised",
            unlabelled(
                &[&few[..], &["unsupervised.use_supervision=true", "unsupervised.weight_selfsup=0", slowly]].concat(),
            ),
        ),
    ] {
        let expected = losses(1, &recipe, &folder.path().join(format!("{name}-1")));
        for ranks in [2, 3] {
            let found = losses(ranks, &recipe, &folder.path().join(format!("{name}-{ranks}")));
            assert_close(name, &found, &expected, FIRST);
        }
        let last = |ranks: usize| {
            let path = folder.path().join(format!("{name}-{ranks}/weights/last.safetensors"));
            store::read(&path).unwrap().weights
        };
        // Where a gradient is nothing but rounding, Adam moves a weight by it all the same: so all weights together, and the running
        // statistics one by one.
        let (one, three) = (last(1), last(3));
        let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let pairs = || one.iter().flatten().zip(three.iter().flatten()).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let apart = length(&mut pairs().map(|(a, b)| a - b)) / length(&mut pairs().map(|(a, _)| a));
        assert!(apart < 2e-3, "{name}: {apart:.2e}");
        for ((param, one), three) in recipe.model().unwrap().graph.params.iter().zip(one.iter()).zip(three.iter()) {
            if matches!(param.role, ParamRole::NormMean | ParamRole::NormVariance) {
                let largest = one.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
                let apart = one.iter().zip(three).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-2 * largest, "{name} {}: {apart} of {largest}", param.name);
            }
        }
    }
}

#[test]
fn ranks_repeat_bit_for_bit_and_go_on_as_another_number() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&["batch=6", "log_every=1", "lr=1e-4"]);
    let [one, two, again, parts] = ["one", "two", "again", "parts"].map(|name| folder.path().join(name));
    let expected = losses(1, &recipe, &one);
    let found = losses(2, &recipe, &two);
    assert_close("two", &found, &expected, FIRST);
    // Gradients that are summed while others are computed are summed in the same order.
    assert_eq!(losses(2, &Recipe { sum_beside: Some(true), ..recipe.clone() }, &folder.path().join("beside")), found);
    assert_eq!(losses(2, &recipe, &again), found);
    assert_eq!(told(&two), told(&again));
    assert!(left(&two) == left(&again));

    let begun = train_on(&cpus(2), || Run::new(recipe.clone(), &parts), 2);
    assert!(begun.outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome { step: 2, finished: false, .. }))));
    assert_eq!(begun.losses, found[..2]);
    let ended = train_on(&cpus(3), || Run::resume(&parts, &[""; 0]), u64::MAX);
    assert_close("resumed", &ended.losses, &expected[2..], TOLERANCE);
    assert!(ended.outcomes[0].as_ref().unwrap().best.is_some() && parts.join("weights/best.safetensors").exists());
    // What each rank spent is logged, for all of them.
    let lines = log::read(&two.join("log.jsonl")).unwrap();
    let ranks: Vec<&Value> = lines.iter().filter_map(|line| line["time"].get("ranks")).collect();
    assert_eq!(ranks.len(), 6);
    let graph = recipe.model().unwrap().graph;
    let bytes: usize = graph
        .params
        .iter()
        .zip(recipe.trained(&recipe.model().unwrap()))
        .map(|(p, t)| if t { 4 * p.len() } else { 0 })
        .sum();
    for of in ranks {
        assert_eq!((of.as_array().unwrap().len(), of[1]["summed_bytes"].as_f64()), (2, Some(bytes as f64)));
        assert!(of[0]["compute"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_step_that_is_no_number_on_one_rank_is_skipped_on_all() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let recipe = recipe(&["validate=", "sync_batch_norm=false", "log_every=1"]);
    let devices = [faulty(|_| false, |_| false), faulty(|call| call == 2, |call| call == 4)];
    let seen = train_on(&devices, || Run::new(recipe.clone(), &out), u64::MAX);
    assert!(seen.outcomes.iter().all(|outcome| outcome.as_ref().unwrap().step == 6), "{:?}", seen.outcomes);
    assert_eq!(seen.warnings.len(), 2, "{:?}", seen.warnings);
    assert!(seen.warnings[0].contains("step 2") && seen.warnings[1].contains("step 4"));
    let skipped: Vec<Value> = told(&out).into_iter().filter(|line| line.get("skipped").is_some()).collect();
    let samples = skipped[0]["samples"].as_array().unwrap();
    assert!(samples.len() == 2 && samples[0] != samples[1], "those of both ranks: {skipped:?}");
    assert!(
        store::read(&out.join("weights/last.safetensors")).unwrap().weights.iter().flatten().all(|v| v.is_finite())
    );
}

/// Ranks that normalise their own parts differ from one process, but hold the same weights.
#[test]
fn batch_norm_over_parts_is_another_but_the_same_on_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let [synced, apart, parts] = ["synced", "apart", "parts"].map(|name| folder.path().join(name));
    let same = ["batch=4", "validate=", "steps=4"];
    let split = recipe(&[&same[..], &["sync_batch_norm=false"]].concat());
    let synced = losses(2, &recipe(&same), &synced);
    let found = losses(2, &split, &apart);
    assert!((found[0].0 / synced[0].0 - 1.0).abs() > 1e-3, "{found:?} {synced:?}");
    // Each rank goes on from the checkpoint, and they compare what they begin with.
    train_on(&cpus(2), || Run::new(split.clone(), &parts), 2);
    let ended = train_on(&cpus(2), || Run::resume(&parts, &[""; 0]), u64::MAX);
    assert_eq!(ended.losses, found[2..]);
    // A device that cannot take statistics with others says what to do.
    let devices = [faulty(|_| false, |_| false), faulty(|_| false, |_| false)];
    let out = folder.path().join("refused");
    let seen = train_on(&devices, || Run::new(recipe(&same), &out), u64::MAX);
    let errors: Vec<String> = seen.outcomes.into_iter().map(|outcome| outcome.unwrap_err().to_string()).collect();
    assert!(errors[0].contains("sync_batch_norm = false") && errors[1].contains("rank 0 failed"), "{errors:?}");
    assert!(!out.exists(), "nothing is left of a run that never began");
}

#[test]
fn what_is_wrong_is_said_by_one_rank() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let refused = |recipe: &Recipe| {
        let seen = train_on(&cpus(3), || Run::new(recipe.clone(), &out), u64::MAX);
        let mut errors = seen.outcomes.into_iter().map(Result::unwrap_err);
        let first = errors.next().unwrap();
        assert!(errors.all(|error| matches!(error, TrainError::Peer { rank: 0 })));
        assert!(!out.exists());
        first.to_string()
    };
    let uneven = refused(&recipe(&["batch=4"]));
    assert!(uneven.contains("3 ranks") && uneven.contains("--set batch=6"), "{uneven}");
    let lost = refused(&recipe(&["batch=3", "data=chairs:/nowhere"]));
    assert!(lost.contains("/nowhere"), "{lost}");
    // The folder is locked once.
    let good = recipe(&["batch=3", "validate=", "steps=2"]);
    let held = Run::new(good.clone(), &out).unwrap();
    let lock = held.folder.lock().unwrap();
    let seen = train_on(&cpus(3), || Run::resume(&out, &[""; 0]), u64::MAX);
    assert!(seen.outcomes[0].as_ref().unwrap_err().to_string().contains("trains here"), "{:?}", seen.outcomes);
    assert!(seen.outcomes[1..].iter().all(|outcome| matches!(outcome, Err(TrainError::Peer { rank: 0 }))));
    drop(lock);
    assert!(train_on(&cpus(3), || Run::resume(&out, &[""; 0]), u64::MAX).outcomes.iter().all(Result::is_ok));
}
