//! The training plan against the interpreter in double precision: outputs, and the gradient of every parameter.

use ferroflow_cpu::reference::Training;
use ferroflow_cpu::training::{Settings, TrainingPlan, memory_estimate};
use ferroflow_net::graph::{Graph, ParamRole, Sizes};
use ferroflow_net::peers::Threads;
use ferroflow_net::training::{Gradients, Trainer, TrainingOptions, Values};
use ferroflow_net::weights::formula::Stream;
use ferroflow_net::{Model, ParamId, Weights};

fn noise(name: &str, len: usize, spread: f32) -> Vec<f32> {
    Stream::new("training", name).tensor(len, f64::from(spread), 0.0)
}

fn frames(sizes: &Sizes) -> [Vec<f32>; 2] {
    let len = sizes.batch * 3 * sizes.input.height * sizes.input.width;
    ["first", "second"].map(|name| noise(name, len, 100.0).iter().map(|v| v + 128.0).collect())
}

/// Random weights, those of batch norm too: a fresh network's would hide what it does.
fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::random(graph, 3);
    for (i, param) in graph.params.iter().enumerate() {
        let middle = match param.role {
            ParamRole::NormShift | ParamRole::NormMean => 0.0,
            ParamRole::NormScale | ParamRole::NormVariance => 1.0,
            _ => continue,
        };
        let values = weights.get_mut(ParamId(i as u32));
        values.iter_mut().zip(noise(&param.name, param.len(), 0.3)).for_each(|(v, noise)| *v = middle + noise);
    }
    weights
}

/// One step on random frames with random output gradients: outputs, parameter gradients, moved statistics.
fn step(network: &mut dyn Trainer, graph: &Graph, options: &TrainingOptions) -> (Vec<Values>, Gradients, Weights) {
    let mut weights = weights(graph);
    let [first, second] = frames(&options.sizes);
    network.load(&weights).unwrap();
    let outputs = network.forward([&first, &second]).unwrap();
    let d: Vec<Values> = (outputs.iter().enumerate())
        .map(|(i, o)| Values { shape: o.shape, data: noise(&format!("d{i}"), o.data.len(), 1.0) })
        .collect();
    let mut gradients = Gradients::zeros(graph, &options.trained);
    network.backward(&d, &mut gradients).unwrap();
    network.update_statistics(0.1, &mut weights);
    (outputs, gradients, weights)
}

fn off(ours: &[f32], theirs: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(usize) -> f64| (0..theirs.len()).map(f).sum::<f64>();
    let difference = sum(&|i| f64::from(ours[i] - theirs[i]).powi(2)).sqrt();
    difference / sum(&|i| f64::from(theirs[i]).powi(2)).sqrt().max(1e-12)
}

/// Relative differences of the outputs and of the whole gradient are below the tolerance.
fn agrees(name: &str, options: &[&str], size: (usize, usize), tolerance: f64) {
    agrees_frozen(name, &Model::parse(name, options).unwrap().graph, size, tolerance, |_| false);
}

/// As [`agrees`], without the gradients of the parameters whose names `frozen` picks.
fn agrees_frozen(
    name: &str,
    graph: &Graph,
    (height, width): (usize, usize),
    tolerance: f64,
    frozen: impl Fn(&str) -> bool,
) {
    let outputs = graph.pyramid.iter().copied().chain(graph.flow).collect();
    let mut options = TrainingOptions::all(graph, Sizes::new(2, height, width), outputs);
    for (param, trained) in graph.params.iter().zip(&mut options.trained) {
        *trained &= !frozen(&param.name);
    }
    let mut plain = Training::<f64>::new(graph, options.clone()).unwrap();
    let theirs = step(&mut plain, graph, &options);
    for exact in [true, false] {
        compare_steps(name, graph, &options, exact, &theirs, tolerance);
    }
}

fn compare_steps(
    name: &str,
    graph: &Graph,
    options: &TrainingOptions,
    exact: bool,
    theirs: &(Vec<Values>, Gradients, Weights),
    tolerance: f64,
) {
    let settings = Settings { exact, ..Settings::default() };
    let mut fast = TrainingPlan::new(graph, options.clone(), settings).unwrap();
    let ours = step(&mut fast, graph, options);
    let mut worst = (0.0, String::new());
    let mut compare = |what: String, ours: &[f32], theirs: &[f32]| {
        let off = off(ours, theirs);
        assert!(off.is_finite() && off < tolerance, "{name} {what}: off by {off:.2e}");
        if off > worst.0 {
            worst = (off, what);
        }
    };
    for (i, (ours, theirs)) in ours.0.iter().zip(&theirs.0).enumerate() {
        compare(format!("output {i}"), &ours.data, &theirs.data);
    }
    let all = |gradients: &Gradients| gradients.iter().flatten().copied().collect::<Vec<f32>>();
    compare("the whole gradient".into(), &all(&ours.1), &all(&theirs.1));
    for ((param, ours), theirs) in graph.params.iter().zip(ours.1.iter()).zip(theirs.1.iter()) {
        assert_eq!(ours.len(), theirs.len());
        // A sum of gradients that cancels to nothing has only rounding left.
        if theirs.iter().any(|v| v.abs() > 1e-4) {
            let off = off(ours, theirs);
            assert!(off < SINGLE, "{name} gradient of {}: off by {off:.2e}", param.name);
        }
    }
    for ((param, ours), theirs) in graph.params.iter().zip(ours.2.iter()).zip(theirs.2.iter()) {
        compare(format!("{} afterwards", param.name), ours, theirs);
    }
    println!("{name}: the worst is {} by {:.2e}", worst.1, worst.0);

    // Again, on the same plan: nothing of the first step is left.
    let again = step(&mut fast, graph, options);
    assert_eq!(again.1, ours.1, "{name}: a second step differs");
}

// A value within rounding of 0 may fall on the other side of a leaky ReLU. At these sizes one such value of some thousand
// moves every gradient before it by percents, and a bias that sums few pixels by more; with batch norm, which divides by
// the deviation of a few values, the more so. The golden files hold the plan to 1e-4.
const PLAIN: f64 = 5e-2;
const NORMALISED: f64 = 1e-1;
/// For one parameter.
const SINGLE: f64 = 3e-1;

#[test]
fn lightflow() {
    agrees("lightflow", &[], (64, 128), NORMALISED);
}

#[test]
fn pwcnet() {
    agrees("pwcnet", &[], (64, 64), PLAIN);
}

#[test]
fn tfoptflow() {
    agrees("pwcnet-sm", &[], (64, 64), PLAIN);
}

#[test]
fn uflow() {
    agrees("uflow", &["channel-multiplier=0.25", "normalize-over=batch"], (64, 64), PLAIN);
}

/// Iterations share their layers, and levels their parameters.
#[test]
fn rill() {
    agrees("rill", &["iterations=2", "iterations-8=2", "iterations-4=2"], (64, 64), PLAIN);
}

#[test]
#[ignore = "a minute on two cores"]
fn larger_networks() {
    agrees("flownet2-c", &[], (64, 64), PLAIN);
    agrees("flownet2-s-bn", &[], (64, 64), NORMALISED);
    agrees("lightflow-0.5", &[], (128, 64), NORMALISED);
    agrees("pwcnet-nodc", &[], (64, 128), PLAIN);
    agrees("pwcnet-res", &[], (64, 64), PLAIN);
    agrees("pwcnet-lg-6-2", &[], (64, 64), PLAIN);
    agrees("uflow", &["channel-multiplier=0.5"], (64, 128), PLAIN);
    // The earlier network of a stack stays as it is.
    for (name, tolerance) in [("flownet2-cs", PLAIN), ("flownet2-cs-bn", NORMALISED)] {
        let graph = Model::named(name).unwrap().graph;
        agrees_frozen(name, &graph, (64, 64), tolerance, |name| name.starts_with("flownetc."));
    }
}

/// The first of two networks stays as it is, and so does whatever only it reads.
#[test]
fn frozen_parameters() {
    let graph = Model::named("pwcnet-sm").unwrap().graph;
    agrees_frozen("pwcnet-sm", &graph, (64, 64), PLAIN, |name| name.starts_with("pwcnet/featpyr"));
}

/// Parts of separable blocks in any mixture, their moved statistics included.
#[test]
fn frozen_parts_of_blocks() {
    let graph = Model::named("lightflow-0.5").unwrap().graph;
    let norm = |name: &str| name.contains(".1.") || name.contains(".4.");
    let check = |what: &str, frozen: &dyn Fn(&str) -> bool| {
        agrees_frozen(&format!("lightflow without {what}"), &graph, (64, 128), NORMALISED, frozen);
    };
    check("conv1, conv10..16", &|name| name.starts_with("conv1"));
    check("norms", &norm);
    check("scales", &|name| norm(name) && name.ends_with("weight"));
    check("second norms and first shifts", &|name| name.contains(".4.") || name.ends_with(".1.bias"));
    check("all but norms", &|name| !norm(name));
    check("all but predictors", &|name| !(12..=16).any(|i| name.starts_with(&format!("conv{i}."))));
    check("a depthwise filter", &|name| name == "conv5a.0.weight");
    check("all but a depthwise filter", &|name| name != "conv9.0.weight");
    check("anything", &|_| true);
}

/// What a step is said to take before it is prepared, against what it then takes.
#[test]
fn the_memory_of_a_step_is_known_beforehand() {
    for (name, side) in [("rill", 128), ("lightflow-0.5", 128), ("uflow", 64)] {
        let graph = Model::named(name).unwrap().graph;
        let sizes = Sizes::new(2, side, 2 * side);
        for recompute in [false, true] {
            let options = TrainingOptions { recompute, ..TrainingOptions::all(&graph, sizes, graph.pyramid.clone()) };
            let mut plan = TrainingPlan::new(&graph, options.clone(), Settings::default()).unwrap();
            step(&mut plan, &graph, &options);
            let memory = plan.memory();
            let parameters: usize = graph.params.iter().map(|param| 4 * param.len()).sum();
            // Weights, their gradients, moments and average lie outside the plan.
            let said = (memory_estimate(&graph, &options).unwrap() - 5 * parameters) as f64;
            let ratio = said / (memory.activations + memory.weights) as f64;
            println!("{name}, recomputed {recompute}: {ratio:.2}, {memory:?}");
            assert!((0.7..2.5).contains(&ratio), "{name}: {said:.3e} said, {memory:?} taken");
        }
    }
}

/// Values that are computed again are the same: outputs, gradients and statistics to the last bit, in less memory.
#[test]
fn what_is_computed_again_is_the_same() {
    for name in ["lightflow-0.5", "pwcnet-sm", "rill", "flownet2-s-bn", "uflow"] {
        let graph = Model::named(name).unwrap().graph;
        let outputs = graph.pyramid.iter().copied().chain(graph.flow).collect();
        let keeping = TrainingOptions::all(&graph, Sizes::new(2, 64, 128), outputs);
        let again = TrainingOptions { recompute: true, ..keeping.clone() };
        let mut plans = [&keeping, &again].map(|o| TrainingPlan::new(&graph, o.clone(), Settings::default()).unwrap());
        let [expected, found] = plans.each_mut().map(|plan| {
            let found = step(plan, &graph, &keeping);
            // Also after a pass without a gradient.
            let [first, second] = frames(&keeping.sizes);
            plan.forward([&second, &first]).unwrap();
            assert!(step(plan, &graph, &keeping) == found, "{name}: a second step differs");
            found
        });
        assert!(expected == found, "{name}");
        let [most, least] = plans.each_ref().map(|plan| plan.memory().activations);
        println!("{name}: {:.2} MB instead of {:.2}", least as f64 / 1e6, most as f64 / 1e6);
        assert!((least as f64) < 0.75 * most as f64, "{name}: {least} of {most} bytes");
    }
}

/// The sums do not depend on how many threads share them.
#[test]
fn threads_change_nothing() {
    for name in ["lightflow-0.5", "pwcnet-sm", "rill"] {
        let model = Model::named(name).unwrap();
        let options = TrainingOptions::all(&model.graph, Sizes::new(2, 64, 128), model.graph.pyramid.clone());
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut plan = TrainingPlan::new(&model.graph, options.clone(), Settings::default()).unwrap();
                step(&mut plan, &model.graph, &options)
            })
        };
        let (one, three) = (run(1), run(3));
        assert!(one == three, "{name}");
    }
}

/// Ranks that share a batch normalise it as one, forward and backward: outputs and the summed gradients are those of the whole.
#[test]
fn ranks_that_share_a_batch_take_its_statistics_together() {
    for name in ["lightflow-0.5", "flownet2-s-bn"] {
        let graph = Model::named(name).unwrap().graph;
        let outputs: Vec<_> = graph.pyramid.iter().copied().chain(graph.flow).collect();
        let of = |batch: usize| TrainingOptions::all(&graph, Sizes::new(batch, 64, 128), outputs.clone());
        let whole = of(6);
        let [first, second] = frames(&whole.sizes);
        let slopes = |shapes: &[Values]| -> Vec<Values> {
            let slope =
                |(i, o): (usize, &Values)| Values { shape: o.shape, data: noise(&format!("d{i}"), o.data.len(), 1.0) };
            shapes.iter().enumerate().map(slope).collect()
        };
        let mut plan = TrainingPlan::new(&graph, whole.clone(), Settings::default()).unwrap();
        let expected = step(&mut plan, &graph, &whole);
        let d = slopes(&expected.0);
        for ranks in [2, 3] {
            let part = |values: &[f32], rank: usize| {
                let len = values.len() / ranks;
                values[rank * len..][..len].to_vec()
            };
            // A rank that waits for another must not keep that one's threads.
            let pool = || rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let found = Threads::run(ranks, |peers| {
                pool().install(|| {
                    let (rank, options) = (peers.rank(), of(6 / ranks));
                    let mut plan = TrainingPlan::new(&graph, options.clone(), Settings::default()).unwrap();
                    plan.synchronise(&peers).unwrap();
                    let mut weights = weights(&graph);
                    plan.load(&weights).unwrap();
                    let outputs = plan.forward([&part(&first, rank), &part(&second, rank)]).unwrap();
                    let d = outputs.iter().zip(&d);
                    let d: Vec<Values> = d.map(|(o, d)| Values { shape: o.shape, data: part(&d.data, rank) }).collect();
                    let mut gradients = Gradients::zeros(&graph, &options.trained);
                    plan.backward(&d, &mut gradients).unwrap();
                    plan.update_statistics(0.1, &mut weights);
                    peers.sum(gradients.values_mut());
                    (outputs, gradients, weights)
                })
            });
            for (i, theirs) in expected.0.iter().enumerate() {
                let ours: Vec<f32> = found.iter().flat_map(|(outputs, ..)| outputs[i].data.clone()).collect();
                assert!(off(&ours, &theirs.data) < 1e-4, "{name} output {i}: {:.2e}", off(&ours, &theirs.data));
            }
            for (_, gradients, moved) in &found {
                let off_by = off(gradients.values(), expected.1.values());
                assert!(off_by < 1e-3, "{name} on {ranks} ranks: gradient off by {off_by:.2e}");
                for (ours, theirs) in moved.iter().zip(expected.2.iter()) {
                    assert!(off(ours, theirs) < 1e-4, "{name}: statistics off by {:.2e}", off(ours, theirs));
                }
                // To the last bit.
                assert!(gradients == &found[0].1 && moved.iter().eq(found[0].2.iter()));
            }
        }
    }
}
