//! Every kernel on plain Rust, over values of a few pixels: small enough for Miri, which looks for what no result shows
//! (reads past a slice, uninitialised values, threads that write to one place). CONTRIBUTING.md has the command.
//!
//! What a kernel computes is compared with the best instruction set there is; under Miri that is plain Rust again, and what
//! is left of the comparison is that every float was written.

use ferroflow_kernels::{
    Bf16, Blocks, BlocksMut, Buffer, Extent, Isa, LANES, Scratch, Update,
    activation::{self, Smooth, activate},
    attention::Attention,
    batch_norm::{BatchNormGradient, batch_norm},
    conv::{
        Activation, ConvKind, ConvPlan, ConvShape, Layer, Options, training::ConvTraining, training::bias_gradient,
    },
    convex_upsample::{ConvexUpsample, ConvexUpsampleGradient},
    correlation::{Correlation, CorrelationGradient},
    depthwise::{
        Depthwise, DepthwisePlan, LargeDepthwise, LargeDepthwisePlan, Pointwise, SeparablePlan,
        training::{SeparableGradients, SeparableTraining, SeparableWeights},
    },
    elementwise, lane_map,
    layout::to_blocks,
    lookup::{Lookup, LookupGradient},
    norm,
    pack::{Pixels, Source, pack, pack_narrow},
    pool::{average_pool, average_pool_gradient},
    resize::{Resize, Sampling},
    warp::{AtInteger, Axes, Border, WarpGradient, warp},
};

/// No whole number of vectors in any direction.
const EXTENT: Extent = Extent { n: 2, h: 5, w: 9 };
/// No whole number of blocks.
const CHANNELS: usize = 19;
const LEAKY: Activation = Activation::LeakyRelu(0.1);

/// Smooth numbers in -1..1.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
}

fn value(channels: usize, extent: Extent) -> Vec<Buffer> {
    to_blocks(&numbers(channels * extent.n * extent.h * extent.w), channels, extent)
}

fn planes(buffers: &[Buffer]) -> Vec<&[f32]> {
    buffers.iter().map(|b| &b[..]).collect()
}

/// The floats that `f` writes into blocks of this extent.
fn written(blocks: usize, extent: Extent, f: impl FnOnce(&mut BlocksMut<'_, '_>)) -> Vec<f32> {
    let mut buffers = vec![Buffer::zeroed(extent.len()); blocks];
    buffers.iter_mut().for_each(|b| b.fill(f32::NAN));
    let mut planes: Vec<&mut [f32]> = buffers.iter_mut().map(|b| &mut b[..extent.len()]).collect();
    f(&mut BlocksMut { extent, planes: &mut planes });
    buffers.iter().flat_map(|b| b[..extent.len()].to_vec()).collect()
}

/// That two ways to compute floats agree to `tolerance`, and leave none out.
fn assert_close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}: float {i} is {a} and {b}");
    }
}

/// That plain Rust computes what the best instruction set does.
fn check(what: &str, kernel: impl Fn(Isa) -> Vec<f32>) {
    assert_close(what, &kernel(Isa::Portable), &kernel(Isa::detect()), 1e-5);
}

#[test]
fn portable_passes() {
    let (x, y) = (value(CHANNELS, EXTENT), value(2 * CHANNELS, EXTENT));
    let (x, y) = (planes(&x), planes(&y[1..3]));
    let (x, y) = (Blocks { extent: EXTENT, planes: &x }, Blocks { extent: EXTENT, planes: &y });
    let (scale, shift) = (numbers(2 * LANES), vec![0.25; 2 * LANES]);
    check("affine", |isa| written(2, EXTENT, |out| elementwise::affine(isa, x, &scale, &shift, LEAKY, out)));
    check("combine", |isa| written(2, EXTENT, |out| elementwise::combine(isa, x, -1.0, y, LEAKY, out)));
    check("channels", |_| {
        written(1, EXTENT, |out| {
            let lanes: Vec<_> = (0..LANES as u32).map(|lane| (lane < 5).then_some(18 - lane)).collect();
            elementwise::channels(x, &lanes, out);
        })
    });
    check("accumulate", |isa| {
        written(2, EXTENT, |out| {
            elementwise::accumulate(isa, x, 0.5, Update::Overwrite, out);
            elementwise::affine_gradient(isa, y, &scale, Update::Add, out);
            elementwise::activation_gradient(isa, x, LEAKY, out);
        })
    });
    check("batch norm", |isa| {
        let mut statistics = None;
        let mut all = written(2, EXTENT, |out| {
            statistics = Some(batch_norm(isa, x, &scale, &shift, 1e-3, LEAKY, out));
        });
        let statistics = &statistics.expect("batch norm has run");
        let [mut d_scale, mut d_shift] = [vec![f32::NAN; 2 * LANES], vec![f32::NAN; 2 * LANES]];
        all.extend(written(2, EXTENT, |d| {
            elementwise::accumulate(isa, y, 1.0, Update::Overwrite, d);
            let gradient = BatchNormGradient { x, statistics, scale: &scale, shift: &shift, activation: LEAKY };
            gradient.run(isa, d, &mut d_scale, &mut d_shift);
        }));
        [all, d_scale, d_shift].concat()
    });
    let pixel = Extent { h: 1, w: 1, ..EXTENT };
    check("norms", |isa| {
        let mut moments = vec![Buffer::zeroed(pixel.len())];
        let mut writable: Vec<&mut [f32]> = moments.iter_mut().map(|b| &mut b[..]).collect();
        norm::moments(isa, [x, y], CHANNELS, false, &mut BlocksMut { extent: pixel, planes: &mut writable });
        let moments = planes(&moments);
        let moments = Blocks { extent: pixel, planes: &moments };
        [
            written(2, pixel, |out| norm::channel_mean(isa, &[x, y], out)),
            written(1, EXTENT, |out| norm::channel_norm(isa, x, 0.5, out)),
            written(2, EXTENT, |out| norm::standardise(isa, x, CHANNELS, moments, 1e-3, out)),
        ]
        .concat()
    });
}

#[test]
fn portable_recurrences() {
    let (x, y) = (value(CHANNELS, EXTENT), value(2 * CHANNELS, EXTENT));
    let (x, y) = (planes(&x), planes(&y[..2]));
    let (x, y) = (Blocks { extent: EXTENT, planes: &x }, Blocks { extent: EXTENT, planes: &y });
    let scratch = Scratch::new();
    for curve in [Smooth::Sigmoid, Smooth::Tanh, Smooth::Gelu] {
        check("activation", |isa| {
            let values = written(2, EXTENT, |out| activate(isa, curve, x, CHANNELS, out));
            let slopes = written(2, EXTENT, |d| activation::gradient(isa, curve, x, y, Update::Overwrite, d));
            [values, slopes].concat()
        });
    }
    check("product and lerp", |isa| {
        let gradient =
            |which| written(2, EXTENT, |d| elementwise::lerp_gradient(isa, [x, y, x], y, which, Update::Overwrite, d));
        [
            written(2, EXTENT, |out| elementwise::product(isa, x, y, out)),
            written(2, EXTENT, |out| elementwise::lerp(isa, [x, y, x], out)),
            gradient(0),
            gradient(1),
            gradient(2),
        ]
        .concat()
    });
    let mut scale = numbers(2 * LANES);
    scale[CHANNELS..].fill(0.0);
    let norm = norm::LayerNorm { channels: CHANNELS, scale: &scale, shift: &scale, epsilon: 1e-3 };
    check("instance and layer norm", |isa| {
        let gradient = norm::LayerNormGradient { norm, x, g: y };
        let [mut d_scale, mut d_shift] = [vec![0.0; CHANNELS], vec![0.0; CHANNELS]];
        gradient.parameters(isa, &mut d_scale, &mut d_shift);
        [
            written(2, EXTENT, |out| norm::instance_norm(isa, x, 1e-3, None, LEAKY, out)),
            written(2, EXTENT, |d| norm::instance_norm_gradient(isa, x, 1e-3, y, Update::Overwrite, d)),
            written(2, EXTENT, |out| norm.run(isa, x, out)),
            written(2, EXTENT, |d| gradient.input(isa, Update::Overwrite, d)),
            d_scale,
            d_shift,
        ]
        .concat()
    });
    let half = Extent { h: 2, w: 4, ..EXTENT };
    check("average pool", |isa| {
        let means = written(2, half, |out| average_pool(isa, x, 2, out));
        let blocks: Vec<&[f32]> = means.chunks(half.len()).collect();
        let g = Blocks { extent: half, planes: &blocks };
        [means.clone(), written(2, EXTENT, |d| average_pool_gradient(isa, g, 2, Update::Overwrite, d))].concat()
    });
    check("attention", |isa| {
        let attention = Attention { channels: CHANNELS, queries: x, keys: y, values: x };
        let gradient =
            |which| written(2, EXTENT, |d| attention.gradient(isa, y, which, Update::Overwrite, d, &scratch));
        [written(2, EXTENT, |out| attention.run(isa, out, &scratch)), gradient(0), gradient(1), gradient(2)].concat()
    });
    let (lanes, weight) = (lane_map(&[CHANNELS]), numbers(CHANNELS * 15));
    let layer = LargeDepthwise {
        input: EXTENT,
        lanes: &lanes,
        kernel: [3, 5],
        padding: [1, 2, 1, 2],
        weight: &weight,
        bias: None,
        activation: LEAKY,
    };
    check("depthwise 3x5", |isa| {
        let plan = LargeDepthwisePlan::new(&layer, isa);
        let mut d_weight = vec![0.0; weight.len()];
        plan.weight_gradient(x, y, &mut d_weight);
        [
            written(2, EXTENT, |out| plan.run(x, out)),
            written(2, EXTENT, |d| plan.input_gradient(y, Update::Overwrite, d)),
            d_weight,
        ]
        .concat()
    });
}

#[test]
fn portable_frames() {
    let bytes: Vec<u8> = (0..3 * EXTENT.h * EXTENT.w).map(|i| (i * 7 % 251) as u8).collect();
    let floats = numbers(EXTENT.n * bytes.len());
    let images = [&bytes[..]; 2];
    let source = |c: usize| Source { frame: c / 3, channel: c % 3, scale: 1.0 / 255.0, offset: -0.5 };
    let sources: Vec<Option<Source>> =
        (0..LANES * EXTENT.n).map(|c| (c % LANES < 6).then(|| source(c % LANES))).collect();
    for pixels in [Pixels::Rgb(&images), Pixels::Planar(&floats)] {
        check("frames", |isa| written(1, EXTENT, |out| pack(isa, [pixels; 2], EXTENT.n, &sources, out)));
        check("frames without padding", |isa| {
            let mut out = vec![f32::NAN; EXTENT.n * EXTENT.h * EXTENT.w * 6];
            pack_narrow(isa, [pixels; 2], EXTENT.n, EXTENT, 6, &sources, &mut out);
            out
        });
    }
}

#[test]
fn portable_positions() {
    let (image, flow) = (value(CHANNELS, EXTENT), value(2, EXTENT));
    let (image, flow) = (planes(&image), planes(&flow));
    let (image, flow) = (Blocks { extent: EXTENT, planes: &image }, Blocks { extent: EXTENT, planes: &flow });
    let scratch = Scratch::new();
    for (to, sampling) in [
        (Extent { h: 20, w: 36, ..EXTENT }, Sampling::HalfPixel),
        (Extent { h: 3, w: 7, ..EXTENT }, Sampling::AlignCorners),
    ] {
        let resize = Resize::new(EXTENT, to, sampling);
        check("resize", |isa| {
            let large = written(2, to, |out| resize.run(isa, image, &[2.0; 2 * LANES], out));
            let blocks: Vec<&[f32]> = large.chunks(to.len()).collect();
            let mut out = vec![f32::NAN; 2 * to.n * to.h * to.w];
            resize.run_flow(isa, flow, [1.5, -1.0], &mut out, &scratch);
            let gradient = written(2, EXTENT, |d| {
                let g = Blocks { extent: to, planes: &blocks };
                resize.gradient().run(isa, g, &[1.0; 2 * LANES], Update::Overwrite, d, &scratch);
            });
            [large.clone(), out, gradient].concat()
        });
    }
    let axes = Axes { x_lane: 0, y_lane: 1, scale: 4.0 };
    for border in [Border::Replicate, Border::Zeros, Border::ZerosMasked(0.999), Border::Extrapolate, Border::Caffe] {
        check("warp", |isa| {
            let mut all = written(2, EXTENT, |out| warp(isa, image, flow, axes, border, out));
            let mut d_flow = Vec::new();
            all.extend(written(2, EXTENT, |d_image| {
                d_flow = written(1, EXTENT, |d_flow| {
                    let gradient = WarpGradient { image, flow, axes, border, at_integer: AtInteger::Right, g: image };
                    let (d_image, d_flow) = (Some((Update::Overwrite, d_image)), Some((Update::Overwrite, d_flow)));
                    gradient.run(isa, d_image, d_flow, &scratch);
                });
            }));
            [all, d_flow].concat()
        });
    }
    let upsample = ConvexUpsample { from: EXTENT, factor: 2, lanes: [0, 1], scale: [2.0; 2] };
    let (logits, g) = (value(upsample.logits(), EXTENT), value(2, upsample.to()));
    let (logits, g) = (planes(&logits), planes(&g));
    let (logits, g) = (Blocks { extent: EXTENT, planes: &logits }, Blocks { extent: upsample.to(), planes: &g });
    check("convex upsampling", |isa| {
        let fine = upsample.to();
        let mut planar = vec![f32::NAN; 2 * fine.n * fine.h * fine.w];
        upsample.run_flow(isa, flow, logits, &mut planar, &scratch);
        let gradient = ConvexUpsampleGradient { upsample: &upsample, flow, logits, g };
        let mut d_logits = Vec::new();
        let d_flow = written(1, EXTENT, |d_flow| {
            d_logits = written(logits.planes.len(), EXTENT, |d_logits| {
                gradient.run(isa, Some((Update::Overwrite, d_flow)), Some((Update::Overwrite, d_logits)), &scratch);
            });
        });
        [written(1, fine, |out| upsample.run(isa, flow, logits, out, &scratch)), planar, d_flow, d_logits].concat()
    });
}

#[test]
fn portable_lookups() {
    let (a, b, flow) = (value(CHANNELS, EXTENT), value(CHANNELS, EXTENT), value(2, EXTENT));
    let (a, b, flow) = (planes(&a), planes(&b), planes(&flow));
    let features = [Blocks { extent: EXTENT, planes: &a }, Blocks { extent: EXTENT, planes: &b }];
    let flow = Blocks { extent: EXTENT, planes: &flow };
    let scratch = Scratch::new();
    let lookup = Lookup::new(EXTENT, CHANNELS, 2, 2, [0, 1]);
    check("lookup", |isa| {
        let blocks = lookup.looked_up().div_ceil(LANES);
        let out = written(blocks, EXTENT, |out| lookup.run(isa, features, flow, out, &scratch));
        let g: Vec<&[f32]> = out.chunks(EXTENT.len()).collect();
        let gradient = LookupGradient { lookup: &lookup, features, flow, g: Blocks { extent: EXTENT, planes: &g } };
        let first = written(2, EXTENT, |d| gradient.first(isa, Update::Overwrite, d, &scratch));
        let second = written(2, EXTENT, |d| gradient.second(isa, Update::Overwrite, d, &scratch));
        let slopes = written(1, EXTENT, |d| gradient.flow(isa, Update::Overwrite, d, &scratch));
        [out.clone(), first, second, slopes].concat()
    });
}

#[test]
fn portable_correlations() {
    let (a, b) = (value(CHANNELS, EXTENT), value(CHANNELS, EXTENT));
    let (a, b) = (planes(&a), planes(&b));
    let features = [Blocks { extent: EXTENT, planes: &a }, Blocks { extent: EXTENT, planes: &b }];
    let scratch = Scratch::new();
    for (reach, stride) in [(1, 1), (4, 2)] {
        let plan = Correlation::new(EXTENT, CHANNELS, reach, stride, Activation::Linear);
        let displacements = plan.displacements();
        check("correlation", |isa| {
            let mut work = Buffer::zeroed(plan.work_len().max(plan.gradient_work_len()));
            let blocks = displacements.div_ceil(LANES);
            let out = written(blocks, EXTENT, |out| plan.run(isa, features, out, &mut work, &scratch));
            let g: Vec<&[f32]> = out.chunks(EXTENT.len()).collect();
            let gradient = CorrelationGradient { plan: &plan, features, g: Blocks { extent: EXTENT, planes: &g } };
            let mut second = Vec::new();
            let first = written(2, EXTENT, |d1| {
                second = written(2, EXTENT, |d2| {
                    let (d1, d2) = (Some((Update::Overwrite, d1)), Some((Update::Overwrite, d2)));
                    gradient.run(isa, d1, d2, &mut work, &scratch);
                });
            });
            [out.clone(), first, second].concat()
        });
    }
}

/// Layers that between them take every algorithm: 3x3, of stride 2 and of a first layer, dilated, pointwise, of a flow, transposed.
fn layers() -> Vec<ConvShape> {
    let shape = |in_channels, out_channels, kernel: usize, stride, dilation| {
        let kernel = [kernel; 2];
        let padding = [dilation * (kernel[0] - 1) / 2; 4];
        ConvShape { kind: ConvKind::Forward, in_channels, out_channels, kernel, stride, dilation, padding }
    };
    let transposed = |in_channels, out_channels| ConvShape {
        kind: ConvKind::Transposed,
        padding: [1; 4],
        ..shape(in_channels, out_channels, 4, 2, 1)
    };
    vec![
        shape(CHANNELS, 20, 3, 1, 1),
        shape(3, 20, 3, 2, 1),
        shape(CHANNELS, 6, 3, 1, 2),
        shape(CHANNELS, 20, 1, 1, 1),
        ConvShape { kernel: [1, 5], padding: [0, 2, 0, 2], ..shape(CHANNELS, 20, 1, 1, 1) },
        ConvShape { kernel: [5, 1], padding: [2, 0, 2, 0], ..shape(CHANNELS, 20, 1, 1, 1) },
        shape(CHANNELS, 2, 3, 1, 1),
        transposed(CHANNELS, 2),
        transposed(CHANNELS, 17),
    ]
}

#[test]
fn portable_convolutions() {
    let scratch = Scratch::new();
    for shape in layers() {
        let lanes = lane_map(&[shape.in_channels]);
        let (input, weight) =
            (value(shape.in_channels, EXTENT), numbers(shape.in_channels * shape.out_channels * shape.taps()));
        let (input, bias) = (planes(&input), numbers(shape.out_channels));
        let input = Blocks { extent: EXTENT, planes: &input };
        let (weight, bias) = (&weight[..], Some(&bias[..]));
        let layer = Layer { shape, input: EXTENT, lanes: &lanes, weight, bias, activation: LEAKY };
        let options = Options { isa: Isa::Portable, bf16: Some(Bf16::portable()), threads: 2, ..Options::default() };
        let run = |name: &str| {
            let algorithm = Some(&*name.to_string().leak());
            let plan = ConvPlan::new(&layer, Options { algorithm, ..options });
            written(plan.output_blocks(), plan.output(), |out| plan.run(input, None, out, &scratch))
        };
        let expected = run("reference");
        for name in ConvPlan::algorithms(&layer, options) {
            // Winograd's transforms lose a digit or two of seven; bf16 has three, of up to 304 products here.
            let tolerance = if name.contains("bf16") { 0.1 } else { 1e-3 };
            assert_close(&format!("{name} of {shape:?}"), &run(&name), &expected, tolerance);
        }
    }
}

#[test]
fn portable_convolutions_in_training() {
    let scratch = Scratch::new();
    for shape in layers() {
        let lanes = lane_map(&[shape.in_channels]);
        let input = value(shape.in_channels, EXTENT);
        let input = planes(&input);
        let input = Blocks { extent: EXTENT, planes: &input };
        let weight = numbers(shape.in_channels * shape.out_channels * shape.taps());
        let run = |isa| {
            let options = Options { isa, ..Options::default() };
            let mut layer = ConvTraining::new(shape, EXTENT, &lanes, true, options);
            layer.set_weights(&weight, None);
            let output = layer.output();
            let out = written(shape.out_channels.div_ceil(LANES), output, |out| {
                layer.forward(input, Activation::Linear, out, &scratch);
            });
            let d: Vec<&[f32]> = out.chunks(output.len()).collect();
            let d = Blocks { extent: output, planes: &d };
            let d_input = written(lanes.len() / LANES, EXTENT, |d_input| {
                layer.input_gradient(d, Update::Overwrite, d_input, &scratch);
            });
            let (mut d_weight, mut d_bias) = (vec![0.0; weight.len()], vec![0.0; shape.out_channels]);
            layer.weight_gradient(input, d, &mut d_weight, &scratch);
            bias_gradient(isa, d, &mut d_bias, &scratch);
            [out.clone(), d_input, d_weight, d_bias].concat()
        };
        // Algorithms differ between instruction sets, Winograd's among them.
        assert_close(&format!("training of {shape:?}"), &run(Isa::Portable), &run(Isa::detect()), 1e-3);
    }
}

#[test]
fn portable_separable_blocks() {
    let (lanes, scratch) = (lane_map(&[CHANNELS]), Scratch::new());
    let input = value(CHANNELS, EXTENT);
    let input = planes(&input);
    let input = Blocks { extent: EXTENT, planes: &input };
    let (filters, pointwise) = (numbers(9 * CHANNELS), numbers(20 * CHANNELS));
    for stride in [1, 2] {
        let layer = Depthwise {
            input: EXTENT,
            lanes: &lanes,
            stride,
            padding: [1; 4],
            weight: &filters,
            bias: None,
            activation: LEAKY,
            doubled: &[],
            pixel: LANES,
        };
        let second = Pointwise { out_channels: 20, weight: &pointwise, bias: None, activation: LEAKY };
        check("separable block", |isa| {
            let alone = DepthwisePlan::new(&layer, isa);
            let both = SeparablePlan::new(&layer, &second, isa, None, 2);
            let mut all = written(2, layer.output(), |out| alone.run(input, out));
            all.extend(written(2, layer.output(), |out| both.run(input, out, &scratch)));
            all
        });
        let ones = [1.0; 20];
        let weights = SeparableWeights {
            depthwise: &filters,
            scale1: &ones[..CHANNELS],
            shift1: &ones[..CHANNELS],
            pointwise: &pointwise,
            scale2: &ones,
            shift2: &ones,
            statistics: [None; 2],
        };
        let run = |isa| {
            let mut block = SeparableTraining::new(EXTENT, &lanes, 20, stride, [1e-3; 2], [0.1; 2], isa);
            let output = block.output();
            let out = written(2, output, |out| block.forward(&weights, input, out, &scratch));
            let d = vec![0.5; out.len()];
            let d: Vec<&[f32]> = d.chunks(output.len()).collect();
            let [mut d_filters, mut d_pointwise] = [vec![0.0; filters.len()], vec![0.0; pointwise.len()]];
            let gradients =
                SeparableGradients { depthwise: &mut d_filters, pointwise: &mut d_pointwise, ..Default::default() };
            let d_input = written(2, EXTENT, |d_input| {
                let d_output = Blocks { extent: output, planes: &d };
                block.backward(&weights, input, d_output, Some((Update::Overwrite, d_input)), gradients, &scratch);
            });
            [out, d_input, d_filters, d_pointwise].concat()
        };
        // Gradients through two batch norms are differences of nearly equal numbers.
        assert_close("separable block in training", &run(Isa::Portable), &run(Isa::detect()), 1e-3);
    }
}
