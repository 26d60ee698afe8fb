//! RAFT's lookup: the interpreter against the steps of its `CorrBlock`, which builds the volume of all products and averages that.

use ferroflow_cpu::reference::{self, Tensor};
use ferroflow_net::Weights;
use ferroflow_net::graph::{Graph, Lookup, Op, Sizes};
use ferroflow_net::weights::formula::Stream;

/// Channels, radius, levels, and images, rows and columns: of RAFT and RAFT-small, odd sizes, levels without a pixel.
const CASES: [(usize, usize, usize, [usize; 3]); 5] =
    [(8, 4, 4, [1, 16, 19]), (5, 3, 4, [2, 9, 8]), (3, 1, 2, [1, 5, 7]), (4, 2, 3, [1, 3, 2]), (2, 4, 4, [1, 1, 1])];

/// `CorrBlock` of RAFT in its own steps: `fmap1^T fmap2 / sqrt(dim)`; `avg_pool2d(corr, 2, stride=2)` over the second map's pixels;
/// `centroid / 2^i + delta`, with `delta = meshgrid(dy, dx)` added to (x, y) as it is; and `grid_sample` with corners aligned,
/// zeros outside.
fn corr_block(maps: [&[f64]; 2], flow: &[f64], lookup: Lookup, channels: usize, [n, h, w]: [usize; 3]) -> Vec<f64> {
    let side = lookup.side();
    let mut out = vec![0.0; n * lookup.channels() * h * w];
    for (image, p) in (0..n).flat_map(|image| (0..h * w).map(move |p| (image, p))) {
        let at = |map: &[f64], c: usize, q: usize| map[(image * channels + c) * h * w + q];
        let product = |q| (0..channels).map(|c| at(maps[0], c, p) * at(maps[1], c, q)).sum::<f64>();
        let mut corr: Vec<f64> = (0..h * w).map(|q| product(q) / (channels as f64).sqrt()).collect();
        let (mut rows, mut columns) = (h, w);
        for level in 0..lookup.levels {
            if level > 0 {
                let (half, narrow) = (rows / 2, columns / 2);
                let mean = |i: usize| {
                    let first = i / narrow * 2 * columns + i % narrow * 2;
                    [0, 1, columns, columns + 1].iter().map(|step| corr[first + step]).sum::<f64>() / 4.0
                };
                corr = (0..half * narrow).map(mean).collect();
                (rows, columns) = (half, narrow);
            }
            let sample = |y: f64, x: f64| {
                let mut sum = 0.0;
                for (qy, qx) in
                    [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)].map(|(j, i)| (y.floor() + j, x.floor() + i))
                {
                    let weight = (1.0 - (y - qy).abs()) * (1.0 - (x - qx).abs());
                    if qy >= 0.0 && qy < rows as f64 && qx >= 0.0 && qx < columns as f64 {
                        sum += weight * corr[qy as usize * columns + qx as usize];
                    }
                }
                sum
            };
            let centre = [0, 1].map(|c| {
                let own = if c == 0 { p % w } else { p / w };
                (own as f64 + flow[(image * 2 + c) * h * w + p]) / f64::from(1 << level)
            });
            for (i, j) in (0..side).flat_map(|i| (0..side).map(move |j| (i, j))) {
                let [dx, dy] = [i, j].map(|d| d as f64 - lookup.radius as f64);
                let channel = (level * side + i) * side + j;
                out[(image * lookup.channels() + channel) * h * w + p] = sample(centre[1] + dy, centre[0] + dx);
            }
        }
    }
    out
}

#[test]
fn the_interpreter_does_what_raft_does() {
    for (channels, radius, levels, size @ [n, h, w]) in CASES {
        let tensor = |name: &str, channels: usize, spread: f64| {
            let shape = [n, channels, h, w];
            let values = Stream::new("lookup", name).tensor(shape.iter().product(), spread, 0.0);
            Tensor::<f64>::from_f32(shape, &values).unwrap()
        };
        let (first, second, flow) =
            (tensor("first", channels, 1.0), tensor("second", channels, 1.0), tensor("flow", 2, 6.0));
        let lookup = Lookup { radius, levels };
        let none = Weights::new(&Graph::default(), []).unwrap();
        let inputs = [&first, &second, &flow];
        let ours = reference::apply(&Op::Lookup(lookup), &inputs, &none, &Sizes::new(n, h, w)).unwrap();
        let theirs = corr_block([&first.data, &second.data], &flow.data, lookup, channels, size);
        assert_eq!(ours.shape, [n, levels * (2 * radius + 1).pow(2), h, w]);
        for (i, (a, b)) in ours.data.iter().zip(&theirs).enumerate() {
            assert!((a - b).abs() < 1e-12, "{lookup:?}, {n} of {h} x {w}: value {i} is {a} instead of {b}");
        }
        let apply = |op: Lookup, inputs: &[&Tensor<f64>]| {
            reference::apply(&Op::Lookup(op), inputs, &none, &Sizes::new(n, h, w))
        };
        assert!(apply(lookup, &[&first, &second]).is_err(), "without a flow");
        if channels != 2 {
            assert!(apply(lookup, &[&first, &second, &first]).is_err(), "features are no flow");
        }
        assert!(apply(Lookup { radius: 8, levels }, &inputs).is_err(), "wider than a vector");
        assert!(apply(Lookup { radius, levels: 0 }, &inputs).is_err(), "without a level");
    }
}
