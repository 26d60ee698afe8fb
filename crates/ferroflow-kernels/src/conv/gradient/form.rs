//! A layer's weight gradient as the algorithms see it, and what each of them offers.

use crate::{
    Blocks, Extent, LaneMap, Scratch, Update,
    conv::layer::{ConvKind, ConvShape},
    lane_map,
};

/// A weight gradient as a correlation, `dW[o][i][ky][kx] = sum over y, x of points[o][y][x] * image[i][y s + ky d - top][x s + kx d - left]`:
/// of a convolution, the image is its input and the points are its outputs; of a transposed one, the reverse.
#[derive(Clone, Debug)]
pub(in crate::conv) struct Correlation {
    /// Always [`ConvKind::Forward`], from image to points.
    pub shape: ConvShape,
    pub image: Extent,
    pub points: Extent,
    pub image_lanes: LaneMap,
    pub point_lanes: LaneMap,
}

impl Correlation {
    pub fn new(shape: ConvShape, input: Extent, lanes: &[Option<u32>]) -> Self {
        let (output, out_lanes) = (shape.output(input), lane_map(&[shape.out_channels]));
        match shape.kind {
            ConvKind::Forward => {
                Self { shape, image: input, points: output, image_lanes: lanes.to_vec(), point_lanes: out_lanes }
            }
            ConvKind::Transposed => Self {
                shape: ConvShape {
                    kind: ConvKind::Forward,
                    in_channels: shape.out_channels,
                    out_channels: shape.in_channels,
                    ..shape
                },
                image: output,
                points: input,
                image_lanes: out_lanes,
                point_lanes: lanes.to_vec(),
            },
        }
    }
}

/// An algorithm for weight gradients.
pub(in crate::conv) trait WeightGradient: Send + Sync {
    /// Adds the gradient to `d_weight`, in PyTorch's order.
    fn run(&self, image: Blocks<'_>, points: Blocks<'_>, d_weight: &mut [f32], scratch: &Scratch);
    /// The algorithm in two parts, where it sums something else than the weights' gradient itself.
    fn in_two_parts(&self) -> Option<&dyn TransformedGradient> {
        None
    }
    /// Its name, e.g. `winograd F(4x4)`.
    fn name(&self) -> String;
}

/// A weight gradient that is summed in a transformed domain: sums of several inputs may be transformed back as one.
pub(in crate::conv) trait TransformedGradient {
    /// Floats of the transformed gradient.
    fn len(&self) -> usize;
    /// Adds to the transformed gradient, or begins it.
    fn sum(&self, image: Blocks<'_>, points: Blocks<'_>, sum: &mut [f32], update: Update, scratch: &Scratch);
    /// Adds the gradient that a sum stands for to `d_weight`, in PyTorch's order.
    fn finish(&self, sum: &[f32], d_weight: &mut [f32]);
}

/// One way to compute a weight gradient.
pub(in crate::conv) struct GradientCandidate {
    /// Expected seconds on [`crate::machine::select::PLANNED_THREADS`].
    pub seconds: f64,
    pub exact: bool,
    pub gradient: Box<dyn WeightGradient>,
}
