//! A drawing as SVG.

use std::fmt::Write as _;

use super::draw::{Anchor, DASH, Drawing, LETTER, Mark};

pub(super) fn svg(drawing: &Drawing) -> String {
    let (width, height) = drawing.size;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"{:.1}\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        // A monospaced letter is 0.6 of the font size wide.
        LETTER.1 / 0.6
    );
    for mark in &drawing.marks {
        // Writing to a string cannot fail.
        let _ = match mark {
            Mark::Line { points, colour: [r, g, b], width, dashed } => {
                let dash = if *dashed { format!(" stroke-dasharray=\"{DASH}\"") } else { String::new() };
                let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                writeln!(
                    text,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"rgb({r},{g},{b})\" stroke-width=\"{width}\"{dash}/>",
                    points.join(" ")
                )
            }
            Mark::Bar { from, to, colour: [r, g, b] } => writeln!(
                text,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"rgb({r},{g},{b})\"/>",
                from.0,
                from.1,
                to.0 - from.0,
                to.1 - from.1
            ),
            Mark::Text { at: (x, y), text: words, anchor } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#333\">{words}</text>")
            }
        };
    }
    text.push_str("</svg>\n");
    text
}
