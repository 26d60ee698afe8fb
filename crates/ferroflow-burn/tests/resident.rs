//! A run that stays on a device takes the steps that the host would.

mod common;

use common::{images, options, slopes, weights};
use ferroflow_burn::Burn;
use ferroflow_net::Model;
use ferroflow_net::device::Device as _;
use ferroflow_net::training::Gradients;
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
        for ((param, expected), found) in graph.params.iter().zip(expected.iter()).zip(found.iter()) {
            let largest = expected.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
            let worst = expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Where a gradient is rounding alone, Adam makes a whole step of it.
            let free = 2.0 * STEPS as f64 * RATE;
            let off = expected.iter().zip(found).filter(|(a, b)| f64::from((**a - **b).abs()) > TOLERANCE).count();
            assert!(
                f64::from(worst) < free + TOLERANCE * f64::from(largest),
                "{name}, {config:?}: {} {worst}",
                param.name
            );
            assert!(off * 50 <= expected.len() + 49, "{name}, {config:?}: {}: {off} of {}", param.name, expected.len());
        }
        // A run that is loaded anew is none.
        device.load(&found).unwrap();
        assert!(device.resident().unwrap().norm().is_err());
    }
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
    }
}
