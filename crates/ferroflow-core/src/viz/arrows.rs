//! Flow as arrows over a frame.

use super::colour::wheel_colour;
use crate::{FlowField, Frame, Size, SizeError, check_len};

/// Draws an arrow every `step` pixels (at least 1), `length` times as long as the flow and in the colour of its direction.
/// Unknown and non-finite vectors are not drawn; vectors shorter than half a pixel are dots.
pub fn arrows(frame: &Frame, flow: &FlowField, step: usize, length: f32) -> Result<Frame, SizeError> {
    check_len("flow width for the frame", frame.width(), flow.width())?;
    check_len("flow height for the frame", frame.height(), flow.height())?;
    let step = step.max(1);
    let mut canvas = frame.clone();
    for y in (step / 2..flow.height()).step_by(step) {
        for x in (step / 2..flow.width()).step_by(step) {
            let Some((u, v)) = flow.known(x, y) else { continue };
            let (u, v) = (u * length, v * length);
            let size = u.hypot(v);
            if !size.is_finite() {
                continue;
            }
            let from = (x as f32, y as f32);
            let colour = match size {
                0.0 => [255; 3],
                _ => wheel_colour((u / size).into(), (v / size).into()),
            };
            let tip = (from.0 + u, from.1 + v);
            line(&mut canvas, from, tip, colour);
            if size >= 0.5 {
                // The head: two strokes back from the tip, 30 degrees from the shaft.
                let head = (size * 0.3).clamp(2.0, 8.0) / size;
                let (sin, cos) = 30f32.to_radians().sin_cos();
                for sin in [sin, -sin] {
                    let back = (tip.0 - head * (u * cos - v * sin), tip.1 - head * (u * sin + v * cos));
                    line(&mut canvas, tip, back, colour);
                }
            }
        }
    }
    Ok(canvas)
}

/// A line of one pixel's width; what lies outside the frame is left out without being walked.
fn line(frame: &mut Frame, from: (f32, f32), to: (f32, f32), colour: [u8; 3]) {
    let size = frame.size();
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let steps = dx.abs().max(dy.abs()).ceil().max(1.0);
    // From a point inside, no more steps than the diagonal can stay inside; heads of far tips start outside.
    let most = if inside(from, size) { (size.width + size.height) as f32 } else { 64.0 };
    for i in 0..=steps.min(most) as usize {
        let t = i as f32 / steps;
        let at = ((from.0 + dx * t).round(), (from.1 + dy * t).round());
        if inside(at, size) {
            let at = (at.1 as usize * size.width + at.0 as usize) * 3;
            frame.rgb_mut()[at..at + 3].copy_from_slice(&colour);
        }
    }
}

fn inside(at: (f32, f32), size: Size) -> bool {
    at.0 >= 0.0 && at.1 >= 0.0 && at.0 < size.width as f32 && at.1 < size.height as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_points_where_the_pixel_went() {
        let frame = Frame::from_fn(Size::new(20, 40), |_, _| [0; 3]);
        let flow = FlowField::sparse_from_fn(Size::new(20, 40), |x, y| (x == 10 && y == 10).then_some((12.0, 0.0)));
        let drawn = arrows(&frame, &flow, 20, 1.0).unwrap();
        let red = |x: usize, y: usize| drawn.pixel(x, y) == [255, 0, 0];
        assert!((10..=22).all(|x| red(x, 10)) && !red(9, 10) && !red(23, 10));
        // The head opens to both sides behind the tip and not at the tail.
        assert!(red(20, 9) && red(20, 11) && !red(11, 9) && !red(11, 11));
    }

    #[test]
    fn wild_vectors_are_drawn_as_far_as_the_frame_or_not_at_all() {
        let frame = Frame::from_fn(Size::new(9, 9), |_, _| [0; 3]);
        for value in [f32::NAN, f32::INFINITY, f32::MAX, 1e30, -1e9] {
            arrows(&frame, &FlowField::from_fn(Size::new(9, 9), |_, _| (value, -value)), 1, 1.0).unwrap();
        }
        assert!(arrows(&frame, &FlowField::zeros(Size::new(8, 9)), 1, 1.0).is_err());
        assert_eq!(arrows(&frame, &FlowField::zeros(Size::new(9, 9)), 0, 1.0).unwrap().pixel(0, 0), [255; 3]);
    }
}
