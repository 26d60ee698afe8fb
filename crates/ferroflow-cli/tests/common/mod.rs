//! What the tests of the program share.
#![allow(dead_code)] // No test file uses everything.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ferroflow::core::{Frame, Size, io};
use tempfile::TempDir;

/// A folder to run in.
pub struct Run {
    dir: TempDir,
}

impl Run {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferroflow"));
        command.current_dir(self.dir.path()).args(args);
        command
    }

    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs, wants success, returns standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs, wants this exit code, returns standard error.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.output(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(!text.contains("panicked"), "{args:?}: {text}");
        text
    }

    /// Whether there is a GPU, of Mesa's driver for processors at least; says so where not.
    pub fn has_gpu(&self) -> bool {
        let report: serde_json::Value = serde_json::from_str(&self.ok(&["doctor", "--json"])).unwrap();
        let found = report["gpus"].as_array().unwrap().iter().any(|gpu| gpu["device"] == "vulkan:0");
        let required = std::env::var_os("FERROFLOW_REQUIRE_GPU").is_some_and(|value| value == "1");
        assert!(found || !required, "there is no GPU, and FERROFLOW_REQUIRE_GPU=1: {report}");
        if !found {
            println!("skipped: there is no Vulkan device");
        }
        found
    }

    pub fn write_frame(&self, name: &str, width: usize, height: usize, shift: usize) {
        write_frame(&self.path(name), width, height, shift);
    }
}

/// Smooth blobs that move right by `shift` pixels.
pub fn write_frame(path: &Path, width: usize, height: usize, shift: usize) {
    let frame = Frame::from_fn(Size { height, width }, |x, y| {
        let (x, y) = (x as f32 - shift as f32, y as f32);
        let wave = (x * 0.31).sin() + (y * 0.27 + 0.05 * x).cos() + (0.11 * (x + 2.0 * y)).sin();
        [(128.0 + 40.0 * wave) as u8, (128.0 - 40.0 * wave) as u8, (100.0 + 30.0 * wave) as u8]
    });
    io::write_frame(path, &frame).unwrap();
}

macro_rules! cli {
    ($name:ident, |$run:ident| $body:block) => {
        #[test]
        fn $name() {
            let $run = crate::common::Run::new();
            $body
        }
    };
}
pub(crate) use cli;

impl Run {
    /// A fresh folder with a copy of a case of the reference data beside the repository; says so and gives `None` where there
    /// is none.
    pub fn case(name: &str) -> Option<Self> {
        let case = ferroflow_testing::shared(&format!("cases/{name}"))?;
        let run = Self::new();
        copy(&case, run.dir.path());
        Some(run)
    }

    /// Names of the files in a folder and below it, sorted.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let root = self.path(folder);
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        found.sort();
        found
    }
}

/// Copies the files of a folder, not the rights: the original may be read-only.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::write(target, fs::read(path).unwrap()).unwrap();
        }
    }
}
