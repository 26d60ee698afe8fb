//! The program as its users run it: a fresh folder, a command line, what it prints and writes, how it exits.

mod common;

use std::{fs, io::Write, process::Stdio};

use common::cli;
use ferroflow::core::{FlowField, Size, io};

cli!(the_card_of_zero_flow_is_the_motion_and_of_dis_is_less, |run| {
    let json = run.ok(&["bench", "--card", "-m", "dis-fast", "--baseline", "zero", "--json", "-o", "card.svg"]);
    let card: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((card["method"].as_str(), card["baseline"]["method"].as_str()), (Some("dis-fast"), Some("zero")));
    let (rows, zero) = (card["rows"].as_array().unwrap(), card["baseline"]["rows"].as_array().unwrap());
    assert_eq!(rows.len(), zero.len());
    for (row, zero) in rows.iter().zip(zero) {
        let motion = row["zero_epe"].as_f64().unwrap();
        assert!((zero["epe"].as_f64().unwrap() - motion).abs() < 1e-6, "{zero}");
        if row["theme"] == "shift" {
            assert!(row["epe"].as_f64().unwrap() < 0.5 * motion, "{row}");
        }
    }
    let svg = std::fs::read_to_string(run.path("card.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains(">dis-fast<") && svg.contains(">small and fast<"));
    run.fails(2, &["bench", "--card", "-m", "dis", "-o", "card.pdf"]);
    run.fails(2, &["bench", "-m", "dis", "-o", "card.svg"]);
});

cli!(without_a_name_the_network_with_weights_estimates, |run| {
    run.write_frame("a.png", 97, 64, 0);
    run.write_frame("b.png", 97, 64, 2);
    run.ok(&["estimate", "a.png", "b.png", "-o", "default.flo"]);
    run.ok(&["estimate", "a.png", "b.png", "-m", "rill", "-o", "rill.flo"]);
    assert_eq!(fs::read(run.path("default.flo")).unwrap(), fs::read(run.path("rill.flo")).unwrap());
    let flow = io::read_flow(run.path("default.flo")).unwrap();
    let mut u = flow.u().to_vec();
    u.sort_by(f32::total_cmp);
    assert!((u[u.len() / 2] - 2.0).abs() < 0.5, "blobs that moved by 2 px, seen to move by {}", u[u.len() / 2]);
    run.ok(&["estimate", "a.png", "b.png", "--option", "iterations-8=1", "-o", "once.flo"]);
    assert_ne!(fs::read(run.path("default.flo")).unwrap(), fs::read(run.path("once.flo")).unwrap());
    run.ok(&["estimate", "a.png", "b.png", "--option", "iterations=2", "-o", "twice.flo"]);
    run.ok(&["estimate", "a.png", "b.png", "--iterations", "2", "-o", "iterated.flo"]);
    assert_eq!(fs::read(run.path("twice.flo")).unwrap(), fs::read(run.path("iterated.flo")).unwrap());
    run.fails(2, &["estimate", "a.png", "b.png", "--iterations", "33", "-o", "x.flo"]);
    assert!(run.fails(2, &["estimate", "a.png", "b.png", "-m", "pwcnet", "-o", "x.flo"]).contains("needs weights"));
    run.ok(&["export", "onnx", "-o", "rill.onnx", "--size", "64x128", "--check"]);
});

cli!(a_network_is_exported_in_two_halves, |run| {
    run.ok(&["weights", "random", "uflow-mindspore", "-o", "w.safetensors"]);
    let text = run.ok(&["export", "onnx", "-w", "w.safetensors", "-o", "out/uflow.onnx", "--dynamic", "--split"]);
    assert_eq!(run.files("out"), ["uflow.features.onnx", "uflow.flow.onnx"]);
    let checked = ["export", "onnx", "-w", "w.safetensors", "-o", "out/uflow.onnx", "--size", "64x128", "--batch", "2"];
    let told = run.ok(&[&checked[..], &["--split", "--check"]].concat());
    let apart: f64 = told.split("by ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(apart < 1e-3, "{told}");
    assert!(text.contains("uflow.features.onnx: uflow-mindspore") && text.contains("uflow.flow.onnx"), "{text}");
    run.ok(&["weights", "random", "lightflow-0.5", "-o", "l.safetensors"]);
    let error = run.fails(1, &["export", "onnx", "-w", "l.safetensors", "-o", "l.onnx", "--dynamic", "--split"]);
    assert!(error.contains("export the whole"), "{error}");
    assert!(run.files("").iter().all(|file| !file.starts_with("l.") || file == "l.safetensors"));
});

cli!(a_pair_gives_flow_of_its_size_and_a_picture, |run| {
    run.write_frame("a.png", 97, 64, 0);
    run.write_frame("b.png", 97, 64, 2);
    let text = run.ok(&["estimate", "a.png", "b.png", "-o", "out/flow.flo", "--viz", "flow.png", "--legend"]);
    assert!(text.contains("64x97") && text.contains("wrote"), "{text}");
    let flow = io::read_flow(run.path("out/flow.flo")).unwrap();
    assert_eq!((flow.width(), flow.height()), (97, 64));
    let mean = flow.u().iter().sum::<f32>() / flow.u().len() as f32;
    assert!((mean - 2.0).abs() < 0.3, "{mean}");
    let picture = io::read_frame(run.path("flow.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (97, 64));
});

cli!(both_directions_give_masks_and_confidence, |run| {
    run.write_frame("a.png", 64, 48, 0);
    run.write_frame("b.png", 64, 48, 1);
    let text = run.ok(&["estimate", "a.png", "b.png", "-o", "f.pfm", "--bidirectional", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(report["occluded"].as_f64().unwrap() < 0.5);
    for name in ["f.pfm", "f.backward.pfm", "f.occlusion.png", "f.confidence.png"] {
        assert!(run.path(name).exists(), "{name}");
    }
});

cli!(a_recurrent_network_starts_from_the_flow_before, |run| {
    fs::create_dir(run.path("frames")).unwrap();
    for i in [1, 2, 3] {
        run.write_frame(&format!("frames/f{i}.png"), 40, 32, 2 * i);
    }
    run.ok(&["weights", "random", "raft-small", "-o", "w.safetensors"]);
    let estimate = ["estimate", "frames", "-w", "w.safetensors", "--iterations", "2", "-o"];
    run.ok(&[&estimate[..], &["cold"]].concat());
    run.ok(&[&estimate[..], &["warm", "--warm-start"]].concat());
    let same = |name: &str| {
        fs::read(run.path(&format!("cold/{name}"))).unwrap() == fs::read(run.path(&format!("warm/{name}"))).unwrap()
    };
    assert!(same("f1.flo") && !same("f2.flo"), "the first pair has none before it");
    let from = |arguments: &[&str]| run.fails(2, &[&["estimate"], arguments, &["--warm-start", "-o", "x"]].concat());
    assert!(from(&["frames", "-m", "rill"]).contains("raft"));
    let pair = ["frames/f1.png", "frames/f2.png", "-w", "w.safetensors"];
    assert!(from(&pair).contains("a folder or a video"));
});

cli!(iterations_that_change_little_are_left_out, |run| {
    fs::create_dir(run.path("frames")).unwrap();
    for i in [1, 2, 3] {
        run.write_frame(&format!("frames/f{i}.png"), 40, 32, 2 * i);
    }
    run.ok(&["weights", "random", "raft-small", "-o", "w.safetensors"]);
    let estimate = |out: &str, arguments: &[&str]| {
        let command = ["estimate", "frames", "-w", "w.safetensors", "--iterations", "4", "-o", out, "--json"];
        let text = run.ok(&[&command[..], arguments].concat());
        let iterations = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["iterations"].as_f64();
        text.lines().map(iterations).collect::<Vec<_>>()
    };
    assert_eq!(estimate("all", &[]), [None; 2]);
    assert_eq!(estimate("never", &["--stop-below", "1e-12"]), [Some(4.0); 2]);
    assert_eq!(estimate("soon", &["--stop-below", "1e9"]), [Some(1.0); 2]);
    assert_eq!(estimate("warm", &["--stop-below", "1e9", "--warm-start"]), [Some(1.0); 2]);
    let flow = |folder: &str, name: &str| fs::read(run.path(&format!("{folder}/{name}.flo"))).unwrap();
    assert!(["f1", "f2"].iter().all(|name| flow("all", name) == flow("never", name)));
    assert!(["f1", "f2"].iter().all(|name| flow("all", name) != flow("soon", name)));
    assert!(flow("soon", "f1") == flow("warm", "f1") && flow("soon", "f2") != flow("warm", "f2"));
    for method in [["-m", "rill"], ["-m", "dis"]] {
        let error = run.fails(2, &[&["estimate", "frames", "--stop-below", "0.1", "-o", "x"][..], &method].concat());
        assert!(error.contains("iterations"), "{error}");
    }
});

cli!(a_folder_gives_a_flow_between_all_neighbours, |run| {
    fs::create_dir(run.path("frames")).unwrap();
    for i in [1, 2, 10] {
        run.write_frame(&format!("frames/f{i}.png"), 40, 32, i);
    }
    run.ok(&["estimate", "frames", "-o", "flows", "--format", "npy", "--viz", "pictures", "--batch", "2"]);
    let listed = |dir: &str| {
        let mut names: Vec<String> =
            fs::read_dir(run.path(dir)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(listed("flows"), ["f1.npy", "f2.npy"]);
    assert_eq!(listed("pictures"), ["f1.png", "f2.png"]);
    let error = run.fails(2, &["estimate", "frames"]);
    assert!(error.contains("-o DIR"), "{error}");
});

cli!(lists_and_numbered_pairs_are_pairs, |run| {
    for name in ["x1", "x2", "y1", "y2"] {
        run.write_frame(&format!("{name}.png"), 33, 17, name.ends_with('2') as usize);
    }
    fs::write(run.path("list.txt"), "# two pairs\nx1.png x2.png\n\ny1.png\ty2.png\n").unwrap();
    run.ok(&["estimate", "list.txt", "-o", "from-list"]);
    assert!(run.path("from-list/x1.flo").exists() && run.path("from-list/y1.flo").exists());
    fs::remove_file(run.path("list.txt")).unwrap();
    assert!(run.ok(&["estimate", ".", "-o", "from-folder"]).contains("2 pairs"));
});

cli!(video_comes_through_standard_input, |run| {
    let mut video = b"YUV4MPEG2 W32 H24 F25:1 C420jpeg\n".to_vec();
    for shift in 0..3 {
        video.extend_from_slice(b"FRAME\n");
        video.extend((0..32 * 24).map(|i| 128 + (60.0 * (((i % 32) - shift) as f32 * 0.5).sin()) as u8));
        video.extend([128; 2 * 16 * 12]);
    }
    let mut child =
        run.command(&["estimate", "-", "-o", "flows"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&video).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(run.path("flows/000000.flo").exists() && run.path("flows/000001.flo").exists());
});

cli!(a_network_runs_from_a_weight_file_that_names_it, |run| {
    run.write_frame("a.png", 70, 50, 0);
    run.write_frame("b.png", 70, 50, 1);
    run.ok(&["weights", "random", "lightflow-0.5", "-o", "w.safetensors", "--half"]);
    assert!(run.ok(&["weights", "show", "w.safetensors"]).contains("lightflow-0.5"));
    for fit in ["pad", "resize", "crop"] {
        run.ok(&["estimate", "a.png", "b.png", "-w", "w.safetensors", "--fit", fit, "-o", "net.flo"]);
        let flow = io::read_flow(run.path("net.flo")).unwrap();
        assert_eq!((flow.width(), flow.height()), (70, 50), "{fit}");
    }
    run.ok(&["estimate", "a.png", "b.png", "-w", "w.safetensors", "--tile", "64x64", "-o", "tiled.flo"]);
    let error = run.fails(2, &["estimate", "a.png", "b.png", "-w", "w.safetensors", "-m", "pwcnet"]);
    assert!(error.contains("lightflow-0.5"), "{error}");
});

cli!(a_network_without_weights_says_what_it_needs, |run| {
    run.write_frame("a.png", 64, 64, 0);
    let error = run.fails(2, &["estimate", "a.png", "a.png", "-m", "pwcnet"]);
    assert!(error.contains("needs weights") && error.contains("weights import"), "{error}");
    let error = run.fails(2, &["estimate", "a.png", "a.png", "-m", "pwcnett"]);
    assert!(error.contains("did you mean pwcnet?"), "{error}");
});

cli!(wrong_input_is_named_and_explained, |run| {
    run.write_frame("a.png", 64, 64, 0);
    run.write_frame("small.png", 32, 64, 0);
    fs::write(run.path("text.png"), "no picture").unwrap();
    fs::create_dir(run.path("empty")).unwrap();
    for (code, args, hint) in [
        (1, &["estimate", "a.png", "missing.png"][..], "missing.png"),
        (1, &["estimate", "a.png", "text.png"], "text.png"),
        (1, &["estimate", "a.png", "small.png"], "one size"),
        (2, &["estimate", "a.png", "-o", "x"], "second"),
        (1, &["estimate", "empty", "-o", "x"], "no image"),
        (2, &["estimate", "a.png", "a.png", "-o", "flow.xyz"], ".flo, .pfm, .png"),
        (2, &["estimate", "a.png", "a.png", "--tile", "axb"], "HEIGHTxWIDTH"),
        (1, &["convert", "a.png", "b.flo"], "a.png"),
        (1, &["weights", "show", "a.png"], "safetensors"),
    ] {
        let error = run.fails(code, args);
        assert!(error.contains(hint), "{args:?}: {error}");
    }
    assert!(!run.path("flow.xyz").exists() && !run.path("b.flo").exists());
});

cli!(formats_convert_and_compare, |run| {
    let flow = FlowField::from_fn(Size::new(10, 20), |x, y| (x as f32 * 0.25, -(y as f32)));
    io::write_flow(run.path("a.flo"), &flow).unwrap();
    for name in ["b.pfm", "c.npy", "d.npz", "e.png"] {
        run.ok(&["convert", "a.flo", name]);
        assert_eq!(io::read_flow(run.path(name)).unwrap(), flow, "{name}");
    }
    let report: serde_json::Value = serde_json::from_str(&run.ok(&["compare", "a.flo", "e.png", "--json"])).unwrap();
    assert_eq!(report["epe"], 0.0);
    run.ok(&["compare", "a.flo", "e.png", "--error-map", "errors.png"]);
    run.ok(&["viz", "a.flo", "b.pfm", "-o", "pictures", "--norm", "sequence"]);
    assert!(run.path("pictures/a.png").exists() && run.path("errors.png").exists());
});

cli!(weights_go_out_and_come_back, |run| {
    run.ok(&["weights", "random", "lightflow-0.5", "--formula", "a-seed", "-o", "w.safetensors"]);
    run.ok(&["weights", "export", "w.safetensors", "--to", "mindspore", "-o", "w.ckpt"]);
    let text = run.ok(&["weights", "import", "w.ckpt", "-o", "back.safetensors", "--licence", "CC0-1.0"]);
    assert!(text.contains("MindSpore") && text.contains("lightflow-0.5"), "{text}");
    assert!(run.ok(&["weights", "show", "back.safetensors"]).contains("CC0-1.0"));
    run.ok(&["weights", "verify", "back.safetensors", "--source", "w.ckpt"]);
    let error = run.fails(1, &["weights", "verify", "back.safetensors", "--source", "w.safetensors"]);
    assert!(error.contains("another file"), "{error}");
    assert!(run.ok(&["weights", "list"]).lines().count() == 2);
    let builtin = run.ok(&["weights", "list", "--builtin"]);
    assert!(builtin.starts_with("rill: ") && builtin.contains("trained on  synth:"), "{builtin}");
});

cli!(an_exported_network_computes_the_same, |run| {
    run.ok(&["weights", "random", "lightflow-0.5", "-o", "w.safetensors"]);
    let text = run.ok(&["export", "onnx", "-w", "w.safetensors", "-o", "net.onnx", "--size", "64x128", "--check"]);
    let apart: f64 = text.split("by ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(apart < 1e-3, "{text}");
    let error = run.fails(2, &["export", "onnx", "-w", "w.safetensors", "-o", "net.onnx", "--size", "60x128"]);
    assert!(error.contains("64x128"), "{error}");
    run.ok(&["export", "onnx", "-m", "lightflow-0.5", "-w", "w.safetensors", "-o", "net.onnx", "--dynamic"]);
    let error = run.fails(2, &["export", "onnx", "-m", "pwcnet", "-w", "w.safetensors", "-o", "net.onnx", "--dynamic"]);
    assert!(error.contains("lightflow-0.5"), "{error}");
});

cli!(synthetic_pairs_are_written_checked_packed_and_evaluated, |run| {
    run.ok(&["synth", "chairs", "--count", "3", "--size", "64x96", "-o", "chairs"]);
    let check = run.output(&["data", "check", "chairs:chairs"]);
    assert!(String::from_utf8_lossy(&check.stdout).contains('3'));
    run.ok(&["data", "info", "chairs:chairs"]);
    run.ok(&["data", "pack", "chairs:chairs", "-o", "shards", "--num-shards", "2"]);
    run.ok(&["data", "bench", "shards:shards", "--count", "3"]);
    assert!(run.ok(&["data", "list"]).contains("sintel-clean"));
    let eval = |data: &str| -> serde_json::Value {
        serde_json::from_str(&run.ok(&["eval", data, "--baseline", "zero", "--json", "--csv", "pairs.csv"])).unwrap()
    };
    let (folder, shards) = (eval("chairs:chairs"), eval("shards:shards"));
    let epe = |report: &serde_json::Value, who: &str| report[who][0]["over_pixels"]["epe"].as_f64().unwrap();
    assert!(epe(&folder, "results") < epe(&folder, "baseline"));
    assert!((epe(&folder, "results") - epe(&shards, "results")).abs() < 1e-9);
    // A head, and a line for every pair and method.
    assert_eq!(fs::read_to_string(run.path("pairs.csv")).unwrap().lines().count(), 7);
    run.fails(1, &["data", "check", "chairs:nowhere"]);
    let error = run.fails(2, &["data", "check", "chair:x"]);
    assert!(error.contains("chairs"), "{error}");
});

cli!(a_generator_is_checked_without_writing, |run| {
    let text = run.ok(&["synth", "world", "--check", "4", "--size", "48x64", "--without-effects", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(report["warped"]["mean"].as_f64().unwrap() < report["unwarped"]["mean"].as_f64().unwrap());
    assert_eq!(report["pairs"], 4);
    assert!(run.ok(&["synth", "wild", "--check", "2", "--size", "48x64"]).contains("pairs/s"));
    run.fails(2, &["synth", "world"]);
});

cli!(bench_prints_one_json_object_last, |run| {
    let text = run.ok(&["bench", "-m", "lightflow-0.5", "--size", "64x64", "--runs", "3", "--json", "--profile"]);
    let report: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    for key in [
        "model", "height", "width", "device", "threads", "runs", "batch", "mean_s", "median_s", "min_s", "p95_s",
        "gflop",
    ] {
        assert!(!report[key].is_null(), "{key} in {report}");
    }
    assert!(report["layers"]["layers"].as_array().unwrap().len() > 10);
    let one = ["bench", "-m", "lightflow-0.5", "--size", "64x64", "--loop", "2"];
    let text = run.ok(&[&one[..], &["--batch", "2", "--json"]].concat());
    let report: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!((report["runs"].as_u64(), report["batch"].as_u64()), (Some(2), Some(2)));
    let table = run.ok(&[&one[..], &["-b", "1,2"]].concat());
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("pairs/s") && table.contains("not first ms"), "{table}");
    assert!(run.fails(2, &[&one[..], &["--train", "--batch", "1,2"]].concat()).contains("one --batch"));
});

cli!(bf16_is_computed_where_asked_for_and_refused_where_the_processor_lacks_it, |run| {
    let bench = ["bench", "-m", "lightflow-0.5", "--size", "64x64", "--runs", "1", "--json", "--precision", "bf16"];
    // Plain Rust stands in for the instructions.
    let output = run.command(&bench).env("FERROFLOW_BF16", "portable").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["precision"], "bf16");
    let doctor: serde_json::Value = serde_json::from_str(&run.ok(&["doctor", "--json"])).unwrap();
    if doctor["bf16"].is_null() {
        let error = run.fails(1, &bench);
        assert!(error.contains("neither AVX512-BF16 nor AMX tiles") && error.contains("--precision f32"), "{error}");
    } else {
        run.ok(&bench);
    }
    assert!(run.fails(2, &[&bench[..], &["--exact"]].concat()).contains("--exact"));
    assert!(run.fails(2, &[&bench[..], &["--train"]].concat()).contains("f32"));
    run.fails(2, &["estimate", "a.png", "b.png", "-m", "dis", "--precision", "bf16"]);
});

cli!(every_command_explains_itself, |run| {
    let help = run.ok(&["--help"]);
    for command in [
        "estimate", "train", "viz", "convert", "compare", "eval", "models", "weights", "export", "run", "score",
        "data", "synth", "bench", "doctor",
    ] {
        assert!(help.contains(command));
        let text = run.ok(&[command, "--help"]);
        assert!(text.contains("Usage"), "{command}");
    }
    assert!(run.ok(&["models"]).contains("flownet2-css"));
    assert!(run.ok(&["models", "pwcnet"]).contains("9374340"));
    let doctor: serde_json::Value = serde_json::from_str(&run.ok(&["doctor", "--json"])).unwrap();
    assert!(doctor["networks"].as_array().unwrap().len() > 20);
});

cli!(models_are_described_and_drawn, |run| {
    let all: serde_json::Value = serde_json::from_str(&run.ok(&["models", "--json"])).unwrap();
    for network in all.as_array().unwrap() {
        assert!(network["memory_bytes"].as_u64() > network["parameter_bytes"].as_u64(), "{network}");
        assert!(network["paper"].as_str().unwrap().contains("20"), "{network}: a paper has a year");
    }
    let dot = run.ok(&["models", "--graph", "lightflow"]);
    run.ok(&["models", "--graph", "lightflow", "-o", "net.dot"]);
    assert_eq!(fs::read_to_string(run.path("net.dot")).unwrap(), dot);
    run.ok(&["models", "lightflow", "--graph", "-o", "net.svg"]);
    assert!(fs::read_to_string(run.path("net.svg")).unwrap().starts_with("<svg"));
    run.fails(2, &["models", "--graph", "lightflow", "-o", "net.jpg"]);
    run.fails(2, &["models", "--graph", "-o", "net.svg"]);
});

/// A recipe so small that a step takes milliseconds.
const TINY_RECIPE: &str = "model = 'lightflow-0.5'\ndata = 'synth:chairs@size=64x64'\nvalidate = 'synth:chairs@seed=2,size=64x64,count=2'\n\
                           steps = 3\nbatch = 2\ncrop = '64x64'\nlr = 1e-3\ncheckpoint_every = 2\nloss = 'lightflow-l1'\nlog_every = 1\n";

cli!(train_runs_goes_on_draws_and_evaluates, |run| {
    fs::write(run.path("tiny.toml"), TINY_RECIPE).unwrap();
    let text = run.ok(&["train", "tiny.toml", "--set", "steps=2", "--out", "run"]);
    assert!(text.contains("done after step 2"), "{text}");
    let text = run.ok(&["train", "--resume", "run", "--set", "steps=3", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((json["step"].as_u64(), json["finished"].as_bool()), (Some(3), Some(true)));
    assert!(json["scores"][0]["zero_epe"].as_f64().unwrap() > 0.0);
    for file in ["recipe.toml", "log.jsonl", "weights/last.safetensors", "weights/best.safetensors"] {
        assert!(run.path("run").join(file).exists(), "{file}");
    }
    assert!(run.ok(&["train", "--plot", "run"]).contains("curves.png"));
    run.ok(&["eval", "synth:chairs@size=64x64,count=1", "-w", "run/weights/last.safetensors"]);
    assert!(run.ok(&["weights", "show", "run/weights/last.safetensors"]).contains("synth:chairs"));
});

cli!(train_says_what_is_wrong_with_a_recipe, |run| {
    fs::write(run.path("tiny.toml"), TINY_RECIPE).unwrap();
    assert!(run.fails(2, &["train", "tiny.toml", "--set", "stpes=2", "--out", "r"]).contains("did you mean `steps`?"));
    assert!(run.fails(2, &["train", "lightflow-sinth", "--out", "r"]).contains("`lightflow-synth`"));
    assert!(run.fails(2, &["train", "--resume", "r"]).contains("recipe.toml"));
    assert!(run.fails(2, &["train", "tiny.toml"]).contains("--out"));
    run.fails(1, &["train", "missing.toml", "--out", "r"]);
    let list = run.ok(&["train", "--list"]);
    assert!(list.contains("lightflow-synth") && list.contains("pwcnet-sintel-v2"));
    assert!(run.ok(&["train", "--list", "pwcnet-chairs"]).contains("crop = \"320x448\""));
});
