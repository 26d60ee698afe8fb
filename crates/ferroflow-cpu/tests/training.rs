//! The training plan against the interpreter in double precision: outputs, and the gradient of every parameter.

use ferroflow_cpu::reference::Training;
use ferroflow_cpu::training::{Settings, TrainingPlan};
use ferroflow_net::graph::Sizes;
use ferroflow_net::training::{Differentiable, Gradients, TrainingOptions, Values};
use ferroflow_net::weights::formula::Stream;
use ferroflow_net::{Model, Weights};

fn noise(name: &str, len: usize, spread: f32) -> Vec<f32> {
    Stream::new("training", name).tensor(len, f64::from(spread), 0.0)
}

fn frames(sizes: &Sizes) -> [Vec<f32>; 2] {
    let len = sizes.batch * 3 * sizes.input.height * sizes.input.width;
    ["first", "second"].map(|name| noise(name, len, 100.0).iter().map(|v| v + 128.0).collect())
}

/// One step on random frames with random output gradients: outputs, parameter gradients, moved statistics.
fn step(
    network: &mut dyn Differentiable,
    model: &Model,
    options: &TrainingOptions,
) -> (Vec<Values>, Gradients, Weights) {
    let mut weights = Weights::random(&model.graph, 3);
    let [first, second] = frames(&options.sizes);
    let outputs = network.forward(&weights, [&first, &second]).unwrap();
    let d: Vec<Values> = (outputs.iter().enumerate())
        .map(|(i, o)| Values { shape: o.shape, data: noise(&format!("d{i}"), o.data.len(), 1.0) })
        .collect();
    let mut gradients = Gradients::zeros(&model.graph, &options.trained);
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
fn agrees(name: &str, options: &[&str], (height, width): (usize, usize), tolerance: f64, frozen: &[&str]) {
    let model = Model::parse(name, options).unwrap();
    let graph = &model.graph;
    let outputs = graph.pyramid.iter().copied().chain(graph.flow).collect();
    let mut options = TrainingOptions::all(graph, Sizes::new(2, height, width), outputs);
    for (param, trained) in graph.params.iter().zip(&mut options.trained) {
        *trained &= !frozen.iter().any(|prefix| param.name.starts_with(prefix));
    }
    let mut plain = Training::<f64>::new(graph, options.clone()).unwrap();
    let theirs = step(&mut plain, &model, &options);
    for exact in [true, false] {
        compare_steps(name, &model, &options, exact, &theirs, tolerance);
    }
}

fn compare_steps(
    name: &str,
    model: &Model,
    options: &TrainingOptions,
    exact: bool,
    theirs: &(Vec<Values>, Gradients, Weights),
    tolerance: f64,
) {
    let graph = &model.graph;
    let settings = Settings { exact, ..Settings::default() };
    let mut fast = TrainingPlan::new(graph, options.clone(), settings).unwrap();
    let ours = step(&mut fast, model, options);
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
    let again = step(&mut fast, model, options);
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
    agrees("lightflow", &[], (64, 128), NORMALISED, &[]);
}

#[test]
fn pwcnet() {
    agrees("pwcnet", &[], (64, 64), PLAIN, &[]);
}

#[test]
fn tfoptflow() {
    agrees("pwcnet-sm", &[], (64, 64), PLAIN, &[]);
}

#[test]
fn uflow() {
    agrees("uflow", &["channel-multiplier=0.25", "normalize-over=batch"], (64, 64), PLAIN, &[]);
}

#[test]
#[ignore = "a minute on two cores"]
fn larger_networks() {
    agrees("flownet2-c", &[], (64, 64), PLAIN, &[]);
    agrees("flownet2-s-bn", &[], (64, 64), NORMALISED, &[]);
    agrees("lightflow-0.5", &[], (128, 64), NORMALISED, &[]);
    agrees("pwcnet-nodc", &[], (64, 128), PLAIN, &[]);
    agrees("pwcnet-res", &[], (64, 64), PLAIN, &[]);
    agrees("pwcnet-lg-6-2", &[], (64, 64), PLAIN, &[]);
    agrees("uflow", &["channel-multiplier=0.5"], (64, 128), PLAIN, &[]);
    // The earlier network of a stack stays as it is.
    agrees("flownet2-cs", &[], (64, 64), PLAIN, &["flownetc."]);
    agrees("flownet2-cs-bn", &[], (64, 64), NORMALISED, &["flownetc."]);
}

/// The first of two networks stays as it is, and so does whatever only it reads.
#[test]
fn frozen_parameters() {
    agrees("pwcnet-sm", &[], (64, 64), PLAIN, &["pwcnet/featpyr"]);
}

/// The sums do not depend on how many threads share them.
#[test]
fn threads_change_nothing() {
    for name in ["lightflow-0.5", "pwcnet-sm"] {
        let model = Model::named(name).unwrap();
        let options = TrainingOptions::all(&model.graph, Sizes::new(2, 64, 128), model.graph.pyramid.clone());
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut plan = TrainingPlan::new(&model.graph, options.clone(), Settings::default()).unwrap();
                step(&mut plan, &model, &options)
            })
        };
        let (one, three) = (run(1), run(3));
        assert!(one == three, "{name}");
    }
}
