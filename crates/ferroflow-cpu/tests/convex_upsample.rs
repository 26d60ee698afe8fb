//! Convex upsampling: the interpreter against RAFT's own steps, and what the plan computes together with it.

use ferroflow_cpu::reference::{self, Tensor};
use ferroflow_cpu::{Options, Plan};
use ferroflow_net::graph::{Builder, Filter, Frame, Graph, Grid, Naming, Op, Size, Sizes, k};
use ferroflow_net::weights::formula::Stream;
use ferroflow_net::{NodeId, Weights};

fn noise(name: &str, len: usize, spread: f64) -> Vec<f32> {
    Stream::new("convex upsampling", name).tensor(len, spread, 0.0)
}

/// Factor, images, rows and columns of the coarse flow: a single pixel, odd sizes, and the factors of RAFT and its heirs.
const CASES: [(usize, [usize; 3]); 6] =
    [(2, [1, 1, 1]), (2, [2, 5, 7]), (2, [1, 18, 33]), (3, [2, 4, 3]), (4, [2, 3, 5]), (8, [1, 2, 3])];

/// `upsample_flow` of RAFT (Teed & Deng 2020) in its own steps, in double precision: softmax over the 9 of the mask viewed as
/// `[N, 1, 9, f, f, H, W]`; times the unfolded 3 x 3 windows of the flow, zeros around it, viewed as `[N, 2, 9, 1, 1, H, W]`;
/// the sum over the 9; and `[N, 2, f, f, H, W]` brought into the order `[N, 2, H, f, W, f]`.
fn raft(flow: &[f64], mask: &[f64], f: usize, [n, h, w]: [usize; 3]) -> Vec<f64> {
    // [N, 9, f f H W], softmax over the 9.
    let mut mask = mask.to_vec();
    let inner = f * f * h * w;
    for image in mask.chunks_mut(9 * inner) {
        for i in 0..inner {
            let total: f64 = (0..9).map(|k| image[k * inner + i].exp()).sum();
            (0..9).for_each(|k| image[k * inner + i] = image[k * inner + i].exp() / total);
        }
    }
    // [N, 2 * 9, H W]: the windows of each channel, rows of the window outer.
    let mut unfolded: Vec<f64> = Vec::new();
    for plane in flow.chunks(h * w) {
        let mut padded = vec![0.0; (h + 2) * (w + 2)];
        for (y, row) in plane.chunks(w).enumerate() {
            padded[(y + 1) * (w + 2) + 1..][..w].copy_from_slice(row);
        }
        for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
            (0..h).for_each(|y| unfolded.extend(&padded[(y + ky) * (w + 2) + kx..][..w]));
        }
    }
    // [N, 2, f, f, H, W]
    let mut summed: Vec<f64> = Vec::new();
    for (image, c) in (0..n).flat_map(|image| [(image, 0), (image, 1)]) {
        for (s, i) in (0..f * f).flat_map(|s| (0..h * w).map(move |i| (s, i))) {
            let weight = |k: usize| mask[(image * 9 + k) * inner + s * h * w + i];
            summed.push((0..9).map(|k| weight(k) * unfolded[((image * 2 + c) * 9 + k) * h * w + i]).sum());
        }
    }
    // [N, 2, H, f, W, f]
    let mut fine = Vec::new();
    for plane in summed.chunks(inner) {
        for (y, dy) in (0..h).flat_map(|y| (0..f).map(move |dy| (y, dy))) {
            for (x, dx) in (0..w).flat_map(|x| (0..f).map(move |dx| (x, dx))) {
                fine.push(plane[((dy * f + dx) * h + y) * w + x]);
            }
        }
    }
    fine
}

#[test]
fn the_interpreter_does_what_raft_does() {
    for (factor, [n, h, w]) in CASES {
        let tensor = |name: &str, channels: usize, spread: f64| {
            let shape = [n, channels, h, w];
            Tensor::<f64>::from_f32(shape, &noise(name, shape.iter().product(), spread)).unwrap()
        };
        let (flow, mask) = (tensor("flow", 2, 10.0), tensor("mask", 9 * factor * factor, 5.0));
        let (op, sizes) = (Op::ConvexUpsample { factor }, Sizes::new(n, h, w));
        let none = Weights::new(&Graph::default(), []).unwrap();
        let ours = reference::apply(&op, &[&flow, &mask], &none, &sizes).unwrap();
        let theirs = raft(&flow.data, &mask.data, factor, [n, h, w]);
        assert_eq!(ours.shape, [n, 2, factor * h, factor * w]);
        for (i, (a, b)) in ours.data.iter().zip(&theirs).enumerate() {
            assert!((a - b).abs() < 1e-12, "factor {factor}, {n} of {h} x {w}: value {i} is {a} instead of {b}");
        }
        assert!(reference::apply(&op, &[&flow, &flow], &none, &sizes).is_err(), "two channels are not logits");
        assert!(reference::apply(&Op::ConvexUpsample { factor: 1 }, &[&flow, &mask], &none, &sizes).is_err());
    }
}

#[test]
fn what_follows_is_fused() {
    let factor = 2;
    let mut net = Builder::new(Naming::Dotted);
    let frames = [Frame::First, Frame::Second].map(|frame| net.frame(frame));
    let x = net.concat("frames", &frames);
    let coarse = net.conv("coarse", x, k(3).out(2));
    let logits = net.conv("logits", x, k(3).out(9 * factor * factor));
    let fine = net.convex_upsample("fine", coarse, logits, factor);
    let fine = net.affine("scaled", fine, &[factor as f32, -0.5], &[0.0]);
    let graph = net.finish(fine, Filter::Bilinear, Grid::HalfPixel, &[]);
    let weights = Weights::random(&graph, 1);
    let weights: Vec<&[f32]> = weights.iter().collect();

    let steps = |output: [usize; 2], keep: Vec<NodeId>| {
        let output = Size { height: output[0], width: output[1] };
        let sizes = Sizes { output, ..Sizes::new(1, 5, 7) };
        let plan = Plan::new(&graph, &weights, sizes, &Options { keep, ..Options::default() }).unwrap();
        let layers = plan.profile().layers.into_iter().map(|layer| layer.algorithm);
        // What is kept of the frames is packed last.
        layers.skip_while(|step| step != "convex upsampling").filter(|step| step != "pack").collect::<Vec<String>>()
    };
    // Straight to the caller; through blocks to another size; every node on its own.
    assert_eq!(steps([10, 14], vec![]), ["convex upsampling"]);
    assert_eq!(steps([7, 9], vec![]), ["convex upsampling", "resize"]);
    let all = (0..graph.nodes.len() as u32).map(NodeId).collect();
    assert_eq!(steps([10, 14], all), ["convex upsampling", "affine", "resize"]);
}
