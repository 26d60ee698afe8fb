//! The plan against the plain interpreter, batches against single pairs, and its memory.

use ferroflow_cpu::{Bf16, Options, Pixels, Plan, reference};
use ferroflow_net::{
    Graph, Model, NodeId,
    graph::{Builder, Filter, Frame, Grid, Naming, ParamRole, Sizes, k, kr},
    weights::Weights,
};

/// Uniform in -1..1 (SplitMix64).
fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Random weights, batch norm's too: those of a fresh network would hide how it is folded.
fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::random(graph, 1);
    let mut state = 1;
    for (i, param) in graph.params.iter().enumerate() {
        let values = weights.get_mut(ferroflow_net::ParamId(i as u32));
        match param.role {
            ParamRole::ConvWeight | ParamRole::DeconvWeight => {}
            ParamRole::NormScale | ParamRole::NormVariance => {
                values.iter_mut().for_each(|v| *v = 1.0 + 0.3 * random(&mut state));
            }
            _ => values.iter_mut().for_each(|v| *v = 0.1 * random(&mut state)),
        }
    }
    weights
}

fn frames(batch: usize, height: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..batch * 3 * height * width).map(|_| (127.5 * (1.0 + random(&mut state))).round()).collect()
}

fn flow(graph: &Graph, weights: &Weights, sizes: Sizes, options: &Options, a: &[f32], b: &[f32]) -> Vec<f32> {
    let weights: Vec<&[f32]> = weights.iter().collect();
    let mut plan = Plan::new(graph, &weights, sizes, options).unwrap();
    let mut out = vec![f32::NAN; sizes.batch * 2 * sizes.output.height * sizes.output.width];
    plan.run(Pixels::Planar(a), Pixels::Planar(b), &mut out).unwrap();
    out
}

/// The largest difference, relative to the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / largest).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

/// Rounding alone; the warps of a stack and the algorithms of large layers amplify it.
const TOLERANCE: f32 = 1e-3;

fn check(model: &Model) {
    let name = model.name;
    let (graph, weights) = (&model.graph, weights(&model.graph));
    let (h, w) = (model.stride.max(model.min_size.height), 2 * model.stride.max(model.min_size.width));
    let (a, b) = (frames(2, h, w, 2), frames(2, h, w, 3));
    let (pair, half) = (Sizes::new(1, h, w), a.len() / 2);
    let run = |options: &Options| flow(graph, &weights, pair, options, &a[..half], &b[..half]);

    let plain = reference::run::<f32>(graph, &weights, [&a[..half], &b[..half]], &pair).unwrap();
    let plain = &plain.get(graph.flow.unwrap()).data;
    let planned = run(&Options::default());
    let d = difference(&planned, plain);
    assert!(d < TOLERANCE, "{name}: the plan differs from the interpreter by {d}");

    let keep = (0..graph.nodes.len() as u32).map(NodeId).collect();
    let d = difference(&run(&Options { keep, exact: true, ..Options::default() }), plain);
    assert!(d < TOLERANCE, "{name}: unfused and exact it differs by {d}");

    let both = flow(graph, &weights, Sizes::new(2, h, w), &Options::default(), &a, &b);
    let second = flow(graph, &weights, pair, &Options::default(), &a[half..], &b[half..]);
    // Not bit by bit: a larger batch may be convolved by another algorithm.
    let d = difference(&both, &[planned, second].concat());
    assert!(d < TOLERANCE, "{name}: a batch differs from its pairs by {d}");
}

#[test]
fn the_plan_equals_the_interpreter_and_a_batch_its_pairs() {
    // One network of each kind: batch norm, a stack with a shared encoder and correlation, depthwise blocks, dense
    // decoders, recurrence.
    for name in ["flownet2-s-bn", "flownet2-cs", "lightflow", "pwcnet", "uflow", "rill"] {
        check(&Model::named(name).unwrap());
    }
}

#[test]
#[ignore = "every network through the plain interpreter takes minutes"]
fn every_network_planned_equals_itself_interpreted() {
    for name in Model::names() {
        check(&Model::named(name).unwrap());
        println!("{name}");
    }
}

#[test]
fn memory_does_not_grow_after_the_first_run() {
    let model = Model::named("pwcnet").unwrap();
    let weights = weights(&model.graph);
    let weights: Vec<&[f32]> = weights.iter().collect();
    let mut plan = Plan::new(&model.graph, &weights, Sizes::new(1, 128, 192), &Options::default()).unwrap();
    let (a, b) = (frames(1, 128, 192, 2), frames(1, 128, 192, 3));
    let mut out = [vec![0.0; 2 * 128 * 192], vec![0.0; 2 * 128 * 192]];
    plan.run(Pixels::Planar(&a), Pixels::Planar(&b), &mut out[0]).unwrap();
    let first = plan.memory();
    for _ in 0..3 {
        plan.run(Pixels::Planar(&a), Pixels::Planar(&b), &mut out[1]).unwrap();
    }
    // Threads take turns at the work: the last of them may start after the first run.
    let later = plan.memory();
    assert_eq!((first.weights, first.activations), (later.weights, later.activations));
    assert!(later.scratch <= first.scratch * (1 + rayon::current_num_threads()), "{first:?} grew to {later:?}");
    assert_eq!(out[0], out[1], "the same frames twice");

    // Values share memory: far less than one buffer for each.
    let shapes = model.graph.shapes(&Sizes::new(1, 128, 192)).unwrap();
    let all: usize = shapes.iter().map(|[n, c, h, w]| 4 * n * c * h * w).sum();
    assert!(later.activations < all / 2, "{} bytes of {all}", later.activations);
}

/// RAFT's recurrent unit, `iterations` times over a context of `context` channels.
fn recurrent(iterations: usize, context: usize) -> Graph {
    let mut net = Builder::new(Naming::Dotted);
    let frames = [Frame::First, Frame::Second].map(|frame| net.frame(frame));
    let both = net.concat("frames", &frames);
    let x = net.affine("unit", both, &[1.0 / 128.0], &[-1.0]);
    let seen = net.conv_leaky("context", x, k(3).out(context));
    let mut h = net.conv("state", x, k(3).out(35));
    let mut flow = net.conv("start", x, k(3).out(2));
    for i in 0..iterations {
        let motion = net.conv_leaky((format!("motion{i}"), "motion"), flow, k(7).out(19));
        let x = net.concat(&format!("x{i}"), &[seen, motion, flow]);
        let hx = net.concat(&format!("hx{i}"), &[h, x]);
        let [z, r] = ["z", "r"].map(|name| {
            let linear = net.conv((format!("{name}{i}.conv"), name), hx, kr(1, 5).out(35));
            net.sigmoid(&format!("{name}{i}"), linear)
        });
        let reset = net.product(&format!("rh{i}"), r, h);
        let rhx = net.concat(&format!("rhx{i}"), &[reset, x]);
        let q = net.conv((format!("q{i}.conv"), "q"), rhx, kr(5, 1).out(35));
        let q = net.tanh(&format!("q{i}"), q);
        h = net.lerp(&format!("h{i}"), h, q, z);
        let update = net.conv((format!("update{i}"), "update"), h, k(3).out(2).gain(0.1));
        flow = net.sum(&format!("flow{i}"), flow, update);
    }
    net.finish(flow, Filter::Bilinear, Grid::HalfPixel, &[flow])
}

#[test]
fn iterations_share_weights_memory_and_what_does_not_change() {
    let (sizes, a, b) = (Sizes::new(2, 24, 40), frames(2, 24, 40, 2), frames(2, 24, 40, 3));
    let of = |iterations, context| {
        let graph = recurrent(iterations, context);
        let weights = weights(&graph);
        let plain = reference::run::<f32>(&graph, &weights, [&a, &b], &sizes).unwrap();
        let planned = flow(&graph, &weights, sizes, &Options::default(), &a, &b);
        let d = difference(&planned, &plain.get(graph.flow.unwrap()).data);
        assert!(d < 1e-4, "{iterations} iterations, {context} channels: off by {d}");
        let weights: Vec<&[f32]> = weights.iter().collect();
        let plan = Plan::new(&graph, &weights, sizes, &Options::default()).unwrap();
        (plan.memory(), plan.profile().gflop)
    };
    for context in [48, 70] {
        let [(few, first), (more, second), (many, third)] = [4, 5, 32].map(|iterations| of(iterations, context));
        assert_eq!(few.weights, many.weights, "{context} channels");
        assert!(many.activations <= few.activations + few.activations / 20, "{few:?} grew to {many:?}");
        assert_eq!(more.weights, many.weights);
        // Every iteration costs the same, and what it has in common with the others is not in it.
        assert!((third - second - 27.0 * (second - first)).abs() < 1e-9 * third, "{first}, {second}, {third}");
        let channels = 35 + 19 + 2 + if context >= 64 { context % 16 } else { context };
        let recurrent = 2.0 * (2 * 24 * 40) as f64 * (channels * 35 * 5 * 3) as f64 / 1e9;
        let rest = 2.0 * (2 * 24 * 40) as f64 * (2 * 19 * 49 + 35 * 2 * 9) as f64 / 1e9;
        assert!((second - first - recurrent - rest).abs() < 1e-6, "{} for {}", second - first, recurrent + rest);
    }
}

#[test]
fn bf16_convolves_what_it_makes_faster_and_never_the_flows() {
    let model = Model::named("flownet2-s").unwrap();
    let weights = weights(&model.graph);
    let weights: Vec<&[f32]> = weights.iter().collect();
    let (a, b) = (frames(1, 64, 128, 2), frames(1, 64, 128, 3));
    let run = |bf16| {
        let options = Options { bf16, ..Options::default() };
        let mut plan = Plan::new(&model.graph, &weights, Sizes::new(1, 64, 128), &options).unwrap();
        let mut flow = vec![f32::NAN; 2 * 64 * 128];
        plan.run(Pixels::Planar(&a), Pixels::Planar(&b), &mut flow).unwrap();
        (flow, plan.profile().layers)
    };
    let (want, layers) = run(None);
    assert!(layers.iter().all(|l| !l.algorithm.contains("bf16")));
    let (got, layers) = run(Some(Bf16::portable()));
    let rounded: Vec<&str> = layers.iter().filter(|l| l.algorithm == "portable bf16").map(|l| &l.name[..]).collect();
    assert!(rounded.len() >= 2, "{rounded:?}");
    assert!(!rounded.iter().any(|n| n.contains("predict") || n.contains("upsampled")), "{rounded:?}");
    // A layer that rounds to 8 digits is off by 2e-3 of its outputs, in the mean; a dozen of them add up.
    let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let worst = want.iter().zip(&got).map(|(w, g)| (w - g).abs()).fold(0.0f32, f32::max);
    assert!(worst > 0.0 && worst < 0.1 * largest, "off by {worst} of {largest}");
}

#[test]
fn frames_of_another_size_are_refused() {
    let model = Model::named("lightflow").unwrap();
    let weights = weights(&model.graph);
    let weights: Vec<&[f32]> = weights.iter().collect();
    let sizes = Sizes::new(1, 64, 64);
    let mut plan = Plan::new(&model.graph, &weights, sizes, &Options::default()).unwrap();
    let (frame, mut out) = (frames(1, 64, 64, 1), vec![0.0; 2 * 64 * 64]);
    let short = &frame[..frame.len() - 1];
    assert!(plan.run(Pixels::Planar(short), Pixels::Planar(&frame), &mut out).is_err());
    assert!(plan.run(Pixels::Planar(&frame), Pixels::Rgb(&[]), &mut out).is_err());
    assert!(plan.run(Pixels::Planar(&frame), Pixels::Planar(&frame), &mut out[1..]).is_err());
    assert!(plan.run(Pixels::Planar(&frame), Pixels::Planar(&frame), &mut out).is_ok());
    assert!(Plan::new(&model.graph, &weights[1..], sizes, &Options::default()).is_err(), "weights of another network");
}

/// Sums behind activations, 1x1 layers with nothing but a sum between them, and a layer of which some outputs are read: one step each.
#[test]
fn sums_products_of_layers_and_choices_are_part_of_the_layers() {
    let mut net = Builder::new(Naming::Dotted);
    let frames_ = [Frame::First, Frame::Second].map(|frame| net.frame(frame));
    let both = net.concat("frames", &frames_);
    let x = net.affine("unit", both, &[1.0 / 128.0], &[-1.0]);
    let x = net.conv_leaky("first", x, k(3).out(40));
    // relu(x + relu(norm(conv(x)))), with batch norm and with instance norm.
    let y = net.conv("second", x, k(3).out(40));
    let y = net.batch_norm("norm", y);
    let y = net.relu("second.relu", y);
    let y = net.sum("second.sum", x, y);
    let x = net.leaky("second.out", y);
    let y = net.conv("third", x, k(3).out(40));
    let y = net.instance_norm("third.norm", y);
    let y = net.relu("third.relu", y);
    let y = net.sum("third.sum", y, x);
    let x = net.relu("third.out", y);
    // last(x + scale * wide(gelu)), 40 channels between 70 and 20.
    let y = net.conv("widen", x, k(1).out(70));
    let y = net.gelu("widened", y);
    let y = net.conv("narrow", y, k(1).out(40));
    let y = net.channel_scale("scale", y);
    let y = net.sum("narrow.sum", x, y);
    let y = net.conv("last", y, k(1).out(20));
    let x = net.tanh("last.tanh", y);
    // Two of six outputs, the other way round.
    let y = net.conv("predicted", x, k(3).out(6));
    let update = net.channels("update", y, &[4, 1]);
    let known = net.channels("known", x, &[3, 7]);
    let y = net.sum("corrected", known, update);
    let graph = net.finish(y, Filter::Bilinear, Grid::HalfPixel, &[y]);

    let (sizes, a, b) = (Sizes::new(2, 24, 40), frames(2, 24, 40, 2), frames(2, 24, 40, 3));
    let weights = weights(&graph);
    let plain = reference::run::<f32>(&graph, &weights, [&a, &b], &sizes).unwrap();
    let plain = &plain.get(graph.flow.unwrap()).data;
    let d = difference(&flow(&graph, &weights, sizes, &Options::default(), &a, &b), plain);
    assert!(d < 1e-4, "off by {d}");
    let weights: Vec<&[f32]> = weights.iter().collect();
    let plan = Plan::new(&graph, &weights, sizes, &Options::default()).unwrap();
    let profile = plan.profile();
    let steps: Vec<&str> = profile.layers.iter().map(|layer| &layer.name[..]).collect();
    let of =
        ["unit", "first", "second.out", "third", "third.out", "widened", "last.tanh", "known", "corrected", "flow"];
    for (step, of) in steps.iter().zip(of) {
        assert!(step.starts_with(of), "{steps:?}");
    }
    assert_eq!(steps.len(), of.len(), "{steps:?}");
}
