//! Draws a network for Graphviz: `dot -Tpdf net.dot`.

use std::fmt::Write as _;

use crate::graph::{Graph, Node, NodeId, Op, Smooth};

/// The text of a `.dot` file with one box for each layer, which names the shape of its weights and includes the activation
/// that follows it.
pub fn dot(graph: &Graph) -> String {
    let mut text = String::from(
        "digraph network {\n  rankdir=TB;\n  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans\", \
         fontsize=10];\n",
    );
    for (i, node) in graph.nodes.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  n{i} [label=\"{}\\n{}\", fillcolor=\"{}\"];",
            escape(&node.name),
            escape(&describe(node)),
            colour(&node.op)
        );
        for NodeId(input) in &node.inputs {
            let _ = writeln!(text, "  n{input} -> n{i};");
        }
    }
    text.push_str("}\n");
    text
}

/// The operation in a few words.
pub fn describe(node: &Node) -> String {
    match &node.op {
        Op::Frame(frame) => format!("{frame:?} frame").to_lowercase(),
        Op::Conv(c) => {
            let mut text = format!("conv {}x{} {} to {}", c.kernel[0], c.kernel[1], c.in_channels, c.out_channels);
            for (what, value) in [("stride", c.stride), ("dilation", c.dilation), ("groups", c.groups)] {
                if value > 1 {
                    // Writing to a string cannot fail.
                    let _ = write!(text, ", {what} {value}");
                }
            }
            text
        }
        Op::Deconv(d) => format!("transposed conv 4x4 {} to {}, stride 2", d.in_channels, d.out_channels),
        Op::BatchNorm(_) => "batch norm".into(),
        Op::LeakyRelu { slope: 0.0 } => "ReLU".into(),
        Op::LeakyRelu { slope } => format!("leaky ReLU {slope}"),
        Op::Smooth(Smooth::Sigmoid) => "sigmoid".into(),
        Op::Smooth(Smooth::Tanh) => "tanh".into(),
        Op::Smooth(Smooth::Gelu) => "GELU".into(),
        Op::Concat => "concatenate".into(),
        Op::Stack => "stack as a batch".into(),
        Op::Part { index, of } => format!("part {} of {of}", index + 1),
        Op::Channels(picked) => format!("{} channels", picked.len()),
        Op::Affine { .. } => "scale and offset".into(),
        Op::Add => "add".into(),
        Op::Sub => "subtract".into(),
        Op::Product => "multiply".into(),
        Op::Lerp => "mix".into(),
        Op::InstanceNorm { .. } => "instance norm".into(),
        Op::LayerNorm(_) => "layer norm".into(),
        Op::ChannelScale { .. } => "layer scale".into(),
        Op::AveragePool { size } => format!("average pool {size}x{size}"),
        Op::Detach => "without gradient".into(),
        Op::Attention => "attention".into(),
        Op::Coordinates { .. } => "coordinates".into(),
        Op::ChannelMean => "mean of each channel".into(),
        Op::ChannelNorm { .. } => "norm over channels".into(),
        Op::Correlation(c) => format!("correlation, displacement {}, step {}", c.max_displacement, c.stride),
        Op::Lookup(l) => format!("lookup, {} levels, radius {}", l.levels, l.radius),
        Op::Warp(_) => "warp".into(),
        Op::Resize { factor, filter, .. } => format!("{filter:?} x{factor}").to_lowercase(),
        Op::ConvexUpsample { factor } => format!("convex x{factor}"),
        Op::ToOutput { filter, .. } => format!("{filter:?} to the output").to_lowercase(),
        Op::Moments(_) => "mean and variance".into(),
        Op::Standardise { .. } => "standardise".into(),
        Op::Zeros { .. } => "zeros".into(),
    }
}

/// A fill by kind of operation: what has weights, what moves pixels, what only rearranges.
pub fn colour(op: &Op) -> &'static str {
    match op {
        Op::Conv(_) | Op::BatchNorm(_) | Op::LayerNorm(_) | Op::ChannelScale { .. } => "#dbe9f6",
        Op::Deconv(_) => "#d9f0e3",
        Op::Correlation(_) | Op::Lookup(_) | Op::Warp(_) | Op::Attention => "#fde3cf",
        Op::Resize { .. } | Op::ConvexUpsample { .. } | Op::ToOutput { .. } => "#efe3f7",
        Op::Frame(_) => "#f7f2c8",
        Op::LeakyRelu { .. }
        | Op::Concat
        | Op::Stack
        | Op::Part { .. }
        | Op::Channels(_)
        | Op::Affine { .. }
        | Op::Add
        | Op::Sub
        | Op::ChannelMean
        | Op::ChannelNorm { .. }
        | Op::Moments(_)
        | Op::Standardise { .. }
        | Op::Smooth(_)
        | Op::Product
        | Op::Lerp
        | Op::InstanceNorm { .. }
        | Op::AveragePool { .. }
        | Op::Coordinates { .. }
        | Op::Detach
        | Op::Zeros { .. } => "#f4f4f4",
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn every_node_and_edge_is_drawn() {
        for name in Model::names() {
            let graph = Model::named(name).unwrap().graph;
            let text = dot(&graph);
            let edges: usize = graph.nodes.iter().map(|n| n.inputs.len()).sum();
            assert_eq!(text.matches(" -> ").count(), edges, "{name}");
            assert_eq!(text.matches("label=").count(), graph.nodes.len(), "{name}");
        }
    }
}
