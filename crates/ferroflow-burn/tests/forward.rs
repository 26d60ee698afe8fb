//! Every network's flow on a device against the plain interpreter.

mod common;

use std::sync::Arc;

use burn::tensor::Device as BurnDevice;
use common::{check_flow, frames, losses, upload, weights};
use ferroflow_burn::{Burn, Network, NetworkError};
use ferroflow_core::{FlowField, Frame};
use ferroflow_cpu::Cpu;
use ferroflow_infer::{Estimator, NetworkOptions};
use ferroflow_net::device::Device;
use ferroflow_net::graph::{Graph, Size};
use ferroflow_net::{Model, NodeId, Weights};

#[test]
fn networks_give_the_flow_of_the_plain_interpreter() {
    for name in Model::names().filter(|name| !name.starts_with("flownet2")) {
        check_flow(name, &BurnDevice::flex());
    }
    for name in ["flownet2-s", "flownet2-c", "flownet2-sd", "flownet2-s-bn"] {
        check_flow(name, &BurnDevice::flex());
    }
}

#[test]
#[ignore = "stacks of networks, 160 million parameters: a minute"]
fn every_flownet2_gives_the_flow_of_the_plain_interpreter() {
    for name in Model::names().filter(|name| name.starts_with("flownet2")) {
        check_flow(name, &BurnDevice::flex());
    }
}

#[test]
fn bad_input_is_refused() {
    let device = BurnDevice::flex();
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
    let size = Size { height: 64, width: 64 };
    let nodes = [NodeId(1 << 20)];
    assert!(matches!(network.values([frame(64, 64), frame(64, 64)], size, &nodes), Err(NetworkError::NoNode(..))));
    let flowless = Network::new(&Graph { flow: None, ..graph }, &weights, &device).unwrap();
    assert!(matches!(flowless.forward([frame(64, 64), frame(64, 64)]), Err(NetworkError::NoFlow)));
    assert!(network.forward([frame(64, 64), frame(64, 64)]).is_ok());
}

/// A flow to start from is the same on both, and serves once.
#[test]
fn a_flow_to_start_from_is_taken() {
    let model = Model::parse("raft-small", ["iterations=2"]).unwrap();
    let weights = Weights::formula(&model, "ferroflow-golden");
    let frame = |shift: usize| {
        Frame::from_fn(Size::new(64, 96), |x, y| [(3 * (x + shift)) as u8, (5 * y) as u8, (x * y) as u8])
    };
    let start = FlowField::from_fn(Size::new(64, 96), |x, _| (4.0 + x as f32 / 32.0, -2.0));
    let on: [Arc<dyn Device>; 2] = [Arc::new(Cpu::default()), Arc::new(Burn::flex())];
    let [cpu, burn] = on.map(|device| {
        let options = NetworkOptions { device, ..NetworkOptions::default() };
        let estimator = Estimator::network(model.clone(), weights.clone(), options);
        let usual = estimator.estimate(&frame(0), &frame(3)).unwrap();
        let started = estimator.estimate_from(&frame(0), &frame(3), &start).unwrap();
        assert_ne!(started, usual);
        assert_eq!(estimator.estimate(&frame(0), &frame(3)).unwrap(), usual);
        started
    });
    let apart = cpu.u().iter().zip(burn.u()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-3, "{apart} px apart");
}

/// The estimator and the training loop know no device: the same code runs on Burn's and on ours.
#[test]
fn what_runs_on_the_cpu_runs_on_burn() {
    let on: [Arc<dyn Device>; 2] = [Arc::new(Cpu::default()), Arc::new(Burn::flex())];
    let model = Model::named("lightflow-0.5").unwrap();
    let weights = Weights::formula(&model, "ferroflow-golden");
    let frame = |shift: usize| {
        Frame::from_fn(Size::new(70, 90), |x, y| [(3 * (x + shift)) as u8, (5 * y) as u8, (x * y) as u8])
    };
    let flows = on.clone().map(|device| {
        let options = NetworkOptions { device, ..NetworkOptions::default() };
        let estimator = Estimator::network(model.clone(), weights.clone(), options);
        estimator.estimate(&frame(0), &frame(3)).unwrap()
    });
    let apart = flows[0].u().iter().zip(flows[1].u()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-3, "{apart} px apart");

    let text = "model = 'lightflow-0.5'\ndata = 'synth:chairs@size=64x64'\nvalidate = 'synth:chairs@size=64x64,count=1'\n\
                steps = 3\nbatch = 2\ncrop = '64x64'\nlr = 1e-4\nloss = 'lightflow-l1'";
    let losses = on.map(|device| losses(text, &device));
    assert_eq!(losses[0].len(), 3);
    for (cpu, burn) in losses[0].iter().zip(&losses[1]) {
        assert!((cpu / burn - 1.0).abs() < 1e-3, "{losses:?}");
    }
}
