//! Draws the curves of a run from its log (loss, errors and learning rate over the steps) as SVG and PNG, and plots of bars.

pub mod bars;
mod draw;
mod raster;
mod svg;

use std::path::{Path, PathBuf};

use ferroflow_core::io::{IoError, write_bytes, write_frame};
use serde_json::Value;

use crate::log::{self, LogError};
use draw::{Anchor, Drawing, LETTER};

/// Why a plot cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log has no lines to plot yet.
    #[error("{} holds no steps yet: nothing to draw", .0.display())]
    Empty(PathBuf),
    /// The extension names a format in which no plot is written.
    #[error("{} ends in neither .svg nor .png: a plot is one of them", .0.display())]
    Format(PathBuf),
    /// The pictures cannot be written.
    #[error(transparent)]
    File(#[from] IoError),
}

/// A line of a panel.
#[derive(Clone, Debug, PartialEq)]
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
    colour: [u8; 3],
    dashed: bool,
}

/// The files that [`plot`] writes into the folder of a run.
pub const FILES: [&str; 2] = ["curves.svg", "curves.png"];

/// Draws `RUN/curves.svg` and `RUN/curves.png`, and returns their paths.
pub fn plot(root: &Path) -> Result<[PathBuf; 2], PlotError> {
    let path = root.join("log.jsonl");
    let lines = log::read(&path)?;
    let drawing = picture(&lines).ok_or(PlotError::Empty(path))?;
    let files = FILES.map(|name| root.join(name));
    write_bytes(&files[0], svg::svg(&drawing).as_bytes())?;
    write_frame(&files[1], &raster::raster(&drawing, 2))?;
    Ok(files)
}

const BLUE: [u8; 3] = [31, 119, 180];
/// Colours of the validation sets, in turn.
const COLOURS: [[u8; 3]; 4] = [[214, 39, 40], [44, 160, 44], [148, 103, 189], [255, 127, 14]];
const SIZE: (f64, f64) = (960.0, 760.0);
/// Left and right side of a panel's frame.
const SIDES: (f64, f64) = (80.0, 940.0);

fn picture(lines: &[Value]) -> Option<Drawing> {
    let series = |key: &str| -> Vec<(f64, f64)> {
        lines.iter().filter_map(|l| Some((l["step"].as_f64()?, l[key].as_f64()?))).collect()
    };
    let train = |name: &str, key: &str| Curve { name: name.into(), points: series(key), colour: BLUE, dashed: false };
    let loss = train("loss", "loss");
    if loss.points.is_empty() {
        return None;
    }
    let mut errors = vec![train("training", "epe")];
    errors.extend(validation(lines));
    let end = lines.iter().filter_map(|l| l["step"].as_f64()).fold(1.0, f64::max);

    let mut drawing = Drawing::new(SIZE);
    panel(&mut drawing, (40.0, 250.0), "loss", &[loss], end);
    panel(&mut drawing, (300.0, 530.0), "end-point error, px", &errors, end);
    panel(&mut drawing, (580.0, 710.0), "learning rate", &[train("learning rate", "lr")], end);
    drawing.text((510.0, 745.0), "step", Anchor::Middle);
    Some(drawing)
}

/// Two curves for each validation set: its error, and dashed that of zero flow.
fn validation(lines: &[Value]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for line in lines {
        let (Some(step), Some(scores)) = (line["step"].as_f64(), line["validation"].as_array()) else { continue };
        for score in scores {
            let data = score["data"].as_str().unwrap_or("?");
            for (key, name, dashed) in
                [("epe", data.to_string(), false), ("zero_epe", format!("{data}, zero flow"), true)]
            {
                let Some(value) = score[key].as_f64() else { continue };
                match curves.iter_mut().find(|c| c.name == name) {
                    Some(curve) => curve.points.push((step, value)),
                    None => {
                        let colour = COLOURS[curves.len() / 2 % COLOURS.len()];
                        curves.push(Curve { name, points: vec![(step, value)], colour, dashed });
                    }
                }
            }
        }
    }
    curves
}

/// A frame with axes, curves and names. `rows` are its top and bottom.
fn panel(drawing: &mut Drawing, rows: (f64, f64), title: &str, curves: &[Curve], end: f64) {
    let (top, bottom) = rows;
    let (left, right) = SIDES;
    let values = || curves.iter().flat_map(|c| &c.points).map(|p| p.1).filter(|v| v.is_finite());
    let (low, high) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
    let step = tick(high - low);
    let high = (high / step).ceil().max(1.0) * step;
    let low = (low / step).floor() * step;
    let place =
        |(x, y): (f64, f64)| (left + (right - left) * x / end, bottom - (bottom - top) * (y - low) / (high - low));
    drawing.text((left, top - 12.0), title, Anchor::Start);
    for i in 0..=((high - low) / step).round() as i32 {
        let value = low + f64::from(i) * step;
        let (_, y) = place((0.0, value));
        drawing.line(&[(left, y), (right, y)], [225; 3], 1.0, false);
        drawing.text((left - 8.0, y + 4.0), &number(value, step), Anchor::End);
    }
    let across = tick(end);
    for i in 0..=(end / across).floor() as i32 {
        let value = f64::from(i) * across;
        let (x, _) = place((value, low));
        drawing.line(&[(x, bottom), (x, bottom + 5.0)], [120; 3], 1.0, false);
        drawing.text((x, bottom + 18.0), &number(value, across), Anchor::Middle);
    }
    drawing.line(&[(left, top), (left, bottom), (right, bottom)], [120; 3], 1.0, false);
    // Names at the right, as far left as the longest needs.
    let longest = curves.iter().map(|c| c.name.chars().count()).max().unwrap_or(0) as f64 * LETTER.1;
    let names = (right - longest - 40.0).max(left);
    for (i, curve) in curves.iter().enumerate() {
        let points: Vec<_> = curve.points.iter().filter(|p| p.1.is_finite()).map(|&p| place(p)).collect();
        drawing.line(&points, curve.colour, 1.6, curve.dashed);
        if curves.len() > 1 {
            let y = top + 14.0 + 16.0 * i as f64;
            drawing.line(&[(names, y - 4.0), (names + 28.0, y - 4.0)], curve.colour, 1.6, curve.dashed);
            drawing.text((names + 36.0, y), &curve.name, Anchor::Start);
        }
    }
}

/// A round distance between marks, of which 3 to 8 fit into `range`.
fn tick(range: f64) -> f64 {
    if !(range > 0.0 && range.is_finite()) {
        return 1.0;
    }
    let power = 10f64.powf((range / 4.0).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|m| m * power).find(|t| range / t <= 8.0).unwrap_or(10.0 * power)
}

/// As many digits as the distance between marks asks for.
fn number(value: f64, step: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e5).contains(&step) {
        return format!("{value:.1e}");
    }
    let digits = (-step.log10().floor()).max(0.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines() -> Vec<Value> {
        let mut lines = vec![json!({ "model": "lightflow" })];
        for step in 1..=50 {
            let x = f64::from(step);
            lines.push(json!({ "step": step, "loss": 2.0 / x, "epe": 9.0 / x.sqrt(), "lr": 1e-4 }));
        }
        let score = json!({ "data": "synth:chairs", "epe": 4.5, "zero_epe": 11.2 });
        lines.push(json!({ "step": 25, "validation": [score] }));
        lines.push(json!({ "step": 50, "validation": [score] }));
        lines
    }

    #[test]
    fn a_run_is_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = lines().iter().map(|l| format!("{l}\n")).collect();
        std::fs::write(folder.path().join("log.jsonl"), text).unwrap();
        let [svg, png] = plot(folder.path()).unwrap();
        let svg = std::fs::read_to_string(svg).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("synth:chairs, zero flow") && svg.contains("stroke-dasharray"));
        let frame = ferroflow_core::io::read_frame(png).unwrap();
        assert_eq!((frame.width(), frame.height()), (1920, 1520));
        let blue = frame.rgb().chunks_exact(3).filter(|p| *p == BLUE).count();
        assert!(blue > 1000, "{blue}");
    }

    #[test]
    fn a_run_without_steps_says_so() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log.jsonl"), "{\"model\":\"pwcnet\"}\n").unwrap();
        assert!(matches!(plot(folder.path()), Err(PlotError::Empty(_))));
        assert!(matches!(plot(&folder.path().join("none")), Err(PlotError::Log(_))));
    }

    #[test]
    fn marks_are_round_and_few() {
        for (range, step) in [(50.0, 10.0), (7.0, 1.0), (1.0, 0.2), (400_000.0, 100_000.0), (1e-4, 2e-5)] {
            assert!((tick(range) / step - 1.0).abs() < 1e-9, "{range}: {}", tick(range));
        }
        assert_eq!(
            (number(0.4, 0.2), number(30.0, 10.0), number(2e-5, 2e-5)),
            ("0.4".into(), "30".into(), "2.0e-5".into())
        );
        assert_eq!(tick(0.0), 1.0);
    }
}
