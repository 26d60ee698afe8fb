use ferroflow_net::graph::{Param, ParamId};

use super::*;
use crate::testing::Golden;

/// A convolution of 4x3x3x3 with its bias: what the references were run on.
fn graph() -> Graph {
    let param = |name: &str, shape: &[usize], role| Param {
        name: name.into(),
        shape: shape.into(),
        role,
        used: true,
        gain: 1.0,
    };
    let params = vec![param("weight", &[4, 3, 3, 3], ParamRole::ConvWeight), param("bias", &[4], ParamRole::Bias)];
    Graph { params, ..Graph::default() }
}

const ADAM: OptimiserConfig = OptimiserConfig::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
const TENSORFLOW: OptimiserConfig = OptimiserConfig::AdamTensorflow { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

struct Case {
    key: &'static str,
    config: OptimiserConfig,
    rate: f64,
    decay: f32,
    decayed: Decayed,
    /// The gradients are those of the file times this.
    gradients: f32,
    /// What undoes a loss scale.
    factor: f32,
    tolerance: f64,
}

fn check(file: &str, cases: &[Case]) {
    let (Some(golden), Some(start)) =
        (Golden::open(&format!("golden/losses/{file}")), Golden::open("golden/losses/optimizers_pytorch.safetensors"))
    else {
        return;
    };
    let graph = graph();
    for case in cases {
        let mut weights = Weights::random(&graph, 1);
        weights.get_mut(ParamId(0)).copy_from_slice(&start.floats("weight"));
        weights.get_mut(ParamId(1)).copy_from_slice(&start.floats("bias"));
        let before = weights.clone();
        let mut optimiser = Optimiser::new(case.config, &graph, &[true, true], Decay::of(case.decay, case.decayed));
        for step in 1..=3 {
            let mut gradients = Gradients::zeros(&graph, &[true, true]);
            for (id, name) in [(0, "weight"), (1, "bias")] {
                let given = start.floats(&format!("grad_{name}{step}"));
                gradients.get_mut(ParamId(id)).iter_mut().zip(given).for_each(|(g, v)| *g = v * case.gradients);
            }
            optimiser.step(&mut weights, &gradients, case.rate, case.factor);
            for (id, name) in [(0, "weight"), (1, "bias")] {
                let expected = golden.get(&format!("{}/{name}_step{step}", case.key));
                let start = before.get(ParamId(id));
                // Tiny gradients: relative to the largest movement; else absolute.
                let moved = expected.iter().zip(start).fold(0.0f64, |m, (e, s)| m.max((e - f64::from(*s)).abs()));
                let limit = if case.key.contains("tiny") { 5e-3 * moved } else { case.tolerance };
                for (ours, theirs) in weights.get(ParamId(id)).iter().zip(&expected) {
                    assert!(
                        (f64::from(*ours) - theirs).abs() <= limit,
                        "{} {name} step {step}: {ours} {theirs}",
                        case.key
                    );
                }
            }
        }
    }
}

fn case(key: &'static str, config: OptimiserConfig, rate: f64, decay: f32, decayed: Decayed) -> Case {
    let gradients = if key.contains("tiny") { 1e-7 } else { 1.0 };
    Case { key, config, rate, decay, decayed, gradients, factor: 1.0, tolerance: 1e-6 }
}

#[test]
fn pytorchs_optimisers() {
    let adamw = OptimiserConfig::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let sgd = OptimiserConfig::Sgd { momentum: 0.9 };
    check(
        "optimizers_pytorch.safetensors",
        &[
            case("torch_adam", ADAM, 1e-3, 0.0, Decayed::All),
            case("torch_adam_l2", ADAM, 1e-3, 4e-4, Decayed::All),
            case("torch_adam_tiny_gradients", ADAM, 1e-3, 0.0, Decayed::All),
            case("torch_adamw", adamw, 1e-3, 1e-2, Decayed::All),
            case("lightflow_adam", ADAM, 1e-3, 4e-5, Decayed::Weights),
            case("torch_sgd_momentum_l2", sgd, 1e-2, 4e-4, Decayed::All),
        ],
    );
}

#[test]
fn tensorflows_optimisers() {
    let epsilon = OptimiserConfig::AdamTensorflow { beta1: 0.9, beta2: 0.999, epsilon: 1e-4 };
    check(
        "optimizers_tensorflow.safetensors",
        &[
            case("tf1_adam", TENSORFLOW, 1e-3, 0.0, Decayed::All),
            case("tf1_adam_eps1e-4", epsilon, 1e-3, 0.0, Decayed::All),
            case("tf1_adam_tiny_gradients", TENSORFLOW, 1e-3, 0.0, Decayed::All),
            case("tf1_gradient_descent", OptimiserConfig::Proximal {}, 1e-2, 0.0, Decayed::All),
            case("tf1_proximal_gradient_descent", OptimiserConfig::Proximal {}, 1e-2, 0.0, Decayed::All),
        ],
    );
}

#[test]
fn mindspores_adam_and_its_loss_scale() {
    let scaled = case("mindspore_adam_loss_scale_1024", TENSORFLOW, 1e-3, 0.0, Decayed::All);
    check(
        "optimizers_mindspore.safetensors",
        &[
            case("mindspore_adam", TENSORFLOW, 1e-3, 0.0, Decayed::All),
            case("mindspore_adam_weight_decay", TENSORFLOW, 1e-3, 4e-4, Decayed::All),
            case("mindspore_adam_tiny_gradients", TENSORFLOW, 1e-3, 0.0, Decayed::All),
            Case { gradients: 1024.0, factor: 1.0 / 1024.0, tolerance: 1e-7, ..scaled },
        ],
    );
}

#[test]
fn the_norm_is_of_all_gradients_together_and_shows_what_is_not_finite() {
    let graph = graph();
    let mut gradients = Gradients::zeros(&graph, &[true, true]);
    gradients.get_mut(ParamId(0))[100] = 3.0;
    gradients.get_mut(ParamId(1))[2] = -4.0;
    assert_eq!(norm(&gradients), 5.0);
    gradients.get_mut(ParamId(0))[17] = f32::INFINITY;
    assert!(!norm(&gradients).is_finite());
    gradients.get_mut(ParamId(0))[17] = f32::NAN;
    assert!(!norm(&gradients).is_finite());
}

#[test]
fn steps_do_not_depend_on_threads_and_leave_frozen_parameters() {
    let graph = {
        let shape = vec![300, 300, 1, 1];
        let param = |name: &str| Param {
            name: name.into(),
            shape: shape.clone(),
            role: ParamRole::ConvWeight,
            used: true,
            gain: 1.0,
        };
        Graph { params: vec![param("a"), param("b")], ..Graph::default() }
    };
    let trained = [true, false];
    let run = |threads: usize| {
        let mut weights = Weights::random(&graph, 3);
        let mut gradients = Gradients::zeros(&graph, &trained);
        let values = weights.get(ParamId(1)).to_vec();
        gradients.get_mut(ParamId(0)).copy_from_slice(&values);
        let mut optimiser = Optimiser::new(ADAM, &graph, &trained, Decay::of(1e-4, Decayed::All));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let length = pool.install(|| {
            (0..3).for_each(|_| optimiser.step(&mut weights, &gradients, 1e-3, 1.0));
            norm(&gradients)
        });
        (weights, length.to_bits())
    };
    let one = run(1);
    assert_eq!(one, run(3));
    let start = Weights::random(&graph, 3);
    assert_eq!(one.0.get(ParamId(1)), start.get(ParamId(1)));
    assert_ne!(one.0.get(ParamId(0)), start.get(ParamId(0)));
}

#[test]
fn the_average_follows_the_weights() {
    let graph = graph();
    let mut weights = Weights::random(&graph, 3);
    weights.iter_mut().for_each(|w| w.fill(0.0));
    let mut average = Average::new(0.9, weights.clone());
    weights.iter_mut().for_each(|w| w.fill(1.0));
    average.update(&weights, 1000);
    average.update(&weights, 1001);
    assert!(average.weights().iter().flatten().all(|&v| (v - 0.19).abs() < 1e-6));
    let mut young = Average::new(0.9, Weights::random(&graph, 3));
    young.update(&weights, 0);
    let start = Weights::random(&graph, 3);
    let pairs = young.weights().iter().flatten().zip(start.iter().flatten());
    assert!(pairs.into_iter().all(|(now, then)| (now - (0.1 * then + 0.9)).abs() < 1e-6));
}

#[test]
fn biases_may_have_a_decay_of_their_own() {
    let graph = graph();
    let descend = |decay: Decay| {
        let mut weights = Weights::random(&graph, 1);
        weights.get_mut(ParamId(1)).fill(2.0);
        let first = weights.clone();
        let mut optimiser = Optimiser::new(OptimiserConfig::Proximal {}, &graph, &[true, true], decay);
        // Half of each decay times the squares: 108 weights, 4 biases of 2.
        let squares: f64 = first.get(ParamId(0)).iter().map(|&w| f64::from(w).powi(2)).sum();
        let expected = f64::from(decay.weights) / 2.0 * squares + f64::from(decay.biases) / 2.0 * 16.0;
        assert!((optimiser.regulariser(&first) - expected).abs() < 1e-9);
        optimiser.step(&mut weights, &Gradients::zeros(&graph, &[true, true]), 1.0, 1.0);
        let ratio = |id: u32| weights.get(ParamId(id))[0] / first.get(ParamId(id))[0];
        [ratio(0), ratio(1)]
    };
    let near = |found: [f32; 2], expected: [f32; 2]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near(descend(Decay { weights: 0.25, biases: 0.5 }), [0.75, 0.5]));
    assert!(near(descend(Decay::of(0.25, Decayed::Weights)), [0.75, 1.0]));
    assert!(near(descend(Decay::of(0.25, Decayed::All)), [0.75, 0.75]));
}
