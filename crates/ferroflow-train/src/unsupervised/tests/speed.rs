//! How long a step's losses take: `cargo test --release -p ferroflow-train -- --ignored --nocapture milliseconds`.

use std::time::Instant;

use ferroflow_core::Size;
use ferroflow_net::{PyramidUnit, training::Values, weights::formula::image_pair};

use super::{super::*, TERMS, nothing, only};

#[test]
#[ignore = "measures time"]
fn milliseconds_of_a_step_of_384x512() {
    let size = Size { height: 384, width: 512 };
    let pair = image_pair("speed", "pair", size.height, size.width);
    let [first, second] =
        [&pair.first, &pair.second].map(|frame| frame.iter().map(|&v| f32::from(v)).collect::<Vec<_>>());
    let (h, w) = (size.height / 4, size.width / 4);
    let quarter: Vec<f32> = (0..2 * 2 * h * w)
        .map(|i| {
            let (plane, y, x) = (i / (h * w), i / w % h, i % w);
            pair.flow[(plane % 2 * size.height + 4 * y) * size.width + 4 * x] * if plane < 2 { 0.25 } else { -0.25 }
        })
        .collect();
    let flow = Values { shape: [2, 2, h, w], data: quarter };
    let unit = PyramidUnit::LevelPixels { row_first: false };
    let report = |name: &str, run: &dyn Fn()| {
        run();
        let mut times: Vec<f64> = (0..9)
            .map(|_| {
                let start = Instant::now();
                run();
                1e3 * start.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        eprintln!("{name:24} {:7.2} ms ({:.2} to {:.2})", times[4], times[0], times[8]);
    };
    let judge = |options: &UnsupervisedOptions| {
        super::judge(options, size, [&first, &second], &flow, unit).unwrap();
    };

    for term in TERMS {
        let options = UnsupervisedOptions { occlusion_estimation: OcclusionEstimation::None, ..only(term, &nothing()) };
        report(term, &|| judge(&options));
    }
    use OcclusionEstimation::{Brox, Uflow, Wang, Wang4};
    for estimation in [OcclusionEstimation::None, Wang, Wang4, Brox, Uflow] {
        for stop_gradient_mask in [true, false] {
            let options = UnsupervisedOptions {
                weight_photo: 1e-6,
                occlusion_estimation: estimation,
                stop_gradient_mask,
                ..nothing()
            };
            report(&format!("photo {estimation:?} {}", if stop_gradient_mask { "" } else { "mask" }), &|| {
                judge(&options)
            });
        }
    }
    let options = only("selfsup", &nothing());
    let cut = Cut::new(&options, [(0, 0); 2]);
    let found = TeacherAndStudent { size, teacher: &flow, student: &flow, unit, cut };
    report("selfsup", &|| drop(self_supervision(&options, 1, &found).unwrap()));
    report("cut frames", &|| {
        drop([&first, &second].map(|frames| cut.frames(frames, size, false).unwrap()));
    });
    let google = UnsupervisedOptions::google();
    report("google's defaults", &|| judge(&google));
    let all = UnsupervisedOptions { weight_photo: 1.0, weight_ssim: 1.0, weight_smooth1: 1.0, ..google };
    report("all terms", &|| judge(&all));
}
