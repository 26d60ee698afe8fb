//! The scripts of `examples/PROJECT` run as they are.
#![cfg(unix)]

mod common;

use std::{path::Path, process::Command};

use common::cli;

const PROJECTS: [&str; 5] =
    ["flownet2-mindspore", "uflow-mindspore", "pwcnet-tensorflow", "flownet2-onnx", "lightflow"];

cli!(every_project_has_its_offline_pipeline, |run| {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for project in PROJECTS {
        let out = run.path(project);
        std::fs::create_dir(&out).unwrap();
        let mut script = Command::new(examples.join(project).join("offline.sh"));
        let done = script.env("FERROFLOW", env!("CARGO_BIN_EXE_ferroflow")).env("OUT", &out).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{project}: {said}{}", String::from_utf8_lossy(&done.stderr));
        assert!(said.contains(&format!("results in {}", out.display())), "{project}: {said}");
        // Weights of flow networks are large.
        std::fs::remove_dir_all(out).unwrap();
    }
});
