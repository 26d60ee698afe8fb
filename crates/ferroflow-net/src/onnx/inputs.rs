//! Finds where the preprocessing of the frames ends and a network's first layer begins.

use crate::graph::{Graph, NodeId, Op};

use super::OnnxError;

/// The values that stand at the cut between preprocessing and network.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cut {
    /// The preprocessed frames: two nodes, or one in which both frames are stacked.
    pub values: Vec<NodeId>,
    /// Nodes before the cut, which are not written.
    pub before: Vec<bool>,
}

/// Finds the cut: preprocessing is what is done to frames by scaling, means, and the order of channels and frames.
pub(super) fn cut(graph: &Graph) -> Result<Cut, OnnxError> {
    let mut before = vec![false; graph.nodes.len()];
    let mut scaled = vec![false; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        let inputs = || node.inputs.iter().map(|n| n.0 as usize);
        before[i] = inputs().all(|n| before[n])
            && match node.op {
                Op::Frame(_) | Op::Affine { .. } | Op::Channels(_) | Op::ChannelMean | Op::Sub => true,
                // Stacked as frames: preprocessing. Stacked once they are scaled: the network's way to share its weights.
                Op::Stack => inputs().all(|n| !scaled[n]),
                Op::Conv(_)
                | Op::Deconv(_)
                | Op::BatchNorm(_)
                | Op::LeakyRelu { .. }
                | Op::Concat
                | Op::Part { .. }
                | Op::Add
                | Op::ChannelNorm { .. }
                | Op::Correlation(_)
                | Op::Lookup(_)
                | Op::Warp(_)
                | Op::Resize { .. }
                | Op::ConvexUpsample { .. }
                | Op::ToOutput { .. }
                | Op::Moments(_)
                | Op::Standardise { .. }
                | Op::Smooth(_)
                | Op::Product
                | Op::Lerp
                | Op::InstanceNorm { .. }
                | Op::LayerNorm(_)
                | Op::ChannelScale { .. }
                | Op::AveragePool { .. }
                | Op::Attention
                | Op::Coordinates { .. }
                | Op::Detach
                | Op::Zeros { .. } => false,
            };
        scaled[i] = before[i] && (matches!(node.op, Op::Affine { .. }) || inputs().any(|n| scaled[n]));
    }
    let is_used = |i: usize| {
        graph.nodes.iter().zip(&before).any(|(n, &b)| !b && n.inputs.iter().any(|input| input.0 as usize == i))
    };
    let values: Vec<NodeId> =
        (0..before.len()).filter(|&i| before[i] && is_used(i)).map(|i| NodeId(i as u32)).collect();
    match values[..] {
        [_, _] => Ok(Cut { values, before }),
        [one] if is_stacked(graph, one) => Ok(Cut { values, before }),
        _ => {
            let names: Vec<&str> = values.iter().map(|&n| graph.node(n).name.as_str()).collect();
            Err(OnnxError::NoCut(format!("it reads {}", names.join(", "))))
        }
    }
}

fn is_stacked(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    matches!(node.op, Op::Stack) || node.inputs.first().is_some_and(|&n| is_stacked(graph, n))
}
