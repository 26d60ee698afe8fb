//! A network in two files: what it makes of each frame alone, and flow from what it made of both. The MindSpore port of UFlow exports
//! itself so.

use crate::graph::{Graph, NodeId, Op, Shape};

use super::{Inputs, OnnxError, inputs};

/// Where a network falls into two.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Split {
    /// Both frames, stacked.
    pub frames: NodeId,
    /// Features of both frames, stacked, fine to coarse: the last of every size below that of the frames.
    pub features: Vec<NodeId>,
    /// Nodes up to the features.
    pub before: Vec<bool>,
}

/// Finds the place: the features are what is taken apart into those of frame 1 and of frame 2. No other value may be read by both
/// sides.
pub(super) fn split(graph: &Graph, shapes: &[Shape], taken: Inputs) -> Result<Split, OnnxError> {
    let refuse = |why: &str| Err(OnnxError::NoSplit(why.into()));
    let ids = || (0..graph.nodes.len() as u32).map(NodeId);
    let is_taken_apart = |id: NodeId| {
        graph.nodes.iter().any(|node| matches!(node.op, Op::Part { of: 2, .. }) && node.inputs.contains(&id))
    };
    let apart: Vec<NodeId> = ids().filter(|&id| is_taken_apart(id)).collect();
    let before = up_to(graph, &apart);
    let frames = match taken {
        Inputs::Images => {
            let is_frame = |id: &NodeId| matches!(graph.node(*id).op, Op::Frame(_));
            ids().find(|&id| graph.node(id).op == Op::Stack && graph.node(id).inputs.iter().all(is_frame))
        }
        Inputs::Normalised => match inputs::cut(graph)?.values[..] {
            [stacked] => Some(stacked),
            _ => None,
        },
    };
    let Some(frames) = frames.filter(|frames| before[frames.0 as usize]) else {
        return refuse("its frames do not share one pyramid from the start");
    };
    let height = |id: NodeId| shapes[id.0 as usize][2];
    let mut features: Vec<NodeId> = Vec::new();
    for id in ids().filter(|&id| before[id.0 as usize] && height(id) < height(frames)) {
        match features.last_mut() {
            Some(last) if height(*last) == height(id) => *last = id,
            _ => features.push(id),
        }
    }
    let is_read_in_parts = |(i, node): (usize, &crate::graph::Node)| {
        before[i] || matches!(node.op, Op::Part { .. }) || node.inputs.iter().all(|input| !before[input.0 as usize])
    };
    if apart.iter().any(|id| !features.contains(id)) || !graph.nodes.iter().enumerate().all(is_read_in_parts) {
        return refuse("its flow needs more than the features of both frames");
    }
    Ok(Split { frames, features, before })
}

/// Which nodes these are made of, themselves among them.
pub(super) fn up_to(graph: &Graph, ends: &[NodeId]) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes.len()];
    for end in ends {
        needed[end.0 as usize] = true;
    }
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        if needed[i] {
            for input in &node.inputs {
                needed[input.0 as usize] = true;
            }
        }
    }
    needed
}
