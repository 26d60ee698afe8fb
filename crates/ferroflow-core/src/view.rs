//! Views of frames whose pixels somebody else owns.

use std::borrow::Cow;

use crate::{Frame, Size, SizeError, check_len};

/// Borrowed RGB pixels of 8 bits a channel, rows top to bottom. Bytes may follow each row, as they do in the buffers of video
/// decoders and in windows into larger pictures.
///
/// Viewing a [`Frame`] copies nothing; [`FrameView::to_frame`] copies each row once.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    size: Size,
    stride: usize,
    bytes: &'a [u8],
}

impl<'a> FrameView<'a> {
    /// Pixels without gaps, `[height, width, 3]`.
    ///
    /// # Errors
    /// If there are more or fewer bytes than that.
    pub fn new(size: Size, rgb: &'a [u8]) -> Result<Self, SizeError> {
        check_len("RGB frame", size.height.saturating_mul(size.width).saturating_mul(3), rgb.len())?;
        Ok(Self { size, stride: 3 * size.width, bytes: rgb })
    }

    /// Pixels whose rows begin `stride` bytes after each other. The bytes after the last row's pixels may be missing.
    ///
    /// # Errors
    /// If rows overlap or the bytes end before the last row does.
    pub fn with_stride(size: Size, stride: usize, bytes: &'a [u8]) -> Result<Self, SizeError> {
        let row = size.width.saturating_mul(3);
        if stride < row {
            return Err(SizeError { what: "row of an RGB frame", expected: row, found: stride });
        }
        let last = if size.height == 0 { 0 } else { stride.saturating_mul(size.height - 1).saturating_add(row) };
        if bytes.len() < last {
            return Err(SizeError { what: "RGB frame", expected: last, found: bytes.len() });
        }
        Ok(Self { size, stride, bytes })
    }

    /// Height and width in pixels.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.size.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.size.height
    }

    /// The bytes of row `y`, `[width, 3]`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, y: usize) -> &'a [u8] {
        assert!(y < self.size.height, "row {y} of {}", self.size.height);
        &self.bytes[y * self.stride..][..3 * self.size.width]
    }

    /// The bytes without gaps, `[height, width, 3]`: borrowed unless bytes lie between the rows.
    pub fn rgb(&self) -> Cow<'a, [u8]> {
        let row = 3 * self.size.width;
        if self.stride == row || self.size.height < 2 {
            return Cow::Borrowed(&self.bytes[..row * self.size.height]);
        }
        Cow::Owned(self.to_frame().into_rgb())
    }

    /// The part of `size` whose first pixel is `(x, y)`; nothing is copied.
    ///
    /// # Panics
    /// If it reaches beyond the view.
    pub fn window(&self, x: usize, y: usize, size: Size) -> Self {
        let inside = x + size.width <= self.size.width && y + size.height <= self.size.height;
        assert!(inside, "{size} at ({x}, {y}) of {}", self.size);
        let start = if size.pixels() == 0 { 0 } else { y * self.stride + 3 * x };
        Self { size, stride: self.stride, bytes: &self.bytes[start..] }
    }

    /// A frame that owns a copy of the pixels.
    pub fn to_frame(&self) -> Frame {
        let mut frame = Frame::black(self.size);
        // No width has no rows to speak of.
        for (y, row) in frame.rgb_mut().chunks_exact_mut((3 * self.size.width).max(1)).enumerate() {
            row.copy_from_slice(self.row(y));
        }
        frame
    }
}

/// Of size and pixels, whatever lies between the rows.
impl PartialEq for FrameView<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && (0..self.size.height).all(|y| self.row(y) == other.row(y))
    }
}

impl<'a> From<&'a Frame> for FrameView<'a> {
    fn from(frame: &'a Frame) -> Self {
        Self { size: frame.size(), stride: 3 * frame.width(), bytes: frame.rgb() }
    }
}

impl From<FrameView<'_>> for Frame {
    fn from(view: FrameView<'_>) -> Self {
        view.to_frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_its_frame() {
        let frame = Frame::from_fn(Size::new(3, 5), |x, y| [x as u8, y as u8, 7]);
        assert_eq!(FrameView::from(&frame).to_frame(), frame);
        assert_eq!(Frame::from(FrameView::new(frame.size(), frame.rgb()).unwrap()), frame);
        assert!(FrameView::new(Size::new(4, 5), frame.rgb()).is_err());
        let empty = FrameView::from(&Frame::black(Size::new(4, 0))).to_frame();
        assert_eq!(empty.size(), Size::new(4, 0));
    }

    #[test]
    fn bytes_are_borrowed_unless_rows_have_gaps() {
        let whole = Frame::from_fn(Size::new(4, 6), |x, y| [x as u8, y as u8, 0]);
        let view = FrameView::from(&whole);
        assert!(matches!(view.rgb(), Cow::Borrowed(rgb) if std::ptr::eq(rgb, whole.rgb())));
        let window = view.window(1, 2, Size::new(2, 3));
        let cut = Frame::from_fn(Size::new(2, 3), |x, y| [x as u8 + 1, y as u8 + 2, 0]);
        assert_eq!((window.to_frame(), window.rgb().into_owned()), (cut.clone(), cut.into_rgb()));
        assert!(matches!(view.window(0, 1, Size::new(3, 6)).rgb(), Cow::Borrowed(rgb) if rgb == &whole.rgb()[18..]));
        assert!(view.window(6, 4, Size::new(0, 0)).rgb().is_empty());
    }

    #[test]
    fn a_window_into_a_larger_picture_is_a_view() {
        let whole = Frame::from_fn(Size::new(4, 6), |x, y| [x as u8, y as u8, 0]);
        // Three columns from the second on, two rows from the third on; behind the last pixel the picture ends.
        let window = FrameView::with_stride(Size::new(2, 3), 18, &whole.rgb()[2 * 18 + 3..3 * 18 + 12]).unwrap();
        assert_eq!(window.to_frame(), Frame::from_fn(Size::new(2, 3), |x, y| [x as u8 + 1, y as u8 + 2, 0]));
        assert!(FrameView::with_stride(Size::new(2, 3), 18, &whole.rgb()[..26]).is_err());
        assert!(FrameView::with_stride(Size::new(2, 3), 8, whole.rgb()).is_err());
    }
}
