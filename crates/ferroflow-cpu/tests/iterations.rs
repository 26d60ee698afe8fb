//! Iterations that are left out: the flow is that of a network which never had them.

use std::collections::BTreeSet;

use ferroflow_cpu::{Options, Pixels, Plan};
use ferroflow_net::{
    Graph, Model, Weights,
    graph::{ByFrame, Sizes},
};

const ITERATIONS: usize = 5;
const HEIGHT: usize = 64;
const WIDTH: usize = 128;
/// From so many iterations on a plan sums what they have in common by itself; with fewer the last digits differ.
const IN_COMMON: usize = 3;

/// Smooth frames of a batch, RGB, planar.
fn frames(batch: usize, shift: usize) -> Vec<f32> {
    let value = |i: usize| {
        let (x, y, plane) = ((i % WIDTH + shift) as f32, (i / WIDTH % HEIGHT) as f32, (i / WIDTH / HEIGHT) as f32);
        (127.0 + 80.0 * (0.31 * x + plane).sin() * (0.23 * y - 0.1 * x).cos()).round()
    };
    (0..3 * batch * HEIGHT * WIDTH).map(value).collect()
}

fn network(name: &str, iterations: usize) -> Graph {
    Model::parse(name, [format!("iterations={iterations}")]).unwrap().graph
}

fn plan(graph: &Graph, weights: &Weights, batch: usize) -> Plan {
    let by_frame = ByFrame::of(graph);
    let weights: Vec<&[f32]> = weights.iter().collect();
    let (graph, twins) = if batch == 1 { (&by_frame.graph, by_frame.twins) } else { (graph, Vec::new()) };
    Plan::new(graph, &weights, Sizes::new(batch, HEIGHT, WIDTH), &Options { twins, ..Options::default() }).unwrap()
}

fn run(plan: &mut Plan, first: &[f32], second: &[f32]) -> Vec<f32> {
    let mut flow = vec![f32::NAN; first.len() / 3 * 2];
    plan.run(Pixels::Planar(first), Pixels::Planar(second), &mut flow).unwrap();
    flow
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    let scale = b.iter().fold(1.0f32, |largest, v| largest.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max)
}

#[test]
fn the_flow_is_that_of_so_many_iterations() {
    for name in ["raft", "raft-small", "sea-raft-s", "neuflow-v2"] {
        let model = Model::parse(name, [format!("iterations={ITERATIONS}")]).unwrap();
        let weights = Weights::formula(&model, "ferroflow-golden");
        for batch in [1, 2] {
            let (first, second) = (frames(batch, 0), frames(batch, 3));
            let mut shortened = plan(&model.graph, &weights, batch);
            let by_count: Vec<Vec<f32>> = (1..=ITERATIONS)
                .map(|iterations| run(&mut plan(&network(name, iterations), &weights, batch), &first, &second))
                .collect();
            assert_eq!(run(&mut shortened, &first, &second), by_count[ITERATIONS - 1], "{name}: no bound");
            let mut met = BTreeSet::new();
            for exponent in -60..20 {
                shortened.stop_below(f32::powf(1.5, exponent as f32)).unwrap();
                let flow = run(&mut shortened, &first, &second);
                let done = shortened.iterations().unwrap();
                met.insert(done);
                let expected = &by_count[done - 1];
                if done >= IN_COMMON {
                    assert!(flow == *expected, "{name}, batch {batch}: {done} iterations");
                } else {
                    let difference = largest_difference(&flow, expected);
                    assert!(difference < 1e-4, "{name}, batch {batch}: {done} iterations differ by {difference}");
                }
            }
            println!("{name}, batch {batch}: {met:?} iterations");
            assert!(met.contains(&1) && met.contains(&ITERATIONS), "{name}: {met:?}");
            // The other direction, after a run that was cut short.
            shortened.stop_below(f32::MAX).unwrap();
            let back = run(&mut shortened, &second, &first);
            let expected = run(&mut plan(&network(name, 1), &weights, batch), &second, &first);
            assert!(largest_difference(&back, &expected) < 1e-4, "{name}, batch {batch}: back");
        }
    }
}

/// The bound is the mean length of the update in pixels of the frames, of the pair that moves most.
#[test]
fn the_bound_is_a_mean_in_pixels() {
    let model = Model::parse("raft-small", ["iterations=3"]).unwrap();
    let weights = Weights::formula(&model, "ferroflow-golden");
    let flow_of = |iterations: usize, batch: usize| {
        let graph = network("raft-small", iterations);
        let node = graph.find(&format!("flow{iterations}")).unwrap();
        let values: Vec<&[f32]> = weights.iter().collect();
        let options = Options { keep: vec![node], ..Options::default() };
        let mut plan = Plan::new(&graph, &values, Sizes::new(batch, HEIGHT, WIDTH), &options).unwrap();
        run(&mut plan, &frames(batch, 0), &frames(batch, 3));
        plan.value(node).unwrap()
    };
    let pixels = HEIGHT * WIDTH / 64;
    let mean = |before: &[f32], after: &[f32]| {
        let length = |i: usize| (8.0 * (after[i] - before[i])).hypot(8.0 * (after[pixels + i] - before[pixels + i]));
        (0..pixels).map(length).sum::<f32>() / pixels as f32
    };
    let first = flow_of(1, 2);
    let of_pair = |pair: usize| mean(&vec![0.0; 2 * pixels], &first[2 * pixels * pair..][..2 * pixels]);
    let largest = of_pair(0).max(of_pair(1));
    assert!(largest > 0.01, "{largest}");
    let mut plan = plan(&model.graph, &weights, 2);
    for (bound, stops) in [(0.999 * largest, false), (1.001 * largest, true)] {
        plan.stop_below(bound).unwrap();
        run(&mut plan, &frames(2, 0), &frames(2, 3));
        assert_eq!(plan.iterations() == Some(1), stops, "{bound}");
    }
}

#[test]
fn a_network_without_iterations_refuses_a_bound() {
    let model = Model::named("pwcnet-sm").unwrap();
    let mut plan = plan(&model.graph, &Weights::random(&model.graph, 1), 1);
    assert!(plan.stop_below(1.0).unwrap_err().to_string().contains("no iterations"));
    assert_eq!(plan.iterations(), None);
}
