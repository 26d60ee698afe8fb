//! Exported files run in other people's runtimes: rten always, ONNX Runtime where Python has it.

mod networks;
mod operations;
mod runtimes;

use std::collections::HashSet;

use super::*;
use crate::Model;

fn exported(model: &Model, options: &Options) -> Result<Vec<u8>, OnnxError> {
    let mut file = Vec::new();
    export(&model.graph, &Weights::random(&model.graph, 1), options, &mut file).map(|()| file)
}

#[test]
fn what_cannot_be_written_is_refused() {
    let model = Model::named("lightflow-0.5").unwrap();
    for opset in [10, 21] {
        let error = exported(&model, &Options { opset, ..Options::default() }).unwrap_err();
        assert!(matches!(error, OnnxError::Opset(_)));
    }
    let options = Options { opset: 15, warp: Some(WarpForm::GridSample), ..Options::default() };
    assert!(matches!(exported(&model, &options), Err(OnnxError::NoGridSample(15))));
    let options = Options { size: Some((2, 2)), ..Options::default() };
    assert!(matches!(exported(&Model::named("uflow").unwrap(), &options), Err(OnnxError::Shape(_))));
}

/// The weights of a network are in one of its two files; networks whose frames meet early have no two.
#[test]
fn halves_share_no_weights() {
    let model = Model::named("uflow").unwrap();
    let size = |part| exported(&model, &Options { part, ..Options::default() }).unwrap().len();
    let (features, flow, whole) = (size(Part::Features), size(Part::Flow), size(Part::Whole));
    assert!((130_368 * 4..130_368 * 4 + 50_000).contains(&features), "{features}");
    assert!((features + flow).abs_diff(whole) < 50_000, "{features} and {flow} of {whole}");
    for name in ["flownet2-s-bn", "lightflow-0.5"] {
        let options = Options { part: Part::Features, ..Options::default() };
        let error = exported(&Model::named(name).unwrap(), &options).unwrap_err();
        assert!(matches!(error, OnnxError::NoSplit(_)), "{name}: {error}");
    }
}

#[test]
fn weights_are_written_once_and_halved_on_request() {
    let model = Model::named("lightflow-0.5").unwrap();
    let bytes = 4 * model.graph.params.iter().map(|p| p.len()).sum::<usize>();
    let full = exported(&model, &Options::default()).unwrap().len();
    assert!((bytes..bytes + 100_000).contains(&full), "{full} bytes for {bytes} of weights");
    let half = exported(&model, &Options { precision: Precision::F16, ..Options::default() }).unwrap().len();
    assert!((bytes / 2..bytes / 2 + 100_000).contains(&half), "{half} bytes for {} of weights", bytes / 2);
}

/// Constants nobody reads cost loading time and a warning each; nodes nobody reads cost time.
#[test]
fn a_file_holds_only_what_the_flow_needs() {
    let closed =
        Options { size: Some((64, 128)), opset: 11, correlation: CorrelationForm::Slices, ..Options::default() };
    for name in ["lightflow-0.5", "pwcnet", "pwcnet-sm", "uflow"] {
        let model = Model::named(name).unwrap();
        let weights = Weights::random(&model.graph, 1);
        for options in [closed.clone(), Options { size: Some((64, 128)), ..Options::default() }, Options::default()] {
            let shapes = model.graph.shapes(&Sizes::new(1, 64, 128)).unwrap();
            let flow = model.graph.flow.unwrap();
            let lowered = lower::lower(&model.graph, &weights, &shapes, &options, flow).unwrap();
            let read: HashSet<&str> =
                lowered.graph.node.iter().flat_map(|n| n.input.iter().map(String::as_str)).collect();
            for tensor in &lowered.tensors {
                assert!(read.contains(tensor.head.name.as_str()), "{name}: nobody reads {}", tensor.head.name);
            }
            for node in lowered.graph.node.iter().filter(|n| n.output[0] != "flow") {
                assert!(node.output.iter().any(|o| read.contains(o.as_str())), "{name}: nobody reads {}", node.name);
            }
        }
    }
}

/// Every network's work begins at one recognisable place.
#[test]
fn every_network_can_be_cut_after_normalisation() {
    for name in Model::names() {
        let graph = Model::named(name).unwrap().graph;
        let cut = inputs::cut(&graph).unwrap_or_else(|e| panic!("{name}: {e}"));
        let names: Vec<&str> = cut.values.iter().map(|&v| graph.node(v).name.as_str()).collect();
        let expected: &[&str] = match name {
            n if n.starts_with("flownet2") || n.starts_with("lightflow") => &["x1", "x2"],
            n if n.starts_with("neuflow") => &["frame1.unit", "frame2.unit"],
            n if n.contains("raft") => &["frame1.signed", "frame2.signed"],
            n if n.starts_with("uflow") || n.starts_with("rill") => &["frames.signed"],
            _ => &["frames.unit"],
        };
        assert_eq!(names, expected, "{name}");
    }
}
