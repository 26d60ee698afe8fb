//! A run that stays on a device takes the steps that the host would.

mod common;

use std::sync::Arc;

use common::{images, options, slopes, weights};
use ferroflow_burn::Burn;
use ferroflow_net::device::Device as _;
use ferroflow_net::peers::{Peers, Threads};
use ferroflow_net::training::Gradients;
use ferroflow_net::{Graph, Model, Weights};
use ferroflow_train::optimiser::{Decay, Optimiser, OptimiserConfig, norm};

/// Steps, with two passes each.
const STEPS: usize = 3;
const RATE: f64 = 1e-4;
/// Of gradients and of weights, f32 each; sums of squares are in f64 on the host alone.
const TOLERANCE: f64 = 1e-5;

fn configs() -> [OptimiserConfig; 3] {
    let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
    [
        OptimiserConfig::Adam { beta1, beta2, epsilon },
        OptimiserConfig::AdamTensorflow { beta1, beta2, epsilon },
        OptimiserConfig::Adamw { beta1, beta2, epsilon },
    ]
}

/// Weights after the same steps of Adam are the same, but for rounding.
fn assert_stepped(graph: &Graph, [expected, found]: [&Weights; 2], steps: usize, what: &str) {
    for ((param, expected), found) in graph.params.iter().zip(expected.iter()).zip(found.iter()) {
        let largest = expected.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        let worst = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Where a gradient is rounding alone, Adam makes a whole step of it.
        let free = 2.0 * steps as f64 * RATE;
        let off = expected.iter().zip(found).filter(|(a, b)| f64::from((**a - **b).abs()) > TOLERANCE).count();
        assert!(f64::from(worst) < free + TOLERANCE * f64::from(largest), "{what}: {}: {worst}", param.name);
        assert!(off * 50 <= expected.len() + 49, "{what}: {}: {off} of {}", param.name, expected.len());
    }
}

fn check(burn: &Burn, name: &str) {
    let graph = Model::named(name).unwrap().graph;
    let mut options = options(&graph, 1);
    // One is frozen.
    let frozen = options.trained.iter().rposition(|trained| *trained).unwrap();
    options.trained[frozen] = false;
    let [first, second] = images(&options.sizes);
    for config in configs() {
        let decay = Decay { weights: 0.01, biases: 0.0 };
        let optimiser = || Optimiser::new(config, &graph, &options.trained, decay);
        let (mut here, mut there) = (optimiser(), optimiser());
        let mut expected = weights(&graph);
        let mut found = expected.clone();

        let mut trainer = burn.trainer(&graph, options.clone()).unwrap();
        let mut device = burn.trainer(&graph, options.clone()).unwrap();
        let run = device.resident().unwrap();
        assert!(run.norm().is_err(), "no run was taken there");
        run.take(&found, there.memory(), there.decay()).unwrap();
        for step in 0..STEPS {
            let factor = 0.5 + step as f32;
            let mut gradients = Gradients::zeros(&graph, &options.trained);
            trainer.load(&expected).unwrap();
            for _ in 0..2 {
                let outputs = trainer.forward([&first, &second]).unwrap();
                trainer.backward(&slopes(&outputs), &mut gradients).unwrap();
                let outputs = device.forward([&first, &second]).unwrap();
                device.resident().unwrap().backward(&slopes(&outputs)).unwrap();
            }
            let run = device.resident().unwrap();
            let (length, on_device) = (norm(&gradients), run.norm().unwrap());
            assert!((length - on_device).abs() < 1e-3 * length, "{name}: {length} {on_device}");
            here.step(&mut expected, &gradients, RATE, factor);
            run.step(there.count(RATE, factor).unwrap()).unwrap();
            assert_eq!(run.norm().unwrap(), 0.0);
        }
        assert_eq!(here.steps(), there.steps());
        device.resident().unwrap().give(&mut found, there.memory_mut()).unwrap();
        assert_stepped(&graph, [&expected, &found], STEPS, &format!("{name}, {config:?}"));
        // A run that is loaded anew is none.
        device.load(&found).unwrap();
        assert!(device.resident().unwrap().norm().is_err());
    }
}

/// Two ranks with a pair each take the step of one that sees both.
fn check_ranks(burn: &Burn, name: &str) {
    let graph = Model::named(name).unwrap().graph;
    let options = options(&graph, 1);
    let [first, second] = images(&options.sizes);
    // What a rank, or one process in two passes, sees: the pair, and the pair in the other direction.
    let pairs = [[&first[..], &second], [&second, &first]];
    let optimiser = || Optimiser::new(configs()[0], &graph, &options.trained, Decay::default());
    let step = |pairs: &[[&[f32]; 2]], peers: Option<&Arc<dyn Peers>>| {
        let (mut weights, mut optimiser) = (weights(&graph), optimiser());
        let mut device = burn.trainer(&graph, options.clone()).unwrap();
        let run = device.resident().unwrap();
        run.take(&weights, optimiser.memory(), optimiser.decay()).unwrap();
        if let Some(peers) = peers {
            assert_eq!(run.join(peers).unwrap(), "in main memory");
        }
        for pair in pairs {
            let outputs = device.forward(*pair).unwrap();
            device.resident().unwrap().backward(&slopes(&outputs)).unwrap();
        }
        let run = device.resident().unwrap();
        run.sum().unwrap();
        let length = run.norm().unwrap();
        run.step(optimiser.count(RATE, 1.0).unwrap()).unwrap();
        // (There is nothing to add any more.)
        run.sum().unwrap();
        assert_eq!(run.norm().unwrap(), 0.0);
        run.give(&mut weights, optimiser.memory_mut()).unwrap();
        (length, weights)
    };
    let (expected, stepped) = step(&pairs, None);
    let ranks = Threads::run(2, |peers| step(&pairs[peers.rank()..][..1], Some(&peers)));
    assert!(ranks[0] == ranks[1], "{name}: ranks differ");
    let (length, weights) = &ranks[0];
    assert!((length - expected).abs() < 1e-3 * expected, "{name}: {length}, {expected}");
    assert_stepped(&graph, [&stepped, weights], 1, name);
}

#[test]
fn ranks_take_the_steps_of_one_process() {
    check_ranks(&Burn::flex(), "pwcnet-sm");
}

#[test]
fn burns_own_operations_take_the_steps_of_the_host() {
    check(&Burn::flex(), "pwcnet-sm");
}

#[cfg(feature = "cube")]
#[test]
fn gpus_take_the_steps_of_the_host() {
    for gpu in common::gpus() {
        check(&gpu, "pwcnet-sm");
        check(&gpu, "lightflow-0.5");
        check_ranks(&gpu, "pwcnet-sm");
    }
}
