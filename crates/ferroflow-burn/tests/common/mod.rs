//! Weights, frames, and what is compared on every device.
#![allow(dead_code, reason = "each test file uses some")]

use std::sync::{Arc, LazyLock, atomic::AtomicBool};

use burn::tensor::{Device, FloatDType, IntDType, Tensor, TensorData};
use ferroflow_burn::Network;
use ferroflow_cpu::reference;
use ferroflow_net::device::{Device as FlowDevice, DeviceError};
use ferroflow_net::graph::{Graph, ParamRole, Size, Sizes};
use ferroflow_net::training::{Gradients, Trainer, TrainingOptions, Values};
use ferroflow_net::{Model, NodeId, ParamId, Weights};
use ferroflow_train::{Event, Recipe, Run};

/// Flex in double precision; a process configures a device once.
pub static DOUBLE: LazyLock<Device> = LazyLock::new(|| {
    let mut device = Device::flex();
    device.configure((FloatDType::F64, IntDType::I64)).unwrap();
    device
});

/// Uniform in -1..1 (SplitMix64).
pub fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// The losses of the steps of a recipe.
pub fn losses(recipe: &str, device: &Arc<dyn FlowDevice>) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::parse("burn", recipe, &[""; 0]).unwrap();
    let run = Run::new(recipe, &folder.path().join("run")).unwrap();
    let mut losses = Vec::new();
    run.train(device, &AtomicBool::new(false), &mut |event| {
        if let Event::Step { loss, .. } = event {
            losses.push(loss);
        }
    })
    .unwrap();
    losses
}

/// Random weights, batch norm's too: those of a fresh network would hide what it does.
pub fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::random(graph, 1);
    let mut state = 1;
    for (i, param) in graph.params.iter().enumerate() {
        let values = weights.get_mut(ParamId(i as u32));
        match param.role {
            ParamRole::ConvWeight | ParamRole::DeconvWeight => {}
            ParamRole::NormScale | ParamRole::NormVariance => {
                values.iter_mut().for_each(|v| *v = 1.0 + 0.3 * random(&mut state));
            }
            _ => values.iter_mut().for_each(|v| *v = 0.1 * random(&mut state)),
        }
    }
    weights
}

/// `[batch, 3, height, width]`, 0..=255.
pub fn frames(batch: usize, height: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..batch * 3 * height * width).map(|_| (127.5 * (1.0 + random(&mut state))).round()).collect()
}

/// A batch of pairs.
pub fn images(sizes: &Sizes) -> [Vec<f32>; 2] {
    [2, 3].map(|seed| frames(sizes.batch, sizes.input.height, sizes.input.width, seed))
}

pub fn upload(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// The largest difference, relative to the largest value but at least to 1.
pub fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / largest).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

/// Rounding in single precision alone; the warps of a stack amplify it.
const TOLERANCE: f64 = 1e-3;

/// A network's flow on a device is that of the plain interpreter.
pub fn check_flow(name: &str, device: &Device) {
    let graph = &Model::named(name).unwrap().graph;
    let weights = weights(graph);
    let (h, w) = (64, 64);
    let (a, b) = (frames(1, h, w, 2), frames(1, h, w, 3));
    let sizes = Sizes { output: Size { height: 50, width: 70 }, ..Sizes::new(1, h, w) };
    let expected = reference::run::<f64>(graph, &weights, [&a, &b], &sizes).unwrap();
    let expected = &expected.get(graph.flow.unwrap()).data;

    let network = Network::new(graph, &weights, device).unwrap();
    let on_device = [&a, &b].map(|frame| upload(frame, [1, 3, h, w], device));
    let flow = network.forward_to(on_device, sizes.output).unwrap();
    assert_eq!(flow.dims(), [1, 2, 50, 70]);
    let d = difference(&flow.try_into_vec_as::<f64>().unwrap(), expected);
    println!("{name}: {d:.1e}");
    assert!(d < TOLERANCE, "{name}: differs from the plain interpreter by {d}");
}

pub struct Outcome {
    pub outputs: Vec<Values>,
    pub gradients: Gradients,
    /// After their statistics moved.
    pub weights: Weights,
}

/// One step on random frames for a random gradient of the outputs.
pub fn step(
    device: &mut dyn Trainer,
    graph: &Graph,
    options: &TrainingOptions,
    weights: &Weights,
) -> Result<Outcome, DeviceError> {
    let frames = images(&options.sizes);
    device.load(weights)?;
    let outputs = device.forward([&frames[0], &frames[1]])?;
    let mut gradients = Gradients::zeros(graph, &options.trained);
    device.backward(&slopes(&outputs), &mut gradients)?;
    let mut weights = weights.clone();
    device.update_statistics(0.1, &mut weights);
    Ok(Outcome { outputs, gradients, weights })
}

/// A random gradient of outputs.
pub fn slopes(outputs: &[Values]) -> Vec<Values> {
    let mut state = 9;
    let mut random = |v: &Values| Values { shape: v.shape, data: v.data.iter().map(|_| random(&mut state)).collect() };
    outputs.iter().map(&mut random).collect()
}

pub fn options(graph: &Graph, batch: usize) -> TrainingOptions {
    let outputs: Vec<NodeId> = graph.pyramid.iter().copied().chain(graph.flow).collect();
    TrainingOptions::all(graph, Sizes::new(batch, 64, 64), outputs)
}

/// The first GPU of every interface. Without any, tests skip what they would do on one, unless FERROFLOW_REQUIRE_GPU is 1.
#[cfg(feature = "cube")]
pub fn gpus() -> Vec<ferroflow_burn::Burn> {
    let open = |interface: ferroflow_burn::Interface| match interface.open(0) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    };
    let gpus: Vec<_> = ferroflow_burn::Interface::ALL.into_iter().filter_map(open).collect();
    let required = std::env::var_os("FERROFLOW_REQUIRE_GPU").is_some_and(|value| value == "1");
    assert!(!required || !gpus.is_empty(), "there is no GPU, and FERROFLOW_REQUIRE_GPU=1");
    gpus
}
