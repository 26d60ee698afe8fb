//! The scripts of `examples/PROJECT`: those for offline pipelines run as they are; of those for training the recipes are read, none
//! is followed.
#![cfg(unix)]

mod common;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use common::cli;
use ferroflow::train::Recipe;

const PROJECTS: [&str; 5] =
    ["flownet2-mindspore", "uflow-mindspore", "pwcnet-tensorflow", "flownet2-onnx", "lightflow"];

cli!(every_project_has_its_offline_pipeline, |run| {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for project in PROJECTS {
        let out = run.path(project);
        fs::create_dir(&out).unwrap();
        let mut script = Command::new(examples.join(project).join("offline.sh"));
        let done = script.env("FERROFLOW", env!("CARGO_BIN_EXE_ferroflow")).env("OUT", &out).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{project}: {said}{}", String::from_utf8_lossy(&done.stderr));
        assert!(said.contains(&format!("results in {}", out.display())), "{project}: {said}");
        // Weights of flow networks are large.
        fs::remove_dir_all(out).unwrap();
    }
});

/// The command lines that a script gives to the program, by a stand-in that notes them.
fn told(script: &PathBuf) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let (stand_in, notes) = (folder.path().join("ferroflow"), folder.path().join("notes"));
    let text = format!(
        "#!/bin/sh\nfor a in \"$@\"; do printf '%s\\n' \"$a\"; done >> '{0}'\necho >> '{0}'\n",
        notes.display()
    );
    fs::write(&stand_in, text).unwrap();
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    let done = Command::new("bash").arg(script).arg(folder.path()).env("FERROFLOW", &stand_in).status().unwrap();
    assert!(done.success(), "{}", script.display());
    let notes = fs::read_to_string(notes).unwrap();
    notes.split("\n\n").map(|line| line.lines().map(String::from).collect()).collect()
}

#[test]
fn the_training_scripts_name_recipes_and_keys_that_there_are() {
    let examples = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"));
    for project in ["flownet2-mindspore", "lightflow", "pwcnet-tensorflow", "uflow-mindspore"] {
        let script = examples.join(project).join("train.sh");
        let mode = fs::metadata(&script).unwrap().permissions().mode();
        assert!(mode & 0o111 != 0, "{} can be run", script.display());
        let mut recipes = 0;
        for line in told(&script) {
            let [command, recipe, ..] = &line[..] else { continue };
            if command != "train" || recipe.starts_with('-') {
                continue;
            }
            let after = |flag: &str| -> Vec<String> {
                line.windows(2).filter(|two| two[0] == flag).map(|two| two[1].clone()).collect()
            };
            let changes = after("--set");
            let recipe = Recipe::open(recipe, &changes).unwrap_or_else(|e| panic!("{}: {e}", script.display()));
            assert!(recipe.steps <= 100 && recipe.crop.pixels() <= 192 * 192, "{}: a trial", script.display());
            assert_eq!(after("--out").len(), 1);
            recipes += 1;
        }
        assert!(recipes > 0, "{}", script.display());
    }
}
