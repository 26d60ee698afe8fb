//! What a plan keeps of frames that it sees again: the flow is that of a plan which has seen nothing.

use ferroflow_cpu::{Options, Pixels, Plan};
use ferroflow_net::{
    Graph, Model, Weights,
    graph::{ByFrame, Size, Sizes},
};

const SIZE: Size = Size { height: 64, width: 128 };

/// A frame of noise.
fn frame(seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..3 * SIZE.pixels()).map(|_| next()).collect()
}

fn plan(graph: &Graph, weights: &Weights, twins: &ByFrame) -> Plan {
    let weights: Vec<&[f32]> = weights.iter().collect();
    let options = Options { twins: twins.twins.clone(), profile: true, ..Options::default() };
    Plan::new(graph, &weights, Sizes::new(1, SIZE.height, SIZE.width), &options).unwrap()
}

fn run(plan: &mut Plan, [first, second]: [&[u8]; 2]) -> Vec<f32> {
    let mut flow = vec![f32::NAN; 2 * SIZE.pixels()];
    plan.run(Pixels::Rgb(&[first]), Pixels::Rgb(&[second]), &mut flow).unwrap();
    flow
}

/// How many steps the runs since the last reset computed.
fn steps_run(plan: &Plan) -> usize {
    plan.profile().layers.iter().filter(|layer| layer.seconds > 0.0).count()
}

fn model(name: &str) -> Model {
    match name {
        "raft" | "raft-small" | "neuflow-v2" => Model::parse(name, ["iterations=2"]).unwrap(),
        _ => Model::named(name).unwrap(),
    }
}

/// Both directions, a video, a frame that stands still, one that changes by a pixel, a jump.
fn visits(frames: &[Vec<u8>]) -> Vec<[&[u8]; 2]> {
    let order = [[0, 1], [1, 0], [1, 2], [2, 1], [2, 2], [2, 3], [3, 0], [4, 0], [0, 4], [4, 0], [4, 0], [1, 2]];
    order.map(|pair| pair.map(|i: usize| &frames[i][..])).to_vec()
}

fn frames() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = (0..5).map(frame).collect();
    frames[4] = frames[3].clone();
    *frames[4].last_mut().unwrap() ^= 1;
    frames
}

#[test]
fn flows_are_those_of_frames_never_seen_to_the_last_bit() {
    let frames = frames();
    let names = ["pwcnet", "uflow", "rill", "pwcnet-sm", "raft", "raft-small", "sea-raft-s", "neuflow-v2"];
    for name in names {
        let model = model(name);
        let weights = Weights::random(&model.graph, 3);
        let by_frame = ByFrame::of(&model.graph);
        let mut keeps = plan(&by_frame.graph, &weights, &by_frame);
        let mut forgets = plan(&by_frame.graph, &weights, &by_frame);
        for (i, pair) in visits(&frames).into_iter().enumerate() {
            forgets.forget_frames();
            let (found, expected) = (run(&mut keeps, pair), run(&mut forgets, pair));
            assert!(expected.iter().all(|v| v.is_finite()), "{name}");
            assert!(found == expected, "{name}: visit {i} differs");
        }
    }
}

#[test]
fn what_is_known_is_not_computed() {
    let frames = frames();
    let visits = visits(&frames);
    for (name, from) in [("pwcnet", 0.7), ("rill", 0.95), ("raft-small", 0.7), ("sea-raft-s", 0.9)] {
        let model = model(name);
        let weights = Weights::random(&model.graph, 3);
        let by_frame = ByFrame::of(&model.graph);
        let mut plan = plan(&by_frame.graph, &weights, &by_frame);
        let counts: Vec<usize> = visits
            .iter()
            .map(|&pair| {
                plan.reset_profile();
                run(&mut plan, pair);
                steps_run(&plan)
            })
            .collect();
        let [all, back, next] = [counts[0], counts[1], counts[2]];
        println!("{name}: {counts:?}, {:?}", plan.memory());
        assert!(back < next && next < all, "{name}: {counts:?}");
        assert!((back as f64) < from * all as f64, "{name}: {counts:?}");
        // The same pair again, a frame that stands still, two new frames.
        assert!(counts[10] <= back && counts[4] < all, "{name}: {counts:?}");
        assert_eq!(counts[11], all, "{name}");
    }
}

#[test]
fn a_frame_in_other_numbers_is_another_frame() {
    let model = model("raft-small");
    let weights = Weights::random(&model.graph, 3);
    let by_frame = ByFrame::of(&model.graph);
    let mut plan = plan(&by_frame.graph, &weights, &by_frame);
    let frames = frames();
    let planar = |frame: &[u8]| -> Vec<f32> {
        (0..3).flat_map(|c| frame.iter().skip(c).step_by(3).map(|&v| f32::from(v))).collect()
    };
    let [mut first, second] = [planar(&frames[0]), planar(&frames[1])];
    let planar_run = |plan: &mut Plan, first: &[f32]| {
        let mut flow = vec![f32::NAN; 2 * SIZE.pixels()];
        plan.run(Pixels::Planar(first), Pixels::Planar(&second), &mut flow).unwrap();
        flow
    };
    run(&mut plan, [&frames[0], &frames[1]]);
    for change in [0.0, 0.5] {
        first[0] += change;
        let found = planar_run(&mut plan, &first);
        plan.forget_frames();
        assert_eq!(found, planar_run(&mut plan, &first));
    }
}
