//! Compiles the layers of the inference plan.

use ferroflow_net::{Graph, Op, ParamId, graph::LayerNorm};

use super::{
    compile::{Compiler, Layers},
    fixed::FixedLayers,
    fuse::{Chain, Purpose},
    options::PlanError,
    shapes::{is_depthwise, is_large_depthwise},
    step::Kernel,
    value::{Value, per_lane},
};

impl<W: AsRef<[f32]>> Compiler<'_, FixedLayers<'_, W>> {
    fn layer_norm(&mut self, chain: &Chain, norm: &LayerNorm) -> Value {
        let x = self.dense(self.graph.node(chain.head).inputs[0]);
        let channels = self.channels(chain.tail);
        let [scale, shift] = [norm.scale, norm.shift].map(|id| per_lane(self.layers.weight(id).iter().copied()));
        let out = self.fresh(x.extent, channels);
        let kernel = Kernel::LayerNorm { channels, scale, shift, epsilon: norm.epsilon };
        self.push(chain.tail, kernel, 0.0, vec![x], &out);
        out
    }
}

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
            Op::Conv(c) if is_depthwise(c) => Ok(compiler.depthwise(chain, c)),
            Op::Conv(c) if is_large_depthwise(c) => Ok(compiler.large_depthwise(chain, c)),
            Op::BatchNorm(_) | Op::ChannelScale { .. } => compiler.map(chain),
            Op::LayerNorm(norm) => Ok(compiler.layer_norm(chain, norm)),
            _ => compiler.convolution(chain),
        }
    }

    fn made(&mut self, _: &[Value], _: &Value) {}
}
