//! The few characters of a legend, 3x5 dots each.

use crate::Frame;

/// Rows top to bottom, three bits each, the left dot highest.
fn glyph(character: char) -> [u8; 5] {
    match character {
        '0' => [7, 5, 5, 5, 7],
        '1' => [2, 6, 2, 2, 7],
        '2' => [7, 1, 7, 4, 7],
        '3' => [7, 1, 3, 1, 7],
        '4' => [5, 5, 7, 1, 1],
        '5' => [7, 4, 7, 1, 7],
        '6' => [7, 4, 7, 5, 7],
        '7' => [7, 1, 2, 2, 2],
        '8' => [7, 5, 7, 5, 7],
        '9' => [7, 5, 7, 1, 7],
        '.' => [0, 0, 0, 0, 2],
        'p' => [0, 6, 5, 6, 4],
        'x' => [0, 5, 2, 5, 0],
        _ => [0; 5],
    }
}

/// Width of a text in pixels, dots being `size` pixels wide.
pub(super) fn width(text: &str, size: usize) -> usize {
    (text.chars().count() * 4).saturating_sub(1) * size
}

/// Height of a text in pixels.
pub(super) fn height(size: usize) -> usize {
    5 * size
}

/// Writes with the top left corner at `(x, y)`; what does not fit is cut off.
pub(super) fn write(frame: &mut Frame, text: &str, (x, y): (usize, usize), size: usize, colour: [u8; 3]) {
    let (frame_width, frame_height) = (frame.width(), frame.height());
    for (i, character) in text.chars().enumerate() {
        for (row, bits) in glyph(character).into_iter().enumerate() {
            for column in (0..3).filter(|c| bits >> (2 - c) & 1 == 1) {
                for dot in 0..size * size {
                    let at_x = x + (i * 4 + column) * size + dot % size;
                    let at_y = y + row * size + dot / size;
                    if at_x < frame_width && at_y < frame_height {
                        let at = (at_y * frame_width + at_x) * 3;
                        frame.rgb_mut()[at..at + 3].copy_from_slice(&colour);
                    }
                }
            }
        }
    }
}
