//! Scenes whose answer is known.

use ferroflow_core::Size;
use ferroflow_net::{PyramidUnit, training::Values};

use super::{super::*, TERMS, batch, nothing, only};
use crate::data::Surround;

const SIZE: Size = Size { height: 32, width: 40 };
const PIXELS: usize = SIZE.height * SIZE.width;
const UNIT: PyramidUnit = PyramidUnit::Pixels(1.0);

/// A square of 10x10 px at (8, 9) moves by (6, 2) over a background that moves by (-1, 0).
const SQUARE: [f32; 2] = [6.0, 2.0];
const GROUND: [f32; 2] = [-1.0, 0.0];

fn in_square(x: f32, y: f32, moved: f32) -> bool {
    let (left, top) = (8.0 + moved * SQUARE[0], 9.0 + moved * SQUARE[1]);
    (left..left + 10.0).contains(&x) && (top..top + 10.0).contains(&y)
}

fn plane(f: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    (0..PIXELS).map(|i| f((i % SIZE.width) as f32, (i / SIZE.width) as f32)).collect()
}

/// Planes of colours, each layer with a texture of its own that moves with it.
fn frame(moved: f32) -> Vec<f32> {
    let colour = |c: f32| {
        plane(move |x, y| {
            let square = in_square(x, y, moved);
            let motion = if square { SQUARE } else { GROUND };
            let (x, y) = (x - moved * motion[0], y - moved * motion[1]);
            let (a, b) = if square { (0.9, 1.7) } else { (0.7, 0.5) };
            128.0 + 60.0 * (a * x + c).sin() + 50.0 * (b * y - a * x * 0.3 + 2.0 * c).cos()
        })
    };
    batch(&[&colour(0.0), &colour(1.0), &colour(2.0)])
}

fn flow(moved: f32, sign: f32) -> Vec<f32> {
    let component = |c: usize| plane(move |x, y| sign * if in_square(x, y, moved) { SQUARE[c] } else { GROUND[c] });
    batch(&[&component(0), &component(1)])
}

/// Background of frame 1 whose target the square covers in frame 2, or that leaves the image.
fn occluded() -> Vec<f32> {
    plane(|x, y| {
        let hidden = in_square(x + GROUND[0], y + GROUND[1], 1.0) || x + GROUND[0] < 0.0;
        f32::from(u8::from(!in_square(x, y, 0.0) && hidden))
    })
}

fn true_flows() -> Values {
    Values { shape: [2, 2, SIZE.height, SIZE.width], data: batch(&[&flow(0.0, 1.0), &flow(1.0, -1.0)]) }
}

fn judge(options: &UnsupervisedOptions, frames: [&[f32]; 2], flow: &Values) -> Terms {
    let truth = occluded();
    Scene::new(options, SIZE, frames).unwrap().occluded(&truth).unwrap().judge(1, flow, UNIT).unwrap()
}

#[test]
fn every_estimate_finds_what_the_square_covers() {
    use OcclusionEstimation::{Brox, FbAbs, Uflow, Wang, Wangthres};
    let flow = true_flows();
    let (forward, backward) = flow.data.split_at(2 * PIXELS);
    for estimation in [Wang, Wangthres, Brox, FbAbs, Uflow] {
        let options = UnsupervisedOptions { occlusion_estimation: estimation, ..nothing() };
        let found = options.occlusion(1).estimate(forward, backward, SIZE);
        let truth = occluded();
        for i in 0..PIXELS {
            // What leaves the image finds no flow back: zero, which is within 1.5 px of home.
            let (x, y) = (i % SIZE.width, i / SIZE.width);
            if x == 0 && matches!(estimation, Brox | FbAbs | Uflow) {
                continue;
            }
            // Blocks of 4x4 blur the edge of what arrives.
            if estimation == Uflow && truth[i] == 1.0 && found[i] < 0.5 {
                let middle = (13..=18).contains(&y) && (17..=23).contains(&x);
                assert!(!middle, "({x}, {y})");
                continue;
            }
            assert_eq!(found[i].round(), truth[i], "{estimation:?} ({x}, {y})");
        }
    }
}

#[test]
fn the_true_flow_explains_what_is_not_occluded() {
    let (first, second) = (frame(0.0), frame(1.0));
    let frames = [&first[..], &second];
    for term in ["photo", "census", "ssim"] {
        let found = |options: UnsupervisedOptions| judge(&only(term, &options), frames, &true_flows()).value;
        let none = found(UnsupervisedOptions { occlusion_estimation: OcclusionEstimation::None, ..nothing() });
        let wang = found(nothing());
        let known = found(UnsupervisedOptions { use_gt_occlusions: true, ..nothing() });
        // Identical colours cost 0.001 each, or 0.01^0.4 for a census; patches and windows at the edge of the square still see it.
        let least = match term {
            "photo" => 3e-3,
            "census" => 0.01f64.powf(0.4),
            _ => 0.0,
        };
        assert!(wang < none, "{term}: {wang} {none}");
        if term == "photo" {
            assert!(
                (wang - least).abs() < 1e-5 && (known - least / 2.0).abs() < 1e-5,
                "{term}: {wang} {known} {least}"
            );
        } else {
            assert!(known < 0.6 * none && wang >= least, "{term}: {known} {wang} {none}");
        }
    }
}

#[test]
fn what_leaves_the_crop_is_looked_up_in_the_whole_frame() {
    // The upper left quarter, which the square leaves to the right.
    let size = Size { height: 20, width: 20 };
    let cut = |planes: &[f32]| -> Vec<f32> {
        let rows = planes.chunks_exact(SIZE.width).enumerate().filter(|(y, _)| y % SIZE.height < size.height);
        rows.flat_map(|(_, row)| &row[..size.width]).copied().collect()
    };
    let (first, second, truth) = (frame(0.0), frame(1.0), true_flows());
    let flow = Values { shape: [2, 2, size.height, size.width], data: cut(&truth.data) };
    let crops = [cut(&first), cut(&second)];
    let surround = [Surround { size: SIZE, frames: [first, second], at: [(0, 0); 2] }];
    let options = |full_size_warp: bool, occlusion_estimation: OcclusionEstimation| UnsupervisedOptions {
        full_size_warp,
        occlusion_estimation,
        ..only("photo", &nothing())
    };
    let judge = |options: &UnsupervisedOptions, flow: &Values| {
        let mut scene = Scene::new(options, size, [&crops[0], &crops[1]]).unwrap();
        if options.full_size_warp {
            scene = scene.within(&surround).unwrap();
        }
        scene.judge(1, flow, UNIT).unwrap()
    };
    // At the end of the square's first row, which goes to column 23 of the second frame.
    let leaving = 10 * size.width + 17;
    let moved = |by: f32| {
        let mut flow = flow.clone();
        flow.data[leaving] += by;
        flow
    };
    for estimation in [OcclusionEstimation::None, OcclusionEstimation::Brox, OcclusionEstimation::FbAbs] {
        let (crop, whole) = (options(false, estimation), options(true, estimation));
        let value = |options: &UnsupervisedOptions, by: f32| judge(options, &moved(by)).value;
        assert_eq!(value(&crop, 0.0), value(&crop, 0.5), "{estimation:?}: it is not seen");
        assert!(value(&whole, 0.5) > value(&whole, 0.0) + 1e-5, "{estimation:?}: it is seen");
        assert_ne!(judge(&whole, &moved(0.5)).gradients[0].data[leaving], 0.0, "{estimation:?}");
    }
}

#[test]
fn nothing_breaks_the_numbers() {
    let (texture, one_colour) = (frame(0.0), vec![77.0; 3 * PIXELS]);
    let still = Values::zeros([2, 2, SIZE.height, SIZE.width]);
    let quarter = Values::zeros([2, 2, SIZE.height / 4, SIZE.width / 4]);
    let mut away = still.clone();
    away.data.fill(1e6);
    use OcclusionEstimation::{Brox, FbAbs, None, Uflow, Wang, Wang4, Wang4thres, Wangthres};
    for estimation in [None, Brox, FbAbs, Wang, Wang4, Wangthres, Wang4thres, Uflow] {
        let options = UnsupervisedOptions {
            occlusion_estimation: estimation,
            stop_gradient_mask: false,
            weight_selfsup: 1.0,
            selfsup_crop_height: 4,
            selfsup_crop_width: 4,
            ..nothing()
        };
        for frames in [[&texture[..], &texture], [&one_colour, &one_colour], [&texture, &one_colour]] {
            for flow in [&still, &quarter, &away] {
                for term in TERMS {
                    let found = judge(&only(term, &options), frames, flow);
                    assert!(found.value.is_finite() && found.value >= 0.0, "{estimation:?} {term}: {}", found.value);
                    assert!(found.gradients[0].data.iter().all(|d| d.is_finite()), "{estimation:?} {term}");
                }
                let cut = Cut::new(&options, [(0, 0); 2]);
                let student = TeacherAndStudent { size: SIZE, teacher: flow, student: flow, unit: UNIT, cut };
                let found = self_supervision(&options, 1, &student).unwrap();
                assert!(found.value.is_finite() && found.gradients[0].data.iter().all(|d| d.is_finite()));
            }
        }
    }
    // No motion between equal frames: nothing to gain.
    for term in ["photo", "ssim", "census"] {
        let found = judge(&only(term, &nothing()), [&texture, &texture], &still);
        assert!(found.gradients[0].data.iter().all(|&d| d == 0.0), "{term}");
    }
    let mut broken = still.clone();
    broken.data[5] = f32::NAN;
    for term in TERMS {
        assert!(judge(&only(term, &nothing()), [&texture, &texture], &broken).value.is_nan(), "{term}");
    }
}

#[test]
fn frames_of_any_size_have_losses() {
    let options = UnsupervisedOptions {
        weight_photo: 1.0,
        weight_ssim: 1.0,
        weight_smooth1: 1.0,
        ..UnsupervisedOptions::google()
    };
    for (height, width) in [(1, 1), (2, 5), (5, 2), (7, 7), (6, 30)] {
        let size = Size { height, width };
        let frames: Vec<f32> = (0..3 * height * width).map(|i| (i * 37 % 256) as f32).collect();
        let flow = Values { shape: [2, 2, height, width], data: vec![0.3; 4 * height * width] };
        let found = super::judge(&options, size, [&frames, &frames], &flow, UNIT).unwrap();
        assert!(found.value.is_finite() && found.gradients[0].data.iter().all(|d| d.is_finite()), "{size}");
    }
}

#[test]
fn the_student_learns_where_only_the_teacher_sees() {
    // Both flows come home everywhere: the teacher is sure, and so is the student, except where its flow leaves its smaller view.
    let size = Size { height: 64, width: 64 };
    let level = 16 * 16;
    let motion = |u: f32| {
        let data = batch(&[&vec![u; level], &vec![0.0; level], &vec![-u; level], &vec![0.0; level]]);
        Values { shape: [2, 2, 16, 16], data }
    };
    let unit = PyramidUnit::LevelPixels { row_first: false };
    let options =
        UnsupervisedOptions { selfsup_crop_height: 16, selfsup_crop_width: 16, ..only("selfsup", &nothing()) };
    let judge = |teacher: &Values, student: &Values| {
        let cut = Cut::new(&options, [(0, 0); 2]);
        self_supervision(&options, 1, &TeacherAndStudent { size, teacher, student, unit, cut }).unwrap()
    };
    // Of what the student sees, 1 px is 2 px of its own.
    let same = judge(&motion(1.0), &motion(2.0));
    let columns = 2.0 / 16.0;
    assert!((same.value - columns * 2.0 * 1e-3).abs() < 1e-5, "{}", same.value);
    let off = judge(&motion(1.0), &motion(2.5));
    assert!(off.value > 0.5 * columns, "{}", off.value);
    let d = &off.gradients[0].data;
    assert!(d[15] > 0.0 && d[7] == 0.0 && d[2 * level] < 0.0 && d[2 * level + 8] == 0.0);
    // Windows that move with the flow see it stand still: 4 px are one of level 2.
    let cut = Cut::new(&options, [(0, 0), (4, 0)]);
    for (frame, flow) in motion(1.0).data.chunks_exact(2 * level).enumerate() {
        assert_eq!(cut.flow(flow, Size { height: 16, width: 16 }, frame), [0.0; 2 * 256]);
    }
    let ramp: Vec<f32> = (0..3 * 64 * 64).map(|i| (i % 64) as f32).collect();
    let seen = [false, true].map(|second| cut.frames(&ramp, size, second).unwrap()[20]);
    assert!((seen[1] - seen[0] - 4.0).abs() < 1e-4, "{seen:?}");
    let narrow = Size { height: 64, width: 32 };
    assert!(matches!(cut.frames(&ramp[..3 * 64 * 32], narrow, false), Err(UnsupervisedError::Cut { .. })));
}
