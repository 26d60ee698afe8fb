//! Runs a file: two inputs `[N, 3, H, W]`, one output.

use std::path::Path;
use std::process::Command;

/// In rten.
pub fn rten(file: &[u8], names: [&str; 2], inputs: [&[f32]; 2], shape: [usize; 4]) -> Vec<f32> {
    let model = rten::Model::load(file.to_vec()).unwrap();
    let value = |i: usize| {
        let id = model.node_id(names[i]).unwrap();
        (id, rten::ValueView::from_shape(shape, inputs[i]).unwrap().into())
    };
    let output = model.node_id("flow").unwrap();
    let [flow] = model.run_n(vec![value(0), value(1)], [output], None).unwrap();
    flow.into_shape_vec::<f32, 4>().unwrap().1
}

const SCRIPT: &str = "
import sys, numpy, onnx, onnxruntime
file, first, second, out, *shape = sys.argv[1:]
onnx.checker.check_model(file, full_check=True)
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
options.intra_op_num_threads = 2
session = onnxruntime.InferenceSession(file, options, providers=['CPUExecutionProvider'])
shape = [int(s) for s in shape]
feed = {i.name: numpy.fromfile(p, numpy.float32).reshape(shape) for i, p in zip(session.get_inputs(), [first, second])}
session.run(None, feed)[0].astype(numpy.float32).tofile(out)
";

/// In ONNX Runtime, after `onnx.checker`; `None` (and a printed line) where Python lacks them.
pub fn onnxruntime(file: &[u8], inputs: [&[f32]; 2], shape: [usize; 4]) -> Option<Vec<f32>> {
    let python = std::env::var("FERROFLOW_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import numpy, onnx, onnxruntime"]).output();
    if !has.is_ok_and(|o| o.status.success()) {
        println!("skipped: {python} has no onnxruntime and onnx (FERROFLOW_PYTHON names another)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    std::fs::write(at("net.onnx"), file).unwrap();
    std::fs::write(at("1"), bytes(inputs[0])).unwrap();
    std::fs::write(at("2"), bytes(inputs[1])).unwrap();
    let run = Command::new(&python)
        .args(["-c", SCRIPT])
        .args([at("net.onnx"), at("1"), at("2"), at("out")])
        .args(shape.map(|s| s.to_string()))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(floats(&at("out")))
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
