//! Pictures put together: one under the other, or one over the other.

use crate::{Frame, SizeError, check_len};

/// Pictures one below the other, left edges aligned, white beside narrower ones.
pub fn stacked(pictures: &[Frame]) -> Frame {
    let width = pictures.iter().map(Frame::width).max().unwrap_or(0);
    let mut rgb = Vec::new();
    for picture in pictures {
        for row in 0..picture.height() {
            rgb.extend_from_slice(&picture.rgb()[3 * row * picture.width()..][..3 * picture.width()]);
            rgb.resize(rgb.len() + 3 * (width - picture.width()), 255);
        }
    }
    let mut sheet = Frame::black(crate::Size { height: pictures.iter().map(Frame::height).sum(), width });
    sheet.rgb_mut().copy_from_slice(&rgb);
    sheet
}

/// A picture over a frame of its size, of which `share` (0 to 1) shows the picture.
///
/// # Errors
/// If they differ in size.
pub fn blended(frame: &Frame, picture: &Frame, share: f32) -> Result<Frame, SizeError> {
    check_len("picture width for the frame", frame.width(), picture.width())?;
    check_len("picture height for the frame", frame.height(), picture.height())?;
    let mut mixed = frame.clone();
    for (below, &above) in mixed.rgb_mut().iter_mut().zip(picture.rgb()) {
        *below = (f32::from(*below) * (1.0 - share) + f32::from(above) * share).round() as u8;
    }
    Ok(mixed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn pictures_are_stacked_and_blended() {
        let plain = |height, width, value| Frame::from_fn(Size::new(height, width), |_, _| [value; 3]);
        let sheet = stacked(&[plain(1, 2, 10), plain(2, 1, 20)]);
        assert_eq!(sheet.size(), Size::new(3, 2));
        assert_eq!([(0, 0), (1, 0), (0, 2), (1, 2)].map(|(x, y)| sheet.pixel(x, y)[0]), [10, 10, 20, 255]);
        assert_eq!(stacked(&[]).size(), Size::new(0, 0));
        let mixed = blended(&plain(2, 2, 100), &plain(2, 2, 200), 0.25).unwrap();
        assert_eq!(mixed.pixel(1, 1), [125; 3]);
        assert!(blended(&plain(2, 2, 0), &plain(2, 1, 0), 0.5).is_err());
    }
}
