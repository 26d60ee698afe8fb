//! What an algorithm offers: the ways it has to compute a problem, each with the time it expects to take, and an engine
//! that runs one.

use super::{
    layer::{Activation, Options},
    problem::{Filter, Problem},
};
use crate::{Blocks, BlocksMut, Scratch};

/// Prepares an engine, all but its weights.
pub(super) type Build = Box<dyn FnOnce(&Problem, Options) -> Box<dyn Engine>>;

/// One way to compute a layer.
pub(super) struct Candidate {
    /// What [`Engine::name`] will say.
    pub name: String,
    /// Expected seconds, on [`Options::threads`] of a [`Machine`].
    pub seconds: f64,
    /// Floats of prepared weights, which take time where weights change.
    pub weights: usize,
    /// Only sums of products of the given numbers (see [`Options::exact`]).
    pub exact: bool,
    /// Prepares it.
    pub build: Build,
}

/// What is added to a sum before its activation, beside the bias.
#[derive(Clone, Copy)]
pub(super) enum Addend<'a> {
    Nothing,
    Value(Blocks<'a>),
    /// What the output holds.
    Output,
}

/// How sums become outputs.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a> {
    pub addend: Addend<'a>,
    pub activation: Activation,
}

impl Epilogue<'_> {
    /// Whether there is an addend.
    #[inline(always)]
    pub fn adds(&self) -> bool {
        !matches!(self.addend, Addend::Nothing)
    }

    /// Where the addend of the output that lies at `output`, `at` floats into its block, is; null if there is none.
    #[inline(always)]
    pub fn addend(&self, block: usize, at: usize, output: *const f32) -> *const f32 {
        match self.addend {
            Addend::Nothing => std::ptr::null(),
            Addend::Value(value) => value.planes[block].as_ptr().wrapping_add(at),
            Addend::Output => output,
        }
    }
}

/// One algorithm with its prepared weights.
pub(super) trait Engine: Send + Sync {
    /// Takes weights, and prepares them in place. In parallel.
    fn set_weights(&mut self, filter: &Filter<'_>, bias: Option<&[f32]>);
    fn run(&self, input: Blocks<'_>, epilogue: Epilogue<'_>, output: &mut BlocksMut<'_, '_>, scratch: &Scratch);
    /// Its name, e.g. `winograd F(6x6)`.
    fn name(&self) -> String;
    /// Floats of working memory per thread.
    fn scratch_len(&self) -> usize;
    /// Bytes of prepared weights.
    fn weight_bytes(&self) -> usize;
}

/// Takes a bias, or none.
pub(super) fn set_bias(to: &mut [f32], bias: Option<&[f32]>) {
    to.fill(0.0);
    if let Some(values) = bias {
        to[..values.len()].copy_from_slice(values);
    }
}
