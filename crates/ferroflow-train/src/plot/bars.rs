//! Draws bars in groups on a logarithmic axis, one for each series, with a line at a value to compare them with.

use std::path::Path;

use ferroflow_core::io::{write_bytes, write_frame};

use super::{BLUE, PlotError, draw::Anchor, draw::Drawing, draw::LETTER, raster, svg};

/// A picture of bars.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// What the axis measures, with its unit.
    pub axis: String,
    /// Name of each series.
    pub series: Vec<String>,
    /// What the line stands for.
    pub line: String,
    /// In order from top to bottom.
    pub groups: Vec<Group>,
}

/// Rows under one heading.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The heading.
    pub name: String,
    /// In order from top to bottom.
    pub rows: Vec<Row>,
}

/// One bar for each series.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Name of the row.
    pub name: String,
    /// The value of each series, 0 or more; `None` draws no bar.
    pub values: Vec<Option<f64>>,
    /// The value at which the line is drawn.
    pub line: f64,
}

/// The format of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Vector graphics.
    Svg,
    /// Pixels, with two for each unit of the drawing.
    Png,
}

impl Format {
    /// The format of an extension.
    ///
    /// # Errors
    /// If the extension is neither `svg` nor `png`.
    pub fn of(path: &Path) -> Result<Self, PlotError> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(PlotError::Format(path.into())),
        }
    }
}

/// Colours of the series, in turn.
const COLOURS: [[u8; 3]; 3] = [BLUE, [255, 127, 14], [44, 160, 44]];
const WIDTH: f64 = 960.0;
/// Left and right end of the axis.
const SIDES: (f64, f64) = (190.0, 880.0);
const BAR: f64 = 10.0;
/// Distance between rows.
const GAP: f64 = 6.0;
const HEADING: f64 = 26.0;
/// Height of the row of names at the top.
const TOP: f64 = 40.0;
/// Height of the axis.
const BELOW: f64 = 50.0;
/// The axis begins here: what is smaller has a bar of no length and its number.
const LEAST: f64 = 0.01;

impl Bars {
    /// Writes the picture in the format of the extension.
    ///
    /// # Errors
    /// If the extension is neither `svg` nor `png`, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PlotError> {
        match Format::of(path)? {
            Format::Svg => write_bytes(path, svg::svg(&self.drawing()).as_bytes())?,
            Format::Png => write_frame(path, &raster::raster(&self.drawing(), 2))?,
        }
        Ok(())
    }

    fn drawing(&self) -> Drawing {
        let tall = self.series.len() as f64 * BAR;
        let rows: usize = self.groups.iter().map(|g| g.rows.len()).sum();
        let bottom = TOP + self.groups.len() as f64 * HEADING + rows as f64 * (tall + GAP);
        let mut drawing = Drawing::new((WIDTH, bottom + BELOW));
        let (left, right) = SIDES;
        let all = self.groups.iter().flat_map(|g| &g.rows);
        let values = all.flat_map(|r| r.values.iter().flatten().chain([&r.line])).filter(|v| v.is_finite());
        let decades = (values.fold(1.0, |a: f64, &b| a.max(b)) / LEAST).log10().ceil().max(1.0);
        let place = |value: f64| {
            let share = (value.max(LEAST) / LEAST).log10() / decades;
            left + (right - left) * share.clamp(0.0, 1.0)
        };
        for decade in 0..=decades as i32 {
            let value = LEAST * 10f64.powi(decade);
            let x = place(value);
            drawing.line(&[(x, TOP), (x, bottom)], [225; 3], 1.0, false);
            drawing.text((x, bottom + 18.0), &number(value), Anchor::Middle);
        }
        drawing.text(((left + right) / 2.0, bottom + 40.0), &self.axis, Anchor::Middle);
        self.names(&mut drawing);

        let mut y = TOP;
        for group in &self.groups {
            y += HEADING;
            drawing.text((8.0, y - 8.0), &group.name, Anchor::Start);
            for row in &group.rows {
                drawing.text((left - 8.0, y + (tall + LETTER.0) / 2.0), &row.name, Anchor::End);
                for (value, colour) in row.values.iter().zip(COLOURS.iter().cycle()) {
                    let (end, label) = value.map_or((left, "no flow".into()), |v| (place(v), number(v)));
                    drawing.bar((left, y + 1.0), (end, y + BAR - 1.0), *colour);
                    drawing.text((end + 6.0, y + BAR - 1.0), &label, Anchor::Start);
                    y += BAR;
                }
                if row.line > 0.0 {
                    let x = place(row.line);
                    drawing.line(&[(x, y - tall - 2.0), (x, y + 2.0)], [0; 3], 2.0, false);
                }
                y += GAP;
            }
        }
        drawing.line(&[(left, TOP), (left, bottom), (right, bottom)], [120; 3], 1.0, false);
        drawing
    }

    /// Draws the names of the series and of the line, in a row at the top.
    fn names(&self, drawing: &mut Drawing) {
        let mut x = SIDES.0;
        for (name, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            drawing.bar((x, 14.0), (x + 20.0, 24.0), *colour);
            drawing.text((x + 26.0, 23.0), name, Anchor::Start);
            x += 50.0 + name.chars().count() as f64 * LETTER.1;
        }
        drawing.line(&[(x + 10.0, 12.0), (x + 10.0, 26.0)], [0; 3], 2.0, false);
        drawing.text((x + 18.0, 23.0), &self.line, Anchor::Start);
    }
}

/// Three digits.
fn number(value: f64) -> String {
    let digits = if value == 0.0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    if value > 0.0 && value < 0.005 { "<0.01".into() } else { format!("{value:.digits$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars() -> Bars {
        let row = |name: &str, values: [Option<f64>; 2], line| Row { name: name.into(), values: values.to_vec(), line };
        Bars {
            axis: "end-point error, px".into(),
            series: vec!["pwcnet".into(), "dis".into()],
            line: "zero flow".into(),
            groups: vec![
                Group { name: "still".into(), rows: vec![row("no motion", [Some(0.0), Some(0.001)], 0.0)] },
                Group { name: "shift".into(), rows: vec![row("100 px", [Some(1.0), None], 100.0)] },
            ],
        }
    }

    #[test]
    fn bars_are_as_long_as_the_logarithm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card.svg");
        bars().write(&path).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        // From 0.01 to 100 in 4 decades of 172.5: 1 is at the second, half way.
        assert!(svg.contains("width=\"345.0\" height=\"8.0\""), "{svg}");
        for text in [">no flow<", ">0<", ">&lt;0.01<", ">100<", ">zero flow<", ">shift<"] {
            assert!(svg.contains(text), "{text}");
        }
        let path = folder.path().join("card.png");
        bars().write(&path).unwrap();
        let frame = ferroflow_core::io::read_frame(path).unwrap();
        let blue = frame.rgb().chunks_exact(3).filter(|p| *p == BLUE).count();
        // The bar at two pixels a unit, less what the line and letters cover, and the name's.
        assert!((345 * 8 * 4 * 9 / 10..345 * 8 * 4 + 20 * 10 * 4 + 1).contains(&blue), "{blue}");
        assert!(matches!(bars().write(&folder.path().join("card.pdf")), Err(PlotError::Format(_))));
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in
            [(0.0, "0"), (0.004, "<0.01"), (0.01, "0.01"), (1.0, "1.00"), (12.34, "12.3"), (100.0, "100")]
        {
            assert_eq!(number(value), text);
        }
    }
}
