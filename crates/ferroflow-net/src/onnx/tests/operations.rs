//! The operations without a counterpart in ONNX in ONNX Runtime, against their definitions. That every operation's file gives
//! the interpreter's values in rten, a table of `ferroflow-burn` shows (`tests/operations`).

use super::runtimes;
use super::*;
use crate::graph::{Builder, Filter, FlowOrder, Frame, Grid, Naming, OnPixel, Warp, WarpBorder, k};
use crate::weights::{self, formula::Stream};

const SHAPE: [usize; 4] = [2, 3, 5, 7];

fn numbers(name: &str, spread: f64) -> Vec<f32> {
    Stream::new("onnx", name).tensor(SHAPE.iter().product(), spread, 0.0)
}

/// Frame 1 warped by the first two channels of frame 2, of which the first two channels are the output.
fn warp_graph(warp: Warp) -> Graph {
    let mut net = Builder::new(Naming::Dotted);
    let [image, flow] = [net.frame(Frame::First), net.frame(Frame::Second)];
    let flow = net.channels("displacement", flow, &[0, 1]);
    let warped = net.warp("warped", image, flow, warp);
    let seen = net.channels("seen", warped, &[2, 0]);
    net.finish(seen, Filter::Nearest, Grid::HalfPixel, &[])
}

/// The definition, value by value, in double precision.
fn warped(warp: Warp, image: &[f32], flow: &[f32]) -> Vec<f32> {
    let [n, c, h, w] = SHAPE;
    let mut out = Vec::new();
    for (b, channel) in (0..n).flat_map(|b| [(b, 2), (b, 0)]) {
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            let f = |k: usize| f64::from(flow[((b * c + k) * h + y) * w + x]) * f64::from(warp.scale);
            let (u, v) = match warp.order {
                FlowOrder::Uv => (f(0), f(1)),
                FlowOrder::Vu => (f(1), f(0)),
                FlowOrder::NegatedVu => (-f(1), -f(0)),
            };
            let (px, py) = (x as f64 + u, y as f64 + v);
            let (right, bottom) = (w as f64 - 1.0, h as f64 - 1.0);
            let read = |qy: f64, qx: f64| f64::from(image[((b * c + channel) * h + qy as usize) * w + qx as usize]);
            let clamped = |qy: f64, qx: f64| read(qy.clamp(0.0, bottom), qx.clamp(0.0, right));
            let is_in = |qy: f64, qx: f64| (0.0..=bottom).contains(&qy) && (0.0..=right).contains(&qx);
            // Corner of the four neighbours, and the weight of those right of and below it.
            let (mut x0, mut y0) = (px.floor(), py.floor());
            if warp.border == WarpBorder::Extrapolate {
                (x0, y0) = (px.clamp(0.0, right).floor(), py.clamp(0.0, bottom).floor());
            }
            let (a, e) = (px - x0, py - y0);
            let corners =
                [(0., 0., (1. - a) * (1. - e)), (0., 1., a * (1. - e)), (1., 0., (1. - a) * e), (1., 1., a * e)];
            let sum = |value: &dyn Fn(f64, f64) -> f64| -> f64 {
                corners.iter().map(|(dy, dx, weight)| weight * value(y0 + dy, x0 + dx)).sum()
            };
            let inside = sum(&|qy, qx| f64::from(u8::from(is_in(qy, qx))));
            out.push(match warp.border {
                WarpBorder::Replicate => {
                    let (px, py) = (px.clamp(0.0, right), py.clamp(0.0, bottom));
                    let (x0, y0) = (px.floor(), py.floor());
                    let (a, e) = (px - x0, py - y0);
                    (1. - e) * ((1. - a) * clamped(y0, x0) + a * clamped(y0, x0 + 1.))
                        + e * ((1. - a) * clamped(y0 + 1., x0) + a * clamped(y0 + 1., x0 + 1.))
                }
                WarpBorder::Extrapolate => sum(&clamped),
                WarpBorder::Zeros => sum(&|qy, qx| if is_in(qy, qx) { read(qy, qx) } else { 0.0 }),
                WarpBorder::ZerosMasked { threshold } if inside < f64::from(threshold) => 0.0,
                WarpBorder::ZerosMasked { .. } => sum(&|qy, qx| if is_in(qy, qx) { read(qy, qx) } else { 0.0 }),
                WarpBorder::Caffe if px < 0.0 || py < 0.0 || px >= right + 1.0 || py >= bottom + 1.0 => 0.0,
                WarpBorder::Caffe => sum(&clamped),
            } as f32);
        }
    }
    out
}

fn file(graph: &Graph, options: &Options) -> Vec<u8> {
    let mut file = Vec::new();
    export(graph, &Weights::random(graph, 1), options, &mut file).unwrap();
    file
}

fn close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() < 2e-5, "{what}: value {i} is {a} instead of {b}");
    }
}

#[test]
fn warps_follow_every_border_rule() {
    let (image, flow) = (numbers("image", 1.0), numbers("flow", 6.0));
    let borders = [
        WarpBorder::Replicate,
        WarpBorder::Zeros,
        WarpBorder::ZerosMasked { threshold: 0.5 },
        WarpBorder::Extrapolate,
        WarpBorder::Caffe,
    ];
    // A process each: one order says whether GridSample does the same. Its mode changed its name in operator set 20.
    for (border, opset) in borders.map(|b| (b, 17)).into_iter().chain([(WarpBorder::Zeros, 20)]) {
        let warp = Warp { border, order: FlowOrder::Vu, scale: 0.625, on_pixel: OnPixel::Right };
        let options = Options { opset, size: Some((5, 7)), batch: Some(2), ..Options::default() };
        let ran = runtimes::onnxruntime(&file(&warp_graph(warp), &options), [&image, &flow], SHAPE);
        let Some(out) = ran else { return };
        close(&out, &warped(warp, &image, &flow), &format!("{warp:?}, opset {opset}"));
    }
}

#[test]
fn convex_upsampling_follows_its_formula() {
    let [n, c, ..] = SHAPE;
    let (h, w) = (3, 4);
    for factor in [2, 3, 8] {
        let shape = [n, c, factor * h, factor * w];
        let frames = ["flow", "logits"].map(|name| Stream::new("onnx", name).tensor(shape.iter().product(), 4.0, 0.0));
        // Every `factor`th pixel of both frames: two channels are the flow, the others the logits, several times over.
        let picked: Vec<u32> = (0..9 * factor * factor).map(|i| (i * 5 % 6) as u32).collect();
        let mut net = Builder::new(Naming::Dotted);
        let coarse = [(Frame::First, "coarse1"), (Frame::Second, "coarse2")].map(|(frame, name)| {
            let frame = net.frame(frame);
            net.conv((name, "coarse"), frame, k(1).stride(factor).out(c).no_bias())
        });
        let flow = net.channels("flow.coarse", coarse[0], &[2, 0]);
        let both = net.concat("both", &coarse);
        let logits = net.channels("logits", both, &picked);
        let fine = net.convex_upsample("fine", flow, logits, factor);
        let graph = net.finish(fine, Filter::Nearest, Grid::HalfPixel, &[]);
        let data = (0..c * c).map(|i| f32::from(u8::from(i % (c + 1) == 0))).collect();
        let same = weights::Tensor { shape: vec![c, c, 1, 1], data };
        let weights = Weights::new(&graph, [("coarse.weight".to_string(), same)]).unwrap();

        let at = |frame: usize, b: usize, channel: usize, y: usize, x: usize| {
            f64::from(frames[frame][((b * c + channel) * factor * h + y * factor) * factor * w + x * factor])
        };
        let mut expected = Vec::new();
        for (b, component) in (0..n).flat_map(|b| [(b, 2), (b, 0)]) {
            for (y, x) in (0..factor * h).flat_map(|y| (0..factor * w).map(move |x| (y, x))) {
                let (mut sum, mut total) = (0.0, 0.0);
                for k in 0..9 {
                    let channel = picked[(k * factor + y % factor) * factor + x % factor] as usize;
                    let weight = at(channel / c, b, channel % c, y / factor, x / factor).exp();
                    let (qy, qx) = ((y / factor + k / 3).wrapping_sub(1), (x / factor + k % 3).wrapping_sub(1));
                    total += weight;
                    sum += if qy < h && qx < w { weight * at(0, b, component, qy, qx) } else { 0.0 };
                }
                expected.push((sum / total) as f32);
            }
        }
        let options = Options { size: Some((shape[2], shape[3])), batch: Some(n), ..Options::default() };
        let mut file = Vec::new();
        export(&graph, &weights, &options, &mut file).unwrap();
        let ran = runtimes::onnxruntime(&file, [&frames[0], &frames[1]], shape);
        let Some(out) = ran else { return };
        close(&out, &expected, &format!("factor {factor}"));
    }
}
