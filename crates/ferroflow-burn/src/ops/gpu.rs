//! Operations that have kernels of their own on GPUs, with their gradients.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, Cube, Dispatch, DispatchDevice, backend_extension, tensor::FloatTensor,
};
use burn::tensor::Tensor;
use ferroflow_net::graph::{Correlation, Grid, Size, Warp};

use super::extension::register;
use crate::kernels::{self, Axis, Scatter};

/// Whether a tensor lies where the kernels run.
pub(crate) fn has_kernels(x: &Tensor<4>) -> bool {
    matches!(x.device().inner().as_dispatch(), DispatchDevice::Cube(_))
}

/// See [`super::warp`].
pub(crate) fn warp(image: Tensor<4>, flow: Tensor<4>, warp: Warp) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::warp(image.into_dispatch(), flow.into_dispatch(), warp))
}

/// See [`super::warped_correlation`].
pub(crate) fn warped_correlation(inputs: [Tensor<4>; 3], c: Correlation, warp: Warp) -> Tensor<4> {
    let [f1, image, flow] = inputs.map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::warped_correlation(f1, image, flow, c, warp))
}

/// See [`super::convex_upsample`].
pub(crate) fn convex_upsample(flow: Tensor<4>, logits: Tensor<4>, factor: usize) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::convex_upsample(flow.into_dispatch(), logits.into_dispatch(), factor))
}

/// See [`kernels::census`]; differentiable in the second image.
pub(super) fn census(first: Tensor<4>, second: Tensor<4>, radius: usize) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::census(first.into_dispatch(), second.into_dispatch(), radius))
}

/// See [`kernels::range_map`].
pub(super) fn range_map(flow: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::range_map(flow.into_dispatch()))
}

/// See [`kernels::window_products`]; not differentiable in `corner`.
pub(crate) fn window_products(f1: Tensor<4>, f2: Tensor<4>, corner: Tensor<4>, side: usize) -> Tensor<4> {
    let [f1, f2, corner] = [f1, f2, corner].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::window_products(f1, f2, corner, side))
}

/// Bilinear; see [`super::resize`].
pub(crate) fn resize(x: Tensor<4>, to: Size, grid: Grid) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let axes = [Axis::new(grid, height, to.height), Axis::new(grid, width, to.width)];
    Tensor::from_dispatch(Dispatch::resize(x.into_dispatch(), axes))
}

#[backend_extension(Cube, Autodiff)]
pub trait GpuOps: Backend {
    fn warp(image: FloatTensor<Self>, flow: FloatTensor<Self>, warp: Warp) -> FloatTensor<Self>;

    fn warp_image_backward(flow: FloatTensor<Self>, gradient: FloatTensor<Self>, warp: Warp) -> FloatTensor<Self>;

    fn warp_flow_backward(
        image: FloatTensor<Self>,
        flow: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        warp: Warp,
    ) -> FloatTensor<Self>;

    fn warped_correlation(
        f1: FloatTensor<Self>,
        image: FloatTensor<Self>,
        flow: FloatTensor<Self>,
        c: Correlation,
        warp: Warp,
    ) -> FloatTensor<Self>;

    fn warped_correlation_backward(
        f1: FloatTensor<Self>,
        image: FloatTensor<Self>,
        flow: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        c: Correlation,
        warp: Warp,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    fn convex_upsample(flow: FloatTensor<Self>, logits: FloatTensor<Self>, factor: usize) -> FloatTensor<Self>;

    fn convex_upsample_backward(
        flow: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        factor: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    fn window_products(
        f1: FloatTensor<Self>,
        f2: FloatTensor<Self>,
        corner: FloatTensor<Self>,
        side: usize,
    ) -> FloatTensor<Self>;

    fn window_products_backward(
        f1: FloatTensor<Self>,
        f2: FloatTensor<Self>,
        corner: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        side: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    fn census(first: FloatTensor<Self>, second: FloatTensor<Self>, radius: usize) -> FloatTensor<Self>;

    fn census_backward(
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        radius: usize,
    ) -> FloatTensor<Self>;

    fn range_map(flow: FloatTensor<Self>) -> FloatTensor<Self>;

    fn range_map_backward(flow: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    fn resize(x: FloatTensor<Self>, axes: [Axis; 2]) -> FloatTensor<Self>;

    fn resize_backward(gradient: FloatTensor<Self>, axes: [Axis; 2]) -> FloatTensor<Self>;
}

impl GpuOps for Cube {
    fn warp(image: FloatTensor<Self>, flow: FloatTensor<Self>, warp: Warp) -> FloatTensor<Self> {
        kernels::warp(image, flow, warp)
    }

    fn warp_image_backward(flow: FloatTensor<Self>, gradient: FloatTensor<Self>, warp: Warp) -> FloatTensor<Self> {
        let scatter = Scatter::of(&flow.client);
        kernels::warp_image_backward(flow, gradient, warp, scatter)
    }

    fn warp_flow_backward(
        image: FloatTensor<Self>,
        flow: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        warp: Warp,
    ) -> FloatTensor<Self> {
        kernels::warp_flow_backward(image, flow, gradient, warp)
    }

    fn warped_correlation(
        f1: FloatTensor<Self>,
        image: FloatTensor<Self>,
        flow: FloatTensor<Self>,
        c: Correlation,
        warp: Warp,
    ) -> FloatTensor<Self> {
        kernels::warped_correlation([f1, image, flow], c, warp)
    }

    fn warped_correlation_backward(
        f1: FloatTensor<Self>,
        image: FloatTensor<Self>,
        flow: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        c: Correlation,
        warp: Warp,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        kernels::warped_correlation_backward([f1, image, flow], gradient, c, warp)
    }

    fn convex_upsample(flow: FloatTensor<Self>, logits: FloatTensor<Self>, factor: usize) -> FloatTensor<Self> {
        kernels::convex_upsample(flow, logits, factor)
    }

    fn convex_upsample_backward(
        flow: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        factor: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        kernels::convex_upsample_backward(flow, logits, gradient, factor)
    }

    fn window_products(
        f1: FloatTensor<Self>,
        f2: FloatTensor<Self>,
        corner: FloatTensor<Self>,
        side: usize,
    ) -> FloatTensor<Self> {
        kernels::window_products(f1, f2, corner, side)
    }

    fn window_products_backward(
        f1: FloatTensor<Self>,
        f2: FloatTensor<Self>,
        corner: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        side: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        kernels::window_products_backward(f1, f2, corner, gradient, side)
    }

    fn census(first: FloatTensor<Self>, second: FloatTensor<Self>, radius: usize) -> FloatTensor<Self> {
        kernels::census(first, second, radius)
    }

    fn census_backward(
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        radius: usize,
    ) -> FloatTensor<Self> {
        kernels::census_backward(first, second, gradient, radius)
    }

    fn range_map(flow: FloatTensor<Self>) -> FloatTensor<Self> {
        kernels::range_map(flow)
    }

    fn range_map_backward(flow: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        kernels::range_map_backward(flow, gradient)
    }

    fn resize(x: FloatTensor<Self>, axes: [Axis; 2]) -> FloatTensor<Self> {
        kernels::resize(x, axes)
    }

    fn resize_backward(gradient: FloatTensor<Self>, axes: [Axis; 2]) -> FloatTensor<Self> {
        kernels::resize_backward(gradient, axes)
    }
}

/// A backward pass is not differentiated again; it goes to the backend below.
impl<B: GpuOps, C: CheckpointStrategy> GpuOps for Autodiff<B, C> {
    fn warp(image: FloatTensor<Self>, flow: FloatTensor<Self>, warp: Warp) -> FloatTensor<Self> {
        let nodes = [image.node(), flow.node()];
        let (image, flow) = (image.into_primitive(), flow.into_primitive());
        match Sampled.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::warp(image.clone(), flow.clone(), warp);
                prepared.finish((image, flow, warp), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::warp(image, flow, warp)),
        }
    }

    fn warp_image_backward(flow: FloatTensor<Self>, gradient: FloatTensor<Self>, warp: Warp) -> FloatTensor<Self> {
        Self::from_inner(B::warp_image_backward(flow.into_primitive(), gradient.into_primitive(), warp))
    }

    fn warp_flow_backward(
        image: FloatTensor<Self>,
        flow: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        warp: Warp,
    ) -> FloatTensor<Self> {
        let [image, flow, gradient] = [image, flow, gradient].map(|x| x.into_primitive());
        Self::from_inner(B::warp_flow_backward(image, flow, gradient, warp))
    }

    fn warped_correlation(
        f1: FloatTensor<Self>,
        image: FloatTensor<Self>,
        flow: FloatTensor<Self>,
        c: Correlation,
        warp: Warp,
    ) -> FloatTensor<Self> {
        let nodes = [f1.node(), image.node(), flow.node()];
        let [f1, image, flow] = [f1, image, flow].map(|x| x.into_primitive());
        match WarpedCostVolume.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::warped_correlation(f1.clone(), image.clone(), flow.clone(), c, warp);
                prepared.finish((f1, image, flow, c, warp), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::warped_correlation(f1, image, flow, c, warp)),
        }
    }

    fn warped_correlation_backward(
        f1: FloatTensor<Self>,
        image: FloatTensor<Self>,
        flow: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        c: Correlation,
        warp: Warp,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [f1, image, flow, gradient] = [f1, image, flow, gradient].map(|x| x.into_primitive());
        let (f1, image, flow) = B::warped_correlation_backward(f1, image, flow, gradient, c, warp);
        (Self::from_inner(f1), Self::from_inner(image), Self::from_inner(flow))
    }

    fn convex_upsample(flow: FloatTensor<Self>, logits: FloatTensor<Self>, factor: usize) -> FloatTensor<Self> {
        let nodes = [flow.node(), logits.node()];
        let (flow, logits) = (flow.into_primitive(), logits.into_primitive());
        match Upsampled.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::convex_upsample(flow.clone(), logits.clone(), factor);
                prepared.finish((flow, logits, factor), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::convex_upsample(flow, logits, factor)),
        }
    }

    fn convex_upsample_backward(
        flow: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        factor: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [flow, logits, gradient] = [flow, logits, gradient].map(|x| x.into_primitive());
        let (flow, logits) = B::convex_upsample_backward(flow, logits, gradient, factor);
        (Self::from_inner(flow), Self::from_inner(logits))
    }

    fn window_products(
        f1: FloatTensor<Self>,
        f2: FloatTensor<Self>,
        corner: FloatTensor<Self>,
        side: usize,
    ) -> FloatTensor<Self> {
        let nodes = [f1.node(), f2.node()];
        let [f1, f2, corner] = [f1, f2, corner].map(|x| x.into_primitive());
        match WindowProducts.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::window_products(f1.clone(), f2.clone(), corner.clone(), side);
                prepared.finish((f1, f2, corner, side), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::window_products(f1, f2, corner, side)),
        }
    }

    fn window_products_backward(
        f1: FloatTensor<Self>,
        f2: FloatTensor<Self>,
        corner: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        side: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [f1, f2, corner, gradient] = [f1, f2, corner, gradient].map(|x| x.into_primitive());
        let (f1, f2) = B::window_products_backward(f1, f2, corner, gradient, side);
        (Self::from_inner(f1), Self::from_inner(f2))
    }

    fn census(first: FloatTensor<Self>, second: FloatTensor<Self>, radius: usize) -> FloatTensor<Self> {
        let nodes = [second.node()];
        let (first, second) = (first.into_primitive(), second.into_primitive());
        match CensusDistance.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::census(first.clone(), second.clone(), radius);
                prepared.finish((first, second, radius), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::census(first, second, radius)),
        }
    }

    fn census_backward(
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        radius: usize,
    ) -> FloatTensor<Self> {
        let [first, second, gradient] = [first, second, gradient].map(|x| x.into_primitive());
        Self::from_inner(B::census_backward(first, second, gradient, radius))
    }

    fn range_map(flow: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [flow.node()];
        let flow = flow.into_primitive();
        match Arrivals.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::range_map(flow.clone());
                prepared.finish(flow, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::range_map(flow)),
        }
    }

    fn range_map_backward(flow: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(B::range_map_backward(flow.into_primitive(), gradient.into_primitive()))
    }

    fn resize(x: FloatTensor<Self>, axes: [Axis; 2]) -> FloatTensor<Self> {
        let prepared = Resized.prepare::<C>([x.node()]).compute_bound().stateful();
        let output = B::resize(x.into_primitive(), axes);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(axes, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn resize_backward(gradient: FloatTensor<Self>, axes: [Axis; 2]) -> FloatTensor<Self> {
        Self::from_inner(B::resize_backward(gradient.into_primitive(), axes))
    }
}

#[derive(Debug)]
struct Sampled;

impl<B: GpuOps> Backward<B, 2> for Sampled {
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, Warp);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (image, flow, warp) = ops.state;
        // (FlowNet2 warps frames, whose gradient nobody wants.)
        let [to_image, to_flow] = ops.parents;
        if let Some(parent) = to_image {
            gradients.register::<B>(parent.id, B::warp_image_backward(flow.clone(), gradient.clone(), warp));
        }
        if let Some(parent) = to_flow {
            gradients.register::<B>(parent.id, B::warp_flow_backward(image, flow, gradient, warp));
        }
    }
}

#[derive(Debug)]
struct WarpedCostVolume;

impl<B: GpuOps> Backward<B, 3> for WarpedCostVolume {
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, B::FloatTensorPrimitive, Correlation, Warp);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (f1, image, flow, c, warp) = ops.state;
        let (to_f1, to_image, to_flow) = B::warped_correlation_backward(f1, image, flow, gradient, c, warp);
        register::<B, _>(gradients, ops.parents.map(|parent| Some(parent?.id)), [to_f1, to_image, to_flow]);
    }
}

#[derive(Debug)]
struct Upsampled;

impl<B: GpuOps> Backward<B, 2> for Upsampled {
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, usize);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (flow, logits, factor) = ops.state;
        let (to_flow, to_logits) = B::convex_upsample_backward(flow, logits, gradient, factor);
        register::<B, _>(gradients, ops.parents.map(|parent| Some(parent?.id)), [to_flow, to_logits]);
    }
}

#[derive(Debug)]
struct WindowProducts;

impl<B: GpuOps> Backward<B, 2> for WindowProducts {
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, B::FloatTensorPrimitive, usize);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (f1, f2, corner, side) = ops.state;
        let (to_f1, to_f2) = B::window_products_backward(f1, f2, corner, gradient, side);
        register::<B, _>(gradients, ops.parents.map(|parent| Some(parent?.id)), [to_f1, to_f2]);
    }
}

#[derive(Debug)]
struct Resized;

impl<B: GpuOps> Backward<B, 1> for Resized {
    type State = [Axis; 2];

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::resize_backward(gradient, ops.state));
        }
    }
}

#[derive(Debug)]
struct CensusDistance;

impl<B: GpuOps> Backward<B, 1> for CensusDistance {
    type State = (B::FloatTensorPrimitive, B::FloatTensorPrimitive, usize);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (first, second, radius) = ops.state;
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::census_backward(first, second, gradient, radius));
        }
    }
}

#[derive(Debug)]
struct Arrivals;

impl<B: GpuOps> Backward<B, 1> for Arrivals {
    type State = B::FloatTensorPrimitive;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::range_map_backward(ops.state, gradient));
        }
    }
}
