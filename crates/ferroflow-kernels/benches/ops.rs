//! `cargo bench -p ferroflow-kernels --bench ops [-- FILTER]`: correlation, warp, resize, packing of frames.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ferroflow_kernels::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, Scratch,
    conv::Activation,
    correlation::Correlation,
    layout::to_blocks,
    pack::{Pixels, Source, pack_narrow},
    resize::{Resize, Sampling},
    warp::{Axes, Border, warp},
};

/// A value of smooth numbers in -1..1.
fn value(channels: usize, extent: Extent) -> Vec<Buffer> {
    let planar: Vec<f32> = (0..channels * extent.n * extent.h * extent.w).map(|i| (i as f32 * 0.37).sin()).collect();
    to_blocks(&planar, channels, extent)
}

fn read(buffers: &[Buffer]) -> Vec<&[f32]> {
    buffers.iter().map(|b| &b[..]).collect()
}

fn write(buffers: &mut [Buffer], extent: Extent, f: impl FnOnce(&mut BlocksMut<'_, '_>)) {
    let mut planes: Vec<&mut [f32]> = buffers.iter_mut().map(|b| &mut b[..]).collect();
    f(&mut BlocksMut { extent, planes: &mut planes });
}

/// PWC-Net's five levels and FlowNetC's, at 448 x 1024.
fn correlation(c: &mut Criterion) {
    let mut group = c.benchmark_group("correlation");
    let levels =
        [(32, 112, 256, 4, 1), (64, 56, 128, 4, 1), (96, 28, 64, 4, 1), (128, 14, 32, 4, 1), (196, 7, 16, 4, 1)];
    for (channels, h, w, max, stride) in levels.into_iter().chain([(256, 56, 128, 20, 2)]) {
        let extent = Extent { n: 1, h, w };
        let (a, b) = (value(channels, extent), value(channels, extent));
        let plan = Correlation::new(extent, channels, max, stride, Activation::LeakyRelu(0.1));
        let mut work = Buffer::zeroed(plan.work_len());
        let mut out = vec![Buffer::zeroed(extent.len()); plan.displacements().div_ceil(LANES)];
        let (scratch, a, b) = (Scratch::new(), read(&a), read(&b));
        let features = [Blocks { extent, planes: &a }, Blocks { extent, planes: &b }];
        group.throughput(Throughput::Elements(plan.flop() as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{channels}x{h}x{w}")), |b| {
            b.iter(|| write(&mut out, extent, |out| plan.run(Isa::detect(), features, out, &mut work, &scratch)));
        });
    }
}

fn warps(c: &mut Criterion) {
    let mut group = c.benchmark_group("warp");
    for channels in [32, 64, 128] {
        let extent = Extent { n: 1, h: 112, w: 256 };
        let (image, flow) = (value(channels, extent), value(2, extent));
        let mut out = vec![Buffer::zeroed(extent.len()); channels.div_ceil(LANES)];
        let (image, flow) = (read(&image), read(&flow));
        let (image, flow) = (Blocks { extent, planes: &image }, Blocks { extent, planes: &flow });
        let axes = Axes { x_lane: 0, y_lane: 1, scale: 8.0 };
        group.bench_function(BenchmarkId::from_parameter(format!("{channels}x112x256")), |b| {
            b.iter(|| {
                write(&mut out, extent, |out| {
                    warp(Isa::detect(), image, flow, axes, Border::ZerosMasked(0.9999), out);
                });
            });
        });
    }
}

/// From the networks' 1/4 to the size of the frames.
fn flows(c: &mut Criterion) {
    let (from, to) = (Extent { n: 1, h: 112, w: 256 }, Extent { n: 1, h: 448, w: 1024 });
    let (resize, scratch) = (Resize::new(from, to, Sampling::HalfPixel), Scratch::new());
    let flow = value(2, from);
    let planes = read(&flow);
    let mut out = vec![0.0; 2 * to.h * to.w];
    c.bench_function("resize/flow x4", |b| {
        b.iter(|| resize.run_flow(Blocks { extent: from, planes: &planes }, [1.0; 2], black_box(&mut out), &scratch));
    });
}

fn frames(c: &mut Criterion) {
    let extent = Extent { n: 1, h: 448, w: 1024 };
    let bytes: Vec<u8> = (0..3 * extent.h * extent.w).map(|i| (i % 251) as u8).collect();
    let planar: Vec<f32> = bytes.iter().map(|&b| f32::from(b)).collect();
    let source = |c: usize| Source { frame: c / 3, channel: c % 3, scale: 1.0 / 255.0, offset: -0.5 };
    let sources: Vec<Option<Source>> = (0..LANES).map(|c| (c < 6).then(|| source(c))).collect();
    let mut out = Buffer::zeroed(extent.h * extent.w * 6 + LANES);
    let images = [&bytes[..]];
    for (name, pixels) in [("bytes", Pixels::Rgb(&images)), ("floats", Pixels::Planar(&planar))] {
        c.bench_function(&format!("pack/both frames, {name}"), |b| {
            b.iter(|| pack_narrow(Isa::detect(), [pixels; 2], 1, extent, 6, &sources, black_box(&mut out)));
        });
        c.bench_function(&format!("pack/means, {name}"), |b| b.iter(|| pixels.means(1, extent.h * extent.w)));
    }
}

criterion_group!(benches, correlation, warps, flows, frames);
criterion_main!(benches);
