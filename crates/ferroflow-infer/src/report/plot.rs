//! Curves as SVG.

use std::fmt::Write as _;

use super::escaped;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
/// Space for the axes, left and below.
const LEFT: f64 = 50.0;
const BELOW: f64 = 40.0;
/// One for each method; they come round again.
const COLOURS: [&str; 6] = ["#b7410e", "#3b6ea5", "#4a7f3f", "#7a4a9e", "#8a6d1d", "#1d8a86"];

/// Which share of the pairs has an error below each value, for each method.
pub(super) fn distribution(curves: &[(&str, Vec<f64>)]) -> String {
    let largest = curves.iter().flat_map(|(_, errors)| errors).copied().fold(0.0, f64::max);
    if !(largest > 0.0 && largest.is_finite()) {
        return String::new();
    }
    let x = |error: f64| LEFT + error / largest * (WIDTH - LEFT - 10.0);
    let y = |share: f64| 10.0 + (1.0 - share) * (HEIGHT - BELOW - 10.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" font-size=\"12\" \
         font-family=\"sans-serif\">"
    );
    // Writing to a string cannot fail.
    for i in 0..=4 {
        let share = f64::from(i) / 4.0;
        let (line, error) = (y(share), share * largest);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{line:.1}\" y2=\"{line:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{error:.2}</text>",
            WIDTH - 10.0,
            LEFT - 6.0,
            line + 4.0,
            100.0 * share,
            x(error),
            HEIGHT - BELOW + 16.0,
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">end-point error of a pair, px (share of pairs below)</text>",
        (WIDTH + LEFT) / 2.0,
        HEIGHT - 6.0
    );
    for (i, ((name, errors), colour)) in curves.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let mut sorted = errors.clone();
        sorted.sort_by(f64::total_cmp);
        let mut path = format!("M{:.1} {:.1}", x(0.0), y(0.0));
        for (k, error) in sorted.iter().enumerate() {
            let _ = write!(path, "H{:.1}V{:.1}", x(*error), y((k + 1) as f64 / sorted.len() as f64));
        }
        let _ = write!(
            svg,
            "<path d=\"{path}H{:.1}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
            WIDTH - 10.0,
            WIDTH - 16.0,
            y(0.0) - 10.0 - 16.0 * (curves.len() - 1 - i) as f64,
            escaped(name)
        );
    }
    svg + "</svg>"
}
