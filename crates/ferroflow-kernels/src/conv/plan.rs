//! A layer ready to run.

use super::{
    engine::{Addend, Engine, Epilogue},
    layer::{Activation, ConvShape, Layer, Options},
    problem::{Filter, Problem},
    select,
};
use crate::{Blocks, BlocksMut, Extent, Isa, LANES, Scratch, lane_map};

/// A layer ready to run.
pub struct ConvPlan {
    pub(super) shape: ConvShape,
    pub(super) input: Extent,
    /// Blocks of the input, and floats of each.
    pub(super) input_blocks: (usize, usize),
    pub(super) activation: Activation,
    pub(super) isa: Isa,
    pub(super) engine: Box<dyn Engine>,
}

impl ConvPlan {
    /// Prepares a layer: chooses the algorithm, packs the weights.
    ///
    /// # Panics
    /// If `options` names an algorithm that cannot compute the layer, or it is none: sizes that wrap, a lane that names no
    /// channel, weights that are missing.
    pub fn new(layer: &Layer<'_>, options: Options) -> Self {
        layer.shape.check(layer.input, layer.lanes);
        let input_blocks =
            (layer.lanes.len().div_ceil(LANES), layer.input.len() / LANES * layer.lanes.len().min(LANES));
        let mut engine = select::engine(&Problem::new(layer), options);
        let outputs = lane_map(&[layer.shape.out_channels]);
        engine.set_weights(&Filter::new(&layer.shape, layer.weight, &outputs), layer.bias);
        Self {
            shape: layer.shape,
            input: layer.input,
            input_blocks,
            activation: layer.activation,
            isa: options.isa,
            engine,
        }
    }

    /// The names of all algorithms that can compute a layer, the one [`ConvPlan::new`] would choose first.
    pub fn algorithms(layer: &Layer<'_>, options: Options) -> Vec<String> {
        select::candidates(&Problem::new(layer), options).into_iter().map(|c| c.name).collect()
    }

    /// Extent of the output.
    pub fn output(&self) -> Extent {
        self.shape.output(self.input)
    }

    /// Blocks of the output.
    pub fn output_blocks(&self) -> usize {
        self.shape.out_channels.div_ceil(LANES)
    }

    /// The algorithm chosen.
    pub fn algorithm(&self) -> String {
        self.engine.name()
    }

    /// Floats of working memory per thread.
    pub fn scratch_len(&self) -> usize {
        self.engine.scratch_len()
    }

    /// Bytes of prepared weights.
    pub fn weight_bytes(&self) -> usize {
        self.engine.weight_bytes()
    }

    /// Computes the layer: `activation(conv(input) + bias + residual)`.
    ///
    /// # Panics
    /// If a value does not have the extent and the number of blocks that the layer was prepared for.
    pub fn run(
        &self,
        input: Blocks<'_>,
        residual: Option<Blocks<'_>>,
        output: &mut BlocksMut<'_, '_>,
        scratch: &Scratch,
    ) {
        assert_eq!(input.extent, self.input, "input extent");
        assert_eq!(output.extent, self.output(), "output extent");
        assert_eq!(output.planes.len(), self.output_blocks(), "output blocks");
        assert_eq!(input.planes.len(), self.input_blocks.0, "input blocks");
        assert!(input.planes.iter().all(|p| p.len() >= self.input_blocks.1), "input blocks");
        assert!(output.planes.iter().all(|p| p.len() >= output.extent.len()), "output blocks");
        if let Some(residual) = residual {
            assert_eq!(residual.extent, self.output(), "residual extent");
            assert_eq!(residual.planes.len(), self.output_blocks(), "residual blocks");
            assert!(residual.planes.iter().all(|p| p.len() >= output.extent.len()), "residual blocks");
        }
        let epilogue =
            Epilogue { addend: residual.map_or(Addend::Nothing, Addend::Value), activation: self.activation };
        self.engine.run(input, epilogue, output, scratch);
        self.activation.finish(self.isa, self.shape.out_channels, output);
    }
}
