//! A drawing as pixels: smooth lines, and the letters of an 8x8 font.

use ferroflow_core::{Frame, Size};
use font8x8::legacy::BASIC_LEGACY;

use super::draw::{Anchor, DASH, Drawing, LETTER, Mark};

/// `scale` pixels for each unit of the drawing.
pub(super) fn raster(drawing: &Drawing, scale: usize) -> Frame {
    let (width, height) = drawing.size;
    let pixels = |length: f64| (length * scale as f64).round() as usize;
    let mut frame = Frame::from_fn(Size { height: pixels(height), width: pixels(width) }, |_, _| [255; 3]);
    for mark in &drawing.marks {
        match mark {
            Mark::Line { points, colour, width, dashed } => {
                let mut drawn = 0.0;
                for pair in points.windows(2) {
                    let to_pixels = |(x, y): (f64, f64)| (x * scale as f64, y * scale as f64);
                    let (from, to) = (to_pixels(pair[0]), to_pixels(pair[1]));
                    let dash = dashed.then_some((DASH * scale as f64, drawn));
                    segment(&mut frame, from, to, *colour, width * scale as f64 / 2.0, dash);
                    drawn += (to.0 - from.0).hypot(to.1 - from.1);
                }
            }
            Mark::Bar { from, to, colour } => {
                for y in pixels(from.1)..pixels(to.1) {
                    (pixels(from.0)..pixels(to.0)).for_each(|x| blend(&mut frame, (x, y), *colour, 1.0));
                }
            }
            Mark::Text { at: (x, y), text, anchor } => {
                let wide = text.chars().count() as f64 * LETTER.1;
                let left = match anchor {
                    Anchor::Start => *x,
                    Anchor::Middle => x - wide / 2.0,
                    Anchor::End => x - wide,
                };
                for (i, letter) in text.chars().enumerate() {
                    let at = (pixels(left + i as f64 * LETTER.1), pixels(y - LETTER.0));
                    glyph(&mut frame, letter, at, scale);
                }
            }
        }
    }
    frame
}

/// A line of half width `radius`; each pixel takes as much colour as it is covered. `dash` is the length of a dash and how
/// much of the line lies before this segment.
fn segment(
    frame: &mut Frame,
    from: (f64, f64),
    to: (f64, f64),
    colour: [u8; 3],
    radius: f64,
    dash: Option<(f64, f64)>,
) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx.hypot(dy);
    let reach = radius + 1.0;
    let span = |a: f64, b: f64, end: usize| {
        let low = (a.min(b) - reach).floor().max(0.0) as usize;
        low..((a.max(b) + reach).ceil().max(0.0) as usize).min(end)
    };
    let (width, height) = (frame.width(), frame.height());
    for y in span(from.1, to.1, height) {
        for x in span(from.0, to.0, width) {
            let (px, py) = (x as f64 + 0.5 - from.0, y as f64 + 0.5 - from.1);
            let along = if length > 0.0 { ((px * dx + py * dy) / length).clamp(0.0, length) } else { 0.0 };
            if dash.is_some_and(|(dash, before)| ((before + along) / dash) as u64 % 2 == 1) {
                continue;
            }
            let share = if length > 0.0 { along / length } else { 0.0 };
            let distance = (px - share * dx).hypot(py - share * dy);
            let cover = (radius + 0.5 - distance).clamp(0.0, 1.0);
            blend(frame, (x, y), colour, cover);
        }
    }
}

fn glyph(frame: &mut Frame, letter: char, at: (usize, usize), scale: usize) {
    let rows = BASIC_LEGACY.get(letter as usize).copied().unwrap_or([0x7f; 8]);
    for (row, bits) in rows.into_iter().enumerate() {
        for column in (0..8).filter(|c| bits >> c & 1 == 1) {
            for dot in 0..scale * scale {
                let place = (at.0 + column * scale + dot % scale, at.1 + row * scale + dot / scale);
                blend(frame, place, [51; 3], 1.0);
            }
        }
    }
}

fn blend(frame: &mut Frame, (x, y): (usize, usize), colour: [u8; 3], cover: f64) {
    if cover <= 0.0 || x >= frame.width() || y >= frame.height() {
        return;
    }
    let at = (y * frame.width() + x) * 3;
    for (value, colour) in frame.rgb_mut()[at..at + 3].iter_mut().zip(colour) {
        *value = (f64::from(*value) + cover * (f64::from(colour) - f64::from(*value))).round() as u8;
    }
}
