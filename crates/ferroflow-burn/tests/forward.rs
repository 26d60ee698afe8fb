//! Every network's flow on a device against the plain interpreter.

mod common;

use burn::tensor::Device;
use common::{check_flow, frames, upload, weights};
use ferroflow_burn::{Network, NetworkError};
use ferroflow_net::graph::{Extent, Graph};
use ferroflow_net::{Model, NodeId};

#[test]
fn networks_give_the_flow_of_the_plain_interpreter() {
    for name in Model::names().filter(|name| !name.starts_with("flownet2")) {
        check_flow(name, &Device::flex());
    }
    for name in ["flownet2-s", "flownet2-c", "flownet2-sd", "flownet2-s-bn"] {
        check_flow(name, &Device::flex());
    }
}

#[test]
#[ignore = "stacks of networks, 160 million parameters: a minute"]
fn every_flownet2_gives_the_flow_of_the_plain_interpreter() {
    for name in Model::names().filter(|name| name.starts_with("flownet2")) {
        check_flow(name, &Device::flex());
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
