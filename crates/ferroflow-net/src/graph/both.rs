//! Both directions of a pair in one graph, in which values of a single frame are computed once for both.

use super::{Frame, Graph, Node, NodeId, Op};

/// A graph that also computes the flow from the second frame to the first.
#[derive(Clone, Debug, PartialEq)]
pub struct BothDirections {
    /// The nodes of the original graph, under their own ids, then those of the other direction.
    pub graph: Graph,
    /// For each node of the original graph, the node that replaces it in the other direction. A node that holds both frames, one
    /// after the other ([`Op::Stack`]), replaces itself: only its parts are exchanged.
    pub counterparts: Vec<NodeId>,
}

impl BothDirections {
    /// Extends a network; its outputs stay those of the first direction.
    pub fn of(network: &Graph) -> Self {
        let mut graph = network.clone();
        let mut counterparts: Vec<NodeId> = Vec::with_capacity(network.nodes.len());
        // Values of both frames, computed for each alone: exchanging the frames exchanges the halves of the batch.
        let mut stacked: Vec<bool> = Vec::with_capacity(network.nodes.len());
        let (first, second) = (frame(network, Frame::First), frame(network, Frame::Second));
        for (i, node) in network.nodes.iter().enumerate() {
            let own = NodeId(i as u32);
            let is_stacked = match &node.op {
                Op::Stack => match node.inputs[..] {
                    [a, b] => counterparts[a.0 as usize] == b && counterparts[b.0 as usize] == a,
                    _ => false,
                },
                Op::Part { .. } | Op::Frame(_) => false,
                _ => !node.inputs.is_empty() && node.inputs.iter().all(|id| stacked[id.0 as usize]),
            };
            let counterpart = match &node.op {
                _ if is_stacked => own,
                Op::Frame(Frame::First) if second.is_some() => second.unwrap_or(own),
                Op::Frame(Frame::Second) if first.is_some() => first.unwrap_or(own),
                op => {
                    let inputs: Vec<NodeId> = node.inputs.iter().map(|id| counterparts[id.0 as usize]).collect();
                    let exchanged = match op {
                        Op::Part { index, of: 2 } if stacked[node.inputs[0].0 as usize] => {
                            Op::Part { index: 1 - index, of: 2 }
                        }
                        op => op.clone(),
                    };
                    find_or_add(&mut graph, Node { op: exchanged, inputs, name: format!("{}.back", node.name) })
                }
            };
            counterparts.push(counterpart);
            stacked.push(is_stacked);
        }
        Self { graph, counterparts }
    }

    /// The node that replaces `id` in the other direction.
    pub fn counterpart(&self, id: NodeId) -> NodeId {
        self.counterparts[id.0 as usize]
    }
}

fn frame(graph: &Graph, which: Frame) -> Option<NodeId> {
    graph.nodes.iter().position(|node| node.op == Op::Frame(which)).map(|i| NodeId(i as u32))
}

/// A node that computes the same, if there is one: an exchanged part of a stack is often there already.
fn find_or_add(graph: &mut Graph, node: Node) -> NodeId {
    let same = |known: &Node| known.op == node.op && known.inputs == node.inputs;
    let found = graph.nodes.iter().position(same);
    found.map_or_else(
        || {
            graph.nodes.push(node);
            NodeId(graph.nodes.len() as u32 - 1)
        },
        |i| NodeId(i as u32),
    )
}

#[cfg(test)]
mod tests {
    use crate::{Model, graph::Sizes};

    use super::*;

    #[test]
    fn features_are_there_once_and_the_rest_twice() {
        for name in Model::names() {
            let network = Model::named(name).unwrap().graph;
            let both = BothDirections::of(&network);
            let (before, after) = (network.nodes.len(), both.graph.nodes.len());
            assert_eq!(both.graph.nodes[..before], network.nodes[..]);
            assert!(after <= 2 * before, "{name}");
            let sizes = Sizes::new(1, 64, 64);
            let (known, shapes) = (network.shapes(&sizes).unwrap(), both.graph.shapes(&sizes).unwrap());
            assert_eq!(shapes[..before], known[..]);
            for (i, counterpart) in both.counterparts.iter().enumerate() {
                assert_eq!(shapes[counterpart.0 as usize], known[i], "{name}: {}", network.nodes[i].name);
            }
            // The other direction of the other direction is the first one.
            let levels: Vec<NodeId> = network.pyramid.iter().map(|&level| both.counterpart(level)).collect();
            assert!(levels.iter().all(|level| level.0 as usize >= before), "{name}");
        }
        // UFlow, PWC-Net and rill share their pyramid of features, FlowNetS has none.
        let grown = |name: &str| {
            let network = Model::named(name).unwrap().graph;
            let count = |graph: &Graph| graph.nodes.iter().filter(|node| matches!(node.op, Op::Conv(_))).count();
            (count(&BothDirections::of(&network).graph) - count(&network), count(&network))
        };
        assert_eq!(grown("flownet2-s").0, grown("flownet2-s").1);
        let (more, all) = grown("uflow");
        assert_eq!(all - more, 15, "three convolutions at each of five levels");
        assert!(["pwcnet", "rill"].map(grown).iter().all(|(more, all)| more < all));
    }
}
