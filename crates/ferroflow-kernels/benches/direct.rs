//! `cargo bench -p ferroflow-kernels --bench direct [-- FILTER]`: layers without Winograd and LightFlow's separable
//! blocks, beside the register tile in cache, which is what one core can do at most.

mod layers;
mod separable;
mod tile;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferroflow_kernels::{Isa, conv::Options};

fn register_tile(c: &mut Criterion) {
    let mut group = c.benchmark_group("register tile");
    for isa in Isa::available() {
        let mut tile = tile::Tile::new(isa);
        group.throughput(Throughput::Elements(tile.flop()));
        group.bench_function(isa.name(), |b| b.iter(|| tile.run()));
    }
}

fn direct(c: &mut Criterion) {
    let mut group = c.benchmark_group("direct");
    group.sample_size(10);
    for bench in layers::layers("") {
        let plan = bench.plan(Options { exact: true, ..Options::default() });
        group.throughput(Throughput::Elements(bench.shape.flop(bench.input) as u64));
        bench.run(&plan, |once| group.bench_function(bench.name, |b| b.iter(&mut *once)));
    }
}

fn separable(c: &mut Criterion) {
    let mut group = c.benchmark_group("separable");
    group.sample_size(20);
    for block in separable::BLOCKS {
        group.throughput(Throughput::Elements(block.flop()));
        block.run(|once| group.bench_function(block.name, |b| b.iter(&mut *once)));
    }
}

criterion_group!(benches, register_tile, direct, separable);
criterion_main!(benches);
