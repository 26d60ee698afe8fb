//! Scoring and exactness on the small inputs of reported faults, which lie beside the repository or where `FERROFLOW_SHARED`
//! says; each test is named after its folder and skips where that is not.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ferroflow::core::io;

/// The folder of a case.
fn case(name: &str) -> Option<PathBuf> {
    ferroflow_testing::shared(&format!("cases/{name}"))
}

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ferroflow")).current_dir(folder).args(args).output().unwrap()
}

/// Runs, wants success, returns standard output.
fn ok(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs, wants exit code 1, returns both outputs.
fn fails(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
    text
}

#[test]
fn compare_nan_estimate() {
    let Some(folder) = case("compare-nan-estimate") else { return };
    let json: serde_json::Value =
        serde_json::from_str(&ok(&folder, &["compare", "e2.flo", "t.flo", "--json"])).unwrap();
    assert_eq!(json["unanswered"], 362);
    assert!((json["epe"].as_f64().unwrap() - 3.73752).abs() < 1e-4, "{json}");
    let table = ok(&folder, &["compare", "e2.flo", "t.flo"]);
    let counted = |line: &str| line.starts_with("unanswered (pixels)") && line.ends_with(" 362");
    assert!(table.lines().any(counted), "{table}");
    let refused = fails(&folder, &["compare", "e3.flo", "t.flo"]);
    assert!(refused.contains("nothing can be scored") && refused.contains("all 748 pixels"), "{refused}");
}

#[test]
fn things_subset_neighbour() {
    let Some(folder) = case("things-subset-neighbour") else { return };
    let text = ok(&folder, &["data", "check", "things-subset:sub@left", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["pairs"], 3, "0000108 leads to frame 0000109 of another video: {report}");
    assert!(report["notes"].to_string().contains("another video"), "{report}");
}

#[test]
fn things_webp_zero_pairs() {
    let Some(folder) = case("things-webp-zero-pairs") else { return };
    let whole = fails(&folder, &["data", "check", "things:th@left"]);
    assert!(whole.contains("1 of 20151"), "{whole}");
    let json: serde_json::Value =
        serde_json::from_str(&ok(&folder, &["eval", "things:th@left", "-m", "dis", "--json"])).unwrap();
    assert!(json["results"][0]["scored_pixels"].as_u64().unwrap() > 0, "{json}");
    let out = tempfile::tempdir().unwrap();
    let packed = out.path().join("shards");
    for args in [
        &["eval", "things:th@right", "-m", "dis"][..],
        &["data", "check", "things:th@right"],
        &["data", "info", "things:th@right"],
        &["data", "bench", "things:th@right"],
        &["data", "pack", "things:th@right", "-o", packed.to_str().unwrap()],
    ] {
        let refused = fails(&folder, args);
        for part in ["no pairs", "right camera", ".webp", "frames_cleanpass"] {
            assert!(refused.contains(part), "{args:?}: {refused}");
        }
    }
    assert!(!packed.exists(), "nothing was packed");
}

#[test]
fn kitti_clamp() {
    let Some(folder) = case("kitti-clamp") else { return };
    let out = tempfile::tempdir().unwrap();
    let png = out.path().join("g.png");
    let target = png.to_str().unwrap();
    let refused = fails(&folder, &["convert", "g.flo", target]);
    assert!(refused.contains("1 vectors") && refused.contains("x 0, y 0") && refused.contains("--clip"), "{refused}");
    assert!(!png.exists());
    let text = ok(&folder, &["convert", "g.flo", target, "--clip"]);
    assert!(text.contains("1 vectors cut") && text.contains("1 pixels unknown"), "{text}");
    assert_eq!(io::read_flow(&png).unwrap().get(0, 0), (512.0 - 1.0 / 64.0, -512.0));
}
