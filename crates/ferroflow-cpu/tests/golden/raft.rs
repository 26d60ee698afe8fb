//! RAFT, SEA-RAFT and NeuFlow v2 against their references in double precision. The files are our own, made by `raft/make.py`.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;

use ferroflow_cpu::{Options, Pixels, Plan, reference};
use ferroflow_net::graph::{Op, Sizes};
use ferroflow_net::{Model, Weights};

use super::compare::{INTERMEDIATE, Tolerance, compare};
use super::executor::{Executor, Planned, Reference};
use super::shared::{Array, Input, SEED, read};

/// Of flows of up to 80 px: what single precision loses in 12 iterations is 5e-6 to 2.5e-5 px in the references themselves, in the mean.
/// Winograd's transforms lose more.
const SINGLE: Tolerance = Tolerance::Absolute(1e-2, 5e-4);
/// The constant by which frames are scaled is of single precision.
const DOUBLE: Tolerance = Tolerance::Absolute(1e-3, 5e-5);

/// A set of frames: a batch of two, or one of an odd size.
fn input(network: &str, set: &str) -> Input {
    if network == "neuflow-v2" {
        return Input::set(&["neuflow0"], 128, 160);
    }
    if set == "a" { Input::set(&["raft0", "raft1"], 128, 160) } else { Input::set(&["raft2"], 131, 165) }
}

/// To multiples of 8, the frame in the middle, its border repeated.
fn padded(input: &Input) -> Input {
    let (h, w) = (input.height, input.width);
    let (height, width) = (h.next_multiple_of(8), w.next_multiple_of(8));
    let (top, left) = ((height - h) / 2, (width - w) / 2);
    input.each(height, width, |frame| {
        let at = |i: usize, before: usize, size: usize| i.saturating_sub(before).min(size - 1);
        let planes = frame.chunks_exact(h * w);
        planes
            .flat_map(|p| (0..height * width).map(|i| p[at(i / width, top, h) * w + at(i % width, left, w)]))
            .collect()
    })
}

/// What `padded` added, taken off again.
fn cut(flow: &Array, input: &Input) -> Array {
    let [n, c, height, width] = flow.shape[..] else { panic!("a flow") };
    let (h, w) = (input.height, input.width);
    let (top, left) = ((height - h) / 2, (width - w) / 2);
    let planes = flow.data.chunks_exact(height * width);
    let data = planes.flat_map(|p| (0..h).flat_map(move |y| p[(top + y) * width + left..][..w].to_vec())).collect();
    Array { shape: vec![n, c, h, w], data }
}

/// The arrays of a file, with their names and how far apart their numbers lie.
fn golden(network: &str, set: &str) -> BTreeMap<String, (usize, Vec<f32>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/raft/{network}_{set}.safetensors"));
    let arrays = read(&path).into_iter().map(|(name, array)| {
        let (name, every) = name.split_once("@every").unwrap();
        (name.to_string(), (every.parse().unwrap(), array.data))
    });
    arrays.collect()
}

/// Compares what an executor keeps of a network of so many iterations.
fn check(executor: &dyn Executor, network: &str, iterations: usize, set: &str, tolerance: Tolerance) {
    let model = Model::parse(network, [format!("iterations={iterations}")]).unwrap();
    let (whole, is_sea) = (input(network, set), network.starts_with("sea"));
    let values = executor.run(&model, &Weights::formula(&model, SEED), &padded(&whole));
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (name, (every, theirs)) in golden(network, set) {
        let number = |of: &str| name.strip_prefix(of).and_then(|n| n.parse::<usize>().ok());
        let (node, tolerance) = match (number("flow"), number("corr")) {
            (Some(i), _) if i <= iterations => (format!("iteration{i}.pixels"), tolerance),
            (_, Some(i)) if i <= iterations => (format!("iteration{i}.costs"), INTERMEDIATE),
            (None, None) => {
                let node = match (&name[..], is_sea) {
                    ("fmaps", _) => "fnet.conv2",
                    ("attended", _) => "cross_attn_s16.norm",
                    ("matched", _) => "matched",
                    ("merged", _) => "merge_s8.3",
                    ("context", false) => "cnet.conv2",
                    ("context", true) => "init_conv",
                    _ => panic!("nobody knows {name}"),
                };
                (node.to_string(), INTERMEDIATE)
            }
            _ => continue,
        };
        // The plan's flow is that of the last iteration; its pyramid has SEA-RAFT's flows among what else it predicts.
        let ours = match values(&node) {
            Some(ours) => ours,
            None if number("flow") == Some(iterations) => values("flow").unwrap(),
            None => continue,
        };
        let ours = if is_sea && name.starts_with("flow") { cut(&ours, &whole) } else { ours };
        let ours: Vec<f32> = ours.data.into_iter().step_by(every).take(theirs.len()).collect();
        wrong
            .extend(compare(&format!("{network} {set} {name} ({})", executor.name()), &ours, &theirs, tolerance).err());
        compared += 1;
    }
    assert!(compared > 0, "{network} {set} compares nothing");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Matching is the softmax of large numbers: what single precision loses of them grows from iteration to iteration.
#[test]
fn neuflow() {
    check(&Reference::<f64>(PhantomData), "neuflow-v2", 2, "a", DOUBLE);
    check(&Planned { exact: false }, "neuflow-v2", 8, "a", Tolerance::Absolute(0.1, 5e-3));
}

#[test]
fn by_the_plan() {
    for set in ["a", "odd"] {
        for network in ["raft", "raft-small"] {
            check(&Planned { exact: false }, network, 12, set, SINGLE);
        }
        for network in ["sea-raft-s", "sea-raft-m"] {
            check(&Planned { exact: false }, network, 4, set, SINGLE);
        }
    }
}

/// 32 iterations multiply roundings: in the references' own single precision 1.7e-5 px in the mean.
#[test]
fn by_the_plan_in_many_iterations() {
    check(&Planned { exact: false }, "raft-small", 32, "a", Tolerance::Absolute(5e-2, 2e-3));
    check(&Planned { exact: false }, "sea-raft-s", 12, "a", Tolerance::Absolute(5e-2, 2e-3));
}

#[test]
fn by_the_interpreter() {
    check(&Reference::<f32>(PhantomData), "raft-small", 12, "odd", SINGLE);
}

#[test]
fn by_the_interpreter_in_double_precision() {
    check(&Reference::<f64>(PhantomData), "raft-small", 4, "a", DOUBLE);
    check(&Reference::<f64>(PhantomData), "raft", 2, "odd", DOUBLE);
    check(&Reference::<f64>(PhantomData), "sea-raft-s", 1, "odd", DOUBLE);
}

/// Without anything kept, as users run it: flows of the iterations before the last are not upsampled.
#[test]
fn a_plan_computes_the_last_flow_only() {
    let steps = |network: &str, iterations: usize| {
        let model = Model::parse(network, [format!("iterations={iterations}")]).unwrap();
        let weights = Weights::random(&model.graph, 1);
        let weights: Vec<&[f32]> = weights.iter().collect();
        let plan = Plan::new(&model.graph, &weights, Sizes::new(1, 64, 72), &Options::default()).unwrap();
        let steps: Vec<String> = plan.profile().layers.into_iter().map(|layer| layer.algorithm).collect();
        let of = |what: &str| steps.iter().filter(|step| *step == what).count();
        (of("lookup"), of("convex upsampling"))
    };
    assert_eq!(steps("raft", 3), (3, 1));
    assert_eq!(steps("raft-small", 5), (5, 0));
    assert_eq!(steps("sea-raft-s", 2), (2, 1));
}

/// Frames so small that coarse levels have one pixel or none: nothing is divided by their sizes.
#[test]
fn tiny_frames_have_flows() {
    for network in ["raft", "raft-small", "sea-raft-s", "neuflow-v2"] {
        let model = Model::parse(network, ["iterations=3"]).unwrap();
        let weights = Weights::formula(&model, SEED);
        let weights: Vec<&[f32]> = weights.iter().collect();
        for (height, width) in [(8, 8), (16, 16), (24, 40), (64, 48), (120, 8)] {
            if height % model.stride + width % model.stride > 0 {
                continue;
            }
            let input = Input::set(&["tiny"], height, width);
            let mut plan =
                Plan::new(&model.graph, &weights, Sizes::new(1, height, width), &Options::default()).unwrap();
            let mut flow = vec![f32::NAN; 2 * height * width];
            let [first, second] = &input.frames;
            plan.run(Pixels::Planar(first), Pixels::Planar(second), &mut flow).unwrap();
            assert!(flow.iter().all(|v| v.is_finite()), "{network} {height} x {width}");
            assert!(flow.iter().any(|v| *v != 0.0), "{network} {height} x {width}");
        }
    }
}

/// As if the flow stood in the graph in place of its zeros; and only once.
#[test]
fn the_plan_starts_from_a_flow() {
    let model = Model::parse("raft-small", ["iterations=2"]).unwrap();
    let weights = Weights::formula(&model, SEED);
    let input = Input::set(&["raft0", "raft1"], 64, 72);
    let ([first, second], sizes) = (&input.frames, Sizes::new(2, 64, 72));
    // Two of the features are some flow.
    let (mut graph, node) = (model.graph.clone(), model.graph.initial.unwrap());
    graph.nodes[node.0 as usize].op = Op::Channels(vec![3, 8]);
    let values = reference::run::<f32>(&graph, &weights, [first, second], &sizes).unwrap();
    let (start, expected) = (&values.get(node).data, &values.get(graph.flow.unwrap()).data);

    let weights: Vec<&[f32]> = weights.iter().collect();
    let mut plan = Plan::new(&model.graph, &weights, sizes, &Options::default()).unwrap();
    let mut run = |start: Option<&[f32]>| {
        if let Some(start) = start {
            plan.start_from(start).unwrap();
        }
        let mut flow = vec![f32::NAN; expected.len()];
        plan.run(Pixels::Planar(first), Pixels::Planar(second), &mut flow).unwrap();
        flow
    };
    let plain = run(None);
    let started = run(Some(start));
    compare("started", &started, expected, SINGLE).unwrap();
    assert!(compare("plain", &plain, expected, SINGLE).is_err(), "the flow makes a difference");
    assert_eq!(run(None), plain, "the next run starts from zero again");
    assert!(plan.start_from(&start[1..]).is_err());

    let other = Model::named("lightflow-0.5").unwrap().graph;
    let weights = Weights::random(&other, 1);
    let weights: Vec<&[f32]> = weights.iter().collect();
    let mut plan = Plan::new(&other, &weights, Sizes::new(1, 64, 64), &Options::default()).unwrap();
    assert!(plan.start_from(&[0.0; 128]).is_err(), "it starts from none");
}
