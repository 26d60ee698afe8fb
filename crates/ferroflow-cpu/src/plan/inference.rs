//! Compiles the layers of the inference plan.

use ferroflow_net::{Graph, Op, ParamId};

use super::{
    compile::{Compiler, Layers},
    fixed::FixedLayers,
    fuse::{Chain, Purpose},
    options::PlanError,
    shapes::is_depthwise,
    value::Value,
};

impl<W: AsRef<[f32]>> Layers for FixedLayers<'_, W> {
    const PURPOSE: Purpose = Purpose::Inference;

    fn check(&self, graph: &Graph) -> Result<(), PlanError> {
        for (i, param) in graph.params.iter().enumerate().filter(|(_, p)| p.used) {
            let len = self.get(ParamId(i as u32)).map_or(0, <[f32]>::len);
            if len != param.len() {
                return Err(PlanError::Weights { name: param.name.clone(), expected: param.len(), got: len });
            }
        }
        Ok(())
    }

    fn weight(&self, id: ParamId) -> &[f32] {
        self.weight(id)
    }

    fn compile(compiler: &mut Compiler<'_, Self>, chain: &Chain) -> Result<Value, PlanError> {
        match &compiler.graph.node(chain.head).op {
            Op::Conv(c) if chain.pointwise.is_some() || is_depthwise(c) => Ok(compiler.depthwise(chain, c)),
            Op::BatchNorm(_) => compiler.map(chain),
            _ => compiler.convolution(chain),
        }
    }

    fn made(&mut self, _: &[Value], _: &Value) {}
}
