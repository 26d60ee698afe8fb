//! Legends: small pictures that explain the colours of a picture, to lay over it or beside it.

use super::{Colours, error_map::COLOURS, normalisation::Scale, text};
use crate::{Frame, Size};

/// A disc of `diameter` pixels with the colours of every direction and length up to full strength, whose length in px is
/// written below. The picture is white outside the disc.
pub fn colour_legend(colours: Colours, scale: Scale, diameter: usize) -> Frame {
    let diameter = diameter.max(16);
    let size = (diameter / 48).max(1);
    let centre = (diameter - 1) as f64 / 2.0;
    let mut legend =
        Frame::from_fn(Size { height: diameter + text::height(size) + 2 * size, width: diameter }, |x, y| {
            let (u, v) = ((x as f64 - centre) / centre, (y as f64 - centre) / centre);
            if u * u + v * v > 1.0 {
                return [255; 3];
            }
            colours.of((u * scale.high) as f32, (v * scale.high) as f32, scale)
        });
    let label = label(scale.high);
    let at = (diameter.saturating_sub(text::width(&label, size)) / 2, diameter + size);
    text::write(&mut legend, &label, at, size, [0; 3]);
    legend
}

/// `12.5px`, with no more digits than a reader wants.
fn label(px: f64) -> String {
    match px {
        px if px >= 100.0 => format!("{px:.0}px"),
        px if px >= 1.0 => format!("{px:.1}px"),
        px => format!("{px:.2}px"),
    }
}

/// The ten colours of the error map, `width` pixels wide, each with its upper limit in px below (for short motion, where
/// the limit in px decides): 0.19 to 48.
pub fn error_legend(width: usize) -> Frame {
    let cell = (width / COLOURS.len()).max(20);
    let size = (cell / 20).max(1);
    let bar = cell / 2;
    let mut legend =
        Frame::from_fn(Size { height: bar + text::height(size) + 2 * size, width: cell * COLOURS.len() }, |x, y| {
            if y < bar { COLOURS[x / cell].1 } else { [255; 3] }
        });
    for (i, (limit, _)) in COLOURS.iter().enumerate().take(COLOURS.len() - 1) {
        let px = 3.0 * limit;
        let label = if px < 1.0 {
            format!("{px:.2}")
        } else if px < 3.0 {
            format!("{px:.1}")
        } else {
            format!("{px:.0}")
        };
        let right = (i + 1) * cell;
        let at = right.saturating_sub(text::width(&label, size) + size);
        text::write(&mut legend, &label, (at, bar + size), size, [0; 3]);
    }
    legend
}

/// Lays `legend` over the bottom right corner of `picture`; a picture that is too small for it stays as it is.
pub fn overlay(mut picture: Frame, legend: &Frame) -> Frame {
    let (Some(left), Some(top)) =
        (picture.width().checked_sub(legend.width()), picture.height().checked_sub(legend.height()))
    else {
        return picture;
    };
    let row = picture.width() * 3;
    for y in 0..legend.height() {
        let at = (top + y) * row + left * 3;
        picture.rgb_mut()[at..at + legend.width() * 3]
            .copy_from_slice(&legend.rgb()[y * legend.width() * 3..][..legend.width() * 3]);
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viz::wheel_colour;

    #[test]
    fn the_disc_is_the_code_itself() {
        let scale = Scale { low: 0.0, high: 12.5 };
        let legend = colour_legend(Colours::default(), scale, 97);
        assert_eq!(legend.pixel(0, 0), [255; 3]);
        assert_eq!(legend.pixel(48, 48), [255; 3]);
        assert_eq!(legend.pixel(96, 48), [255, 0, 0]);
        assert_eq!(legend.pixel(72, 48), wheel_colour(0.5, 0.0));
        // The label is there, black on white.
        let below = (97..legend.height()).flat_map(|y| (0..97).map(move |x| (x, y)));
        assert!(below.filter(|&(x, y)| legend.pixel(x, y) == [0; 3]).count() > 40);
        assert_eq!([label(250.4), label(12.5), label(0.333)], ["250px", "12.5px", "0.33px"]);
    }

    #[test]
    fn an_overlay_covers_the_corner_only() {
        let picture = Frame::from_fn(Size::new(40, 300), |_, _| [9; 3]);
        let legend = error_legend(200);
        let both = overlay(picture.clone(), &legend);
        assert_eq!((both.pixel(99, 39), both.pixel(299, 0)), ([9; 3], [9; 3]));
        assert_eq!(both.pixel(100, 40 - legend.height()), COLOURS[0].1);
        let small = Frame::from_fn(Size::new(5, 5), |_, _| [9; 3]);
        assert_eq!(overlay(small.clone(), &legend), small);
    }
}
