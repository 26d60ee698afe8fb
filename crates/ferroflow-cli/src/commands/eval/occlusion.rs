//! How `eval` tells occluded pixels.

use ferroflow::core::{FlowField, consistency::Sundaram};
use ferroflow::infer::evaluate::SoftOcclusion;
use ferroflow::train::unsupervised::{OcclusionEstimation, UnsupervisedOptions};

/// A way to tell occluded pixels from the flows there and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OcclusionArg {
    /// Nothing of the other frame arrives there (Wang et al., CVPR 2018), to a degree: UFlow's default
    Wang,
    /// The same, arrivals counted in blocks of 4x4
    Wang4,
    /// Less than 0.75 pixels of the other frame arrive there
    Wangthres,
    /// The same, arrivals counted in blocks of 4x4
    Wang4thres,
    /// The flow back does not undo the flow there (Sundaram, Brox and Keutzer, ECCV 2010), yes or no
    Brox,
    /// The same, to a degree
    Consistency,
    /// Flow there and back ends more than 1.5 px away
    FbAbs,
    /// UFlow's weighted sum of three scores
    Uflow,
}

impl SoftOcclusion for OcclusionArg {
    fn map(&self, forward: &FlowField, backward: &FlowField) -> Vec<f32> {
        let occlusion_estimation = match self {
            Self::Wang => OcclusionEstimation::Wang,
            Self::Wang4 => OcclusionEstimation::Wang4,
            Self::Wangthres => OcclusionEstimation::Wangthres,
            Self::Wang4thres => OcclusionEstimation::Wang4thres,
            Self::Brox => OcclusionEstimation::Brox,
            Self::FbAbs => OcclusionEstimation::FbAbs,
            Self::Uflow => OcclusionEstimation::Uflow,
            Self::Consistency => return inconsistency(forward, backward),
        };
        let options = UnsupervisedOptions { occlusion_estimation, ..UnsupervisedOptions::default() };
        options.occlusion_map(forward, backward)
    }
}

/// 0 where the way back is exact, 1 where there is none.
fn inconsistency(forward: &FlowField, backward: &FlowField) -> Vec<f32> {
    match Sundaram::default().check(forward, backward) {
        Ok(checked) => checked.confidence.iter().map(|confidence| 1.0 - confidence).collect(),
        // Flows of two sizes are no pair: everything is unseen.
        Err(_) => vec![1.0; forward.u().len()],
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use ferroflow::core::Size;

    use super::*;

    /// A square of 12x12 at (10, 10) moves right by 6 px over a still ground: what it covers is occluded.
    const SIZE: Size = Size::new(40, 40);

    fn square(x: usize, y: usize, left: usize) -> bool {
        (left..left + 12).contains(&x) && (10..22).contains(&y)
    }

    #[test]
    fn every_method_finds_what_a_square_covers() {
        let flow =
            |left, u: f32| FlowField::from_fn(SIZE, move |x, y| if square(x, y, left) { (u, 0.0) } else { (0.0, 0.0) });
        let (forward, backward) = (flow(10, 6.0), flow(16, -6.0));
        let hidden = |x, y| square(x, y, 16) && !square(x, y, 10);
        for method in OcclusionArg::value_variants() {
            let map = method.map(&forward, &backward);
            let mean = |wanted: bool| {
                let seen: Vec<f32> = (0..SIZE.pixels())
                    .filter(|i| hidden(i % SIZE.width, i / SIZE.width) == wanted)
                    .map(|i| map[i])
                    .collect();
                seen.iter().sum::<f32>() / seen.len() as f32
            };
            // Blocks of 4x4 blur what is 6 px wide: wang4 says 0.57.
            assert!(mean(true) > 0.5 && mean(false) < 0.1, "{method:?}: {} and {}", mean(true), mean(false));
        }
    }
}
