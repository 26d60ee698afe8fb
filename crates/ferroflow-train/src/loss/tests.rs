use ferroflow_net::{
    PyramidUnit,
    training::Values,
    weights::formula::{Stream, image_pair},
};

use super::*;
use crate::testing::Golden;

const SEED: &str = "ferroflow-golden";
/// Of outputs with more channels than the others: it has tests of its own.
const MIXTURE: &str = "mixture-of-laplace";
const SIZE: [usize; 4] = [2, 2, 128, 192];
const PX20: PyramidUnit = PyramidUnit::Pixels(20.0);
const LEVEL: PyramidUnit = PyramidUnit::LevelPixels { row_first: false };

fn loss(name: &str) -> Loss {
    LossConfig { name: name.into(), ..LossConfig::default() }.build().unwrap()
}

/// The true flow of the golden images a0 and a1.
fn truth() -> Truth {
    let [n, _, h, w] = SIZE;
    let data = ["a0", "a1"].into_iter().flat_map(|name| image_pair(SEED, name, h, w).flow).collect();
    Truth::new(Values { shape: SIZE, data }, vec![true; n * h * w])
}

fn predictions(name: &str, scale: f64) -> Vec<Values> {
    (2..=6)
        .map(|level| {
            let shape = [2, 2, 128 >> level, 192 >> level];
            let data = Stream::new(SEED, &format!("loss/{name}{level}")).tensor(shape.iter().product(), scale, 0.0);
            Values { shape, data }
        })
        .collect()
}

/// Golden limits: values 1e-5 relative, gradients 1e-4 of the largest.
fn agrees(what: &str, ours: &[f32], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((f64::from(*a) - b).abs() <= 1e-4 * largest, "{what}: {a} {b}");
    }
}

fn value_agrees(what: &str, ours: f64, theirs: f64) {
    assert!((ours - theirs).abs() <= 1e-5 * theirs.abs(), "{what}: {ours} {theirs}");
}

#[test]
fn the_pytorch_losses() {
    let Some(golden) = Golden::open("golden/losses/pytorch.safetensors") else { return };
    let (truth, levels) = (truth(), predictions("flow", 0.5));
    for (name, key, count) in [
        ("multiscale-l1", "nvidia_multiscale_L1", 5),
        ("multiscale-l2", "nvidia_multiscale_L2", 5),
        ("multiscale-epe", "clementpinard_multiscale", 5),
        ("lightflow-l1", "lightflow_L1", 1),
        ("lightflow-l2", "lightflow_L2", 1),
    ] {
        let graded = loss(name).grade(&levels[..count], &truth, PX20).unwrap();
        value_agrees(key, graded.value, golden.get(key)[0]);
        for (i, gradient) in graded.gradients.iter().enumerate() {
            agrees(key, &gradient.data, &golden.get(&format!("d_{key}/{i}")));
        }
    }
    // NVIDIA's metric beside the loss: the same sum with the 2-norm, which is multiscale-l2.
    let epe = loss("multiscale-l2").grade(&levels, &truth, PX20).unwrap();
    value_agrees("epe", epe.value, golden.get("nvidia_multiscale_epe")[0]);

    let full = Values { shape: SIZE, data: Stream::new(SEED, "loss/full").tensor(SIZE.iter().product(), 6.0, 0.0) };
    for (name, key) in [("l1", "nvidia_L1Loss"), ("l2", "nvidia_L2Loss")] {
        let graded = loss(name).grade(std::slice::from_ref(&full), &truth, PX20).unwrap();
        value_agrees(key, graded.value, golden.get(key)[0]);
        let every97: Vec<f32> = graded.gradients[0].data.iter().copied().step_by(97).collect();
        agrees(key, &every97, &golden.get(&format!("d_{key}/0@every97")));
    }
}

#[test]
fn the_lightflow_loss_of_sparse_truth() {
    let Some(golden) = Golden::open("golden/losses/pytorch.safetensors") else { return };
    let dense = truth();
    let [n, _, h, w] = SIZE;
    let sparse = Stream::new(SEED, "loss/sparse");
    let known: Vec<bool> = (0..n * h * w).map(|i| sparse.number(i) >= 0.6).collect();
    assert_eq!(known.iter().filter(|k| !**k).count() as f64, golden.get("sparse_mask_zeroed@sum")[0]);
    let truth = Truth::new(dense.flow, known);
    let graded = loss("lightflow-l1-sparse").grade(&predictions("flow", 0.5)[..1], &truth, PX20).unwrap();
    value_agrees("sparse", graded.value, golden.get("lightflow_L1_sparse")[0]);
    agrees("sparse", &graded.gradients[0].data, &golden.get("d_lightflow_L1_sparse/0"));
}

#[test]
fn the_tfoptflow_losses() {
    let Some(golden) = Golden::open("golden/losses/tfoptflow.safetensors") else { return };
    let (truth, levels) = (truth(), predictions("level_flow", 2.0));
    for level in 2..=6 {
        let target = truth.at(Size::new(128 >> level, 192 >> level), Reduction::TopLeft, LEVEL).unwrap();
        agrees("target", &target.flow, &golden.get(&format!("level_gt/{level}")));
    }
    for (name, key) in [("tfoptflow-multiscale", "tfoptflow_multiscale"), ("tfoptflow-robust", "tfoptflow_robust")] {
        let graded = loss(name).grade(&levels, &truth, LEVEL).unwrap();
        value_agrees(key, graded.value, golden.get(key)[0]);
        for (gradient, level) in graded.gradients.iter().zip(2..) {
            agrees(key, &gradient.data, &golden.get(&format!("d_{key}/flow{level}")));
        }
    }
    let start = Golden::open("golden/losses/optimizers_pytorch.safetensors").unwrap();
    let (weight, bias) = (start.floats("weight"), start.floats("bias"));
    value_agrees("regulariser", l2_penalty(4e-4, [&weight[..], &bias]), golden.get("regulariser_4e-4")[0]);
}

/// tfoptflow counts its weights from the coarsest level, so that a network whose flow is predicted at level 3 goes without the last.
#[test]
fn tfoptflows_weights_begin_at_the_coarsest_level() {
    let (truth, levels) = (truth(), predictions("level_flow", 2.0));
    for (name, weights) in [
        ("tfoptflow-multiscale", Some(vec![0.01, 0.02, 0.08, 0.32])),
        ("multiscale-epe", Some(vec![0.005, 0.01, 0.02, 0.08])),
    ] {
        let told = LossConfig { name: name.into(), weights, ..LossConfig::default() }.build().unwrap();
        let value = |loss: &Loss| loss.grade(&levels[1..], &truth, LEVEL).unwrap().value;
        assert_eq!(value(&loss(name)), value(&told), "{name}");
    }
}

/// With `sparse_gt_flow`, tfoptflow sets its flow to 0 where the truth is, which is where its reader found nothing.
#[test]
fn unknown_truth_counts_as_tfoptflow_has_it() {
    let shape = [1, 2, 8, 8];
    let flow = Values { shape, data: Stream::new("s", "sparse").tensor(128, 9.0, 0.0) };
    let known: Vec<bool> = (0..64).map(|i| i % 3 != 0).collect();
    let truth = Truth::new(flow, known);
    let level = Values { shape: [1, 2, 4, 4], data: Stream::new("s", "level").tensor(32, 2.0, 0.0) };
    let target = truth.at(Size::new(4, 4), Reduction::TopLeft, LEVEL).unwrap();
    assert!(target.known.contains(&false) && target.known.contains(&true));
    // Its flow with zeros, over all pixels.
    let kept = |i: usize| if target.flow[i] == 0.0 && target.flow[(i + 16) % 32] == 0.0 { 0.0 } else { level.data[i] };
    let difference = |i: usize| f64::from(kept(i) - target.flow[i]);
    let lengths: f64 = (0..16).map(|i| difference(i).hypot(difference(i + 16))).sum();
    let absolute: f64 = (0..32).map(|i| difference(i).abs()).sum();
    for (name, expected) in
        [("tfoptflow-multiscale", 0.32 * lengths), ("tfoptflow-robust", 0.32 * (absolute + 0.01).powf(0.4))]
    {
        value_agrees(name, loss(name).grade(std::slice::from_ref(&level), &truth, LEVEL).unwrap().value, expected);
    }
}

/// Every loss against differences of its values, with a sixth of the truth unknown.
#[test]
fn gradients_are_the_slopes_of_the_values() {
    let shape = [2, 2, 16, 16];
    let flow = Values { shape, data: Stream::new("s", "truth").tensor(2 * 2 * 256, 9.0, 0.0) };
    let known: Vec<bool> = (0..512).map(|i| i % 6 != 0).collect();
    let truth = Truth::new(flow, known);
    for (name, _) in NAMES.into_iter().filter(|(name, _)| ![UFLOW, MIXTURE].contains(name)) {
        let loss = loss(name);
        let sizes: &[usize] = if loss.reads == Reads::Flow { &[16] } else { &[8, 4] };
        let levels = &sizes[..sizes.len().min(loss.weights.len())];
        let mut outputs: Vec<Values> = levels
            .iter()
            .map(|&side| {
                let shape = [2, 2, side, side];
                let data = Stream::new("s", &format!("{name}{side}")).tensor(4 * side * side, 0.5, 0.0);
                Values { shape, data }
            })
            .collect();
        let graded = loss.grade(&outputs, &truth, PX20).unwrap();
        let largest = graded.gradients.iter().flat_map(|g| &g.data).fold(0.0f32, |m, v| m.max(v.abs()));
        for level in 0..outputs.len() {
            for i in (0..outputs[level].data.len()).step_by(7) {
                let at = outputs[level].data[i];
                let step = 1.0 / 1024.0;
                let mut value = |x: f32| {
                    outputs[level].data[i] = x;
                    loss.grade(&outputs, &truth, PX20).unwrap().value
                };
                let middle = value(at);
                let right = (value(at + step) - middle) / f64::from((at + step) - at);
                let left = (middle - value(at - step)) / f64::from(at - (at - step));
                value(at);
                let gradient = f64::from(graded.gradients[level].data[i]);
                // At a kink any slope between the two is right; beside one, rounding of the values is within 1 %.
                let margin = 1e-2 * f64::from(largest);
                let inside = left.min(right) - margin..=left.max(right) + margin;
                assert!(inside.contains(&gradient), "{name} {level} {i}: {gradient} not in {inside:?}");
            }
        }
    }
}

/// Pairs of which one knows a sixth of its pixels and the other nearly all: what a step of two passes sees.
#[test]
fn the_shares_of_the_parts_are_the_loss_of_the_whole() {
    let pixels = 16 * 16;
    let flow: Vec<f32> = Stream::new("s", "parts").tensor(2 * 2 * pixels, 9.0, 0.0);
    let known: Vec<bool> = (0..2 * pixels).map(|i| if i < pixels { i % 6 == 0 } else { i % 50 != 0 }).collect();
    let truth = |pairs: std::ops::Range<usize>| {
        let shape = [pairs.len(), 2, 16, 16];
        let data = flow[pairs.start * 2 * pixels..pairs.end * 2 * pixels].to_vec();
        Truth::new(Values { shape, data }, known[pairs.start * pixels..pairs.end * pixels].to_vec())
    };
    for (name, _) in NAMES.into_iter().filter(|(name, _)| ![UFLOW, MIXTURE].contains(name)) {
        let loss = loss(name);
        let sizes: &[usize] = if loss.reads == Reads::Flow { &[16] } else { &[8, 8, 4] };
        let sides = &sizes[..sizes.len().min(loss.weights.len())];
        let outputs = |pairs: std::ops::Range<usize>| -> Vec<Values> {
            let level = |(at, &side): (usize, &usize)| {
                let all: Vec<f32> = Stream::new("s", &format!("{name}{at}")).tensor(4 * side * side, 0.5, 0.0);
                let data = all[pairs.start * 2 * side * side..pairs.end * 2 * side * side].to_vec();
                Values { shape: [pairs.len(), 2, side, side], data }
            };
            sides.iter().enumerate().map(level).collect()
        };
        let large = loss.grade(&outputs(0..2), &truth(0..2), PX20).unwrap();
        let parts = [0..1, 1..2];
        let mut whole = vec![Tally::default(); sides.len()];
        for part in &parts {
            let (outputs, truth) = (outputs(part.clone()), truth(part.clone()));
            let shapes: Vec<_> = outputs.iter().map(|output| output.shape).collect();
            let counted = loss.count(&shapes, &truth, PX20).unwrap();
            let measured = loss.measure(&outputs, &truth, PX20).unwrap();
            for (sum, (counted, measured)) in whole.iter_mut().zip(counted.into_iter().zip(measured)) {
                assert_eq!(counted, Tally { penalty: 0.0, ..measured }, "{name}");
                *sum += if loss.needs_penalties() { measured } else { counted };
            }
        }
        let shares = parts
            .map(|part| loss.grade_part(&outputs(part.clone()), &truth(part.clone()), PX20, Some(&whole)).unwrap());
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs().max(1e-9);
        assert!(close(shares.iter().map(|s| s.value).sum(), large.value), "{name}");
        assert!(close(shares.iter().map(|s| s.epe.unwrap()).sum(), large.epe.unwrap()), "{name}");
        for (level, large) in large.gradients.iter().enumerate() {
            let parts = shares.iter().flat_map(|share| &share.gradients[level].data);
            for (part, large) in parts.zip(&large.data) {
                assert!((part - large).abs() <= 1e-6 * large.abs().max(1e-9), "{name}: {part} and {large}");
            }
        }
    }
}

#[test]
fn equal_flows_have_gradient_zero() {
    let shape = [1, 2, 8, 8];
    let truth = Truth::new(Values { shape, data: vec![40.0; 128] }, vec![true; 64]);
    for (name, _) in NAMES.into_iter().filter(|(name, _)| ![UFLOW, MIXTURE].contains(name)) {
        let loss = loss(name);
        let (side, value) = if loss.reads == Reads::Flow { (8, 40.0) } else { (4, 2.0) };
        let output = Values { shape: [1, 2, side, side], data: vec![value; 2 * side * side] };
        let graded = loss.grade(&[output], &truth, PX20).unwrap();
        assert!(graded.value.is_finite() && graded.epe == Some(0.0), "{name}");
        assert!(graded.gradients[0].data.iter().all(|&g| g == 0.0), "{name}");
    }
}

#[test]
fn what_is_not_known_does_not_count() {
    let shape = [1, 2, 8, 8];
    let mut data = vec![3.0; 128];
    (data[0], data[64 + 9], data[10]) = (f32::NAN, f32::INFINITY, 1e5);
    let mut known = vec![true; 64];
    known[10] = false;
    let truth = Truth::new(Values { shape, data }, known);
    assert_eq!(truth.known.iter().filter(|k| !**k).count(), 3);
    for (name, _) in NAMES.into_iter().filter(|(name, _)| ![UFLOW, MIXTURE].contains(name)) {
        let loss = loss(name);
        let side = if loss.reads == Reads::Flow { 8 } else { 2 };
        let output = Values { shape: [1, 2, side, side], data: vec![0.0; 2 * side * side] };
        let graded = loss.grade(&[output], &truth, PyramidUnit::Pixels(1.0)).unwrap();
        assert!(graded.value.is_finite() && graded.gradients[0].data.iter().all(|g| g.is_finite()), "{name}");
        if loss.reduction != Reduction::TopLeft {
            assert!((graded.epe.unwrap() - 18f64.sqrt()).abs() < 1e-5, "{name}: {:?}", graded.epe);
        }
    }
    let nothing = Truth::new(Values::zeros(shape), vec![false; 64]);
    let graded = loss("l2").grade(&[Values { shape, data: vec![1.0; 128] }], &nothing, PX20).unwrap();
    assert_eq!((graded.value, graded.epe), (0.0, Some(0.0)));
}

#[test]
fn caffes_triangle_keeps_corners_and_ramps() {
    // A ramp stays the ramp between its corner pixels: 0..=12 seen at 5 points is 0, 3, 6, 9, 12 inside.
    let (height, width) = (5, 15);
    let data = (0..2 * height * width).map(|i| (i % width) as f32).collect();
    let truth = Truth::new(Values { shape: [1, 2, height, width], data }, vec![true; height * width]);
    let target = truth.at(Size::new(5, 5), Reduction::Triangle, PyramidUnit::Pixels(1.0)).unwrap();
    for x in 1..4 {
        assert!((target.flow[x] - 3.5 * x as f32).abs() < 1e-5, "{:?}", &target.flow[..5]);
    }
    assert!(target.known.iter().all(|k| *k));
}

#[test]
fn rows_come_first_where_the_network_says_so() {
    let data = vec![8.0, 8.0, 8.0, 8.0, 4.0, 4.0, 4.0, 4.0];
    let truth = Truth::new(Values { shape: [1, 2, 2, 2], data }, vec![true; 4]);
    let target = truth.at(Size::new(1, 1), Reduction::Area, PyramidUnit::LevelPixels { row_first: true }).unwrap();
    assert_eq!(&target.flow[..], [2.0, 4.0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let truth = Truth::new(Values::zeros([1, 2, 8, 8]), vec![true; 64]);
    let refuse = |shape| loss("multiscale-l1").grade(&[Values::zeros(shape)], &truth, PX20).unwrap_err().to_string();
    assert!(refuse([1, 2, 3, 4]).contains("multiple"));
    assert!(refuse([2, 2, 4, 4]).contains("[2, 4, 4]"));
    let named = |name: &str| LossConfig { name: name.into(), ..LossConfig::default() }.build().unwrap_err();
    assert!(named("robbust").contains("`robust`"));
    let mut config = LossConfig { name: "l1".into(), q: Some(-1.0), ..LossConfig::default() };
    assert!(config.build().unwrap_err().contains("loss.q"));
    config = LossConfig { name: "l1".into(), weights: Some(vec![]), ..LossConfig::default() };
    assert!(config.build().unwrap_err().contains("loss.weights"));
    let pwcnet = ferroflow_net::Model::named("pwcnet").unwrap();
    assert!(loss("lightflow-l1").outputs(&pwcnet.graph).unwrap_err().to_string().contains("5 levels"));
    assert_eq!(loss("multiscale-l1").outputs(&pwcnet.graph).unwrap().len(), 5);
}

/// Two pairs of 6 x 7 with channels behind the flow's, a truth of which some pixels are unknown and some too long, and outputs.
fn sequence(channels: usize) -> (Truth, Vec<bool>, Vec<Values>) {
    let pixels = 42;
    let mut flow = Stream::new(SEED, "sequence/flow").tensor(4 * pixels, 6.0, 0.0);
    (flow[5], flow[3 * pixels + 9]) = (399.0, -400.5);
    let known: Vec<bool> = (0..2 * pixels).map(|i| i % 7 != 3).collect();
    // The long one is of the second pair: its pixel does not count.
    let counts: Vec<bool> = (0..2 * pixels).map(|i| known[i] && i != pixels + 9).collect();
    let output = |i: usize| {
        let data = Stream::new(SEED, &format!("sequence/{i}")).tensor(2 * channels * pixels, 4.0, 0.5);
        Values { shape: [2, channels, 6, 7], data }
    };
    (Truth::new(Values { shape: [2, 2, 6, 7], data: flow }, known), counts, (0..3).map(output).collect())
}

/// RAFT's `sequence_loss`: `sum of 0.8^i (valid * |flow - truth|).mean()`, over all pixels, i from the last iteration on; and that
/// channels behind the flow's do not matter.
#[test]
fn a_sequence_weighs_its_last_iteration_most() {
    for channels in [2, 6] {
        let (truth, counts, outputs) = sequence(channels);
        let graded = loss("sequence-l1").grade(&outputs, &truth, PyramidUnit::Pixels(1.0)).unwrap();
        let mut expected = 0.0;
        for (i, output) in outputs.iter().enumerate() {
            for (n, c, at) in (0..2).flat_map(|n| (0..2).flat_map(move |c| (0..42).map(move |at| (n, c, at)))) {
                let index = (n * channels + c) * 42 + at;
                let difference = output.data[index] - truth.flow.data[(n * 2 + c) * 42 + at];
                let share = 0.8f64.powi(i as i32) / (2 * 2 * 42) as f64;
                let is_counted = if counts[n * 42 + at] { 1.0 } else { 0.0 };
                expected += is_counted * share * f64::from(difference.abs());
                let slope = is_counted * share * f64::from(difference.signum());
                assert!((f64::from(graded.gradients[i].data[index]) - slope).abs() < 1e-9);
            }
            assert!((0..2).all(|n| output.data.len() == 2 * channels * 42 && {
                graded.gradients[i].data[(n * channels + 2) * 42..(n + 1) * channels * 42].iter().all(|&g| g == 0.0)
            }));
        }
        value_agrees("sequence", graded.value, expected);
    }
    let steeper =
        LossConfig { name: "sequence-l1".into(), gamma: Some(0.5), longest: Some(1e9), ..LossConfig::default() };
    assert_eq!(steeper.build().unwrap().weights[..3], [1.0, 0.5, 0.25]);
    let misplaced = LossConfig { name: "l1".into(), gamma: Some(0.5), ..LossConfig::default() };
    assert!(misplaced.build().unwrap_err().contains("sequence"));
}

/// SEA-RAFT's mixture in double precision: minus the logarithm of the two densities, for each component.
#[test]
fn a_mixture_says_how_likely_the_truth_is() {
    let (truth, counts, outputs) = sequence(6);
    let counted = 2.0 * counts.iter().filter(|&&c| c).count() as f64;
    let value = |outputs: &[Values]| -> f64 {
        let mut sum = 0.0;
        for (i, output) in outputs.iter().enumerate() {
            for (n, at) in (0..2).flat_map(|n| (0..42).map(move |at| (n, at))).filter(|(n, at)| counts[n * 42 + at]) {
                let channel = |c: usize| f64::from(output.data[(n * 6 + c) * 42 + at]);
                let weights = [channel(2).exp(), channel(3).exp()];
                let scales = [channel(4).clamp(0.0, 10.0).exp(), channel(5).clamp(0.0, 0.0).exp()];
                for c in 0..2 {
                    let far = (channel(c) - f64::from(truth.flow.data[(n * 2 + c) * 42 + at])).abs();
                    let density = |m: usize| weights[m] / (2.0 * scales[m]) * (-far / scales[m]).exp();
                    let likelihood = (density(0) + density(1)) / (weights[0] + weights[1]);
                    sum -= 0.8f64.powi(i as i32) * likelihood.ln() / counted;
                }
            }
        }
        sum
    };
    let graded = loss(MIXTURE).grade(&outputs, &truth, PyramidUnit::Pixels(1.0)).unwrap();
    value_agrees("mixture", graded.value, value(&outputs));
    let step = 1e-3f32;
    for (i, at) in (0..3).flat_map(|i| (0..12 * 42).step_by(5).map(move |at| (i, at))) {
        let moved = |by: f32| {
            let mut outputs = outputs.clone();
            outputs[i].data[at] += by;
            value(&outputs)
        };
        let (difference, slope) = (moved(step) - moved(-step), f64::from(graded.gradients[i].data[at]));
        // Across a corner, where a difference is 0 or a limit is reached, the slopes to both sides differ.
        let [low, high] = [value(&outputs) - moved(-step), moved(step) - value(&outputs)];
        if (low - high).abs() < 1e-8 {
            assert!((difference / f64::from(2.0 * step) - slope).abs() < 1e-5, "{i} {at}: {difference} {slope}");
        }
    }
    let (_, _, flows) = sequence(2);
    let error = loss(MIXTURE).grade(&flows, &truth, PyramidUnit::Pixels(1.0)).unwrap_err();
    assert_eq!(error, LossError::NoMixture);
}
