//! Gradients against differences of values.

use ferroflow_core::Size;
use ferroflow_net::{PyramidUnit, training::Values};

use super::{super::*, judge, nothing, only};
use crate::{data::Surround, loss::Truth};

const SIZE: Size = Size { height: 12, width: 16 };
const PIXELS: usize = SIZE.height * SIZE.width;

/// Numbers of -1 to 1 without pattern.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    ferroflow_net::weights::formula::Stream::new("slopes", &seed.to_string()).tensor(count, 1.0, 0.0)
}

/// Two pairs of smooth colours.
fn frames(phase: f32) -> Vec<f32> {
    (0..2 * 3 * PIXELS)
        .map(|i| {
            let (plane, x, y) = ((i / PIXELS) as f32, (i % SIZE.width) as f32, (i / SIZE.width % SIZE.height) as f32);
            128.0
                + 50.0 * (0.5 * x + phase + plane).sin()
                + 40.0 * (0.4 * y + 0.2 * x - phase * 2.0 + 3.0 * plane).cos()
        })
        .collect()
}

/// Some of it leaves the image; none of it goes to whole pixels or halves, where samples, or counts in blocks, have a kink.
fn flow() -> Vec<f32> {
    let whole = noise(8 * PIXELS, 1).into_iter().map(|v| (2.3 * v).round());
    whole.zip(noise(8 * PIXELS, 2)).map(|(whole, v)| whole + 0.25 + 0.2 * v).collect()
}

/// The slope of `f` in every seventh value.
#[track_caller]
fn check(what: &str, at: &[f32], gradient: &[f32], step: f32, tolerance: f64, f: impl Fn(&[f32]) -> f64) {
    let largest = gradient.iter().fold(0.0f64, |m, d| m.max(f64::from(d.abs())));
    assert!(largest > 0.0, "{what} has no gradient");
    for i in (0..at.len()).step_by(7) {
        let moved = |by: f32| {
            let mut at = at.to_vec();
            at[i] += by;
            f(&at)
        };
        let slope = (moved(step) - moved(-step)) / f64::from(2.0 * step);
        let ours = f64::from(gradient[i]);
        assert!((slope - ours).abs() <= tolerance * largest, "{what} {i}: {ours}, by differences {slope} of {largest}");
    }
}

#[test]
fn where_flow_leaves_the_crop() {
    let (first, second, flow) = (frames(0.0), frames(0.9), flow());
    // Each pair's frames are a window of the same larger pictures.
    let larger = Size { height: SIZE.height + 9, width: SIZE.width + 7 };
    let surrounds: Vec<Surround> = [[(3, 4), (3, 4)], [(0, 9), (2, 8)]]
        .into_iter()
        .enumerate()
        .map(|(n, at)| {
            let picture = |seed| noise(3 * larger.pixels(), seed).iter().map(|v| 127.0 + 120.0 * v).collect();
            Surround { size: larger, frames: [picture(20 + n as u64), picture(30 + n as u64)], at }
        })
        .collect();
    use OcclusionEstimation::{Brox, Uflow, Wang};
    let soft = Scores { fb_abs: 0.5, forward_collision: 1.0, backward_zero: 3.0 };
    let base = UnsupervisedOptions { full_size_warp: true, occ_weights: soft, stop_gradient_mask: false, ..nothing() };
    // A census does not count its own pixels anew (Google's normaliser is held), so its mask must be one without slopes.
    for (term, estimation) in [("photo", Wang), ("photo", Uflow), ("ssim", Wang), ("census", Brox)] {
        let options = UnsupervisedOptions { occlusion_estimation: estimation, census_patch: 3, ..only(term, &base) };
        let judge = |flow: &[f32]| {
            let flow = Values { shape: [4, 2, SIZE.height, SIZE.width], data: flow.to_vec() };
            let scene = Scene::new(&options, SIZE, [&first, &second]).unwrap().within(&surrounds).unwrap();
            scene.judge(1, &flow, PyramidUnit::Pixels(1.0)).unwrap()
        };
        let gradient = judge(&flow).gradients.remove(0).data;
        check(&format!("{term} {estimation:?}"), &flow, &gradient, 5e-4, 2e-2, |flow| judge(flow).value);
    }
}

#[test]
fn of_every_term_and_mask() {
    let (first, second, flow) = (frames(0.0), frames(0.9), flow());
    let judge = |options: &UnsupervisedOptions, flow: &[f32]| {
        let flow = Values { shape: [4, 2, SIZE.height, SIZE.width], data: flow.to_vec() };
        judge(options, SIZE, [&first, &second], &flow, PyramidUnit::Pixels(1.0)).unwrap()
    };
    use OcclusionEstimation::{Brox, FbAbs, Uflow, Wang, Wang4, Wang4thres, Wangthres};
    let soft = Scores { fb_abs: 0.5, forward_collision: 1.0, backward_zero: 3.0 };
    let base = UnsupervisedOptions { smoothness_edge_constant: 5.0, occ_weights: soft, ..nothing() };
    for (term, tolerance) in [("photo", 1e-2), ("ssim", 2e-2), ("census", 1e-2)] {
        for distance in [Distance::RobustL1, Distance::L1, Distance::AbsRobust] {
            let options = UnsupervisedOptions {
                distance_photo: distance,
                distance_census: distance,
                occlusion_estimation: OcclusionEstimation::None,
                census_patch: 5,
                ..only(term, &base)
            };
            let gradient = judge(&options, &flow).gradients.remove(0).data;
            check(&format!("{term} {distance:?}"), &flow, &gradient, 5e-4, tolerance, |f| judge(&options, f).value);
        }
        for estimation in [Wang, Wang4, Uflow, Brox, FbAbs, Wangthres, Wang4thres] {
            let options = UnsupervisedOptions {
                occlusion_estimation: estimation,
                stop_gradient_mask: false,
                ..only(term, &base)
            };
            let gradient = judge(&options, &flow).gradients.remove(0).data;
            // Thresholds jump: their masks are held, as their gradient has it.
            if matches!(estimation, Wang | Wang4 | Uflow) {
                let what = format!("{term} {estimation:?}");
                // A census loss counts the mask as constant where it divides by it.
                if term != "census" {
                    check(&what, &flow, &gradient, 5e-4, 3e-2, |f| judge(&options, f).value);
                }
            } else {
                let stopped = UnsupervisedOptions { stop_gradient_mask: true, ..options };
                assert_eq!(gradient, judge(&stopped, &flow).gradients[0].data, "{term} {estimation:?}");
            }
        }
    }
}

#[test]
fn of_the_mask_of_a_census() {
    // Its mean divides by the mask as if that were constant, so slopes are those of the sum.
    let (first, second, flow) = (frames(0.0), frames(0.9), flow());
    let size = SIZE;
    let unit = |frames: &[f32]| frames.iter().map(|v| v / 255.0).collect::<Vec<f32>>();
    let (first, second) = (unit(&first), unit(&second));
    let mask: Vec<f32> = noise(2 * PIXELS, 7).iter().map(|v| 0.5 + 0.4 * v).collect();
    let run = |mask: &[f32]| {
        let targets = direction::Target::whole(&second, size);
        let view = direction::Direction::new(size, &first, &targets, &flow[..4 * PIXELS], mask.to_vec());
        let mut slopes = view.slopes(true);
        let value = census::census(&view, 5, Distance::AbsRobust, 1.0, &mut slopes);
        let inner = |i: usize| {
            (2..SIZE.width - 2).contains(&(i % SIZE.width))
                && (2..SIZE.height - 2).contains(&(i / SIZE.width % SIZE.height))
        };
        let counted: f64 = (0..mask.len()).filter(|i| inner(*i)).map(|i| f64::from(mask[i])).sum();
        (value, counted + 1e-6 * mask.len() as f64, slopes.mask)
    };
    let (_, counted, gradient) = run(&mask);
    check("census mask", &mask, &gradient, 1e-2, 1e-3, |mask| {
        let (value, now, _) = run(mask);
        value * now / counted
    });
}

#[test]
fn of_smoothness_at_every_level_of_every_network() {
    let (first, second) = (frames(0.0), frames(0.9));
    for (stride, unit) in [
        (1, PyramidUnit::Pixels(1.0)),
        (2, PyramidUnit::Pixels(20.0)),
        (4, PyramidUnit::LevelPixels { row_first: true }),
        (4, PyramidUnit::LevelPixels { row_first: false }),
    ] {
        let shape = [4, 2, SIZE.height / stride, SIZE.width / stride];
        // Large, for the cost of a difference of 0 has a sharp bend.
        let flow: Vec<f32> = noise(shape.iter().product(), 3).iter().map(|v| 10.0 * v).collect();
        for (term, grid) in [("smooth1", ResizeGrid::HalfPixel), ("smooth2", ResizeGrid::Asymmetric)] {
            for at in 0..3 {
                for weighting in [EdgeWeighting::Exponential, EdgeWeighting::Gaussian] {
                    let options = UnsupervisedOptions {
                        smoothness_at_level: at,
                        smoothness_edge_weighting: weighting,
                        smoothness_edge_constant: 2.0,
                        resize_grid: grid,
                        ..only(term, &nothing())
                    };
                    let judge = |flow: &[f32]| {
                        judge(&options, SIZE, [&first, &second], &Values { shape, data: flow.to_vec() }, unit).unwrap()
                    };
                    let found = judge(&flow);
                    let what = format!("{term} {at} 1/{stride}");
                    let gradient = &found.gradients[0].data;
                    if SIZE.height >> at < 3 || gradient.iter().all(|d| *d == 0.0) {
                        panic!("{what}: nothing to compare");
                    }
                    check(&what, &flow, gradient, 2e-3, 2e-2, |flow| judge(flow).value);
                }
            }
        }
    }
}

#[test]
fn of_self_supervision_and_supervision() {
    let size = Size { height: 48, width: 64 };
    let shape = [4, 2, 12, 16];
    let (teacher, student) = (noise(4 * 2 * 192, 4), noise(4 * 2 * 192, 5));
    let unit = PyramidUnit::LevelPixels { row_first: true };
    let teacher = Values { shape, data: teacher };
    for (mask, resize) in [
        (SelfSupervisionMask::Gaussian, true),
        (SelfSupervisionMask::Ddflow, true),
        (SelfSupervisionMask::Advection, true),
        (SelfSupervisionMask::Gaussian, false),
    ] {
        let options = UnsupervisedOptions {
            selfsup_mask: mask,
            fb_sigma_teacher: 0.3,
            fb_sigma_student: 0.05,
            selfsup_crop_height: 8,
            selfsup_crop_width: 8,
            resize_selfsup: resize,
            ..only("selfsup", &nothing())
        };
        let cut = Cut::new(&options, [(4, -4), (-8, 0)]);
        let seen = cut.size(size);
        let shape = [4, 2, seen.height / 4, seen.width / 4];
        let student = Values { shape, data: student[..shape.iter().product()].to_vec() };
        let judge = |student: &Values| {
            let found = TeacherAndStudent { size, teacher: &teacher, student, unit, cut };
            self_supervision(&options, 1, &found).unwrap()
        };
        // The mask depends on the student's flow as well, but is no reason to change it; so slopes are no differences, but lead down.
        let found = judge(&student);
        assert_eq!(found.gradients[0].shape, shape);
        let moved = |by: f32| {
            let mut data = student.data.clone();
            let d = &found.gradients[0].data;
            let largest = d.iter().fold(0.0f32, |m, d| m.max(d.abs()));
            data.iter_mut().zip(d).for_each(|(v, d)| *v -= by * d / largest);
            judge(&Values { shape, data }).value
        };
        assert!(found.value > 0.0 && moved(0.01) < found.value, "{mask:?}");
    }

    let known: Vec<bool> = (0..2 * 192 * 16).map(|i| i % 5 != 0).collect();
    for (height, width) in [(48, 64), (60, 50)] {
        let flow = Values { shape: [2, 2, height, width], data: noise(4 * height * width, 6) };
        let truth = Truth::new(flow, known[..2 * height * width].to_vec());
        for pairs in [2, 4] {
            let shape = [pairs, 2, 12, 16];
            let data = &teacher.data[..shape.iter().product()];
            let judge = |flow: &[f32]| {
                let flows = [Values { shape, data: flow.to_vec() }];
                supervised(&nothing(), 2.0, &flows, unit, size, &truth).unwrap()
            };
            let gradient = judge(data).gradients.remove(0).data;
            check("supervision", data, &gradient, 2e-3, 2e-2, |flow| judge(flow).value);
        }
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let size = Size { height: 40, width: 52 };
    let pixels = size.height * size.width;
    let frames =
        [noise(3 * pixels, 1), noise(3 * pixels, 2)].map(|f| f.iter().map(|v| 100.0 + 90.0 * v).collect::<Vec<_>>());
    let flow: Vec<f32> = noise(4 * pixels, 3).iter().map(|v| 3.0 * v).collect();
    let flow = Values { shape: [2, 2, size.height, size.width], data: flow };
    let options = UnsupervisedOptions {
        weight_photo: 1.0,
        weight_ssim: 1.0,
        weight_smooth1: 1.0,
        occlusion_estimation: OcclusionEstimation::Uflow,
        occ_weights: Scores { fb_abs: 1.0, forward_collision: 1.0, backward_zero: 1.0 },
        stop_gradient_mask: false,
        ..UnsupervisedOptions::google()
    };
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| judge(&options, size, [&frames[0], &frames[1]], &flow, PyramidUnit::Pixels(1.0)).unwrap())
    };
    assert_eq!(with(1), with(3));
}
