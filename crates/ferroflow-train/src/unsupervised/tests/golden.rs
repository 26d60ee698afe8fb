//! Google's UFlow, and its MindSpore port: losses, gradients and masks of their own code.

use ferroflow_core::{Size, geometry::Grid, sampling};
use ferroflow_net::{
    PyramidUnit,
    training::Values,
    weights::formula::{ImagePair, image_pair},
};

use super::{super::levels::Levels, super::occlusion::RoundTrip, super::*, TERMS, batch, judge, nothing, only};
use crate::{loss::Truth, testing::Golden};

const SEED: &str = "ferroflow-golden";
const SIZE: Size = Size { height: 64, width: 96 };
const PIXELS: usize = SIZE.height * SIZE.width;
/// Of the self-supervision in `google_losses` and `google_masks`.
const CROP: usize = 16;
const UNIT: PyramidUnit = PyramidUnit::LevelPixels { row_first: true };

/// The first and the second frames of pairs, planar.
fn frames(names: &[&str], size: Size) -> [Vec<f32>; 2] {
    let pairs: Vec<_> = names.iter().map(|name| image_pair(SEED, name, size.height, size.width)).collect();
    let planar = |of: fn(&ImagePair) -> &[u8]| pairs.iter().flat_map(of).map(|&v| f32::from(v)).collect();
    [planar(|pair| &pair.first), planar(|pair| &pair.second)]
}

/// Level-2 flows of both directions as one batch.
fn flows(masks: &Golden, kind: &str) -> Values {
    let part = |direction: &str| masks.floats(&format!("in/flow2_{direction}_{kind}"));
    Values { shape: [4, 2, 16, 24], data: batch(&[&part("01"), &part("10")]) }
}

/// Differences of at most `tolerance` times the largest value.
#[track_caller]
fn agrees(what: &str, ours: &[f32], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let off = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(off <= tolerance * largest, "{what}: {off} off, the largest is {largest}");
}

#[track_caller]
fn value_agrees(what: &str, ours: f64, theirs: f64) {
    assert!((ours - theirs).abs() <= 1e-4 * theirs.abs(), "{what}: {ours} {theirs}");
}

struct Configuration {
    key: &'static str,
    options: UnsupervisedOptions,
}

/// Those of the file's metadata.
fn configurations() -> [Configuration; 8] {
    use EdgeWeighting::Gaussian;
    use OcclusionEstimation::{Brox, None, Uflow, Wang4};
    let base = UnsupervisedOptions { selfsup_crop_height: CROP, selfsup_crop_width: CROP, ..nothing() };
    let soft = Scores { fb_abs: 1.0, forward_collision: 1.0, backward_zero: 10.0 };
    let with = |key, change: &dyn Fn(&mut UnsupervisedOptions)| {
        let mut options = base.clone();
        change(&mut options);
        Configuration { key, options }
    };
    [
        with("a", &|_| {}),
        with("b", &|o| {
            (o.occlusion_estimation, o.smoothness_edge_weighting, o.smoothness_edge_constant) = (Brox, Gaussian, 10.0);
            (o.distance_photo, o.distance_census) = (Distance::L1, Distance::RobustL1);
            o.selfsup_mask = SelfSupervisionMask::Ddflow;
        }),
        with("c", &|o| {
            o.smoothness_edge_constant = 10.0;
            (o.distance_photo, o.distance_census) = (Distance::AbsRobust, Distance::L1);
            o.stop_gradient_mask = false;
        }),
        with("d", &|o| (o.occlusion_estimation, o.occ_weights) = (Uflow, soft)),
        with("e", &|o| o.use_gt_occlusions = true),
        with("f", &|o| {
            (o.occlusion_estimation, o.smoothness_edge_weighting, o.smoothness_edge_constant) = (None, Gaussian, 5.0);
            o.smoothness_at_level = 0;
        }),
        with("g", &|o| (o.occlusion_estimation, o.only_forward) = (Wang4, true)),
        with("h", &|o| (o.occlusion_estimation, o.occ_weights, o.stop_gradient_mask) = (Uflow, soft, false)),
    ]
}

#[test]
fn the_losses_of_google() {
    let Some(masks) = Golden::open("golden/uflow/google_masks.safetensors") else { return };
    let golden = Golden::open("golden/uflow/google_losses.safetensors").unwrap();
    let frames = frames(&["l0", "l1"], SIZE);
    let student = flows(&masks, "augmented-student");
    let occlusion = masks.floats("in/gt_occlusion");
    let gradient_agrees = |key: &str, term: &str, kind: &str, gradient: &Values, both: bool| {
        let tolerance = if term == "census" { 2e-3 } else { 1e-3 };
        for (direction, ours) in ["01", "10"].into_iter().zip(gradient.data.chunks_exact(gradient.data.len() / 2)) {
            let name = format!("{key}/d_{term}/flow2_{direction}{kind}");
            if direction == "01" || both {
                agrees(&name, ours, &golden.get(&name), tolerance);
            } else {
                assert!(ours.iter().all(|&d| d == 0.0), "{name}");
            }
        }
    };
    for Configuration { key, options } in configurations() {
        let both = !options.only_forward && !options.use_gt_occlusions;
        let mut total = 0.0;
        for term in TERMS {
            let options = only(term, &options);
            let scene = Scene::new(&options, SIZE, [&frames[0], &frames[1]]).unwrap().occluded(&occlusion).unwrap();
            let found = scene.judge(1, &student, UNIT).unwrap();
            assert_eq!(found.terms.len(), 1);
            value_agrees(&format!("{key}/{term}"), found.value, golden.get(&format!("{key}/{term}"))[0]);
            gradient_agrees(key, term, "_augmented-student", &found.gradients[0], both);
            total += found.value;
        }
        if key != "e" {
            let options = only("selfsup", &options);
            let (teacher, student) = (flows(&masks, "original-teacher"), flows(&masks, "transformed-student"));
            let cut = Cut::new(&options, [(0, 0); 2]);
            let found = TeacherAndStudent { size: SIZE, teacher: &teacher, student: &student, unit: UNIT, cut };
            let found = self_supervision(&options, 1, &found).unwrap();
            value_agrees(&format!("{key}/selfsup"), found.value, golden.get(&format!("{key}/selfsup"))[0]);
            gradient_agrees(key, "selfsup", "_transformed-student", &found.gradients[0], both);
            total += found.value;
        }
        value_agrees(&format!("{key}/total"), total, golden.get(&format!("{key}/total"))[0]);
    }

    let (dy_dx, known) = (masks.floats("in/gt_flow_uv"), occlusion.iter().map(|o| *o == 0.0).collect());
    let truth = Truth::new(Values { shape: [2, 2, SIZE.height, SIZE.width], data: dy_dx }, known);
    let found = supervised(&nothing(), 1.0, std::slice::from_ref(&student), UNIT, SIZE, &truth).unwrap();
    value_agrees("supervised", found.value, golden.get("supervised")[0]);
    let forward = found.gradients[0].data.len() / 2;
    agrees("supervised", &found.gradients[0].data[..forward], &golden.get("d_supervised/flow2_01"), 1e-3);
    assert!(found.gradients[0].data[forward..].iter().all(|&d| d == 0.0));
}

/// A batch of two flows `[2, 2, h, w]`, rows first, of ours.
fn rows_first(flow: &[f32]) -> Vec<f32> {
    let pixels = flow.len() / 4;
    [1, 0, 3, 2].iter().flat_map(|&plane| flow[plane * pixels..][..pixels].to_vec()).collect()
}

#[test]
fn the_flows_and_masks_of_google() {
    let Some(golden) = Golden::open("golden/uflow/google_masks.safetensors") else { return };
    let levels = Levels::new(&flows(&golden, "augmented-student"), UNIT, SIZE, Grid::HalfPixel).unwrap();
    for (level, name) in [(0, "flow0"), (1, "flow1")] {
        let (forward, backward) = levels.level(level).flow.split_at(levels.level(level).flow.len() / 2);
        agrees(name, &rows_first(forward), &golden.get(&format!("{name}_01")), 1e-5);
        agrees(name, &rows_first(backward), &golden.get(&format!("{name}_10")), 1e-5);
    }
    // Of each direction, of both pairs.
    let of_items = |level: usize, direction: usize, f: &dyn Fn(&[f32], &[f32], Size) -> Vec<f32>| -> Vec<f32> {
        let level = levels.level(level);
        (0..2).flat_map(|n| f(level.item(2 * direction + n), level.item(2 * (1 - direction) + n), level.size)).collect()
    };
    // Thresholds may fall otherwise for one in a thousand.
    let mask_agrees = |name: &str, ours: &[f32], hard: bool| {
        let theirs = golden.get(name);
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let off: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - b).abs()).collect();
        if hard {
            let wrong = off.iter().filter(|o| **o > 0.01).count();
            assert!(wrong * 1000 <= off.len(), "{name}: {wrong} of {} differ", off.len());
        } else {
            assert!(off.iter().all(|o| *o < 1e-4), "{name}: {}", off.iter().copied().fold(0.0, f64::max));
        }
    };
    let inside = |flow: &[f32], _: &[f32], size: Size| {
        let mut out = vec![0.0; size.height * size.width];
        super::super::direction::valid(flow, sampling::Window::whole(size), size, &mut out);
        out
    };
    for (direction, name) in ["01", "10"].into_iter().enumerate() {
        for level in [0, 2] {
            mask_agrees(&format!("valid{level}_{name}"), &of_items(level, direction, &inside), true);
        }
        let squared = of_items(2, direction, &|flow, back, size| RoundTrip::new(flow, back, size).squared);
        agrees("fb_sq2", &squared, &golden.get(&format!("fb_sq2_{name}")), 1e-5);
        let lengths = of_items(2, direction, &|flow, back, size| RoundTrip::new(flow, back, size).lengths);
        agrees("fb_sum_sq2", &lengths, &golden.get(&format!("fb_sum_sq2_{name}")), 1e-5);
    }
    use OcclusionEstimation::{Brox, FbAbs, None, Uflow, Wang, Wang4, Wang4thres, Wangthres};
    let soft = Scores { fb_abs: 1.0, forward_collision: 1.0, backward_zero: 10.0 };
    let weights = nothing().occ_weights;
    for (name, estimation, weights, hard, directions) in [
        ("none", None, weights, true, 1),
        ("wang", Wang, weights, false, 2),
        ("wang4", Wang4, weights, false, 1),
        ("wangthres", Wangthres, weights, true, 1),
        ("wang4thres", Wang4thres, weights, true, 1),
        ("brox", Brox, weights, true, 2),
        ("fb_abs", FbAbs, weights, true, 1),
        ("uflow", Uflow, weights, true, 2),
        ("uflow_soft", Uflow, soft, false, 2),
    ] {
        let options = UnsupervisedOptions { occlusion_estimation: estimation, occ_weights: weights, ..nothing() };
        for (direction, way) in ["01", "10"].into_iter().enumerate().take(directions) {
            let ours = of_items(0, direction, &|flow, back, size| {
                options.occlusion(1).estimate(flow, back, size).iter().map(|o| 1.0 - o).collect()
            });
            mask_agrees(&format!("mask/{name}_{way}"), &ours, hard);
        }
        // Before the first step is over nothing is occluded; of `uflow` all scores are 0, which is far from their thresholds.
        let before = of_items(0, 0, &|flow, back, size| options.occlusion(0).estimate(flow, back, size));
        assert!(before.iter().all(|&o| o < 0.03), "{name}");
    }
    for (factor, name, height, width) in [(4, "range_map_d4_small", 16, 24), (2, "range_map_d2_small", 32, 48)] {
        let ours = of_items(0, 0, &|flow, _, size| {
            let mut range = vec![0.0; height * width];
            sampling::splat(flow, size, factor, &mut range);
            range
        });
        mask_agrees(name, &ours, false);
    }
    let frames = frames(&["l0", "l1"], SIZE);
    let options = UnsupervisedOptions { selfsup_crop_height: CROP, selfsup_crop_width: CROP, ..nothing() };
    let cut = Cut::new(&options, [(0, 0); 2]);
    let every = |values: &[f32], k: usize, scale: f32| values.iter().step_by(k).map(|v| v * scale).collect::<Vec<_>>();
    let seen = every(&cut.frames(&frames[0], SIZE, false).unwrap(), 19, 1.0 / 255.0);
    agrees("cut", &seen, &golden.get("selfsup/image1_crop16@every19"), 1e-5);
    let teacher = Levels::new(&flows(&golden, "original-teacher"), UNIT, SIZE, Grid::HalfPixel).unwrap();
    let level = teacher.level(2);
    let taught: Vec<f32> = (0..2).flat_map(|n| cut.flow(level.item(n), level.size, 0)).collect();
    agrees("teacher", &rows_first(&taught), &golden.get("selfsup/flow2_01_teacher"), 1e-5);

    let flow = &levels.level(0).flow[..4 * PIXELS];
    let unit = frames.each_ref().map(|f| every(f, 1, 1.0 / 255.0));
    let targets = direction::Target::whole(&unit[1], SIZE);
    let view = direction::Direction::new(SIZE, &unit[0], &targets, flow, vec![1.0; 2 * PIXELS]);
    agrees("warped", &every(&view.warped, 19, 1.0), &golden.get("warped_image2_by_01@every19"), 1e-4);
}

/// Their networks' own flows, of `u0` and `u1`.
#[test]
fn the_losses_of_whole_networks() {
    let size = Size { height: 160, width: 192 };
    let judge = |file: &Golden, names: &[&str], options: &UnsupervisedOptions| {
        let frames = frames(names, size);
        let data = batch(&[&file.floats("flow_fw_0"), &file.floats("flow_bw_0")]);
        let flow = Values { shape: [2 * names.len(), 2, 40, 48], data };
        judge(options, size, [&frames[0], &frames[1]], &flow, UNIT).unwrap().terms
    };
    let Some(model) = Golden::open("golden/uflow/google_model.safetensors") else { return };
    let train = Golden::open("golden/uflow/google_train.safetensors").unwrap();
    let options = UnsupervisedOptions { weight_photo: 0.5, weight_census: 1.0, weight_smooth1: 4.0, ..nothing() };
    for (term, value) in judge(&model, &["u0", "u1"], &options) {
        value_agrees(term, value, train.get(&format!("loss/{term}"))[0]);
    }
    let port = Golden::open("golden/uflow/mindspore_model.safetensors").unwrap();
    for (term, value) in judge(&port, &["u0"], &UnsupervisedOptions::mindspore()) {
        let theirs = port.get(&format!("loss_{term}"))[0];
        // The port computes the grey frames of its census in half precision.
        let tolerance = if term == "census" { 2e-3 } else { 1e-4 };
        assert!((value - theirs).abs() <= tolerance * theirs, "{term}: {value} {theirs}");
    }
}
