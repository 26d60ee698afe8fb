//! Networks on this machine's GPUs, in single precision, against the plain interpreter in double precision. Mesa's driver for
//! processors counts as a GPU: `cargo test --release -p ferroflow-burn --features vulkan --test gpu -- --nocapture`.
#![cfg(feature = "cube")]

mod common;

use common::{check_flow, gpus, options, step, weights};
use ferroflow_burn::{Interface, Precision};
use ferroflow_cpu::reference;
use ferroflow_net::Model;
use ferroflow_net::device::{Device as _, Frames};
use ferroflow_net::graph::Sizes;

#[test]
fn networks_give_the_flow_of_the_plain_interpreter() {
    for gpu in gpus() {
        for name in ["rill", "lightflow", "pwcnet", "pwcnet-lg-6-2", "pwcnet-sm", "uflow", "flownet2-c"] {
            check_flow(name, gpu.device());
        }
    }
}

/// Relative to the length of the whole gradient. A value within rounding of 0 falls on the other side of a leaky ReLU and
/// moves every gradient before it.
const TOLERANCE: f64 = 1e-3;

#[test]
fn networks_have_the_gradient_of_the_plain_interpreter() {
    for gpu in gpus() {
        for (name, batch) in [("rill", 2), ("lightflow-0.5", 2), ("pwcnet", 1), ("pwcnet-sm", 1), ("uflow", 1)] {
            let graph = Model::named(name).unwrap().graph;
            let (options, weights) = (options(&graph, batch), weights(&graph));
            let mut plain = reference::Training::<f64>::new(&graph, options.clone()).unwrap();
            let expected = step(&mut plain, &graph, &options, &weights).unwrap().gradients;
            let mut training = gpu.trainer(&graph, options.clone()).unwrap();
            let found = step(&mut *training, &graph, &options, &weights).unwrap().gradients;
            let pairs = || found.iter().flatten().zip(expected.iter().flatten());
            let off: f64 = pairs().map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let off = (off / pairs().map(|(_, b)| f64::from(*b).powi(2)).sum::<f64>()).sqrt();
            println!("{name} on {}: {off:.1e}", gpu.name());
            assert!(off < TOLERANCE, "{name}: the gradient is off by {off}");
        }
    }
}

/// Factors of 11 or 8 bits change a flow, but not by much, and gradients by more.
#[test]
fn convolutions_of_half_precision_come_near() {
    for gpu in gpus() {
        for precision in [Precision::F16, Precision::Bf16] {
            let half = match gpu.clone().with_precision(precision) {
                Ok(half) => half,
                Err(error) => {
                    println!("skipped: {error}");
                    continue;
                }
            };
            let graph = Model::named("pwcnet-sm").unwrap().graph;
            let (options, weights) = (options(&graph, 1), weights(&graph));
            let mut plain = gpu.trainer(&graph, options.clone()).unwrap();
            let expected = step(&mut *plain, &graph, &options, &weights).unwrap().gradients;
            let mut training = half.trainer(&graph, options.clone()).unwrap();
            let found = step(&mut *training, &graph, &options, &weights).unwrap().gradients;
            let pairs = || found.values().iter().zip(expected.values());
            let off: f64 = pairs().map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let off = (off / pairs().map(|(_, b)| f64::from(*b).powi(2)).sum::<f64>()).sqrt();
            println!("{precision:?} on {}: the gradient is off by {off:.1e}", gpu.name());
            assert!(off > 1e-6, "{precision:?} changes nothing");
            assert!(off < 0.3, "{precision:?}: the gradient is off by {off}");
        }
    }
}

#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    for interface in Interface::ALL {
        let error = interface.open(99).unwrap_err().to_string();
        assert!(error.contains("this build does not know") || error.contains("on this machine"), "{error}");
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for gpu in gpus() {
        let graph = Model::named("lightflow-0.5").unwrap().graph;
        let sizes = Sizes::new(1, 64, 64);
        let mut executor = gpu.executor(&graph, &weights(&graph), sizes).unwrap();
        let frame = vec![0.0; 3 * 64 * 64];
        let (frames, mut flow) = (Frames::Planar(&frame), vec![0.0; 2 * 64 * 64]);
        assert!(executor.run(Frames::Planar(&frame[1..]), frames, &mut flow).is_err());
        assert!(executor.run(frames, frames, &mut flow[1..]).is_err());
        executor.run(frames, frames, &mut flow).unwrap();
        assert!(flow.iter().all(|v| v.is_finite()));
    }
}
