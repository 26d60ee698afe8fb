//! One training step of RAFT-small and of SEA-RAFT against PyTorch's: the loss, and the gradients of all parameters.
//!
//! The files are beside the golden flows of `ferroflow-cpu`, with the script that made them.

use std::path::Path;

use ferroflow_cpu::{Cpu, CpuOptions, reference};
use ferroflow_net::graph::{Op, Sizes};
use ferroflow_net::training::{Gradients, Trainer, TrainingOptions, Values};
use ferroflow_net::weights::formula::image_pair;
use ferroflow_net::{Model, Weights, device::Device};
use ferroflow_train::loss::{LossConfig, Truth};
use safetensors::SafeTensors;

const SEED: &str = "ferroflow-golden";
const SIDE: usize = 128;

/// Two pairs of the formula, and a truth of which a part is unknown and a part too long.
fn batch() -> ([Vec<f32>; 2], Truth) {
    let pairs = ["raft0", "raft1"].map(|name| image_pair(SEED, name, SIDE, SIDE));
    let frames = |of: fn(&ferroflow_net::weights::formula::ImagePair) -> &Vec<u8>| {
        pairs.iter().flat_map(|pair| of(pair).iter().map(|&v| f32::from(v))).collect()
    };
    let pixels = SIDE * SIDE;
    let mut data: Vec<f32> = pairs.iter().flat_map(|pair| pair.flow.iter().copied()).collect();
    let mut known = vec![true; 2 * pixels];
    for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
        if (10..50).contains(&y) && (20..70).contains(&x) {
            known[y * SIDE + x] = false;
        }
        if y >= 100 && x >= 100 {
            data[2 * pixels + y * SIDE + x] = 450.0;
        }
    }
    let frames = [frames(|pair| &pair.first), frames(|pair| &pair.second)];
    (frames, Truth::new(Values { shape: [2, 2, SIDE, SIDE], data }, known))
}

/// `every` numbers apart, as the file names say it.
fn golden(file: &str) -> Vec<(String, usize, Vec<f32>)> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../ferroflow-cpu/tests/golden/raft/{file}.safetensors"));
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let tensor = file.tensor(name).unwrap();
        match tensor.dtype() {
            safetensors::Dtype::F32 => tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            _ => tensor.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        }
    };
    let split = |name: &str| match name.split_once("@every") {
        Some((name, every)) => (name.to_string(), every.parse().unwrap()),
        None => (name.to_string(), 1),
    };
    file.names()
        .into_iter()
        .map(|name| {
            let (short, every) = split(name);
            (short, every, floats(name))
        })
        .collect()
}

/// How far a gradient may be from PyTorch's in double precision, of the largest of its parameter: those of deep layers are sums of
/// many roundings.
const TOLERANCE: f32 = 2e-3;
/// Of the largest gradient of all: what is 0 but for rounding, as that of a bias before a norm, has this size at most.
const NOTHING: f32 = 1e-4;

fn step(
    network: &str,
    iterations: usize,
    loss: &str,
    file: &str,
    trainer: impl FnOnce(&Model, TrainingOptions) -> Box<dyn Trainer>,
) {
    let model = Model::parse(network, [format!("iterations={iterations}")]).unwrap();
    let graph = &model.graph;
    let ([first, second], truth) = batch();
    let loss = LossConfig { name: loss.into(), ..LossConfig::default() }.build().unwrap();
    let mut options = TrainingOptions::all(graph, Sizes::new(2, SIDE, SIDE), loss.outputs(graph).unwrap());
    // Batch norm rests: the reference's statistics are those of each frame by itself.
    for node in &graph.nodes {
        if let Op::BatchNorm(norm) = &node.op {
            [norm.scale, norm.shift].into_iter().for_each(|id| options.trained[id.0 as usize] = false);
        }
    }
    let trained = options.trained.clone();
    let mut trainer = trainer(&model, options);
    trainer.load(&Weights::formula(&model, SEED)).unwrap();
    let values = trainer.forward([&first, &second]).unwrap();
    let graded = loss.grade(&values, &truth, model.pyramid_unit).unwrap();
    let mut sum = Gradients::zeros(graph, &trained);
    trainer.backward(&graded.gradients, &mut sum).unwrap();

    let golden = golden(file);
    let of_parameter = |(key, every, theirs): &(String, usize, Vec<f32>)| {
        Some((key.strip_prefix("grad/")?.to_string(), *every, theirs.clone()))
    };
    let gradients: Vec<(String, usize, Vec<f32>)> = golden.iter().filter_map(of_parameter).collect();
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let of_all = gradients.iter().map(|(.., theirs)| largest(theirs)).fold(0.0, f32::max);
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (parameter, every, theirs) in &gradients {
        let at = graph.params.iter().position(|p| p.name == *parameter).unwrap_or_else(|| panic!("{parameter}"));
        if !trained[at] {
            continue;
        }
        compared += 1;
        let ours = sum.iter().nth(at).unwrap().iter().step_by(*every);
        let apart = ours.zip(theirs.iter()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        if apart > TOLERANCE * largest(theirs).max(NOTHING * of_all / TOLERANCE) {
            wrong.push(format!("{parameter}: {apart:.2e} of {:.2e}, {of_all:.2e} of all", largest(theirs)));
        }
    }
    assert!(wrong.is_empty(), "{network}:\n{}", wrong.join("\n"));
    assert_eq!(compared, trained.iter().filter(|&&t| t).count(), "{network}: every trained parameter is in the file");
    let (_, _, theirs) = golden.iter().find(|(key, ..)| key == "loss").unwrap();
    let apart = (graded.value - f64::from(theirs[0])).abs();
    assert!(apart < 1e-4 * f64::from(theirs[0]).abs(), "{network}: {} instead of {}", graded.value, theirs[0]);
}

fn plan(model: &Model, options: TrainingOptions) -> Box<dyn Trainer> {
    let device = Cpu::new(CpuOptions { exact: true, ..CpuOptions::default() }).unwrap();
    device.trainer(&model.graph, options).unwrap()
}

fn interpreter(model: &Model, options: TrainingOptions) -> Box<dyn Trainer> {
    Box::new(reference::Training::<f64>::new(&model.graph, options).unwrap())
}

#[test]
fn raft_small_by_the_sequence() {
    step("raft-small", 3, "sequence-l1", "raft-small_train", plan);
    step("raft-small", 3, "sequence-l1", "raft-small_train", interpreter);
}

#[test]
fn sea_raft_by_the_mixture() {
    step("sea-raft-s", 2, "mixture-of-laplace", "sea-raft-s_train", plan);
}
