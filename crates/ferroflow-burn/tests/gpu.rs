//! Networks on this machine's GPU, in single precision, against the plain interpreter in double precision:
//! `cargo test --release -p ferroflow-burn --features vulkan --test gpu -- --ignored --nocapture`, or `--features wgpu`.
#![cfg(any(feature = "vulkan", feature = "wgpu"))]

mod common;

use burn::tensor::{Device, DeviceKind, DeviceType};
use common::{check_flow, options, step, weights};
use ferroflow_burn::Training;
use ferroflow_cpu::reference;
use ferroflow_net::Model;

/// The default device of each graphics interface that this build knows and this machine has.
fn devices() -> Vec<Device> {
    let known: &[(DeviceType, fn(DeviceKind) -> Device)] = &[
        #[cfg(feature = "vulkan")]
        (DeviceType::Vulkan, Device::vulkan),
        #[cfg(feature = "wgpu")]
        (DeviceType::Wgpu, Device::wgpu),
    ];
    let mut found = Vec::new();
    for (kind, device) in known {
        if Device::enumerate(kind.clone()).is_empty() {
            println!("skipped: this machine has no device for {kind:?}");
        } else {
            found.push(device(DeviceKind::DefaultDevice));
        }
    }
    found
}

#[test]
#[ignore = "needs a GPU; Mesa's driver for processors serves, slowly"]
fn networks_give_the_flow_of_the_plain_interpreter() {
    for device in devices() {
        println!("{device:?}");
        for name in ["lightflow", "pwcnet", "pwcnet-lg-6-2", "pwcnet-sm", "uflow", "flownet2-c"] {
            check_flow(name, &device);
        }
    }
}

/// Relative to the length of the whole gradient. A value within rounding of 0 falls on the other side of a leaky ReLU and
/// moves every gradient before it.
const TOLERANCE: f64 = 1e-3;

#[test]
#[ignore = "needs a GPU; Mesa's driver for processors serves, slowly"]
fn networks_have_the_gradient_of_the_plain_interpreter() {
    for device in devices() {
        println!("{device:?}");
        for (name, batch) in [("lightflow-0.5", 2), ("pwcnet", 1), ("pwcnet-sm", 1), ("uflow", 1)] {
            let graph = Model::named(name).unwrap().graph;
            let (options, weights) = (options(&graph, batch), weights(&graph));
            let mut plain = reference::Training::<f64>::new(&graph, options.clone()).unwrap();
            let expected = step(&mut plain, &graph, &options, &weights).unwrap().gradients;
            let mut training = Training::new(&graph, options.clone(), device.clone()).unwrap();
            let found = step(&mut training, &graph, &options, &weights).unwrap().gradients;
            let pairs = || found.iter().flatten().zip(expected.iter().flatten());
            let off: f64 = pairs().map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let off = (off / pairs().map(|(_, b)| f64::from(*b).powi(2)).sum::<f64>()).sqrt();
            println!("{name}: {off:.1e}");
            assert!(off < TOLERANCE, "{name}: the gradient is off by {off}");
        }
    }
}
