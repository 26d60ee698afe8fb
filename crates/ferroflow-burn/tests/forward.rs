//! Every network's flow on a device against the plain interpreter.

mod common;

use burn::tensor::Device;
use common::{difference, frames, upload, weights};
use ferroflow_burn::{Network, NetworkError};
use ferroflow_cpu::reference;
use ferroflow_net::graph::{Extent, Graph, Sizes};
use ferroflow_net::{Model, NodeId};

/// Rounding in single precision alone; the warps of a stack amplify it.
const TOLERANCE: f64 = 1e-3;

fn check(model: &Model, device: &Device) {
    let (graph, weights) = (&model.graph, weights(&model.graph));
    let (h, w) = (64, 64);
    let (a, b) = (frames(1, h, w, 2), frames(1, h, w, 3));
    let sizes = Sizes { output: Extent { height: 50, width: 70 }, ..Sizes::new(1, h, w) };
    let expected = reference::run::<f64>(graph, &weights, [&a, &b], &sizes).unwrap();
    let expected = &expected.get(graph.flow.unwrap()).data;

    let network = Network::new(graph, &weights, device).unwrap();
    let on_device = [&a, &b].map(|frame| upload(frame, [1, 3, h, w], device));
    let flow = network.forward_to(on_device, sizes.output).unwrap();
    assert_eq!(flow.dims(), [1, 2, 50, 70]);
    let d = difference(&flow.try_into_vec_as::<f64>().unwrap(), expected);
    println!("{}: {d:.1e}", model.name);
    assert!(d < TOLERANCE, "{}: differs from the plain interpreter by {d}", model.name);
}

#[test]
fn networks_give_the_flow_of_the_plain_interpreter() {
    for name in Model::names().filter(|name| !name.starts_with("flownet2")) {
        check(&Model::named(name).unwrap(), &Device::flex());
    }
    for name in ["flownet2-s", "flownet2-c", "flownet2-sd", "flownet2-s-bn"] {
        check(&Model::named(name).unwrap(), &Device::flex());
    }
}

#[test]
#[ignore = "stacks of networks, 160 million parameters: a minute"]
fn every_flownet2_gives_the_flow_of_the_plain_interpreter() {
    for name in Model::names().filter(|name| name.starts_with("flownet2")) {
        check(&Model::named(name).unwrap(), &Device::flex());
    }
}

#[cfg(feature = "vulkan")]
#[test]
#[ignore = "needs a Vulkan driver; Mesa's for processors serves"]
fn networks_on_vulkan_give_the_flow_of_the_plain_interpreter() {
    let device = Device::vulkan(burn::tensor::DeviceKind::DefaultDevice);
    for name in ["lightflow", "pwcnet", "pwcnet-lg-6-2", "uflow", "flownet2-c"] {
        check(&Model::named(name).unwrap(), &device);
    }
}

#[test]
fn bad_input_is_refused() {
    let device = Device::flex();
    let graph = Model::named("lightflow-0.5").unwrap().graph;
    let weights = weights(&graph);
    let other = Model::named("lightflow").unwrap().graph;
    assert!(matches!(Network::new(&other, &weights, &device), Err(NetworkError::Weights(_))));

    let network = Network::new(&graph, &weights, &device).unwrap();
    let frame = |h, w| upload(&frames(1, h, w, 1), [1, 3, h, w], &device);
    assert!(matches!(network.forward([frame(64, 64), frame(64, 128)]), Err(NetworkError::Frames(..))));
    assert!(matches!(network.forward([frame(64, 64), frame(64, 64).narrow(1, 0, 2)]), Err(NetworkError::Frames(..))));
    assert!(matches!(network.forward([frame(40, 64), frame(40, 64)]), Err(NetworkError::Shape(_))));
    let double = [frame(64, 64).cast(burn::tensor::DType::F64), frame(64, 64)];
    assert!(matches!(network.forward(double), Err(NetworkError::Placement { .. })));
    let size = Extent { height: 64, width: 64 };
    let nodes = [NodeId(1 << 20)];
    assert!(matches!(network.values([frame(64, 64), frame(64, 64)], size, &nodes), Err(NetworkError::NoNode(..))));
    let flowless = Network::new(&Graph { flow: None, ..graph }, &weights, &device).unwrap();
    assert!(matches!(flowless.forward([frame(64, 64), frame(64, 64)]), Err(NetworkError::NoFlow)));
    assert!(network.forward([frame(64, 64), frame(64, 64)]).is_ok());
}
