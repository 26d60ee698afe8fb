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
    assert!(
        text.contains("occlusion told by dis: F1 0.") && text.contains("occlusion told by zero: F1 0.0000"),
        "{text}"
    );

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

cli!(every_checkpoint_of_a_folder_is_a_row, |run| {
    fs::create_dir(run.path("all")).unwrap();
    for (name, seed) in [("uflow_10_1000", "1"), ("uflow_9_1000", "2"), ("uflow_800_1000", "3")] {
        let file = format!("all/{name}.safetensors");
        run.ok(&["weights", "random", "lightflow-0.5", "--seed", seed, "-o", &file]);
    }
    fs::write(run.path("all/notes.txt"), "no weights").unwrap();
    let report = json(&run, &["--checkpoints", "all", "--occlusion", "wang"]);
    let rows = report["checkpoints"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["file"].as_str().unwrap()).collect();
    assert_eq!(names, ["uflow_9_1000.safetensors", "uflow_10_1000.safetensors", "uflow_800_1000.safetensors"]);
    let epe = |row: &Value| row["results"][0]["over_images"]["epe"].as_f64().unwrap();
    let least = rows.iter().map(epe).fold(f64::INFINITY, f64::min);
    for row in rows {
        assert_eq!(row["results"][0]["best"].as_bool().unwrap(), epe(row) == least, "{row}");
        let alone = json(&run, &["-w", &format!("all/{}", row["file"].as_str().unwrap())]);
        assert_eq!(alone["results"][0]["over_images"]["epe"].as_f64().unwrap(), epe(row));
        assert!(row["results"][0]["seconds"].as_f64().unwrap() > 0.0);
    }

    let late = json(&run, &["--checkpoints", "all", "--from-epoch", "800"]);
    assert_eq!(late["checkpoints"].as_array().unwrap().len(), 1);
    assert_eq!(late["checkpoints"][0]["epoch"], 800);
    assert!(run.fails(2, &["eval", DATA, "--checkpoints", "all", "--from-epoch", "801"]).contains("epoch 801"));
    run.fails(2, &["eval", DATA, "--checkpoints", "all", "-w", "all/uflow_9_1000.safetensors"]);

    // One that cannot be read is named; the others are there.
    fs::write(run.path("all/uflow_11_1000.ckpt"), "half a file").unwrap();
    let output = run.output(&["eval", DATA, "--checkpoints", "all"]);
    let (table, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("1 of 4 files were left out: uflow_11_1000.ckpt"), "{said}");
    assert_eq!(table.matches(".safetensors").count(), 3, "{table}");
    assert_eq!(table.lines().filter(|line| line.ends_with("best")).count(), 1, "{table}");
    assert!(table.contains("epe (px) over images"), "{table}");

    fs::create_dir(run.path("empty")).unwrap();
    assert!(run.fails(2, &["eval", DATA, "--checkpoints", "empty"]).contains(".safetensors"));
    fs::write(run.path("empty/a.pth"), "half a file").unwrap();
    assert!(run.fails(1, &["eval", DATA, "--checkpoints", "empty"]).contains("none of the 1 files"));
});

const RECIPE: &str = "model = 'lightflow-0.5'\ndata = 'synth:chairs@size=64x64'\nsteps = 2\nbatch = 1\ncrop = '64x64'\n\
                      lr = 1e-3\ncheckpoint_every = 1\nloss = 'lightflow-l1'\nlog_every = 1\n";

cli!(the_checkpoints_of_a_run_are_read_with_its_recipe, |run| {
    fs::write(run.path("tiny.toml"), RECIPE).unwrap();
    run.ok(&["train", "tiny.toml", "--out", "run"]);
    let report = json(&run, &["--checkpoints", "run/checkpoints"]);
    let rows = report["checkpoints"].as_array().unwrap();
    let last = rows.last().unwrap();
    assert_eq!(last["file"], "step-000000002.safetensors");
    let weights = json(&run, &["-w", "run/weights/last.safetensors"]);
    assert_eq!(weights["results"][0]["over_images"], last["results"][0]["over_images"]);
    assert!(run.fails(2, &["eval", DATA, "--checkpoints", "run"]).contains("checkpoints"));
});

cli!(the_centre_of_pairs_is_evaluated, |run| {
    run.ok(&["weights", "random", "lightflow-0.5", "-o", "w.safetensors"]);
    let at = |data: &str, more: &[&str]| {
        let report: Value = serde_json::from_str(
            &run.ok(&[&["eval", data, "--json", "-w", "w.safetensors", "--protocol", "flownet2"], more].concat()),
        )
        .unwrap();
        report["results"][0]["pairs"][0]["size"].as_str().unwrap().to_string()
    };
    let (even, odd) = ("synth:chairs@size=128x192,count=1", "synth:chairs@size=130x192,count=1");
    assert_eq!(at(even, &["--crop", "64x128"]), "64x128");
    // FlowNet2's evaluation size is for frames that it need not fit.
    assert_eq!(at(odd, &["--crop", "64x128"]), "130x192");
    assert_eq!(at(even, &[]), "128x192");
});

cli!(a_split_is_told_with_its_hash_and_written_as_a_list, |run| {
    let split = "synth:chairs@size=32x32,count=10,holdout=0.3";
    let told = run.ok(&["data", "split", &format!("{split},train"), "-o", "list.txt"]);
    let lines = fs::read_to_string(run.path("list.txt")).unwrap();
    assert_eq!((lines.lines().count(), lines.matches('2').count()), (10, 3));
    let hash = told.rsplit(' ').next().unwrap().trim();
    assert_eq!(hash.len(), 64);
    // Read again as a list it is the same split.
    let listed = "synth:chairs@size=32x32,count=10,split=list.txt";
    let again = run.ok(&["data", "split", &format!("{listed},val"), "-o", "again.txt"]);
    assert!(again.contains(hash), "{again}");
    let ids = |data: &str| {
        let report: Value =
            serde_json::from_str(&run.ok(&["eval", &format!("{data},val"), "-m", "dis", "--json"])).unwrap();
        let pairs = report["results"][0]["pairs"].as_array().unwrap();
        pairs.iter().map(|pair| pair["id"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!((ids(split), ids(split).len()), (ids(listed), 3));
    assert!(run.fails(2, &["data", "split", &format!("{listed},val"), "-o", "list.txt"]).contains("list.txt"));
    assert!(run.fails(2, &["data", "split", "synth:chairs@count=3", "-o", "x.txt"]).contains("holdout"));
});

cli!(several_methods_are_one_table_with_the_numbers_of_separate_runs, |run| {
    for (file, seed) in [("first.safetensors", "1"), ("second.safetensors", "2")] {
        run.ok(&["weights", "random", "lightflow-0.5", "--seed", seed, "-o", file]);
    }
    run.ok(&["eval", DATA, "-m", "dis-fast", "--save", "flows"]);
    let all = [
        &["-w", "first.safetensors", "-w", "second.safetensors", "--flows", "other=flows", "--baseline", "dis"][..],
        &["--csv", "all.csv", "--report", "page.html"],
    ]
    .concat();
    let report = json(&run, &all);
    let alone = |more: &[&str]| json(&run, more)["results"][0]["pairs"].clone();
    // Everything but the time.
    let same = |together: &Value, alone: &Value| {
        let pairs = together["pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), 2);
        for (a, b) in pairs.iter().zip(alone.as_array().unwrap()) {
            let without = |pair: &Value| {
                let mut pair = pair.as_object().unwrap().clone();
                pair.remove("seconds");
                pair
            };
            assert_eq!(without(a), without(b));
        }
    };
    same(&report["results"][0], &alone(&["-w", "first.safetensors"]));
    same(&report["others"][0]["results"][0], &alone(&["-w", "second.safetensors"]));
    same(&report["others"][1]["results"][0], &alone(&["-m", "dis-fast"]));
    same(&report["baseline"][0], &alone(&["-m", "dis"]));
    assert!(report["others"][1]["results"][0]["pairs"][0].get("seconds").is_none(), "nobody timed a file");

    let comparison = &report["comparisons"][0];
    assert_eq!(comparison["methods"], serde_json::json!(["first", "second", "other", "dis"]));
    let difference = &comparison["differences"][4];
    assert_eq!((&difference["method"], &difference["metric"]), (&"dis".into(), &"epe".into()));
    let epe = |results: &Value| results["over_images"]["epe"].as_f64().unwrap();
    let expected = epe(&report["baseline"][0]) - epe(&report["results"][0]);
    assert!((difference["mean"].as_f64().unwrap() - expected).abs() < 1e-9, "{difference}");
    assert_eq!(json(&run, &all)["comparisons"], report["comparisons"], "the seed is fixed");

    let csv = fs::read_to_string(run.path("all.csv")).unwrap();
    assert!(csv.starts_with("method,data,id,") && csv.lines().count() == 1 + 4 * 2, "{csv}");
    let page = fs::read_to_string(run.path("page.html")).unwrap();
    assert!(page.contains("ferroflow eval synth:chairs@size=70x100,count=2") && page.contains("flow of other"));
    let text = run.ok(&[&["eval", DATA], &all[..]].concat());
    assert!(text.contains("dis - first") && text.contains("over images\n"), "{text}");

    // Only the folder: no network is run.
    let flows = json(&run, &["--flows", "other=flows"]);
    assert_eq!(flows["method"], "flows of flows");
    assert!(run.fails(2, &["eval", DATA, "--flows", "flows"]).contains("NAME=DIR"));
    assert!(run.fails(2, &["eval", DATA, "--flows", "x=nowhere"]).contains("no such folder"));
    run.fails(2, &["estimate", "a.png", "b.png", "-w", "first.safetensors", "-w", "second.safetensors"]);
    fs::create_dir(run.path("empty")).unwrap();
    let error = run.fails(1, &["eval", DATA, "--flows", "x=empty", "--csv", "none.csv"]);
    assert!(error.contains("empty holds no flow of it") && !run.path("none.csv").exists(), "{error}");
    // Those of several networks are kept apart.
    run.ok(&["eval", DATA, "-w", "first.safetensors", "-w", "second.safetensors", "--save", "both"]);
    let saved = run.files("both");
    assert_eq!(saved.len(), 4);
    assert!(saved[0].starts_with("first/") && saved[3].starts_with("second/"), "{saved:?}");
});

cli!(confidence_is_measured_against_the_true_error, |run| {
    let report = json(&run, &["-m", "dis", "--confidence"]);
    let found = &report["results"][0]["confidence"];
    let bins = found["bins"].as_array().unwrap();
    let share: f64 = bins.iter().map(|bin| bin["share"].as_f64().unwrap()).sum();
    assert!((share - 100.0).abs() < 1e-6, "{found}");
    let calibrated: Vec<f64> = bins.iter().map(|bin| bin["calibrated"].as_f64().unwrap()).collect();
    assert!(calibrated.windows(2).all(|pair| pair[0] <= pair[1]), "{found}");
    // Sure pixels are right more often than unsure ones, and the ranking is far better than none.
    let right = |bin: &Value| bin["right"].as_f64().unwrap();
    assert!(right(&bins[bins.len() - 1]) > right(&bins[0]), "{found}");
    assert!((0.0..0.6).contains(&found["ause"].as_f64().unwrap()), "{found}");
    assert!(run.ok(&["eval", DATA, "-m", "dis", "--confidence"]).contains("confidence of dis: calibration error"));
    run.fails(2, &["eval", DATA, "--flows", "a=b", "--confidence"]);
});

cli!(the_help_explains_every_figure, |run| {
    let help = run.ok(&["eval", "--help"]);
    for metric in ferroflow::core::metrics::METRICS {
        assert!(help.contains(metric.name), "{}", metric.name);
    }
    assert!(help.contains("nearest occlusion boundary") && help.contains("over images"));
});
