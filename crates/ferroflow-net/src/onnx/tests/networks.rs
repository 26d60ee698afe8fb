//! Whole networks: forms of one file agree, and ONNX Runtime gives the references' flow.

use super::runtimes;
use super::*;
use crate::Model;
use crate::weights::formula::{ImagePair, image_pair};
use crate::weights::import::tests::shared;

fn planes(rgb: &[u8]) -> Vec<f32> {
    rgb.iter().map(|&v| f32::from(v)).collect()
}

fn written(model: &Model, options: &Options) -> Vec<u8> {
    let mut file = Vec::new();
    export(&model.graph, &Weights::formula(model, "ferroflow-golden"), options, &mut file).unwrap();
    file
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Fixed or any size, old or new operators, frames or normalised frames: one flow. Rounding alone differs.
#[test]
fn every_form_of_a_file_gives_one_flow() {
    let (h, w) = (64, 128);
    let pair = image_pair("onnx", "pair", h, w);
    let frames = [planes(&pair.first), planes(&pair.second)];
    let shape = [1, 3, h, w];
    let unit: Vec<Vec<f32>> = frames.iter().map(|f| f.iter().map(|v| v / 255.0).collect()).collect();
    let fixed = Options { size: Some((h, w)), opset: 11, correlation: CorrelationForm::Slices, ..Options::default() };
    let open = Options { size: None, batch: None, opset: 15, ..Options::default() };
    for name in ["lightflow-0.5", "pwcnet-sm", "uflow", "raft-small", "sea-raft-s"] {
        let model = Model::named(name).unwrap();
        let run = |options: &Options, names, inputs: [&[f32]; 2]| {
            runtimes::rten(&written(&model, options), names, inputs, shape)
        };
        let images = ["frame1", "frame2"];
        let flow = run(&fixed, images, [&frames[0], &frames[1]]);
        assert!(flow.iter().any(|v| v.abs() > 0.5), "{name}: the flow is nothing to compare with");
        let d = difference(&flow, &run(&open, images, [&frames[0], &frames[1]]));
        assert!(d < 5e-4, "{name}: {d} px between fixed and any size");
        if name == "pwcnet-sm" {
            let normalised = Options { inputs: Inputs::Normalised, ..fixed.clone() };
            let d = difference(&flow, &run(&normalised, ["x1", "x2"], [&unit[0], &unit[1]]));
            assert!(d < 5e-4, "{name}: {d} px between frames and normalised frames");
        }
    }
}

/// Indices of 32 bits and merged slices change no flow, and no index is left that a device compiler trips over.
#[test]
fn narrow_indices_give_the_same_flow() {
    let (h, w) = (64, 128);
    let pair = image_pair("onnx", "pair", h, w);
    let frames = [planes(&pair.first), planes(&pair.second)];
    for (name, opset, correlation) in [
        ("pwcnet-sm", 11, CorrelationForm::Slices),
        ("pwcnet", 11, CorrelationForm::MatMul),
        ("uflow", 17, CorrelationForm::Slices),
        ("raft-small", 11, CorrelationForm::MatMul),
    ] {
        let model = Model::named(name).unwrap();
        let weights = Weights::formula(&model, "ferroflow-golden");
        let wide =
            Options { size: Some((h, w)), opset, correlation, warp: Some(WarpForm::Gather), ..Options::default() };
        let narrow = Options { indices: Indices::Int32, ..wide.clone() };
        let run = |options: &Options| {
            let mut file = Vec::new();
            export(&model.graph, &weights, options, &mut file).unwrap();
            runtimes::rten(&file, ["frame1", "frame2"], [&frames[0], &frames[1]], [1, 3, h, w])
        };
        let (a, b) = (run(&wide), run(&narrow));
        let d = difference(&a, &b);
        assert!(d < 1e-5 && a.iter().any(|v| v.abs() > 0.5), "{name}: {d} px");

        let shapes = model.graph.shapes(&Sizes::new(1, h, w)).unwrap();
        let lowered = lower::lower(&model.graph, &weights, &shapes, &narrow, model.graph.flow.unwrap()).unwrap();
        let made_by = |value: &str| lowered.graph.node.iter().find(|node| node.output.iter().any(|o| o == value));
        let kind_of = |value: &str| lowered.tensors.iter().find(|t| t.head.name == value).map(|t| t.head.kind);
        for node in &lowered.graph.node {
            let read = |i: usize| node.input[i].as_str();
            match node.op_type.as_str() {
                "Slice" => {
                    assert_ne!(made_by(read(0)).map(|n| n.op_type.as_str()), Some("Slice"), "{name}: {}", node.name);
                    assert!((1..5).all(|i| kind_of(read(i)) == Some(proto::kind::INT32)), "{name}: {}", node.name);
                }
                "Gather" | "GatherElements" => {
                    assert_ne!(kind_of(read(1)), Some(proto::kind::INT64), "{name}: {}", node.name)
                }
                "Cast" => {
                    assert!(
                        node.attribute.iter().all(|a| a.i != Some(proto::kind::INT64.into())),
                        "{name}: {}",
                        node.name
                    );
                }
                "Reshape" | "Pad" => assert_ne!(kind_of(read(1)), Some(proto::kind::INT32), "{name}: {}", node.name),
                _ => {}
            }
        }
        // Where Python has it, the file is checked against the standard's types too.
        if opset == 11
            && let Some(flow) = runtimes::onnxruntime(&written(&model, &narrow), [&frames[0], &frames[1]], [1, 3, h, w])
        {
            let d = difference(&a, &flow);
            assert!(d < 1e-3, "{name}: {d} px in ONNX Runtime");
        }
    }
    let model = Model::named("lightflow-0.5").unwrap();
    let open = Options { indices: Indices::Int32, ..Options::default() };
    assert!(matches!(exported(&model, &open), Err(OnnxError::OpenIndices)));
}

/// The exported RAFT-small gives PyTorch's flow: in single precision, and with convolutions in half.
#[test]
fn raft_gives_the_flow_of_pytorch() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../ferroflow-cpu/tests/golden/raft/raft-small_a.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let golden = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let name = golden.names().into_iter().find(|name| name.starts_with("flow12@every")).unwrap().to_string();
    let every: usize = name.trim_start_matches("flow12@every").parse().unwrap();
    let data = golden.tensor(&name).unwrap().data().to_vec();
    let theirs: Vec<f32> = data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let (h, w) = (128, 160);
    let pairs = ["raft0", "raft1"].map(|name| image_pair("ferroflow-golden", name, h, w));
    let frames = [
        pairs.iter().flat_map(|pair| planes(&pair.first)).collect::<Vec<f32>>(),
        pairs.iter().flat_map(|pair| planes(&pair.second)).collect(),
    ];
    let model = Model::named("raft-small").unwrap();
    // Of flows of up to 30 px: half precision has 11 bits in each of a hundred layers.
    for (precision, most) in [(Precision::F32, 1e-3), (Precision::F16, 0.3)] {
        let options = Options { size: Some((h, w)), batch: Some(2), precision, ..Options::default() };
        let file = written(&model, &options);
        let frames = [&frames[0][..], &frames[1][..]];
        let mean = |flow: &[f32]| {
            let ours = flow.iter().step_by(every).take(theirs.len());
            ours.zip(&theirs).map(|(a, b)| (a - b).abs()).sum::<f32>() / theirs.len() as f32
        };
        if precision == Precision::F32 {
            let ran = mean(&runtimes::rten(&file, ["frame1", "frame2"], frames, [2, 3, h, w]));
            assert!(ran < most, "{ran} px in the mean, in rten");
        }
        if let Some(flow) = runtimes::onnxruntime(&file, frames, [2, 3, h, w]) {
            assert!(mean(&flow) < most, "{} px in the mean, in ONNX Runtime", mean(&flow));
        }
    }
}

/// One file makes features and the other one flow of them: together they are the whole.
#[test]
fn two_files_give_the_flow_of_one() {
    let (h, w) = (64, 128);
    let pair = image_pair("onnx", "pair", h, w);
    let frames = [planes(&pair.first), planes(&pair.second)];
    for (name, open) in [("uflow", false), ("uflow-mindspore", true)] {
        let model = Model::named(name).unwrap();
        let options = Options { size: (!open).then_some((h, w)), batch: (!open).then_some(1), ..Options::default() };
        let whole =
            runtimes::rten(&written(&model, &options), ["frame1", "frame2"], [&frames[0], &frames[1]], [1, 3, h, w]);
        let run = |part, inputs: &[(String, [usize; 4], &[f32])], outputs: &[String]| {
            let file = rten::Model::load(written(&model, &Options { part, ..options.clone() })).unwrap();
            let values = inputs.iter().map(|(name, shape, values)| {
                (file.node_id(name).unwrap(), rten::ValueView::from_shape(*shape, values).unwrap().into())
            });
            let outputs: Vec<_> = outputs.iter().map(|name| file.node_id(name).unwrap()).collect();
            let made = file.run(values.collect(), &outputs, None).unwrap();
            made.into_iter().map(|value| value.into_shape_vec::<f32, 4>().unwrap()).collect::<Vec<_>>()
        };
        let names: Vec<String> = (1..=5).map(|level| format!("features_{level}")).collect();
        let features = run(Part::Features, &[("frames".into(), [2, 3, h, w], &frames.concat())], &names);
        let mut given = Vec::new();
        for frame in 0..2 {
            for (level, (shape, values)) in (1..).zip(&features) {
                assert_eq!(*shape, [2, 32, h >> level, w >> level], "{name}");
                let half = values.len() / 2;
                let shape = [1, 32, h >> level, w >> level];
                given.push((format!("features{}_{level}", frame + 1), shape, &values[frame * half..][..half]));
            }
        }
        let flow = run(Part::Flow, &given, &["flow".into()]);
        let d = difference(&whole, &flow[0].1);
        assert!(d < 1e-4 && whole.iter().any(|v| v.abs() > 0.5), "{name}: {d} px");
    }
}

/// A network, the golden file of its reference, and the key of a flow in pixels at full size.
const GOLDEN: [(&str, &[&str], &str, &str); 12] = [
    ("flownet2", &[], "flownet2/nvidia_FlowNet2", "flow"),
    ("flownet2", &["variant=mindspore"], "flownet2/mindspore_FlowNet2", "flow"),
    ("flownet2", &["variant=ptlflow"], "flownet2/ptlflow_flownet2", "flow"),
    ("flownet2-css", &[], "flownet2/nvidia_FlowNet2CSS", "flow"),
    ("flownet2-css", &["variant=ptlflow"], "flownet2/ptlflow_flownetcss", "flow"),
    ("flownet2-s-bn", &[], "flownet2/nvidia_FlowNet2S_bn", "flow"),
    ("flownet2-c-bn", &[], "flownet2/nvidia_FlowNet2C_bn", "flow"),
    ("flownet2-cs", &["variant=mindspore"], "flownet2/mindspore_FlowNet2CS", "flow"),
    ("flownet2", &["variant=ascend"], "flownet2/ascend_FlowNet2", "flow"),
    ("pwcnet", &["variant=ptlflow"], "pwcnet/ptlflow_pwcnet", "flow"),
    ("pwcnet-sm", &[], "pwcnet/tfoptflow_sm", "flow"),
    ("pwcnet-lg-6-2", &[], "pwcnet/tfoptflow_lg", "flow"),
];

fn golden(network: (&str, &[&str], &str, &str), opsets: &[i64]) {
    let (name, options, file, key) = network;
    let model = Model::parse(name, options).unwrap();
    for (set, pairs, h, w) in [("a", &["a0", "a1"][..], 128, 192), ("b", &["b0"][..], 64, 64)] {
        let path = format!("golden/{file}_{set}.safetensors");
        let Some(bytes) = shared(&path).map(|p| std::fs::read(p).unwrap()) else { continue };
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let stored = |name: &str| -> Option<Vec<f32>> {
            let tensor = tensors.tensor(name).ok()?;
            Some(tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        };
        let expected = stored(key).unwrap();
        // Where the file has inputs of its own, the reference's code normalised them.
        let (first, second, inputs) = match (stored("x1"), stored("x2")) {
            (Some(x1), Some(x2)) => (x1, x2, Inputs::Normalised),
            _ => {
                let pairs: Vec<_> = pairs.iter().map(|p| image_pair("ferroflow-golden", p, h, w)).collect();
                let join = |frame: fn(&ImagePair) -> &[u8]| pairs.iter().flat_map(|p| planes(frame(p))).collect();
                (join(|p| &p.first), join(|p| &p.second), Inputs::Images)
            }
        };
        for &opset in opsets {
            for is_fixed in [true, false] {
                let options = Options {
                    opset,
                    size: is_fixed.then_some((h, w)),
                    batch: is_fixed.then_some(pairs.len()),
                    inputs,
                    ..Options::default()
                };
                let ran = runtimes::onnxruntime(&written(&model, &options), [&first, &second], [pairs.len(), 3, h, w]);
                let Some(flow) = ran else { return };
                let d = difference(&flow, &expected);
                println!("{name} {set}, opset {opset}, fixed {is_fixed}: {d:.1e} px");
                assert!(d < 1e-3, "{name} {set}, opset {opset}, fixed {is_fixed}: {d} px");
            }
        }
    }
}

#[test]
fn onnxruntime_gives_the_references_flow() {
    for network in GOLDEN.into_iter().filter(|n| n.0 == "pwcnet-sm") {
        golden(network, &[11, 17]);
    }
}

#[test]
#[ignore = "a minute: FlowNet2's file has 650 MB"]
fn onnxruntime_gives_the_references_flow_for_large_networks() {
    for network in GOLDEN {
        golden(network, &[11, 17]);
    }
}
