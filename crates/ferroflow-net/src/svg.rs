//! Draws a network as SVG. Execution runs from top to bottom and resolution falls from left to right, so that a pyramid looks
//! like one.
//!
//! Batch norm and activation are drawn with the layer that they follow. Every value lies in the column of its resolution, below
//! its inputs; lines are drawn under the boxes.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::dot::{colour, describe};
use crate::graph::{Graph, NodeId, Op, Shape, ShapeError, Sizes};

/// Sides at which sizes are compared: a multiple of every network's stride.
const SIDE: usize = 1024;

const BOX: (usize, usize) = (200, 40);
const STEP: (usize, usize) = (224, 64);
const MARGIN: usize = 40;

/// The text of an `.svg` file.
///
/// # Errors
/// If the graph is not well formed.
pub fn svg(graph: &Graph) -> Result<String, ShapeError> {
    let shapes = graph.shapes(&Sizes::new(1, SIDE, SIDE))?;
    let drawn = layout(graph, &shapes);
    let columns = drawn.iter().map(|b| b.column).max().unwrap_or(0) + 1;
    let rows = drawn.iter().map(|b| b.row).max().unwrap_or(0) + 1;
    let (width, height) = (2 * MARGIN + columns * STEP.0, 2 * MARGIN + rows * STEP.1);
    let corner = |b: &Drawn| (MARGIN + b.column * STEP.0, MARGIN + b.row * STEP.1);

    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    // Writing to a string cannot fail.
    for column in 0..columns {
        let x = MARGIN + column * STEP.0 + BOX.0 / 2;
        let _ =
            writeln!(text, "<text x=\"{x}\" y=\"20\" text-anchor=\"middle\" fill=\"#888\">1/{}</text>", 1 << column);
    }
    for to in &drawn {
        let (x2, y2) = corner(to);
        for from in to.inputs.iter().map(|&i| &drawn[i]) {
            let (x1, y1) = corner(from);
            let (x1, y1, x2) = (x1 + BOX.0 / 2, y1 + BOX.1, x2 + BOX.0 / 2);
            // A line down its own column would run through the boxes between: it swings out.
            let swing = if x1 == x2 && y2 > y1 + STEP.1 { BOX.0 as i64 / 2 + 8 } else { 0 };
            let (a, b) = (x1 as i64 + swing, x2 as i64 + swing);
            let bend = ((y2 - y1) / 2).max(10);
            let _ = writeln!(
                text,
                "<path d=\"M{x1} {y1} C{a} {} {b} {} {x2} {y2}\" fill=\"none\" stroke=\"#9aa5b1\"/>",
                y1 + bend,
                y2 - bend
            );
        }
    }
    for b in &drawn {
        let (x, y) = corner(b);
        let node = &graph.nodes[b.node];
        let [_, channels, h, w] = shapes[b.node];
        let size = if h == 1 && w == 1 { format!("{channels}") } else { format!("{channels} at 1/{}", SIDE / h) };
        let _ = writeln!(
            text,
            "<g><title>{0}: {1}</title><rect x=\"{x}\" y=\"{y}\" width=\"{2}\" height=\"{3}\" rx=\"5\" fill=\"{4}\" \
             stroke=\"#667\"/><text x=\"{5}\" y=\"{6}\" font-weight=\"bold\">{7}</text>\
             <text x=\"{5}\" y=\"{8}\" fill=\"#445\">{9}</text></g>",
            escape(&node.name),
            escape(&describe(node)),
            BOX.0,
            BOX.1,
            colour(&node.op),
            x + 8,
            y + 16,
            escape(&shortened(&b.name, 32)),
            y + 31,
            escape(&shortened(&format!("{}; {size}", describe(node)), 38)),
        );
    }
    text.push_str("</svg>\n");
    Ok(text)
}

/// A box: a node, with what follows it alone.
struct Drawn {
    node: usize,
    /// Name of the last value in it.
    name: String,
    column: usize,
    row: usize,
    /// Boxes above.
    inputs: Vec<usize>,
}

fn layout(graph: &Graph, shapes: &[Shape]) -> Vec<Drawn> {
    let mut drawn: Vec<Drawn> = Vec::new();
    let mut box_of = vec![0; graph.nodes.len()];
    let mut taken = HashSet::new();
    let mut uses = vec![0; graph.nodes.len()];
    for &NodeId(i) in graph.nodes.iter().flat_map(|n| &n.inputs) {
        uses[i as usize] += 1;
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        if let (Op::LeakyRelu { .. } | Op::Smooth(_) | Op::BatchNorm(_) | Op::InstanceNorm { .. }, &[NodeId(input)]) =
            (&node.op, &node.inputs[..])
            && uses[input as usize] == 1
        {
            box_of[i] = box_of[input as usize];
            drawn[box_of[i]].name = node.name.clone();
            continue;
        }
        let mut inputs: Vec<usize> = node.inputs.iter().map(|&NodeId(n)| box_of[n as usize]).collect();
        inputs.sort_unstable();
        inputs.dedup();
        let [_, _, h, w] = shapes[i];
        let column = match inputs.first() {
            Some(&first) if h == 1 && w == 1 => drawn[first].column, // statistics stay with what they are of
            _ => (SIDE / h).ilog2() as usize,
        };
        let mut row = inputs.iter().map(|&b| drawn[b].row + 1).max().unwrap_or(0);
        while !taken.insert((column, row)) {
            row += 1;
        }
        box_of[i] = drawn.len();
        drawn.push(Drawn { node: i, name: node.name.clone(), column, row, inputs });
    }
    drawn
}

fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_string();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn boxes_lie_below_what_they_are_made_from_and_never_on_each_other() {
        for name in Model::names() {
            let graph = Model::named(name).unwrap().graph;
            let shapes = graph.shapes(&Sizes::new(1, SIDE, SIDE)).unwrap();
            let drawn = layout(&graph, &shapes);
            let places: HashSet<_> = drawn.iter().map(|b| (b.column, b.row)).collect();
            assert_eq!(places.len(), drawn.len(), "{name}");
            assert!(drawn.iter().all(|b| b.inputs.iter().all(|&i| drawn[i].row < b.row)), "{name}");
            let text = svg(&graph).unwrap();
            assert_eq!(text.matches("<g>").count(), drawn.len(), "{name}");
        }
    }
}
