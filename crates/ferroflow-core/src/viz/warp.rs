//! Frame 2 warped back to frame 1, to see whether the flow fits the frames: `warped(x) = frame2(x + flow(x))`, since `flow(x)`
//! says where pixel `x` of frame 1 is in frame 2.

use crate::{FlowField, Frame, Mask, Size, SizeError, check_len, sampling::between};

/// Frame 2 warped back by the flow, and how it differs from frame 1.
#[derive(Clone, Debug, PartialEq)]
pub struct WarpPicture {
    /// Frame 2 sampled along the flow; black where the target lies outside or the flow is unknown.
    pub warped: Frame,
    /// `|warped - frame 1|` of each channel; black where there is nothing to compare.
    pub difference: Frame,
    /// Frame 1 with occluded pixels in red: those of the given mask, or without a mask those whose target lies outside.
    pub occlusion: Frame,
}

/// Frame 2 sampled bilinearly along the flow, and a mask that is true where the target lies between pixel centres of frame 2.
pub fn warp(frame2: &Frame, flow: &FlowField) -> (Frame, Mask) {
    let target = |x, y| {
        let (u, v) = flow.known(x, y)?;
        Some((x as f32 + u, y as f32 + v))
    };
    let warped =
        Frame::par_from_fn(flow.size(), |x, y| target(x, y).and_then(|(x, y)| sample(frame2, x, y)).unwrap_or([0; 3]));
    let size = frame2.size();
    let seen = Mask::from_fn(flow.size(), |x, y| target(x, y).is_some_and(|(x, y)| between(x, y, size).is_some()));
    (warped, seen)
}

/// The colour at a place between pixel centres, `None` elsewhere.
fn sample(frame: &Frame, x: f32, y: f32) -> Option<[u8; 3]> {
    let corners = between(x, y, Size { height: frame.height(), width: frame.width() })?;
    let (pixels, _) = frame.rgb().as_chunks::<3>();
    let channel = |c: usize| corners.iter().map(|&(at, weight)| weight * f32::from(pixels[at][c])).sum::<f32>();
    Some([0, 1, 2].map(|c| channel(c).round() as u8))
}

/// Warps frame 2 back and compares it with frame 1.
pub fn warp_picture(
    frame1: &Frame,
    frame2: &Frame,
    flow: &FlowField,
    occluded: Option<&Mask>,
) -> Result<WarpPicture, SizeError> {
    let (width, height) = (flow.width(), flow.height());
    check_len("frame 1 width for the flow", width, frame1.width())?;
    check_len("frame 1 height for the flow", height, frame1.height())?;
    if let Some(mask) = occluded {
        check_len("occlusion mask width for the flow", width, mask.width())?;
        check_len("occlusion mask height for the flow", height, mask.height())?;
    }
    let (warped, seen) = warp(frame2, flow);
    let difference = Frame::from_fn(Size { height, width }, |x, y| {
        let (a, b) = (warped.pixel(x, y), frame1.pixel(x, y));
        if seen.get(x, y) { [0, 1, 2].map(|c| a[c].abs_diff(b[c])) } else { [0; 3] }
    });
    let occlusion = Frame::from_fn(Size { height, width }, |x, y| {
        let [r, g, b] = frame1.pixel(x, y);
        let hidden = occluded.map_or(!seen.get(x, y), |m| m.get(x, y));
        if hidden { [r / 2 + 128, g / 2, b / 2] } else { [r, g, b] }
    });
    Ok(WarpPicture { warped, difference, occlusion })
}

/// Pictures side by side, top edges aligned, white between and below.
pub fn beside(pictures: &[Frame], gap: usize) -> Frame {
    let width = pictures.iter().map(Frame::width).sum::<usize>() + gap * pictures.len().saturating_sub(1);
    let height = pictures.iter().map(Frame::height).max().unwrap_or(0);
    let mut sheet = Frame::from_fn(Size { height, width }, |_, _| [255; 3]);
    let mut left = 0;
    for picture in pictures {
        let row = picture.width() * 3;
        for y in 0..picture.height() {
            let at = (y * width + left) * 3;
            sheet.rgb_mut()[at..at + row].copy_from_slice(&picture.rgb()[y * row..(y + 1) * row]);
        }
        left += picture.width() + gap;
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translation_warps_back_exactly() {
        // The scene moves by (3, -2): what is at x in frame 1 is at x + (3, -2) in frame 2.
        let scene = |x: isize, y: isize| [(x * 7 + 60) as u8, (y * 11 + 60) as u8, (x * y) as u8];
        let frame1 = Frame::from_fn(Size::new(15, 20), |x, y| scene(x as isize, y as isize));
        let frame2 = Frame::from_fn(Size::new(15, 20), |x, y| scene(x as isize - 3, y as isize + 2));
        let flow = FlowField::from_fn(Size::new(15, 20), |_, _| (3.0, -2.0));
        let picture = warp_picture(&frame1, &frame2, &flow, None).unwrap();
        assert!(picture.difference.rgb().iter().all(|&d| d == 0));
        for (x, y) in [(0, 2), (16, 14), (8, 8)] {
            assert_eq!(picture.warped.pixel(x, y), frame1.pixel(x, y));
            assert_eq!(picture.occlusion.pixel(x, y), frame1.pixel(x, y));
        }
        for (x, y) in [(17, 8), (5, 1)] {
            assert_eq!(picture.warped.pixel(x, y), [0; 3]);
            assert!(picture.occlusion.pixel(x, y)[0] >= 128);
        }
        let wrong = FlowField::from_fn(Size::new(15, 20), |_, _| (-3.0, 2.0));
        let differs = warp_picture(&frame1, &frame2, &wrong, None).unwrap().difference;
        assert!(differs.rgb().iter().any(|&d| d > 20));
    }

    #[test]
    fn a_given_mask_is_what_is_shown() {
        let frame = Frame::from_fn(Size::new(1, 2), |_, _| [100; 3]);
        let mask = Mask::new(Size::new(1, 2), vec![true, false]).unwrap();
        let picture = warp_picture(&frame, &frame, &FlowField::zeros(Size::new(1, 2)), Some(&mask)).unwrap();
        assert_eq!(picture.occlusion.rgb(), [178, 50, 50, 100, 100, 100]);
        assert!(warp_picture(&frame, &frame, &FlowField::zeros(Size::new(1, 1)), None).is_err());
        let wild = FlowField::from_fn(Size::new(1, 2), |_, _| (f32::NAN, f32::INFINITY));
        assert_eq!(warp(&frame, &wild).1.count(), 0);
    }

    #[test]
    fn pictures_stand_side_by_side() {
        let sheet = beside(
            &[Frame::from_fn(Size::new(1, 2), |_, _| [1; 3]), Frame::from_fn(Size::new(2, 1), |_, _| [2; 3])],
            1,
        );
        assert_eq!((sheet.width(), sheet.height()), (4, 2));
        assert_eq!([0, 1, 2, 3].map(|x| sheet.pixel(x, 0)[0]), [1, 1, 255, 2]);
        assert_eq!([0, 1, 2, 3].map(|x| sheet.pixel(x, 1)[0]), [255, 255, 255, 2]);
        assert_eq!(beside(&[], 3).width(), 0);
    }
}
