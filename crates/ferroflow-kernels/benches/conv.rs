//! `cargo bench -p ferroflow-kernels --bench conv [-- FILTER]`: every layer with the algorithm chosen for it.

mod layers;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferroflow_kernels::conv::Options;

fn conv(c: &mut Criterion) {
    let mut group = c.benchmark_group("conv");
    group.sample_size(10);
    for bench in layers::layers("") {
        let plan = bench.plan(Options::default());
        group.throughput(Throughput::Elements(bench.shape.flop(bench.input) as u64));
        bench.run(&plan, |once| group.bench_function(bench.name, |b| b.iter(&mut *once)));
    }
}

criterion_group!(benches, conv);
criterion_main!(benches);
