//! The error map of KITTI 2015: the error in units of the threshold at which a pixel is an outlier, in ten colours from
//! blue (right) to red (wrong), each twice the error of the one before.

use crate::{FlowField, Frame, Mask, metrics::MetricError};

/// Upper limits of the colours, in units of the outlier threshold, and the colours; the last has no limit.
pub(super) const COLOURS: [(f64, [u8; 3]); 10] = [
    (0.1875 / 3.0, [49, 54, 149]),
    (0.375 / 3.0, [69, 117, 180]),
    (0.75 / 3.0, [116, 173, 209]),
    (1.5 / 3.0, [171, 217, 233]),
    (1.0, [224, 243, 248]),
    (6.0 / 3.0, [254, 224, 144]),
    (12.0 / 3.0, [253, 174, 97]),
    (24.0 / 3.0, [244, 109, 67]),
    (48.0 / 3.0, [215, 48, 39]),
    (f64::INFINITY, [165, 0, 38]),
];

/// When a pixel counts as an outlier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorScale {
    /// Pixels of error.
    pub pixels: f64,
    /// Share of the true length; both must be exceeded.
    pub share: f64,
}

impl Default for ErrorScale {
    /// KITTI 2015: 3 px and 5 %.
    fn default() -> Self {
        Self { pixels: 3.0, share: 0.05 }
    }
}

impl ErrorScale {
    fn colour(self, error: f64, length: f64) -> [u8; 3] {
        // The smaller of the two, and 0/0 is no error.
        let relative = if error == 0.0 { 0.0 } else { (error / self.pixels).min(error / length / self.share) };
        COLOURS.iter().find(|(limit, _)| relative < *limit).unwrap_or(&COLOURS[9]).1
    }
}

/// The errors of `estimate` in KITTI's colours; black where the truth or the estimate is unknown, not finite, or 1e9 px or more. Where
/// `occluded` is true the colour has half its brightness.
pub fn error_map(
    estimate: &FlowField,
    truth: &FlowField,
    occluded: Option<&Mask>,
    scale: ErrorScale,
) -> Result<Frame, MetricError> {
    let expected = truth.size();
    for (what, found) in
        [("the estimate", estimate.size()), ("the occlusion mask", occluded.map_or(expected, Mask::size))]
    {
        if found != expected {
            return Err(MetricError::Size { what, expected, found });
        }
    }
    Ok(Frame::par_from_fn(expected, |x, y| {
        let (Some((u, v)), Some((p, q))) = (estimate.motion(x, y), truth.motion(x, y)) else { return [0; 3] };
        let error = f64::from(u - p).hypot(f64::from(v - q));
        let colour = scale.colour(error, f64::from(p).hypot(q.into()));
        if occluded.is_some_and(|m| m.get(x, y)) { colour.map(|c| c / 2) } else { colour }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn the_colours_change_at_the_thresholds() {
        let errors = [0.0, 0.1874, 0.1875, 2.99, 3.0, 47.9, 48.0, 1e6];
        let estimate = FlowField::from_fn(Size::new(1, 8), |x, _| (errors[x], 0.0));
        let map = error_map(&estimate, &FlowField::zeros(Size::new(1, 8)), None, ErrorScale::default()).unwrap();
        let colours: Vec<[u8; 3]> = (0..8).map(|x| map.pixel(x, 0)).collect();
        let expected = [0, 0, 1, 4, 5, 8, 9, 9].map(|i| COLOURS[i].1);
        assert_eq!(colours, expected);
    }

    #[test]
    fn fast_pixels_may_err_by_five_percent_and_occluded_ones_are_dark() {
        let truth = FlowField::sparse_from_fn(Size::new(1, 3), |x, _| (x < 2).then_some((200.0, 0.0)));
        let estimate = FlowField::from_fn(Size::new(1, 3), |_, _| (205.0, 0.0));
        let occluded = Mask::new(Size::new(1, 3), vec![false, true, false]).unwrap();
        let map = error_map(&estimate, &truth, Some(&occluded), ErrorScale::default()).unwrap();
        // 5 px of 200 is half of 5 %: the first colour from 0.5 up.
        assert_eq!(map.rgb(), [224, 243, 248, 112, 121, 124, 0, 0, 0]);
        assert!(error_map(&estimate, &FlowField::zeros(Size::new(1, 1)), None, ErrorScale::default()).is_err());
    }
}
