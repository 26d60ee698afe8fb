//! Every operation against the function it is named after: NVIDIA's kernels, torch, TensorFlow, Caffe.

use ferroflow_cpu::reference::{self, Tensor, resize};
use ferroflow_net::graph::{
    Builder, ConvSpec, Correlation, Filter, FlowOrder, Frame, Graph, Grid, MomentsOver, Naming, OnPixel, Op, Padding,
    Sizes, Warp, WarpBorder, k,
};
use ferroflow_net::weights::{self, Weights};

use super::compare::Tolerance;
use super::shared::{Array, File};

/// Single precision of an operation or two.
const OP: Tolerance = Tolerance::OfLargest(2e-5);
/// No rounding but that of a square root.
const EXACT: Tolerance = Tolerance::OfLargest(1e-6);

impl File {
    fn get(&self, name: &str) -> Tensor<f32> {
        let array = &self.arrays[name];
        Tensor { shape: array.shape[..].try_into().unwrap(), data: array.data.clone() }
    }

    fn check(&mut self, ours: &Tensor<f32>, name: &str, tolerance: Tolerance) {
        assert_eq!(ours.shape[..], self.arrays[name].shape, "{name}");
        self.compare(&ours.data, name, tolerance);
    }
}

fn no_weights() -> Weights {
    Weights::new(&Graph::default(), []).unwrap()
}

fn apply(op: Op, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
    reference::apply(&op, inputs, &no_weights(), &Sizes::new(1, 1, 1)).unwrap()
}

fn warp(file: &File, border: WarpBorder, order: FlowOrder, flow: &str) -> Tensor<f32> {
    apply(
        Op::Warp(Warp { border, order, scale: 1.0, on_pixel: OnPixel::Right }),
        &[&file.get("image"), &file.get(flow)],
    )
}

fn resized(x: &Tensor<f32>, factor: usize, filter: Filter, grid: Grid) -> Tensor<f32> {
    apply(Op::Resize { factor, filter, grid }, &[x])
}

/// A layer of three input channels, built as networks build theirs.
fn layer(
    x: &Tensor<f32>,
    weight: &Array,
    bias: &Array,
    build: impl FnOnce(&mut Builder, ferroflow_net::NodeId) -> ferroflow_net::NodeId,
) -> Tensor<f32> {
    let mut net = Builder::new(Naming::Dotted);
    let frame = net.frame(Frame::First);
    let node = build(&mut net, frame);
    let mut graph = net.finish(node, Filter::Nearest, Grid::HalfPixel, &[]);
    let tensor = |a: &Array| weights::Tensor { shape: a.shape.clone(), data: a.data.clone() };
    let weights =
        Weights::new(&graph, [("l.weight".to_string(), tensor(weight)), ("l.bias".to_string(), tensor(bias))]).unwrap();
    let op = graph.nodes.swap_remove(node.0 as usize).op;
    reference::apply(&op, &[x], &weights, &Sizes::new(1, 1, 1)).unwrap()
}

fn conv(x: &Tensor<f32>, weight: &Array, bias: &Array, spec: ConvSpec) -> Tensor<f32> {
    layer(x, weight, bias, |net, x| net.conv("l", x, spec.out(weight.shape[0])))
}

fn deconv(x: &Tensor<f32>, weight: &Array, bias: &Array) -> Tensor<f32> {
    layer(x, weight, bias, |net, x| net.deconv("l", x, weight.shape[1], true))
}

/// `[kh, kw, a, b]` to `[b, a, kh, kw]`
fn from_tensorflow(array: &Array) -> Array {
    let &[kh, kw, a, b] = &array.shape[..] else { panic!("{:?}", array.shape) };
    let at = |b_: usize, a_: usize, tap: usize| array.data[(tap * a + a_) * b + b_];
    let data = (0..b * a * kh * kw).map(|i| at(i / (a * kh * kw), i / (kh * kw) % a, i % (kh * kw))).collect();
    Array { shape: vec![b, a, kh, kw], data }
}

const FLOWNET: Correlation = Correlation { max_displacement: 20, stride: 2 };
const PWCNET: Correlation = Correlation { max_displacement: 4, stride: 1 };

#[test]
fn nvidia() {
    let Some(mut file) = File::open("nvidia") else { return };
    for (name, correlation) in [("correlation", FLOWNET), ("cost_volume", PWCNET)] {
        let inputs = [file.get(&format!("{name}/in1")), file.get(&format!("{name}/in2"))];
        let ours = apply(Op::Correlation(correlation), &[&inputs[0], &inputs[1]]);
        file.check(&ours, &format!("{name}/out"), OP);
    }
    for (name, flow) in [("resample2d", "flow"), ("resample2d_int", "flow_int")] {
        let ours = warp(&file, WarpBorder::Replicate, FlowOrder::Uv, flow);
        file.check(&ours, &format!("{name}/out"), OP);
    }
    let ours = apply(Op::ChannelNorm { floor: 0.0 }, &[&file.get("channelnorm/in1")]);
    file.check(&ours, "channelnorm/out", EXACT);
    // `correlation_s2` and `resample2d_nearest` are in no network.
    file.finish();
}

#[test]
fn pytorch() {
    let Some(mut file) = File::open("pytorch") else { return };
    let masked = WarpBorder::ZerosMasked { threshold: 0.9999 };
    for (name, border, flow) in [
        ("pwc_warp", masked, "flow"),
        ("grid_sample_zeros", WarpBorder::Zeros, "flow"),
        ("resample2d_extrapolate", WarpBorder::Extrapolate, "flow_clip40"),
    ] {
        let ours = warp(&file, border, FlowOrder::Uv, flow);
        file.check(&ours, &format!("{name}/out"), OP);
    }
    let up = file.get("up");
    for (name, factor, grid) in [
        ("bilinear4_half_pixel", 4, Grid::HalfPixel),
        ("bilinear4_align_corners", 4, Grid::AlignCorners),
        ("bilinear2_half_pixel", 2, Grid::HalfPixel),
    ] {
        file.check(&resized(&up, factor, Filter::Bilinear, grid), &format!("{name}/out"), OP);
    }
    for (name, factor) in [("nearest4", 4), ("nearest2", 2)] {
        file.check(&resized(&up, factor, Filter::Nearest, Grid::HalfPixel), &format!("{name}/out"), EXACT);
    }
    let image = file.get("image");
    for (name, grid) in [("resize_half_pixel", Grid::HalfPixel), ("resize_align_corners", Grid::AlignCorners)] {
        file.check(&resize(&image, 7, 21, Filter::Bilinear, grid), &format!("{name}/out"), OP);
    }
    let [weight, bias] = ["conv/weight", "conv/bias"].map(|name| file.arrays[name].clone());
    file.check(&conv(&image, &weight, &bias, k(3).stride(2)), "conv_s2/out", OP);
    file.check(&conv(&image, &weight, &bias, k(3).dilation(2)), "conv_d2/out", OP);
    let [weight, bias] = ["deconv/weight", "deconv/bias"].map(|name| file.arrays[name].clone());
    file.check(&deconv(&image, &weight, &bias), "deconv/out", OP);
    file.finish();
}

#[test]
fn tensorflow() {
    let Some(mut file) = File::open("tensorflow") else { return };
    for (name, border, order) in [
        ("tfoptflow_warp", WarpBorder::Replicate, FlowOrder::NegatedVu),
        ("uflow_resample", WarpBorder::Zeros, FlowOrder::Vu),
    ] {
        for (suffix, flow) in [("", "flow"), ("_int", "flow_int")] {
            let ours = warp(&file, border, order, flow);
            file.check(&ours, &format!("{name}{suffix}/out"), OP);
        }
    }
    let [f1, f2] = ["cost_volume/in1", "cost_volume/in2"].map(|name| file.get(name));
    let costs = apply(Op::Correlation(PWCNET), &[&f1, &f2]);
    file.check(&costs, "uflow_cost_volume/out", OP);
    file.check(&apply(Op::LeakyRelu { slope: 0.1 }, &[&costs]), "tfoptflow_cost_volume/out", OP);
    let moments = apply(Op::Moments(MomentsOver::Batch), &[&f1, &f2]);
    let [f1, f2] = [f1, f2].map(|f| apply(Op::Standardise { epsilon: 1e-16 }, &[&f, &moments]));
    file.check(&apply(Op::Concat, &[&f1, &f2]), "uflow_normalize/out", OP);

    let up = file.get("up");
    for (name, factor, grid) in [
        ("bilinear4_asymmetric", 4, Grid::Asymmetric),
        ("bilinear2_asymmetric", 2, Grid::Asymmetric),
        ("bilinear4_align_corners", 4, Grid::AlignCorners),
    ] {
        file.check(&resized(&up, factor, Filter::Bilinear, grid), &format!("{name}/out"), OP);
    }
    let doubled = resized(&up, 2, Filter::Bilinear, Grid::HalfPixel);
    file.check(&apply(Op::Affine { scale: vec![2.0], offset: vec![0.0] }, &[&doubled]), "uflow_upsample_flow/out", OP);
    let image = file.get("image");
    for (name, (height, width), grid) in [
        ("resize_asymmetric", (7, 21), Grid::Asymmetric),
        ("resize_asymmetric_small", (4, 4), Grid::Asymmetric),
        ("resize_half_pixel", (7, 21), Grid::HalfPixel),
        ("resize_half_pixel_small", (4, 4), Grid::HalfPixel),
    ] {
        file.check(&resize(&image, height, width, Filter::Bilinear, grid), &format!("{name}/out"), OP);
    }

    let image_odd = file.get("image_odd");
    let weight = from_tensorflow(&file.arrays["conv/weight_hwio"]);
    let bias = file.arrays["conv/bias"].clone();
    let same = |before| k(3).stride(2).padding(Padding::before_after(before, 1));
    file.check(&conv(&image, &weight, &bias, same(0)), "conv_same_s2/out", OP);
    file.check(&conv(&image_odd, &weight, &bias, same(1)), "conv_same_s2_odd/out", OP);
    file.check(&conv(&image, &weight, &bias, k(3).dilation(4)), "conv_same_d4/out", OP);
    let weight = from_tensorflow(&file.arrays["deconv/weight_hwoi"]);
    let bias = file.arrays["deconv/bias"].clone();
    file.check(&deconv(&image, &weight, &bias), "deconv_same_s2/out", OP);
    file.finish();
}

#[test]
fn to_output_scales_each_axis() {
    let Some(mut file) = File::open("tensorflow") else { return };
    // The file's flow is (dy, dx) of 12x16, brought to 7x21.
    let exchange = Op::Channels(vec![1, 0]);
    let flow = apply(exchange.clone(), &[&file.get("flow")]);
    let mut sizes = Sizes::new(2, 12, 16);
    sizes.output = ferroflow_net::graph::Size { height: 7, width: 21 };
    let op = Op::ToOutput { filter: Filter::Bilinear, grid: Grid::HalfPixel };
    let ours = reference::apply(&op, &[&flow], &no_weights(), &sizes).unwrap();
    file.check(&apply(exchange, &[&ours]), "uflow_resize_flow/out", OP);
    file.finish();
}

#[test]
fn caffe() {
    let Some(mut file) = File::open("caffe_flow_warp") else { return };
    let ours = warp(&file, WarpBorder::Caffe, FlowOrder::Uv, "flow");
    file.check(&ours, "out", OP);
    file.finish();
}
