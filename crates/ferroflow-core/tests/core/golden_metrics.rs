//! The metrics against figures computed elsewhere, in double precision.

use ferroflow_core::{
    FlowField, Mask, Size, io,
    metrics::{Average, Evaluation, Metrics, Tally, Truth},
};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::shared;

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    file.tensor(name).unwrap().data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// Item `n` of a `[n, 2, height, width]` tensor.
fn flow(values: &[f32], n: usize, width: usize, height: usize) -> FlowField {
    let pixels = width * height;
    let plane = |c: usize| values[(2 * n + c) * pixels..][..pixels].to_vec();
    FlowField::new(Size { height, width }, plane(0), plane(1)).unwrap()
}

fn mask(bytes: &[u8], n: usize, width: usize, height: usize) -> Mask {
    let pixels = width * height;
    Mask::new(Size { height, width }, bytes[n * pixels..][..pixels].iter().map(|&b| b != 0).collect()).unwrap()
}

fn close(name: &str, found: Option<f64>, expected: &Value, scale: f64) {
    match expected.as_f64() {
        None => assert_eq!(found, None, "{name}"),
        Some(value) => {
            let (found, value) = (found.unwrap_or_else(|| panic!("{name} is absent")), value * scale);
            assert!((found - value).abs() <= 1e-6 * value.abs().max(1e-9), "{name}: {found} is not {value}");
        }
    }
}

fn check(case: &str, found: &Metrics, expected: &Value) {
    let names = [
        ("epe", found.epe, 1.0),
        ("px1", found.px1, 100.0),
        ("px3", found.px3, 100.0),
        ("px5", found.px5, 100.0),
        ("fl_all", found.fl, 100.0),
        ("aae_degrees", found.aae, 1.0),
        ("wauc", found.wauc, 1.0),
        ("s0_10", found.s0_10, 1.0),
        ("s10_40", found.s10_40, 1.0),
        ("s40_plus", found.s40_plus, 1.0),
        ("matched_epe", found.matched, 1.0),
        ("unmatched_epe", found.unmatched, 1.0),
    ];
    let mut compared = 0;
    for (name, found, scale) in names {
        if let Some(expected) = expected.get(name) {
            close(&format!("{case}/{name}"), found, expected, scale);
            compared += 1;
        }
    }
    assert!(compared >= 7, "{case}: {compared} figures compared");
}

#[test]
fn every_golden_figure_to_a_millionth() {
    let (Some(inputs), Some(expected)) =
        (shared("golden/metrics/inputs.safetensors"), shared("golden/metrics/expected.json"))
    else {
        return;
    };
    let bytes = std::fs::read(inputs).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let expected: Value = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
    let values = &expected["values"];

    let tiny = flow(&floats(&file, "tiny/gt"), 0, 4, 3);
    let valid = mask(file.tensor("tiny/valid").unwrap().data(), 0, 4, 3);
    let tally = Tally::of(&flow(&floats(&file, "tiny/pred"), 0, 4, 3), &Truth::new(&tiny).only(&valid)).unwrap();
    assert_eq!(tally.scored(), values["tiny"]["count"].as_u64().unwrap());
    check("tiny", &Metrics::of(&tally), &values["tiny"]);

    let (truth, estimate) = (floats(&file, "pair/gt"), floats(&file, "pair/pred"));
    let mut all = Evaluation::default();
    for n in 0..2 {
        let mask = |name: &str| mask(file.tensor(name).unwrap().data(), n, 32, 24);
        let (valid, occluded) = (mask("pair/valid"), mask("pair/occluded"));
        // Unknown by the field's own validity here, by a separate mask above: both must count.
        let truth = flow(&truth, n, 32, 24).with_validity(valid).unwrap();
        let tally = Tally::of(&flow(&estimate, n, 32, 24), &Truth::new(&truth).occluded(&occluded)).unwrap();
        let case = format!("pair_image{n}");
        assert_eq!(tally.scored(), values[&case]["count"].as_u64().unwrap());
        check(&case, &Metrics::of(&tally), &values[&case]);
        all.add(tally);
    }
    check("pair_all_pixels", &all.average(Average::Pixels), &values["pair_all_pixels"]);
    check("pair_mean_over_images", &all.average(Average::Images), &values["pair_mean_over_images"]);
}

#[test]
fn published_estimates_score_as_published() {
    let Some(data) = shared("data/pairs.tsv").map(|t| t.parent().unwrap().to_path_buf()) else { return };
    let truth = io::read_flow(data.join("kitti2012/flow_gt/000045_10.png")).unwrap();
    for (file, epe, fl, px1) in [
        ("golden/lucas-kanade-kitti2012/LKflow_000045_10.png", 10.62708, 78.56034, 93.51768),
        ("golden/flownet2-kitti2012/flownet2_CSS_000045_10.flo", 0.9379, 4.5979, 19.4422),
    ] {
        let tally = Tally::of(&io::read_flow(data.join(file)).unwrap(), &Truth::new(&truth)).unwrap();
        assert_eq!((tally.scored(), tally.unanswered), (104_330, 0));
        let found = Metrics::of(&tally);
        // Half a unit of the last published digit.
        let digits = if file.ends_with("png") { 5e-6 } else { 5e-5 };
        for (found, published) in [(found.epe, epe), (found.fl, fl), (found.px1, px1)] {
            assert!((found.unwrap() - published).abs() <= digits, "{file}: {found:?} is not {published}");
        }
    }
}
