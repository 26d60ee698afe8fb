//! The gradient of every parameter against that of the plain interpreter, both in double precision.

mod common;

use common::{DOUBLE, frames, options, step, weights};
use ferroflow_burn::Training;
use ferroflow_cpu::reference;
use ferroflow_net::device::DeviceError;
use ferroflow_net::graph::{Graph, Sizes};
use ferroflow_net::training::{Gradients, Trainer, TrainingOptions};
use ferroflow_net::{Model, NodeId, Weights};

/// The largest difference, relative to the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / largest).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

fn check(name: &str, graph: &Graph, options: &TrainingOptions, weights: &Weights) {
    let mut plain = reference::Training::<f64>::new(graph, options.clone()).unwrap();
    let expected = step(&mut plain, graph, options, weights).unwrap();
    let mut training = Training::new(graph, options.clone(), DOUBLE.clone()).unwrap();
    let found = step(&mut training, graph, options, weights).unwrap();

    // Both round to single precision, here and there by way of another sum.
    let limit = 1e-5;
    for (found, expected) in found.outputs.iter().zip(&expected.outputs) {
        assert!(difference(&found.data, &expected.data) < limit, "{name}: outputs differ");
    }
    let pairs = found.gradients.iter().zip(expected.gradients.iter());
    for ((param, trained), (found, expected)) in graph.params.iter().zip(&options.trained).zip(pairs) {
        let d = difference(found, expected);
        assert!(d < limit, "{name}: gradient of `{}` is off by {d}", param.name);
        assert_eq!(found.is_empty(), !trained);
    }
    for ((param, found), expected) in graph.params.iter().zip(found.weights.iter()).zip(expected.weights.iter()) {
        assert!(difference(found, expected) < limit, "{name}: statistics `{}` differ", param.name);
    }
}

fn check_model(name: &str, batch: usize) {
    let graph = Model::named(name).unwrap().graph;
    check(name, &graph, &options(&graph, batch), &weights(&graph));
}

#[test]
fn batch_norm_and_depthwise_convolutions() {
    check_model("lightflow-0.5", 2);
}

#[test]
fn masked_warps_and_correlations() {
    check_model("pwcnet", 1);
}

#[test]
fn negated_warps() {
    check_model("pwcnet-sm", 1);
}

#[test]
fn normalised_features() {
    check_model("uflow", 2);
}

#[test]
#[ignore = "the plain interpreter takes minutes"]
fn every_network() {
    for name in Model::names().filter(|name| !["flownet2", "flownet2-bn"].contains(name)) {
        check_model(name, 1);
        println!("{name}");
    }
}

/// Two networks in a row: the gradient of the second goes through the warp and the image difference to the first.
#[test]
#[ignore = "the plain interpreter takes a minute"]
fn a_stack_of_networks() {
    check_model("flownet2-cs", 1);
}

#[test]
fn a_flow_of_zero_is_differentiated_as_the_reference_does() {
    // The last layer of each level gives zero: every warp samples on pixels.
    for name in ["pwcnet", "pwcnet-sm", "uflow"] {
        let graph = Model::named(name).unwrap().graph;
        let mut weights = weights(&graph);
        for (i, param) in graph.params.iter().enumerate() {
            if param.shape.first() == Some(&2) {
                weights.get_mut(ferroflow_net::ParamId(i as u32)).fill(0.0);
            }
        }
        check(name, &graph, &options(&graph, 1), &weights);
    }
}

#[test]
fn frozen_parameters_have_no_gradient() {
    let graph = Model::named("lightflow-0.5").unwrap().graph;
    let mut options = options(&graph, 1);
    let half = graph.params.len() / 2;
    options.trained[..half].fill(false);
    check("half of lightflow", &graph, &options, &weights(&graph));
    options.trained.fill(false);
    check("frozen lightflow", &graph, &options, &weights(&graph));
}

#[test]
fn gradients_add_up() {
    let graph = Model::named("lightflow-0.5").unwrap().graph;
    let (options, weights) = (options(&graph, 1), weights(&graph));
    let mut training = Training::new(&graph, options.clone(), DOUBLE.clone()).unwrap();
    let mut once = Gradients::zeros(&graph, &options.trained);
    let frame = frames(1, 64, 64, 2);
    let mut add = |sum: &mut Gradients| {
        let outputs = training.forward(&weights, [&frame, &frame]).unwrap();
        training.backward(&outputs, sum).unwrap();
    };
    add(&mut once);
    let mut twice = once.clone();
    add(&mut twice);
    for (once, twice) in once.iter().zip(twice.iter()) {
        let doubled: Vec<f32> = once.iter().map(|v| 2.0 * v).collect();
        assert!(difference(twice, &doubled) < 1e-5);
    }
}

#[test]
fn bad_input_is_refused() {
    let graph = Model::named("lightflow-0.5").unwrap().graph;
    let (good, weights) = (options(&graph, 1), weights(&graph));
    let new = |options| Training::new(&graph, options, DOUBLE.clone());
    let short = TrainingOptions { trained: vec![true], ..good.clone() };
    assert!(matches!(new(short).err(), Some(DeviceError::Length { .. })));
    let nowhere = TrainingOptions { outputs: vec![NodeId(1 << 20)], ..good.clone() };
    assert!(matches!(new(nowhere).err(), Some(DeviceError::Shape(_))));
    let odd = TrainingOptions { sizes: Sizes::new(1, 40, 64), ..good.clone() };
    assert!(matches!(new(odd).err(), Some(DeviceError::Shape(_))));

    let mut training = new(good.clone()).unwrap();
    let mut sum = Gradients::zeros(&graph, &good.trained);
    assert!(training.backward(&[], &mut sum).is_err(), "before any forward pass");
    let frame = frames(1, 64, 64, 2);
    assert!(training.forward(&weights, [&frame, &frame[1..]]).is_err());
    let other = Weights::random(&Model::named("lightflow").unwrap().graph, 1);
    assert!(matches!(training.forward(&other, [&frame, &frame]), Err(DeviceError::Weights(_))));
    let mut outputs = training.forward(&weights, [&frame, &frame]).unwrap();
    assert!(training.backward(&outputs[1..], &mut sum).is_err());
    outputs[0].data.pop();
    training.forward(&weights, [&frame, &frame]).unwrap();
    assert!(training.backward(&outputs, &mut sum).is_err());
    assert!(sum.iter().flatten().all(|v| *v == 0.0), "a refused gradient adds nothing");
}
