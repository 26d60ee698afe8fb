//! Training by the processes of `mpirun`: `cargo test --release --features ferroflow-cli/mpi -p ferroflow-cli --test ranks`.
#![cfg(feature = "mpi")]

mod common;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Run, cli};
use serde_json::Value;

const LIGHTFLOW: &str = r#"
model = "lightflow-0.5"
data = "synth:chairs@size=72x72,count=20"
validate = "synth:chairs@seed=2,size=64x64,count=2"
steps = 6
batch = 6
crop = "64x64"
lr = 1e-4
checkpoint_every = 2
log_every = 1
workers = 1
loss = "lightflow-l1"
augment = "lightflow"
"#;

const PWCNET: &str = r#"
model = "pwcnet-sm"
data = "synth:chairs@size=72x72,count=20"
steps = 6
batch = 6
accumulate = 2
crop = "64x64"
lr = 1e-4
checkpoint_every = 2
log_every = 1
workers = 1
loss = "tfoptflow-robust"
"#;

/// `mpirun -n RANKS ferroflow ARGS`, for any user and any number of processors; `None`, said aloud, where there is no Open MPI.
fn mpirun(run: &Run, ranks: usize, args: &[&str]) -> Option<Command> {
    let version = Command::new("mpirun").arg("--version").output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("Open MPI")) {
        println!("skipped: no mpirun of Open MPI");
        return None;
    }
    let mut command = Command::new("mpirun");
    command.current_dir(run.path("")).stdin(Stdio::null());
    command
        .args(["--allow-run-as-root", "--oversubscribe", "-n", &ranks.to_string(), env!("CARGO_BIN_EXE_ferroflow")])
        .args(args);
    Some(command)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Loss of every step in the log.
fn losses(root: &Path) -> Vec<f64> {
    let text = fs::read_to_string(root.join("log.jsonl")).unwrap();
    text.lines().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64()).collect()
}

fn assert_close(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().zip(theirs).all(|(a, b)| (a / b - 1.0).abs() < 1e-3), "{ours:?} for {theirs:?}");
}

cli!(ranks_have_the_losses_of_one_process, |run| {
    for (name, recipe) in [("lightflow", LIGHTFLOW), ("pwcnet", PWCNET)] {
        let file = format!("{name}.toml");
        fs::write(run.path(&file), recipe).unwrap();
        let one = format!("{name}-1");
        run.ok(&["train", &file, "--out", &one]);
        for ranks in [2, 3] {
            let out = format!("{name}-{ranks}");
            let Some(mut command) = mpirun(&run, ranks, &["train", &file, "--out", &out, "--json"]) else { return };
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", told(&output));
            // Only one rank speaks.
            let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((outcome["step"].as_u64(), outcome["finished"].as_bool()), (Some(6), Some(true)));
            assert_eq!(told(&output).matches("values to train").count(), 1, "{}", told(&output));
            assert_close(&losses(&run.path(&out)), &losses(&run.path(&one)));
        }
        // Bit for bit again.
        let again = format!("{name}-again");
        assert!(mpirun(&run, 3, &["train", &file, "--out", &again]).unwrap().status().unwrap().success());
        let last = |out: &str| fs::read(run.path(out).join("weights/last.safetensors")).unwrap();
        assert!(last(&again) == last(&format!("{name}-3")));
        // Gone on with as another number of ranks.
        let parts = format!("{name}-parts");
        assert!(
            mpirun(&run, 2, &["train", &file, "--out", &parts, "--set", "steps=4"])
                .unwrap()
                .status()
                .unwrap()
                .success()
        );
        assert!(
            mpirun(&run, 3, &["train", "--resume", &parts, "--set", "steps=6"]).unwrap().status().unwrap().success()
        );
        assert_close(&losses(&run.path(&parts)), &losses(&run.path(&one)));
    }
});

/// The processes that a process has started.
fn children(of: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let text: String = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok()).collect();
    text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Starts a long run, and waits for its first checkpoint.
fn long_run(run: &Run, ranks: usize) -> Option<Child> {
    fs::write(run.path("long.toml"), LIGHTFLOW).unwrap();
    let args = [
        "train",
        "long.toml",
        "--out",
        "run",
        "--set",
        "steps=100000",
        "--set",
        "checkpoint_every=1",
        "--set",
        "validate=",
    ];
    let child = mpirun(run, ranks, &args)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !run
        .path("run/checkpoints")
        .read_dir()
        .is_ok_and(|entries| entries.flatten().any(|e| !hidden(&e.file_name())))
    {
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint");
        thread::sleep(Duration::from_millis(50));
    }
    Some(child)
}

fn hidden(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with('.')
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap().success());
}

/// Waits for the end, not for ever.
fn end(child: Child) -> Output {
    let (id, started) = (child.id(), Instant::now());
    let waiting = thread::spawn(move || child.wait_with_output().unwrap());
    while !waiting.is_finished() {
        if started.elapsed() > Duration::from_secs(60) {
            children(id).into_iter().chain([id]).for_each(|process| signal(process, "KILL"));
            panic!("the ranks go on");
        }
        thread::sleep(Duration::from_millis(50));
    }
    waiting.join().unwrap()
}

cli!(a_rank_that_dies_ends_the_run_and_the_last_checkpoint_is_whole, |run| {
    let Some(child) = long_run(&run, 3) else { return };
    let ranks = children(child.id());
    assert_eq!(ranks.len(), 3);
    signal(ranks[1], "KILL");
    let output = end(child);
    assert!(!output.status.success());
    assert!(told(&output).contains("signal 9"), "{}", told(&output));
    let done = losses(&run.path("run")).len() as u64;
    let steps = format!("steps={}", done + 2);
    let outcome: Value =
        serde_json::from_str(&run.ok(&["train", "--resume", "run", "--set", &steps, "--json"])).unwrap();
    assert_eq!(outcome["step"].as_u64(), Some(done + 2));
    assert_eq!(losses(&run.path("run")).len() as u64, done + 2);
});

cli!(a_signal_to_one_rank_or_to_mpirun_saves_and_stops_all, |run| {
    for (to_mpirun, name, code) in [(false, "TERM", 143), (true, "USR1", 138)] {
        let Some(child) = long_run(&run, 2) else { return };
        let ranks = children(child.id());
        signal(if to_mpirun { child.id() } else { ranks[1] }, name);
        let output = end(child);
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text.matches("stopped after step").count(), 1, "{text} {}", told(&output));
        fs::remove_dir_all(run.path("run")).unwrap();
    }
});

cli!(what_is_wrong_is_said_once, |run| {
    fs::write(run.path("small.toml"), LIGHTFLOW).unwrap();
    for (args, what) in [
        (&["train", "small.toml", "--out", "run", "--set", "batch=7"][..], "7, which 2 ranks cannot share out evenly"),
        (&["train", "small.toml", "--out", "run", "--set", "data=chairs:/nowhere"], "/nowhere"),
        (&["train", "--resume", "none"], "holds no run"),
    ] {
        let Some(mut command) = mpirun(&run, 2, args) else { return };
        let output = command.output().unwrap();
        assert!(!output.status.success());
        assert_eq!(told(&output).matches(what).count(), 1, "{}", told(&output));
        assert!(!run.path("run").exists());
    }
});

#[cfg(feature = "gpu")]
cli!(ranks_leave_their_runs_to_gpus, |run| {
    if !run.has_gpu() {
        return;
    }
    let recipe = PWCNET.replace("steps = 6\nbatch = 6\naccumulate = 2", "steps = 2\nbatch = 2");
    fs::write(run.path("small.toml"), recipe).unwrap();
    let train = |out: &'static str| ["train", "small.toml", "--out", out, "--device", "vulkan:0"];
    run.ok(&train("one"));
    // Both on the one device that a test can count on.
    let Some(mut command) = mpirun(&run, 2, &train("two")) else { return };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(told(&output).matches("ranks add their gradients in main memory").count(), 1, "{}", told(&output));
    assert_close(&losses(&run.path("two")), &losses(&run.path("one")));
});
