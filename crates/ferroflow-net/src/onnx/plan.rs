//! What a file holds of a network, and where it begins and ends.

use super::proto::{self, kind};
use super::split::{self, Split};
use super::{Inputs, OnnxError, Options, Part, inputs};
use crate::graph::{Graph, NodeId, Op, Shape};

/// The part of a network that a file holds.
pub(super) struct Plan {
    pub inputs: Vec<Interface>,
    pub outputs: Vec<Interface>,
    /// Values that are inputs of the file, by their names there.
    pub fed: Vec<(NodeId, String)>,
    /// The value for which `x1` and `x2` stand together.
    pub stacked: Option<NodeId>,
    pub left_out: Vec<bool>,
}

/// An input or output of the file.
pub(super) struct Interface {
    pub name: String,
    pub shape: Shape,
    pub doc: &'static str,
    /// The value that goes out.
    pub node: Option<NodeId>,
}

impl Interface {
    pub fn info(&self, graph: &Graph, shapes: &[Shape], options: &Options) -> proto::ValueInfo {
        let frame = graph.nodes.iter().position(|node| matches!(node.op, Op::Frame(_)));
        let [batch, _, height, width] = frame.map_or(self.shape, |frame| shapes[frame]);
        let dim = |is_fixed: bool, size: usize, of: usize, name: &str| {
            let param = match () {
                () if is_fixed => None,
                () if size == of => Some(name.to_string()),
                () if size > of => Some(format!("{} * {name}", size / of)),
                () => Some(format!("{name} / {}", of / size)),
            };
            proto::Dim { value: param.is_none().then_some(size as i64), param }
        };
        let [n, channels, h, w] = self.shape;
        let shape = proto::Shape {
            dim: vec![
                dim(options.batch.is_some(), n, batch, "batch"),
                dim(true, channels, channels, ""),
                dim(options.size.is_some(), h, height, "height"),
                dim(options.size.is_some(), w, width, "width"),
            ],
        };
        let tensor = proto::TensorType { element: kind::FLOAT, shape: Some(shape) };
        let kind = Some(proto::Type { tensor: Some(tensor) });
        proto::ValueInfo { name: self.name.clone(), kind, doc_string: self.doc.into() }
    }
}

/// Chooses what the file holds by the options.
///
/// # Errors
/// If the network has no place where it can be cut as they want it.
pub(super) fn plan(graph: &Graph, shapes: &[Shape], options: &Options, flow: NodeId) -> Result<Plan, OnnxError> {
    let shape = |id: NodeId| shapes[id.0 as usize];
    let output = |name: String, id: NodeId, doc| Interface { name, shape: shape(id), doc, node: Some(id) };
    let flow = output("flow".into(), flow, "pixels: u right, v down, from frame 1 to frame 2");
    let frame_doc = match options.inputs {
        Inputs::Images => "RGB, 0 to 255",
        Inputs::Normalised => "a frame as the network's first layer reads it",
    };
    let input = |name: &str, shape: Shape, doc| Interface { name: name.into(), shape, doc, node: None };
    if options.part == Part::Whole {
        let cut = match options.inputs {
            Inputs::Images => None,
            Inputs::Normalised => Some(inputs::cut(graph)?),
        };
        let [_, _, height, width] = flow.shape;
        let frame = [flow.shape[0], 3, height, width];
        let names = if cut.is_some() { ["x1", "x2"] } else { ["frame1", "frame2"] };
        let left_out = cut.as_ref().map_or(vec![false; graph.nodes.len()], |cut| cut.before.clone());
        let (fed, stacked) = match cut.map(|cut| cut.values) {
            None => (Vec::new(), None),
            Some(values) if values.len() == 1 => (Vec::new(), Some(values[0])),
            Some(values) => (values.into_iter().zip(names.map(str::to_string)).collect(), None),
        };
        let inputs = names.map(|name| input(name, frame, frame_doc)).into();
        return Ok(Plan { inputs, outputs: vec![flow], fed, stacked, left_out });
    }
    let Split { frames, features, before } = split::split(graph, shapes, options.inputs)?;
    let numbered = features.iter().enumerate().map(|(i, &id)| (i + 1, id));
    if options.part == Part::Features {
        let given = split::up_to(graph, &[frames]);
        let features_of =
            |(number, id)| output(format!("features_{number}"), id, "of all first frames, then all second ones");
        return Ok(Plan {
            inputs: vec![input("frames", shape(frames), frame_doc)],
            outputs: numbered.map(features_of).collect(),
            fed: vec![(frames, "frames".into())],
            stacked: None,
            left_out: before.iter().zip(&given).map(|(before, given)| !before || *given).collect(),
        });
    }
    let mut left_out = before;
    let (mut inputs, mut fed) = (Vec::new(), Vec::new());
    for frame in 0..2 {
        for (number, id) in numbered.clone() {
            let name = format!("features{}_{number}", frame + 1);
            let [both, channels, height, width] = shape(id);
            inputs.push(input(&name, [both / 2, channels, height, width], "what the other file makes of a frame"));
            for (i, node) in graph.nodes.iter().enumerate() {
                if node.op == (Op::Part { index: frame, of: 2 }) && node.inputs.contains(&id) {
                    left_out[i] = true;
                    fed.push((NodeId(i as u32), name.clone()));
                }
            }
        }
    }
    Ok(Plan { inputs, outputs: vec![flow], fed, stacked: None, left_out })
}
