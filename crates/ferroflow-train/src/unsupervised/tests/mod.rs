mod golden;
mod scene;
mod slopes;
mod speed;

use ferroflow_core::Size;
use ferroflow_net::{PyramidUnit, training::Values};

use super::*;

/// Google's flags with every weight 0, and no delay of anything.
fn nothing() -> UnsupervisedOptions {
    UnsupervisedOptions {
        weight_census: 0.0,
        weight_smooth2: 0.0,
        weight_selfsup: 0.0,
        selfsup_after_num_steps: 0,
        selfsup_ramp_up_steps: 1,
        ..UnsupervisedOptions::google()
    }
}

/// A term by itself, with weight 1.
fn only(term: &str, options: &UnsupervisedOptions) -> UnsupervisedOptions {
    let mut options = options.clone();
    *match term {
        "photo" => &mut options.weight_photo,
        "ssim" => &mut options.weight_ssim,
        "census" => &mut options.weight_census,
        "smooth1" => &mut options.weight_smooth1,
        "smooth2" => &mut options.weight_smooth2,
        _ => &mut options.weight_selfsup,
    } = 1.0;
    options
}

const TERMS: [&str; 5] = ["photo", "ssim", "census", "smooth1", "smooth2"];

/// What the frames say about flow both ways, in step 1.
fn judge(
    options: &UnsupervisedOptions,
    size: Size,
    frames: [&[f32]; 2],
    flow: &Values,
    unit: PyramidUnit,
) -> Result<Terms, UnsupervisedError> {
    Scene::new(options, size, frames)?.judge(1, flow, unit)
}

/// Batches of planes, one after the other.
fn batch(parts: &[&[f32]]) -> Vec<f32> {
    parts.concat()
}

#[test]
fn options_are_read_and_refused() {
    let text = "weight_census = 2.0\nocclusion_estimation = 'brox'\ndistance_census = 'ddflow'\n[occ_after_num_steps]\nbrox = 7";
    let read: UnsupervisedOptions = toml::from_str(text).unwrap();
    let expected = UnsupervisedOptions {
        weight_census: 2.0,
        occlusion_estimation: OcclusionEstimation::Brox,
        occ_after_num_steps: OcclusionSteps { brox: 7, ..OcclusionSteps::default() },
        ..UnsupervisedOptions::google()
    };
    assert_eq!(read, expected);
    assert_eq!(toml::from_str::<UnsupervisedOptions>(&toml::to_string(&expected).unwrap()).unwrap(), expected);
    assert!(toml::from_str::<UnsupervisedOptions>("weight_sensus = 1").is_err());
    assert!(UnsupervisedOptions::google().check().is_ok() && UnsupervisedOptions::mindspore().check().is_ok());
    let wrong: [fn(&mut UnsupervisedOptions); 7] = [
        |o| o.weight_photo = -1.0,
        |o| o.weight_census = f64::NAN,
        |o| o.census_patch = 4,
        |o| o.smoothness_at_level = 3,
        |o| o.selfsup_crop_height = 18,
        |o| o.fb_sigma_teacher = 0.0,
        |o| o.epoch_length = 0,
    ];
    for break_it in wrong {
        let mut options = UnsupervisedOptions::google();
        break_it(&mut options);
        assert!(options.check().is_err(), "{options:?}");
    }
}

#[test]
fn self_supervision_rises_and_begins_anew() {
    let options = UnsupervisedOptions {
        weight_selfsup: 0.5,
        selfsup_after_num_steps: 10,
        selfsup_ramp_up_steps: 4,
        selfsup_step_cycle: 20,
        ..UnsupervisedOptions::google()
    };
    let weights = [0, 9, 10, 11, 13, 19, 20, 29, 30].map(|step| options.self_supervision_weight(step));
    assert_eq!(weights, [0.0, 0.0, 0.125, 0.25, 0.5, 0.5, 0.0, 0.0, 0.125]);
    assert_eq!([9, 10, 25].map(|step| options.self_supervises(step)), [false, true, false]);
    // As long as an epoch lasts, nothing moves.
    let options = UnsupervisedOptions { whole_epochs: true, epoch_length: 3, ..options };
    let weights = [9, 11, 12, 14].map(|step| options.self_supervision_weight(step));
    assert_eq!(weights, [0.0, 0.0, 0.375, 0.375]);
    let mindspore = UnsupervisedOptions::mindspore();
    assert_eq!(mindspore.self_supervision_weight(499_999), 0.0);
    assert!(mindspore.self_supervision_weight(500_999) > 0.0);
    assert!((mindspore.self_supervision_weight(700_000) - 0.6).abs() < 1e-12);
}

#[test]
fn what_does_not_fit_is_refused() {
    use crate::data::Surround;
    let size = Size { height: 8, width: 8 };
    let frames = vec![0.0; 3 * 64];
    let flow = Values::zeros;
    let judge = |options: &UnsupervisedOptions, flow: &Values, frames: &[f32]| {
        judge(options, size, [&frames[..frames.len().min(192)], frames], flow, PyramidUnit::Pixels(1.0))
    };
    let options = UnsupervisedOptions::google();
    assert!(judge(&options, &flow([2, 2, 8, 8]), &frames).is_ok());
    assert!(matches!(judge(&options, &flow([2, 2, 3, 8]), &frames), Err(UnsupervisedError::Flow { .. })));
    assert!(matches!(judge(&options, &flow([2, 2, 0, 8]), &frames), Err(UnsupervisedError::Flow { .. })));
    assert!(matches!(judge(&options, &flow([3, 2, 8, 8]), &frames), Err(UnsupervisedError::Batch { .. })));
    assert!(matches!(judge(&options, &flow([2, 2, 8, 8]), &frames[1..]), Err(UnsupervisedError::Length { .. })));
    let truth = UnsupervisedOptions { use_gt_occlusions: true, ..options };
    assert!(matches!(judge(&truth, &flow([2, 2, 8, 8]), &frames), Err(UnsupervisedError::Option { .. })));
    let beyond = UnsupervisedOptions { full_size_warp: true, ..UnsupervisedOptions::google() };
    assert!(matches!(judge(&beyond, &flow([2, 2, 8, 8]), &frames), Err(UnsupervisedError::Option { .. })));
    let within = |size: Size, length: usize, at: (usize, usize)| {
        let surround = Surround { size, frames: [vec![0.0; length], vec![0.0; length]], at: [(0, 0), at] };
        Scene::new(&beyond, Size::new(8, 8), [&frames, &frames]).unwrap().within(&[surround]).map(|_| ())
    };
    let larger = Size::new(10, 12);
    assert_eq!(within(larger, 360, (4, 2)), Ok(()));
    assert!(matches!(within(larger, 360, (5, 2)), Err(UnsupervisedError::Surround { .. })));
    assert!(matches!(within(larger, 359, (4, 2)), Err(UnsupervisedError::Length { .. })));
}
