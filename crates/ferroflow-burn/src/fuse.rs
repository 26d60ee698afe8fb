//! What is computed at each node: its operation, or it and the one before it in one step.

use ferroflow_net::graph::{Correlation, Graph, NodeId, Op, Warp};

/// What gives the value of a node.
pub(crate) struct Step<'a> {
    pub(crate) kernel: Kernel<'a>,
    pub(crate) inputs: Vec<NodeId>,
}

pub(crate) enum Kernel<'a> {
    Op(&'a Op),
    /// Of features, and of others with the flow that they are warped by.
    WarpedCorrelation(Correlation, Warp),
}

/// One for each node of the graph. A map that is warped for a correlation alone is left to it, unless it is one of the `outputs`.
pub(crate) fn steps<'a>(graph: &'a Graph, outputs: &[NodeId]) -> Vec<Step<'a>> {
    let mut readers = vec![0; graph.nodes.len()];
    for id in graph.nodes.iter().flat_map(|node| &node.inputs).chain(outputs) {
        readers[id.0 as usize] += 1;
    }
    let step = |node: &'a ferroflow_net::graph::Node| {
        if let (Op::Correlation(c), &[first, second]) = (&node.op, &node.inputs[..]) {
            let before = graph.node(second);
            if let (Op::Warp(warp), &[image, flow], 1) = (&before.op, &before.inputs[..], readers[second.0 as usize]) {
                let kernel = Kernel::WarpedCorrelation(*c, *warp);
                return Step { kernel, inputs: vec![first, image, flow] };
            }
        }
        Step { kernel: Kernel::Op(&node.op), inputs: node.inputs.clone() }
    };
    graph.nodes.iter().map(step).collect()
}

/// For each node the last one that reads it, itself `usize::MAX` for an output; `None` where no output depends on it.
pub(crate) fn last_readers(steps: &[Step<'_>], outputs: &[NodeId]) -> Vec<Option<usize>> {
    let mut last = vec![None; steps.len()];
    for id in outputs {
        last[id.0 as usize] = Some(usize::MAX);
    }
    for (i, step) in steps.iter().enumerate().rev() {
        if last[i].is_some() {
            for &NodeId(input) in &step.inputs {
                last[input as usize] = last[input as usize].max(Some(i));
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use ferroflow_net::Model;

    use super::*;

    /// How many correlations warp by themselves.
    fn fused(name: &str, kept: impl Fn(&Op) -> bool) -> usize {
        let graph = Model::named(name).unwrap().graph;
        let ids = (0..graph.nodes.len() as u32).map(NodeId);
        let outputs: Vec<NodeId> = ids.filter(|id| kept(&graph.node(*id).op)).chain(graph.flow).collect();
        let steps = steps(&graph, &outputs);
        let last = last_readers(&steps, &outputs);
        for (i, step) in steps.iter().enumerate() {
            let Kernel::WarpedCorrelation(..) = step.kernel else { continue };
            let warp = graph.nodes[i].inputs[1];
            assert_eq!(last[warp.0 as usize], None, "{name}: what nobody reads is not computed");
        }
        steps.iter().filter(|step| matches!(step.kernel, Kernel::WarpedCorrelation(..))).count()
    }

    #[test]
    fn what_a_correlation_alone_reads_is_warped_by_it() {
        // Four of five levels warp; the coarsest has no flow yet.
        for name in ["pwcnet", "pwcnet-lg-6-2"] {
            assert_eq!(fused(name, |_| false), 4, "{name}");
        }
        // An output is there as a whole.
        assert_eq!(fused("pwcnet", |op| matches!(op, Op::Warp(_))), 0);
        // UFlow and rill normalise what they warped, by its mean and variance.
        for name in ["uflow", "rill", "flownet2-c"] {
            assert_eq!(fused(name, |_| false), 0, "{name}");
        }
    }
}
