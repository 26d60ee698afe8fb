//! `cargo bench -p ferroflow-kernels --bench training [-- FILTER]`: the products of a training step of layers that decide
//! its time: new weights, forward, input gradient, weight gradient.

mod layers;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferroflow_kernels::{
    Blocks, BlocksMut, Buffer, Scratch, Update,
    conv::{Activation, Options, training::ConvTraining},
};

const LAYERS: &[&str] = &[
    "256->256 k3 56x128",
    "128->128 k3 112x256",
    "512->512 k3 14x32",
    "64->128 k5 s2 224x512",
    "128->256 k5 s2 112x256",
    "256->512 k3 s2 56x128",
    "6->64 k7 s2 448x1024",
    "T 386->64 k4 s2 56x128",
    "128->128 k3 d4 112x256",
    "565->2 k3 112x256",
];

fn training(c: &mut Criterion) {
    let mut group = c.benchmark_group("training");
    group.sample_size(10);
    for bench in LAYERS.iter().flat_map(|name| layers::layers(name)) {
        let layer = bench.layer();
        let mut plan = ConvTraining::new(bench.shape, bench.input, layer.lanes, true, Options::default());
        let scratch = Scratch::new();
        let extent = plan.output();
        let buffers = |count: usize, len: usize| vec![Buffer::zeroed(len); count];
        let (mut x, mut dx) = (bench.source(), bench.source());
        let mut y = buffers(bench.shape.out_channels.div_ceil(16), extent.len());
        let dy = y.clone();
        let mut dw = vec![0.0; layer.weight.len()];
        let planes: Vec<&[f32]> = x.iter_mut().map(|b| &b[..]).collect();
        let x = Blocks { extent: bench.input, planes: &planes };
        let planes: Vec<&[f32]> = dy.iter().map(|b| &b[..]).collect();
        let dy = Blocks { extent, planes: &planes };
        let mut y: Vec<&mut [f32]> = y.iter_mut().map(|b| &mut b[..]).collect();
        let mut dx: Vec<&mut [f32]> = dx.iter_mut().map(|b| &mut b[..]).collect();

        group.throughput(Throughput::Elements(bench.shape.flop(bench.input) as u64));
        let name = |product: &str| format!("{}/{product}", bench.name);
        group.bench_function(name("weights"), |b| b.iter(|| plan.set_weights(layer.weight, None)));
        group.bench_function(name("forward"), |b| {
            let mut output = BlocksMut { extent, planes: &mut y };
            b.iter(|| plan.forward(x, Activation::LeakyRelu(0.1), &mut output, &scratch));
        });
        group.bench_function(name("input gradient"), |b| {
            let mut d_input = BlocksMut { extent: bench.input, planes: &mut dx };
            b.iter(|| plan.input_gradient(dy, Update::Overwrite, &mut d_input, &scratch));
        });
        group.bench_function(name("weight gradient"), |b| {
            b.iter(|| plan.weight_gradient(x, dy, &mut dw, &scratch));
        });
    }
}

criterion_group!(benches, training);
criterion_main!(benches);
