//! The errors of one pair, as sums that can be added.

use rayon::prelude::*;

use super::Bands;
use crate::{FlowField, Mask, Size};

/// Why a pair cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// Estimate, truth and masks must have one size.
    #[error("{what} has {found} pixels, the truth {expected}: estimate at the truth's resolution or resize first")]
    Size {
        /// What differs from the truth.
        what: &'static str,
        /// Size of the truth.
        expected: Size,
        /// Size found.
        found: Size,
    },
    /// There is no pixel at which both are known, so there is no mean error.
    #[error("{}", nothing(*.unanswered))]
    NothingScored {
        /// Pixels at which only the truth is known.
        unanswered: u64,
    },
}

fn nothing(unanswered: u64) -> String {
    match unanswered {
        0 => "nothing can be scored: the truth is known nowhere".into(),
        1.. => format!(
            "nothing can be scored: the estimate is unknown, not finite, or 1e9 px or more at all {unanswered} pixels of known \
             truth"
        ),
    }
}

/// The true flow that an estimate is compared with, and the masks that say which of its pixels count.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    flow: &'a FlowField,
    only: Option<&'a Mask>,
    occluded: Option<&'a Mask>,
    bands: Option<&'a Bands>,
    foreground: Option<&'a Mask>,
}

impl<'a> Truth<'a> {
    /// The true flow; pixels at which it is unknown, not finite, or 1e9 px or more are not scored.
    pub fn new(flow: &'a FlowField) -> Self {
        Self { flow, only: None, occluded: None, bands: None, foreground: None }
    }

    /// Scores only pixels where this mask is true.
    pub fn only(self, mask: &'a Mask) -> Self {
        Self { only: Some(mask), ..self }
    }

    /// Separates matched pixels, where this mask is false, from unmatched ones.
    pub fn occluded(self, mask: &'a Mask) -> Self {
        Self { occluded: Some(mask), ..self }
    }

    /// Separates pixels by their distance to the nearest occlusion boundary.
    pub fn bands(self, bands: &'a Bands) -> Self {
        Self { bands: Some(bands), ..self }
    }

    /// Separates the outliers of objects, where this mask is true, from those of the background.
    pub fn foreground(self, mask: &'a Mask) -> Self {
        Self { foreground: Some(mask), ..self }
    }
}

/// A sum of errors and the pixels it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Part {
    pub(super) sum: f64,
    pub(super) pixels: u64,
}

impl Part {
    fn add(&mut self, error: f64) {
        self.sum += error;
        self.pixels += 1;
    }

    fn merge(&mut self, other: Part) {
        self.sum += other.sum;
        self.pixels += other.pixels;
    }

    pub(super) fn mean(self) -> Option<f64> {
        (self.pixels > 0).then(|| self.sum / self.pixels as f64)
    }
}

/// Steps of the WAUC threshold, 1/20 px each.
const WAUC_STEPS: usize = 100;

/// Sums of the errors of scored pixels, of one pair or of several merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// Pixels of the images, scored or not.
    pub pixels: u64,
    /// Pixels whose truth is known but where the estimate is unknown, not finite, or 1e9 px or more; they are not scored.
    pub unanswered: u64,
    pub(super) error: Part,
    pub(super) angle: Part,
    /// How many `e` exceed 1, 3 and 5 px.
    pub(super) beyond: [u64; 3],
    pub(super) outliers: u64,
    /// `e` up to `(i + 1) / 20` px and above `i / 20`.
    histogram: [u64; WAUC_STEPS],
    /// By speed: below 10, 10 to 40, above 40 px.
    pub(super) speed: [Part; 3],
    pub(super) matched: Part,
    pub(super) unmatched: Part,
    /// By the distance to the nearest occlusion boundary.
    pub(super) bands: [Part; 3],
    /// Outliers, of the background and of objects; the sum counts them.
    pub(super) outliers_of: [Part; 2],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            pixels: 0,
            unanswered: 0,
            error: Part::default(),
            angle: Part::default(),
            beyond: [0; 3],
            outliers: 0,
            histogram: [0; WAUC_STEPS],
            speed: [Part::default(); 3],
            matched: Part::default(),
            unmatched: Part::default(),
            bands: [Part::default(); 3],
            outliers_of: [Part::default(); 2],
        }
    }
}

impl Tally {
    /// Scores one estimate. Rows run in parallel and are added in order, so the sums are the same every time.
    pub fn of(estimate: &FlowField, truth: &Truth) -> Result<Self, MetricError> {
        let expected = truth.flow.size();
        let check = |what, found| {
            if found == expected { Ok(()) } else { Err(MetricError::Size { what, expected, found }) }
        };
        check("the estimate", estimate.size())?;
        for (what, size) in [
            ("the mask of scored pixels", truth.only.map(Mask::size)),
            ("the occlusion mask", truth.occluded.map(Mask::size)),
            ("the map of distances to occlusion boundaries", truth.bands.map(Bands::size)),
            ("the map of objects", truth.foreground.map(Mask::size)),
        ] {
            size.map_or(Ok(()), |size| check(what, size))?;
        }
        let rows: Vec<Self> = (0..expected.height).into_par_iter().map(|y| row(estimate, truth, y)).collect();
        let mut total = Self::default();
        rows.iter().for_each(|row| total.merge(row));
        Ok(total)
    }

    /// The tally itself, if it has scored pixels.
    ///
    /// # Errors
    /// [`MetricError::NothingScored`] if it has none.
    pub fn scorable(self) -> Result<Self, MetricError> {
        match self.scored() {
            0 => Err(MetricError::NothingScored { unanswered: self.unanswered }),
            1.. => Ok(self),
        }
    }

    /// Adds another's pixels to these.
    pub fn merge(&mut self, other: &Self) {
        self.pixels += other.pixels;
        self.unanswered += other.unanswered;
        self.error.merge(other.error);
        self.angle.merge(other.angle);
        self.outliers += other.outliers;
        self.beyond.iter_mut().zip(other.beyond).for_each(|(a, b)| *a += b);
        self.histogram.iter_mut().zip(other.histogram).for_each(|(a, b)| *a += b);
        self.speed.iter_mut().zip(other.speed).for_each(|(a, b)| a.merge(b));
        self.matched.merge(other.matched);
        self.unmatched.merge(other.unmatched);
        self.bands.iter_mut().zip(other.bands).for_each(|(a, b)| a.merge(b));
        self.outliers_of.iter_mut().zip(other.outliers_of).for_each(|(a, b)| a.merge(b));
    }

    /// Number of scored pixels.
    pub fn scored(&self) -> u64 {
        self.error.pixels
    }

    fn add(&mut self, (u, v): (f64, f64), (true_u, true_v): (f64, f64), place: Place) {
        let error = (u - true_u).hypot(v - true_v);
        let speed = true_u.hypot(true_v);
        self.error.add(error);
        let cosine = (1.0 + u * true_u + v * true_v)
            / ((1.0 + u * u + v * v).sqrt() * (1.0 + true_u * true_u + true_v * true_v).sqrt());
        self.angle.add(cosine.clamp(-1.0, 1.0).acos().to_degrees());
        for (count, limit) in self.beyond.iter_mut().zip([1.0, 3.0, 5.0]) {
            *count += u64::from(error > limit);
        }
        let outlier = error > 3.0 && error > 0.05 * speed;
        self.outliers += u64::from(outlier);
        if let Some(foreground) = place.foreground {
            self.outliers_of[usize::from(foreground)].add(f64::from(u8::from(outlier)));
        }
        if let Some(step) = wauc_step(error) {
            self.histogram[step] += 1;
        }
        self.speed[if speed < 10.0 {
            0
        } else if speed <= 40.0 {
            1
        } else {
            2
        }]
        .add(error);
        if let Some(band) = place.band {
            self.bands[band].add(error);
        }
        match place.occluded {
            Some(false) => self.matched.add(error),
            Some(true) => self.unmatched.add(error),
            None => {}
        }
    }

    pub(super) fn wauc(&self) -> Option<f64> {
        // The weights as hundredths, whole numbers, so that no error at all is exactly 100.
        let (mut within, mut sum, mut weights) = (0, 0, 0);
        for (i, &count) in self.histogram.iter().enumerate() {
            let weight = (WAUC_STEPS - i) as u64;
            within += count;
            sum += weight * within;
            weights += weight;
        }
        (self.scored() > 0).then(|| 100.0 * sum as f64 / (weights * self.scored()) as f64)
    }
}

/// The first `i` with `error <= (i + 1) / 20`, decided by that comparison and not by a rounded product.
fn wauc_step(error: f64) -> Option<usize> {
    let guess = ((error * 20.0) as usize).min(WAUC_STEPS);
    (guess.saturating_sub(1)..guess + 2).find(|&i| error <= (i + 1) as f64 / 20.0).filter(|&i| i < WAUC_STEPS)
}

/// What the masks say of a pixel.
#[derive(Clone, Copy)]
struct Place {
    occluded: Option<bool>,
    band: Option<usize>,
    foreground: Option<bool>,
}

/// The sums of one row.
fn row(estimate: &FlowField, truth: &Truth, y: usize) -> Tally {
    let mut tally = Tally { pixels: truth.flow.width() as u64, ..Tally::default() };
    for x in 0..truth.flow.width() {
        let known = truth.flow.motion(x, y).filter(|_| truth.only.is_none_or(|m| m.get(x, y)));
        let Some((true_u, true_v)) = known else { continue };
        match estimate.motion(x, y) {
            Some((u, v)) => {
                let place = Place {
                    occluded: truth.occluded.map(|m| m.get(x, y)),
                    band: truth.bands.and_then(|bands| bands.get(x, y)),
                    foreground: truth.foreground.map(|m| m.get(x, y)),
                };
                tally.add((u.into(), v.into()), (true_u.into(), true_v.into()), place);
            }
            None => tally.unanswered += 1,
        }
    }
    tally
}

/// `|a - b|` at every pixel, `[height, width]`, px; NaN where either is unknown, not finite, or 1e9 px or more.
pub fn endpoint_error(a: &FlowField, b: &FlowField) -> Result<Vec<f32>, MetricError> {
    let (expected, found) = (b.size(), a.size());
    if expected != found {
        return Err(MetricError::Size { what: "the estimate", expected, found });
    }
    let error = |x, y| match (a.motion(x, y), b.motion(x, y)) {
        (Some((u, v)), Some((p, q))) => (u - p).hypot(v - q),
        _ => f32::NAN,
    };
    Ok((0..b.height()).flat_map(|y| (0..b.width()).map(move |x| (x, y))).map(|(x, y)| error(x, y)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(values: &[(f32, f32)]) -> FlowField {
        FlowField::from_fn(Size::new(1, values.len()), |x, _| values[x])
    }

    /// Three pixels by hand: e = 5, 3, 2 against m = 100, 0, 50.
    #[test]
    fn three_pixels_by_hand() {
        let truth = flow(&[(100.0, 0.0), (0.0, 0.0), (30.0, 40.0)]);
        let estimate = flow(&[(103.0, 4.0), (0.0, 3.0), (30.0, 42.0)]);
        let tally = Tally::of(&estimate, &Truth::new(&truth)).unwrap();
        assert_eq!(tally.error.sum, 10.0);
        // 5 is not above 5, 3 not above 3.
        assert_eq!(tally.beyond, [3, 1, 0]);
        // 5 px of 100 is exactly 5 %, which is no outlier; 3 px is not above 3.
        assert_eq!(tally.outliers, 0);
        assert_eq!(tally.speed.map(|p| (p.sum, p.pixels)), [(3.0, 1), (0.0, 0), (7.0, 2)]);
        // e = 2 counts from threshold 40/20 on: weights 0.61 down to 0.01; e = 3 from 60/20: 0.41 down; e = 5 only at 100/20.
        let sum = |n: u32| f64::from(n * (n + 1)) / 200.0;
        let expected = 100.0 * (sum(61) + sum(41) + sum(1)) / 3.0 / sum(100);
        assert!((tally.wauc().unwrap() - expected).abs() < 1e-9);
    }

    #[test]
    fn without_motion_three_pixels_decide_alone() {
        let truth = flow(&[(0.0, 0.0), (0.0, 0.0), (80.0, 0.0)]);
        let estimate = flow(&[(3.001, 0.0), (3.0, 0.0), (84.001, 0.0)]);
        assert_eq!(Tally::of(&estimate, &Truth::new(&truth)).unwrap().outliers, 2);
    }

    #[test]
    fn no_error_is_full_area_and_no_angle() {
        let truth = flow(&[(1.0, -2.0), (0.1, 1e6), (0.0, 0.0)]);
        let tally = Tally::of(&truth, &Truth::new(&truth)).unwrap();
        assert_eq!((tally.wauc(), tally.error.sum), (Some(100.0), 0.0));
        assert!(tally.angle.sum < 1e-5);
        let right_angle = Tally::of(&flow(&[(0.0, 9e8)]), &Truth::new(&flow(&[(9e8, 0.0)]))).unwrap();
        assert!((right_angle.angle.sum - 90.0).abs() < 1e-6);
    }

    #[test]
    fn wauc_steps_include_their_threshold() {
        for i in 0..WAUC_STEPS {
            let threshold = (i + 1) as f64 / 20.0;
            assert_eq!(wauc_step(threshold), Some(i));
            assert_eq!(wauc_step(threshold.next_up()), (i + 1 < WAUC_STEPS).then_some(i + 1));
        }
        assert_eq!((wauc_step(0.0), wauc_step(1e300), wauc_step(f64::MAX)), (Some(0), None, None));
    }

    #[test]
    fn masks_decide_what_is_scored() {
        let truth = FlowField::sparse_from_fn(Size::new(1, 4), |x, _| (x != 0).then_some((0.0, 0.0)));
        let estimate = FlowField::sparse_from_fn(Size::new(1, 4), |x, _| (x != 1).then_some((x as f32, 0.0)));
        let occluded = Mask::from_fn(Size::new(1, 4), |x, _| x == 3);
        let tally = Tally::of(&estimate, &Truth::new(&truth).occluded(&occluded)).unwrap();
        assert_eq!((tally.pixels, tally.scored(), tally.unanswered), (4, 2, 1));
        assert_eq!((tally.matched.sum, tally.unmatched.sum), (2.0, 3.0));
        let last = Mask::from_fn(Size::new(1, 4), |x, _| x == 3);
        assert_eq!(Tally::of(&estimate, &Truth::new(&truth).only(&last)).unwrap().error.sum, 3.0);
    }

    /// Errors of 0, 1, 2, ... px; the last pixels are an object, and of them one is no outlier.
    #[test]
    fn objects_and_bands_have_figures_of_their_own() {
        let truth = FlowField::zeros(Size::new(1, 200));
        let estimate = FlowField::from_fn(Size::new(1, 200), |x, _| (x as f32, 0.0));
        let foreground = Mask::from_fn(Size::new(1, 200), |x, _| x == 3 || x >= 196);
        let occluded = Mask::from_fn(Size::new(1, 200), |x, _| x == 0);
        let bands = Bands::around(&occluded);
        let tally = Tally::of(&estimate, &Truth::new(&truth).bands(&bands).foreground(&foreground)).unwrap();
        // Boundaries are pixels 0 and 1: pixel 10 is the last within 10 px, 140 px end with pixel 141.
        assert_eq!(tally.bands.map(|part| part.pixels), [11, 50, 81]);
        assert_eq!(tally.bands[0].sum, 55.0);
        let metrics = crate::metrics::Metrics::of(&tally);
        assert_eq!((metrics.fl_fg, metrics.fl_bg), (Some(80.0), Some(100.0 * 192.0 / 195.0)));
        assert_eq!((metrics.d0_10, metrics.matched), (Some(5.0), None));
        let small = Mask::filled(Size::new(1, 3), true);
        assert!(Tally::of(&estimate, &Truth::new(&truth).foreground(&small)).is_err());
    }

    #[test]
    fn what_says_nothing_is_unanswered_in_the_estimate_and_unknown_in_the_truth() {
        let clean = flow(&[(0.0, 0.0); 6]);
        let one = [(3.0, 4.0), (f32::NAN, 0.0), (0.0, f32::INFINITY), (-1e9, 0.0), (0.0, 1e10), (-f32::INFINITY, 1.0)];
        let one = flow(&one);
        let tally = Tally::of(&one, &Truth::new(&clean)).unwrap().scorable().unwrap();
        assert_eq!((tally.scored(), tally.unanswered, tally.error.sum), (1, 5, 5.0));
        let tally = Tally::of(&clean, &Truth::new(&one)).unwrap();
        assert_eq!((tally.scored(), tally.unanswered), (1, 0));
        let errors = endpoint_error(&one, &clean).unwrap();
        assert!(errors[0] == 5.0 && errors[1..].iter().all(|e| e.is_nan()));
        let none = flow(&[(f32::NAN, 0.0); 6]);
        let refused = Tally::of(&none, &Truth::new(&clean)).unwrap().scorable();
        assert_eq!(refused, Err(MetricError::NothingScored { unanswered: 6 }));
        let unknown = Tally::of(&clean, &Truth::new(&none)).unwrap().scorable();
        assert_eq!(unknown, Err(MetricError::NothingScored { unanswered: 0 }));
    }

    #[test]
    fn sizes_must_be_equal() {
        let clean = flow(&[(0.0, 0.0); 3]);
        let small = flow(&[(0.0, 0.0)]);
        assert!(matches!(Tally::of(&small, &Truth::new(&clean)), Err(MetricError::Size { .. })));
        let mask = Mask::filled(Size::new(3, 1), true);
        assert!(matches!(Tally::of(&clean, &Truth::new(&clean).only(&mask)), Err(MetricError::Size { .. })));
    }
}
