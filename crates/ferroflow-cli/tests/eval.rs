//! `eval` as its users run it: sizes, occlusion, every checkpoint of a folder.

mod common;

use common::{Run, cli};
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
