//! `cargo bench -p ferroflow-cpu --bench networks [-- FILTER]`: two decoded frames of 448 x 1024 to flow, random weights.

use criterion::{Criterion, criterion_group, criterion_main};
use ferroflow_cpu::{Options, Pixels, Plan};
use ferroflow_net::{Model, graph::Sizes, weights::Weights};

fn networks(c: &mut Criterion) {
    let (height, width) = (448, 1024);
    let frame: Vec<u8> = (0..height * width * 3).map(|i| (i * 7919 % 256) as u8).collect();
    let mut flow = vec![0.0; 2 * height * width];
    let mut group = c.benchmark_group("network");
    group.sample_size(10);
    for name in ["flownet2-s", "flownet2-c", "flownet2", "pwcnet", "pwcnet-lg-6-2", "uflow", "lightflow"] {
        // The plan is made when its benchmark is chosen: those of all networks would not fit into memory together.
        let mut plan = None;
        group.bench_function(name, |b| {
            let plan = plan.get_or_insert_with(|| {
                let model = Model::named(name).unwrap_or_else(|e| panic!("{e}"));
                let weights = Weights::random(&model.graph, 1);
                let weights: Vec<&[f32]> = weights.iter().collect();
                Plan::new(&model.graph, &weights, Sizes::new(1, height, width), &Options::default())
                    .unwrap_or_else(|e| panic!("{e}"))
            });
            b.iter(|| plan.run(Pixels::Rgb(&[&frame]), Pixels::Rgb(&[&frame]), &mut flow));
        });
    }
}

criterion_group!(benches, networks);
criterion_main!(benches);
