//! UFlow's census loss computed where the flows lie, against that of the host.
#![cfg(feature = "cube")]

mod common;

use std::sync::Arc;

use common::{gpus, images, losses, weights};
use ferroflow_cpu::Cpu;
use ferroflow_net::Model;
use ferroflow_net::device::Device;
use ferroflow_net::graph::{BothDirections, Sizes};
use ferroflow_net::peers::Alone;
use ferroflow_net::training::{Gradients, TrainingOptions, Values};
use ferroflow_train::criterion::{Criterion, Grading};
use ferroflow_train::data::Batch;
use ferroflow_train::unsupervised::{Distance, OcclusionEstimation, ResizeGrid, Unsupervised, UnsupervisedOptions};

/// Of the loss and of the whole gradient: single precision, and a pixel or two that fall on the other side of a threshold.
const TOLERANCE: f64 = 2e-3;
/// Factor of all gradients, as for half precision.
const SCALE: f64 = 4.0;

/// A network, the pairs of a batch, and what they are judged by.
fn cases() -> [(&'static str, usize, UnsupervisedOptions); 4] {
    let plain = UnsupervisedOptions { weight_selfsup: 0.0, ..UnsupervisedOptions::google() };
    let census_alone = UnsupervisedOptions { weight_smooth2: 0.0, ..plain.clone() };
    let through_mask = UnsupervisedOptions { stop_gradient_mask: false, census_patch: 5, ..census_alone.clone() };
    let there_and_back = UnsupervisedOptions {
        occlusion_estimation: OcclusionEstimation::Brox,
        distance_census: Distance::L1,
        census_patch: 3,
        resize_grid: ResizeGrid::Asymmetric,
        ..plain.clone()
    };
    let forward = UnsupervisedOptions {
        occlusion_estimation: OcclusionEstimation::None,
        only_forward: true,
        weight_census: 0.3,
        ..census_alone
    };
    [
        ("uflow", 1, plain),
        ("lightflow-0.5", 2, through_mask),
        ("lightflow-0.5", 2, there_and_back),
        ("pwcnet-sm", 1, forward),
    ]
}

#[test]
fn gpus_compute_the_census_loss_of_the_host() {
    for gpu in gpus() {
        for (name, batch, options) in cases() {
            let model = Model::named(name).unwrap();
            let sizes = Sizes::new(batch, 64, 64);
            let criterion = Unsupervised::new(options.clone(), None, &model, sizes.input, 1, false).unwrap();
            let both = BothDirections::of(&model.graph);
            let there = criterion.outputs()[0];
            let trained = TrainingOptions::all(&both.graph, sizes, vec![there, both.counterpart(there)]);
            let mut trainer = gpu.trainer(&both.graph, trained.clone()).unwrap();
            trainer.load(&weights(&both.graph)).unwrap();
            let (frames, ids) = (images(&sizes), vec![String::new(); sizes.batch]);
            let (original, surrounds, truth, occlusion) = (None, None, None, None);
            let batch = Batch { size: sizes.input, frames, original, surrounds, truth, occlusion, ids };
            let mut step = |on_device: bool| {
                let values = trainer.forward(batch.frames.each_ref().map(|frames| &frames[..])).unwrap();
                let passes = [vec![joined(&values)]];
                let (whole, peers) = (None, &Alone);
                let grading = Grading { step: 1, batch: &batch, passes: &passes, whole, peers, census: None };
                let census = on_device.then(|| {
                    let census = criterion.census(&grading).unwrap();
                    trainer.census(&census, [0, 1], SCALE).unwrap().expect("a device with kernels")
                });
                let graded = criterion.grade(Grading { census, ..grading }).unwrap();
                let mut sum = Gradients::zeros(&both.graph, &trained.trained);
                trainer.backward(&halves(&graded.gradients[0]), &mut sum).unwrap();
                (graded, sum)
            };
            let ((expected, slopes), (found, gradients)) = (step(false), step(true));
            let length = |g: &mut dyn Iterator<Item = f64>| g.map(|g| g * g).sum::<f64>().sqrt();
            let all = length(&mut slopes.values().iter().map(|g| f64::from(*g)));
            let pairs = slopes.values().iter().zip(gradients.values());
            let off = length(&mut pairs.map(|(a, b)| f64::from(a - b))) / all;
            println!(
                "{name}, {:?}: {} {}, {all:.1e} {off:.1e}",
                options.occlusion_estimation, expected.value, found.value
            );
            assert!(all > 1e-6, "{name}: the loss has no gradient");
            assert_eq!(
                expected.terms.iter().map(|term| term.0).collect::<Vec<_>>(),
                found.terms.iter().map(|term| term.0).collect::<Vec<_>>()
            );
            assert!(
                (found.value / expected.value - 1.0).abs() < TOLERANCE,
                "{name}: {:?} {:?}",
                found.terms,
                expected.terms
            );
            assert!(off < TOLERANCE, "{name}: the gradient is off by {off}");
        }
    }
}

/// All flows forward, then all back.
fn joined(values: &[Values]) -> Values {
    let [there, back] = values else { panic!("flows there and back") };
    let [n, c, h, w] = there.shape;
    Values { shape: [2 * n, c, h, w], data: [&there.data[..], &back.data].concat() }
}

/// And apart again, scaled.
fn halves(gradient: &Values) -> [Values; 2] {
    let [n, c, h, w] = gradient.shape;
    let half = gradient.data.len() / 2;
    [&gradient.data[..half], &gradient.data[half..]].map(|part| {
        let data = part.iter().map(|g| SCALE as f32 * g).collect();
        Values { shape: [n / 2, c, h, w], data }
    })
}

/// The loop leaves the loss to a device that computes it.
#[test]
fn gpus_learn_without_labels_as_the_processor_does() {
    let text = "model = 'lightflow-0.5'\ndata = 'synth:chairs@size=64x64'\nvalidate = ''\nsteps = 3\nbatch = 2\n\
                crop = '64x64'\nlr = 1e-4\nloss = 'uflow'\n[unsupervised]\nweight_selfsup = 0.0";
    let expected = losses(text, &(Arc::new(Cpu::default()) as Arc<dyn Device>));
    assert_eq!(expected.len(), 3);
    for gpu in gpus() {
        let found = losses(text, &(Arc::new(gpu) as Arc<dyn Device>));
        for (a, b) in expected.iter().zip(&found) {
            assert!((a / b - 1.0).abs() < TOLERANCE, "{expected:?} {found:?}");
        }
    }
}
