//! `eval` as its users run it: sizes, occlusion, every checkpoint of a folder.

mod common;

use std::fs;

use common::{Run, cli};
use ferroflow::core::{FlowField, Size, io};
use serde_json::Value;

const DATA: &str = "synth:chairs@size=70x100,count=2";

fn json(run: &Run, args: &[&str]) -> Value {
    serde_json::from_str(&run.ok(&[&["eval", DATA, "--json"], args].concat())).unwrap()
}

cli!(a_network_may_see_frames_in_another_size, |run| {
    run.ok(&["weights", "random", "uflow", "-o", "w.safetensors"]);
    let measured = |more: &[&str]| {
        let report = json(&run, &[&["-w", "w.safetensors"], more].concat());
        report["results"][0]["over_images"]["epe"].as_f64().unwrap()
    };
    // UFlow's frames of 70x100 go to 96x128 by themselves.
    let usual = measured(&[]);
    assert_eq!(measured(&["--size", "96x128"]), usual);
    assert_eq!(measured(&["--size", "96x128", "--protocol", "uflow"]), usual);
    assert_ne!(measured(&["--size", "64x64"]), usual);
    let error = run.fails(2, &["eval", DATA, "-w", "w.safetensors", "--size", "70x100"]);
    assert!(error.contains("64x96 or 96x128"), "{error}");
    assert!(run.fails(2, &["eval", DATA, "-m", "dis", "--size", "64x64"]).contains("--size"));
    run.fails(2, &["eval", DATA, "-w", "w.safetensors", "--size", "64x64", "--fit", "pad"]);
});

cli!(occlusion_is_measured_by_the_flows_both_ways, |run| {
    let report = json(&run, &["-m", "dis", "--occlusion", "wang", "--csv", "pairs.csv"]);
    let told = &report["results"][0]["occlusion"];
    let (f1, threshold) = (told["f1"].as_f64().unwrap(), told["threshold"].as_f64().unwrap());
    assert!(f1 > 0.2 && (0.0..1.0).contains(&threshold), "{told}");
    let plain = json(&run, &["-m", "dis"]);
    assert_eq!(
        plain["results"][0]["over_pixels"], report["results"][0]["over_pixels"],
        "the flow that is scored stays the same"
    );
    assert!(plain["results"][0].get("occlusion").is_none());
    let csv = fs::read_to_string(run.path("pairs.csv")).unwrap();
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().ends_with(",occlusion_f1,occlusion_threshold"), "{csv}");
    assert_eq!(lines.clone().count(), 2);
    assert!(lines.all(|line| !line.ends_with(',')), "{csv}");
    let text = run.ok(&["eval", DATA, "-m", "dis", "--occlusion", "fb-abs", "--baseline", "zero"]);
    assert!(text.contains("occlusion: F1 0.") && text.contains("baseline occlusion: F1 0.0000"), "{text}");

    // Data that do not know it.
    run.write_frame("a.png", 64, 64, 0);
    run.write_frame("b.png", 64, 64, 2);
    let flow = FlowField::from_fn(Size::new(64, 64), |_, _| (2.0, 0.0));
    io::write_flow(run.path("f.flo"), &flow).unwrap();
    fs::write(run.path("pairs.tsv"), "image1\timage2\tflow\na.png\tb.png\tf.flo\n").unwrap();
    let error = run.fails(1, &["eval", "pairs:pairs.tsv", "-m", "dis", "--occlusion", "wang"]);
    assert!(error.contains("masks"), "{error}");
    run.fails(2, &["eval", DATA, "-m", "dis", "--occlusion", "none"]);
});
