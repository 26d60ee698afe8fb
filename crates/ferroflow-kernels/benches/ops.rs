//! `cargo bench -p ferroflow-kernels --bench ops [-- FILTER]`: correlation, lookup, warp, resize, convex upsampling, their gradients,
//! norms, activations, mixtures, pooling, depthwise convolution of other sizes, packing of frames.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ferroflow_kernels::{
    Blocks, BlocksMut, Buffer, Extent, Isa, LANES, Scratch, Update,
    activation::{Smooth, activate},
    batch_norm::{BatchNormGradient, batch_norm},
    conv::Activation,
    convex_upsample::{ConvexUpsample, ConvexUpsampleGradient},
    correlation::{Correlation, CorrelationGradient},
    depthwise::{LargeDepthwise, LargeDepthwisePlan},
    elementwise::{activation_gradient, lerp, product},
    lane_map,
    layout::to_blocks,
    lookup::{Lookup, LookupGradient},
    norm::{LayerNorm, instance_norm},
    pack::{Pixels, Source, pack_narrow},
    pool::average_pool,
    resize::{Resize, Sampling},
    warp::{AtInteger, Axes, Border, WarpGradient, warp},
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

/// PWC-Net's five levels and FlowNetC's, at 448 x 1024: channels, height, width, largest displacement, stride.
const COSTS: [(usize, usize, usize, usize, usize); 6] = [
    (32, 112, 256, 4, 1),
    (64, 56, 128, 4, 1),
    (96, 28, 64, 4, 1),
    (128, 14, 32, 4, 1),
    (196, 7, 16, 4, 1),
    (256, 56, 128, 20, 2),
];

fn correlation(c: &mut Criterion) {
    let mut group = c.benchmark_group("correlation");
    for (channels, h, w, max, stride) in COSTS {
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

fn correlation_gradient(c: &mut Criterion) {
    let mut group = c.benchmark_group("correlation gradient");
    for (channels, h, w, max, stride) in COSTS {
        let extent = Extent { n: 1, h, w };
        let (a, b) = (value(channels, extent), value(channels, extent));
        let plan = Correlation::new(extent, channels, max, stride, Activation::Linear);
        let g = value(plan.displacements(), extent);
        let mut work = Buffer::zeroed(plan.gradient_work_len());
        let mut d = vec![Buffer::zeroed(extent.len()); channels.div_ceil(LANES)];
        let (scratch, a, b, g) = (Scratch::new(), read(&a), read(&b), read(&g));
        let features = [Blocks { extent, planes: &a }, Blocks { extent, planes: &b }];
        let g = Blocks { extent, planes: &g };
        group.throughput(Throughput::Elements(plan.flop() as u64));
        for (name, first) in [("first", true), ("second", false)] {
            group.bench_function(BenchmarkId::new(name, format!("{channels}x{h}x{w}")), |b| {
                b.iter(|| {
                    write(&mut d, extent, |d| {
                        let d = Some((Update::Overwrite, d));
                        let (d1, d2) = if first { (d, None) } else { (None, d) };
                        let gradient = CorrelationGradient { plan: &plan, features, g };
                        gradient.run(Isa::detect(), d1, d2, &mut work, &scratch);
                    });
                });
            });
        }
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

fn warp_gradients(c: &mut Criterion) {
    let mut group = c.benchmark_group("warp gradient");
    for (channels, h, w) in [(32, 112, 256), (64, 56, 128), (96, 28, 64), (128, 14, 32), (128, 112, 256)] {
        let extent = Extent { n: 1, h, w };
        let (image, flow, g) = (value(channels, extent), value(2, extent), value(channels, extent));
        let mut d_image = vec![Buffer::zeroed(extent.len()); channels.div_ceil(LANES)];
        let mut d_flow = vec![Buffer::zeroed(extent.len())];
        let (image, flow, g, scratch) = (read(&image), read(&flow), read(&g), Scratch::new());
        let blocks = |planes| Blocks { extent, planes };
        let axes = Axes { x_lane: 0, y_lane: 1, scale: 8.0 };
        for which in ["both", "flow"] {
            group.bench_function(BenchmarkId::new(which, format!("{channels}x{h}x{w}")), |b| {
                b.iter(|| {
                    write(&mut d_image, extent, |d_image| {
                        write(&mut d_flow, extent, |d_flow| {
                            let d_image = (which == "both").then_some((Update::Overwrite, d_image));
                            let d_flow = Some((Update::Overwrite, d_flow));
                            let (border, at_integer) = (Border::ZerosMasked(0.9999), AtInteger::Right);
                            let (image, flow, g) = (blocks(&image), blocks(&flow), blocks(&g));
                            WarpGradient { image, flow, axes, border, at_integer, g }.run(
                                Isa::detect(),
                                d_image,
                                d_flow,
                                &scratch,
                            );
                        });
                    });
                });
            });
        }
    }
}

/// Passes over memory: an activation's gradient, batch norm and its gradient, a resize's gradient.
fn passes(c: &mut Criterion) {
    let extent = Extent { n: 1, h: 112, w: 256 };
    let (x, mut d) = (value(64, extent), value(64, extent));
    let x = read(&x);
    let (x, isa, leaky) = (Blocks { extent, planes: &x }, Isa::detect(), Activation::LeakyRelu(0.1));
    let (scale, shift) = ([1.0; 64], [0.1; 64]);
    c.bench_function("activation gradient/64x112x256", |b| {
        b.iter(|| write(&mut d, extent, |d| activation_gradient(isa, x, leaky, d)));
    });
    let mut statistics = None;
    c.bench_function("batch norm/forward 64x112x256", |b| {
        b.iter(|| write(&mut d, extent, |out| statistics = Some(batch_norm(isa, x, &scale, &shift, 1e-5, leaky, out))));
    });
    let Some(statistics) = statistics else { return };
    let (mut d_scale, mut d_shift) = ([0.0; 64], [0.0; 64]);
    c.bench_function("batch norm/gradient 64x112x256", |b| {
        b.iter(|| {
            write(&mut d, extent, |d| {
                let (statistics, scale, shift) = (&statistics, &scale[..], &shift[..]);
                BatchNormGradient { x, statistics, scale, shift, activation: leaky }.run(
                    isa,
                    d,
                    &mut d_scale,
                    &mut d_shift,
                );
            });
        });
    });
    let from = Extent { n: 1, h: 56, w: 128 };
    let resize = Resize::new(from, extent, Sampling::HalfPixel);
    let (mut d, scratch) = (value(64, from), Scratch::new());
    c.bench_function("resize gradient/64x112x256 to half", |b| {
        b.iter(|| write(&mut d, from, |d| resize.gradient().run(isa, x, &scale, Update::Overwrite, d, &scratch)));
    });
}

/// What RAFT's recurrent unit does beside its convolutions, at an eighth of 448 x 1024: 3.7 MB to a value; and the norms, pooling
/// and depthwise filters of its heirs.
fn recurrences(c: &mut Criterion) {
    let extent = Extent { n: 1, h: 56, w: 128 };
    let (a, b, t, mut d) = (value(128, extent), value(128, extent), value(128, extent), value(128, extent));
    let [a, b, t] = [&a, &b, &t].map(|v| read(v));
    let [a, b, t] = [&a, &b, &t].map(|planes| Blocks { extent, planes });
    let isa = Isa::detect();
    for curve in [Smooth::Sigmoid, Smooth::Tanh, Smooth::Gelu] {
        c.bench_function(&format!("activation/{curve:?} 128x56x128"), |bench| {
            bench.iter(|| write(&mut d, extent, |d| activate(isa, curve, a, 128, d)));
        });
    }
    c.bench_function("product/128x56x128", |bench| bench.iter(|| write(&mut d, extent, |d| product(isa, a, b, d))));
    c.bench_function("lerp/128x56x128", |bench| bench.iter(|| write(&mut d, extent, |d| lerp(isa, [a, b, t], d))));
    let (scale, shift) = ([1.0; 128], [0.1; 128]);
    let norm = LayerNorm { channels: 128, scale: &scale, shift: &shift, epsilon: 1e-6 };
    c.bench_function("layer norm/128x56x128", |bench| bench.iter(|| write(&mut d, extent, |d| norm.run(isa, a, d))));
    let lanes = lane_map(&[128]);
    let weight = vec![0.1; 128 * 49];
    let layer = LargeDepthwise {
        input: extent,
        lanes: &lanes,
        kernel: [7; 2],
        padding: [3; 4],
        weight: &weight,
        bias: None,
        activation: Activation::Linear,
    };
    let plan = LargeDepthwisePlan::new(&layer, isa);
    let mut group = c.benchmark_group("depthwise 7x7");
    group.throughput(Throughput::Elements(2 * 49 * 128 * 56 * 128));
    group.bench_function("128x56x128", |bench| bench.iter(|| write(&mut d, extent, |d| plan.run(a, d))));
    group.finish();
    // A feature encoder's first stage: both frames at half size.
    let extent = Extent { n: 2, h: 224, w: 512 };
    let (x, mut d) = (value(64, extent), value(64, extent));
    let x = read(&x);
    let x = Blocks { extent, planes: &x };
    c.bench_function("instance norm/64x224x512, 2", |bench| {
        bench.iter(|| write(&mut d, extent, |d| instance_norm(isa, x, 1e-5, None, Activation::LeakyRelu(0.0), d)));
    });
    let half = Extent { n: 2, h: 112, w: 256 };
    let mut d = value(64, half);
    c.bench_function("average pool/64x224x512, 2", |bench| {
        bench.iter(|| write(&mut d, half, |d| average_pool(isa, x, 2, d)));
    });
}

/// From the networks' 1/4 to the size of the frames.
fn flows(c: &mut Criterion) {
    let (from, to) = (Extent { n: 1, h: 112, w: 256 }, Extent { n: 1, h: 448, w: 1024 });
    let (resize, scratch) = (Resize::new(from, to, Sampling::HalfPixel), Scratch::new());
    let flow = value(2, from);
    let planes = read(&flow);
    let mut out = vec![0.0; 2 * to.h * to.w];
    c.bench_function("resize/flow x4", |b| {
        b.iter(|| {
            resize.run_flow(
                Isa::detect(),
                Blocks { extent: from, planes: &planes },
                [1.0; 2],
                black_box(&mut out),
                &scratch,
            )
        });
    });
}

/// RAFT's and RAFT-small's, of 448 x 1024: maps of 7.3 and 3.7 MB, of which the second one is read many times over from the caches, and
/// 9.6 and 6.0 MB that are looked up.
fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    let extent = Extent { n: 1, h: 56, w: 128 };
    for (name, channels, radius) in [("RAFT", 256, 4), ("RAFT-small", 128, 3)] {
        let lookup = Lookup::new(extent, channels, radius, 4, [0, 1]);
        let (first, second, flow) = (value(channels, extent), value(channels, extent), value(2, extent));
        let (first, second, flow) = (read(&first), read(&second), read(&flow));
        let features = [Blocks { extent, planes: &first }, Blocks { extent, planes: &second }];
        let flow = Blocks { extent, planes: &flow };
        let (isa, scratch) = (Isa::detect(), Scratch::new());
        let mut out = vec![Buffer::zeroed(extent.len()); lookup.looked_up().div_ceil(LANES)];
        let mut d = vec![Buffer::zeroed(extent.len()); first.len()];
        group.bench_function(BenchmarkId::new("forward", name), |b| {
            b.iter(|| write(&mut out, extent, |out| lookup.run(isa, features, flow, out, &scratch)));
        });
        let g = value(lookup.looked_up(), extent);
        let g = read(&g);
        let gradient = LookupGradient { lookup: &lookup, features, flow, g: Blocks { extent, planes: &g } };
        group.bench_function(BenchmarkId::new("gradient to the first map", name), |b| {
            b.iter(|| write(&mut d, extent, |d| gradient.first(isa, Update::Overwrite, d, &scratch)));
        });
        group.bench_function(BenchmarkId::new("gradient to the second map", name), |b| {
            b.iter(|| write(&mut d, extent, |d| gradient.second(isa, Update::Overwrite, d, &scratch)));
        });
    }
    group.finish();
}

/// To 448 x 1024 from a half, a quarter and an eighth. From a half, the logits are 22 MB (36 channels in 48 lanes) and the
/// flow 7 MB; the result is 3.7 MB planar, 29 MB in blocks.
fn convex_upsampling(c: &mut Criterion) {
    let mut group = c.benchmark_group("convex upsampling");
    for factor in [2, 4, 8] {
        let from = Extent { n: 1, h: 448 / factor, w: 1024 / factor };
        let upsample = ConvexUpsample { from, factor, lanes: [0, 1], scale: [factor as f32; 2] };
        let to = upsample.to();
        let (flow, logits, g) = (value(2, from), value(upsample.logits(), from), value(2, to));
        let (isa, scratch) = (Isa::detect(), Scratch::new());
        let mut planar = vec![0.0; 2 * to.h * to.w];
        let (mut out, mut d_flow) = (vec![Buffer::zeroed(to.len())], vec![Buffer::zeroed(from.len())]);
        let mut d_logits = vec![Buffer::zeroed(from.len()); logits.len()];
        let (flow, logits, g) = (read(&flow), read(&logits), read(&g));
        let (flow, logits) = (Blocks { extent: from, planes: &flow }, Blocks { extent: from, planes: &logits });
        let g = Blocks { extent: to, planes: &g };
        let gradient = ConvexUpsampleGradient { upsample: &upsample, flow, logits, g };
        group.bench_function(BenchmarkId::new("gradient to both", factor), |b| {
            b.iter(|| {
                write(&mut d_flow, from, |d_flow| {
                    write(&mut d_logits, from, |d_logits| {
                        let (d_flow, d_logits) =
                            (Some((Update::Overwrite, d_flow)), Some((Update::Overwrite, d_logits)));
                        gradient.run(isa, d_flow, d_logits, &scratch);
                    });
                });
            });
        });
        group.bench_function(BenchmarkId::new("planar", factor), |b| {
            b.iter(|| upsample.run_flow(isa, flow, logits, black_box(&mut planar), &scratch));
        });
        group.bench_function(BenchmarkId::new("blocks", factor), |b| {
            b.iter(|| write(&mut out, to, |out| upsample.run(isa, flow, logits, out, &scratch)));
        });
        group.bench_function(BenchmarkId::new("gradient to the flow", factor), |b| {
            b.iter(|| {
                write(&mut d_flow, from, |d| {
                    gradient.run(isa, Some((Update::Overwrite, d)), None, &scratch);
                });
            });
        });
        group.bench_function(BenchmarkId::new("gradient to the logits", factor), |b| {
            b.iter(|| {
                write(&mut d_logits, from, |d| {
                    gradient.run(isa, None, Some((Update::Overwrite, d)), &scratch);
                });
            });
        });
    }
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

criterion_group!(
    benches,
    correlation,
    correlation_gradient,
    lookups,
    warps,
    warp_gradients,
    passes,
    recurrences,
    flows,
    convex_upsampling,
    frames
);
criterion_main!(benches);
