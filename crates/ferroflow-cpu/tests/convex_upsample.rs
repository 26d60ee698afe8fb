//! Convex upsampling: the interpreter against RAFT's own steps, its gradient against differences, both plans against it.

use ferroflow_cpu::reference::{self, Tensor, Training};
use ferroflow_cpu::training::{Settings, TrainingPlan};
use ferroflow_cpu::{Options, Pixels, Plan};
use ferroflow_net::graph::{Builder, Filter, Frame, Graph, Grid, Naming, Op, Size, Sizes, k};
use ferroflow_net::training::{Gradients, Trainer, TrainingOptions, Values};
use ferroflow_net::weights::formula::Stream;
use ferroflow_net::{NodeId, ParamId, Weights};

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

/// Flow and logits by convolution of both frames, upsampled and scaled; without corners, so that differences are slopes.
fn network(factor: usize) -> Graph {
    let mut net = Builder::new(Naming::Dotted);
    let frames = [Frame::First, Frame::Second].map(|frame| net.frame(frame));
    let x = net.concat("frames", &frames);
    let x = net.affine("unit", x, &[1.0 / 32.0], &[-4.0]);
    let coarse = net.conv("coarse", x, k(3).out(2));
    let logits = net.conv("logits", x, k(3).out(9 * factor * factor));
    let fine = net.convex_upsample("fine", coarse, logits, factor);
    let fine = net.affine("scaled", fine, &[factor as f32, -0.5], &[0.0]);
    net.finish(fine, Filter::Bilinear, Grid::HalfPixel, &[coarse])
}

/// Frames of the coarse size, flow of the fine one.
fn sizes(factor: usize, [batch, height, width]: [usize; 3]) -> Sizes {
    let output = Size { height: factor * height, width: factor * width };
    Sizes { batch, input: Size { height, width }, output }
}

fn frames(sizes: &Sizes) -> [Vec<f32>; 2] {
    let len = sizes.batch * 3 * sizes.input.height * sizes.input.width;
    ["first", "second"].map(|name| noise(name, len, 100.0).iter().map(|v| v + 128.0).collect())
}

fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::random(graph, 1);
    for (i, param) in graph.params.iter().enumerate() {
        weights.get_mut(ParamId(i as u32)).copy_from_slice(&noise(&param.name, param.len(), 0.3));
    }
    weights
}

/// The largest difference, relative to the largest value.
fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(1e-12f32, |m, v| m.max(v.abs()));
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    worst.fold(0.0f32, |m, d| if d > m || d.is_nan() { d } else { m }) / largest
}

/// Single precision of three operations; the sums of the gradients have a few hundred terms.
const TOLERANCE: f32 = 2e-5;

#[test]
fn the_plan_equals_the_interpreter() {
    for (factor, size) in CASES {
        let (graph, mut sizes) = (network(factor), sizes(factor, size));
        let weights = weights(&graph);
        let [first, second] = frames(&sizes);
        let run = |sizes: Sizes, options: &Options| {
            let weights: Vec<&[f32]> = weights.iter().collect();
            let mut plan = Plan::new(&graph, &weights, sizes, options).unwrap();
            let mut flow = vec![f32::NAN; sizes.batch * 2 * sizes.output.height * sizes.output.width];
            plan.run(Pixels::Planar(&first), Pixels::Planar(&second), &mut flow).unwrap();
            (flow, plan.profile().layers.into_iter().map(|layer| layer.algorithm).collect::<Vec<String>>())
        };
        let check = |sizes: Sizes, options: &Options, steps: &[&str]| {
            let plain = reference::run::<f64>(&graph, &weights, [&first, &second], &sizes).unwrap();
            let plain: Vec<f32> = plain.get(graph.flow.unwrap()).data.iter().map(|v| *v as f32).collect();
            let (flow, algorithms) = run(sizes, options);
            let d = difference(&flow, &plain);
            assert!(d < TOLERANCE, "factor {factor}, {size:?}, {steps:?}: differs from the interpreter by {d}");
            let from = algorithms.iter().position(|a| a == "convex upsampling").unwrap();
            // What is kept of the frames is packed last.
            let others = algorithms[from..].iter().filter(|a| *a != "pack");
            assert!(others.eq(steps), "{algorithms:?} instead of {steps:?}");
        };
        // Straight to the caller.
        check(sizes, &Options::default(), &["convex upsampling"]);
        // Every node on its own.
        let keep = (0..graph.nodes.len() as u32).map(NodeId).collect();
        let unfused = Options { keep, ..Options::default() };
        check(sizes, &unfused, &["convex upsampling", "affine", "resize"]);
        // Through blocks to another size.
        sizes.output = Size { height: 7, width: 9 };
        check(sizes, &Options::default(), &["convex upsampling", "resize"]);
    }
}

/// A step of training with random gradients of both outputs.
fn step(network: &mut dyn Trainer, graph: &Graph, options: &TrainingOptions) -> (Vec<Values>, Gradients) {
    let [first, second] = frames(&options.sizes);
    network.load(&weights(graph)).unwrap();
    let outputs = network.forward([&first, &second]).unwrap();
    let mut gradients = Gradients::zeros(graph, &options.trained);
    network.backward(&slopes(&outputs), &mut gradients).unwrap();
    (outputs, gradients)
}

fn slopes(outputs: &[Values]) -> Vec<Values> {
    let d = |(i, o): (usize, &Values)| Values { shape: o.shape, data: noise(&format!("d{i}"), o.data.len(), 1.0) };
    outputs.iter().enumerate().map(d).collect()
}

#[test]
fn the_training_plan_equals_the_interpreter() {
    for (factor, size) in CASES {
        let (graph, sizes) = (network(factor), sizes(factor, size));
        let outputs = vec![graph.pyramid[0], graph.flow.unwrap()];
        for frozen in ["nothing", "coarse.", "logits."] {
            let mut options = TrainingOptions::all(&graph, sizes, outputs.clone());
            for (param, trained) in graph.params.iter().zip(&mut options.trained) {
                *trained &= !param.name.starts_with(frozen);
            }
            let mut plain = Training::<f64>::new(&graph, options.clone()).unwrap();
            let (values, gradients) = step(&mut plain, &graph, &options);
            let mut plan = TrainingPlan::new(&graph, options.clone(), Settings::default()).unwrap();
            let (our_values, our_gradients) = step(&mut plan, &graph, &options);
            for (ours, theirs) in our_values.iter().zip(&values) {
                assert!(difference(&ours.data, &theirs.data) < TOLERANCE, "factor {factor}, {size:?}");
            }
            for ((param, ours), theirs) in graph.params.iter().zip(our_gradients.iter()).zip(gradients.iter()) {
                let d = difference(ours, theirs);
                assert!(d < TOLERANCE, "factor {factor}, {size:?}, {frozen} frozen: {} is off by {d}", param.name);
            }
        }
    }
}

#[test]
fn the_gradient_is_the_slope() {
    for (factor, size) in [(2, [2, 3, 5]), (3, [1, 2, 2])] {
        let (graph, sizes) = (network(factor), sizes(factor, size));
        let options = TrainingOptions::all(&graph, sizes, vec![graph.flow.unwrap()]);
        let mut plain = Training::<f64>::new(&graph, options.clone()).unwrap();
        let (outputs, gradients) = step(&mut plain, &graph, &options);
        let d = slopes(&outputs).remove(0).data;
        let [first, second] = frames(&sizes);
        let mut loss = |weights: &Weights| -> f64 {
            plain.load(weights).unwrap();
            plain.forward([&first, &second]).unwrap();
            let flow = plain.value(graph.flow.unwrap()).unwrap();
            flow.data.iter().zip(&d).map(|(v, d)| v * f64::from(*d)).sum()
        };
        for (i, param) in graph.params.iter().enumerate() {
            let id = ParamId(i as u32);
            let largest = gradients.get(id).iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert!(largest > 1e-2, "nothing reaches {}", param.name);
            for at in (0..param.len()).step_by(1 + param.len() / 7) {
                let mut weights = weights(&graph);
                let value = weights.get(id)[at];
                // What is added is what single precision makes of it.
                let ends = [value - 1e-3, value + 1e-3].map(|v| {
                    weights.get_mut(id)[at] = v;
                    (f64::from(v), loss(&weights))
                });
                let slope = (ends[1].1 - ends[0].1) / (ends[1].0 - ends[0].0);
                let error = (slope - f64::from(gradients.get(id)[at])).abs();
                // Differences are exact to the square of the step, times the third derivative.
                assert!(error < 1e-5 * f64::from(largest), "{} {at}: off by {error} of {slope}", param.name);
            }
        }
    }
}
