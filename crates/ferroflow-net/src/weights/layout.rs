//! The order in which a reference's checkpoint stores a parameter, and the way between it and PyTorch's, which is ours.

use crate::model::CheckpointLayout;

impl CheckpointLayout {
    /// The shape in the reference's file of a parameter whose shape here is `shape`.
    pub(crate) fn stored_shape(self, shape: &[usize]) -> Vec<usize> {
        match (self, shape) {
            // [kh, kw, in, out] of [out, in, kh, kw], and [kh, kw, out, in] of [in, out, kh, kw]: either way both pairs
            // change places and the channels are reversed.
            (Self::Hwio, &[a, b, h, w]) => vec![h, w, b, a],
            _ => shape.to_vec(),
        }
    }

    /// Values in the reference's order -> PyTorch's order. `shape` is PyTorch's.
    pub(super) fn read_stored(self, shape: &[usize], stored: Vec<f32>) -> Vec<f32> {
        let (Self::Hwio, &[a, b, h, w]) = (self, shape) else { return stored };
        let mut values = Vec::with_capacity(stored.len());
        for i in 0..a {
            for j in 0..b {
                values.extend((0..h * w).map(|tap| stored[(tap * b + j) * a + i]));
            }
        }
        values
    }

    /// Values in PyTorch's order -> the reference's order. `shape` is PyTorch's.
    pub(crate) fn to_stored(self, shape: &[usize], values: &[f32]) -> Vec<f32> {
        let (Self::Hwio, &[a, b, h, w]) = (self, shape) else { return values.to_vec() };
        let mut stored = Vec::with_capacity(values.len());
        for tap in 0..h * w {
            for j in 0..b {
                stored.extend((0..a).map(|i| values[(i * b + j) * h * w + tap]));
            }
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensorflow_order() {
        // [kh, kw, in, out] = [1, 2, 3, 2]
        let stored: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let (layout, shape) = (CheckpointLayout::Hwio, [2, 3, 1, 2]);
        assert_eq!(layout.stored_shape(&shape), [1, 2, 3, 2]);
        let values = layout.read_stored(&shape, stored.clone());
        assert_eq!(values, [0., 6., 2., 8., 4., 10., 1., 7., 3., 9., 5., 11.]);
        assert_eq!(layout.to_stored(&shape, &values), stored);
    }
}
