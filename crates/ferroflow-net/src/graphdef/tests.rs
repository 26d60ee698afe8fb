use std::{collections::HashSet, path::Path, process::Command};

use super::*;
use crate::Model;
use crate::weights::formula::image_pair;
use crate::weights::import::tests::shared;

const SIZE: Size = Size { height: 64, width: 64 };

fn written(name: &str, size: Size) -> Result<Vec<u8>, GraphDefError> {
    let model = Model::named(name).unwrap();
    let mut file = Vec::new();
    export(&model.graph, &Weights::formula(&model, "ferroflow-golden"), size, &mut file).map(|()| file)
}

#[test]
fn a_graph_reads_only_what_comes_before_and_holds_every_weight() {
    for name in ["pwcnet-sm", "pwcnet-lg-6-2"] {
        let graph = proto::GraphDef::decode(&written(name, SIZE).unwrap()[..]).unwrap();
        let mut known = HashSet::new();
        for node in &graph.node {
            for input in &node.input {
                assert!(known.contains(input), "{name}: {} reads {input}", node.name);
            }
            assert!(known.insert(node.name.clone()), "{name}: two nodes are called {}", node.name);
        }
        assert_eq!((graph.node[0].name.as_str(), graph.node[0].op.as_str()), (INPUT, "Placeholder"));
        assert_eq!(graph.node.last().unwrap().name, OUTPUT);
        let model = Model::named(name).unwrap();
        for param in &model.graph.params {
            assert!(known.contains(&param.name), "{name}: {}", param.name);
        }
        // TensorFlow's paddings are all there is.
        let pads = graph.node.iter().filter(|node| node.op == "Pad").count();
        assert_eq!(pads, 5, "{name}: one for each cost volume");
    }
}

#[test]
fn other_networks_are_refused_with_the_way_out() {
    for (name, what) in
        [("lightflow-0.5", "RGB / 255"), ("uflow", "export it as ONNX"), ("pwcnet", "export it as ONNX")]
    {
        let error = written(name, Size::new(128, 128)).unwrap_err().to_string();
        assert!(error.contains(what), "{name}: {error}");
    }
    assert!(matches!(
        written("pwcnet-sm", Size::new(63, 64)),
        Err(GraphDefError::Shape(_) | GraphDefError::Unsupported(_))
    ));
}

const SCRIPT: &str = "
import sys, numpy, tensorflow as tf
tf1 = tf.compat.v1
file, frames, out, *shape = sys.argv[1:]
graph = tf1.GraphDef()
graph.ParseFromString(open(file, 'rb').read())
with tf1.Graph().as_default() as g:
    tf1.import_graph_def(graph, name='')
    with tf1.Session(graph=g) as session:
        x = numpy.fromfile(frames, numpy.float32).reshape([int(s) for s in shape])
        flow = session.run('output:0', {'x_tnsr:0': x})
assert flow.shape == (1, x.shape[2], x.shape[3], 2), flow.shape
flow.astype(numpy.float32).tofile(out)
";

/// In TensorFlow; `None` (and a printed line) where Python lacks it.
fn tensorflow(file: &[u8], frames: &[f32], shape: [usize; 5]) -> Option<Vec<f32>> {
    let python = std::env::var("FERROFLOW_PYTHON").unwrap_or_else(|_| "python3".into());
    if !Command::new(&python).args(["-c", "import tensorflow"]).output().is_ok_and(|o| o.status.success()) {
        println!("skipped: {python} has no tensorflow (FERROFLOW_PYTHON names another)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("net.pb"), file).unwrap();
    std::fs::write(at("x"), frames.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let sides = shape.map(|side| side.to_string());
    let run = Command::new(&python).args(["-c", SCRIPT]).args([at("net.pb"), at("x"), at("out")]).args(sides).output();
    let run = run.unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(floats(&std::fs::read(at("out")).unwrap()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Wherever Python has TensorFlow, the graph gives the flow of tfoptflow's own code.
#[test]
fn tensorflow_gives_the_references_flow() {
    for (name, file) in [("pwcnet-sm", "pwcnet/tfoptflow_sm"), ("pwcnet-lg-6-2", "pwcnet/tfoptflow_lg")] {
        for (set, pairs, size) in [("a", &["a0", "a1"][..], Size::new(128, 192)), ("b", &["b0"][..], SIZE)] {
            let Some(path) = shared(&format!("golden/{file}_{set}.safetensors")) else { return };
            let bytes = std::fs::read(Path::new(&path)).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let expected = floats(tensors.tensor("flow").unwrap().data());
            let graph = written(name, size).unwrap();
            for (i, pair) in pairs.iter().enumerate() {
                let pair = image_pair("ferroflow-golden", pair, size.height, size.width);
                let frames: Vec<f32> = pair.first.iter().chain(&pair.second).map(|&v| f32::from(v) / 255.0).collect();
                // As it comes out of image_pair: planes.
                let pixels = size.pixels();
                let interleaved: Vec<f32> = frames
                    .chunks(3 * pixels)
                    .flat_map(|frame| (0..3 * pixels).map(|at| frame[at % 3 * pixels + at / 3]))
                    .collect();
                let Some(flow) = tensorflow(&graph, &interleaved, [1, 2, size.height, size.width, 3]) else { return };
                let expected = &expected[2 * i * pixels..2 * (i + 1) * pixels];
                for at in 0..pixels {
                    for component in 0..2 {
                        let (ours, theirs) = (flow[2 * at + component], expected[component * pixels + at]);
                        assert!((ours - theirs).abs() < 1e-3, "{name} {set}: {ours} instead of {theirs} at {at}");
                    }
                }
            }
        }
    }
}
