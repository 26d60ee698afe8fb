//! Operations with their own gradient, on any backend.
//!
//! The trait's bodies are made of the backend's operations; `Autodiff` records one node for each and calls the backward
//! body. A backend that should be faster overrides a body.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{
    Autodiff, Backend, Dispatch, TensorMetadata, backend_extension, get_or_init_device_settings, tensor::FloatTensor,
};
use burn::tensor::Tensor;
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use ferroflow_net::graph::Correlation;
use ferroflow_net::training::AdamStep;

/// `x` where positive, `slope * x` elsewhere. Keeps its output alone, and its derivative at 0 is `slope` as in PyTorch.
pub(crate) fn leaky(x: Tensor<4>, slope: f32) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::leaky(x.into_dispatch(), slope))
}

/// `(f1, f2)` -> `[N, D * D, H, W]`: mean over channels of `f1(p) * f2(p + d)`, zero outside; dy outer, dx inner.
pub(crate) fn correlation(f1: Tensor<4>, f2: Tensor<4>, c: Correlation) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::correlation(f1.into_dispatch(), f2.into_dispatch(), c))
}

/// Of kernel 4, stride 2 and padding 1, without bias; `weight` is `[in, out, 4, 4]`. Its gradients are a convolution and the weight
/// gradient of one, for which backends have kernels; Burn's own gradient takes the input as the kernel of a convolution.
pub(crate) fn deconv(x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::deconv(x.into_dispatch(), weight.into_dispatch()))
}

/// Moves a parameter and its moments by one step of Adam; not differentiated. `decay` is the parameter's own.
pub(crate) fn adam(state: [Tensor<1>; 3], gradient: Tensor<1>, step: AdamStep, decay: f32) -> [Tensor<1>; 3] {
    let [weights, first, second] = state.map(Tensor::into_dispatch);
    let (weights, first, second) = Dispatch::adam(weights, gradient.into_dispatch(), first, second, step, decay);
    [weights, first, second].map(Tensor::from_dispatch)
}

#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff)]
pub trait FlowOps: Backend {
    fn leaky(x: FloatTensor<Self>, slope: f32) -> FloatTensor<Self> {
        Self::leaky_relu(x, slope.into())
    }

    fn leaky_backward(output: FloatTensor<Self>, gradient: FloatTensor<Self>, slope: f32) -> FloatTensor<Self> {
        let settings = get_or_init_device_settings::<Self>(&output.device());
        let negative = Self::float_lower_equal_elem(output, 0.0.into(), settings.bool_dtype);
        let scaled = Self::float_mul_scalar(gradient.clone(), slope.into());
        Self::float_mask_where(gradient, negative, scaled)
    }

    fn correlation(f1: FloatTensor<Self>, f2: FloatTensor<Self>, c: Correlation) -> FloatTensor<Self> {
        super::correlation::forward::<Self>(f1, f2, c)
    }

    fn correlation_backward(
        f1: FloatTensor<Self>,
        f2: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        c: Correlation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        super::correlation::backward::<Self>(f1, f2, gradient, c)
    }

    fn deconv(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::conv_transpose2d(x, weight, None, ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1))
    }

    fn adam(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamStep,
        decay: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let AdamStep { rate, root, beta1, beta2, epsilon, factor, .. } = step;
        let scaled = |x, by: f32| Self::float_mul_scalar(x, by.into());
        let (coupled, keep) = step.decays(decay);
        let gradient = Self::float_add(scaled(gradient, factor), scaled(weights.clone(), coupled));
        let first = Self::float_add(scaled(first, beta1), scaled(gradient.clone(), 1.0 - beta1));
        let square = Self::float_mul(gradient.clone(), gradient);
        let second = Self::float_add(scaled(second, beta2), scaled(square, 1.0 - beta2));
        let length = Self::float_add_scalar(scaled(Self::float_sqrt(second.clone()), root), epsilon.into());
        let change = scaled(Self::float_div(first.clone(), length), rate);
        (Self::float_sub(scaled(weights, keep), change), first, second)
    }
}

impl FlowOps for burn::backend::Flex {}

#[cfg(feature = "cube")]
impl FlowOps for burn::backend::Cube {
    fn leaky(x: FloatTensor<Self>, slope: f32) -> FloatTensor<Self> {
        crate::kernels::leaky(x, slope)
    }

    fn leaky_backward(output: FloatTensor<Self>, gradient: FloatTensor<Self>, slope: f32) -> FloatTensor<Self> {
        crate::kernels::leaky_backward(output, gradient, slope)
    }

    fn correlation(f1: FloatTensor<Self>, f2: FloatTensor<Self>, c: Correlation) -> FloatTensor<Self> {
        crate::kernels::correlation(f1, f2, c)
    }

    fn correlation_backward(
        f1: FloatTensor<Self>,
        f2: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        c: Correlation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::kernels::correlation_backward(f1, f2, gradient, c)
    }

    fn adam(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamStep,
        decay: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        crate::kernels::adam(weights, gradient, [first, second], step, decay)
    }
}

/// Backward passes are not differentiated again: their default bodies stay.
impl<B: FlowOps, C: CheckpointStrategy> FlowOps for Autodiff<B, C> {
    fn leaky(x: FloatTensor<Self>, slope: f32) -> FloatTensor<Self> {
        match Leaky.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::leaky(x.into_primitive(), slope);
                prepared.finish((output.clone(), slope), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::leaky(x.into_primitive(), slope)),
        }
    }

    fn correlation(f1: FloatTensor<Self>, f2: FloatTensor<Self>, c: Correlation) -> FloatTensor<Self> {
        let nodes = [f1.node(), f2.node()];
        let (f1, f2) = (f1.into_primitive(), f2.into_primitive());
        match CostVolume.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::correlation(f1.clone(), f2.clone(), c);
                prepared.finish((f1, f2, c), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::correlation(f1, f2, c)),
        }
    }

    fn deconv(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        match Deconvolution.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::deconv(x.clone(), weight.clone());
                prepared.finish((x, weight), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::deconv(x, weight)),
        }
    }
}

/// Hands gradients on to those of the inputs that are differentiated.
pub(super) fn register<B: Backend, const N: usize>(
    gradients: &mut Gradients,
    parents: [Option<NodeId>; N],
    found: [FloatTensor<B>; N],
) {
    for (parent, gradient) in parents.into_iter().zip(found) {
        if let Some(parent) = parent {
            gradients.register::<B>(parent, gradient);
        }
    }
}

#[derive(Debug)]
struct Leaky;

impl<B: FlowOps> Backward<B, 1> for Leaky {
    type State = (B::FloatTensorPrimitive, f32);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (output, slope) = ops.state;
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::leaky_backward(output, gradient, slope));
        }
    }
}

#[derive(Debug)]
struct CostVolume;

impl<B: FlowOps> Backward<B, 2> for CostVolume {
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, Correlation);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (f1, f2, c) = ops.state;
        let (g1, g2) = B::correlation_backward(f1, f2, gradient, c);
        register::<B, _>(gradients, ops.parents.map(|parent| Some(parent?.id)), [g1, g2]);
    }
}

#[derive(Debug)]
struct Deconvolution;

impl<B: FlowOps> Backward<B, 2> for Deconvolution {
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, weight) = ops.state;
        // The convolution whose gradient the deconvolution is, from `out` to `in` channels.
        let options = || ConvOptions::new([2, 2], [1, 1], [1, 1], 1);
        let [to_x, to_weight] = ops.parents;
        if let Some(parent) = to_x {
            gradients.register::<B>(parent.id, B::conv2d(gradient.clone(), weight.clone(), None, options()));
        }
        if let Some(parent) = to_weight {
            gradients.register::<B>(parent.id, B::conv2d_weight_backward(gradient, weight, x, options()));
        }
    }
}
