//! Frames that share layers as a batch, taken one after the other where the values of both take much memory.

use ferroflow_kernels::LANES;
use ferroflow_net::{
    Graph, NodeId, Op,
    graph::{Node, Shape, ShapeError, Sizes},
};

/// Bytes of a value of all parts beyond which they are taken apart: about what two cores have of a last-level cache.
const STACKED_BYTES: usize = 16 << 20;

/// A graph that computes the same, and what each node of the original has become.
pub(super) struct Unstacked {
    pub graph: Graph,
    pub nodes: Vec<NodeId>,
}

/// Computes what follows an [`Op::Stack`] up to its [`Op::Part`]s for one part after the other, so that only one part's values
/// are in memory at a time. Stacks stay whose values are small (a layer then reads its weights once for all parts), of which
/// anything but a part is read, or of which `keep` wants a value.
pub(super) fn unstacked(graph: &Graph, sizes: &Sizes, keep: &[NodeId]) -> Result<Unstacked, ShapeError> {
    let shapes = graph.shapes(sizes)?;
    let regions = regions(graph, &shapes, keep);
    let mut new = Graph { nodes: Vec::with_capacity(graph.nodes.len()), ..graph.clone() };
    let mut nodes: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    // What each node of a region is for each part.
    let mut copies: Vec<Vec<NodeId>> = vec![Vec::new(); graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        let id = NodeId(i as u32);
        match (&node.op, regions.iter().find(|region| region.contains(&id))) {
            (Op::Stack, Some(region)) => {
                copies[i] = node.inputs.iter().map(|input| nodes[input.0 as usize]).collect();
                for part in 0..node.inputs.len() {
                    for &member in &region[1..] {
                        let node = graph.node(member);
                        let inputs = node.inputs.iter().map(|input| copies[input.0 as usize][part]).collect();
                        let name = format!("{}.{}", node.name, part + 1);
                        new.nodes.push(Node { op: node.op.clone(), inputs, name });
                        copies[member.0 as usize].push(NodeId(new.nodes.len() as u32 - 1));
                    }
                }
                nodes.push(copies[i][0]);
            }
            (_, Some(_)) => nodes.push(copies[i][0]),
            (&Op::Part { index, .. }, None) if !copies[node.inputs[0].0 as usize].is_empty() => {
                nodes.push(copies[node.inputs[0].0 as usize][index]);
            }
            (_, None) => {
                let inputs = node.inputs.iter().map(|input| nodes[input.0 as usize]).collect();
                new.nodes.push(Node { inputs, ..node.clone() });
                nodes.push(NodeId(new.nodes.len() as u32 - 1));
            }
        }
    }
    let now = |id: NodeId| nodes[id.0 as usize];
    new.flow = graph.flow.map(now);
    new.initial = graph.initial.map(now);
    new.pyramid = graph.pyramid.iter().copied().map(now).collect();
    Ok(Unstacked { graph: new, nodes })
}

/// The stacks to take apart, each with the nodes between it and its parts, in order.
fn regions(graph: &Graph, shapes: &[Shape], keep: &[NodeId]) -> Vec<Vec<NodeId>> {
    let stacks = graph.nodes.iter().enumerate().filter(|(_, node)| node.op == Op::Stack);
    stacks.filter_map(|(i, _)| region(graph, shapes, keep, NodeId(i as u32))).collect()
}

fn region(graph: &Graph, shapes: &[Shape], keep: &[NodeId], stack: NodeId) -> Option<Vec<NodeId>> {
    let parts = graph.node(stack).inputs.len();
    let mut region = vec![stack];
    for (i, node) in graph.nodes.iter().enumerate().skip(stack.0 as usize + 1) {
        let inside = node.inputs.iter().filter(|input| region.contains(input)).count();
        match node.op {
            _ if inside == 0 => {}
            Op::Part { of, .. } if of == parts => {}
            // These see images of one part beside those of another, or end the graph.
            Op::Stack | Op::Part { .. } | Op::Moments(_) | Op::Standardise { .. } | Op::ToOutput { .. } => return None,
            _ if inside < node.inputs.len() => return None,
            _ => region.push(NodeId(i as u32)),
        }
    }
    let asked_for = keep.iter().chain(&graph.pyramid).chain(&graph.initial);
    let floats = |id: &NodeId| match shapes[id.0 as usize] {
        [n, c, h, w] => n * c.next_multiple_of(LANES) * h * w,
    };
    let large = 4 * region[1..].iter().map(floats).max()? > STACKED_BYTES;
    (large && !asked_for.into_iter().any(|id| region.contains(id))).then_some(region)
}

#[cfg(test)]
mod tests {
    use ferroflow_net::Model;

    use super::*;

    fn count(graph: &Graph, op: &Op) -> usize {
        graph.nodes.iter().filter(|node| node.op == *op).count()
    }

    #[test]
    fn only_large_stacks_are_taken_apart() {
        let model = Model::named("raft-small").unwrap();
        for (side, stacks) in [(64, 1), (1024, 0)] {
            let sizes = Sizes::new(1, side, side);
            let Unstacked { graph, nodes } = unstacked(&model.graph, &sizes, &[]).unwrap();
            assert_eq!(count(&graph, &Op::Stack), stacks, "{side}");
            assert_eq!(nodes.len(), model.graph.nodes.len());
            let (before, after) = (model.graph.shapes(&sizes).unwrap(), graph.shapes(&sizes).unwrap());
            let flow = model.graph.flow.unwrap();
            assert_eq!(before[flow.0 as usize], after[nodes[flow.0 as usize].0 as usize]);
        }
        // A value that is asked for is one of both frames.
        let stacked = model.graph.find("fnet.conv2").unwrap();
        let kept = unstacked(&model.graph, &Sizes::new(1, 1024, 1024), &[stacked]).unwrap();
        assert_eq!(kept.graph, model.graph);
    }
}
