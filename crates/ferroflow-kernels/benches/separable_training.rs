//! `cargo bench -p ferroflow-kernels --bench separable_training [-- FILTER]`: the blocks of LightFlow in training, forward
//! and backward, at a batch of 8 frames of 320x448.

mod separable_blocks;

use criterion::{Criterion, criterion_group, criterion_main};

fn blocks(c: &mut Criterion) {
    for pass in ["forward", "backward"] {
        let mut group = c.benchmark_group(format!("separable training {pass}"));
        group.sample_size(10);
        for block in separable_blocks::BLOCKS {
            let mut run = separable_blocks::Run::new(block);
            run.forward();
            group.bench_function(block.name, |b| {
                b.iter(|| if pass == "forward" { run.forward() } else { run.backward() });
            });
        }
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
