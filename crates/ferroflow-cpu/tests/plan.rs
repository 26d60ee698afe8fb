//! The plan against itself: fused against unfused, batches against single pairs, and its memory.

use ferroflow_cpu::{Options, Pixels, Plan};
use ferroflow_net::{
    Graph, Model, NodeId,
    graph::{ParamRole, Sizes},
};

/// Uniform in -1..1 (SplitMix64).
fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Weights that keep the scale of activations from layer to layer.
fn weights(graph: &Graph) -> Vec<Vec<f32>> {
    let mut state = 1;
    graph
        .params
        .iter()
        .map(|p| {
            let fan_in = (p.shape.iter().skip(1).product::<usize>() as f32).max(1.0);
            let mut value = |role| {
                let x = random(&mut state);
                match role {
                    ParamRole::ConvWeight | ParamRole::DeconvWeight => x * (6.0 / fan_in).sqrt(),
                    ParamRole::NormScale | ParamRole::NormVariance => 1.0 + 0.3 * x,
                    _ => 0.1 * x,
                }
            };
            (0..p.len()).map(|_| value(p.role)).collect()
        })
        .collect()
}

fn frames(batch: usize, height: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..batch * 3 * height * width).map(|_| (127.5 * (1.0 + random(&mut state))).round()).collect()
}

fn flow(graph: &Graph, weights: &[Vec<f32>], sizes: Sizes, options: &Options, a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut plan = Plan::new(graph, weights, sizes, options).unwrap();
    let mut out = vec![f32::NAN; sizes.batch * 2 * sizes.output.height * sizes.output.width];
    plan.run(Pixels::Planar(a), Pixels::Planar(b), &mut out).unwrap();
    out
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs() / b.abs().max(1.0))
        .fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

#[test]
fn fused_equals_unfused_and_a_batch_its_pairs() {
    // One network of each kind: batch norm, a stack with a shared encoder and correlation, depthwise blocks, dense decoders.
    let small = ["flownet2-s-bn", "flownet2-cs", "lightflow", "pwcnet", "uflow"];
    for name in Model::names().filter(|n| small.contains(n)) {
        let model = Model::named(name).unwrap();
        let (graph, weights) = (&model.graph, weights(&model.graph));
        let (h, w) = (model.stride.max(model.min_size.height), 2 * model.stride.max(model.min_size.width));
        let (a, b) = (frames(2, h, w, 2), frames(2, h, w, 3));
        let pair = Sizes::new(1, h, w);
        let half = a.len() / 2;

        let fused = flow(graph, &weights, pair, &Options::default(), &a[..half], &b[..half]);
        let keep = (0..graph.nodes.len() as u32).map(NodeId).collect();
        let every = flow(graph, &weights, pair, &Options { keep, ..Options::default() }, &a[..half], &b[..half]);
        let d = largest_difference(&fused, &every);
        // Rounding alone, a few times over: batch norm and warps amplify it.
        assert!(d < 1e-3, "{name}: fused differs from unfused by {d}");

        let both = flow(graph, &weights, Sizes::new(2, h, w), &Options::default(), &a, &b);
        let second = flow(graph, &weights, pair, &Options::default(), &a[half..], &b[half..]);
        let d = largest_difference(&both, &[fused, second].concat());
        assert!(d == 0.0, "{name}: a batch differs from its pairs by {d}");
    }
}
