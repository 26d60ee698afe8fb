//! Every operation in double precision: its value against the plain interpreter, its gradient against differences.

mod common;

use std::sync::LazyLock;

use burn::tensor::{DType, Device, FloatDType, IntDType, Tensor, TensorData};
use common::{difference, frames, random};
use ferroflow_burn::Network;
use ferroflow_cpu::reference;
use ferroflow_net::graph::{
    BatchNorm, Conv, Correlation, Deconv, Extent, Filter, FlowOrder, Frame, Graph, Grid, MomentsOver, Node, OnPixel,
    Op, Padding, Param, ParamRole, Sizes, Warp, WarpBorder,
};
use ferroflow_net::{NodeId, ParamId};

const SIZES: Sizes = Sizes { batch: 2, input: Extent { height: 6, width: 8 }, output: Extent { height: 11, width: 5 } };

/// Flex in double precision; a process configures a device once.
static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    let mut device = Device::flex();
    device.configure((FloatDType::F64, IntDType::I64)).unwrap();
    device
});

/// Nodes 0 and 1 are the frames, the operations follow; node 2 is `Affine` of the first frame, -1..1, node 3 of the second.
fn graph(operations: &[(Op, &[u32])]) -> Graph {
    let unit = || Op::Affine { scale: vec![1.0 / 128.0], offset: vec![-1.0] };
    let frames: [(Op, &[u32]); 4] =
        [(Op::Frame(Frame::First), &[]), (Op::Frame(Frame::Second), &[]), (unit(), &[0]), (unit(), &[1])];
    let nodes = frames.iter().chain(operations).enumerate();
    let nodes = nodes.map(|(i, (op, inputs))| Node {
        op: op.clone(),
        inputs: inputs.iter().map(|&i| NodeId(i)).collect(),
        name: i.to_string(),
    });
    Graph { nodes: nodes.collect(), ..Graph::default() }
}

fn check(name: &str, graph: &Graph) {
    let weights = common::weights(graph);
    let (Extent { height, width }, batch) = (SIZES.input, SIZES.batch);
    let values = [2, 3].map(|seed| frames(batch, height, width, seed));
    let expected = reference::run::<f64>(graph, &weights, [&values[0], &values[1]], &SIZES).unwrap();
    let last = NodeId(graph.nodes.len() as u32 - 1);

    let device = DEVICE.clone().autodiff();
    let network = Network::new(graph, &weights, &device).unwrap();
    let run = |frames: [Tensor<4>; 2]| network.values(frames, SIZES.output, &[last]).unwrap().remove(0);
    let upload = |values: &[f64]| -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), [batch, 3, height, width]), &device)
    };
    let mut values = values.map(|v| v.into_iter().map(f64::from).collect::<Vec<f64>>());
    let tracked = [0, 1].map(|i| upload(&values[i]).require_grad());
    let output = run(tracked.clone());
    assert_eq!(output.dtype(), DType::F64);
    let got: Vec<f64> = output.clone().try_into_vec_as().unwrap();
    let d = difference(&got, &expected.get(last).data);
    assert!(d < 1e-9, "{name}: differs from the plain interpreter by {d}");

    let mut state = 5;
    let gradient: Vec<f64> = got.iter().map(|_| f64::from(random(&mut state))).collect();
    let weighted = output.clone() * Tensor::from_data(TensorData::new(gradient.clone(), output.dims()), &device);
    let gradients = weighted.sum().backward();
    let loss = |values: &[Vec<f64>; 2]| -> f64 {
        let output: Vec<f64> = run([upload(&values[0]), upload(&values[1])]).try_into_vec_as().unwrap();
        output.iter().zip(&gradient).map(|(o, g)| o * g).sum()
    };
    for frame in 0..2 {
        // `None` where the operation does not read the frame.
        let found: Option<Vec<f64>> = tracked[frame].grad(&gradients).map(|g| g.try_into_vec_as().unwrap());
        for _ in 0..12 {
            let at = (random(&mut state).abs() * (values[frame].len() - 1) as f32) as usize;
            let (value, step) = (values[frame][at], 1e-4);
            let [above, below] = [step, -step].map(|step| {
                values[frame][at] = value + step;
                loss(&values)
            });
            values[frame][at] = value;
            let (found, expected) = (found.as_ref().map_or(0.0, |g| g[at]), (above - below) / (2.0 * step));
            let error = (found - expected).abs();
            assert!(error < 1e-6 * expected.abs().max(0.01), "{name}: gradient {found}, differences say {expected}");
        }
    }
}

#[test]
fn warps() {
    let borders = [
        WarpBorder::Replicate,
        WarpBorder::Zeros,
        WarpBorder::ZerosMasked { threshold: 0.999 },
        WarpBorder::Extrapolate,
        WarpBorder::Caffe,
    ];
    for border in borders {
        for order in [FlowOrder::Uv, FlowOrder::Vu, FlowOrder::NegatedVu] {
            let warp = Op::Warp(Warp { border, order, scale: 2.7, on_pixel: OnPixel::Right });
            check(&format!("{warp:?}"), &graph(&[(Op::Channels(vec![0, 1]), &[3]), (warp, &[2, 4])]));
        }
    }
}

#[test]
fn correlations() {
    for (max_displacement, stride) in [(0, 1), (2, 1), (4, 2), (5, 2), (9, 3)] {
        let correlation = Op::Correlation(Correlation { max_displacement, stride });
        check(&format!("{correlation:?}"), &graph(&[(correlation, &[2, 3])]));
    }
}

#[test]
fn resizes() {
    for grid in [Grid::HalfPixel, Grid::AlignCorners, Grid::Asymmetric] {
        for filter in [Filter::Nearest, Filter::Bilinear] {
            for factor in [1, 2, 4] {
                let resize = Op::Resize { factor, filter, grid };
                check(&format!("{resize:?}"), &graph(&[(resize, &[2])]));
            }
            let to_output = Op::ToOutput { filter, grid };
            check(&format!("{to_output:?}"), &graph(&[(Op::Channels(vec![0, 1]), &[2]), (to_output, &[4])]));
        }
    }
}

#[test]
fn convex_upsampling() {
    for factor in [2, 3] {
        // Logits of both frames, so that the flow's gradient and theirs meet in one of them.
        let picked = (0..9 * factor * factor).map(|i| i * 5 % 6).collect();
        let operations = [
            (Op::Channels(vec![0, 1]), &[2u32][..]),
            (Op::Concat, &[2, 3]),
            (Op::Channels(picked), &[5]),
            (Op::ConvexUpsample { factor: factor as usize }, &[4, 6]),
        ];
        check(&format!("convex upsampling by {factor}"), &graph(&operations));
    }
}

#[test]
fn pointwise_operations() {
    check("leaky", &graph(&[(Op::LeakyRelu { slope: 0.1 }, &[2])]));
    for floor in [0.0, 1.0] {
        check("channel norm", &graph(&[(Op::ChannelNorm { floor }, &[2])]));
    }
    for picked in [vec![2, 1, 0], vec![1, 2], vec![0, 0, 2]] {
        check("channels", &graph(&[(Op::Channels(picked), &[2])]));
    }
    let affine = Op::Affine { scale: vec![1.5, -2.0, 0.25], offset: vec![0.5, 1.0, -1.0] };
    check("affine", &graph(&[(affine, &[2])]));
    check("add", &graph(&[(Op::Add, &[2, 3])]));
    check("sub", &graph(&[(Op::Sub, &[2, 3])]));
    check("concat", &graph(&[(Op::Concat, &[2, 3, 2])]));
    check("zeros", &graph(&[(Op::Zeros { channels: 5 }, &[2]), (Op::Concat, &[2, 4])]));
    let part = Op::Part { index: 1, of: 3 };
    check("stack, part", &graph(&[(Op::Stack, &[2, 3, 2]), (part, &[4])]));
}

#[test]
fn statistics() {
    check("channel mean", &graph(&[(Op::ChannelMean, &[2, 3]), (Op::Sub, &[3, 4])]));
    for over in [MomentsOver::Pair, MomentsOver::Batch] {
        let standardise = Op::Standardise { epsilon: 1e-3 };
        check(&format!("{over:?}"), &graph(&[(Op::Moments(over), &[2, 3]), (standardise, &[3, 4])]));
    }
}

#[test]
fn operations_with_parameters() {
    let with = |op: Op, shapes: &[(&[usize], ParamRole)]| {
        let params = shapes.iter().enumerate().map(|(i, (shape, role))| Param {
            name: i.to_string(),
            shape: shape.to_vec(),
            role: *role,
            used: true,
            gain: 1.0,
        });
        Graph { params: params.collect(), ..graph(&[(op, &[2])]) }
    };
    let conv = |out_channels, kernel, stride, dilation, groups, padding| {
        let (weight, bias) = (ParamId(0), Some(ParamId(1)));
        let conv = Conv { weight, bias, in_channels: 3, out_channels, kernel, stride, dilation, groups, padding };
        let shape = [out_channels, 3 / groups, kernel, kernel];
        with(Op::Conv(conv), &[(&shape, ParamRole::ConvWeight), (&[out_channels], ParamRole::Bias)])
    };
    check("conv", &conv(4, 3, 1, 1, 1, Padding::all(1)));
    check("strided conv", &conv(4, 7, 2, 1, 1, Padding::all(3)));
    check("unevenly padded conv", &conv(4, 3, 2, 1, 1, Padding::before_after(0, 1)));
    check("dilated conv", &conv(4, 3, 1, 2, 1, Padding::all(2)));
    check("depthwise conv", &conv(3, 3, 2, 1, 3, Padding::all(1)));
    let deconv = Deconv { weight: ParamId(0), bias: None, in_channels: 3, out_channels: 2 };
    check("deconv", &with(Op::Deconv(deconv), &[(&[3, 2, 4, 4], ParamRole::DeconvWeight)]));
    let norm =
        BatchNorm { scale: ParamId(0), shift: ParamId(1), mean: ParamId(2), variance: ParamId(3), epsilon: 1e-5 };
    let roles = [ParamRole::NormScale, ParamRole::NormShift, ParamRole::NormMean, ParamRole::NormVariance];
    check("batch norm", &with(Op::BatchNorm(norm), &roles.map(|role| (&[3usize] as &[usize], role))));
}
