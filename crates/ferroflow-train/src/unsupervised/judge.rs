//! How well flow brings frames back to each other, where no one knows the truth.

use ferroflow_core::{FlowField, Frame, Size, consistency::sample};
use ferroflow_net::{PyramidUnit, training::Values};

use super::{OcclusionEstimation, Scene, UnsupervisedError, UnsupervisedOptions};
use crate::data::planes;

/// What can be said about the flow of a pair without its truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// The census loss of both directions, with every pixel that stays inside the frame; no unit.
    pub census: f64,
    /// Mean distance from a pixel to where flow there and back ends, over pixels that come back inside; px.
    pub round_trip: f64,
}

/// Judges the flow from `first` to `second` and the flow back.
///
/// # Errors
/// If the flows are not of the size of the frames, or the frames are smaller than 4 pixels.
pub fn judge(
    first: &Frame,
    second: &Frame,
    forward: &FlowField,
    backward: &FlowField,
) -> Result<Judgement, UnsupervisedError> {
    // The losses halve sides twice.
    let of = first.size();
    let size = Size { height: of.height / 4 * 4, width: of.width / 4 * 4 };
    let cut = |plane: &[f32]| -> Vec<f32> {
        plane.chunks_exact(of.width.max(1)).take(size.height).flat_map(|row| &row[..size.width]).copied().collect()
    };
    let cut_planes = |frame: &Frame| planes(frame).chunks_exact(of.pixels().max(1)).flat_map(cut).collect::<Vec<f32>>();
    let flows: Vec<f32> = [forward, backward].iter().flat_map(|flow| [cut(flow.u()), cut(flow.v())].concat()).collect();
    let flows = Values { shape: [2, 2, size.height, size.width], data: flows };
    let options = UnsupervisedOptions {
        weight_census: 1.0,
        weight_smooth1: 0.0,
        weight_smooth2: 0.0,
        weight_selfsup: 0.0,
        occlusion_estimation: OcclusionEstimation::None,
        ..UnsupervisedOptions::google()
    };
    let [first, second] = [cut_planes(first), cut_planes(second)];
    let scene = Scene::new(&options, size, [&first, &second])?;
    let census = scene.judge(0, &flows, PyramidUnit::Pixels(1.0))?.value;
    Ok(Judgement { census, round_trip: round_trip(forward, backward) })
}

fn round_trip(forward: &FlowField, backward: &FlowField) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for y in 0..forward.height() {
        for x in 0..forward.width() {
            let Some((u, v)) = forward.known(x, y) else { continue };
            let Some((back_u, back_v)) = sample(backward, x as f32 + u, y as f32 + v) else { continue };
            sum += f64::from((u + back_u).hypot(v + back_v));
            count += 1;
        }
    }
    if count == 0 { f64::NAN } else { sum / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_true_flow_is_judged_better_than_another() {
        // Smooth noise that moves by (3, 1).
        let size = Size::new(38, 45);
        let level = |x: f32, y: f32| {
            let wave = (x * 0.7).sin() + (y * 0.9 + x * 0.3).cos() + (x * 0.21 - y * 0.4).sin();
            [(128.0 + 40.0 * wave) as u8; 3]
        };
        let first = Frame::from_fn(size, |x, y| level(x as f32, y as f32));
        let second = Frame::from_fn(size, |x, y| level(x as f32 - 3.0, y as f32 - 1.0));
        let flow = |u: f32, v: f32| FlowField::from_fn(size, |_, _| (u, v));
        let at = |there: (f32, f32), back: (f32, f32)| {
            judge(&first, &second, &flow(there.0, there.1), &flow(back.0, back.1)).unwrap()
        };
        let (right, wrong) = (at((3.0, 1.0), (-3.0, -1.0)), at((2.0, 1.0), (-3.0, -1.0)));
        assert!(right.census < 0.7 * wrong.census, "{right:?} {wrong:?}");
        assert!(right.round_trip < 1e-5 && (wrong.round_trip - 1.0).abs() < 1e-5, "{right:?} {wrong:?}");
        assert!(at((0.0, 0.0), (0.0, 0.0)).census > right.census);
    }
}
