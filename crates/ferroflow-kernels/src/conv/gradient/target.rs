//! A weight gradient in PyTorch's order, added to from vectors of 16 output channels.

use crate::{LANES, conv::layer::ConvShape, disjoint::Disjoint, simd::Simd};

/// `d_weight`, written by several threads at different places.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    weights: Disjoint<'a>,
    /// Floats of an output channel.
    output: usize,
    /// Floats of an input channel.
    taps: usize,
}

impl<'a> Target<'a> {
    /// The gradient of a (forward) layer's weights.
    pub fn new(d_weight: &'a mut [f32], shape: &ConvShape) -> Self {
        let taps = shape.taps();
        let output = shape.in_channels * taps;
        assert!(d_weight.len() >= shape.out_channels * output, "weight gradient");
        Self { weights: Disjoint::new(d_weight), output, taps }
    }

    /// Adds the first `count` of `vectors`, the gradients of taps from `first` on of one input channel, a vector of the
    /// channels `outputs` each.
    ///
    /// # Safety
    /// `first + count` is at most the number of taps; channels are the layer's; the contract of [`Disjoint`].
    #[inline(always)]
    pub unsafe fn add<S: Simd>(
        self,
        outputs: &[Option<u32>],
        input: usize,
        first: usize,
        count: usize,
        vectors: &mut [S::V; LANES],
    ) {
        // SAFETY: the caller's; every place is inside the gradient.
        unsafe {
            S::transpose(vectors);
            for (output, &vector) in outputs.iter().zip(vectors.iter()) {
                let Some(output) = *output else { continue };
                let to = self.weights.at(output as usize * self.output + input * self.taps + first);
                let mut values = [0.0f32; LANES];
                S::write(&mut values, vector);
                // Whole vectors, and 3x3 taps, without a loop.
                match count {
                    16 => add::<16>(to, &values),
                    9 => add::<9>(to, &values),
                    _ => (0..count).for_each(|t| *to.add(t) += values[t]),
                }
            }
        }
    }
}

/// # Safety
/// `to` is valid for `N` floats.
#[inline(always)]
unsafe fn add<const N: usize>(to: *mut f32, values: &[f32; LANES]) {
    for t in 0..N {
        // SAFETY: the caller's.
        unsafe { *to.add(t) += values[t] };
    }
}
