//! Occlusion and confidence, from the flows in both directions.
//!
//! A pixel `x` that is visible in both frames returns to its place: `forward(x) + backward(x + forward(x)) = 0`. Where it
//! does not, its target is hidden or the flow is wrong.

use rayon::prelude::*;

use crate::{
    FlowField, Mask, Size, SizeError, check_len,
    sampling::{between, splat},
};

/// The forward-backward check of Sundaram, Brox and Keutzer (ECCV 2010), equation 5: `x` is inconsistent if
/// `|w + w'|^2 > alpha1 (|w|^2 + |w'|^2) + alpha2`, with `w = forward(x)` and `w' = backward(x + w)`, bilinear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sundaram {
    /// Tolerance as a share of the squared lengths of the two vectors.
    pub alpha1: f32,
    /// Tolerance where nothing moves, px squared.
    pub alpha2: f32,
}

impl Default for Sundaram {
    /// The values of the paper.
    fn default() -> Self {
        Self { alpha1: 0.01, alpha2: 0.5 }
    }
}

/// The result of the forward-backward check for the pixels of frame 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Consistency {
    /// True where the check fails, the target lies outside frame 2, or either flow is unknown.
    pub occluded: Mask,
    /// `|w + w'|` in px, `[height, width]`; infinite where there is no way back (target outside, flow unknown).
    pub error: Vec<f32>,
    /// `exp(-|w + w'|^2 / (alpha1 (|w|^2 + |w'|^2) + alpha2))`, `[height, width]`: 1 where the way back is exact, `1/e` at
    /// the threshold, 0 where there is no way back.
    pub confidence: Vec<f32>,
}

impl Sundaram {
    /// Checks `forward` (frame 1 to 2) against `backward` (frame 2 to 1).
    pub fn check(&self, forward: &FlowField, backward: &FlowField) -> Result<Consistency, SizeError> {
        same_size(forward, backward)?;
        let width = forward.width();
        let pixels: Vec<(f32, f32)> = (0..forward.u().len())
            .into_par_iter()
            .map(|i| {
                let (x, y) = (i % width, i / width);
                let way = forward.known(x, y).and_then(|(u, v)| {
                    let back = sample(backward, x as f32 + u, y as f32 + v)?;
                    Some(((u, v), back))
                });
                let Some(((u, v), (p, q))) = way else { return (f32::INFINITY, f32::INFINITY) };
                let squared = (u + p).powi(2) + (v + q).powi(2);
                let tolerance = self.alpha1 * (u * u + v * v + p * p + q * q) + self.alpha2;
                (squared.sqrt(), squared / tolerance)
            })
            .collect();
        Ok(Consistency {
            occluded: Mask::from_fn(forward.size(), |x, y| {
                let relative = pixels[y * width + x].1;
                relative > 1.0 || relative.is_nan()
            }),
            error: pixels.iter().map(|p| p.0).collect(),
            confidence: pixels.iter().map(|p| if p.1.is_nan() { 0.0 } else { (-p.1).exp() }).collect(),
        })
    }
}

/// The flow at a place between pixels, bilinear; `None` outside the pixel centres or beside an unknown pixel.
pub fn sample(flow: &FlowField, x: f32, y: f32) -> Option<(f32, f32)> {
    let mut sum = (0.0, 0.0);
    for (at, weight) in between(x, y, Size { height: flow.height(), width: flow.width() })? {
        let (u, v) = flow.known(at % flow.width(), at / flow.width())?;
        sum = (sum.0 + weight * u, sum.1 + weight * v);
    }
    Some(sum)
}

/// How much arrives at each pixel, `[height, width]`, when every pixel sends a weight of 1 along the flow, shared bilinearly
/// by the four pixels around its target (Wang et al., CVPR 2018). Zero flow gives 1 everywhere; weights that leave the image
/// are lost; unknown pixels send nothing.
pub fn range_map(flow: &FlowField) -> Vec<f32> {
    let size = Size { height: flow.height(), width: flow.width() };
    let mut planes = [flow.u(), flow.v()].concat();
    for (i, u) in planes.iter_mut().take(size.height * size.width).enumerate() {
        if !flow.is_valid(i % size.width, i / size.width) {
            *u = f32::NAN;
        }
    }
    let mut range = vec![0.0; size.height * size.width];
    splat(&planes, size, 1, &mut range);
    range
}

/// Soft occlusion of frame 1 from the flow from frame 2 to frame 1, `[height, width]`: `1 - min(range_map(backward), 1)`,
/// which is 1 where nothing of frame 2 arrives (UFlow's `wang`).
pub fn range_occlusion(backward: &FlowField) -> Vec<f32> {
    range_map(backward).into_iter().map(|r| 1.0 - r.min(1.0)).collect()
}

fn same_size(a: &FlowField, b: &FlowField) -> Result<(), SizeError> {
    check_len("backward flow width", a.width(), b.width())?;
    check_len("backward flow height", a.height(), b.height())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    /// A square of 10x10 px at (8, 9) moves by (6, 2) over a background that moves by (-1, 0).
    const SIZE: Size = Size::new(32, 40);
    const SQUARE: (f32, f32) = (6.0, 2.0);
    const GROUND: (f32, f32) = (-1.0, 0.0);

    fn in_square(x: f32, y: f32, moved: f32) -> bool {
        let (left, top) = (8.0 + moved * SQUARE.0, 9.0 + moved * SQUARE.1);
        (left..left + 10.0).contains(&x) && (top..top + 10.0).contains(&y)
    }

    fn forward() -> FlowField {
        FlowField::from_fn(SIZE, |x, y| if in_square(x as f32, y as f32, 0.0) { SQUARE } else { GROUND })
    }

    fn backward() -> FlowField {
        let back = |(u, v): (f32, f32)| (-u, -v);
        FlowField::from_fn(SIZE, |x, y| back(if in_square(x as f32, y as f32, 1.0) { SQUARE } else { GROUND }))
    }

    /// Background of frame 1 whose target the square covers in frame 2, or that leaves the image.
    fn truly_occluded(x: usize, y: usize) -> bool {
        let (x, y) = (x as f32, y as f32);
        let hidden = in_square(x + GROUND.0, y + GROUND.1, 1.0) || x + GROUND.0 < 0.0;
        !in_square(x, y, 0.0) && hidden
    }

    #[test]
    fn two_layers_occlude_exactly_what_they_cover() {
        let found = Sundaram::default().check(&forward(), &backward()).unwrap();
        assert_eq!(found.occluded, Mask::from_fn(SIZE, truly_occluded));
        // 100 pixels of background arrive under the square, 3 x 8 of these belong to the square itself; 32 leave on the left.
        assert_eq!(found.occluded.count(), 100 - 3 * 8 + 32);
        for (i, &occluded) in found.occluded.data().iter().enumerate() {
            let (error, confidence) = (found.error[i], found.confidence[i]);
            assert!(if occluded { error > 7.0 && confidence < 1e-6 } else { error == 0.0 && confidence == 1.0 });
        }
    }

    #[test]
    fn the_range_map_finds_the_same_layer() {
        let soft = range_occlusion(&backward());
        for y in 0..SIZE.height {
            for x in 0..SIZE.width {
                let expected = if truly_occluded(x, y) { 1.0 } else { 0.0 };
                assert_eq!(soft[y * SIZE.width + x], expected, "({x}, {y})");
            }
        }
    }

    #[test]
    fn the_range_map_of_no_motion_is_one_and_shares_bilinearly() {
        assert!(range_map(&FlowField::zeros(Size::new(3, 5))).iter().all(|&r| r == 1.0));
        let quarter = FlowField::sparse_from_fn(Size::new(2, 2), |x, y| (x + y == 0).then_some((0.25, 0.5)));
        assert_eq!(range_map(&quarter), [0.375, 0.125, 0.375, 0.125]);
        let lost = FlowField::from_fn(Size::new(1, 1), |_, _| (f32::NAN, 1e30));
        assert_eq!(range_map(&lost), [0.0]);
    }

    #[test]
    fn the_threshold_is_that_of_the_paper() {
        // At rest 0.5 px^2 is still consistent; beyond is not.
        let still = FlowField::zeros(Size::new(1, 1));
        let off = |error: f32| FlowField::from_fn(Size::new(1, 1), move |_, _| (error, 0.0));
        let check = |error: f32| Sundaram { alpha1: 0.0, alpha2: 0.5 }.check(&still, &off(error)).unwrap();
        assert!(!check(0.707).occluded.get(0, 0) && check(0.708).occluded.get(0, 0));
        assert!((check(0.5f32.sqrt()).confidence[0] - (-1f32).exp()).abs() < 1e-5);
        assert!(check(f32::NAN).occluded.get(0, 0) && check(f32::NAN).confidence[0] == 0.0);
        assert!(Sundaram::default().check(&still, &FlowField::zeros(Size::new(1, 2))).is_err());
    }
}
