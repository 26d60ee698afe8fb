//! The pipelines of other runtimes: prepared inputs, runs, scores, and what leaves for other frameworks.

mod common;

use std::fs;

use common::{Run, cli};
use ferroflow::core::{Size, io};
use serde_json::Value;

fn json(run: &Run, args: &[&str]) -> Value {
    serde_json::from_str(run.ok(args).trim()).unwrap()
}

fn epe(score: &Value) -> f64 {
    score["over_images"]["epe"].as_f64().unwrap()
}

cli!(weights_and_their_onnx_file_run_on_prepared_inputs, |run| {
    run.ok(&["synth", "sdhom", "--count", "2", "--size", "60x96", "-o", "data"]);
    run.ok(&["weights", "random", "pwcnet-sm", "-o", "w.safetensors"]);
    for (layout, inputs, name) in [("images", "images", "1_0.bin"), ("pwcnet", "normalised", "00002_output_0.bin")] {
        let prepared = format!("prepared-{layout}");
        run.ok(&["export", "inputs", "chairs:data", "-o", &prepared, "--layout", layout, "--format", "bin"]);
        let onnx = format!("{layout}.onnx");
        run.ok(&[
            "export",
            "onnx",
            "-w",
            "w.safetensors",
            "-o",
            &onnx,
            "--size",
            "64x128",
            "--inputs",
            inputs,
            "--int32",
            "--warp",
            "gather",
        ]);
        let mut scores = Vec::new();
        for (model, results) in [("w.safetensors", "ours"), (&onnx, "theirs")] {
            let results = format!("{results}-{layout}");
            let ran = json(&run, &["run", model, &prepared, "-o", &results, "--loop", "2", "--json"]);
            assert_eq!((ran["pairs"].as_u64(), ran["timing"]["runs"].as_u64()), (Some(2), Some(4)), "{ran}");
            assert!(run.path(&results).join(name).is_file(), "{:?}", run.files(&results));
            scores.push(epe(&json(&run, &["score", &prepared, "--outputs", &results, "--json"])));
        }
        assert!((scores[0] - scores[1]).abs() < 1e-3, "{layout}: {scores:?}");
        // Without the list, as a reference's own script leaves it.
        fs::remove_file(run.path(&prepared).join("pairs.json")).unwrap();
        let results = format!("ours-{layout}");
        let truth = format!("{prepared}/gt");
        let told = json(&run, &["score", &truth, "--outputs", &results, "--size", "60x96", "--json"]);
        assert!((epe(&told) - scores[0]).abs() < 1e-12, "{layout}");
        assert!(run.fails(2, &["score", &prepared, "--outputs", &results]).contains("--size"));
    }
    run.ok(&["export", "inputs", "chairs:data", "-o", "other", "--layout", "flownet2"]);
    assert!(run.fails(1, &["run", "pwcnet.onnx", "other", "-o", "x"]).contains("--layout pwcnet"));
    run.ok(&["export", "onnx", "-o", "rill.onnx", "--size", "64x128", "--inputs", "normalised"]);
    assert!(run.fails(1, &["run", "rill.onnx", "other", "-o", "x"]).contains("--inputs images"));
    let error = run.fails(1, &["run", "missing.onnx", "other", "-o", "x"]);
    assert!(error.contains("missing.onnx"), "{error}");
    assert!(run.fails(2, &["run", "net.om", "prepared-images", "-o", "x", "--size", "60x96"]).contains("msame"));
    assert!(!run.path("x").exists());
});

cli!(vendors_formats_are_refused_with_the_way_to_them, |run| {
    for (name, converter) in [("a.om", "atc "), ("a.air", "atc "), ("a.mindir", "converter_lite ")] {
        let error = run.fails(2, &["export", "onnx", "-o", name, "--size", "64x64"]);
        assert!(error.contains(converter) && error.contains("a.onnx"), "{error}");
    }
    assert!(run.fails(2, &["export", "onnx", "-o", "a.onnx", "--dynamic", "--int32"]).contains("--dynamic"));
    let dynamic = ["export", "onnx", "-o", "a.onnx", "--size", "64x64", "--batch", "0", "--int32"];
    assert!(run.fails(2, &dynamic).contains("--int32 needs"));
    assert!(run.files("").is_empty());
});

cli!(weights_go_back_to_their_framework, |run| {
    run.ok(&["weights", "random", "lightflow-0.5", "-o", "l.safetensors"]);
    run.ok(&["weights", "export", "l.safetensors", "--to", "pytorch", "-o", "out/l.pth.tar"]);
    run.ok(&["weights", "random", "pwcnet-lg-6-2", "-o", "p.safetensors"]);
    run.ok(&["weights", "export", "p.safetensors", "--to", "tensorflow", "-o", "tf/pwcnet-0"]);
    assert_eq!(run.files("tf"), ["checkpoint", "pwcnet-0.data-00000-of-00001", "pwcnet-0.index"]);
    for (file, ours) in [("out/l.pth.tar", "l"), ("tf", "p"), ("tf/pwcnet-0", "p")] {
        run.ok(&["weights", "import", file, "-o", "back.safetensors"]);
        let values = |name: &str| -> Value {
            let shown = json(&run, &["weights", "show", name, "--json"]);
            Value::from([shown["model"].clone(), shown["values"].clone()].to_vec())
        };
        assert_eq!(values("back.safetensors"), values(&format!("{ours}.safetensors")), "{file}");
    }
    let error = run.fails(1, &["weights", "export", "p.safetensors", "--to", "pytorch", "-o", "p.pth.tar"]);
    assert!(error.contains("TensorFlow"), "{error}");
    let text = run.ok(&["export", "tensorflow", "-w", "tf/pwcnet-0", "-o", "pwcnet.pb", "--size", "64x128"]);
    assert!(text.contains("x_tnsr [1, 2, 64, 128, 3]"), "{text}");
    assert!(
        run.fails(2, &["export", "tensorflow", "-w", "tf/pwcnet-0", "-o", "x.pb", "--size", "64x100"])
            .contains("64x128")
    );
    let error = run.fails(1, &["export", "tensorflow", "-w", "l.safetensors", "-o", "x.pb"]);
    assert!(error.contains("ONNX") && !run.path("x.pb").exists(), "{error}");
});

cli!(data_are_packed_as_uflows_converters_do, |run| {
    run.ok(&["synth", "sdhom", "--count", "3", "--size", "48x64", "-o", "data"]);
    fs::write(run.path("split.txt"), "1\n2\n1\n").unwrap();
    let pack = ["data", "pack", "chairs:data", "-o", "records", "--format"];
    run.ok(&[&pack[..], &["tfrecord", "--split-file", "split.txt"]].concat());
    assert_eq!(run.files("records"), ["test/flying_chairs@0.tfrecord", "train/flying_chairs@0.tfrecord"]);
    assert_eq!(json(&run, &["data", "info", "tfrecord:records/train", "--json"])["pairs"], 2);
    let error = run.fails(2, &[&pack[..], &["mindrecord"]].concat());
    assert!(error.contains("1) ") && error.contains("2) ferroflow data pack"), "{error}");
    assert!(run.fails(2, &["data", "info", "mindrecord:records"]).contains("mindspore.mindrecord"));
    assert!(run.fails(2, &[&pack[..5], &["--split-file", "split.txt"]].concat()).contains("chairs:PATH@train"));
});

cli!(lightflows_names_and_sizes_of_results, |run| {
    fs::create_dir(run.path("frames")).unwrap();
    for (name, shift) in [("a1", 0), ("a2", 1), ("b_1", 0), ("b_2", 2), ("other", 0)] {
        run.write_frame(&format!("frames/{name}.png"), 128, 64, shift);
    }
    run.ok(&["weights", "random", "lightflow-0.5", "-o", "w.safetensors"]);
    let estimate = |more: &[&str]| {
        let all = ["estimate", "frames", "-w", "w.safetensors", "--names", "lightflow", "--format", "npy"];
        run.ok(&[&all[..], more].concat())
    };
    let coarse = ["--bidirectional", "--upsampling", "none", "-o", "out", "--viz", "out", "--style", "rgb", "--norm"];
    assert!(estimate(&[&coarse[..], &["fixed:20"]].concat()).contains("2 pairs"));
    let names = ["aflow", "ainv_flow", "b_flow", "b_inv_flow"];
    let files: Vec<String> = names.iter().flat_map(|name| ["npy", "png"].map(|end| format!("{name}.{end}"))).collect();
    assert_eq!(run.files("out"), files);
    for (kind, size) in [("nearest", Size::new(64, 128)), ("bilinear", Size::new(64, 128))] {
        estimate(&["--upsampling", kind, "-o", kind]);
        assert_eq!(run.files(kind), ["aflow.npy", "b_flow.npy"]);
        assert_eq!(io::read_flow(run.path(kind).join("aflow.npy")).unwrap().size(), size);
    }
    let read = |path: &str| io::read_flow(run.path(path)).unwrap();
    let (quarter, nearest) = (read("out/aflow.npy"), read("nearest/aflow.npy"));
    assert_eq!(quarter.size(), Size::new(16, 32));
    for (x, y) in [(0, 0), (127, 63), (50, 21)] {
        assert_eq!(nearest.get(x, y), quarter.get(x / 4, y / 4));
    }
    // Its reference enlarges bilinearly too.
    estimate(&["-o", "usual"]);
    let (bilinear, usual) = (read("bilinear/b_flow.npy"), read("usual/b_flow.npy"));
    let apart = bilinear.u().iter().zip(usual.u()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-4, "{apart}");
    run.fails(2, &["estimate", "frames/a1.png", "frames/a2.png", "--names", "lightflow", "-o", "x"]);
    assert!(
        run.fails(2, &["estimate", "frames", "-m", "dis", "-o", "x", "--upsampling", "none"]).contains("no network")
    );
});
