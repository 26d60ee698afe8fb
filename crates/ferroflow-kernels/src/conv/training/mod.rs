//! Convolution for training: forward with this step's weights, input gradient, weight gradient.
//!
//! The input gradient is the adjoint layer run forward by the same engines. The weight gradient is a product over
//! pixels, or over Winograd's tiles.
//!
//! Every sum has a fixed order, whatever the number of threads: threads share outputs, never the terms of one sum, and
//! algorithms are chosen without regard to how many there are. So a run can be repeated, and resumed, to the last bit on
//! processors of one instruction set.

#[cfg(test)]
mod tests;

pub use super::gradient::bias_gradient;
use super::{
    engine::{Addend, Candidate, Engine, Epilogue},
    gradient::{self, Correlation, WeightGradient},
    layer::{Activation, ConvKind, ConvShape, Options},
    problem::{Filter, Problem},
    select,
};
use crate::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, LaneMap, Scratch, Update, lane_map,
    machine::select::{PLANNED_THREADS, PREPARE_SECONDS},
};

/// One layer in training: its weights change every step.
///
/// ```
/// # use ferroflow_kernels::{Extent, lane_map, conv::{ConvKind, ConvShape, Options, training::ConvTraining}};
/// let shape = ConvShape {
///     kind: ConvKind::Forward, in_channels: 3, out_channels: 8, kernel: [3; 2], stride: 2, dilation: 1, padding: [1; 4],
/// };
/// let input = Extent { n: 4, h: 32, w: 48 };
/// let mut layer = ConvTraining::new(shape, input, &lane_map(&[3]), false, Options::default());
/// layer.set_weights(&vec![0.1; 8 * 3 * 3 * 3], None);
/// assert_eq!(layer.output(), Extent { n: 4, h: 16, w: 24 });
/// ```
pub struct ConvTraining {
    shape: ConvShape,
    input: Extent,
    lanes: LaneMap,
    out_lanes: LaneMap,
    isa: Isa,
    forward: Box<dyn Engine>,
    backward: Option<Box<dyn Engine>>,
    weights: Box<dyn WeightGradient>,
    /// What [`Self::sum_weight_gradient`] has summed, and whether anything is in it.
    sum: (Buffer, bool),
}

impl ConvTraining {
    /// Prepares a layer without weights.
    ///
    /// `lanes` says which input channel each lane of the input blocks holds ([`crate::lane_map`]; fewer than 16 lanes are
    /// one block without padding, as in [`super::Layer`]). `input_gradient`: whether it will be asked for.
    ///
    /// # Panics
    /// If `options` names an algorithm that cannot compute the layer, or it is none: sizes that wrap, a lane that names no
    /// channel or one that another names.
    pub fn new(shape: ConvShape, input: Extent, lanes: &[Option<u32>], input_gradient: bool, options: Options) -> Self {
        shape.check(input, lanes);
        let forward = Problem { shape, input, output: shape.output(input), lanes: lanes.to_vec() };
        let backward = input_gradient.then(|| engine(&Problem::adjoint(shape, input, lanes), options));
        let out_lanes = lane_map(&[shape.out_channels]);
        let correlation = Correlation::new(shape, input, lanes);
        Self {
            shape,
            input,
            lanes: lanes.to_vec(),
            out_lanes,
            isa: options.isa,
            forward: engine(&forward, options),
            backward,
            weights: gradient::cheapest(&correlation, options),
            sum: Default::default(),
        }
    }

    /// Whether this is the layer that [`ConvTraining::new`] would prepare of these.
    pub fn is_for(&self, shape: ConvShape, input: Extent, lanes: &[Option<u32>], input_gradient: bool) -> bool {
        (self.shape, self.input, &*self.lanes, self.backward.is_some()) == (shape, input, lanes, input_gradient)
    }

    /// Takes this step's weights (PyTorch's order) and bias. In parallel; nothing is allocated.
    pub fn set_weights(&mut self, weight: &[f32], bias: Option<&[f32]>) {
        self.forward.set_weights(&Filter::new(&self.shape, weight, &self.out_lanes), bias);
        if let Some(backward) = &mut self.backward {
            backward.set_weights(&Filter::adjoint(&self.shape, weight, &self.lanes), None);
        }
    }

    /// Extent of the output.
    pub fn output(&self) -> Extent {
        self.shape.output(self.input)
    }

    /// `activation(conv(input) + bias)`.
    ///
    /// # Panics
    /// If a value does not have the extent and the blocks that the layer was prepared for; so do the gradients.
    pub fn forward(
        &self,
        input: Blocks<'_>,
        activation: Activation,
        output: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        self.check_input("input", input.extent, input.planes.iter().map(|p| p.len()));
        self.check_output("output", output.extent, output.planes.iter().map(|p| p.len()));
        self.forward.run(input, Epilogue { addend: Addend::Nothing, activation }, output, scratch);
        activation.finish(self.isa, self.shape.out_channels, output);
    }

    /// `adjoint(conv)(d_output)`; `d_output` is the gradient before the activation. Lanes without a channel become 0, or
    /// keep their value.
    ///
    /// # Panics
    /// If the layer was prepared without it.
    pub fn input_gradient(
        &self,
        d_output: Blocks<'_>,
        update: Update,
        d_input: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        self.check_output("output gradient", d_output.extent, d_output.planes.iter().map(|p| p.len()));
        self.check_input("input gradient", d_input.extent, d_input.planes.iter().map(|p| p.len()));
        let Some(engine) = &self.backward else { panic!("the layer was prepared without its input gradient") };
        let addend = if update == Update::Add { Addend::Output } else { Addend::Nothing };
        let epilogue = Epilogue { addend, activation: Activation::Linear };
        if self.lanes.len() >= LANES {
            return engine.run(d_output, epilogue, d_input, scratch);
        }
        // Engines write whole blocks.
        let (len, pixel) = (self.input.len(), self.lanes.len());
        scratch.with_shared(len, |whole| {
            let addend = Epilogue { addend: Addend::Nothing, ..epilogue };
            let mut planes = [&mut whole[..len]];
            engine.run(d_output, addend, &mut BlocksMut { extent: self.input, planes: &mut planes }, scratch);
            for (to, from) in d_input.planes[0].chunks_exact_mut(pixel).zip(planes[0].chunks_exact(LANES)) {
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = if update == Update::Add { *to + from } else { from };
                }
            }
        });
    }

    /// Adds to `d_weight` (PyTorch's order) its gradient. That of the bias is [`bias_gradient`].
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn weight_gradient(&self, input: Blocks<'_>, d_output: Blocks<'_>, d_weight: &mut [f32], scratch: &Scratch) {
        let (image, points) = self.correlated(input, d_output);
        self.check_weights(d_weight);
        self.weights.run(image, points, d_weight, scratch);
    }

    /// As [`Self::weight_gradient`] for a layer that is run on several inputs in a step: adds to `d_weight`, or to a sum
    /// of its own that [`Self::finish_weight_gradient`] takes to the weights once for all of them.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn sum_weight_gradient(
        &mut self,
        input: Blocks<'_>,
        d_output: Blocks<'_>,
        d_weight: &mut [f32],
        scratch: &Scratch,
    ) {
        let (image, points) = self.correlated(input, d_output);
        self.check_weights(d_weight);
        let Some(gradient) = self.weights.in_two_parts() else {
            return self.weights.run(image, points, d_weight, scratch);
        };
        let (sum, begun) = &mut self.sum;
        sum.grow(gradient.len());
        let update = if *begun { Update::Add } else { Update::Overwrite };
        gradient.sum(image, points, sum, update, scratch);
        *begun = true;
    }

    /// Adds what [`Self::sum_weight_gradient`] has kept back to `d_weight`.
    ///
    /// # Panics
    /// If the slice is too short.
    pub fn finish_weight_gradient(&mut self, d_weight: &mut [f32]) {
        self.check_weights(d_weight);
        let (sum, begun) = &mut self.sum;
        if let (true, Some(gradient)) = (std::mem::take(begun), self.weights.in_two_parts()) {
            gradient.finish(sum, d_weight);
        }
    }

    /// What the weight gradient correlates.
    fn correlated<'a>(&self, input: Blocks<'a>, d_output: Blocks<'a>) -> (Blocks<'a>, Blocks<'a>) {
        self.check_input("input", input.extent, input.planes.iter().map(|p| p.len()));
        self.check_output("output gradient", d_output.extent, d_output.planes.iter().map(|p| p.len()));
        match self.shape.kind {
            ConvKind::Forward => (input, d_output),
            ConvKind::Transposed => (d_output, input),
        }
    }

    fn check_weights(&self, d_weight: &[f32]) {
        let s = &self.shape;
        assert!(d_weight.len() >= s.in_channels * s.out_channels * s.taps(), "weight gradient");
    }

    /// The algorithms of forward, input gradient (empty if not prepared) and weight gradient.
    pub fn algorithms(&self) -> [String; 3] {
        [self.forward.name(), self.backward.as_ref().map_or(String::new(), |b| b.name()), self.weights.name()]
    }

    /// Bytes of prepared weights, and of their gradient if it is summed apart.
    pub fn weight_bytes(&self) -> usize {
        4 * self.sum.0.len() + self.forward.weight_bytes() + self.backward.as_ref().map_or(0, |b| b.weight_bytes())
    }

    fn check_input(&self, what: &str, extent: Extent, planes: impl ExactSizeIterator<Item = usize>) {
        assert_eq!(extent, self.input, "{what}: extent");
        assert_eq!(planes.len(), self.lanes.len().div_ceil(LANES), "{what}: blocks");
        let len = extent.len() / LANES * self.lanes.len().min(LANES);
        planes.for_each(|l| assert!(l >= len, "{what}: block of {l} floats, not {len}"));
    }

    fn check_output(&self, what: &str, extent: Extent, planes: impl ExactSizeIterator<Item = usize>) {
        assert_eq!(extent, self.output(), "{what}: extent");
        assert_eq!(planes.len(), self.out_lanes.len() / LANES, "{what}: blocks");
        planes.for_each(|l| assert!(l >= extent.len(), "{what}: block of {l} floats, not {}", extent.len()));
    }
}

/// The engine expected to be fastest, weights that change with every run included.
fn engine(problem: &Problem, options: Options) -> Box<dyn Engine> {
    let planned = Options { threads: PLANNED_THREADS, ..options };
    let seconds = |c: &Candidate| c.seconds + PREPARE_SECONDS * c.weights as f64;
    let all = select::candidates(problem, planned).into_iter();
    let chosen = all
        .filter(|c| options.algorithm.is_none_or(|name| c.name == name))
        .min_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    match chosen {
        Some(candidate) => (candidate.build)(problem, options),
        None => panic!("no algorithm {:?} for {:?}", options.algorithm, problem.shape),
    }
}
