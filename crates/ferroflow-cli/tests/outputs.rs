//! Nothing is lost: what a run writes, where, and how it ends. Tests that begin with `case_` are of the folders of
//! `shared/cases`.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
};

use common::{Run, cli};
use ferroflow::core::{FlowField, Size, io};

#[test]
fn case_dotted_pair_folder() {
    let Some(run) = Run::case("dotted-pair-folder") else { return };
    assert!(run.ok(&["estimate", "dot", "-o", "out"]).contains("2 pairs"));
    assert_eq!(run.files("out"), ["0000.img1.flo", "0001.img1.flo"]);
}

#[test]
fn case_kitti_and_viz_one_folder() {
    let Some(run) = Run::case("kitti-and-viz-one-folder") else { return };
    let error = run.fails(2, &["estimate", "fr", "-o", "out", "--format", "kitti", "--viz", "out"]);
    assert!(error.contains("the flow of fr/1.png") && error.contains("the picture of fr/1.png"), "{error}");
    assert!(!run.path("out").exists());
    let error = run.fails(2, &["estimate", "fr/1.png", "fr/2.png", "-o", "x.png", "--viz", "X.png"]);
    assert!(error.contains("same file"), "{error}");
}

#[test]
fn case_list_same_stem() {
    let Some(run) = Run::case("list-same-stem") else { return };
    assert!(run.ok(&["estimate", "list.txt", "-o", "out"]).contains("2 pairs"));
    assert_eq!(run.files("out"), ["A/f1.flo", "B/f1.flo"]);
    // One first frame, two second ones; and the very same pair twice, which nothing tells apart.
    fs::write(run.path("star.txt"), "A/f1.png A/f2.png\nA/f1.png B/f2.png\nA/f1.png A/f1.png\n").unwrap();
    run.ok(&["estimate", "star.txt", "-o", "star", "--limit", "1"]);
    let error = run.fails(2, &["estimate", "star.txt", "-o", "star"]);
    assert!(error.contains("the flow of A/f1.png -> A/f2.png and the flow of A/f1.png -> B/f2.png"), "{error}");
}

#[test]
fn case_eval_csv_commas() {
    let Some(run) = Run::case("eval-csv-commas") else { return };
    run.ok(&["eval", "pairs:odd.tsv", "--csv", "o.csv"]);
    let text = fs::read_to_string(run.path("o.csv")).unwrap();
    let rows: Vec<_> = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(text.as_bytes())
        .into_records()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].len(), rows[1].len());
    assert_eq!((&rows[0][1], &rows[1][1]), ("id", "a,b"));
    let epe = rows[0].iter().position(|name| name == "epe").unwrap();
    let json: serde_json::Value = serde_json::from_str(&run.ok(&["eval", "pairs:odd.tsv", "--json"])).unwrap();
    let expected = json["results"][0]["pairs"][0]["epe"].as_f64().unwrap();
    assert!((rows[1][epe].parse::<f64>().unwrap() - expected).abs() < 1e-5);
}

#[test]
fn case_eval_save_outside() {
    let Some(run) = Run::case("eval-save-outside") else { return };
    let before: Vec<(String, Vec<u8>)> =
        run.files("in").into_iter().map(|name| (name.clone(), fs::read(run.path("in").join(name)).unwrap())).collect();
    let inputs = run.files(".");
    run.ok(&["eval", "pairs:tab/rel.tsv", "--save", "out"]);
    assert_eq!(run.files("out"), ["pairs_tab_rel.tsv/_/in/f1.png.flo"]);
    run.ok(&["eval", "pairs:over.tsv", "--save", "out"]);
    assert!(run.path("out/pairs_over.tsv/_/in/gt.flo").is_file());
    run.ok(&["eval", "pairs:k12.tsv", "pairs:k15.tsv", "--save", "out"]);
    assert!(run.path("out/pairs_k12.tsv/000000.flo").is_file() && run.path("out/pairs_k15.tsv/000000.flo").is_file());
    run.ok(&["eval", "pairs:k12.tsv", "pairs:k12.tsv", "--save", "twice"]);
    assert_eq!(run.files("twice"), ["pairs_k12.tsv/000000.flo", "pairs_k12.tsv~2/000000.flo"]);
    for (name, bytes) in before {
        assert!(fs::read(run.path("in").join(&name)).unwrap() == bytes, "{name} was written to");
    }
    let outside: Vec<String> =
        run.files(".").into_iter().filter(|f| !f.starts_with("out") && !f.starts_with("twice")).collect();
    assert_eq!(outside, inputs);
}

#[test]
fn case_attack_traversal() {
    let Some(run) = Run::case("attack") else { return };
    run.write_frame("mask.png", 64, 64, 0);
    io::write_flow(run.path("f.flo"), &FlowField::from_fn(Size::new(64, 64), |_, _| (0.0, 0.0))).unwrap();
    let before = run.files(".");
    run.ok(&["eval", "pairs:traversal.tsv", "--save", "d/e"]);
    let written: Vec<String> = run.files(".").into_iter().filter(|file| !before.contains(file)).collect();
    assert_eq!(written, ["d/e/pairs_traversal.tsv/ABSOLUTE/elsewhere.flo", "d/e/pairs_traversal.tsv/_/_/escaped.flo"]);
    assert!(!Path::new("/ABSOLUTE").exists() && !run.path("../escaped.flo").exists());
}

#[cfg(unix)]
#[test]
fn case_broken_pipe() {
    // The inputs of this case are commands; there is nothing to skip.
    let run = Run::new();
    for name in ["a.png", "b.png"] {
        run.write_frame(name, 40, 32, usize::from(name == "b.png"));
    }
    let closed = |args: &[&str]| {
        let mut child = run.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && !errors.contains("panicked") && !errors.contains("error"),
            "{args:?}: {errors}"
        );
    };
    closed(&["models"]);
    closed(&["--help"]);
    closed(&["data", "list"]);
    closed(&["estimate", "a.png", "b.png", "--json", "-o", "flow.flo", "--viz", "flow.png"]);
    assert!(run.path("flow.flo").is_file() && run.path("flow.png").is_file());
    fs::create_dir(run.path("frames")).unwrap();
    (0..4).for_each(|i| run.write_frame(&format!("frames/{i}.png"), 40, 32, i));
    closed(&["estimate", "frames", "-o", "flows", "--json"]);
    assert_eq!(run.files("flows"), ["0.flo", "1.flo", "2.flo"]);
    closed(&["eval", "synth:chairs@size=64x64,count=2", "-m", "dis", "--csv", "t.csv", "--report", "t.html", "--json"]);
    assert!(run.path("t.csv").is_file() && run.path("t.html").is_file());
    // Nobody listens on standard error either.
    let mut child = run.command(&["estimate", "a.png", "missing.png"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[cfg(target_os = "linux")]
cli!(a_full_device_is_an_error_after_the_files_are_written, |run| {
    for name in ["a.png", "b.png"] {
        run.write_frame(name, 40, 32, usize::from(name == "b.png"));
    }
    for args in
        [&["models"][..], &["--version"], &["estimate", "a.png", "b.png", "-o", "flow.flo"], &["train", "--list"]]
    {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = run.command(args).stdout(full).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
    assert!(run.path("flow.flo").is_file());
});

#[cfg(unix)]
#[test]
fn case_weights_mode_0600() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let run = Run::new();
    let mode = |name: &str| fs::metadata(run.path(name)).unwrap().permissions().mode() & 0o777;
    let under = |umask: &str, args: &str| {
        let script = format!("umask {umask}; exec \"$0\" {args}");
        let program = env!("CARGO_BIN_EXE_ferroflow");
        let status = Command::new("sh").current_dir(run.path(".")).args(["-c", &script, program]).output().unwrap();
        assert!(status.status.success(), "{args}: {}", String::from_utf8_lossy(&status.stderr));
    };
    fs::write(run.path("tiny.toml"), TINY_RECIPE).unwrap();
    under("022", "weights random lightflow-0.5 -o w.safetensors");
    under("022", "weights export w.safetensors --to pytorch-safetensors -o pt.safetensors");
    under("022", "weights export w.safetensors --to mindspore -o ms.ckpt");
    under("027", "weights random lightflow-0.5 -o group.safetensors");
    under("022", "train tiny.toml --out run");
    for name in ["w.safetensors", "pt.safetensors", "ms.ckpt", "run/weights/last.safetensors", "run/recipe.toml"] {
        assert_eq!(mode(name), 0o644, "{name}");
    }
    let checkpoints = run.files("run/checkpoints");
    assert!(
        !checkpoints.is_empty() && checkpoints.iter().all(|name| mode(&format!("run/checkpoints/{name}")) == 0o644)
    );
    assert_eq!(mode("group.safetensors"), 0o640);
    // What is replaced keeps its mode, and a link stays one.
    fs::set_permissions(run.path("w.safetensors"), PermissionsExt::from_mode(0o604)).unwrap();
    symlink("w.safetensors", run.path("link.safetensors")).unwrap();
    under("022", "weights random lightflow-0.5 --seed 9 -o link.safetensors");
    assert_eq!(mode("w.safetensors"), 0o604);
    assert!(run.path("link.safetensors").is_symlink());
    assert!(run.ok(&["weights", "show", "w.safetensors"]).contains("seed 9"));
}

cli!(an_output_never_replaces_an_input, |run| {
    fs::create_dir(run.path("frames")).unwrap();
    (1..4).for_each(|i| run.write_frame(&format!("frames/{i}.png"), 40, 32, i));
    io::write_flow(run.path("x.flo"), &FlowField::from_fn(Size::new(32, 40), |_, _| (1.0, 2.0))).unwrap();
    io::write_flow(run.path("x.backward.flo"), &FlowField::from_fn(Size::new(32, 40), |_, _| (1.0, 2.0))).unwrap();
    run.ok(&["weights", "random", "lightflow-0.5", "-o", "w.safetensors"]);
    fs::write(run.path("pairs.tsv"), "image1\timage2\tflow\nframes/1.png\tframes/2.png\tx.flo\n").unwrap();
    let before: Vec<Vec<u8>> = run.files(".").iter().map(|file| fs::read(run.path(file)).unwrap()).collect();
    for args in [
        &["estimate", "frames", "--viz", "frames"][..],
        &["estimate", "frames", "-o", "frames", "--format", "kitti"],
        &["estimate", "frames/1.png", "frames/2.png", "--viz", "frames/1.png"],
        &["estimate", "frames/1.png", "frames/2.png", "-o", "frames/../frames/2.png"],
        &["convert", "x.flo", "./x.flo"],
        &["viz", "x.flo", "-o", "frames/1.png", "--frames", "frames/1.png"],
        &["compare", "x.flo", "frames/1.png", "--error-map", "frames/1.png"],
        &["weights", "export", "w.safetensors", "--to", "mindspore", "-o", "w.safetensors"],
        &["weights", "import", "w.safetensors", "-o", "w.safetensors"],
        &["export", "onnx", "-w", "w.safetensors", "-o", "w.safetensors", "--dynamic"],
        &["eval", "pairs:pairs.tsv", "--csv", "pairs.tsv"],
        &["eval", "pairs:pairs.tsv", "--report", "x.flo"],
        &["data", "info", "pairs:pairs.tsv", "--histogram", "frames/2.png"],
    ] {
        let error = run.fails(2, args);
        assert!(error.contains("over the input"), "{args:?}: {error}");
    }
    let after: Vec<Vec<u8>> = run.files(".").iter().map(|file| fs::read(run.path(file)).unwrap()).collect();
    assert!(before == after);
    // Two names that share their beginning are two pictures.
    run.ok(&["viz", "x.flo", "x.backward.flo", "-o", "pictures"]);
    assert_eq!(run.files("pictures"), ["x.backward.png", "x.png"]);
});

cli!(files_of_an_earlier_run_are_replaced_unless_told_otherwise, |run| {
    for name in ["a.png", "b.png"] {
        run.write_frame(name, 40, 32, usize::from(name == "b.png"));
    }
    let estimate = ["estimate", "a.png", "b.png", "-o", "flow.flo", "--viz", "flow.png"];
    run.ok(&estimate);
    run.ok(&estimate);
    fs::remove_file(run.path("flow.flo")).unwrap();
    let picture = fs::read(run.path("flow.png")).unwrap();
    let error = run.fails(1, &[&estimate[..], &["--no-clobber"]].concat());
    assert!(error.contains("flow.png is there already"), "{error}");
    assert!(!run.path("flow.flo").exists() && fs::read(run.path("flow.png")).unwrap() == picture);
});

cli!(places_are_looked_at_before_the_work, |run| {
    for name in ["a.png", "b.png"] {
        run.write_frame(name, 40, 32, usize::from(name == "b.png"));
    }
    fs::write(run.path("file"), "").unwrap();
    // The inputs are not there: that the place is bad is found first.
    for args in [
        &["estimate", "a.png", "none.png", "-o", "file/flow.flo"][..],
        &["eval", "synth:chairs@size=64x64,count=9999999", "--csv", "file/x.csv"],
        &["eval", "synth:chairs@size=64x64,count=9999999", "--save", "file/x"],
        &["weights", "random", "flownet2", "-o", "file/w.safetensors"],
        &["compare", "none.flo", "none.flo", "--error-map", "file/e.png"],
    ] {
        let error = run.fails(1, args);
        assert!(error.contains("cannot write file"), "{args:?}: {error}");
    }
    run.ok(&["estimate", "a.png", "b.png", "-o", "new/folder/flow.flo"]);
});

cli!(slips_of_the_command_line_say_what_was_meant, |run| {
    for name in ["a.png", "b.png", "c.png"] {
        run.write_frame(name, 40, 32, 0);
    }
    fs::create_dir(run.path("one")).unwrap();
    fs::create_dir(run.path("two")).unwrap();
    for (args, hint) in [
        (&["estimate", "a.png", "b.png", "c.png", "-o", "x"][..], "ferroflow estimate . -o DIR"),
        (&["estimate", "a.png"], "second one too"),
        (&["estimate", "one", "two", "-o", "x"], "one is a folder"),
        (&["estimate", "a.png", "b.png", "-m", "pwcnett"], "did you mean pwcnet?"),
        (&["estimate", "a.png", "b.png", "-m", "diss"], "did you mean dis?"),
        (&["estimate", "a.png", "b.png", "-o", "flow.xyz"], ".flo, .pfm, .png (KITTI, 16 bits), .npy, .npz or .exr"),
        (&["estimate", "a.png", "b.png", "--viz", "flow.xyz"], ".png, .jpg"),
        (&["models", "lightfow"], "did you mean lightflow?"),
        (&["eval", "chair:x"], "chairs"),
    ] {
        let error = run.fails(2, args);
        assert!(error.contains(hint), "{args:?}: {error}");
    }
    let piped = |bytes: &[u8]| {
        let mut child = run
            .command(&["estimate", "-", "-o", "x"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have left before it has read all.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let error = piped(b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41");
    assert!(error.contains("an MP4") && error.contains("yuv4mpegpipe"), "{error}");
    let doctor = run.command(&["doctor"]).env("FERROFLOW_ISA", "portabel").output().unwrap();
    assert_eq!(doctor.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&doctor.stderr).contains("did you mean portable?"));
    // A size is answered in the order in which it was given, height first.
    run.ok(&["synth", "chairs", "--count", "1", "--size", "64x96", "-o", "data"]);
    let error = run.fails(1, &["data", "bench", "chairs:data", "--augment", "crop", "--crop", "128x192"]);
    assert!(error.contains("is 64x96") && error.contains("128x192"), "{error}");
});

cli!(folders_of_something_else_are_left_alone, |run| {
    run.ok(&["synth", "chairs", "--count", "2", "--size", "64x96", "-o", "data"]);
    fs::create_dir(run.path("home")).unwrap();
    fs::write(run.path("home/thesis.tex"), "years of work").unwrap();
    for args in [
        &["synth", "chairs", "--count", "1", "--size", "64x96", "-o", "home"][..],
        &["data", "pack", "chairs:data", "-o", "home"],
        &["export", "inputs", "chairs:data", "-o", "home"],
    ] {
        let error = run.fails(2, args);
        assert!(error.contains("thesis.tex"), "{args:?}: {error}");
    }
    assert_eq!(run.files("home"), ["thesis.tex"]);
    // What a command has made before it goes on with.
    run.ok(&["synth", "chairs", "--count", "3", "--size", "64x96", "-o", "data"]);
    for _ in 0..2 {
        run.ok(&["data", "pack", "chairs:data", "-o", "shards"]);
        run.ok(&["export", "inputs", "chairs:data", "-o", "prepared"]);
    }
});

#[cfg(target_os = "linux")]
cli!(names_that_are_not_unicode_work, |run| {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let odd = |text: &[u8]| OsStr::from_bytes(text).to_owned();
    fs::create_dir(run.path("frames")).unwrap();
    run.write_frame("x.png", 40, 32, 0);
    for name in [&b"caf\xe9.png"[..], b"caf\xe8.png"] {
        fs::copy(run.path("x.png"), run.path("frames").join(odd(name))).unwrap();
    }
    let output = run.command(&["estimate", "frames", "-o"]).arg(odd(b"o\xff")).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["files"][0].as_str().unwrap().ends_with(".flo"));
    let written = fs::read_dir(run.path(".").join(odd(b"o\xff"))).unwrap().next().unwrap().unwrap().file_name();
    assert!(written == odd(b"caf\xe9.flo") || written == odd(b"caf\xe8.flo"), "{written:?}");
});

/// A recipe so small that a step takes milliseconds.
const TINY_RECIPE: &str = "model = 'lightflow-0.5'\ndata = 'synth:chairs@size=64x64'\nsteps = 3\nbatch = 2\ncrop = '64x64'\n\
                           lr = 1e-3\ncheckpoint_every = 2\nloss = 'lightflow-l1'\nlog_every = 1\n";

cli!(a_start_that_fails_leaves_nothing, |run| {
    fs::write(run.path("tiny.toml"), TINY_RECIPE).unwrap();
    fs::create_dir(run.path("mine")).unwrap();
    fs::write(run.path("mine/notes.txt"), "mine").unwrap();
    for out in ["runs/new/one", "mine"] {
        for set in ["data=chairs:nowhere", "validate=chairs:nowhere", "init=none.safetensors"] {
            run.fails(1, &["train", "tiny.toml", "--set", set, "--out", out]);
        }
    }
    assert!(!run.path("runs").exists());
    assert_eq!(run.files("mine"), ["notes.txt"]);
    assert_eq!(fs::read_dir(run.path("mine")).unwrap().count(), 1);
    run.ok(&["train", "tiny.toml", "--out", "mine"]);
    // A change that cannot be names its key, and is not written down.
    let recipe = fs::read(run.path("mine/recipe.toml")).unwrap();
    for (set, key) in [
        ("model=lightflow", "model cannot change"),
        ("optimiser=sgd", "optimiser cannot change"),
        ("freeze=conv1.", "freeze cannot change"),
        ("stpes=9", "`steps`"),
    ] {
        let error = run.fails(2, &["train", "--resume", "mine", "--set", set]);
        assert!(error.contains(key), "{set}: {error}");
    }
    run.fails(1, &["train", "--resume", "mine", "--set", "data=chairs:nowhere", "--set", "steps=9"]);
    assert!(fs::read(run.path("mine/recipe.toml")).unwrap() == recipe);
});

cli!(what_weights_come_from_survives_training, |run| {
    fs::write(run.path("tiny.toml"), TINY_RECIPE).unwrap();
    run.ok(&["weights", "random", "lightflow-0.5", "-o", "r.safetensors"]);
    run.ok(&["weights", "export", "r.safetensors", "--to", "mindspore", "-o", "net.ckpt"]);
    let licence = "research only, no redistribution";
    run.ok(&[
        "weights",
        "import",
        "net.ckpt",
        "-o",
        "w.safetensors",
        "--licence",
        licence,
        "--trained-on",
        "FlyingChairs",
    ]);
    run.ok(&["train", "tiny.toml", "--set", "init=w.safetensors", "--set", "steps=2", "--out", "run"]);
    // The first file need not be there any more.
    fs::remove_file(run.path("w.safetensors")).unwrap();
    run.ok(&["train", "--resume", "run", "--set", "steps=3"]);
    run.ok(&["train", "tiny.toml", "--set", "init=run/weights/last.safetensors", "--out", "next"]);
    for weights in ["run/weights/last.safetensors", "next/weights/last.safetensors"] {
        let told: serde_json::Value = serde_json::from_str(&run.ok(&["weights", "show", weights, "--json"])).unwrap();
        let provenance = &told["provenance"];
        assert_eq!(provenance["license"], licence, "{told}");
        let source = provenance["source"].as_str().unwrap();
        assert!(source.contains("trained from w.safetensors (net.ckpt)"), "{source}");
    }
});

/// A training that goes on until it is stopped, after its first step.
#[cfg(unix)]
fn endless(run: &Run, out: &str) -> std::process::Child {
    fs::write(run.path("tiny.toml"), TINY_RECIPE).unwrap();
    let args = ["train", "tiny.toml", "--set", "steps=1000000", "--set", "checkpoint_every=1000000", "--out", out];
    let mut child = run.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Without a terminal there is a line for each line of the log.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line =
        lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("step 2 of 1000000: "))).unwrap().unwrap();
    for part in ["loss ", "EPE ", "rate 1.00e-3", " s a step, ", " left"] {
        assert!(line.contains(part), "{line}");
    }
    // Read on, or the next lines would find no reader.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[cfg(unix)]
cli!(a_stopped_training_saves_and_says_by_what, |run| {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = endless(&run, signal);
        // Meanwhile nobody else writes there.
        let number = child.id().to_string();
        for args in [&["train", "tiny.toml", "--out", signal][..], &["train", "--resume", signal]] {
            let error = run.fails(1, args);
            assert!(error.contains(&format!("process {number} trains here")), "{error}");
        }
        Command::new("kill").args([&format!("-{signal}"), &number]).status().unwrap();
        let mut told = String::new();
        child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{told}");
        assert!(told.contains("stopped after step") && told.contains("--resume"), "{told}");
        assert_eq!(run.files(&format!("{signal}/checkpoints")).len(), 1);
    }
    // The lock went with the process; leftovers of a killed one go when the run goes on.
    for leftover in ["INT/checkpoints/.step-9.partial", "INT/weights/.tmpAbC", "INT/.ferroflow-x1"] {
        fs::write(run.path(leftover), "half").unwrap();
    }
    let text =
        run.command(&["train", "--resume", "INT", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = text.unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let going = lines.find(|line| line.contains("going on after step")).unwrap();
    let step: u64 = going.rsplit(' ').next().unwrap().parse().unwrap();
    let next = lines.find(|line| line.starts_with("step ")).unwrap();
    assert!(next.starts_with(&format!("step {} of 1000000", step + 1)), "{going}\n{next}");
    std::thread::spawn(move || lines.for_each(drop));
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(
        run.files("INT").iter().all(|file| !file.contains("/.") && !file.starts_with('.')),
        "{:?}",
        run.files("INT")
    );
});
