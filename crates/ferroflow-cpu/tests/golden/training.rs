//! Gradients of every trained parameter, as the reference implementations computed them in training mode.

use std::path::Path;

use ferroflow_cpu::reference::Training;
use ferroflow_cpu::training::{Settings, TrainingPlan};
use ferroflow_net::graph::{Size, Sizes};
use ferroflow_net::training::{Gradients, Trainer, TrainingOptions, Values};
use ferroflow_net::{Graph, Model, NodeId, Weights};

use super::shared::{Array, Input, SEED, golden, read};

/// Makes an executor for training.
pub type Device = fn(&Graph, TrainingOptions) -> Box<dyn Trainer>;

/// What a file's gradients are of.
#[derive(Clone, Copy)]
enum Loss {
    /// NVIDIA's MultiScale: the flow / 20 averaged to each level, weights 0.32, 0.16, ... from the finest; the mean
    /// absolute difference, or the mean length of the differences.
    MultiScale { l2: bool },
    /// Mean absolute difference of the flow in pixels.
    Full,
    /// Mean absolute difference of the finest level from the flow / 20 averaged to it.
    Finest,
}

struct Case {
    file: &'static str,
    model: &'static str,
    pairs: &'static [&'static str],
    loss: Loss,
    /// How far a gradient may be off in double and in single precision, as a fraction of its length.
    tolerance: [f32; 2],
}

const fn case(
    file: &'static str,
    model: &'static str,
    pairs: &'static [&'static str],
    loss: Loss,
    single: f32,
) -> Case {
    Case { file, model, pairs, loss, tolerance: [2e-5, single] }
}

const A: &[&str] = &["a0", "a1"];
const B: &[&str] = &["b0"];
const L1: Loss = Loss::MultiScale { l2: false };
const L2: Loss = Loss::MultiScale { l2: true };

const SMALL: &[Case] = &[
    case("flownet2/nvidia_FlowNet2SD_train", "flownet2-sd", B, L1, 1e-4),
    case("flownet2/nvidia_FlowNet2C_train", "flownet2-c", B, L1, 1e-4),
    case("flownet2/nvidia_FlowNet2S_train", "flownet2-s", B, L1, 1e-4),
    case("pwcnet/nvlabs_pwcdcnet_train", "pwcnet", A, L2, 1e-2),
    case("lightflow/train_a", "lightflow", A, Loss::Finest, 5e-2),
];
const LARGE: &[Case] = &[
    case("flownet2/nvidia_FlowNet2S_bn_train", "flownet2-s-bn", A, L1, 5e-2),
    case("flownet2/nvidia_FlowNet2CS_train", "flownet2-cs", B, Loss::Full, 1e-4),
    // The reference's own single precision is 4e-3 off its double: five networks deep, a sampling point within rounding
    // of a whole pixel changes the gradient of a warp.
    Case { tolerance: [1e-2, 1e-2], ..case("flownet2/nvidia_FlowNet2_train", "flownet2", B, Loss::Full, 1e-2) },
];

/// The mean of `size x size` pixels of every plane.
fn averaged(planes: &Array, size: usize) -> Vec<f32> {
    let [h, w] = [planes.shape[2], planes.shape[3]];
    let mut out = Vec::new();
    for plane in planes.data.chunks_exact(h * w) {
        for y in (0..h).step_by(size) {
            for x in (0..w).step_by(size) {
                let block = (0..size).flat_map(|i| &plane[(y + i) * w + x..][..size]);
                out.push(block.map(|&v| f64::from(v)).sum::<f64>() as f32 / (size * size) as f32);
            }
        }
    }
    out
}

/// `weight` times the mean difference, and its gradient.
fn difference(ours: &Values, target: &[f32], weight: f64, l2: bool) -> (f64, Values) {
    let [n, c, h, w] = ours.shape;
    let (mut loss, mut gradient) = (0.0, Values::zeros(ours.shape));
    let count = (n * h * w) as f64 * if l2 { 1.0 } else { c as f64 };
    for i in 0..n * h * w {
        let at: Vec<usize> = (0..c).map(|c| (i / (h * w) * 2 + c) * h * w + i % (h * w)).collect();
        let d: Vec<f64> = at.iter().map(|&at| f64::from(ours.data[at]) - f64::from(target[at])).collect();
        let length = d.iter().map(|d| d * d).sum::<f64>().sqrt();
        for (&at, d) in at.iter().zip(&d) {
            let slope = if l2 { d / length } else { d.signum() };
            gradient.data[at] = (weight * slope / count) as f32;
        }
        loss += weight * if l2 { length } else { d.iter().map(|d| d.abs()).sum() } / count;
    }
    (loss, gradient)
}

fn true_flow(golden: &Path, pairs: &[&str]) -> Array {
    let flows = read(&golden.join("images/true_flow.safetensors"));
    let shape = &flows[pairs[0]].shape;
    let [h, w] = [shape[shape.len() - 2], shape[shape.len() - 1]];
    Array { shape: vec![pairs.len(), 2, h, w], data: pairs.iter().flat_map(|p| flows[*p].data.clone()).collect() }
}

fn loss(loss: Loss, outputs: &[Values], target: &Array) -> (f64, Vec<Values>) {
    let unit = Array { shape: target.shape.clone(), data: target.data.iter().map(|v| v * 0.05).collect() };
    let parts: Vec<(f64, Values)> = match loss {
        Loss::Full => vec![difference(&outputs[0], &target.data, 1.0, false)],
        Loss::Finest => vec![difference(&outputs[0], &averaged(&unit, 4), 1.0, false)],
        Loss::MultiScale { l2 } => (outputs.iter().rev().enumerate())
            .map(|(i, level)| difference(level, &averaged(&unit, 4 << i), 0.32 / f64::from(1 << i), l2))
            .rev()
            .collect(),
    };
    (parts.iter().map(|p| p.0).sum(), parts.into_iter().map(|p| p.1).collect())
}

/// `NAME@everyK` holds elements 0, K, 2K, ... and `NAME@flat` all.
fn split(name: &str) -> (&str, usize) {
    match name.split_once('@') {
        Some((name, every)) => (name, every.strip_prefix("every").map_or(1, |k| k.parse().unwrap())),
        None => (name, 1),
    }
}

fn run_case(case: &Case, device: Device, tolerance: f32) {
    let Some(golden) = golden() else { return };
    let model = Model::named(case.model).unwrap();
    let graph = &model.graph;
    let mut weights = Weights::formula(&model, SEED);
    let target = true_flow(&golden, case.pairs);
    let [height, width] = [target.shape[2], target.shape[3]];
    let input = Input::set(case.pairs, height, width);
    let size = Size { height, width };
    let sizes = Sizes { batch: input.batch, input: size, output: size };
    let outputs: Vec<NodeId> = match case.loss {
        Loss::MultiScale { .. } => graph.pyramid.clone(),
        Loss::Full => vec![graph.flow.unwrap()],
        Loss::Finest => vec![*graph.pyramid.last().unwrap()],
    };
    let options = TrainingOptions::all(graph, sizes, outputs);
    let mut gradients = Gradients::zeros(graph, &options.trained);
    let mut network = device(graph, options);
    network.load(&weights).unwrap();
    let values = network.forward([&input.frames[0], &input.frames[1]]).unwrap();
    let (value, d_outputs) = loss(case.loss, &values, &target);
    network.backward(&d_outputs, &mut gradients).unwrap();
    network.update_statistics(0.1, &mut weights);

    let file = read(&golden.join(format!("{}.safetensors", case.file)));
    let find = |name: &str| graph.params.iter().position(|p| p.name == name).unwrap_or_else(|| panic!("{name}"));
    let (mut largest, mut compared, mut wrong) = (0f32, 0, Vec::new());
    let mut check = |what: &str, off: f32, allowed: f32| {
        largest = largest.max(off / allowed);
        compared += 1;
        if off.is_nan() || off > allowed {
            wrong.push(format!("{} {what}: off by {off:.2e}, {allowed:.0e} allowed", case.file));
        }
    };
    let stored: Vec<&[f32]> = gradients.iter().collect();
    let after: Vec<&[f32]> = weights.iter().collect();
    for (name, theirs) in &file {
        let (kind, rest) = name.split_once('/').unwrap_or(("", name));
        let (param, every) = split(rest);
        match kind {
            "grad" | "grad_norm" => {
                let ours = stored[find(param)];
                let norm = file[&format!("grad_norm/{param}")].data[0];
                let length = ours.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt() as f32;
                if kind == "grad_norm" {
                    check(name, (length - norm).abs() / norm, tolerance);
                    continue;
                }
                for (ours, theirs) in ours.iter().step_by(every).zip(&theirs.data) {
                    check(name, (ours - theirs).abs() / norm, tolerance);
                }
            }
            "after_forward" if !param.ends_with("num_batches_tracked") => {
                for (ours, theirs) in after[find(param)].iter().step_by(every).zip(&theirs.data) {
                    check(name, (ours - theirs).abs(), 2e-5);
                }
            }
            "" if name == "loss" => check(name, ((value - f64::from(theirs.data[0])) / value).abs() as f32, 1e-4),
            _ => {}
        }
    }
    println!("{}: {compared} numbers, the worst at {largest:.2} of what is allowed", case.file);
    assert!(compared > 100, "{} compares too little", case.file);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

fn interpreter(graph: &Graph, options: TrainingOptions) -> Box<dyn Trainer> {
    Box::new(Training::<f64>::new(graph, options).unwrap())
}

#[test]
fn interpreter_small() {
    SMALL.iter().for_each(|case| run_case(case, interpreter, case.tolerance[0]));
}

#[test]
#[ignore = "a minute on two cores"]
fn interpreter_large() {
    LARGE.iter().for_each(|case| run_case(case, interpreter, case.tolerance[0]));
}

fn plan(graph: &Graph, options: TrainingOptions) -> Box<dyn Trainer> {
    Box::new(TrainingPlan::new(graph, options, Settings::default()).unwrap())
}

#[test]
fn plan_small() {
    SMALL.iter().for_each(|case| run_case(case, plan, case.tolerance[1]));
}

/// Without Winograd, whose rounding moves sampling points of the second network's warp across pixels.
fn exact_plan(graph: &Graph, options: TrainingOptions) -> Box<dyn Trainer> {
    Box::new(TrainingPlan::new(graph, options, Settings { exact: true, ..Settings::default() }).unwrap())
}

#[test]
#[ignore = "networks of 40 to 160 million parameters: half a minute on two cores"]
fn plan_large() {
    LARGE.iter().for_each(|case| run_case(case, exact_plan, case.tolerance[1]));
}
